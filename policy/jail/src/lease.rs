//! Whether anybody has a file open for writing, asked of the kernel by a read lease.
//!
//! Used by keepers, who count what a command's files grow by and need to know when a file grows no more (T-06). A lease is
//! granted on a file of the caller's own user that nobody has open for writing, a shared writable mapping included, and is
//! given back in the next call.

use std::os::fd::{AsRawFd, BorrowedFd};

/// `true` also where the kernel cannot say: no leases on this file system, or a file of another user.
pub fn has_writers(file: BorrowedFd<'_>) -> bool {
    // SAFETY: takes a descriptor and two numbers.
    let taken = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK) };
    if taken != 0 {
        return true;
    }
    // SAFETY: the same.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_UNLCK) };
    false
}
