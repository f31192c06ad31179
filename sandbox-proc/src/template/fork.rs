//! The one system call that makes a worker.

use nix::errno::Errno;

/// Which side of a fork this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The template; the worker's process id.
    Template(i32),
    /// The worker.
    Worker,
}

/// Forks a child that is the *caller's parent's*: the spawner reaps and kills workers, and the template holds nothing
/// of them (T-12).
///
/// The C library's `fork` cannot do that, so its handlers do not run. What they would repair does not exist here: the
/// caller is the only thread of its process, so no lock is held by another; the process id is not cached (glibc 2.25);
/// the thread id that glibc caches is used by `abort` and `raise` only through `tgkill`, which the jail's filter kills
/// in any case, so that a panic still ends the process at once.
pub fn fork_for_parent() -> Result<Side, Errno> {
    let flags = libc::c_ulong::try_from(libc::CLONE_PARENT | libc::SIGCHLD).map_err(|_| Errno::EINVAL)?;
    let none = std::ptr::null::<libc::c_void>();
    // SAFETY: without CLONE_VM and with a null stack this is a fork: the child continues on a copy of our stack, and
    // the calling process has one thread. Null tid pointers are not used without their flags.
    let answer = unsafe { libc::syscall(libc::SYS_clone, flags, none, none, none, 0_u64) };
    match Errno::result(answer)? {
        0 => Ok(Side::Worker),
        pid => i32::try_from(pid).map(Side::Template).map_err(|_| Errno::EOVERFLOW),
    }
}

/// Ends a worker without the exit handlers and buffers that it has from the template.
pub fn leave(status: i32) -> ! {
    // SAFETY: ends the process; nothing of it runs after.
    unsafe { libc::_exit(status) }
}
