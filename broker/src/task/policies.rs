//! Calls on the policy itself: what a task may do, claims on budgets, requests, and lines of a guest's own in the log.

use super::act::{Act, limit_error, outcome_of};
use super::monitor::Row;
use super::{Answer, Task, failed};
use crate::audit::Value;
use tokio::time::Instant;
use warden_policy::{Access, Answered, Call, LimitKey, Verdict};
use warden_proto::msg::error::{CallError, ErrorCode};
use warden_proto::msg::policy::{BudgetKind, CommandRule, PolicyCall, PolicyReply, WorkspaceRule};
use warden_proto::msg::worker::{Origin, WorkerReply};
use warden_proto::{List, Text, render};

const BUDGETS: [BudgetKind; 6] = [
    BudgetKind::Steps,
    BudgetKind::WallclockMs,
    BudgetKind::LlmTokens,
    BudgetKind::Processes,
    BudgetKind::FilesystemOps,
    BudgetKind::BrowserActions,
];

/// A description that leaves room for those of all other commands in one frame.
fn shortened(description: &str) -> Text<1024> {
    let cut: Text<160> = Text::cut(description);
    Text::cut(cut.as_str())
}

/// Events of a guest's own in the log of one task: beyond them it only fills the disk (T-06).
const EVENTS_MAX: u64 = 1_000;

impl Task {
    /// One call on the policy.
    pub(super) async fn policy(&mut self, row: Row, origin: Origin, call: PolicyCall) -> Answer {
        self.report.count(row.capability);
        let started = Instant::now();
        let allowed = self.allow_policy(row);
        let rule = allowed.as_ref().map_or_else(|error| error.rule.to_string(), Clone::clone);
        let result = allowed.and_then(|_| self.policy_answer(&call));
        let fields = match &call {
            PolicyCall::Describe => vec![],
            PolicyCall::ClaimBudget { kind, units } => {
                vec![("kind", Value::Text(kind.name())), ("units", Value::Number(*units))]
            }
            PolicyCall::RequestCapability { capability, scope, justification } => vec![
                ("capability", Value::Text(capability.as_str())),
                ("scope", scope.as_ref().map_or(Value::Null, |s| Value::Text(s.as_str()))),
                ("justification", Value::Text(justification.as_str())),
            ],
            // What is refused for its number does not fill the log by its length.
            PolicyCall::LogEvent { event_type, .. } if result.is_err() => {
                vec![("event_type", Value::Text(event_type.as_str()))]
            }
            PolicyCall::LogEvent { event_type, step, payload } => vec![
                ("event_type", Value::Text(event_type.as_str())),
                ("step", step.map_or(Value::Null, |s| Value::Number(u64::from(s)))),
                ("payload", Value::Text(payload.as_str())),
            ],
        };
        let done = match &result {
            Ok(PolicyReply::Granted { approved, .. }) => Value::Bool(*approved),
            _ => Value::Null,
        };
        match &result {
            Err(error) if error.code == ErrorCode::Denied => {
                self.refuse(row, row.capability, "policy", Value::Fields(&fields), error)?;
            }
            _ => {
                let act = Act { row, input: Value::Fields(&fields), rule: &rule };
                self.end(&act, None, outcome_of(&result, done), None, started)?;
            }
        }
        if origin == Origin::Action {
            let rendered = result.as_ref().map(render::policy).map_err(Clone::clone);
            self.progress.action(row.capability, "", rendered.as_ref().err());
            self.report.action(row.capability, &rendered);
        }
        Ok(match result {
            Ok(reply) => WorkerReply::Policy(reply),
            Err(error) => failed(error),
        })
    }

    /// T-10: a task may always ask about its own policy, unless the policy wants a person asked first.
    fn allow_policy(&self, row: Row) -> Result<String, CallError> {
        let verdict = self.spec.policy.decide(&Call::Named { capability: row.capability });
        match verdict.map_err(|e| CallError::new(ErrorCode::InvalidArgument, &e.to_string()))? {
            Verdict::Deny(denial) => Err(CallError::denied(&denial.rule, &denial.reason)),
            Verdict::Allow(grant) => {
                self.check_approval(row.capability, grant.approval.as_deref())?;
                Ok(grant.rules.last().cloned().unwrap_or_default())
            }
        }
    }

