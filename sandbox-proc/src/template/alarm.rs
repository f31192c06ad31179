//! The wall clock's interrupt: one timer, one signal handler, no thread (T-06).
//!
//! `SIGALRM` raises the engine's epoch; compiled code compares it at every loop and call and traps. Nothing else in
//! a worker uses the signal.

use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use std::sync::OnceLock;
use std::time::Duration;
use wasmtime::Engine;

/// The engine whose guest is interrupted. Set once, before the timer runs.
static ENGINE: OnceLock<Engine> = OnceLock::new();

extern "C" fn on_alarm(_: libc::c_int) {
    // Signal-safe: an atomic load and an atomic add (Wasmtime documents `increment_epoch` for signal handlers).
    if let Some(engine) = ENGINE.get() {
        engine.increment_epoch();
    }
}

/// Prepares the handler; done in the template, inherited by workers.
pub fn prepare() -> Result<(), Errno> {
    // On the alternate stack where there is one: the guest may have used up the ordinary one.
    let action =
        SigAction::new(SigHandler::Handler(on_alarm), SaFlags::SA_ONSTACK | SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handler does nothing that is not async-signal-safe, and no other code uses SIGALRM.
    unsafe { sigaction(Signal::SIGALRM, &action) }.map(|_| ())
}

/// Raises `engine`'s epoch once `after` has passed, and every 50 ms from then on.
pub fn arm(engine: &Engine, after: Duration) -> Result<(), Errno> {
    ENGINE.get_or_init(|| engine.clone());
    // A zero would switch the timer off.
    let after = after.max(Duration::from_micros(1));
    let value = libc::timeval {
        tv_sec: libc::time_t::try_from(after.as_secs()).unwrap_or(libc::time_t::MAX / 2),
        tv_usec: libc::suseconds_t::from(after.subsec_micros()),
    };
    let timer = libc::itimerval { it_interval: libc::timeval { tv_sec: 0, tv_usec: 50_000 }, it_value: value };
    // SAFETY: the structure is valid for the call; the old value is not asked for.
    let answer = unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut()) };
    Errno::result(answer).map(|_| ())
}
