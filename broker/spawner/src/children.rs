//! The processes that exist, by the broker's names, and their end.

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use std::collections::HashMap;
use warden_proto::link_a::Event;

/// Filters that the runner installs, and its keepers inherit.
const RUNNER_FILTERS: u32 = 1;

/// Every live child but the templates.
///
/// A process id here is a child that has not been reaped, so it cannot have been given to another process.
#[derive(Debug, Default)]
pub struct Children {
    by_name: HashMap<u32, Pid>,
    by_pid: HashMap<Pid, u32>,
}

impl Children {
    /// Notes a new child.
    pub fn add(&mut self, child: u32, pid: Pid) {
        self.by_name.insert(child, pid);
        self.by_pid.insert(pid, child);
    }

    /// Kills a child; its end is reported when it is reaped.
    pub fn kill(&self, child: u32) {
        if let Some(pid) = self.by_name.get(&child) {
            let _ = kill(*pid, Signal::SIGKILL);
        }
    }

    /// Kills all.
    pub fn kill_all(&self) {
        for pid in self.by_name.values() {
            let _ = kill(*pid, Signal::SIGKILL);
        }
    }

    /// Reaps what has ended: events for the broker, and ids that are no child of the broker's (templates).
    pub fn reap(&mut self) -> (Vec<Event>, Vec<Pid>) {
        let (mut events, mut others) = (Vec::new(), Vec::new());
        loop {
            let (pid, code, signal) = match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, Some(code), None),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, None, Some(signal as i32)),
                Err(Errno::EINTR) => continue,
                Ok(WaitStatus::StillAlive) | Err(_) => return (events, others),
                Ok(_) => continue,
            };
            match self.by_pid.remove(&pid) {
                Some(child) => {
                    self.by_name.remove(&child);
                    events.push(Event::Exited { child, code, signal });
                }
                None => others.push(pid),
            }
        }
    }

    /// Kills what has become a child of this process and was not made by it: what a dead runner and its dead keeper left of a
    /// command's tree (T-12). What these have forked comes here when they have ended, so this is to be called after each end.
    /// They make no new ones meanwhile: a fork of theirs asks the keeper, and without it the kernel says ENOSYS. A keeper
    /// whose runner is gone is let be: it ends its own tree, and removes what that has left on disk. A number in the
    /// kernel's list is one that nobody has reaped, hence nobody else's.
    pub fn end_orphans(&self, template: Option<Pid>) -> nix::Result<()> {
        for pid in of_this_process()? {
            if !self.by_pid.contains_key(&pid) && Some(pid) != template && !is_keeper(pid) {
                let _ = kill(pid, Signal::SIGKILL);
            }
        }
        Ok(())
    }
}

/// Whether an orphan is under the runner's filter and no other. A command is under two more at least, and no process can
/// take one off. What cannot be told is no keeper.
fn is_keeper(pid: Pid) -> bool {
    let own = filters("self");
    let of_keepers = own.and_then(|own| own.checked_add(RUNNER_FILTERS));
    of_keepers.is_some() && filters(&pid.to_string()) == of_keepers
}

/// How many filters a process is under. The description begins with the process's own name, in which the kernel escapes
/// line breaks; nothing else in it is the process's choice.
fn filters(process: &str) -> Option<u32> {
    let text = std::fs::read(format!("/proc/{process}/status")).ok()?;
    let value = text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"Seccomp_filters:"))?;
    std::str::from_utf8(value).ok()?.trim().parse().ok()
}

/// Whether this process has no child any more, ended ones that are not reaped included.
pub fn none_left() -> bool {
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    waitid(Id::All, look) == Err(Errno::ECHILD)
}

/// The children of this single-threaded process, those included that have ended and are not reaped.
pub fn of_this_process() -> nix::Result<Vec<Pid>> {
    let own = Pid::this();
    let listed = std::fs::read_to_string(format!("/proc/self/task/{own}/children"));
    let listed = listed.map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))?;
    Ok(listed.split_ascii_whitespace().filter_map(|number| number.parse().ok()).map(Pid::from_raw).collect())
}

#[cfg(test)]
mod tests;
