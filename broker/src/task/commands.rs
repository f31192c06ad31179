//! The start of cap-proc for one task: what its two processes are told, and the two of them together.
//!
//! Runs in the broker. Where it is known before the broker is ready for a task that a command will run, both may be started
//! early ([`Early`]): they shut their jails while the broker opens its log and shuts its own. They are asked nothing before
//! the log is open, and what is not asked for any more is killed.

use super::Spec;
use super::helpers::{Companion, Helper, too_long, unavailable};
use crate::jailed::{Birth, Jailed};
use crate::runtime::Runtime;
use crate::sealed;
use std::os::fd::OwnedFd;
use tokio::task::JoinHandle;
use warden_policy::{Access, ArgvShape, Feature, LimitKey, RuleKind};
use warden_proto::limits::{OUTPUT_MAX_BYTES, WORKSPACES_MAX};
use warden_proto::link_a::Inherit;
use warden_proto::msg::error::{CallError, ErrorCode};
use warden_proto::msg::fs::{self, PathRuleSetup, WorkspaceSetup};
use warden_proto::msg::life::Role;
use warden_proto::msg::proc::{
    ArgShape as ShapeSetup, CommandSetup, EnvVar, ProcBounds, ProcSetup, RunnerCommand, RunnerSetup, Wish,
};
use warden_proto::{List, Text, codec, socket};

/// Everything that the two processes are started with, made ready.
struct Pair {
    runtime: Runtime,
    setup: ProcSetup,
    runner_end: OwnedFd,
    inherit: Vec<Inherit>,
    front: Vec<Inherit>,
    output_max_bytes: u32,
}

impl Pair {
    fn prepare(runtime: &Runtime, id: [u8; 16], spec: &Spec, turns: &OwnedFd) -> Result<Pair, CallError> {
        let internal = |e: String| CallError::new(ErrorCode::Internal, &e);
        let (front_end, runner_end) = socket::pair().map_err(|e| internal(e.to_string()))?;
        let setup = spec.commands_setup(id)?;
        let mut inherit = vec![hold(runtime, spec.runner_document(&setup)?)?];
        inherit.extend(spec.workspace_descriptors());
        for object in spec.programs.iter().chain(&spec.scratch) {
            inherit.push(hold_copy(runtime, object)?);
        }
        inherit.extend(spec.group.map(|_| Inherit::Group));
        inherit.push(hold_copy(runtime, turns)?);
        let front = vec![hold(runtime, front_end)?];
        let output_max_bytes = spec.output_max_bytes();
        Ok(Pair { runtime: runtime.clone(), setup, runner_end, inherit, front, output_max_bytes })
    }

    /// cap-proc is two processes, which talk to each other from their start on.
    async fn start(self) -> Result<Helper, CallError> {
        let Pair { runtime, setup, runner_end, inherit, front, output_max_bytes } = self;
        let descriptors = u32::try_from(inherit.len().saturating_add(4)).unwrap_or(u32::MAX);
        let birth = Birth { role: Role::CapProcFront, descriptors: &[], inherit: front };
        // Both are asked for at once: the runner shuts its jail while the front starts. Of half a pair nothing is left.
        let (child, mut jailed) = tokio::try_join!(
            async { runtime.exec(Role::CapProcRunner, runner_end, inherit).await.map_err(|e| unavailable(e.into())) },
            async { Jailed::start(&runtime, birth, &setup).await.map_err(unavailable) },
        )?;
        let companion = Companion { child, descriptors };
        // Both outputs of one command, each as long as it may be (T-06).
        jailed.peer.hold(usize::try_from(output_max_bytes).unwrap_or(OUTPUT_MAX_BYTES).saturating_mul(2));
        Ok(Helper { jailed, companion: Some(companion) })
    }
}

/// Starts both and waits until both jails are shut.
pub(super) async fn start(runtime: &Runtime, id: [u8; 16], spec: &Spec, turns: &OwnedFd) -> Result<Helper, CallError> {
    Pair::prepare(runtime, id, spec, turns)?.start().await
}

/// The file by which a task's helpers take turns: the same for all of them, empty and sealed, there to be locked (T-02).
pub(super) fn turns() -> Result<OwnedFd, CallError> {
    sealed::holding("turns", &[]).map_err(|e| CallError::new(ErrorCode::Internal, &format!("a file for turns: {e}")))
}

/// A start that was begun early. Dropped, it ends what it has started.
pub struct Early {
    start: JoinHandle<Result<Helper, CallError>>,
    /// What the task's other helpers take turns with it by.
    turns: Option<OwnedFd>,
}

