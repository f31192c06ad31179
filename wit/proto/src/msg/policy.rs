//! Calls on the policy itself, answered by the broker.

use crate::bounded::{List, Text};
use bincode::{Decode, Encode};

/// `budget-kind` of the WIT, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum BudgetKind {
    /// Turns of the loop.
    Steps,
    /// Wall clock, milliseconds.
    WallclockMs,
    /// Tokens of the model.
    LlmTokens,
    /// Processes at once.
    Processes,
    /// Operations on files.
    FilesystemOps,
    /// Actions in a browser.
    BrowserActions,
}

impl BudgetKind {
    /// Its name in JSON and WIT.
    pub fn name(self) -> &'static str {
        match self {
            Self::Steps => "steps",
            Self::WallclockMs => "wallclock-ms",
            Self::LlmTokens => "llm-tokens",
            Self::Processes => "processes",
            Self::FilesystemOps => "filesystem-ops",
            Self::BrowserActions => "browser-actions",
        }
    }
}

/// `budget-snapshot` of the WIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct BudgetSnapshot {
    /// Which.
    pub kind: BudgetKind,
    /// How much there is in all; none for no limit.
    pub limit: Option<u64>,
    /// How much is spent.
    pub used: u64,
}

/// `workspace-rule` of the WIT.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct WorkspaceRule {
    /// Its label.
    pub label: Text<64>,
    /// Where its root is, as the guest writes it (`label:`).
    pub relative_root: Text<128>,
    /// Whether it may not be written.
    pub read_only: bool,
    /// Longest file, bytes.
    pub max_file_bytes: Option<u64>,
}

/// `command-rule` of the WIT.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct CommandRule {
    /// Its name.
    pub name: Text<128>,
    /// Its argument shapes, for the model to read.
    pub description: Option<Text<1024>>,
}

/// A call on the policy.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum PolicyCall {
    /// `policy.describe` → `Snapshot`.
    Describe,
    /// `policy.claim_budget`: spend units now → `Budget`.
    ClaimBudget {
        /// Of which.
        kind: BudgetKind,
        /// How many.
        units: u64,
    },
    /// `policy.request_capability` → `Granted`.
    RequestCapability {
        /// Which.
        capability: Text<128>,
        /// For what.
        scope: Option<Text<4096>>,
        /// Why.
        justification: Text<4096>,
    },
    /// `policy.log_event`: a line of the guest's own in the audit log → `Logged`.
    LogEvent {
        /// Its type.
        event_type: Text<128>,
        /// The step it says to belong to.
        step: Option<u32>,
        /// JSON text.
        payload: Text<16384>,
    },
}

/// The answer to a [`PolicyCall`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum PolicyReply {
    /// `policy-snapshot` of the WIT; browser is always none for now.
    Snapshot {
        /// Workspaces.
        workspaces: List<WorkspaceRule, 64>,
        /// Commands.
        commands: List<CommandRule, 128>,
        /// Budgets.
        budgets: List<BudgetSnapshot, 16>,
    },
    /// What is left after a claim.
    Budget {
        /// The budget.
        budget: BudgetSnapshot,
    },
    /// `grant-response` of the WIT.
    Granted {
        /// Whether.
        approved: bool,
        /// Why.
        reason: Option<Text<1024>>,
    },
    /// It is in the log.
    Logged,
}
