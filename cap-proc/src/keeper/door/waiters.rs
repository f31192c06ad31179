//! Opens that wait: one end of a FIFO waits for the other, which only another process of the same command may open.
//!
//! The keeper waits for nobody, so a child of its own does, which answers the caller itself and ends. It holds what the keeper
//! holds and does one thing; it ends with the keeper, with the caller, and with the command's tree (T-06, T-12).

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, getppid};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::exit;
use warden_jail::fork::{Forked, fork_single_threaded};
use warden_jail::notify::{Listener, Notice};

/// At once, for one command.
const WAITING_MAX: usize = 16;

/// One that waits.
#[derive(Debug)]
struct Waiter {
    pid: Pid,
    notice: Notice,
}

/// Those of one command.
#[derive(Debug, Default)]
pub struct Waiters {
    waiting: Vec<Waiter>,
}

impl Waiters {
    /// Whether this process is one of them.
    pub fn has(&self, pid: i32) -> bool {
        self.waiting.iter().any(|waiter| waiter.pid.as_raw() == pid)
    }

    /// All of them.
    pub fn pids(&self) -> Vec<Pid> {
        self.waiting.iter().map(|waiter| waiter.pid).collect()
    }

    /// Whether there is any.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Opens `path` for the caller as soon as that can be done.
    pub fn wait(
        &mut self,
        listener: &Listener,
        notice: &Notice,
        path: &OwnedFd,
        flags: OFlag,
        close_on_exec: bool,
    ) -> nix::Result<()> {
        if self.waiting.len() >= WAITING_MAX {
            return Err(Errno::ENFILE);
        }
        let keeper = Pid::this();
        match fork_single_threaded().map_err(|_| Errno::EAGAIN)? {
            Forked::Parent { child } => {
                self.waiting.push(Waiter { pid: child, notice: *notice });
                Ok(())
            }
            Forked::Child => {
                if prctl::set_pdeathsig(Signal::SIGKILL).is_err() || getppid() != keeper {
                    exit(1);
                }
                let name = format!("/proc/self/fd/{}", path.as_raw_fd());
                let answered = match open(name.as_str(), flags, Mode::empty()) {
                    Ok(opened) => listener.inject(notice, opened, close_on_exec, false).is_ok(),
                    Err(errno) => listener.refuse_with(notice, errno).is_ok(),
                };
                exit(i32::from(!answered))
            }
        }
    }

    /// Ends those whose callers are gone.
    pub fn look(&mut self, listener: &Listener) {
        for waiter in &self.waiting {
            if !listener.is_waiting(&waiter.notice) {
                // It has not been reaped, so the number is still its own.
                let _ = kill(waiter.pid, Signal::SIGKILL);
            }
        }
    }

    /// One has ended and been reaped.
    pub fn ended(&mut self, pid: Pid) {
        self.waiting.retain(|waiter| waiter.pid != pid);
    }
}
