//! What a person's signals do to broker and spawner outside of a session that watches them.
//!
//! Used by the broker from its first line to its session, and by the spawner for its whole life. Ctrl-C reaches a whole
//! process group at once: without this the spawner could die of it before the broker has heard it, and the broker of a signal
//! where it should end with a status.

use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction};
use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, Ordering};

/// What ends a command, when a person says so.
const ENDS: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGQUIT];
/// As shells tell an end by a signal.
const STATUS_BASE: c_int = 128;

/// A session watches: the handler that it installs calls the one that was there, which has nothing to do any more.
static HANDED_OVER: AtomicBool = AtomicBool::new(false);

extern "C" fn end_with_status(signal: c_int) {
    if HANDED_OVER.load(Ordering::Relaxed) {
        return;
    }
    // SAFETY: _exit is async-signal-safe and touches no memory of this process.
    unsafe { libc::_exit(STATUS_BASE.saturating_add(signal)) }
}

/// From now on SIGINT, SIGTERM and SIGQUIT end this process with 130, 143 and 131, until a session watches them. What it was
/// started with to ignore, as `nohup` and shells do for what they put behind, it goes on to ignore.
pub fn end_with_statuses() -> nix::Result<()> {
    let action = SigAction::new(SigHandler::Handler(end_with_status), SaFlags::empty(), SigSet::empty());
    for signal in ENDS {
        // SAFETY: the handler calls nothing that is not async-signal-safe.
        let before = unsafe { sigaction(signal, &action) }?;
        if matches!(before.handler(), SigHandler::SigIgn) {
            // SAFETY: this puts back what was there.
            unsafe { sigaction(signal, &before) }?;
        }
    }
    Ok(())
}

/// Whether this process was started to ignore SIGHUP, as `nohup` starts what is to outlive its terminal. Asked before anything
/// takes the signal.
pub fn ignores_hangup() -> bool {
    // SAFETY: all-zero is a valid value of this plain struct.
    let mut now: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: without a new action the call only writes the one that there is, to a struct of ours.
    let asked = unsafe { libc::sigaction(libc::SIGHUP, std::ptr::null(), &raw mut now) };
    asked == 0 && now.sa_sigaction == libc::SIG_IGN
}

/// Signals that wait, and what was let through before.
#[derive(Debug)]
pub struct Held(SigSet);

/// Lets signals of a person, SIGHUP among them, wait: for the broker until its session watches them, and for the spawner,
/// which inherits it, for ever. What ends the spawner is the end of its broker (T-12). Programs that it executes begin with
/// nothing held.
pub fn hold() -> nix::Result<Held> {
    let mut set = SigSet::empty();
    ENDS.into_iter().chain([Signal::SIGHUP]).for_each(|signal| set.add(signal));
    let held = set.thread_swap_mask(SigmaskHow::SIG_BLOCK).map(Held)?;
    HANDED_OVER.store(true, Ordering::Relaxed);
    Ok(held)
}

impl Held {
    /// Lets through again what was let through before; what has come meanwhile comes now.
    pub fn release(self) -> Result<(), Errno> {
        self.0.thread_set_mask()
    }
}
