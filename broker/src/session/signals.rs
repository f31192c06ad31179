//! Signals, as far as a session obeys them.

use crate::audit::AuditLog;
use crate::failure::Failure;
use crate::task::Cancel;
use std::cell::RefCell;
use std::rc::Rc;
use tokio::sync::watch;

/// SIGINT and SIGTERM end tasks gently the first time and everything at once the second.
pub(super) fn watch_signals() -> Result<watch::Receiver<Cancel>, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |e: std::io::Error| Failure::internal(format!("signals could not be watched: {e}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let (send, receive) = watch::channel(Cancel::No);
    tokio::task::spawn_local(async move {
        loop {
            let number = tokio::select! {
                _ = interrupt.recv() => 2,
                _ = terminate.recv() => 15,
            };
            if *send.borrow() != Cancel::No {
                // The spawner ends with us, and with it everything it made (T-12).
                std::process::exit(crate::failure::SIGNAL_BASE.saturating_add(number));
            }
            let _ = send.send(Cancel::Gently(number));
        }
    });
    Ok(receive)
}

pub(super) fn rotate_on_hangup(audit: Rc<RefCell<AuditLog>>) -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut hangup = signal(SignalKind::hangup()).map_err(|e| Failure::internal(e.to_string()))?;
    tokio::task::spawn_local(async move {
        while hangup.recv().await.is_some() {
            if let Err(error) = audit.borrow_mut().rotate() {
                tracing::error!(%error, "the audit log could not be rotated");
            }
        }
    });
    Ok(())
}
