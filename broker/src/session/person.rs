//! Signals, as far as a session obeys them.

use crate::audit::AuditLog;
use crate::failure::Failure;
use crate::task::Cancel;
use std::cell::RefCell;
use std::rc::Rc;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// A person's signals, watched.
pub(super) struct Watch {
    /// Whether a person has asked for the end.
    pub cancel: watch::Receiver<Cancel>,
    /// SIGHUP; nothing else becomes of it.
    pub hangup: Signal,
}

/// SIGINT, SIGTERM and SIGQUIT end tasks gently the first time and everything at once the second.
pub(super) fn watch_signals() -> Result<Watch, Failure> {
    let failed = |e: std::io::Error| Failure::internal(format!("signals could not be watched: {e}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut quit = signal(SignalKind::quit()).map_err(failed)?;
    let hangup = signal(SignalKind::hangup()).map_err(failed)?;
    let (send, receive) = watch::channel(Cancel::No);
    tokio::task::spawn_local(async move {
        loop {
            let number = tokio::select! {
                _ = interrupt.recv() => 2,
                _ = terminate.recv() => 15,
                _ = quit.recv() => 3,
            };
            if *send.borrow() != Cancel::No {
                // The spawner ends with us, and with it everything it made (T-12).
                std::process::exit(crate::failure::SIGNAL_BASE.saturating_add(number));
            }
            let _ = send.send(Cancel::Gently(number));
        }
    });
    Ok(Watch { cancel: receive, hangup })
}

/// SIGHUP begins a new segment of the log, and ends nothing.
pub(super) fn rotate_on_hangup(audit: Rc<RefCell<AuditLog>>, mut hangup: Signal) {
    tokio::task::spawn_local(async move {
        while hangup.recv().await.is_some() {
            if let Err(error) = audit.borrow_mut().rotate() {
                tracing::error!(%error, "the audit log could not be rotated");
            }
        }
    });
}
