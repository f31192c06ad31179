//! Renaming.
//!
//! Runs in cap-fs, locked. Both parents are opened and judged, both names are judged, and neither last component is
//! followed. A directory does not move while its old or its new name decides what is denied beneath it. One that moves
//! into another workspace comes under other rules, so all beneath it is judged by both (T-02). Rules that begin with `**/`
//! hold under any name, so within a workspace a directory may move with denied files inside: they stay denied.

use crate::files::Files;
use crate::ops_remove::{begin, present};
use crate::spot::Spot;
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{SFlag, fstatat};
use rustix::fs::{RenameFlags, renameat_with};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use warden_beneath::errors::{OpError, shown};
use warden_beneath::moves::{self, End};
use warden_beneath::parent::Parent;
use warden_beneath::paths::{self, RelPath};
use warden_beneath::pulse::Pulse;
use warden_beneath::rules::Want;
use warden_beneath::walk::{Level, Step};
use warden_beneath::world::World;
use warden_proto::msg::fs::{FsReply, HelperTarget};

impl Files {
    /// `fs.rename`, replacing a file at the new name.
    pub fn rename(
        &mut self,
        target: &HelperTarget,
        to: &HelperTarget,
        pulse: &mut dyn Pulse,
    ) -> Result<FsReply, OpError> {
        let turn = self.world.turns.to_move();
        let _turn = turn.map_err(|_| OpError::Conflict("files of the task are being looked through".to_owned()))?;
        let from = Spot::of(&self.world, &self.handles, target)?;
        let to = Spot::of(&self.world, &self.handles, to)?;
        let (old, stat) = present(&from)?;
        let new = to.parent(Want::Change)?;
        let replaced = new.entry(&to.shown)?;
        let from_end = End { tree: from.tree, path: &old.path, stat: Some(&stat), shown: &from.shown };
        let to_end = End { tree: to.tree, path: &new.path, stat: replaced.as_ref(), shown: &to.shown };
        moves::allow_rename(&self.world, &mut self.links, from_end, to_end)?;
        if from.index != to.index {
            if paths::kind(&stat) == SFlag::S_IFDIR {
                judge_beneath(&self.world, (&from, &old), (&to, &new), pulse)?;
            } else {
                to.tree.max_file.hold(paths::size(&stat), &to.shown)?;
            }
        }
        // The bare call: libc makes an older one of it where there are no flags, which the filter does not allow.
        renameat_with(&old.fd, old.os_name(), &new.fd, new.os_name(), RenameFlags::empty())
            .map_err(|e| OpError::system("rename", &from.shown)(Errno::from_raw(e.raw_os_error())))?;
        Ok(FsReply::Done)
    }
}

/// Judges all beneath a directory by the rules of where it is and of where it will be.
fn judge_beneath(
    world: &World,
    (from, old): (&Spot<'_>, &Parent),
    (to, new): (&Spot<'_>, &Parent),
    pulse: &mut dyn Pulse,
) -> Result<(), OpError> {
    // A second view of the same spot, with the world's lifetime, for the walk.
    let tree = world.trees.get(from.index).ok_or_else(|| OpError::NotFound("there is no such workspace".to_owned()))?;
    let mut walk = begin(world, from, old)?;
    while let Some(step) = walk.next(pulse)? {
        let Some(level) = walk.here() else { continue };
        let path = match &step {
            Step::Found { name } => {
                judge_length(to, level, name)?;
                level.path.join(name)
            }
            Step::Entered => level.path.clone(),
            Step::Left { .. } => continue,
        };
        let text = shown(&tree.label, path.as_bytes());
        tree.allow(&path, Want::Change, &text)?;
        let moved = moved(&path, &old.path, &new.path);
        to.tree.allow(&moved, Want::Change, &text)?;
        if step == Step::Entered {
            tree.allow_move(&path, &text)?;
            to.tree.allow_move(&moved, &text)?;
        }
    }
    Ok(())
}

/// T-06: a file does not come to a workspace where it could not have been written.
fn judge_length(to: &Spot<'_>, level: &Level, name: &[u8]) -> Result<(), OpError> {
    let text = shown(&to.tree.label, name);
    let stat = fstatat(level, OsStr::from_bytes(name), AtFlags::AT_SYMLINK_NOFOLLOW);
    let stat = stat.map_err(OpError::system("look at", &text))?;
    if paths::kind(&stat) != SFlag::S_IFREG {
        return Ok(());
    }
    to.tree.max_file.hold(paths::size(&stat), &text)
}

/// Where `path`, which lies beneath `old`, will lie when `old` is `new`.
fn moved(path: &RelPath, old: &RelPath, new: &RelPath) -> RelPath {
    path.names().skip(old.names().count()).fold(new.clone(), |path, name| path.join(name))
}

#[cfg(test)]
mod tests;
