//! The helpers of one task: started at first use, one per capability, ended with the task.

use super::act::audit_lost;
use super::commands::{self, Early};
use super::{Ending, Stop, Task};
use crate::cancel::cancelled;
use crate::jailed::{Birth, Jailed};
use crate::runtime::{Child, ChildExit};
use std::cell::OnceCell;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use warden_proto::msg::error::{CallError, ErrorCode};
use warden_proto::msg::fs::FsSetup;
use warden_proto::msg::life::Role;
use warden_proto::msg::llm::{LlmSetup, Provider};
use warden_proto::{Kind, Text};

/// Starts of one helper in one task: a hostile guest that kills its helper again and again stops there (T-06).
const STARTS_MAX: u32 = 5;

/// A running helper.
pub(crate) struct Helper {
    pub jailed: Jailed,
    /// The other process of a capability that is two (cap-proc's runner).
    pub companion: Option<Companion>,
}

/// A process without a link to the broker.
pub(crate) struct Companion {
    pub child: Child,
    /// Descriptors that it was given, the standard three included.
    pub descriptors: u32,
}

/// A process that was ended, and how, if that was seen in time.
pub(crate) type EndedProcess = (Role, u32, Option<ChildExit>);

/// The helpers of one task.
#[derive(Default)]
pub(crate) struct Helpers {
    running: Vec<(Role, Helper)>,
    starts: Vec<(Role, u32)>,
    /// Companions of helpers that are gone, which end by themselves.
    leaving: Vec<Companion>,
    /// By which cap-fs and the doors of commands take turns in moving and looking, once there is one of them (T-02).
    pub(super) turns: OnceCell<OwnedFd>,
}

impl Helpers {
    /// The running helper of `role`.
    pub fn get(&mut self, role: Role) -> Option<&mut Helper> {
        self.running.iter_mut().find(|(r, _)| *r == role).map(|(_, helper)| helper)
    }

    fn count_start(&mut self, role: Role) -> bool {
        if let Some((_, count)) = self.starts.iter_mut().find(|(r, _)| *r == role) {
            *count = count.saturating_add(1);
            return *count <= STARTS_MAX;
        }
        self.starts.push((role, 1));
        true
    }

    /// Kills a helper and waits a moment for its end.
    pub async fn remove(&mut self, role: Role) -> Option<EndedProcess> {
        let at = self.running.iter().position(|(r, _)| *r == role)?;
        let (_, Helper { mut jailed, companion }) = self.running.swap_remove(at);
        // The runner ends with the front's socket; killed, it would leave what it has to remove (T-12).
        self.leaving.extend(companion);
        // One that has ended by itself is asked how before it is killed.
        let mut exit = timeout(OWN_END, jailed.child.exited()).await.ok();
        if exit.is_none() {
            jailed.child.kill();
            exit = timeout(KILLED_END, jailed.child.exited()).await.ok();
        }
        Some((role, jailed.child.pid, exit))
    }

    /// Ends every helper: all are asked first, then waited for together, then killed. `cleanup`: until when what their
    /// commands made may take to be removed.
    pub async fn end_all(&mut self, deadline: Instant, cleanup: Instant) -> Vec<EndedProcess> {
        for (_, helper) in &mut self.running {
            let _ = helper.jailed.peer.send(Kind::Goodbye, 0, &(), &[], deadline).await;
        }
        let mut ended = Vec::new();
        for (role, Helper { mut jailed, companion }) in self.running.drain(..) {
            let mut exit = timeout_at(deadline, jailed.child.exited()).await.ok();
            if exit.is_none() {
                jailed.child.kill();
                exit = timeout(OWN_END, jailed.child.exited()).await.ok();
            }
            ended.push((role, jailed.child.pid, exit));
            self.leaving.extend(companion);
        }
        // The runner ends with the front's socket. Its commands end at once; what they made takes longer to remove.
        for Companion { mut child, .. } in self.leaving.drain(..) {
            let exit = timeout_at(cleanup, child.exited()).await.ok();
            ended.push((child.role, child.pid, exit));
        }
        ended
    }
}

/// What one that has ended by itself gets to be reaped.
const OWN_END: Duration = Duration::from_millis(50);
/// What one that was killed gets to be reaped.
const KILLED_END: Duration = Duration::from_millis(500);

pub(super) fn too_long(what: &str) -> impl Fn(warden_proto::bounded::TooLong) -> CallError + '_ {
    move |e| CallError::new(ErrorCode::Internal, &format!("{what}: {e}"))
}

