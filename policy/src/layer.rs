//! The layers of policy put together: what a task may do is what every layer allows (T-10).
//!
//! Runs in the broker, once, before anything is started. Limits are the least, denies the union; what a later layer asks
//! for beyond an earlier one is an error here, so that nothing starts under a policy that means less than it says. What
//! cannot be compared (globs, argv shapes) is decided call by call, by each layer.

mod commands;
mod workspaces;

use std::path::PathBuf;
use std::time::Duration;

use crate::glob::PathRule;
use crate::limits::{EffectiveLimits, LimitKey, NarrowedLimit};
use crate::model::{
    APPROVAL_TIMEOUT_DEFAULT, Access, ApprovalVia, AuditSink, Browser, Command, CommandPath, Durability, Feature,
    Input, Layer, Llm, NetRule, Policy, Scope, Secret, Tools, Workspace,
};

pub use commands::{DoorReason, EffectiveCommand};
pub(crate) use workspaces::closest;

/// The rule of a call that no rule allows.
pub const DEFAULT_DENY: &str = "default-deny";

/// A layer that asks for more than one above it grants; nothing is started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{request}` is wider than `{ceiling}`: {reason}")]
pub struct WidenError {
    pub request: String,
    pub ceiling: String,
    pub reason: String,
}

/// A workspace as all layers together leave it.
#[derive(Debug, Clone)]
pub struct EffectiveWorkspace {
    pub label: String,
    pub path: PathBuf,
    pub access: Access,
    pub symlinks: bool,
    pub max_file_bytes: u64,
    pub lease: bool,
    pub guest_path: Option<String>,
    /// `user:fs.workspace.repo`
    pub rule: String,
    /// The rule `max_file_bytes` comes from.
    pub max_file_rule: String,
    pub(crate) rules: Vec<PathRule>,
}

/// How approvals are asked for.
#[derive(Debug, Clone)]
pub struct EffectiveApproval {
    /// Rule id and pattern, of every layer.
    pub ask: Vec<(String, String)>,
    pub via: ApprovalVia,
    pub timeout: Duration,
}

#[derive(Debug, Clone)]
pub struct EffectiveAudit {
    /// `None`: the usual place.
    pub dir: Option<PathBuf>,
    pub durability: Durability,
    pub sink: Option<AuditSink>,
}

#[derive(Debug, Clone)]
pub struct EffectiveIsolation {
    pub namespaces: Feature,
    pub cgroups: Feature,
    pub allow_root: bool,
}

/// What a task may do: the layers, and what follows from them together.
#[derive(Debug, Clone)]
pub struct Effective {
    pub(crate) layers: Vec<(Layer, Policy)>,
    pub(crate) limits: EffectiveLimits,
    pub(crate) workspaces: Vec<EffectiveWorkspace>,
    pub(crate) commands: Vec<EffectiveCommand>,
    pub(crate) llm: Option<Llm>,
    pub(crate) approval: EffectiveApproval,
    pub(crate) audit: EffectiveAudit,
    pub(crate) isolation: EffectiveIsolation,
    pub(crate) hash: String,
}

impl Effective {
    /// Puts the layers together, or says which asks for more than which allows. With the task's request alone, the request
    /// is the policy, and what it leaves out is denied.
    pub fn combine(
        system: Option<Policy>,
        user: Option<Policy>,
        task: Option<Policy>,
    ) -> Result<Effective, WidenError> {
        let given = [(Layer::System, system), (Layer::User, user), (Layer::Task, task)];
        let mut layers: Vec<(Layer, Policy)> =
            given.into_iter().filter_map(|(layer, policy)| policy.map(|policy| (layer, policy))).collect();
        if let [(_, only)] = layers.as_mut_slice() {
            only.scope = Scope::Whole;
        }
        let limits = combine_limits(&layers);
        let workspaces = workspaces::combine(&layers)?;
        let commands = commands::combine(&layers, &workspaces)?;
        let llm = combine_llm(&layers)?;
        let approval = combine_approval(&layers);
        let audit = combine_audit(&layers);
        let isolation = combine_isolation(&layers);
        let hash = crate::render::hash(&layers);
        Ok(Effective { layers, limits, workspaces, commands, llm, approval, audit, isolation, hash })
    }

