//! Removing files and directories.
//!
//! Runs in cap-fs, locked. The last component is never followed. A tree is looked at whole before anything of it is
//! removed: if something denied lies beneath, nothing is (T-02). Removing then judges every name again, since others may
//! have been at work meanwhile.

use crate::files::Files;
use crate::spot::Spot;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, SFlag};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use warden_beneath::errors::{OpError, shown};
use warden_beneath::moves::{self, End};
use warden_beneath::parent::Parent;
use warden_beneath::paths::{self, RelPath};
use warden_beneath::pulse::Pulse;
use warden_beneath::rules::Want;
use warden_beneath::walk::{Level, Step, Walk};
use warden_beneath::world::World;
use warden_proto::msg::fs::{FsReply, HelperTarget};

impl Files {
    /// `fs.remove_file`: a file, a link, or anything else that is no directory.
    pub fn remove_file(&mut self, target: &HelperTarget) -> Result<FsReply, OpError> {
        let spot = Spot::of(&self.world, &self.handles, target)?;
        let (parent, stat) = present(&spot)?;
        if paths::kind(&stat) == SFlag::S_IFDIR {
            return Err(OpError::system("remove as a file", &spot.shown)(Errno::EISDIR));
        }
        let end = End { tree: spot.tree, path: &parent.path, stat: Some(&stat), shown: &spot.shown };
        moves::allow_removal(&self.world, &mut self.links, end)?;
        remove(parent.fd.as_fd(), &parent.name, UnlinkatFlags::NoRemoveDir, &spot.shown)?;
        Ok(FsReply::Done)
    }

    /// `fs.remove_dir`, of an empty one.
    pub fn remove_dir(&mut self, target: &HelperTarget) -> Result<FsReply, OpError> {
        let spot = Spot::of(&self.world, &self.handles, target)?;
        let parent = present_directory(&spot)?;
        remove(parent.fd.as_fd(), &parent.name, UnlinkatFlags::RemoveDir, &spot.shown)?;
        Ok(FsReply::Done)
    }

    /// `fs.remove_dir` with all beneath it.
    pub fn remove_tree(&mut self, target: &HelperTarget, pulse: &mut dyn Pulse) -> Result<FsReply, OpError> {
        let spot = Spot::of(&self.world, &self.handles, target)?;
        let parent = present_directory(&spot)?;
        let mut walk = begin(&self.world, &spot, &parent)?;
        while let Some(step) = walk.next(pulse)? {
            if let (Some(level), Step::Found { .. } | Step::Entered) = (walk.here(), &step) {
                judge(&spot, level, &step)?;
            }
        }
        let mut walk = begin(&self.world, &spot, &parent)?;
        while let Some(step) = walk.next(pulse)? {
            let Some(level) = walk.here() else { continue };
            match &step {
                Step::Entered => judge(&spot, level, &step)?,
                Step::Found { name } => {
                    judge(&spot, level, &step)?;
                    remove(level.as_fd(), name, UnlinkatFlags::NoRemoveDir, &below(&spot, level, name))?;
                }
                Step::Left { name } => {
                    remove(level.as_fd(), name, UnlinkatFlags::RemoveDir, &below(&spot, level, name))?
                }
            }
        }
        remove(parent.fd.as_fd(), &parent.name, UnlinkatFlags::RemoveDir, &spot.shown)?;
        Ok(FsReply::Done)
    }
}

/// The parent of something that is there, and what it is.
pub fn present(spot: &Spot<'_>) -> Result<(Parent, FileStat), OpError> {
    let parent = spot.parent(Want::Change)?;
    match parent.entry(&spot.shown)? {
        Some(stat) => Ok((parent, stat)),
        None => Err(OpError::system("find", &spot.shown)(Errno::ENOENT)),
    }
}

fn present_directory(spot: &Spot<'_>) -> Result<Parent, OpError> {
    let (parent, stat) = present(spot)?;
    if paths::kind(&stat) != SFlag::S_IFDIR {
        return Err(OpError::system("remove as a directory", &spot.shown)(Errno::ENOTDIR));
    }
    spot.tree.allow_move(&parent.path, &spot.shown)?;
    Ok(parent)
}

/// A walk of a directory that is about to go or to move, each level checked to lie where it seems to.
pub fn begin<'w>(world: &'w World, spot: &Spot<'w>, parent: &Parent) -> Result<Walk<'w>, OpError> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    let name = RelPath::default().join(&parent.name);
    let fd = spot.tree.open_beneath(parent.fd.as_fd(), &name, flags, &spot.shown)?;
    let opened = spot.tree.judge_opened(&world.own, fd, Want::Change, &spot.shown)?;
    if opened.path != parent.path {
        return Err(OpError::Conflict(format!("`{}` was moved meanwhile", spot.shown)));
    }
    Walk::new(spot.tree, Some(&world.own), opened.fd, opened.path)
}

/// Whether a thing that the walk came upon may go.
fn judge(spot: &Spot<'_>, level: &Level, step: &Step) -> Result<(), OpError> {
    match step {
        Step::Found { name } => {
            let standing = spot.tree.rules.advance(&level.standing, name);
            spot.tree.allow_at(&standing, &level.path.join(name), Want::Change, &below(spot, level, name))
        }
        Step::Entered | Step::Left { .. } => {
            let text = shown(&spot.tree.label, level.path.as_bytes());
            spot.tree.allow_at(&level.standing, &level.path, Want::Change, &text)?;
            spot.tree.allow_move_at(&level.standing, &level.path, &text)
        }
    }
}

fn below(spot: &Spot<'_>, level: &Level, name: &[u8]) -> String {
    shown(&spot.tree.label, level.path.join(name).as_bytes())
}

fn remove(dir: BorrowedFd<'_>, name: &[u8], how: UnlinkatFlags, shown: &str) -> Result<(), OpError> {
    unlinkat(dir, OsStr::from_bytes(name), how).map_err(OpError::system("remove", shown))
}

#[cfg(test)]
mod tests;
