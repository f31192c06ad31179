//! One call in, one verdict out. Every layer is asked, the first that refuses is named, and what nobody allows is denied (T-10).
//!
//! Runs in the broker for each call of each task. The call's text comes from a jailed peer; nothing here may panic on it.

mod files;
mod processes;
mod requests;

use std::time::Duration;

use crate::capability::{CAPABILITIES, canonical};
use crate::layer::{DEFAULT_DENY, Effective, llm_layers};
use crate::model::{Access, Layer};
use crate::path::{InvalidArgument, TaskPath};

pub use files::{FsOp, Intent};
pub use requests::Answered;

/// A path as a call gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathArg<'a> {
    /// `label:relative/path`, or relative to the first workspace.
    Text(&'a str),
    /// Relative to a workspace that is already known, as beneath a directory handle.
    Within { label: &'a str, relative: &'a str },
}

/// How a command is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpawnKind {
    /// `proc.spawn`: runs to its end.
    Spawn,
    /// `proc.start`: goes on under an alias.
    Start,
}

/// One call of a guest, as far as policy looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call<'a> {
    /// `to` belongs to `rename`; `intent` is looked at for `open` only, the other operations have their own.
    Fs { op: FsOp, path: PathArg<'a>, to: Option<PathArg<'a>>, intent: Intent },
    /// `args` without the command's own name; `env_names` are those the guest sets.
    Spawn {
        kind: SpawnKind,
        command: &'a str,
        args: &'a [&'a str],
        cwd: Option<PathArg<'a>>,
        env_names: &'a [&'a str],
        timeout: Option<Duration>,
    },
    /// `proc.read` and the like, on a process that was started as `command`.
    Process { capability: &'a str, command: &'a str },
    /// Everything that is decided by its name alone: `llm.*`, `policy.*`, and what no rule can grant yet.
    Named { capability: &'a str },
}

impl Call<'_> {
    /// The capability's name, with underscores.
    pub fn capability(&self) -> String {
        match self {
            Call::Fs { op, .. } => op.capability().to_owned(),
            Call::Spawn { kind: SpawnKind::Spawn, .. } => "proc.spawn".to_owned(),
            Call::Spawn { kind: SpawnKind::Start, .. } => "proc.start".to_owned(),
            Call::Process { capability, .. } | Call::Named { capability } => canonical(capability),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Allow(Grant),
    Deny(Denial),
}

/// A call that every layer allows, and what the broker needs to make it so and no wider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// One of each layer that decides, in the order system, user, task.
    pub rules: Vec<String>,
    pub reason: String,
    /// The rule that wants a person's approval first.
    pub approval: Option<String>,
    pub scope: GrantScope,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GrantScope {
    Fs(FsGrant),
    Proc(ProcGrant),
    /// A call on a process that was granted when it started.
    Process,
    Llm,
    Policy,
}

/// A path that may be used as the call says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FsGrant {
    pub workspace: usize,
    pub path: TaskPath,
    /// The second path of a rename, and its workspace.
    pub to: Option<(usize, TaskPath)>,
    pub access: Access,
    pub intent: Intent,
    pub max_file_bytes: u64,
    pub lease: bool,
    pub symlinks: bool,
}

/// A command that may be started as the call says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcGrant {
    pub command: usize,
    /// Where it starts: workspace and path; `None` in a task without workspaces.
    pub cwd: Option<(usize, TaskPath)>,
    /// The policy's variables; the guest's own, already checked by name, come after and win.
    pub env: Vec<(String, String)>,
    pub timeout: Duration,
    pub exec_workspace: bool,
    pub network: Vec<String>,
}

/// A call that is refused: the rule, and words for whoever asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    pub capability: String,
    pub target: Option<String>,
    pub rule: String,
    pub reason: String,
}

/// What one layer says of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerVerdict {
    /// `None` where no layer was asked, because no policy could allow it or none needs to.
    pub layer: Option<Layer>,
    pub allowed: bool,
    pub rule: String,
    pub reason: String,
}

impl LayerVerdict {
    pub(crate) fn allowed(layer: Layer, rule: String, reason: impl Into<String>) -> LayerVerdict {
        LayerVerdict { layer: Some(layer), allowed: true, rule, reason: reason.into() }
    }

    pub(crate) fn denied(layer: Layer, rule: String, reason: impl Into<String>) -> LayerVerdict {
        LayerVerdict { layer: Some(layer), allowed: false, rule, reason: reason.into() }
    }

