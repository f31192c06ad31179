//! A helper held in the middle of an act: stopped just before the n-th call of one kind that it makes of the kernel, so
//! that a test does to it what it does at a known point of the act and not near it.
//!
//! The test traces the process, which only root may: ours cannot be traced by their own user. The process itself and its
//! jail are what they always are.

use crate::processes::Process;
use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::time::{Duration, Instant};

/// Longest wait for one step of the process.
const PATIENCE: Duration = Duration::from_secs(20);

/// A traced process. Dropped, it is killed. Of one thread, as the thread of the test that traces it is one.
#[derive(Debug)]
pub struct Held {
    pid: Pid,
    gone: bool,
}

impl Held {
    /// Traces a process and stops it wherever it is.
    #[track_caller]
    pub fn take(process: &Process) -> Self {
        let pid = Pid::from_raw(process.pid);
        ptrace::seize(pid, Options::PTRACE_O_TRACESYSGOOD).unwrap_or_else(|e| panic!("{process:?}: {e}"));
        let mut held = Self { pid, gone: false };
        ptrace::interrupt(pid).expect("it is traced");
        held.next();
        held
    }

    /// Lets it go on to just before its `count`-th call `number` from now (`libc::SYS_…`).
    #[track_caller]
    pub fn until(&mut self, number: i64, count: usize) {
        let mut left = count;
        let mut signal = None;
        loop {
            ptrace::syscall(self.pid, signal).expect("it is stopped");
            signal = match self.next() {
                WaitStatus::PtraceSyscall(_) => None,
                WaitStatus::Stopped(_, signal) => Some(signal),
                _ => None,
            };
            let registers = ptrace::getregs(self.pid).expect("it is stopped");
            // On the way in the kernel has put this where the answer will stand.
            let entering = registers.rax as i64 == -i64::from(Errno::ENOSYS as i32);
            if signal.is_none() && entering && registers.orig_rax as i64 == number {
                left = left.saturating_sub(1);
                if left == 0 {
                    return;
                }
            }
        }
    }

    /// Lets it go on, as if it had never been held.
    pub fn release(mut self) {
        self.gone = true;
        ptrace::detach(self.pid, None).expect("it is stopped");
    }

    /// Ends it where it stands: of the call that it was about to make nothing happens.
    pub fn kill(mut self) {
        self.end();
    }

    #[track_caller]
    fn next(&mut self) -> WaitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            match waitpid(self.pid, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL)).expect("it is traced") {
                WaitStatus::StillAlive => assert!(Instant::now() < until, "it did not come to a stop"),
                WaitStatus::Exited(..) | WaitStatus::Signaled(..) => {
                    self.gone = true;
                    panic!("it ended before it came to its call");
                }
                stopped => return stopped,
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    fn end(&mut self) {
        if !std::mem::replace(&mut self.gone, true) {
            let _ = kill(self.pid, Signal::SIGKILL);
            // The tracer sees the end first; only then does the one who started it.
            while !matches!(waitpid(self.pid, Some(WaitPidFlag::__WALL)), Ok(WaitStatus::Signaled(..)) | Err(_)) {}
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.end();
    }
}
