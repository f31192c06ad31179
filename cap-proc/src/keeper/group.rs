//! A command's own control group, where the host has given us one: the kernel's bounds beside the keeper's counts.
//!
//! The keeper makes it before it enters its own domain, has the command born in it, and ends it before it reports the command's
//! end, by descriptors from before: it performs path calls of the command, so its domain lets it nowhere there. The runner removes it. The kernel's bounds hold what no sum of `/proc` shows: shared
//! memory that nobody maps, threads between two looks (T-06); and its end is one act, whatever is being forked (T-12).

use super::gauge::{THREADS_MAX, over};
use crate::orders::failed;
use crate::runner::Bench;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, read, write};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;
use warden_jail::groups::{self, Group};
use warden_proto::msg::error::CallError;
use warden_proto::msg::proc::{GroupSetup, ProcBounds};

/// What the group of an ended command gets to be empty and free; the next keeper of its number, or in the end the spawner,
/// removes what is left.
const PATIENCE: Duration = Duration::from_millis(200);

/// One command's group, by what its keeper may do with it.
#[derive(Debug)]
pub struct CommandGroup {
    group: Group,
    kill: OwnedFd,
    /// What the kernel counted, where it bounds memory.
    events: Option<OwnedFd>,
}

impl CommandGroup {
    /// Makes and bounds it, if the task has one to make it in.
    pub fn make(bench: &Bench) -> Result<Option<Self>, CallError> {
        let (Some(above), Some(setup)) = (&bench.group, bench.setup.group) else { return Ok(None) };
        let made = || {
            // T-12: one of this name was an ended keeper's, whose number this is now, and was still busy when the runner came.
            let group = Group::make_anew(above.as_fd(), &name_of(Pid::this())?, PATIENCE)?;
            bound(&group, setup, &bench.setup.bounds)?;
            let open = |file: &CStr, how: OFlag| openat(&group, file, how | OFlag::O_CLOEXEC, Mode::empty());
            let kill = open(c"cgroup.kill", OFlag::O_WRONLY)?;
            let events = if setup.memory { Some(open(c"memory.events", OFlag::O_RDONLY)?) } else { None };
            Ok(Self { group, kill, events })
        };
        made().map(Some).map_err(|errno: Errno| failed("make its control group", errno))
    }

    /// Everything that must stay open, by its numbers.
    pub fn numbers(&self) -> impl Iterator<Item = RawFd> {
        let files = [&self.kill].into_iter().chain(&self.events).map(AsRawFd::as_raw_fd);
        files.chain([self.group.as_fd().as_raw_fd()])
    }

    /// The end of everything in it; what it ran out of, if the kernel ended it for that.
    pub fn end(&self) -> Option<CallError> {
        let _ = write(&self.kill, b"1");
        let mut text = [0_u8; 512];
        let length = self.events.as_ref().and_then(|events| read(events, &mut text).ok()).unwrap_or(0);
        let text = String::from_utf8_lossy(text.get(..length).unwrap_or_default()).into_owned();
        let killed = text.lines().any(|line| line.strip_prefix("oom_kill ").is_some_and(|count| count.trim() != "0"));
        let message = "the command and its processes held more memory together than they may; the kernel ended them";
        killed.then(|| over("limits.memory", message))
    }
}

/// By the gauge's rules: its memory, swapped out or not, and as many threads as the gauge ends a tree for.
fn bound(group: &Group, setup: GroupSetup, bounds: &ProcBounds) -> Result<(), Errno> {
    if setup.pids {
        group.set(c"pids.max", &THREADS_MAX.to_string())?;
    }
    if setup.memory {
        group.set(c"memory.max", &bounds.memory_bytes.to_string())?;
        // A host without swap has no such file; and who is over is ended whole, as by the gauge.
        let _ = group.set(c"memory.swap.max", "0");
        let _ = group.set(c"memory.oom.group", "1");
    }
    Ok(())
}

/// No other living keeper of this runner has this number.
fn name_of(keeper: Pid) -> nix::Result<CString> {
    CString::new(format!("command-{keeper}")).map_err(|_| Errno::EINVAL)
}

/// Removes the group of a keeper that has ended, which has emptied it; for the runner.
pub fn remove_group(bench: &Bench, keeper: Pid) {
    if let (Some(above), Ok(name)) = (&bench.group, name_of(keeper)) {
        let _ = groups::remove(above.as_fd(), &name, PATIENCE);
    }
}

impl AsFd for CommandGroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.group.as_fd()
    }
}

/// What the kernel holds commands by in such groups, in results and records.
pub fn held(setup: Option<GroupSetup>) -> impl Iterator<Item = &'static str> {
    let all = setup.map(|GroupSetup { pids, memory }| {
        [(true, "cgroup.kill"), (pids, "cgroup pids.max"), (memory, "cgroup memory.max")]
    });
    all.into_iter().flatten().filter(|(holds, _)| *holds).map(|(_, name)| name)
}