    /// A denial that needs no layer: nothing could grant it.
    pub(crate) fn nowhere(reason: impl Into<String>) -> LayerVerdict {
        LayerVerdict { layer: None, allowed: false, rule: DEFAULT_DENY.to_owned(), reason: reason.into() }
    }
}

/// The path a rename leads to, and which verdicts are about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecondPath {
    pub path: String,
    /// The verdicts from this one on.
    pub first_verdict: usize,
}

/// Every layer's verdict and, where all allow, the grant's scope.
pub(crate) struct Judgement {
    pub target: Option<String>,
    pub second: Option<SecondPath>,
    pub layers: Vec<LayerVerdict>,
    pub scope: Option<GrantScope>,
}

impl Judgement {
    pub(crate) fn nowhere(target: Option<String>, reason: impl Into<String>) -> Judgement {
        Judgement { target, second: None, layers: vec![LayerVerdict::nowhere(reason)], scope: None }
    }
}

impl Effective {
    /// Decides one call. The error is for text that is no argument at all, whatever a policy says.
    pub fn decide(&self, call: &Call<'_>) -> Result<Verdict, InvalidArgument> {
        let capability = call.capability();
        let judgement = self.judge(call)?;
        Ok(self.fold(capability, judgement))
    }

    pub(crate) fn judge(&self, call: &Call<'_>) -> Result<Judgement, InvalidArgument> {
        match call {
            Call::Fs { op, path, to, intent } => self.judge_files(*op, *path, *to, *intent),
            Call::Spawn { command, args, cwd, env_names, timeout, .. } => {
                self.judge_spawn(command, args, *cwd, env_names, *timeout)
            }
            Call::Process { capability, command } => Ok(self.judge_process(&canonical(capability), command)),
            Call::Named { capability } => Ok(self.judge_named(&canonical(capability))),
        }
    }

    /// The first refusal, else the grant. Without a scope, or without a single layer's yes, there is no grant.
    pub(crate) fn fold(&self, capability: String, judgement: Judgement) -> Verdict {
        let Judgement { target, layers, scope, .. } = judgement;
        if let Some(refusal) = layers.iter().find(|each| !each.allowed) {
            let (rule, reason) = (refusal.rule.clone(), refusal.reason.clone());
            return Verdict::Deny(Denial { capability, target, rule, reason });
        }
        match scope {
            Some(scope) if !layers.is_empty() => {
                let approval = self.approval(&capability).map(str::to_owned);
                let reason = layers.last().map(|each| each.reason.clone()).unwrap_or_default();
                let rules = layers.into_iter().map(|each| each.rule).collect();
                Verdict::Allow(Grant { rules, reason, approval, scope })
            }
            _ => {
                let reason = "no rule allows it".to_owned();
                Verdict::Deny(Denial { capability, target, rule: DEFAULT_DENY.to_owned(), reason })
            }
        }
    }

    fn judge_named(&self, capability: &str) -> Judgement {
        if !CAPABILITIES.contains(&capability) {
            return Judgement::nowhere(None, "there is no such capability");
        }
        match capability {
            "llm.complete" | "llm.call_tools" => self.judge_llm(),
            // A task may always ask what it may do, and say what it did.
            _ if capability.starts_with("policy.") => Judgement {
                target: None,
                second: None,
                layers: vec![LayerVerdict {
                    layer: None,
                    allowed: true,
                    rule: "builtin:policy".to_owned(),
                    reason: "a task may always ask about its own policy".to_owned(),
                }],
                scope: Some(GrantScope::Policy),
            },
            _ => Judgement::nowhere(None, "no rule allows it"),
        }
    }

    fn judge_llm(&self) -> Judgement {
        let says = |(layer, policy): (Layer, &crate::model::Policy)| match &policy.llm {
            Some(_) => {
                LayerVerdict::allowed(layer, format!("{}:llm", layer.name()), "the configured model may be called")
            }
            // A recording reaches nothing, so it is beneath every policy.
            None if matches!(self.llm, Some(crate::model::Llm::Replay { .. })) => {
                LayerVerdict::allowed(layer, "builtin:replay".to_owned(), "a recording reaches nothing")
            }
            None => LayerVerdict::denied(layer, DEFAULT_DENY.to_owned(), "no model is configured"),
        };
        let layers = llm_layers(&self.layers).map(says).collect();
        Judgement { target: None, second: None, layers, scope: self.llm.as_ref().map(|_| GrantScope::Llm) }
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