    /// SHA-256 of all layers in canonical form, as lower-case hex.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    pub fn limits(&self) -> &EffectiveLimits {
        &self.limits
    }

    /// What a layer asks for and a layer above it narrows, in the order of keys.
    pub fn narrowed_limits(&self) -> Vec<NarrowedLimit> {
        LimitKey::ALL.into_iter().flat_map(|key| narrowed(&self.layers, key)).collect()
    }

    /// In the last layer's order; an index here is the one in a grant.
    pub fn workspaces(&self) -> &[EffectiveWorkspace] {
        &self.workspaces
    }

    /// Every rule about paths of a workspace, of all layers and of every workspace that holds or lies in it, relative to
    /// its root. Empty for an index that is not there.
    pub fn workspace_rules(&self, index: usize) -> &[PathRule] {
        self.workspaces.get(index).map_or(&[], |workspace| &workspace.rules)
    }

    pub fn commands(&self) -> &[EffectiveCommand] {
        &self.commands
    }

    pub fn llm(&self) -> Option<&Llm> {
        self.llm.as_ref()
    }

    pub fn approval_settings(&self) -> &EffectiveApproval {
        &self.approval
    }

    /// The rule that asks for a person's approval of this capability, if one does.
    pub fn approval(&self, capability: &str) -> Option<&str> {
        let asks = |(_, pattern): &&(String, String)| crate::capability::pattern_matches(pattern, capability);
        self.approval.ask.iter().find(asks).map(|(rule, _)| rule.as_str())
    }

    pub fn audit(&self) -> &EffectiveAudit {
        &self.audit
    }

    pub fn isolation(&self) -> &EffectiveIsolation {
        &self.isolation
    }

    /// Every declared secret; where two layers declare a name, the later one.
    pub fn secrets(&self) -> Vec<&Secret> {
        let mut secrets: Vec<&Secret> = Vec::new();
        for secret in self.layers.iter().flat_map(|(_, policy)| &policy.secrets) {
            secrets.retain(|each| each.name != secret.name);
            secrets.push(secret);
        }
        secrets
    }

    pub fn net(&self) -> &[NetRule] {
        self.last(|policy| policy.net.as_deref()).unwrap_or_default()
    }

    pub fn browser(&self) -> Option<&Browser> {
        self.last(|policy| policy.browser.as_ref())
    }

    pub fn input(&self) -> Option<&Input> {
        self.last(|policy| policy.input.as_ref())
    }

    pub fn tools(&self) -> Option<&Tools> {
        self.last(|policy| policy.tools.as_ref())
    }

    /// The layers there are, and the file of each.
    pub fn layer_files(&self) -> Vec<(Layer, &str)> {
        self.layers.iter().map(|(layer, policy)| (*layer, policy.file.as_str())).collect()
    }

    fn last<'a, T>(&'a self, section: impl Fn(&'a Policy) -> Option<T>) -> Option<T> {
        self.layers.iter().rev().find_map(|(_, policy)| section(policy))
    }
}

/// The layers that decide about files: whole policies, and a request that names workspaces.
pub(crate) fn file_layers(layers: &[(Layer, Policy)]) -> impl DoubleEndedIterator<Item = (Layer, &Policy)> {
    let speaks = |policy: &Policy| policy.scope == Scope::Whole || policy.workspaces.is_some();
    layers.iter().filter(move |(_, policy)| speaks(policy)).map(|(layer, policy)| (*layer, policy))
}

/// The layers that decide about commands.
pub(crate) fn command_layers(layers: &[(Layer, Policy)]) -> impl DoubleEndedIterator<Item = (Layer, &Policy)> {
    let speaks = |policy: &Policy| policy.scope == Scope::Whole || policy.commands.is_some();
    layers.iter().filter(move |(_, policy)| speaks(policy)).map(|(layer, policy)| (*layer, policy))
}

/// The layers that decide about the model.
pub(crate) fn llm_layers(layers: &[(Layer, Policy)]) -> impl DoubleEndedIterator<Item = (Layer, &Policy)> {
    let speaks = |policy: &Policy| policy.scope == Scope::Whole || policy.llm.is_some();
    layers.iter().filter(move |(_, policy)| speaks(policy)).map(|(layer, policy)| (*layer, policy))
}

pub(crate) fn workspace_rule(layer: Layer, workspace: &Workspace) -> String {
    format!("{}:fs.workspace.{}", layer.name(), workspace.label)
}

pub(crate) fn command_rule(layer: Layer, name: &str) -> String {
    format!("{}:proc.command.{name}", layer.name())
}

/// What a layer says of a limit, or its default where it is a whole policy, and whether it is the default.
fn said_of(policy: &Policy, key: LimitKey) -> Option<(u64, bool)> {
    let default = if policy.scope == Scope::Whole { key.default_value() } else { None };
    policy.limits.get(key).map(|value| (value, false)).or(default.map(|value| (value, true)))
}

fn narrowed(layers: &[(Layer, Policy)], key: LimitKey) -> Vec<NarrowedLimit> {
    let rule = |layer: Layer| format!("{}:limits.{}", layer.name(), key.name());
    let (mut found, mut least): (Vec<NarrowedLimit>, Option<(u64, Layer, bool)>) = (Vec::new(), None);
    for (layer, policy) in layers {
        if let (Some(asked), Some((value, winner, by_default))) = (policy.limits.get(key), least)
            && asked > value
        {
            let (asked_by, rule) = (rule(*layer), rule(winner));
            found.push(NarrowedLimit { key, asked, asked_by, value, rule, by_default });
        }
        if let Some((value, by_default)) = said_of(policy, key)
            && least.is_none_or(|(least, ..)| value < least)
        {
            least = Some((value, *layer, by_default));
        }
    }
    found
}

