//! The helpers of one task: started at first use, one per capability, ended with the task.

use super::act::audit_lost;
use super::{Ending, Stop, Task};
use crate::cancel::cancelled;
use crate::jailed::{Birth, Jailed};
use crate::runtime::{Child, ChildExit};
use crate::sealed;
use std::cell::OnceCell;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use warden_policy::{Access, ArgvShape, Feature, LimitKey, RuleKind};
use warden_proto::limits::{OUTPUT_MAX_BYTES, WORKSPACES_MAX};
use warden_proto::link_a::Inherit;
use warden_proto::msg::error::{CallError, ErrorCode};
use warden_proto::msg::fs::{self, FsSetup, PathRuleSetup, WorkspaceSetup};
use warden_proto::msg::life::Role;
use warden_proto::msg::llm::{LlmSetup, Provider};
use warden_proto::msg::proc::{
    ArgShape as ShapeSetup, CommandSetup, EnvVar, ProcBounds, ProcSetup, RunnerCommand, RunnerSetup, Wish,
};
use warden_proto::{Kind, List, Text, codec, socket};

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
    turns: OnceCell<OwnedFd>,
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

fn too_long(what: &str) -> impl Fn(warden_proto::bounded::TooLong) -> CallError + '_ {
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
    async fn start_watched(&self, role: Role) -> Result<Result<Helper, CallError>, Stop> {
        let mut cancel = self.around.cancel.clone();
        let start = async {
            match role {
                Role::CapFs => self.start_files().await,
                Role::CapProcFront => self.start_commands().await,
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

    fn workspace_descriptors(&self) -> Vec<Inherit> {
        self.spec.workspaces.iter().map(|w| Inherit::Workspace { id: w.id }).collect()
    }

    /// The same file for all of them, empty and sealed: it is there to be locked.
    fn turns(&self) -> Result<Inherit, CallError> {
        let failed = |e: &dyn std::fmt::Display| CallError::new(ErrorCode::Internal, &format!("a file for turns: {e}"));
        if self.helpers.turns.get().is_none() {
            let _ = self.helpers.turns.set(sealed::holding("turns", &[]).map_err(|e| failed(&e))?);
        }
        let file = self.helpers.turns.get().ok_or_else(|| failed(&"gone"))?;
        hold(&self.around.runtime, file.try_clone().map_err(|e| failed(&e))?)
    }

    async fn start_files(&self) -> Result<Helper, CallError> {
        let setup = self.files_setup()?;
        let mut inherit = self.workspace_descriptors();
        inherit.push(self.turns()?);
        let birth = Birth { role: Role::CapFs, descriptors: &[], inherit };
        let jailed = Jailed::start(&self.around.runtime, birth, &setup).await.map_err(unavailable)?;
        Ok(Helper { jailed, companion: None })
    }

    fn files_setup(&self) -> Result<FsSetup, CallError> {
        let (workspaces, growth_rule) = (self.workspace_setups()?, self.growth_rule());
        Ok(FsSetup { task: self.id, workspaces, growth_rule })
    }

    fn growth_rule(&self) -> Text<256> {
        Text::cut(self.spec.policy.limits().rule(LimitKey::FsWritten))
    }

    /// The task's workspaces with their rules: the same for cap-fs and for the doors of commands.
    fn workspace_setups(&self) -> Result<List<WorkspaceSetup, WORKSPACES_MAX>, CallError> {
        let mut workspaces = Vec::new();
        for (index, workspace) in self.spec.policy.workspaces().iter().enumerate() {
            let rules = self.spec.policy.workspace_rules(index).iter().map(|rule| {
                Ok(PathRuleSetup {
                    glob: Text::new(rule.glob.text())?,
                    kind: match rule.kind {
                        RuleKind::Deny => fs::RuleKind::Deny,
                        RuleKind::DenyWrite => fs::RuleKind::DenyWrite,
                    },
                    rule: Text::cut(&rule.id),
                })
            });
            let rules = rules.collect::<Result<Vec<_>, _>>().map_err(too_long("a deny rule"))?;
            workspaces.push(WorkspaceSetup {
                label: Text::cut(&workspace.label),
                writable: workspace.access == Access::ReadWrite,
                symlinks: workspace.symlinks,
                max_file_bytes: workspace.max_file_bytes,
                max_file_rule: Text::cut(&workspace.max_file_rule),
                rules: List::new(rules).map_err(too_long("the deny rules of a workspace"))?,
                rule: Text::cut(&workspace.rule),
            });
        }
        List::new(workspaces).map_err(too_long("workspaces"))
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

    /// cap-proc is two processes, which talk to each other from their start on.
    async fn start_commands(&self) -> Result<Helper, CallError> {
        let runtime = self.around.runtime.clone();
        let internal = |e: String| CallError::new(ErrorCode::Internal, &e);
        let (front_end, runner_end) = socket::pair().map_err(|e| internal(e.to_string()))?;
        let setup = self.commands_setup()?;
        let mut inherit = vec![hold(&runtime, self.runner_document(&setup)?)?];
        inherit.extend(self.workspace_descriptors());
        for program in &self.spec.programs {
            let copy = program.try_clone().map_err(|e| internal(e.to_string()))?;
            inherit.push(hold(&runtime, copy)?);
        }
        if let Some(scratch) = &self.spec.scratch {
            let copy = scratch.try_clone().map_err(|e| internal(e.to_string()))?;
            inherit.push(hold(&runtime, copy)?);
        }
        inherit.extend(self.spec.group.map(|_| Inherit::Group));
        inherit.push(self.turns()?);
        let descriptors = u32::try_from(inherit.len().saturating_add(4)).unwrap_or(u32::MAX);
        let birth = Birth { role: Role::CapProcFront, descriptors: &[], inherit: vec![hold(&runtime, front_end)?] };
        // Both are asked for at once: the runner shuts its jail while the front starts. Of half a pair nothing is left.
        let (child, mut jailed) = tokio::try_join!(
            async { runtime.exec(Role::CapProcRunner, runner_end, inherit).await.map_err(|e| unavailable(e.into())) },
            async { Jailed::start(&runtime, birth, &setup).await.map_err(unavailable) },
        )?;
        let companion = Companion { child, descriptors };
        // Both outputs of one command, each as long as it may be (T-06).
        jailed.peer.hold(usize::try_from(self.output_max_bytes()).unwrap_or(OUTPUT_MAX_BYTES).saturating_mul(2));
        Ok(Helper { jailed, companion: Some(companion) })
    }

    /// Most of each output of a command that runs to its end.
    pub(crate) fn output_max_bytes(&self) -> u32 {
        let max = u64::try_from(OUTPUT_MAX_BYTES).unwrap_or(u64::MAX);
        u32::try_from(self.spec.output_max_bytes.min(max)).unwrap_or(u32::MAX)
    }

    fn bounds(&self) -> ProcBounds {
        ProcBounds {
            memory_bytes: COMMAND_MEMORY_MIN_BYTES.max(self.spec.memory_bytes.saturating_mul(4)),
            file_bytes: self.file_bytes(),
            private_bytes: self.spec.allowance.fs_written,
            processes: u32::try_from(self.spec.allowance.processes).unwrap_or(u32::MAX),
            output_bytes: self.spec.output_max_bytes,
        }
    }

    /// Longest file that a command may make: a process has one limit for all that it writes, so the least of them.
    fn file_bytes(&self) -> u64 {
        let workspaces = self.spec.policy.workspaces().iter().filter(|w| w.access == Access::ReadWrite);
        workspaces.map(|w| w.max_file_bytes).fold(self.spec.allowance.fs_written, u64::min)
    }

    fn commands_setup(&self) -> Result<ProcSetup, CallError> {
        let policy = self.spec.policy.clone();
        let mut commands = Vec::new();
        for (index, command) in policy.commands().iter().enumerate() {
            let shapes = policy.argv_shapes(index).iter().map(|shape| {
                let items = shape.texts().into_iter().map(Text::new).collect::<Result<Vec<_>, _>>()?;
                Ok(ShapeSetup { items: List::new(items)? })
            });
            let shapes = shapes.collect::<Result<Vec<_>, _>>().map_err(too_long("an argument shape"))?;
            commands.push(CommandSetup {
                name: Text::new(command.name.clone()).map_err(too_long("a command's name"))?,
                shapes: List::new(shapes).map_err(too_long("argument shapes"))?,
                any_args: policy.argv_shapes(index).iter().any(|s| *s == ArgvShape::anything()),
                env: environment(&command.env)?,
                exec_workspace: command.exec_workspace,
                unchecked: command.unchecked,
                rule: Text::cut(&command.rule),
            });
        }
        Ok(ProcSetup {
            task: self.id,
            commands: List::new(commands).map_err(too_long("commands"))?,
            bounds: self.bounds(),
            workspaces: u16::try_from(policy.workspaces().len()).unwrap_or(u16::MAX),
        })
    }

    fn runner_document(&self, front: &ProcSetup) -> Result<std::os::fd::OwnedFd, CallError> {
        let internal = |e: String| CallError::new(ErrorCode::Internal, &e);
        let commands = front.commands.iter().map(|command| RunnerCommand {
            name: command.name.clone(),
            env: command.env.clone(),
            exec_workspace: command.exec_workspace,
            unchecked: command.unchecked,
            // Such a command is refused before it comes here: nobody provides connections yet.
            network: false,
        });
        let setup = RunnerSetup {
            build_id: warden_proto::build_id(),
            workspaces: self.workspace_setups()?,
            growth_rule: self.growth_rule(),
            commands: List::first(commands),
            bounds: front.bounds.clone(),
            scratch: self.spec.scratch.is_some(),
            namespaces: wish(self.spec.policy.isolation().namespaces),
            group: self.spec.group,
            connects: false,
        };
        let bytes = codec::encode(&setup).map_err(|e| internal(e.to_string()))?;
        sealed::holding("runner", &bytes).map_err(|e| internal(e.to_string()))
    }
}

fn wish(feature: Feature) -> Wish {
    match feature {
        Feature::Off => Wish::Off,
        Feature::Auto => Wish::Auto,
        Feature::Require => Wish::Require,
    }
}

/// Memory that a command has at least: compilers and interpreters need more than a guest's linear memory.
const COMMAND_MEMORY_MIN_BYTES: u64 = 1024 * 1024 * 1024;

fn environment(env: &[(String, String)]) -> Result<List<EnvVar, 128>, CallError> {
    let vars = env.iter().map(|(key, value)| Ok(EnvVar { key: Text::new(key)?, value: Text::new(value)? }));
    let vars = vars.collect::<Result<Vec<_>, _>>().map_err(too_long("an environment variable"))?;
    List::new(vars).map_err(too_long("environment variables"))
}

fn hold(runtime: &crate::runtime::Runtime, fd: std::os::fd::OwnedFd) -> Result<Inherit, CallError> {
    runtime.hold(fd).map_err(|e| CallError::new(ErrorCode::Internal, &e.to_string()))
}

fn unavailable(error: crate::jailed::JailedError) -> CallError {
    CallError::new(ErrorCode::Unavailable, &format!("the helper of this capability could not be started: {error}"))
}