impl Task {
    /// Makes sure that the helper of `role` runs. `Ok(Err)` is the guest's answer.
    pub(crate) async fn need(&mut self, role: Role) -> Result<Result<(), CallError>, Stop> {
        if self.helpers.get(role).is_some() {
            return Ok(Ok(()));
        }
        if !self.helpers.count_start(role) {
            let message = format!("{} has ended {STARTS_MAX} times in this task and is not started again", role.name());
            return Ok(Err(CallError::new(ErrorCode::Unavailable, &message)));
        }
        match self.start_watched(role).await? {
            Ok(helper) => {
                let (pid, locked) = (helper.jailed.child.pid, helper.jailed.locked.clone());
                let companion = helper.companion.as_ref().map(|c| (c.child.role, c.child.pid, c.descriptors));
                self.helpers.running.push((role, helper));
                if let Some((role, pid, descriptors)) = companion {
                    let mut log = self.around.audit.borrow_mut();
                    self.process(role, pid).started(&mut log, descriptors).map_err(audit_lost)?;
                }
                self.record_start(role, pid, &locked)?;
                Ok(Ok(()))
            }
            Err(error) => {
                tracing::warn!(role = role.name(), %error, "a helper could not be started");
                Ok(Err(error))
            }
        }
    }

    /// Starts a helper, and meanwhile watches the person and the clock: half a start is dropped, and killed with that.
    async fn start_watched(&mut self, role: Role) -> Result<Result<Helper, CallError>, Stop> {
        let early = if role == Role::CapProcFront { self.early.take() } else { None };
        self.start_or_stop(role, early).await
    }

    async fn start_or_stop(&self, role: Role, early: Option<Early>) -> Result<Result<Helper, CallError>, Stop> {
        let mut cancel = self.around.cancel.clone();
        let start = async {
            match role {
                Role::CapFs => self.start_files().await,
                Role::CapProcFront => match early {
                    Some(early) => early.started().await,
                    None => match self.turns() {
                        Ok(turns) => commands::start(&self.around.runtime, self.id, &self.spec, turns).await,
                        Err(error) => Err(error),
                    },
                },
                Role::CapLlm => self.start_model().await,
                _ => Err(CallError::new(ErrorCode::Internal, "no such helper")),
            }
        };
        tokio::select! {
            biased;
            signal = cancelled(&mut cancel) => Err(Stop(Ending::Cancelled(signal))),
            () = sleep_until(self.ledger.deadline()) => Err(Stop(Ending::Timeout)),
            started = start => Ok(started),
        }
    }

    /// By which the helpers of this task take turns.
    fn turns(&self) -> Result<&OwnedFd, CallError> {
        if self.helpers.turns.get().is_none() {
            let _ = self.helpers.turns.set(commands::turns()?);
        }
        self.helpers.turns.get().ok_or_else(|| CallError::new(ErrorCode::Internal, "a file for turns is gone"))
    }

    async fn start_files(&self) -> Result<Helper, CallError> {
        let setup = self.files_setup()?;
        let mut inherit = self.spec.workspace_descriptors();
        inherit.push(commands::hold_copy(&self.around.runtime, self.turns()?)?);
        let birth = Birth { role: Role::CapFs, descriptors: &[], inherit };
        let jailed = Jailed::start(&self.around.runtime, birth, &setup).await.map_err(unavailable)?;
        Ok(Helper { jailed, companion: None })
    }

    fn files_setup(&self) -> Result<FsSetup, CallError> {
        let (workspaces, growth_rule) = (self.spec.workspace_setups()?, self.spec.growth_rule());
        Ok(FsSetup { task: self.id, workspaces, growth_rule })
    }

    async fn start_model(&self) -> Result<Helper, CallError> {
        let Some(recording) = &self.spec.recording else {
            let message = "no model is set up: give `[llm]` in the policy, or --replay FILE";
            return Err(CallError::new(ErrorCode::Unavailable, message));
        };
        let (provider, model) = (Provider::Replay, Text::cut("replay"));
        let setup = LlmSetup { task: self.id, provider, model, calls_before: self.model_calls };
        let descriptors = [recording.as_fd()];
        let birth = Birth { role: Role::CapLlm, descriptors: &descriptors, inherit: Vec::new() };
        let jailed = Jailed::start(&self.around.runtime, birth, &setup).await.map_err(unavailable)?;
        Ok(Helper { jailed, companion: None })
    }
}

pub(super) fn unavailable(error: crate::jailed::JailedError) -> CallError {
    CallError::new(ErrorCode::Unavailable, &format!("the helper of this capability could not be started: {error}"))
}
