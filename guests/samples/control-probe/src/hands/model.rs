//! `osagent:policy` and `osagent:llm`, call by call.

use super::Outcome;
use crate::component::osagent::common::types::AuditEvent;
use crate::component::osagent::llm::llm::{self, Message, Options, Role, TokenUsage, ToolSchema};
use crate::component::osagent::policy::policy::{self, BudgetKind, BudgetSnapshot, GrantRequest};
use crate::script::OtherOp;
use serde_json::{Value, json};

pub fn run(op: OtherOp) -> Result<Value, Outcome> {
    Ok(match op {
        OtherOp::Describe => describe()?,
        OtherOp::ClaimBudget { kind, units } => budget(policy::claim_budget(kind_named(&kind)?, units)?),
        OtherOp::RequestCapability { capability, scope, justification } => {
            let answer = policy::request_capability(&GrantRequest { capability, scope, justification })?;
            json!({"approved": answer.approved, "reason": answer.reason})
        }
        OtherOp::LogEvent { event_type, step, payload } => {
            policy::log_event(&AuditEvent { event_type, step, payload })?;
            Value::Null
        }
        OtherOp::Complete { messages: spoken, max_tokens } => {
            let answer = llm::complete(&messages(spoken)?, &options(max_tokens))?;
            json!({"content": answer.content, "finish_reason": answer.finish_reason, "usage": answer.usage.map(usage)})
        }
        OtherOp::CallTools { messages: spoken, tools, max_tokens } => {
            let tools: Vec<ToolSchema> = tools
                .unwrap_or_else(|| vec![("fs_list_dir".into(), "List a directory.".into(), r#"{"type":"object"}"#.into())])
                .into_iter()
                .map(|(name, description, schema_json)| ToolSchema { name, description, schema_json })
                .collect();
            let answer = llm::call_tools(&messages(spoken)?, &tools, &options(max_tokens))?;
            json!({"tool_calls_json": answer.tool_calls_json, "finish_reason": answer.finish_reason, "usage": answer.usage.map(usage)})
        }
        other => return Err(Outcome::Script(format!("not of policy or model: {other:?}"))),
    })
}

fn describe() -> Result<Value, Outcome> {
    let snapshot = policy::describe()?;
    let workspaces: Value = snapshot
        .workspaces
        .into_iter()
        .map(|rule| {
            json!({"label": rule.label, "relative_root": rule.relative_root, "read_only": rule.read_only, "max_file_bytes": rule.max_file_bytes})
        })
        .collect();
    let commands: Value = snapshot.commands.into_iter().map(|rule| json!({"name": rule.name, "description": rule.description})).collect();
    let browser = snapshot.browser.map(|rule| {
        json!({"allowed_hosts": rule.allowed_hosts, "allow_screenshots": rule.allow_screenshots, "allow_file_uploads": rule.allow_file_uploads})
    });
    let budgets: Value = snapshot.budgets.into_iter().map(budget).collect();
    Ok(json!({"workspaces": workspaces, "commands": commands, "browser": browser, "budgets": budgets}))
}

const KINDS: [(&str, BudgetKind); 6] = [
    ("steps", BudgetKind::Steps),
    ("wallclock-ms", BudgetKind::WallclockMs),
    ("llm-tokens", BudgetKind::LlmTokens),
    ("processes", BudgetKind::Processes),
    ("filesystem-ops", BudgetKind::FilesystemOps),
    ("browser-actions", BudgetKind::BrowserActions),
];

fn kind_named(name: &str) -> Result<BudgetKind, Outcome> {
    let found = KINDS.iter().find(|(known, _)| *known == name);
    found.map(|(_, kind)| *kind).ok_or_else(|| Outcome::Script(format!("no budget {name:?}")))
}

fn budget(snapshot: BudgetSnapshot) -> Value {
    let kind = KINDS.iter().find(|(_, kind)| *kind == snapshot.kind).map(|(name, _)| *name);
    json!({"kind": kind, "limit": snapshot.limit, "used": snapshot.used})
}

fn messages(spoken: Vec<(String, String)>) -> Result<Vec<Message>, Outcome> {
    let role = |name: &str| match name {
        "system" => Ok(Role::System),
        "user" => Ok(Role::User),
        "assistant" => Ok(Role::Assistant),
        "tool" => Ok(Role::Tool),
        other => Err(Outcome::Script(format!("no role {other:?}"))),
    };
    spoken.into_iter().map(|(name, content)| Ok(Message { role: role(&name)?, content, name: None })).collect()
}

fn options(max_tokens: Option<u32>) -> Options {
    Options { max_tokens, temperature: None, top_p: None, stop: Vec::new(), presence_penalty: None, frequency_penalty: None }
}

fn usage(usage: TokenUsage) -> Value {
    json!({"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens, "total_tokens": usage.total_tokens})
}
