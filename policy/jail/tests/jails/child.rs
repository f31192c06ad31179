//! Runs an attempt in a forked, jailed child and says how it ended.

use std::io::Write;
use warden_jail::process;

/// How an attempt ended.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Ended {
    /// The act worked.
    Worked,
    /// The act was answered with this errno.
    Errno(i32),
    /// A filter killed the process.
    Killed,
    /// Another signal.
    Signal(i32),
    /// The jail itself could not be built: the test is broken, not the jail proved.
    NoJail,
}

/// An attempt: 0 for success, else the errno.
pub type Act = fn() -> i32;

const NO_JAIL: i32 = 255;

/// Forks, builds the jail as a process of ours does (capabilities dropped), then acts.
pub fn attempt(jail: impl FnOnce() -> bool, act: impl FnOnce() -> i32) -> Ended {
    let _ = std::io::stdout().flush();
    // SAFETY: this program has one thread, so the child may run ordinary code.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork failed");
    if pid == 0 {
        // A hanging attempt is a failed test, not a hanging run.
        // SAFETY: sets a timer of this child.
        unsafe { libc::alarm(20) };
        let code = if jail() { act() } else { NO_JAIL };
        exit(code);
    }
    ended(pid)
}

pub fn exit(code: i32) -> ! {
    // SAFETY: ends the child without the parent's exit handlers.
    unsafe { libc::_exit(code) }
}

pub fn ended(pid: i32) -> Ended {
    let mut status = 0;
    // SAFETY: waits for our own child and writes one int.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!(waited, pid, "waitpid failed");
    if libc::WIFSIGNALED(status) {
        return match libc::WTERMSIG(status) {
            libc::SIGSYS => Ended::Killed,
            other => Ended::Signal(other),
        };
    }
    match libc::WEXITSTATUS(status) {
        0 => Ended::Worked,
        NO_JAIL => Ended::NoJail,
        errno => Ended::Errno(errno),
    }
}

/// Makes the child what a jailed process is before lock-down, and reports what goes wrong.
pub fn reported<T, E: std::fmt::Display>(result: Result<T, E>) -> bool {
    match result {
        Ok(_) => true,
        Err(error) => {
            eprintln!("jail: {error}");
            false
        }
    }
}

pub fn unprivileged() -> bool {
    reported(process::set_dumpable_off()) && reported(process::drop_capabilities())
}

/// One system call; 0 or its errno.
pub fn call(number: libc::c_long, args: [libc::c_long; 6]) -> i32 {
    // SAFETY: the tests pass numbers, null pointers or pointers to values that live through the call.
    let answer = unsafe { libc::syscall(number, args[0], args[1], args[2], args[3], args[4], args[5]) };
    if answer >= 0 { 0 } else { std::io::Error::last_os_error().raw_os_error().unwrap_or(254) }
}

/// A call with fewer arguments, the rest zero.
#[macro_export]
macro_rules! call {
    ($number:expr $(, $arg:expr)*) => {{
        let mut args = [0 as libc::c_long; 6];
        let given: &[libc::c_long] = &[$($arg as libc::c_long),*];
        args[..given.len()].copy_from_slice(given);
        $crate::child::call($number, args)
    }};
}

/// Tries a table of acts, each in a jail of its own.
pub fn table(role: &str, jail: fn() -> bool, acts: &[(&str, Ended, Act)]) {
    for (name, expected, act) in acts {
        let found = attempt(jail, act);
        assert_eq!(found, *expected, "{role}: {name}");
    }
}
