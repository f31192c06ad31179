//! Commands of several layers, one list; and why one would need the path-checking door.

use std::path::PathBuf;
use std::time::Duration;

use super::{DEFAULT_DENY, Effective, EffectiveWorkspace, WidenError, command_layers, command_rule, pinned};
use crate::argv::ArgvShape;
use crate::glob::RuleKind;
use crate::limits::LimitKey;
use crate::model::{Access, Command, Layer, Policy, Scope};

/// A command as all layers together leave it. Argv shapes and guest environment stay with the layers.
#[derive(Debug, Clone)]
pub struct EffectiveCommand {
    pub name: String,
    pub path: PathBuf,
    pub sha256: Option<String>,
    /// The workspace it starts in: the one the policy fixes, else the first, if there is any.
    pub cwd: Option<usize>,
    pub env: Vec<(String, String)>,
    pub timeout: Duration,
    pub exec_workspace: bool,
    pub network: Vec<String>,
    pub unchecked: bool,
    /// `user:proc.command.cargo`
    pub rule: String,
}

/// One thing a direct grant of the workspaces would not enforce on a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoorReason {
    pub rule: String,
    pub reason: String,
}

pub(super) fn combine(
    layers: &[(Layer, Policy)],
    workspaces: &[EffectiveWorkspace],
) -> Result<Vec<EffectiveCommand>, WidenError> {
    let Some((own_layer, own)) = command_layers(layers).next_back() else {
        return Ok(Vec::new());
    };
    own.commands.iter().flatten().map(|command| combine_one(layers, own_layer, command, workspaces)).collect()
}

/// Whether the settings of a command stay within those of a layer above, or which key does not and why.
fn within(settings: &Command, above: &Command) -> Result<(), (&'static str, String)> {
    if let Some(host) = settings.network.iter().find(|host| !above.network.iter().any(|each| covers(each, host))) {
        return Err(("network", format!("the host {host} is not among its hosts")));
    }
    if let (Some(mine), Some(theirs)) = (&settings.sha256, &above.sha256)
        && mine != theirs
    {
        return Err(("sha256", "the two pins differ".to_owned()));
    }
    Ok(())
}

