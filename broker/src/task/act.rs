//! The middle of every call: recorded before and after, its helper watched, its failure told in the guest's terms.

use super::answers::Question;
use super::helpers::Helper;
use super::monitor::{Recording, Row};
use super::{Ending, Stop, Task};
use crate::audit::{BeginRecord, Decision, EndRecord, Outcome, ProcessRecord, Record, Ticket, Value};
use crate::cancel::cancelled;
use crate::jailed::Jailed;
use crate::ledger::Spent;
use crate::peer::PeerError;
use crate::runtime::ChildExit;
use std::time::Duration;
use tokio::time::Instant;
use warden_proto::limits::{CANCEL_GRACE, REPLY_DEADLINE};
use warden_proto::msg::error::{CallError, ErrorCode};
use warden_proto::msg::life::{Locked, Role};

/// What is recorded of an act, before anything is known of its end.
#[derive(Clone, Copy)]
pub(crate) struct Act<'a> {
    /// Its row of the monitor table.
    pub row: Row,
    /// Its input in the guest's terms; no host path, no secret.
    pub input: Value<'a>,
    /// The rule that allowed it.
    pub rule: &'a str,
}

impl Task {
    /// Who asks: the worker, or the broker for a person.
    fn asker(&self) -> &'static str {
        if self.spec.player.is_some() { "worker" } else { "broker" }
    }

    fn begin_record<'a>(&'a self, act: &Act<'a>, decision: Decision) -> BeginRecord<'a> {
        BeginRecord {
            task: Some(&self.id_text),
            role: self.asker(),
            capability: act.row.capability,
            op: act.row.op,
            input: act.input,
            decision: Some(decision),
            rule: Some(act.rule).filter(|r| !r.is_empty()),
            policy_hash: Some(&self.policy_hash),
        }
    }

    /// T-09: without its begin record an act does not happen.
    pub(crate) fn begin(&mut self, act: &Act<'_>) -> Result<Option<Ticket>, Stop> {
        if act.row.recording != Recording::BeginEnd {
            return Ok(None);
        }
        let record = self.begin_record(act, Decision::Allow);
        let ticket = self.around.audit.borrow_mut().begin(&record).map_err(audit_lost)?;
        Ok(Some(ticket))
    }

    /// The record after an act, or the only one of an act whose only effect is its answer.
    pub(crate) fn end(
        &mut self,
        act: &Act<'_>,
        ticket: Option<Ticket>,
        outcome: Outcome<'_>,
        bytes: Option<u64>,
        started: Instant,
    ) -> Result<(), Stop> {
        let end = EndRecord { result: outcome, bytes };
        match (ticket, act.row.recording) {
            (Some(ticket), _) => self.around.audit.borrow_mut().end(ticket, &end).map_err(audit_lost),
            (None, Recording::None) => Ok(()),
            (None, _) => {
                let record = Record {
                    act: self.begin_record(act, Decision::Allow),
                    end,
                    duration_us: u64::try_from(started.elapsed().as_micros()).ok(),
                };
                self.around.audit.borrow_mut().single(&record).map_err(audit_lost)
            }
        }
    }

    /// Records a call that was not allowed, or not affordable, and notes it for the result.
    pub(crate) fn refuse(
        &mut self,
        row: Row,
        capability: &str,
        target: &str,
        input: Value<'_>,
        error: &CallError,
    ) -> Result<(), Stop> {
        self.report.deny(capability, target, error);
        self.progress.denied(capability, target, error);
        let act = BeginRecord {
            task: Some(&self.id_text),
            role: self.asker(),
            capability,
            op: row.op,
            input,
            // A limit or a missing helper is no denial by policy, and the log does not call it one.
            decision: (error.code == ErrorCode::Denied).then_some(Decision::Deny),
            rule: Some(error.rule.as_str()).filter(|r| !r.is_empty()),
            policy_hash: Some(&self.policy_hash),
        };
        let result = Outcome::Failed { code: error.code.name(), message: error.message.as_str() };
        let record = Record { act, end: EndRecord { result, bytes: None }, duration_us: None };
        self.around.audit.borrow_mut().single(&record).map_err(audit_lost)
    }

    /// Records that a jailed process of this task is locked: who it is, and which descriptors it holds.
    pub(crate) fn record_start(&mut self, role: Role, pid: u32, locked: &Locked) -> Result<(), Stop> {
        for what in locked.degraded.iter() {
            self.report.degrade(what.as_str());
        }
        for what in locked.held.iter() {
            self.report.hold(what.as_str());
        }
        let mut log = self.around.audit.borrow_mut();
        self.process(role, pid).locked(&mut log, locked).map_err(audit_lost)
    }

    /// Records that a process of this task has ended; none is an end that was not seen in time.
    pub(crate) fn record_end(&self, role: Role, pid: u32, exit: Option<ChildExit>) -> Result<(), Stop> {
        let mut log = self.around.audit.borrow_mut();
        self.process(role, pid).ended(&mut log, exit).map_err(audit_lost)
    }

    /// Whom the records of a process are about.
    pub(crate) fn process(&self, role: Role, pid: u32) -> ProcessRecord<'_> {
        ProcessRecord { task: Some(&self.id_text), policy_hash: Some(&self.policy_hash), role, pid }
    }

    /// Asks a helper, and meanwhile watches the worker, the clock and the person.
    ///
    /// The outer `Err` is a call that was lost, and whether it took effect is not known; the helper is gone then if it was
    /// its fault. The inner one is the helper's own.
    pub(crate) async fn ask<Q: Question>(
        &mut self,
        role: Role,
        call: &Q,
        patience: Duration,
    ) -> Result<Result<Q::Answer, CallError>, CallError> {
        self.ask_noting(role, call, patience, &mut false).await
    }

    /// The same for a question whose answer decides something (T-15): what a helper says after it was told to stop is what
    /// the stopping made of it, and answers nothing.
    pub(crate) async fn ask_undisturbed<Q: Question>(
        &mut self,
        role: Role,
        call: &Q,
        patience: Duration,
    ) -> Result<Result<Q::Answer, CallError>, CallError> {
        let mut stopped = false;
        let answer = self.ask_noting(role, call, patience, &mut stopped).await;
        match answer {
            Ok(Ok(_)) if stopped => Err(CallError::new(ErrorCode::Timeout, "it was stopped before it came to an end")),
            other => other,
        }
    }

    async fn ask_noting<Q: Question>(
        &mut self,
        role: Role,
        call: &Q,
        patience: Duration,
        stopped: &mut bool,
    ) -> Result<Result<Q::Answer, CallError>, CallError> {
        let now = Instant::now();
        let task_deadline = self.ledger.deadline();
        let deadline = (now + patience).min(task_deadline);
        let mut cancel = self.around.cancel.clone();
        let Some(Helper { jailed, .. }) = self.helpers.get(role) else {
            return Err(CallError::new(ErrorCode::Internal, "the helper of this capability is not there"));
        };
        let worker = self.worker.as_mut();
        let request = match jailed.peer.begin_call(call, deadline).await {
            Ok(request) => request,
            // Our own message does not fit a frame: nothing was sent, and the helper is not to blame.
            Err(PeerError::Failed(why)) => {
                return Err(CallError::new(ErrorCode::InvalidArgument, &format!("the call is too long: {why}")));
            }
            Err(error) => return Err(self.helper_lost(role, &error, false).await),
        };
        let early = tokio::select! {
            biased;
            reply = jailed.peer.reply::<Result<Q::Answer, CallError>>(request) => Some(reply),
            _ = cancelled(&mut cancel) => None,
            () = worker_gone(worker) => None,
            () = tokio::time::sleep_until(deadline) => None,
        };
        let reply = match early {
            Some(reply) => reply,
            // Nobody waits for it any more, or its time is up: told so, it has a moment to say how it ended.
            None => {
                *stopped = true;
                let grace = Instant::now() + CANCEL_GRACE;
                let _ = jailed.peer.send(warden_proto::Kind::Cancel, request, &(), &[], grace).await;
                let late = tokio::time::timeout_at(grace, jailed.peer.reply(request)).await;
                late.unwrap_or(Err(PeerError::Silent))
            }
        };
        match reply {
            Ok(Ok(answer)) if !call.is_answered_by(&answer) => {
                let error = PeerError::Refused("it answered something else than it was asked".to_owned());
                Err(self.helper_lost(role, &error, false).await)
            }
            Ok(reply) => Ok(reply),
            Err(error) => Err(self.helper_lost(role, &error, Instant::now() >= task_deadline).await),
        }
    }

    /// A helper has died, was silent or broke the protocol: it is gone, with all its handles, and nobody else is.
    pub(crate) async fn helper_lost(&mut self, role: Role, error: &PeerError, out_of_time: bool) -> CallError {
        let removed = self.helpers.remove(role).await;
        if let Some((role, pid, exit)) = removed {
            // A log that cannot take it takes no other record either, so that the task ends with the one that follows.
            let _ = self.record_end(role, pid, exit);
        }
        let exit = removed.and_then(|(.., exit)| exit);
        match role {
            Role::CapFs => self.handles.clear(),
            Role::CapProcFront => {
                let running = self.processes.clear();
                self.ledger.give_back(crate::ledger::Cost::Processes, running);
            }
            _ => {}
        }
        // Of one that was ended here, only that is to be told.
        let how = exit.filter(|_| matches!(error, PeerError::Gone)).map(describe_exit).unwrap_or_default();
        let (code, what) = match error {
            PeerError::Silent if out_of_time => (ErrorCode::Timeout, "the task's time is up"),
            PeerError::Silent => (ErrorCode::Timeout, "it did not answer in time and was ended"),
            PeerError::Refused(_) => (ErrorCode::Unavailable, "it broke the protocol and was ended"),
            _ => (ErrorCode::Unavailable, "it ended before it answered"),
        };
        let message = format!("{}: {what}{how}; whether the call took effect is not known", role.name());
        tracing::warn!(role = role.name(), %error, "a helper was lost");
        CallError::new(code, &message)
    }

    /// The payload that a helper sent, or the helper's loss.
    pub(crate) async fn payload(&mut self, role: Role, body: warden_proto::blob::Body) -> Result<Vec<u8>, CallError> {
        let taken = match self.helpers.get(role) {
            Some(helper) => helper.jailed.peer.take(body),
            None => Err(PeerError::Gone),
        };
        match taken {
            Ok(bytes) => Ok(bytes),
            Err(error) => Err(self.helper_lost(role, &error, false).await),
        }
    }

    /// Puts a payload into a reply to the worker; `beside` is what other payloads already take of that reply, bytes.
    pub(crate) async fn place_for_worker(
        &mut self,
        bytes: Vec<u8>,
        beside: usize,
    ) -> Result<warden_proto::blob::Body, Stop> {
        let deadline = Instant::now() + REPLY_DEADLINE;
        Ok(self.worker()?.peer.place(bytes, beside.saturating_add(REPLY_ENVELOPE_BYTES), deadline).await?)
    }

    /// Sends a payload ahead of a call, or the helper's loss: half a payload must not stay in its inbox.
    pub(crate) async fn place_for_helper(
        &mut self,
        role: Role,
        bytes: Vec<u8>,
        spare: usize,
    ) -> Result<warden_proto::blob::Body, CallError> {
        let placed = match self.helpers.get(role) {
            Some(helper) => helper.jailed.peer.place(bytes, spare, Instant::now() + REPLY_DEADLINE).await,
            None => Err(PeerError::Gone),
        };
        match placed {
            Ok(body) => Ok(body),
            Err(error) => Err(self.helper_lost(role, &error, false).await),
        }
    }

    /// Nothing more is asked once a person has asked for the end, or the time is up.
    pub(crate) fn still_wanted(&self) -> Result<(), Stop> {
        if let super::Cancel::Gently(signal) = *self.around.cancel.borrow() {
            return Err(Stop(Ending::Cancelled(signal)));
        }
        if Instant::now() >= self.ledger.deadline() {
            return Err(Stop(Ending::Timeout));
        }
        Ok(())
    }
}

