//! What a task is made of, before it begins.
//!
//! Runs in the broker. Everything here was decided, opened and checked by who made it; the task adds no right to it.

use super::runbook::Runbook;
use crate::ledger::Allowance;
use crate::runtime::OpenedWorkspace;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use warden_policy::{Effective, Predicate};
use warden_proto::msg::proc::GroupSetup;
use warden_proto::msg::worker::GuestKind;

/// A guest, and how it is run.
pub struct Player {
    /// How.
    pub kind: GuestKind,
    /// Its code, sealed.
    pub code: OwnedFd,
}

/// Everything a task is made of.
pub struct Spec {
    /// What it may do.
    pub policy: Rc<Effective>,
    /// What it may spend.
    pub allowance: Allowance,
    /// Fuel, when metered.
    pub fuel: Option<u64>,
    /// Linear memory, bytes.
    pub memory_bytes: u64,
    /// Bytes kept of each captured output.
    pub output_max_bytes: u64,
    /// Who acts; none where the task is a person's own command.
    pub player: Option<Player>,
    /// What must hold at the end; empty for none.
    pub predicates: Vec<Predicate>,
    /// A runbook: unmet predicates end it, they are not told to it.
    pub runbook: Option<Runbook>,
    /// The task's workspaces, in the policy's order.
    pub workspaces: Vec<OpenedWorkspace>,
    /// The programs of the policy's commands, in its order, opened and checked.
    pub programs: Vec<OwnedFd>,
    /// A directory of the task's own for its commands, if there is one.
    pub scratch: Option<OwnedFd>,
    /// What control groups of commands bound, where the host has given us one to make them in.
    pub group: Option<GroupSetup>,
    /// What files that its commands make have not, of the mode that is asked for.
    pub umask: u32,
    /// The recording that stands for the model.
    pub recording: Option<OwnedFd>,
}

/// `umask` of a task that is no person's own command: nobody's shell is asked.
pub const UMASK: u32 = 0o022;

impl Spec {
    /// What a path that is left out names: the root of the first workspace, if there is one.
    pub(super) fn home(&self) -> String {
        self.policy.workspaces().first().map(|workspace| format!("{}:", workspace.label)).unwrap_or_default()
    }
}
