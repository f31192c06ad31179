//! A process in namespaces of its own: user, pid, mount, network, System V and POSIX message objects, host name.
//!
//! Used by cap-proc's runner as its first act, and by `warden doctor`, which tries the same in a child. The process is
//! forked into them rather than moved, for three reasons: a step that fails costs a child, and its parent goes on without
//! namespaces as if nothing had been tried; only a child is process 1 of a pid namespace; and a program that is *executed*
//! in a user namespace has its memory open to every process of the user that made the namespace, undumpable or not,
//! because that user has all capabilities over it. A fork keeps the memory of who was executed outside (T-13).
//!
//! The user namespace maps one user and one group onto themselves, so that nobody's files change hands, and gives
//! capabilities over the new namespaces alone: `drop_privileges` takes them away again.

use crate::fork::{Ended, Forked};
use crate::process::{self, ProcessError};
use nix::errno::Errno;
use nix::unistd::Pid;
use std::fs::OpenOptions;
use std::io::{self, Write};
use thiserror::Error;

/// What the kernel makes anew for the child. The network is one without any way out, and its loopback is down: what
/// connections a command may have are given to it, and `/proc/net` shows nobody else's (T-11).
const KINDS: libc::c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS;

/// What holds who is in them, in results and records.
pub const HELD: [&str; 5] =
    ["user namespace", "pid namespace", "mount namespace", "network namespace", "ipc namespace"];

#[derive(Debug, Error)]
pub enum NamespaceError {
    #[error("cannot count the threads of this process: {0}")]
    Count(io::Error),
    #[error("this process has {0} threads; only one with a single thread may fork and go on")]
    Threads(usize),
    #[error("no new namespaces: {0}")]
    Fork(Errno),
    #[error("cannot write {file}: {source}")]
    Map { file: &'static str, source: io::Error },
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("it has number {0} in its own pid namespace instead of 1")]
    Number(i32),
    #[error("whoever has children born beside it must itself be a child of process 1, and is one of {0}")]
    Outside(i32),
}

/// The one user and group of a process; a process that has just been put into a user namespace cannot tell any more.
#[derive(Clone, Copy, Debug)]
pub struct OwnIds {
    uid: u32,
    gid: u32,
}

impl OwnIds {
    /// Those of the calling process.
    pub fn read() -> OwnIds {
        OwnIds { uid: nix::unistd::geteuid().as_raw(), gid: nix::unistd::getegid().as_raw() }
    }
}

/// Forks; the child is process 1 of new namespaces and must call [`settle`] next.
pub fn fork_apart() -> Result<Forked, NamespaceError> {
    let threads = std::fs::read_dir("/proc/self/task").map_err(NamespaceError::Count)?.count();
    if threads != 1 {
        return Err(NamespaceError::Threads(threads));
    }
    let none = std::ptr::null::<libc::c_void>();
    // SAFETY: this process has exactly one thread (counted above), and a null stack makes the call a fork, so the child
    // may run any code.
    let answer = unsafe { libc::syscall(libc::SYS_clone, KINDS | libc::SIGCHLD, none, none, none, 0) };
    match Errno::result(answer).map_err(NamespaceError::Fork)? {
        0 => Ok(Forked::Child),
        child => Ok(Forked::Parent { child: Pid::from_raw(i32::try_from(child).unwrap_or(i32::MAX)) }),
    }
}

/// Forks in such namespaces; the child is in a mount namespace of its own besides, in which everything lies where it did, and
/// is a child of the caller's own parent, process 1. What it holds open still leads to the mounts that it was opened on.
pub fn fork_beside() -> Result<Forked, NamespaceError> {
    let parent = nix::unistd::getppid().as_raw();
    if parent != 1 {
        return Err(NamespaceError::Outside(parent));
    }
    let threads = std::fs::read_dir("/proc/self/task").map_err(NamespaceError::Count)?.count();
    if threads != 1 {
        return Err(NamespaceError::Threads(threads));
    }
    let (flags, none) = (libc::CLONE_NEWNS | libc::CLONE_PARENT | libc::SIGCHLD, std::ptr::null::<libc::c_void>());
    // SAFETY: this process has exactly one thread (counted above), and a null stack makes the call a fork, so the child
    // may run any code.
    let answer = unsafe { libc::syscall(libc::SYS_clone, flags, none, none, none, 0) };
    match Errno::result(answer).map_err(NamespaceError::Fork)? {
        0 => Ok(Forked::Child),
        child => Ok(Forked::Parent { child: Pid::from_raw(i32::try_from(child).unwrap_or(i32::MAX)) }),
    }
}

/// In the child: takes its user and group over. Undumpable when it returns, as it should have been before.
pub fn settle(ids: OwnIds) -> Result<(), NamespaceError> {
    let number = Pid::this().as_raw();
    if number != 1 {
        return Err(NamespaceError::Number(number));
    }
    // The files of an undumpable process are root's, and the kernel asks for an owner who is mapped. As long after a
    // program's start as this is, it has been dumpable anyway; it has read no byte of anybody's.
    process::set_dumpable_on()?;
    let mapped = map(ids).and_then(|()| close_behind());
    process::set_dumpable_off()?;
    mapped
}

/// T-07: no user namespace can be made beneath this one, whatever a filter lets through: with one come capabilities over it,
/// and with them the kernel's least tested doors. The setting is this namespace's own.
fn close_behind() -> Result<(), NamespaceError> {
    write("/proc/sys/user/max_user_namespaces", "0")
}

/// Groups first: without `deny` an unprivileged process may map none, since it could shed one that denies it something.
fn map(OwnIds { uid, gid }: OwnIds) -> Result<(), NamespaceError> {
    write("/proc/self/setgroups", "deny")?;
    write("/proc/self/uid_map", &format!("{uid} {uid} 1\n"))?;
    write("/proc/self/gid_map", &format!("{gid} {gid} 1\n"))
}

/// The kernel takes such a file's whole text in one write.
fn write(file: &'static str, text: &str) -> Result<(), NamespaceError> {
    let opened = OpenOptions::new().write(true).open(file);
    opened
        .and_then(|mut opened| opened.write_all(text.as_bytes()))
        .map_err(|source| NamespaceError::Map { file, source })
}

/// Waits for the end of a child, the only one of the calling process.
pub fn await_end(child: Pid) -> Result<Ended, Errno> {
    let mut status = 0;
    loop {
        // SAFETY: waits for our own child and writes one int.
        let answer = unsafe { libc::waitpid(child.as_raw(), &raw mut status, 0) };
        match Errno::result(answer) {
            Err(Errno::EINTR) => continue,
            Err(other) => return Err(other),
            Ok(_) => return Ok(Ended::from_status(child, status)),
        }
    }
}
