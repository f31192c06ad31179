//! A worker's own list of its open descriptors. Inside the jail no path can be opened, so `/proc` is not asked.

use std::os::fd::RawFd;

/// The open descriptors below `limit`, which must be the process's `RLIMIT_NOFILE`.
pub fn descriptors(limit: RawFd) -> Vec<RawFd> {
    let is_open = |number: &RawFd| {
        // SAFETY: asks for the flags of a number; one that is not open only gives an error.
        unsafe { libc::fcntl(*number, libc::F_GETFD) >= 0 }
    };
    (0..limit).filter(is_open).collect()
}
