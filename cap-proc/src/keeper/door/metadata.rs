//! Changes of mode, times and owner, for a command.
//!
//! Runs in the keeper. Landlock does not govern chmod, utimensat and chown: made by the command they would reach every file of
//! the uid. So they are the keeper's to do for every command, also where no workspace has rules, and here is the one place that
//! does them, by the door's own way: the path read once, what it names opened as a path only, its place and its rules judged,
//! and the act done on what was opened (T-01, T-02). A descriptor is judged like a path: one opened to read is enough for
//! fchmod and futimens, which would change a file of a read-only workspace (T-01).
//!
//! No mode with a set-id bit is ever set: the program would run as the task's user for any other user of the host, with no
//! jail around it (T-07, T-13).

use super::ask::{Change, Clock, Subject};
use super::caller::Caller;
use super::place::{Found, Place};
use super::{Answer, Door};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat};
use rustix::fs::{AtFlags, Timespec, Timestamps, UTIME_NOW, utimensat};
use std::os::fd::{AsFd, AsRawFd};
use warden_beneath::errors::shown;
use warden_beneath::paths;
use warden_beneath::rules::Want;

impl Door {
    /// chmod, utimensat, chown and their kin.
    pub(super) fn change(&mut self, caller: &Caller<'_>, of: Subject, change: Change) -> nix::Result<Answer> {
        // Read before it is asked whether the caller still waits.
        let times = match change {
            Change::Times { address: 0, .. } => Some(NOW),
            Change::Times { address, clock } => Some(read_times(caller, address, clock)?),
            Change::Mode(_) | Change::Owner(..) => None,
        };
        let found = self.subject(caller, of)?;
        self.allow_change(&found)?;
        match (change, times) {
            (Change::Mode(mode), _) => set_mode(&found, mode)?,
            (Change::Owner(user, group), _) => has_owner(&found, user, group)?,
            // With an empty path alone the times of a link itself can be set by descriptor.
            (_, Some(times)) => utimensat(&found.fd, c"", &times, AtFlags::EMPTY_PATH).map_err(errno)?,
            (Change::Times { .. }, None) => return Err(Errno::EINVAL),
        }
        Ok(Answer::Done)
    }

    /// What a call is of; asks whether the caller still waits, so everything else of it has been read before.
    pub(super) fn subject(&self, caller: &Caller<'_>, of: Subject) -> nix::Result<Found> {
        let (at, follow, or_descriptor) = match of {
            Subject::Path { at, follow, or_descriptor } => (at, follow, or_descriptor),
            Subject::Descriptor(number) => {
                let fd = caller.descriptor(number)?;
                caller.waits()?;
                return self.find_open(fd);
            }
        };
        let mut start = self.start_or_descriptor(caller, at, or_descriptor)?;
        match start.base.take_if(|_| start.path.is_empty()) {
            Some(fd) => self.find_open(fd),
            None => self.find(caller, &start, if follow { OFlag::empty() } else { OFlag::O_NOFOLLOW }),
        }
    }

    /// In the writable workspaces, by their rules, and in the private directory.
    pub(super) fn allow_change(&mut self, found: &Found) -> nix::Result<()> {
        let all = match &found.place {
            Place::Beneath(all) => all.clone(),
            Place::Elsewhere(own) if self.is_private(own)? => return Ok(()),
            Place::Elsewhere(_) => return Err(Errno::EPERM),
        };
        self.allow(&all, Want::Change)?;
        for inside in &all {
            let Some(tree) = self.world.trees.get(inside.tree) else { return Err(Errno::EACCES) };
            let text = || shown(&tree.label, inside.path.as_bytes());
            let allowed = self.links.allow_write(&self.world, tree, &found.stat, "");
            allowed.map_err(|error| self.denials.errno(&error, &text()))?;
        }
        Ok(())
    }

    /// Whether what lies there is the command's own.
    pub(super) fn is_private(&self, own: &[u8]) -> nix::Result<bool> {
        for private in &self.private {
            if paths::below(&self.world.own.of(private.as_fd())?, own).is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

const NOW: Timestamps = {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    Timestamps { last_access: now, last_modification: now }
};

pub(super) fn errno(error: rustix::io::Errno) -> Errno {
    Errno::from_raw(error.raw_os_error())
}

fn read_times(caller: &Caller<'_>, at: u64, clock: Clock) -> nix::Result<Timestamps> {
    let bytes = caller.memory(at, if clock == Clock::Seconds { 16 } else { 32 })?;
    let word = |index: usize| {
        let eight = bytes.get(index.saturating_mul(8)..).and_then(|rest| rest.first_chunk::<8>());
        eight.map(|eight| i64::from_le_bytes(*eight)).ok_or(Errno::EFAULT)
    };
    let time = |which: usize| {
        let (first, second) = (which.saturating_mul(2), which.saturating_mul(2).saturating_add(1));
        let (tv_sec, tv_nsec) = match clock {
            Clock::Nanoseconds => (word(first)?, word(second)?),
            // As the kernel: a part that is no part of a second is no time.
            Clock::Microseconds => match word(second)? {
                part @ 0..1_000_000 => (word(first)?, part.saturating_mul(1000)),
                _ => return Err(Errno::EINVAL),
            },
            Clock::Seconds => (word(which)?, 0),
        };
        Ok(Timespec { tv_sec, tv_nsec })
    };
    Ok(Timestamps { last_access: time(0)?, last_modification: time(1)? })
}

fn set_mode(found: &Found, mode: u32) -> nix::Result<()> {
    // A link opened as itself has no mode: following its descriptor's entry would say ELOOP or go on to its end.
    if found.kind() == SFlag::S_IFLNK {
        return Err(Errno::EOPNOTSUPP);
    }
    // By the descriptor's own entry, because an O_PATH descriptor has no fchmod.
    let path = format!("/proc/self/fd/{}", found.fd.as_raw_fd());
    fchmodat(AT_FDCWD, path.as_str(), Mode::from_bits_truncate(mode), FchmodatFlags::FollowSymlink)
}

/// Owners are never changed. `cp -p` and `sed -i` ask for the user and group that a file has, and are told that it has them;
/// `u32::MAX` means whichever it has.
fn has_owner(found: &Found, user: u32, group: u32) -> nix::Result<()> {
    let same = |asked: u32, found: u32| asked == u32::MAX || asked == found;
    if same(user, found.stat.st_uid) && same(group, found.stat.st_gid) { Ok(()) } else { Err(Errno::EPERM) }
}
