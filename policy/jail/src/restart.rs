//! Makes a command's handler for ended children one that restarts calls.
//!
//! A fork that waits for its keeper can be interrupted by a signal until the keeper has taken the notice, and is then
//! answered EINTR, which fork never says and no program expects; Debian's `/bin/sh` gives up. The signal that comes just
//! then is nearly always SIGCHLD, of the process forked before. With SA_RESTART the kernel asks for the fork again instead.
//! So the flag is set in the command's own copy of the handler before the kernel reads it
//! (`docs/decisions/0009-handlers-of-ended-children-restart.md`).
//!
//! Runs in the keeper. Nothing rests on the flag for safety: a command that takes it away again, from another thread,
//! interrupts only its own forks. The number and the address are the command's words; what is written is one bit more of
//! what stood there, into memory that the waiting process itself can write, and the kernel lets the keeper write into
//! processes of its own tree only (T-13).

use crate::notify::{Listener, Notice, NotifyError};
use nix::sys::uio::{RemoteIoVec, process_vm_writev};
use nix::unistd::Pid;
use std::fs::File;
use std::io::IoSlice;
use std::os::unix::fs::FileExt;

/// Of the kernel's `struct sigaction`: handler, flags, restorer, mask, 8 bytes each.
const FLAGS_OFFSET: u64 = 8;

/// Sets the flag where a handler is set, and lets the call go on in any case. `false` where nobody waits any more. Only
/// for notices with [`Notice::is_child_handler`]; others are refused.
pub fn perform(listener: &Listener, notice: &Notice) -> Result<bool, NotifyError> {
    if notice.is_child_handler() {
        // A handler that could not be read or written is as the program set it: its forks may be interrupted.
        let _ = set_flag(listener, notice);
    }
    listener.proceed_with_handler(notice)
}

fn set_flag(listener: &Listener, notice: &Notice) -> Option<()> {
    let [_, action, ..] = notice.args;
    let at = action.checked_add(FLAGS_OFFSET)?;
    let memory = File::open(format!("/proc/{}/mem", notice.pid)).ok()?;
    let (mut handler, mut flags) = ([0_u8; 8], [0_u8; 8]);
    memory.read_exact_at(&mut handler, action).ok()?;
    memory.read_exact_at(&mut flags, at).ok()?;
    let (before, restart) = (u64::from_le_bytes(flags), u64::from(libc::SA_RESTART.unsigned_abs()));
    // SIG_DFL and SIG_IGN interrupt nothing; and what has the flag is left alone.
    if u64::from_le_bytes(handler) <= 1 || before & restart != 0 {
        return None;
    }
    let flags = (before | restart).to_le_bytes();
    let remote = [RemoteIoVec { base: usize::try_from(at).ok()?, len: flags.len() }];
    let pid = Pid::from_raw(i32::try_from(notice.pid).ok()?);
    // Only now is it sure that the memory is of the process that waits, not of a later one with its pid. Not through the
    // opened file: that would write where the process itself may not, and the keeper's domain reads in /proc only.
    if listener.is_waiting(notice) {
        process_vm_writev(pid, &[IoSlice::new(&flags)], &remote).ok()?;
    }
    Some(())
}
