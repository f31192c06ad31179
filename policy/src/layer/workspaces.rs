//! Workspaces of several layers, one list: the last layer's labels and paths, with every layer's rules on them.

use std::path::Path;

use super::{DEFAULT_DENY, EffectiveWorkspace, WidenError, file_layers, workspace_rule};
use crate::glob::{DIRECTORY_DEPTH_MAX, Glob, PathRule, RUN_LATER_GLOBS, RuleKind};
use crate::model::{Access, Layer, Policy, Scope, Workspace};
use crate::units::format_size;

pub(super) fn combine(layers: &[(Layer, Policy)]) -> Result<Vec<EffectiveWorkspace>, WidenError> {
    for (layer, policy) in file_layers(layers) {
        policy.workspaces.iter().flatten().try_for_each(|workspace| check_path(layer, workspace))?;
    }
    let Some((own_layer, own)) = file_layers(layers).next_back() else {
        return Ok(Vec::new());
    };
    let mut result = Vec::new();
    for workspace in own.workspaces.iter().flatten() {
        result.push(combine_one(layers, own_layer, own, workspace)?);
    }
    Ok(result)
}

fn combine_one(
    layers: &[(Layer, Policy)],
    own_layer: Layer,
    own: &Policy,
    workspace: &Workspace,
) -> Result<EffectiveWorkspace, WidenError> {
    let rule = workspace_rule(own_layer, workspace);
    let mut narrowed = EffectiveWorkspace {
        label: workspace.label.clone(),
        path: workspace.path.clone(),
        access: workspace.access,
        symlinks: workspace.symlinks,
        max_file_bytes: workspace.max_file_bytes,
        lease: workspace.lease,
        guest_path: workspace.guest_path.clone(),
        max_file_rule: format!("{rule}.max_file"),
        rule,
        rules: Vec::new(),
    };
    // Flags say a path and a mode; what else holds there the policy above them says.
    let bare_request = own.scope == Scope::Request && file_layers(layers).count() > 1;
    let mut first_above = bare_request;
    for (layer, policy) in file_layers(layers) {
        if layer != own_layer {
            let above = ceiling_of(layer, policy, workspace, &narrowed.rule)?;
            let above_rule = workspace_rule(layer, above);
            if bare_request {
                check_asked(workspace, above, (&narrowed.rule, &above_rule))?;
            }
            narrowed.symlinks = above.symlinks && (first_above || narrowed.symlinks);
            narrowed.lease = above.lease && (first_above || narrowed.lease);
            if first_above || above.max_file_bytes < narrowed.max_file_bytes {
                narrowed.max_file_bytes = above.max_file_bytes;
                narrowed.max_file_rule = format!("{above_rule}.max_file");
            }
            first_above = false;
        } else if bare_request && workspace.asked.max_file {
            // No more than what is above it, as has been checked.
            narrowed.max_file_bytes = workspace.max_file_bytes;
            narrowed.max_file_rule = format!("{}.max_file", narrowed.rule);
        }
        let with_built_in = layer != own_layer || !bare_request;
        for other in policy.workspaces.iter().flatten() {
            carry_rules(layer, other, &narrowed.path, with_built_in, &mut narrowed.rules);
        }
    }
    Ok(narrowed)
}

/// A path on which no rule would be lost when it is carried from one workspace to another (T-10).
fn check_path(layer: Layer, workspace: &Workspace) -> Result<(), WidenError> {
    let shown = workspace.path.display();
    let reason = if workspace.path.to_str().is_none() {
        format!("the path {shown} is not UTF-8")
    } else if !workspace.path.is_absolute() {
        format!("the path {shown} is not absolute")
    } else if workspace.path.components().count() > DIRECTORY_DEPTH_MAX {
        format!("the path {shown} is more than {DIRECTORY_DEPTH_MAX} names deep")
    } else {
        return Ok(());
    };
    let request = workspace_rule(layer, workspace);
    Err(WidenError { request, ceiling: DEFAULT_DENY.to_owned(), reason })
}