/// What a request asks for that a policy above it does not say: by which key, and why not. A flag is a person's own word of
/// this moment: it is answered, where two files are narrowed in silence (T-10).
fn asked_beyond<'c>(
    command: &Command,
    said: &[(Layer, &'c Command)],
) -> Option<(Layer, &'c Command, &'static str, &'static str)> {
    let beyond = |asks: bool, says: fn(&Command) -> bool, key, reason| {
        let without = said.iter().find(|(_, each)| asks && !says(each));
        without.map(|(layer, each)| (*layer, *each, key, reason))
    };
    let unchecked = "it is not to run without the rules of files there";
    let exec = "it is not to run programs of a workspace there";
    beyond(command.unchecked, |each| each.unchecked, "unchecked", unchecked)
        .or_else(|| beyond(command.exec_workspace, |each| each.exec_workspace, "exec_workspace", exec))
}

fn combine_one(
    layers: &[(Layer, Policy)],
    own_layer: Layer,
    command: &Command,
    workspaces: &[EffectiveWorkspace],
) -> Result<EffectiveCommand, WidenError> {
    let rule = command_rule(own_layer, &command.name);
    let widens = |ceiling: String, reason: String| WidenError { request: rule.clone(), ceiling, reason };
    let Some(path) = pinned(command) else {
        let reason = format!("no file was found for the command `{}`", command.name);
        return Err(widens(DEFAULT_DENY.to_owned(), reason));
    };
    // The settings are those of the last whole policy: a flag names a command and no more.
    let mut settings = (own_layer, command);
    let mut said: Vec<(Layer, &Command)> = Vec::new();
    for (layer, policy) in command_layers(layers) {
        let here = policy.commands.iter().flatten().find(|each| each.name == command.name);
        let Some(here) = here else {
            let reason = format!("`{}` is no command of {}", command.name, policy.file);
            return Err(widens(format!("{}:{DEFAULT_DENY}", layer.name()), reason));
        };
        let above = command_rule(layer, &here.name);
        if pinned(here) != Some(path) {
            let there = pinned(here).map_or_else(|| "no file".to_owned(), |path| path.display().to_string());
            return Err(widens(format!("{above}.path"), format!("{} is not {there}", path.display())));
        }
        if policy.scope == Scope::Whole {
            settings = (layer, here);
            said.push((layer, here));
        }
    }
    if said.iter().all(|(layer, _)| *layer != own_layer)
        && let Some((layer, above, key, reason)) = asked_beyond(command, &said)
    {
        return Err(widens(format!("{}.{key}", command_rule(layer, &above.name)), reason.to_owned()));
    }
    if said.is_empty() {
        said.push((own_layer, command));
    }
    let (settings_layer, settings) = settings;
    for (layer, above) in said.iter().filter(|(layer, _)| *layer != settings_layer) {
        within(settings, above)
            .map_err(|(key, reason)| widens(format!("{}.{key}", command_rule(*layer, &above.name)), reason))?;
    }
    let cwd = cwd_index(layers, settings_layer, settings, workspaces);
    Ok(EffectiveCommand {
        name: command.name.clone(),
        path: path.clone(),
        sha256: said.iter().find_map(|(_, each)| each.sha256.clone()),
        cwd,
        env: settings.env.clone(),
        timeout: said.iter().map(|(_, each)| each.timeout).min().unwrap_or(settings.timeout),
        exec_workspace: said.iter().all(|(_, each)| each.exec_workspace),
        network: settings.network.clone(),
        unchecked: said.iter().all(|(_, each)| each.unchecked),
        rule,
    })
}

/// A command's `cwd` names a workspace of its own layer; the task's label for the same place may be another.
fn cwd_index(
    layers: &[(Layer, Policy)],
    layer: Layer,
    command: &Command,
    workspaces: &[EffectiveWorkspace],
) -> Option<usize> {
    let Some(label) = command.cwd.as_ref() else {
        return (!workspaces.is_empty()).then_some(0);
    };
    let (_, policy) = layers.iter().find(|(each, _)| *each == layer)?;
    let named = policy.workspaces.iter().flatten().find(|each| each.label == *label);
    let same = workspaces.iter().position(|each| each.label == *label);
    match named {
        Some(named) => workspaces
            .iter()
            .position(|each| each.path == named.path)
            .or_else(|| workspaces.iter().position(|each| each.path.starts_with(&named.path))),
        None => same,
    }
}

/// Whether one host pattern lets through all that another does.
fn covers(wide: &str, narrow: &str) -> bool {
    wide == "*"
        || wide == narrow
        || wide.strip_prefix('*').is_some_and(|suffix| {
            let name = narrow.strip_prefix('*').unwrap_or(narrow);
            name.len() > suffix.len() && name.ends_with(suffix) || narrow == wide
        })
}

impl Effective {
    /// The last layer's argv shapes of a command, for the helper that checks them once more. Every layer's shapes are asked
    /// when a call is decided; these alone allow nothing.
    pub fn argv_shapes(&self, command_index: usize) -> &[ArgvShape] {
        let name = self.commands.get(command_index).map(|command| command.name.as_str());
        command_layers(&self.layers)
            .next_back()
            .and_then(|(_, policy)| policy.commands.iter().flatten().find(|each| Some(each.name.as_str()) == name))
            .map_or(&[], |command| &command.args)
    }

    /// Why a command would need the door: what the policy promises of files that a plain grant of the workspaces would not
    /// hold to. Commands see every workspace of the task. Empty: it needs none. (`None` for an index that is not there.)
    pub fn door_needed(&self, command_index: usize) -> Option<Vec<DoorReason>> {
        self.commands.get(command_index)?;
        let mut reasons = Vec::new();
        let mut because = |rule: &str, reason: String| reasons.push(DoorReason { rule: rule.to_owned(), reason });
        for workspace in &self.workspaces {
            let label = &workspace.label;
            if let Some(rule) = workspace.rules.iter().find(|rule| rule.kind == RuleKind::Deny) {
                because(&rule.id, format!("workspace `{label}` has paths denied to commands"));
            }
            if workspace.access == Access::ReadOnly {
                continue;
            }
            if let Some(rule) = workspace.rules.iter().find(|rule| rule.kind == RuleKind::DenyWrite) {
                because(&rule.id, format!("workspace `{label}` has paths that may be read and not written"));
            }
            because(&workspace.max_file_rule, format!("workspace `{label}` bounds the size of a file"));
            if self.limits.get(LimitKey::FsWritten).is_some() {
                let rule = self.limits.rule(LimitKey::FsWritten);
                because(rule, format!("what is written in workspace `{label}` is counted"));
            }
        }
        Some(reasons)
    }
}

#[cfg(test)]
mod tests {
    use super::covers;

    #[test]
    fn host_patterns_that_lie_within_others() {
        for (wide, narrow) in
            [("*", "a.b"), ("*", "*.b"), ("a.b", "a.b"), ("*.b", "a.b"), ("*.b", "*.b"), ("*.b", "*.a.b")]
        {
            assert!(covers(wide, narrow), "{wide} {narrow}");
        }
        for (wide, narrow) in
            [("a.b", "*"), ("*.b", "b"), ("*.b", "*"), ("*.a.b", "*.b"), ("*.b", "xb"), ("a.b", "*.b")]
        {
            assert!(!covers(wide, narrow), "{wide} {narrow}");
        }
    }
}
