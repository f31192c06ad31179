//! The component's skin: WIT types in and out, and the one instance of the planner's state. The only file that the bindings touch.
//!
//! The bindings are generated code and hold `unsafe`; they run inside the guest's own memory, where nothing is worth guarding.
#![allow(unsafe_code, clippy::all, clippy::as_conversions, clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::unwrap_used)]

use crate::brain::Brain;
use crate::host::{Budget, CallFault, Command, Grants, Host, Message, Role, Tool, Workspace};
use crate::observation::Observation;
use crate::turn::{Planned, Turn};
use std::cell::RefCell;

wit_bindgen::generate!({ path: "../../wit", world: "osagent:agent/control", generate_all });

use exports::osagent::agent::planner;
use osagent::common::types::{CapabilityError, CapabilityErrorCode};
use osagent::llm::llm;
use osagent::policy::policy;

/// Longest answer asked of the model.
const ANSWER_MAX_TOKENS: u32 = 4096;
const TEMPERATURE: f32 = 0.2;
const TOP_P: f32 = 0.9;

thread_local! {
    static BRAIN: RefCell<Brain> = RefCell::new(Brain::default());
}

struct Component;
export!(Component);

impl planner::Guest for Component {
    fn step(task: String, observation: planner::Observation) -> Result<planner::StepResponse, planner::AgentError> {
        let observed = Observation::new(observation.step, &observation.summary, &observation.data);
        let turn = BRAIN.with_borrow_mut(|brain| brain.step(&task, &observed, &mut Imports));
        match turn {
            Ok(turn) => Ok(response(turn)),
            Err(fault) => Err(planner::AgentError { retryable: fault.retryable(), message: fault.to_string() }),
        }
    }
}

fn response(turn: Turn) -> planner::StepResponse {
    match turn {
        Turn::Continue { thought, actions } => {
            planner::StepResponse::Continue(planner::ContinuePlan { thought, actions: actions.into_iter().map(action).collect() })
        }
        Turn::Complete { reason, result } => planner::StepResponse::Complete(planner::CompletePlan { reason, outcome: result.to_string() }),
    }
}

fn action(planned: Planned) -> planner::PlannedAction {
    let input = serde_json::Value::Object(planned.input).to_string();
    planner::PlannedAction { capability: planned.capability, input, audit_tag: planned.audit_tag }
}

/// The host as the bindings give it.
struct Imports;

impl Host for Imports {
    fn describe(&mut self) -> Result<Grants, CallFault> {
        policy::describe().map(grants).map_err(fault("policy.describe"))
    }

    fn complete(&mut self, messages: &[Message]) -> Result<String, CallFault> {
        llm::complete(&wire(messages), &options()).map(|response| response.content).map_err(fault("llm.complete"))
    }

    fn call_tools(&mut self, messages: &[Message], tools: &[Tool]) -> Result<String, CallFault> {
        let tools: Vec<llm::ToolSchema> = tools
            .iter()
            .map(|tool| llm::ToolSchema {
                name: tool.name.clone(),
                description: tool.description.to_owned(),
                schema_json: tool.schema_json.clone(),
            })
            .collect();
        llm::call_tools(&wire(messages), &tools, &options()).map(|response| response.tool_calls_json).map_err(fault("llm.call-tools"))
    }
}

fn wire(messages: &[Message]) -> Vec<llm::Message> {
    let role = |role| match role {
        Role::System => llm::Role::System,
        Role::User => llm::Role::User,
        Role::Assistant => llm::Role::Assistant,
    };
    messages.iter().map(|message| llm::Message { role: role(message.role), content: message.content.clone(), name: None }).collect()
}

fn options() -> llm::Options {
    llm::Options {
        max_tokens: Some(ANSWER_MAX_TOKENS),
        temperature: Some(TEMPERATURE),
        top_p: Some(TOP_P),
        stop: Vec::new(),
        presence_penalty: None,
        frequency_penalty: None,
    }
}

fn grants(snapshot: policy::PolicySnapshot) -> Grants {
    let workspaces = snapshot.workspaces.into_iter();
    let budgets = snapshot.budgets.into_iter();
    Grants {
        workspaces: workspaces
            .map(|rule| Workspace { label: rule.label, read_only: rule.read_only, max_file_bytes: rule.max_file_bytes })
            .collect(),
        commands: snapshot.commands.into_iter().map(|rule| Command { name: rule.name, description: rule.description }).collect(),
        budgets: budgets.filter_map(|budget| Some(Budget { kind: kind(budget.kind), limit: budget.limit? })).collect(),
    }
}

fn kind(kind: policy::BudgetKind) -> &'static str {
    match kind {
        policy::BudgetKind::Steps => "steps",
        policy::BudgetKind::WallclockMs => "wallclock-ms",
        policy::BudgetKind::LlmTokens => "llm-tokens",
        policy::BudgetKind::Processes => "processes",
        policy::BudgetKind::FilesystemOps => "filesystem-ops",
        policy::BudgetKind::BrowserActions => "browser-actions",
    }
}

fn fault(call: &'static str) -> impl Fn(CapabilityError) -> CallFault {
    move |error| {
        let code = match error.code {
            CapabilityErrorCode::Denied => "denied",
            CapabilityErrorCode::NotFound => "not-found",
            CapabilityErrorCode::InvalidArgument => "invalid-argument",
            CapabilityErrorCode::Limit => "limit",
            CapabilityErrorCode::Timeout => "timeout",
            CapabilityErrorCode::Conflict => "conflict",
            CapabilityErrorCode::Unavailable => "unavailable",
            CapabilityErrorCode::Internal => "internal",
        };
        CallFault { call, code, message: error.message }
    }
}
