//! `osagent:policy/policy`.

#![forbid(unsafe_code)]

use super::bindings::osagent::policy::policy::{self, AuditEvent};
use super::{text, wrong_reply};
use crate::worker::call::Fault;
use crate::worker::guest::Guest;
use warden_proto::msg::policy::{BudgetKind, BudgetSnapshot, PolicyCall, PolicyReply};
use warden_proto::msg::worker::Origin;

impl policy::Host for Guest {
    fn describe(&mut self) -> Result<policy::PolicySnapshot, Fault> {
        match self.link.policy(Origin::Import, PolicyCall::Describe)? {
            PolicyReply::Snapshot { workspaces, commands, budgets } => Ok(policy::PolicySnapshot {
                workspaces: workspaces.into_vec().into_iter().map(workspace).collect(),
                commands: commands
                    .into_vec()
                    .into_iter()
                    .map(|rule| policy::CommandRule {
                        name: rule.name.into_string(),
                        description: rule.description.map(|text| text.into_string()),
                    })
                    .collect(),
                browser: None,
                budgets: budgets.into_vec().into_iter().map(budget).collect(),
            }),
            _ => Err(wrong_reply()),
        }
    }

    fn claim_budget(&mut self, kind: policy::BudgetKind, units: u64) -> Result<policy::BudgetSnapshot, Fault> {
        match self.link.policy(Origin::Import, PolicyCall::ClaimBudget { kind: wire_kind(kind), units })? {
            PolicyReply::Budget { budget: snapshot } => Ok(budget(snapshot)),
            _ => Err(wrong_reply()),
        }
    }

    fn request_capability(&mut self, request: policy::GrantRequest) -> Result<policy::GrantResponse, Fault> {
        let call = PolicyCall::RequestCapability {
            capability: text("a capability", request.capability)?,
            scope: request.scope.map(|scope| text("a scope", scope)).transpose()?,
            justification: text("a justification", request.justification)?,
        };
        match self.link.policy(Origin::Import, call)? {
            PolicyReply::Granted { approved, reason } => {
                Ok(policy::GrantResponse { approved, reason: reason.map(|reason| reason.into_string()) })
            }
            _ => Err(wrong_reply()),
        }
    }

    fn log_event(&mut self, event: AuditEvent) -> Result<(), Fault> {
        let call = PolicyCall::LogEvent {
            event_type: text("an event's type", event.event_type)?,
            step: event.step,
            payload: text("an event's payload", event.payload)?,
        };
        match self.link.policy(Origin::Import, call)? {
            PolicyReply::Logged => Ok(()),
            _ => Err(wrong_reply()),
        }
    }
}

fn workspace(rule: warden_proto::msg::policy::WorkspaceRule) -> policy::WorkspaceRule {
    policy::WorkspaceRule {
        label: rule.label.into_string(),
        relative_root: rule.relative_root.into_string(),
        read_only: rule.read_only,
        max_file_bytes: rule.max_file_bytes,
    }
}

fn budget(snapshot: BudgetSnapshot) -> policy::BudgetSnapshot {
    let kind = match snapshot.kind {
        BudgetKind::Steps => policy::BudgetKind::Steps,
        BudgetKind::WallclockMs => policy::BudgetKind::WallclockMs,
        BudgetKind::LlmTokens => policy::BudgetKind::LlmTokens,
        BudgetKind::Processes => policy::BudgetKind::Processes,
        BudgetKind::FilesystemOps => policy::BudgetKind::FilesystemOps,
        BudgetKind::BrowserActions => policy::BudgetKind::BrowserActions,
    };
    policy::BudgetSnapshot { kind, limit: snapshot.limit, used: snapshot.used }
}

fn wire_kind(kind: policy::BudgetKind) -> BudgetKind {
    match kind {
        policy::BudgetKind::Steps => BudgetKind::Steps,
        policy::BudgetKind::WallclockMs => BudgetKind::WallclockMs,
        policy::BudgetKind::LlmTokens => BudgetKind::LlmTokens,
        policy::BudgetKind::Processes => BudgetKind::Processes,
        policy::BudgetKind::FilesystemOps => BudgetKind::FilesystemOps,
        policy::BudgetKind::BrowserActions => BudgetKind::BrowserActions,
    }
}
