//! Whether a keeper can be a door on this host, found out by trying.
//!
//! It reads its command's memory, which the kernel allows whoever may trace it. Hosts forbid that to users (Yama's
//! `ptrace_scope` 2 and 3); then there is no door here, and commands that need one are refused.

use nix::sys::prctl;
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::sys::wait::{WaitPidFlag, waitpid};
use std::io::IoSliceMut;
use std::process::exit;
use warden_jail::descriptors::sweep_descriptors;
use warden_jail::fork::{Forked, fork_single_threaded};

/// What is read of a child: the same place in its memory as in ours, since it is our fork.
static MARK: [u8; 8] = *b"the door";

/// Whether this process may read a child's memory. Forks; for who has one thread.
pub fn is_possible() -> bool {
    match fork_single_threaded() {
        Err(_) => false,
        Ok(Forked::Child) => {
            // A command may be looked at and we may not, so the child becomes like one; before, it gives up whatever a
            // neighbour could take from it (T-13).
            let ready = sweep_descriptors(&[]).is_ok() && prctl::set_dumpable(true).is_ok();
            if ready {
                let _ = raise(Signal::SIGSTOP);
            }
            exit(0)
        }
        Ok(Forked::Parent { child }) => {
            let mut read = [0; 8];
            let _ = waitpid(child, Some(WaitPidFlag::WUNTRACED));
            let from = RemoteIoVec { base: MARK.as_ptr().addr(), len: MARK.len() };
            let answer = process_vm_readv(child, &mut [IoSliceMut::new(&mut read)], &[from]);
            let _ = kill(child, Signal::SIGKILL);
            let _ = waitpid(child, None);
            answer == Ok(MARK.len()) && read == MARK
        }
    }
}
