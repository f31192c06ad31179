//! One guest in a session: compiled, given what the policy gives it, and run to its end.
//!
//! Runs in the broker once it is locked, for every command that runs a guest.

use super::limits::allowance;
use crate::compile;
use crate::failure::Failure;
use crate::output::Sinks;
use crate::progress::Progress;
use crate::session::Session;
use crate::task::runbook::Runbook;
use crate::task::{Ended, Spec, Task};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;
use warden_policy::{LimitKey, Predicate};
use warden_proto::msg::worker::GuestKind;

/// A guest and what its command wants of it.
pub struct Guest {
    /// How it is run.
    pub kind: GuestKind,
    /// Its module or component.
    pub module: Vec<u8>,
    /// `wall` where the policy says nothing.
    pub wall: Duration,
    /// What must hold at the end.
    pub predicates: Vec<Predicate>,
    /// A runbook.
    pub runbook: Option<Runbook>,
    /// What stands for the model.
    pub recording: Option<OwnedFd>,
    /// Its output goes into the result; else it streams through.
    pub keep_output: bool,
}

/// Runs a guest as a task of its own, and says under which id.
pub async fn run(session: &Session, guest: Guest, progress: Rc<dyn Progress>) -> Result<(Ended, String), Failure> {
    let policy = session.policy.clone();
    let limit = |key| policy.limits().get(key);
    let fuel = limit(LimitKey::Fuel);
    let (around, cache) = (&session.around, session.cache.as_ref());
    let compiled = compile::compile(around, cache, &guest.module, fuel.is_some()).await?;
    if let Some(warning) = &compiled.warning {
        tracing::warn!(%warning, "compiled code was not kept");
    }
    let output_max_bytes = limit(LimitKey::Output).unwrap_or(u64::MAX);
    let sinks = if guest.keep_output { Sinks::keep(output_max_bytes) } else { Sinks::pass() };
    let spec = Spec {
        allowance: allowance(&policy, guest.wall),
        fuel,
        memory_bytes: limit(LimitKey::Memory).unwrap_or(u64::MAX),
        output_max_bytes,
        guest: guest.kind,
        code: compiled.code,
        predicates: guest.predicates,
        runbook: guest.runbook,
        workspaces: session.workspaces.clone(),
        programs: session.programs_of_task()?,
        scratch: session.scratch_of_task()?,
        recording: guest.recording,
        policy: policy.clone(),
    };
    let id = task_id()?;
    let task = Task::start(spec, session.around.clone(), sinks, progress, id).await?;
    let mut ended = task.run().await;
    ended.sinks.finish().await;
    for what in &session.degraded {
        ended.report.degrade(what);
    }
    Ok((ended, crate::cache::hex(&id)))
}

/// A task's id: 128 random bits.
fn task_id() -> Result<[u8; 16], Failure> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|e| Failure::internal(format!("no randomness: {e}")))?;
    Ok(id)
}
