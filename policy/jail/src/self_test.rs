//! The forbidden acts that a process tries on itself after lock-down.
//!
//! Runs in the process just jailed, before it reads a hostile byte. A filter that kills would kill the
//! tester, so each filter answers a few acts with an errno chosen in its rule file; without the filter
//! the kernel answers them differently. An act that answers otherwise means: no filter, the wrong one,
//! or a broken one, and the caller must exit (T-03).

use crate::role::Role;
use crate::rules;
use std::ffi::c_long;
use thiserror::Error;

/// One forbidden act; the comment says what happens where no filter is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code)] // which acts are used is for the rule files to say
pub enum Act {
    /// Opens `/` as a path: works.
    OpenRoot,
    /// Makes a unix socket: works.
    UnixSocket,
    /// Makes a TCP socket: works.
    InetSocket,
    /// Makes a UDP socket: works.
    InetDatagram,
    /// Asks to be traced by the parent: works.
    TraceMe,
    /// `execve` of a null path: EFAULT.
    NullExec,
    /// `unshare(0)`: works.
    UnshareNothing,
    /// Installs a null filter: EFAULT.
    NullFilter,
    /// Copies a mount by flags that no kernel knows: EINVAL.
    NullTree,
    /// Installs a null filter with a listener: EFAULT.
    NullListener,
}

#[derive(Debug, Error, PartialEq, Eq)]
#[error("self-test of {role}: {act:?} answered {found}, expected errno {expected}: the jail is not in force")]
pub struct SelfTestError {
    pub role: Role,
    pub act: Act,
    pub expected: i32,
    /// The errno, or 0 where the act succeeded.
    pub found: i32,
}

/// Tries the role's forbidden acts. On an error the process must exit at once.
pub fn run(role: Role) -> Result<(), SelfTestError> {
    for (act, expected) in rules::filter_rules(role).self_test {
        let found = attempt(*act);
        if found != *expected {
            return Err(SelfTestError { role, act: *act, expected: *expected, found });
        }
    }
    Ok(())
}

/// Number and arguments of an act.
const fn call(act: Act) -> (c_long, [c_long; 4]) {
    match act {
        Act::OpenRoot => {
            let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
            (libc::SYS_openat, [libc::AT_FDCWD as c_long, 0, flags as c_long, 0])
        }
        Act::UnixSocket => {
            let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
            (libc::SYS_socket, [libc::AF_UNIX as c_long, kind as c_long, 0, 0])
        }
        Act::InetSocket => inet(libc::SOCK_STREAM),
        Act::InetDatagram => inet(libc::SOCK_DGRAM),
        Act::TraceMe => (libc::SYS_ptrace, [libc::PTRACE_TRACEME as c_long, 0, 0, 0]),
        Act::NullExec => (libc::SYS_execve, [0; 4]),
        Act::UnshareNothing => (libc::SYS_unshare, [0; 4]),
        Act::NullTree => (libc::SYS_open_tree, [-1, 0, u32::MAX as c_long, 0]),
        Act::NullFilter => (libc::SYS_seccomp, [libc::SECCOMP_SET_MODE_FILTER as c_long, 0, 0, 0]),
        Act::NullListener => {
            let flag = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as c_long;
            (libc::SYS_seccomp, [libc::SECCOMP_SET_MODE_FILTER as c_long, flag, 0, 0])
        }
    }
}

const fn inet(kind: i32) -> (c_long, [c_long; 4]) {
    (libc::SYS_socket, [libc::AF_INET as c_long, (kind | libc::SOCK_CLOEXEC) as c_long, 0, 0])
}

/// The errno of one act, 0 for success. A descriptor that an act opened is closed again.
pub(crate) fn attempt(act: Act) -> i32 {
    let (number, mut args) = call(act);
    if act == Act::OpenRoot {
        args[1] = c"/".as_ptr() as c_long;
    }
    // SAFETY: every act passes numbers, null pointers the kernel refuses, or the static string "/".
    let answer = unsafe { libc::syscall(number, args[0], args[1], args[2], args[3]) };
    if answer < 0 {
        return std::io::Error::last_os_error().raw_os_error().unwrap_or(-1);
    }
    if matches!(act, Act::OpenRoot | Act::UnixSocket | Act::InetSocket | Act::InetDatagram) {
        // SAFETY: the kernel has just given this descriptor to us, nobody else knows it.
        unsafe { libc::close(answer as i32) };
    }
    0
}
