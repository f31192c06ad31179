//! One guest in a session: compiled, given what the policy gives it, and run to its end.
//!
//! Runs in the broker once it is locked, for every command that runs a guest.

use super::limits::allowance;
use super::outcome;
use crate::audit::{About, AuditError, HexDigest, TaskEnd, TaskRecord};
use crate::compile;
use crate::failure::Failure;
use crate::output::Sinks;
use crate::progress::Progress;
use crate::session::Session;
use crate::task::runbook::Runbook;
use crate::task::{Ended, Ending, Player, Spec, Task, UMASK};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;
use warden_policy::{LimitKey, Predicate};
use warden_proto::msg::worker::GuestKind;

/// A guest and what its command wants of it.
pub struct Guest {
    /// What it is: `goal`, `runbook` or `program`.
    pub what: &'static str,
    /// SHA-256 of the manifest that names it, where there is one.
    pub manifest: Option<HexDigest>,
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

/// Runs a guest as a task of its own, on the record from before it begins to after it has ended, and says under which id.
pub async fn run(session: &Session, guest: Guest, progress: Rc<dyn Progress>) -> Result<(Ended, String), Failure> {
    let id = task_id()?;
    let name = crate::cache::hex(&id);
    let policy_hash = HexDigest::parse(session.policy.hash()).unwrap_or(HexDigest::ZERO);
    let record = TaskRecord { task: &name, policy_hash: &policy_hash };
    let workspaces = session.policy.workspaces().iter().map(|each| (each.label.clone(), each.access.name()));
    let about = About {
        kind: guest.what,
        manifest: guest.manifest,
        guest: Some(HexDigest::of(&guest.module)),
        workspaces: workspaces.collect(),
    };
    record.begins(&mut session.around.audit.borrow_mut(), &about)?;
    let is_program = matches!(guest.kind, GuestKind::Program { .. });
    let played = play(session, guest, progress, id).await;
    let recorded = put_end(session, &record, is_program, &played);
    let mut ended = played?;
    if let Err(lost) = recorded {
        // What ended without its record did not end well, whatever it did (T-09).
        ended.ending = Ending::AuditLost(lost.to_string());
    }
    Ok((ended, name))
}

/// Puts the end of a task on the record.
pub(super) fn put_end(
    session: &Session,
    record: &TaskRecord<'_>,
    is_program: bool,
    played: &Result<Ended, Failure>,
) -> Result<(), AuditError> {
    let mut log = session.around.audit.borrow_mut();
    match played {
        Err(failure) => {
            record.ends(&mut log, TaskEnd::Failed { code: failure.class.code(), message: &failure.message })
        }
        Ok(ended) if is_program => match outcome::program_end(ended) {
            Ok(code) => record.ends(&mut log, TaskEnd::Exited { code }),
            Err((class, why)) => record.ends(&mut log, TaskEnd::Failed { code: class.code(), message: &why }),
        },
        Ok(ended) => {
            let (outcome, status, reason) = outcome::task_outcome(ended);
            let reason = reason.as_deref().unwrap_or_default();
            record.ends(&mut log, TaskEnd::Outcome { outcome, status, reason })
        }
    }
}

async fn play(session: &Session, guest: Guest, progress: Rc<dyn Progress>, id: [u8; 16]) -> Result<Ended, Failure> {
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
        player: Some(Player { kind: guest.kind, code: compiled.code }),
        predicates: guest.predicates,
        runbook: guest.runbook,
        workspaces: session.workspaces.clone(),
        programs: session.programs_of_task()?,
        scratch: session.scratch_of_task()?,
        group: session.group,
        umask: UMASK,
        recording: guest.recording,
        policy: policy.clone(),
    };
    let task = Task::start(spec, session.around.clone(), sinks, progress, id).await?;
    let mut ended = task.run().await;
    ended.sinks.finish().await;
    for what in &session.degraded {
        ended.report.degrade(what);
    }
    Ok(ended)
}

/// A task's id: 128 random bits.
pub(super) fn task_id() -> Result<[u8; 16], Failure> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|e| Failure::internal(format!("no randomness: {e}")))?;
    Ok(id)
}
