//! Decisions about paths: which workspace, which mode, which deny rule.
//!
//! What is decided here is decided on the path as it was written. The helper decides again, with the same rules, on what it
//! opened; this first look keeps a refused name from reaching the helper at all (T-01, T-02).

use super::{Effective, FsGrant, GrantScope, Judgement, LayerVerdict, PathArg, SecondPath};
use crate::glob::{PathRule, RuleKind};
use crate::layer::{DEFAULT_DENY, EffectiveWorkspace, file_layers, workspace_rule};
use crate::model::{Access, Layer, Policy};
use crate::path::{InvalidArgument, PathError, TaskPath};

/// What a call means to do with what a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Intent {
    pub read: bool,
    pub write: bool,
    pub create: bool,
    pub remove: bool,
}

impl Intent {
    pub const READ: Intent = Intent { read: true, write: false, create: false, remove: false };
    pub const WRITE: Intent = Intent { read: false, write: true, create: true, remove: false };
    pub const CREATE: Intent = Intent { read: false, write: false, create: true, remove: false };
    pub const REMOVE: Intent = Intent { read: false, write: false, create: false, remove: true };

    /// Whether the workspace is another after it.
    pub fn changes(self) -> bool {
        self.write || self.create || self.remove
    }
}

/// A file operation by its contract name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FsOp {
    ReadFile,
    WriteFile,
    ListDir,
    Metadata,
    EnsureDir,
    RemoveFile,
    RemoveDir,
    Rename,
    OpenDir,
    Open,
}

impl FsOp {
    pub const ALL: [FsOp; 10] = [
        FsOp::ReadFile,
        FsOp::WriteFile,
        FsOp::ListDir,
        FsOp::Metadata,
        FsOp::EnsureDir,
        FsOp::RemoveFile,
        FsOp::RemoveDir,
        FsOp::Rename,
        FsOp::OpenDir,
        FsOp::Open,
    ];

    pub fn capability(self) -> &'static str {
        match self {
            FsOp::ReadFile => "fs.read_file",
            FsOp::WriteFile => "fs.write_file",
            FsOp::ListDir => "fs.list_dir",
            FsOp::Metadata => "fs.metadata",
            FsOp::EnsureDir => "fs.ensure_dir",
            FsOp::RemoveFile => "fs.remove_file",
            FsOp::RemoveDir => "fs.remove_dir",
            FsOp::Rename => "fs.rename",
            FsOp::OpenDir => "fs.open_dir",
            FsOp::Open => "fs.open",
        }
    }

    /// What the operation does to its first path; a rename takes that one away and creates the second.
    pub(super) fn intent(self, given: Intent) -> Intent {
        match self {
            FsOp::ReadFile | FsOp::ListDir | FsOp::Metadata | FsOp::OpenDir => Intent::READ,
            FsOp::WriteFile => Intent::WRITE,
            FsOp::EnsureDir => Intent::CREATE,
            FsOp::RemoveFile | FsOp::RemoveDir | FsOp::Rename => Intent::REMOVE,
            FsOp::Open => given,
        }
    }
}

/// A path as it is shown, its workspace and itself, and the verdicts on it.
type JudgedPlace = (String, Option<(usize, TaskPath)>, Vec<LayerVerdict>);

impl Effective {
    pub(super) fn judge_files(
        &self,
        op: FsOp,
        path: PathArg<'_>,
        to: Option<PathArg<'_>>,
        intent: Intent,
    ) -> Result<Judgement, InvalidArgument> {
        if (op == FsOp::Rename) != to.is_some() {
            return Err(InvalidArgument::Missing("a rename, and nothing else, has a second path"));
        }
        let intent = op.intent(intent);
        // Both paths of a rename are judged, so that who asks why is told of both.
        let (target, first, mut layers) = self.judge_place(path, intent)?;
        let (mut second, mut second_place) = (None, None);
        if let Some(to) = to {
            let (shown, place, verdicts) = self.judge_place(to, Intent::CREATE)?;
            second = Some(SecondPath { path: shown, first_verdict: layers.len() });
            second_place = Some(place);
            layers.extend(verdicts);
        }
        let to = second_place.clone().flatten();
        let scope = match first {
            // No place to go is no scope either.
            Some((index, path)) if second_place.is_none() || to.is_some() => {
                self.workspaces.get(index).map(|workspace| {
                    GrantScope::Fs(FsGrant {
                        workspace: index,
                        path,
                        to,
                        access: workspace.access,
                        intent,
                        max_file_bytes: workspace.max_file_bytes,
                        lease: workspace.lease,
                        symlinks: workspace.symlinks,
                    })
                })
            }
            _ => None,
        };
        Ok(Judgement { target: Some(target), second, layers, scope })
    }