    fn policy_answer(&mut self, call: &PolicyCall) -> Result<PolicyReply, CallError> {
        match call {
            PolicyCall::Describe => Ok(self.describe()),
            PolicyCall::ClaimBudget { kind, units } => {
                let key = match kind {
                    BudgetKind::Steps => LimitKey::Steps,
                    BudgetKind::WallclockMs => LimitKey::Wall,
                    BudgetKind::LlmTokens => LimitKey::LlmTokens,
                    BudgetKind::Processes => LimitKey::Processes,
                    BudgetKind::FilesystemOps => LimitKey::FsOps,
                    BudgetKind::BrowserActions => LimitKey::BrowserActions,
                };
                let policy = self.spec.policy.clone();
                let claimed = self.ledger.claim(*kind, *units);
                claimed.map_err(|spent| limit_error(&spent, policy.limits().rule(key)))?;
                Ok(PolicyReply::Budget { budget: self.ledger.snapshot(*kind) })
            }
            PolicyCall::RequestCapability { capability, scope, .. } => {
                self.request(capability.as_str(), scope.as_ref().map(|scope| scope.as_str()))
            }
            PolicyCall::LogEvent { .. } => {
                if self.report.calls.get("policy").is_some_and(|calls| *calls > EVENTS_MAX) {
                    let message = format!("a task may call policy.* {EVENTS_MAX} times before its events are refused");
                    return Err(CallError::new(ErrorCode::Limit, &message));
                }
                Ok(PolicyReply::Logged)
            }
        }
    }

    fn describe(&mut self) -> PolicyReply {
        let policy = self.spec.policy.clone();
        let workspaces = policy.workspaces().iter().map(|w| WorkspaceRule {
            label: Text::cut(&w.label),
            relative_root: Text::cut(&format!("{}:", w.label)),
            read_only: w.access == Access::ReadOnly,
            max_file_bytes: Some(w.max_file_bytes),
        });
        let commands = policy.commands().iter().enumerate().map(|(index, command)| {
            let shapes: Vec<String> = policy.argv_shapes(index).iter().map(|s| s.texts().join(" ")).collect();
            let description = match shapes.as_slice() {
                [] => "no arguments".to_owned(),
                some => format!("arguments: {}", some.join(" | ")),
            };
            CommandRule { name: Text::cut(&command.name), description: Some(shortened(&description)) }
        });
        PolicyReply::Snapshot {
            workspaces: List::first(workspaces),
            commands: List::first(commands),
            budgets: List::first(BUDGETS.map(|kind| self.ledger.snapshot(kind))),
        }
    }

    /// A request never widens anything by itself: it is answered with what the policy already says of such a call (T-10).
    fn request(&self, capability: &str, scope: Option<&str>) -> Result<PolicyReply, CallError> {
        let answered = self.spec.policy.answer_request(capability, scope.filter(|scope| !scope.is_empty()));
        let (approved, reason) = match answered
            .map_err(|e| CallError::new(ErrorCode::InvalidArgument, &e.to_string()))?
        {
            Answered::Granted { network, .. } if !network.is_empty() => {
                (false, "the command is to have a network, which this version of warden gives to none".to_owned())
            }
            Answered::Granted { rule, .. } => (true, format!("the policy already allows it, by {rule}")),
            Answered::Refused { rule, reason } => {
                (false, format!("{reason} ({rule}); a person would have to change the policy"))
            }
            Answered::Asks { rule } => {
                (false, format!("it needs a person's approval ({rule}), and this version of warden cannot ask for one"))
            }
        };
        Ok(PolicyReply::Granted { approved, reason: Some(Text::cut(&reason)) })
    }
}
