//! What a call names, from the text to an opened and judged thing.
//!
//! Runs in cap-fs. A [`Spot`] is a name in a workspace that has been judged by nobody yet; [`Spot::open`] and
//! [`Spot::parent`] are the two ways on, and both judge twice: the name as it was asked for, and where it led (T-02).

use crate::handles::Handles;
use nix::fcntl::OFlag;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use warden_beneath::errors::{OpError, shown};
use warden_beneath::parent::Parent;
use warden_beneath::paths::{self, OwnPaths, PathError, RelPath};
use warden_beneath::rules::Want;
use warden_beneath::tree::{Opened, Tree};
use warden_beneath::world::World;
use warden_proto::msg::fs::HelperTarget;

/// A name in a workspace.
#[derive(Debug)]
pub struct Spot<'w> {
    /// The workspace.
    pub tree: &'w Tree,
    /// Its number.
    pub index: usize,
    own: &'w OwnPaths,
    base: BorrowedFd<'w>,
    below: RelPath,
    lexical: RelPath,
    /// For messages.
    pub shown: String,
}

impl<'w> Spot<'w> {
    /// What `target` names.
    pub fn of(world: &'w World, handles: &'w Handles, target: &HelperTarget) -> Result<Self, OpError> {
        let (index, base, text) = match target {
            HelperTarget::Workspace { workspace, path } => (usize::from(*workspace), None, path),
            HelperTarget::At { dir, path } => {
                let dir = handles.dir(*dir)?;
                (dir.tree, Some(dir), path)
            }
        };
        let gone = || OpError::NotFound("there is no such workspace".to_owned());
        let tree = world.trees.get(index).ok_or_else(gone)?;
        let below = RelPath::parse(text).map_err(|e| unusable(tree, text, e))?;
        let (base, lexical) = match base {
            None => (tree.root.as_fd(), below.clone()),
            Some(dir) => {
                let stat = paths::facts(&dir.fd).map_err(OpError::system("look at", &dir.shown))?;
                let at = tree.own_path(&world.own, dir.fd.as_fd(), &stat, &dir.shown)?;
                (dir.fd.as_fd(), at.append(&below))
            }
        };
        let shown = shown(&tree.label, lexical.as_bytes());
        Ok(Spot { tree, index, own: &world.own, base, below, lexical, shown })
    }
}

fn unusable(tree: &Tree, text: &str, error: PathError) -> OpError {
    let shown = shown(&tree.label, text.as_bytes());
    match error {
        PathError::Outside => OpError::denied(&tree.grant, &shown, &error.to_string()),
        PathError::Long | PathError::Nul => OpError::Invalid(format!("`{shown}` {error}")),
    }
}

impl<'w> Spot<'w> {
    /// Opens what is named, links inside the workspace followed, and judges what was opened. It may be of any kind.
    pub fn open(&self, flags: OFlag, want: Want) -> Result<Opened, OpError> {
        self.tree.allow(&self.lexical, want, &self.shown)?;
        let fd = self.tree.open_beneath(self.base, &self.below, flags, &self.shown)?;
        self.tree.judge_opened(self.own, fd, want, &self.shown)
    }

    /// The directory that holds the last name; the name itself is judged for `want`, under the asked-for name and under
    /// the directory's own. The root has none.
    pub fn parent(&self, want: Want) -> Result<Parent, OpError> {
        let Some((above, name)) = self.below.split_last() else {
            let why = "is a directory's own root here; name it from the directory above";
            return Err(OpError::denied(&self.tree.grant, &self.shown, why));
        };
        self.tree.allow(&self.lexical, want, &self.shown)?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let fd = self.tree.open_beneath(self.base, &above, flags, &self.shown)?;
        let dir = self.tree.judge_opened(self.own, fd, Want::See, &self.shown)?;
        let path = dir.path.join(name);
        self.tree.allow(&path, want, &self.shown)?;
        Ok(Parent { fd: dir.fd, name: name.to_vec(), path })
    }

    /// Judges something that was made through this spot.
    pub fn judge_made(&self, fd: OwnedFd) -> Result<Opened, OpError> {
        self.tree.judge_opened(self.own, fd, Want::Change, &self.shown)
    }

    /// This spot and every directory above it, from the one just beneath its base on.
    pub fn steps(&self) -> Vec<Spot<'w>> {
        let mut steps = Vec::new();
        let mut below = self.below.clone();
        let mut lexical = self.lexical.clone();
        while !below.is_root() {
            let shown = shown(&self.tree.label, lexical.as_bytes());
            let up = (below.split_last().map(|(up, _)| up), lexical.split_last().map(|(up, _)| up));
            let (tree, index, own, base) = (self.tree, self.index, self.own, self.base);
            steps.push(Spot { tree, index, own, base, below, lexical, shown });
            (below, lexical) = (up.0.unwrap_or_default(), up.1.unwrap_or_default());
        }
        steps.reverse();
        steps
    }

    /// The last name as it was asked for; `.` for the root.
    pub fn last_name(&self) -> Vec<u8> {
        self.lexical.split_last().map_or_else(|| b".".to_vec(), |(_, name)| name.to_vec())
    }

    /// The directory above, if it is not the base itself.
    pub fn above(&self) -> Option<Spot<'w>> {
        let mut steps = self.steps();
        steps.pop();
        steps.pop()
    }
}
