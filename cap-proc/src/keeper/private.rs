//! A command's private directory: made before it starts, counted while it runs, and removed when its tree has ended.
//!
//! It is the command's HOME and TMPDIR. Where the command has a mount namespace of its own, it holds three directories instead:
//! HOME, and what is to be seen at `/tmp` and `/dev/shm` (`warden_jail::rooms`). Landlock gives the command these and nothing
//! else of the scratch directory, so no command sees another's (T-11). What is removed was made by the command, so nothing in it is trusted: it
//! is taken apart without following a link, without recursion and with two descriptors, however deep it is (T-06).

use super::contents::set_mode;
use crate::runner::Bench;
use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, mkdirat};
use nix::unistd::{Pid, UnlinkatFlags, unlinkat};
use std::ffi::{CStr, CString, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use warden_jail::rooms::HOME;

const OPEN_DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// One command's own directory.
#[derive(Debug)]
pub struct PrivateDirectory {
    /// What of it the command has, and its keeper: HOME, which may be all of it, then its places.
    pub rooms: Vec<Room>,
}

/// A directory that the command has.
#[derive(Debug)]
pub struct Room {
    /// It.
    pub directory: OwnedFd,
    /// By what path the command names it.
    pub path: OsString,
}

impl PrivateDirectory {
    /// Makes one beneath the scratch directory, if the task has that: one room, HOME and TMPDIR in one.
    pub fn make(bench: &Bench) -> nix::Result<Option<Self>> {
        let Some((directory, path)) = make_in_scratch(bench)? else { return Ok(None) };
        Ok(Some(Self { rooms: vec![Room { directory, path }] }))
    }

    /// The same with a room for each of these places, where it is still to be shown.
    pub fn make_with_places(bench: &Bench, places: &[&str]) -> nix::Result<Option<Self>> {
        let Some((directory, path)) = make_in_scratch(bench)? else { return Ok(None) };
        let room = |name: &str| {
            mkdirat(&directory, name, Mode::S_IRWXU)?;
            openat(&directory, name, OPEN_DIRECTORY, Mode::empty())
        };
        let mut rooms = Vec::new();
        if !places.contains(&HOME) {
            rooms.push(Room { directory: room("home")?, path: Path::new(&path).join("home").into() });
        }
        for place in places {
            let name = place.trim_start_matches('/').replace('/', "-");
            rooms.push(Room { directory: room(&name)?, path: OsString::from(place) });
        }
        Ok(Some(Self { rooms }))
    }

    /// Its HOME, which always comes first.
    pub fn home(&self) -> Option<&Room> {
        self.rooms.first()
    }

    /// Its TMPDIR: `/tmp` where that is its own, else its HOME.
    pub fn temporary(&self) -> Option<&Room> {
        self.rooms.iter().find(|room| room.path == "/tmp").or(self.home())
    }

    /// Every descriptor of it.
    pub fn descriptors(&self) -> impl Iterator<Item = &OwnedFd> {
        self.rooms.iter().map(|room| &room.directory)
    }

    /// Removes all that is in it. The tree has ended, so nothing changes meanwhile. It itself is the runner's to remove, and
    /// what is left where the keeper is ended before it is done.
    pub fn empty(self) {
        for Room { directory, .. } in &self.rooms {
            // A place is a path only here, and the command may have taken its own rights on it away.
            let _ = set_mode(directory, Mode::S_IRWXU);
            let Ok(directory) = openat(directory, ".", OPEN_DIRECTORY, Mode::empty()) else { continue };
            let mut moved = 0_u64;
            while let Ok(true) = flatten(directory.as_fd(), &mut moved) {}
        }
    }

    /// What a keeper calls its command's directory.
    pub fn name_of(bench: &Bench, keeper: Pid) -> nix::Result<CString> {
        CString::new(format!("{}{keeper}", bench.private_prefix())).map_err(|_| Errno::EINVAL)
    }
}

/// A new directory beneath the scratch directory, and its path.
fn make_in_scratch(bench: &Bench) -> nix::Result<Option<(OwnedFd, OsString)>> {
    let Some((scratch, scratch_path)) = &bench.scratch else { return Ok(None) };
    // The keeper's number is no other living process's; one that is left from before makes this fail, not share.
    let name = PrivateDirectory::name_of(bench, Pid::this())?;
    mkdirat(scratch, name.as_c_str(), Mode::S_IRWXU)?;
    let directory = openat(scratch, name.as_c_str(), OPEN_DIRECTORY, Mode::empty())?;
    let path = [scratch_path.as_slice(), b"/", name.as_bytes()].concat();
    Ok(Some((directory, OsString::from_vec(path))))
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
        PrivateDirectory { rooms: vec![Room { directory, path: OsString::new() }] }.empty();
        let emptied = std::fs::read_dir(scratch.path().join("command-1")).unwrap().count();
        assert_eq!(emptied, 0);
        remove_left(&scratch_fd, &name).unwrap();
        let left: Vec<_> = std::fs::read_dir(scratch.path()).unwrap().flatten().map(|e| e.file_name()).collect();
        assert_eq!(left, ["victim"]);
    }
}