fn combine_limits(layers: &[(Layer, Policy)]) -> EffectiveLimits {
    EffectiveLimits::new(|key: LimitKey| {
        let least = layers
            .iter()
            .filter_map(|(layer, policy)| said_of(policy, key).map(|(value, _)| (value, layer)))
            .min_by_key(|(value, _)| *value);
        match least {
            Some((value, layer)) => (Some(value), format!("{}:limits.{}", layer.name(), key.name())),
            None => (key.default_value(), format!("default:limits.{}", key.name())),
        }
    })
}

/// One endpoint, the same in every layer that decides; a recording reaches nothing and lies beneath any.
fn combine_llm(layers: &[(Layer, Policy)]) -> Result<Option<Llm>, WidenError> {
    let Some((own_layer, own)) = llm_layers(layers).next_back() else {
        return Ok(None);
    };
    let Some(Llm::Endpoint { provider, base_url, model, .. }) = &own.llm else {
        return Ok(own.llm.clone());
    };
    for (layer, policy) in llm_layers(layers).filter(|(layer, _)| *layer != own_layer) {
        let widens = |ceiling: &str, reason: String| WidenError {
            request: format!("{}:llm", own_layer.name()),
            ceiling: format!("{}:{ceiling}", layer.name()),
            reason,
        };
        match &policy.llm {
            Some(Llm::Endpoint { provider: p, base_url: b, model: m, .. }) => {
                if (p, b) != (provider, base_url) {
                    let reason = format!("{} {base_url} is not the endpoint {} {b}", provider.name(), p.name());
                    return Err(widens("llm.base_url", reason));
                }
                if m != model {
                    return Err(widens("llm.model", format!("model {model} is not {m}")));
                }
            }
            Some(Llm::Replay { .. }) => {
                return Err(widens(
                    "llm.provider",
                    "an endpoint is asked for where only a recording is allowed".to_owned(),
                ));
            }
            None => return Err(widens(DEFAULT_DENY, "no model is allowed there".to_owned())),
        }
    }
    Ok(own.llm.clone())
}

fn combine_approval(layers: &[(Layer, Policy)]) -> EffectiveApproval {
    let mut ask = Vec::new();
    for (layer, policy) in layers {
        for (index, pattern) in policy.approval.ask.iter().enumerate() {
            ask.push((format!("{}:approval.ask[{index}]", layer.name()), pattern.clone()));
        }
    }
    let stated: Vec<ApprovalVia> = layers.iter().filter_map(|(_, policy)| policy.approval.via).collect();
    let via = if stated.contains(&ApprovalVia::Deny) { Some(ApprovalVia::Deny) } else { stated.last().copied() };
    let timeout = layers.iter().filter_map(|(_, policy)| policy.approval.timeout).min();
    EffectiveApproval { ask, via: via.unwrap_or_default(), timeout: timeout.unwrap_or(APPROVAL_TIMEOUT_DEFAULT) }
}

/// Where the ceiling says where the records go, nobody beneath it moves them (T-09).
fn combine_audit(layers: &[(Layer, Policy)]) -> EffectiveAudit {
    let audits = || layers.iter().map(|(layer, policy)| (*layer, &policy.audit));
    let ceiling = audits().find(|(layer, _)| *layer == Layer::System).map(|(_, audit)| audit);
    let last_dir = audits().rev().find_map(|(_, audit)| audit.dir.clone());
    let last_sink = audits().rev().find_map(|(_, audit)| audit.sink.clone());
    EffectiveAudit {
        dir: ceiling.and_then(|audit| audit.dir.clone()).or(last_dir),
        durability: audits().filter_map(|(_, audit)| audit.durability).max().unwrap_or_default(),
        sink: ceiling.and_then(|audit| audit.sink.clone()).or(last_sink),
    }
}

/// The strictest wish; root only where every policy says so.
fn combine_isolation(layers: &[(Layer, Policy)]) -> EffectiveIsolation {
    let all = || layers.iter().map(|(_, policy)| &policy.isolation);
    let says_root = |(_, policy): &(Layer, Policy)| {
        policy.isolation.allow_root == Some(true)
            || (policy.scope == Scope::Request && policy.isolation.allow_root.is_none())
    };
    EffectiveIsolation {
        namespaces: all().filter_map(|each| each.namespaces).max().unwrap_or_default(),
        cgroups: all().filter_map(|each| each.cgroups).max().unwrap_or_default(),
        allow_root: all().any(|each| each.allow_root == Some(true)) && layers.iter().all(says_root),
    }
}

/// The file of a command that has been pinned.
pub(crate) fn pinned(command: &Command) -> Option<&PathBuf> {
    match &command.path {
        CommandPath::File(path) => Some(path),
        CommandPath::Lookup(_) => None,
    }
}

#[cfg(test)]
mod tests;
