//! A command's private directory: its HOME and TMPDIR, made before it starts and removed when its tree has ended.
//!
//! Landlock gives the command this one directory and nothing else of the scratch directory, so `/tmp` and `/dev/shm` stay
//! closed and no command sees another's (T-11). What is removed was made by the command, so nothing in it is trusted: it
//! is taken apart without following a link, without recursion and with two descriptors, however deep it is (T-06).

use crate::runner::Bench;
use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{FchmodatFlags, Mode, fchmod, fchmodat, mkdirat};
use nix::unistd::{Pid, UnlinkatFlags, unlinkat};
use std::ffi::{CStr, CString, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

const OPEN_DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// One command's own directory.
#[derive(Debug)]
pub struct PrivateDirectory {
    /// It.
    pub directory: OwnedFd,
    /// By what path the command names it.
    pub path: OsString,
}

impl PrivateDirectory {
    /// Makes one beneath the scratch directory, if the task has that.
    pub fn make(bench: &Bench) -> nix::Result<Option<Self>> {
        let Some((scratch, scratch_path)) = &bench.scratch else { return Ok(None) };
        // The keeper's number is no other living process's; one that is left from before makes this fail, not share.
        let name = Self::name_of(bench, Pid::this())?;
        mkdirat(scratch, name.as_c_str(), Mode::S_IRWXU)?;
        let directory = openat(scratch, name.as_c_str(), OPEN_DIRECTORY, Mode::empty())?;
        let mut path = scratch_path.clone();
        path.push(b'/');
        path.extend_from_slice(name.as_bytes());
        Ok(Some(Self { directory, path: OsString::from_vec(path) }))
    }

    /// Removes all that is in it. The tree has ended, so nothing changes meanwhile. It itself is the runner's to remove, and
    /// what is left where the keeper is ended before it is done.
    pub fn empty(self) {
        let _ = fchmod(&self.directory, Mode::S_IRWXU);
        let mut moved = 0_u64;
        while let Ok(true) = flatten(self.directory.as_fd(), &mut moved) {}
    }

    /// What a keeper calls its command's directory.
    pub fn name_of(bench: &Bench, keeper: Pid) -> nix::Result<CString> {
        CString::new(format!("{}{keeper}", bench.private_prefix())).map_err(|_| Errno::EINVAL)
    }
}

/// Removes a directory of `scratch` and all that is in it. No process may be left that works in it.
pub fn remove_left(scratch: &OwnedFd, name: &CStr) -> nix::Result<()> {
    // A command may take its own rights on it away; that it is a directory and no link is the keeper's doing.
    match fchmodat(scratch, name, Mode::S_IRWXU, FchmodatFlags::FollowSymlink) {
        Err(Errno::ENOENT) => return Ok(()),
        other => other?,
    }
    let directory = openat(scratch, name, OPEN_DIRECTORY, Mode::empty())?;
    let mut moved = 0_u64;
    while flatten(directory.as_fd(), &mut moved)? {}
    unlinkat(scratch, name, UnlinkatFlags::RemoveDir)
}

/// One round: unlinks the files of `root` and takes apart each of its directories by moving their directories up into
/// `root`. Says whether anything changed. Names are dealt with as they are read: there may be any number (T-06).
fn flatten(root: BorrowedFd<'_>, moved: &mut u64) -> nix::Result<bool> {
    let mut changed = false;
    each(root, |name, directory| {
        if !directory {
            changed |= unlinkat(root, name, UnlinkatFlags::NoRemoveDir).is_ok();
            return;
        }
        changed |= empty(root, name, moved).unwrap_or(false);
        changed |= unlinkat(root, name, UnlinkatFlags::RemoveDir).is_ok();
    })?;
    Ok(changed)
}

/// Unlinks the files of a directory in `root` and moves its directories up. Says whether anything changed.
fn empty(root: BorrowedFd<'_>, name: &CStr, moved: &mut u64) -> nix::Result<bool> {
    // A command may take its own rights on a directory away; it is its owner's, and known to be no link.
    fchmodat(root, name, Mode::S_IRWXU, FchmodatFlags::FollowSymlink)?;
    let inner = openat(root, name, OPEN_DIRECTORY, Mode::empty())?;
    let mut changed = false;
    each(inner.as_fd(), |entry, directory| {
        if !directory {
            changed |= unlinkat(&inner, entry, UnlinkatFlags::NoRemoveDir).is_ok();
            return;
        }
        // Only a directory that may be written can change its parent.
        let _ = fchmodat(&inner, entry, Mode::S_IRWXU, FchmodatFlags::FollowSymlink);
        *moved = moved.saturating_add(1);
        changed |= match renameat(&inner, entry, root, format!(".moved-{moved}").as_str()) {
            // The name is taken, by the command or by a keeper that was ended before it was done: the next may be free.
            Ok(()) | Err(Errno::EEXIST | Errno::ENOTEMPTY | Errno::ENOTDIR) => true,
            Err(_) => false,
        };
    })?;
    Ok(changed)
}

/// Calls `act` for what is in a directory, with the name and whether it is a directory, while the listing goes on. What
/// that skips, another round finds.
fn each(directory: BorrowedFd<'_>, mut act: impl FnMut(&CStr, bool)) -> nix::Result<()> {
    let mut listing = Dir::openat(directory, ".", OPEN_DIRECTORY, Mode::empty())?;
    for entry in listing.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            act(name, entry.file_type() == Some(Type::Directory));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deep_tree_full_of_links_is_taken_apart_and_nothing_outside() {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::write(scratch.path().join("victim"), "v").unwrap();
        let scratch_fd = OwnedFd::from(std::fs::File::open(scratch.path()).unwrap());
        let name = c"command-1".to_owned();
        mkdirat(&scratch_fd, name.as_c_str(), Mode::S_IRWXU).unwrap();
        let directory = openat(&scratch_fd, name.as_c_str(), OPEN_DIRECTORY, Mode::empty()).unwrap();
        let mut at = directory.try_clone().unwrap();
        for _ in 0..200 {
            mkdirat(&at, "d", Mode::S_IRWXU).unwrap();
            mkdirat(&at, "e", Mode::S_IRWXU).unwrap();
            nix::unistd::symlinkat("../victim", &at, "l").unwrap();
            at = openat(&at, "d", OPEN_DIRECTORY, Mode::empty()).unwrap();
        }
        nix::sys::stat::fchmod(&at, Mode::empty()).unwrap();
        PrivateDirectory { directory, path: OsString::new() }.empty();
        let emptied = std::fs::read_dir(scratch.path().join("command-1")).unwrap().count();
        assert_eq!(emptied, 0);
        remove_left(&scratch_fd, &name).unwrap();
        let left: Vec<_> = std::fs::read_dir(scratch.path()).unwrap().flatten().map(|e| e.file_name()).collect();
        assert_eq!(left, ["victim"]);
    }
}