impl Early {
    /// Begins the start; it goes on whenever the broker waits. Must be called in a `LocalSet`.
    pub fn begin(runtime: &Runtime, id: [u8; 16], spec: &Spec) -> Result<Early, CallError> {
        let turns = turns()?;
        let start = tokio::task::spawn_local(Pair::prepare(runtime, id, spec, &turns)?.start());
        Ok(Early { start, turns: Some(turns) })
    }

    /// For the task that it was begun for.
    pub(super) fn take_turns(&mut self) -> Option<OwnedFd> {
        self.turns.take()
    }

    /// Waits until both jails are shut.
    pub(super) async fn started(mut self) -> Result<Helper, CallError> {
        let ended = (&mut self.start).await;
        ended.unwrap_or_else(|e| Err(CallError::new(ErrorCode::Internal, &format!("cap-proc's start was lost: {e}"))))
    }
}

impl Drop for Early {
    fn drop(&mut self) {
        // T-12: the future goes, with the children that it holds, each of which is killed when it is dropped.
        self.start.abort();
    }
}

impl Spec {
    pub(super) fn workspace_descriptors(&self) -> Vec<Inherit> {
        self.workspaces.iter().map(|w| Inherit::Workspace { id: w.id }).collect()
    }

    pub(super) fn growth_rule(&self) -> Text<256> {
        Text::cut(self.policy.limits().rule(LimitKey::FsWritten))
    }

    /// The task's workspaces with their rules: the same for cap-fs and for the doors of commands.
    pub(super) fn workspace_setups(&self) -> Result<List<WorkspaceSetup, WORKSPACES_MAX>, CallError> {
        let mut workspaces = Vec::new();
        for (index, workspace) in self.policy.workspaces().iter().enumerate() {
            let rules = self.policy.workspace_rules(index).iter().map(|rule| {
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

    /// Most of each output of a command that runs to its end.
    pub(crate) fn output_max_bytes(&self) -> u32 {
        let max = u64::try_from(OUTPUT_MAX_BYTES).unwrap_or(u64::MAX);
        u32::try_from(self.output_max_bytes.min(max)).unwrap_or(u32::MAX)
    }

    fn bounds(&self) -> ProcBounds {
        let (file_bytes, file_rule) = self.longest_file();
        ProcBounds {
            memory_bytes: COMMAND_MEMORY_MIN_BYTES.max(self.memory_bytes.saturating_mul(4)),
            file_bytes,
            file_rule: Text::cut(&file_rule),
            private_bytes: self.allowance.fs_written,
            processes: u32::try_from(self.allowance.processes).unwrap_or(u32::MAX),
            output_bytes: self.output_max_bytes,
            umask: self.umask,
        }
    }

    /// Longest file that a command may make, and by which rule: a process has one limit for all that it writes, so the least
    /// of them.
    fn longest_file(&self) -> (u64, String) {
        let whole = (self.allowance.fs_written, self.policy.limits().rule(LimitKey::FsWritten).to_owned());
        let writable = self.policy.workspaces().iter().filter(|w| w.access == Access::ReadWrite);
        let each = writable.map(|w| (w.max_file_bytes, w.max_file_rule.clone()));
        each.fold(whole, |least, one| if one.0 < least.0 { one } else { least })
    }

    fn commands_setup(&self, id: [u8; 16]) -> Result<ProcSetup, CallError> {
        let policy = &self.policy;
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
            task: id,
            commands: List::new(commands).map_err(too_long("commands"))?,
            bounds: self.bounds(),
            workspaces: u16::try_from(policy.workspaces().len()).unwrap_or(u16::MAX),
        })
    }

    fn runner_document(&self, front: &ProcSetup) -> Result<OwnedFd, CallError> {
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
            scratch: self.scratch.is_some(),
            namespaces: wish(self.policy.isolation().namespaces),
            group: self.group,
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

/// A copy of a descriptor, for a process to come.
pub(super) fn hold_copy(runtime: &Runtime, fd: &OwnedFd) -> Result<Inherit, CallError> {
    let copy = fd.try_clone().map_err(|e| CallError::new(ErrorCode::Internal, &e.to_string()))?;
    hold(runtime, copy)
}

fn hold(runtime: &Runtime, fd: OwnedFd) -> Result<Inherit, CallError> {
    runtime.hold(fd).map_err(|e| CallError::new(ErrorCode::Internal, &e.to_string()))
}