    /// One path as it is shown, where it is, if in a workspace, and what each layer says of it.
    fn judge_place(&self, path: PathArg<'_>, intent: Intent) -> Result<JudgedPlace, InvalidArgument> {
        Ok(match self.locate(path)? {
            Ok((index, path)) => {
                let layers = self.judge_path(index, &path, intent);
                (path.to_string(), Some((index, path)), layers)
            }
            Err(judgement) => (judgement.target.unwrap_or_default(), None, judgement.layers),
        })
    }

    /// The workspace and path a text names. The inner error is a finished denial.
    pub(super) fn locate(&self, path: PathArg<'_>) -> Result<Result<(usize, TaskPath), Judgement>, InvalidArgument> {
        let labels = self.workspaces.iter().map(|workspace| workspace.label.as_str());
        let (parsed, text) = match path {
            PathArg::Text(text) => (TaskPath::parse(text, labels), text),
            PathArg::Within { label, relative } => (TaskPath::within(label, relative), relative),
        };
        let shown = || Some(text.chars().take(256).collect::<String>());
        match parsed {
            Ok(path) => match self.workspaces.iter().position(|workspace| workspace.label == path.label) {
                Some(index) => Ok(Ok((index, path))),
                None => Ok(Err(Judgement::nowhere(shown(), format!("there is no workspace `{}`", path.label)))),
            },
            Err(PathError::Invalid(error)) => Err(error),
            Err(PathError::Outside(error)) => Ok(Err(Judgement::nowhere(shown(), error.to_string()))),
        }
    }

    /// Every layer's verdict on doing this with one path.
    pub(super) fn judge_path(&self, index: usize, path: &TaskPath, intent: Intent) -> Vec<LayerVerdict> {
        let Some(workspace) = self.workspaces.get(index) else {
            return vec![LayerVerdict::nowhere("there is no such workspace")];
        };
        if path.relative().is_empty() && intent.remove {
            return vec![LayerVerdict::nowhere("a workspace's root is not the task's to remove or rename")];
        }
        let own = file_layers(&self.layers).next_back().map(|(layer, _)| layer);
        file_layers(&self.layers)
            .map(|(layer, policy)| judge_layer(layer, policy, Some(layer) == own, workspace, path, intent))
            .collect()
    }
}

fn judge_layer(
    layer: Layer,
    policy: &Policy,
    own: bool,
    workspace: &EffectiveWorkspace,
    path: &TaskPath,
    intent: Intent,
) -> LayerVerdict {
    // Deny first: nothing a workspace allows takes it back.
    let applies = |rule: &&PathRule| rule.layer == layer && (rule.kind == RuleKind::Deny || intent.changes());
    let mut refusal: Option<&PathRule> = None;
    for rule in workspace.rules.iter().filter(applies) {
        let sooner = refusal.is_none_or(|found| rule.kind < found.kind);
        if sooner && rule.covers(path.relative()) {
            refusal = Some(rule);
        }
    }
    if let Some(rule) = refusal {
        let reason = match rule.kind {
            RuleKind::Deny => "the path is denied",
            RuleKind::DenyWrite => "the path may be read, not changed",
        };
        return LayerVerdict::denied(layer, rule.id.clone(), reason);
    }
    let declared = if own {
        policy.workspaces.iter().flatten().find(|each| each.label == workspace.label)
    } else {
        crate::layer::closest(policy, &workspace.path.join(path.relative()))
    };
    let Some(declared) = declared else {
        return LayerVerdict::denied(layer, DEFAULT_DENY.to_owned(), "no workspace of that policy holds the path");
    };
    let rule = workspace_rule(layer, declared);
    if intent.changes() && declared.access == Access::ReadOnly {
        return LayerVerdict::denied(layer, format!("{rule}.access"), "the workspace is read-only");
    }
    LayerVerdict::allowed(layer, rule, format!("the path lies in a {} workspace", declared.access.name()))
}