/// Resolves when the worker has ended: nobody waits for an answer then. A person's own command has none.
async fn worker_gone(worker: Option<&mut Jailed>) {
    match worker {
        Some(worker) => drop(worker.child.exited().await),
        None => std::future::pending().await,
    }
}

/// What a reply holds beside its payloads, bytes at most.
const REPLY_ENVELOPE_BYTES: usize = 8192;

/// How a process ended, for a message.
fn describe_exit(exit: ChildExit) -> String {
    match exit {
        ChildExit { signal: Some(31), .. } => " (killed by its own jail, SIGSYS)".to_owned(),
        ChildExit { signal: Some(signal), .. } => format!(" (signal {signal})"),
        ChildExit { code: Some(code), .. } => format!(" (status {code})"),
        ChildExit { .. } => String::new(),
    }
}

/// T-09: nothing goes on without the log.
pub(crate) fn audit_lost(error: crate::audit::AuditError) -> Stop {
    Stop(Ending::AuditLost(error.to_string()))
}

/// A cost that cannot be paid, as the guest sees it.
pub(crate) fn limit_error(spent: &Spent, rule: &str) -> CallError {
    CallError {
        code: ErrorCode::Limit,
        message: warden_proto::Text::cut(&spent.to_string()),
        rule: warden_proto::Text::cut(rule),
    }
}

/// How an act ended, for its record.
pub(crate) fn outcome_of<'a, T>(result: &'a Result<T, CallError>, done: Value<'a>) -> Outcome<'a> {
    match result {
        Ok(_) => Outcome::Done(done),
        Err(error) => Outcome::Failed { code: error.code.name(), message: error.message.as_str() },
    }
}