/// The workspace of a layer that decides about a path: the one that holds it most closely.
pub(crate) fn closest<'p>(policy: &'p Policy, path: &Path) -> Option<&'p Workspace> {
    let holds = policy.workspaces.iter().flatten().filter(|workspace| path.starts_with(&workspace.path));
    holds.max_by_key(|workspace| (workspace.path.components().count(), workspace.access))
}

fn ceiling_of<'p>(
    layer: Layer,
    policy: &'p Policy,
    workspace: &Workspace,
    request: &str,
) -> Result<&'p Workspace, WidenError> {
    let widens = |ceiling: String, reason: String| WidenError { request: request.to_owned(), ceiling, reason };
    let shown = workspace.path.display();
    let Some(above) = closest(policy, &workspace.path) else {
        let reason = format!("{shown} lies in no workspace of {}", policy.file);
        return Err(widens(format!("{}:{DEFAULT_DENY}", layer.name()), reason));
    };
    if workspace.access > above.access {
        let reason = format!("{shown} is asked for {}, and is {} there", workspace.access.name(), above.access.name());
        return Err(widens(format!("{}.access", workspace_rule(layer, above)), reason));
    }
    Ok(above)
}

/// T-10: a flag is a person's own word of this moment, and is answered where it asks for more than there is.
fn check_asked(workspace: &Workspace, above: &Workspace, (rule, above_rule): (&str, &str)) -> Result<(), WidenError> {
    let widens = |key: &str, reason: String| {
        Err(WidenError { request: format!("{rule}.{key}"), ceiling: format!("{above_rule}.{key}"), reason })
    };
    let written = workspace.access == Access::ReadWrite && above.access == Access::ReadWrite;
    if workspace.asked.run_later && written && !above.allow_run_later {
        return widens("allow_run_later", "what runs later outside is not to be written there".to_owned());
    }
    if workspace.asked.max_file && workspace.max_file_bytes > above.max_file_bytes {
        let (asked, most) = (format_size(workspace.max_file_bytes), format_size(above.max_file_bytes));
        return widens("max_file", format!("a file of {asked} is asked for, and the longest there is {most}"));
    }
    Ok(())
}

/// Adds the rules that `other` has for paths of the workspace at `root`: all that could match there, rewritten to start at
/// `root`. A workspace read-only within a writable one stays so, by whichever label it is reached (T-01).
fn carry_rules(layer: Layer, other: &Workspace, root: &Path, with_built_in: bool, rules: &mut Vec<PathRule>) {
    let id = workspace_rule(layer, other);
    let mut add = |id: String, kind: RuleKind, glob: Glob| {
        rules.push(PathRule { layer, id, kind, glob });
    };
    // Paths without text or too deep were refused before: no rule is lost on the way.
    let inside = root.strip_prefix(&other.path).ok().and_then(Path::to_str);
    let beneath = other.path.strip_prefix(root).ok().and_then(Path::to_str).filter(|_| other.path != root);
    let place = |glob: &Glob| match (inside, beneath) {
        (Some(directory), _) => glob.from_inside(directory),
        (None, Some(directory)) => glob.beneath(directory).into_iter().collect(),
        (None, None) => Vec::new(),
    };
    for (index, glob) in other.deny.iter().enumerate() {
        for placed in place(glob) {
            add(format!("{id}.deny[{index}]"), RuleKind::Deny, placed);
        }
    }
    for (index, glob) in other.deny_write.iter().enumerate() {
        for placed in place(glob) {
            add(format!("{id}.deny_write[{index}]"), RuleKind::DenyWrite, placed);
        }
    }
    if with_built_in && other.access == Access::ReadWrite && !other.allow_run_later {
        for (index, text) in RUN_LATER_GLOBS.iter().enumerate() {
            for placed in Glob::parse(text).iter().flat_map(place) {
                add(format!("{id}.deny_write.builtin[{index}]"), RuleKind::DenyWrite, placed);
            }
        }
    }
    if let (Access::ReadOnly, Some(directory)) = (other.access, beneath)
        && let Some(glob) = Glob::exactly(directory)
    {
        add(format!("{id}.access"), RuleKind::DenyWrite, glob);
    }
}
