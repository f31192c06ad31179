//! How a task ended, and what is known of it then.
//!
//! Runs in the broker. The task makes these; whoever asked for it, and the record, read them.

use super::predicates;
use super::report::Report;
use crate::ledger::Ledger;
use crate::output::Sinks;
use std::rc::Rc;
use warden_policy::Effective;
use warden_proto::msg::error::CallError;
use warden_proto::msg::proc::Exit;
use warden_proto::msg::worker::End;

/// Why a task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The guest or its worker told: see [`End`].
    Guest(End),
    /// The broker ended the loop: its verdict.
    Verdict(Verdict),
    /// A person's own command has ended.
    Command(Exit),
    /// A person's own command was not run, or its end was not seen.
    NotRun(CallError),
    /// Its time was up.
    Timeout,
    /// A person asked for the end.
    Cancelled(i32),
    /// The worker died or was refused.
    WorkerLost(String),
    /// A helper that warden itself needs could not be started.
    HelperMissing(String),
    /// The guest's output could not be written where it was to go.
    OutputLost(String),
    /// The log could not be written: nothing goes on.
    AuditLost(String),
}

/// How a loop ended, by the broker's own measure (T-15).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Every predicate holds.
    Done,
    /// There is no predicate.
    Unverified,
    /// A predicate does not hold, or the planner gave up.
    Failed(String),
    /// A limit was reached.
    Exhausted(String),
}

/// The end of a task.
pub struct Ended {
    /// Why.
    pub ending: Ending,
    /// What was done.
    pub report: Report,
    /// Fuel used.
    pub fuel: u64,
    /// Highest linear memory, bytes.
    pub memory_peak_bytes: u64,
    /// The predicates' last evaluation.
    pub predicates: Vec<predicates::Evaluated>,
    /// What the planner said the outcome is.
    pub outcome: Option<String>,
    /// What it said why.
    pub reason: Option<String>,
    /// What was spent.
    pub ledger: Ledger,
    /// Captured output.
    pub sinks: Sinks,
    /// What it ran under.
    pub policy: Rc<Effective>,
}
