//! Whether two processes or threads share their memory or their descriptors, by `kcmp`.
//!
//! Used by keepers, who count what a command's tree holds (T-06): a child between `vfork` and `exec` has its parent's
//! memory, which must not be counted twice, and a thread made with bare `clone` may have descriptors of its own, which
//! must not be missed. Needs the right to look at both, which a keeper has over its command and nobody else; a command's
//! own filter refuses the call.

use nix::errno::Errno;
use nix::unistd::Pid;

// linux/kcmp.h
const KCMP_VM: libc::c_int = 1;
const KCMP_FILES: libc::c_int = 2;

/// Whether both run in the same memory. ESRCH where one is gone, ENOSYS where the kernel has no `kcmp`.
pub fn same_memory(one: Pid, other: Pid) -> Result<bool, Errno> {
    compare(one, other, KCMP_VM)
}

/// Whether both have the same table of descriptors.
pub fn same_descriptors(one: Pid, other: Pid) -> Result<bool, Errno> {
    compare(one, other, KCMP_FILES)
}

fn compare(one: Pid, other: Pid, kind: libc::c_int) -> Result<bool, Errno> {
    // SAFETY: this call takes five numbers and only returns one.
    let answer = unsafe { libc::syscall(libc::SYS_kcmp, one.as_raw(), other.as_raw(), kind, 0_u64, 0_u64) };
    Errno::result(answer).map(|order| order == 0)
}

#[cfg(test)]
mod tests;
