//! What a command may do with a thing, by the rules of every workspace that it lies in.
//!
//! Runs in the keeper, on what was opened. The rules are cap-fs's, by the same code. A command hears an errno that programs
//! know: EACCES for what is denied, EROFS for what may not be changed there, ENOSPC and EFBIG for bounds; who watches hears the
//! rule ([`super::denials`]).

use super::Door;
use super::place::{Above, Found, Inside};
use nix::errno::Errno;
use nix::sys::stat::SFlag;
use std::os::fd::AsFd;
use warden_beneath::errors::{OpError, shown};
use warden_beneath::moves::{self, End};
use warden_beneath::paths;
use warden_beneath::rules::Want;
use warden_beneath::tree::Tree;

impl Door {
    pub(super) fn tree(&self, index: usize) -> nix::Result<&Tree> {
        self.world.trees.get(index).ok_or(Errno::EACCES)
    }

    /// The rules of every workspace around it, and then whether one of them may be changed.
    pub(super) fn allow(&mut self, all: &[Inside], want: Want) -> nix::Result<()> {
        for inside in all {
            let tree = self.tree(inside.tree)?;
            if tree.rules.is_empty() {
                continue;
            }
            let standing = tree.rules.against(&inside.path, want);
            if let Some(rule) = tree.rule_against(&standing, &inside.path, want) {
                let (rule, text) = (rule.id.clone(), shown(&tree.label, inside.path.as_bytes()));
                self.denials.note(&rule, &text);
                return Err(Errno::EACCES);
            }
        }
        let writable = |inside: &Inside| self.tree(inside.tree).is_ok_and(|tree| tree.writable);
        if want == Want::See || all.iter().any(writable) {
            return Ok(());
        }
        if let Some(inside) = all.first() {
            let tree = self.tree(inside.tree)?;
            let (rule, text) = (tree.grant.clone(), shown(&tree.label, inside.path.as_bytes()));
            self.denials.note(&rule, &text);
        }
        Err(Errno::EROFS)
    }

    /// A file that was found, its other names included. Neither FIFO nor socket nor device is opened in a workspace.
    pub(super) fn allow_file(&mut self, found: &Found, all: &[Inside], want: Want) -> nix::Result<()> {
        self.allow(all, want)?;
        if !matches!(found.kind(), SFlag::S_IFREG | SFlag::S_IFDIR) {
            return Err(Errno::EACCES);
        }
        if want == Want::Change
            && found.stat.st_mode & (libc::S_ISUID | libc::S_ISGID) != 0
            && found.kind() == SFlag::S_IFREG
        {
            // T-07, T-13: a write by way of a mapping would keep the bits, and so the task would have made the program.
            return Err(Errno::EPERM);
        }
        if found.stat.st_nlink <= 1 || found.kind() != SFlag::S_IFREG {
            return Ok(());
        }
        for inside in all {
            let Some(tree) = self.world.trees.get(inside.tree) else { continue };
            let text = shown(&tree.label, inside.path.as_bytes());
            let allowed = match want {
                Want::See => self.links.allow(&self.world, tree, &found.stat, want, &text),
                Want::Change => self.links.allow_write(&self.world, tree, &found.stat, &text),
            };
            allowed.map_err(|error| self.denials.errno(&error, &text))?;
        }
        Ok(())
    }

    /// Whether what has the last name may go, and what takes its place may come.
    pub(super) fn allow_rename(&mut self, from: &Above, to: &Above) -> nix::Result<()> {
        let (Some(old), Some(new)) = (from.inside(), to.inside()) else { return Ok(()) };
        let (was, is) = (entry(from)?.ok_or(Errno::ENOENT)?, entry(to)?);
        for (old, new) in old.iter().zip(&new) {
            let (Some(tree), Some(other)) = (self.world.trees.get(old.tree), self.world.trees.get(new.tree)) else {
                return Err(Errno::EACCES);
            };
            let (before, after) = (shown(&tree.label, old.path.as_bytes()), shown(&other.label, new.path.as_bytes()));
            let ends = (
                End { tree, path: &old.path, stat: Some(&was), shown: &before },
                End { tree: other, path: &new.path, stat: is.as_ref(), shown: &after },
            );
            let allowed = moves::allow_rename(&self.world, &mut self.links, ends.0, ends.1);
            allowed.map_err(|error| self.denials.errno(&error, &before))?;
        }
        self.hold_roots(from)?;
        self.hold_roots(to)
    }

    /// Whether what has the last name may go.
    pub(super) fn allow_removal(&mut self, above: &Above) -> nix::Result<()> {
        let (Some(all), Some(stat)) = (above.inside(), entry(above)?) else { return Ok(()) };
        for inside in &all {
            let Some(tree) = self.world.trees.get(inside.tree) else { return Err(Errno::EACCES) };
            let text = shown(&tree.label, inside.path.as_bytes());
            let end = End { tree, path: &inside.path, stat: Some(&stat), shown: &text };
            let allowed = moves::allow_removal(&self.world, &mut self.links, end);
            allowed.map_err(|error| self.denials.errno(&error, &text))?;
        }
        self.hold_roots(above)
    }

    /// A directory that holds a workspace's own root stays, as one with a mount in it would: by moving it a command could
    /// make a workspace hard to find while it is looked for (T-02).
    fn hold_roots(&self, above: &Above) -> nix::Result<()> {
        let mut place = self.world.own.of(above.fd.as_fd())?;
        if place.last() != Some(&b'/') {
            place.push(b'/');
        }
        place.extend_from_slice(&above.name);
        for tree in &self.world.trees {
            if paths::below(&place, &self.world.own.of(tree.root.as_fd())?).is_some() {
                return Err(Errno::EBUSY);
            }
        }
        Ok(())
    }
}

/// What has the last name, itself.
pub(super) fn entry(above: &Above) -> nix::Result<Option<nix::sys::stat::FileStat>> {
    let flags = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
    match nix::sys::stat::fstatat(&above.fd, above.os_name(), flags) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::ENOENT) => Ok(None),
        Err(other) => Err(other),
    }
}

/// What a program is told.
pub(super) fn errno_of(error: &OpError) -> Errno {
    match error {
        OpError::System { errno, .. } => *errno,
        OpError::NotFound(_) => Errno::ENOENT,
        OpError::Bound { .. } | OpError::Limit(_) => Errno::ENOSPC,
        OpError::Conflict(_) => Errno::EBUSY,
        OpError::Invalid(_) => Errno::EINVAL,
        OpError::Stopped(_) => Errno::EAGAIN,
        OpError::Denied { .. } => Errno::EACCES,
    }
}
