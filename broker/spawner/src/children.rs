//! The processes that exist, by the broker's names, and their end.

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::HashMap;
use warden_proto::link_a::Event;

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
}
