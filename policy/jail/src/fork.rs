//! Forking a process that has one thread, and giving a new program the signals it was born with.
//!
//! Used by cap-proc's runner and keepers, the only jailed processes that fork, so that they need no unsafe code of
//! their own. Trusts its caller.

use crate::notify::Listener;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::unistd::{ForkResult, Pid};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use thiserror::Error;

#[derive(Debug, Error)]
pub enum ForkError {
    #[error("cannot count the threads of this process: {0}")]
    Count(io::Error),
    #[error("this process has {0} threads; only one with a single thread may fork and go on")]
    Threads(usize),
    #[error("cannot fork: {0}")]
    Fork(Errno),
    #[error("cannot set signal {number} to its default: {source}")]
    Signal { number: i32, source: Errno },
    #[error("cannot unblock signals: {0}")]
    Unblock(Errno),
}

/// Which side of the fork this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forked {
    Parent { child: Pid },
    Child,
}

/// Forks, after making sure that no other thread exists whose locks the child would inherit shut for ever. Needs
/// `/proc`.
pub fn fork_single_threaded() -> Result<Forked, ForkError> {
    let threads = std::fs::read_dir("/proc/self/task").map_err(ForkError::Count)?.count();
    if threads != 1 {
        return Err(ForkError::Threads(threads));
    }
    // SAFETY: this process has exactly one thread (counted above), so the child may run any code.
    match unsafe { nix::unistd::fork() }.map_err(ForkError::Fork)? {
        ForkResult::Parent { child } => Ok(Forked::Parent { child }),
        ForkResult::Child => Ok(Forked::Child),
    }
}

/// The same, with the child born in a control group: moving one there afterwards takes the kernel 6 to 25 ms, and what it
/// does until then is in no bound (T-06).
pub fn fork_into(group: BorrowedFd<'_>) -> Result<Forked, ForkError> {
    let threads = std::fs::read_dir("/proc/self/task").map_err(ForkError::Count)?.count();
    if threads != 1 {
        return Err(ForkError::Threads(threads));
    }
    // linux/sched.h
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut request = [0_u64; 11];
    // `struct clone_args`: its first number are the flags, the fifth the child's last signal, the last the group.
    request[0] = CLONE_INTO_CGROUP;
    request[4] = libc::SIGCHLD as u64;
    request[10] = u64::try_from(group.as_raw_fd()).map_err(|_| ForkError::Fork(Errno::EBADF))?;
    // SAFETY: this process has exactly one thread (counted above), and no stack of its own makes the child a fork, so it
    // may run any code; the kernel reads 88 bytes of a request that lives past the call.
    let answer = unsafe { libc::syscall(libc::SYS_clone3, request.as_ptr(), size_of_val(&request)) };
    match Errno::result(answer).map_err(ForkError::Fork)? {
        0 => Ok(Forked::Child),
        child => Ok(Forked::Parent { child: Pid::from_raw(i32::try_from(child).unwrap_or(i32::MAX)) }),
    }
}

/// Every signal at its default and none blocked, as a program expects: the Rust runtime ignores SIGPIPE, and keepers
/// block SIGCHLD, and both would outlive an exec.
pub fn default_signals() -> Result<(), ForkError> {
    // The kernel's `struct sigaction` with a handler of 0: the default. The C library's call keeps two numbers to itself.
    let default = [0_u64; 4];
    for number in 1..=libc::SIGRTMAX() {
        if matches!(number, libc::SIGKILL | libc::SIGSTOP) {
            continue;
        }
        let old: *mut libc::c_void = std::ptr::null_mut();
        // SAFETY: the kernel reads one sigaction of 32 bytes; the default action runs no code of this process.
        let answer = unsafe { libc::syscall(libc::SYS_rt_sigaction, number, default.as_ptr(), old, 8_usize) };
        Errno::result(answer).map_err(|source| ForkError::Signal { number, source })?;
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).map_err(ForkError::Unblock)
}

/// Asks the kernel to run the keeper on the waiting process's CPU as soon as that one sleeps (Linux 6.6; `false` before).
///
/// Until the keeper has taken a notice, the call waits interruptibly: a signal with a handler that does not restart calls
/// turns it into EINTR, which no program expects of fork. So every microsecond until then counts.
pub fn hasten(listener: &Listener) -> bool {
    const NOTIF_SET_FLAGS: libc::c_ulong = 0x4008_2104;
    const SYNC_WAKE_UP: libc::c_ulong = 1;
    // SAFETY: this request takes its flags as a number.
    unsafe { libc::ioctl(listener.as_fd().as_raw_fd(), NOTIF_SET_FLAGS, SYNC_WAKE_UP) == 0 }
}

/// A child that has ended and is reaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    pub child: Pid,
    /// Its status, where it ended by itself.
    pub code: Option<i32>,
    /// The number of the signal that ended it, real-time signals included, for which nix has no name.
    pub signal: Option<i32>,
}

impl Ended {
    /// What `waitpid` has said of a child.
    pub(crate) fn from_status(child: Pid, status: libc::c_int) -> Ended {
        let code = libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
        let signal = libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status));
        Ended { child, code, signal }
    }
}

/// Reaps one child that has ended, without waiting; `None` where none has, ECHILD where there is no child at all.
pub fn reap() -> Result<Option<Ended>, Errno> {
    loop {
        let mut status = 0;
        // SAFETY: waits for our own children and writes one int.
        let answer = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        match Errno::result(answer) {
            Err(Errno::EINTR) => continue,
            Err(other) => return Err(other),
            Ok(0) => return Ok(None),
            Ok(child) => return Ok(Some(Ended::from_status(Pid::from_raw(child), status))),
        }
    }
}
