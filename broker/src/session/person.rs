//! Signals, as far as a session obeys them.

use crate::audit::AuditLog;
use crate::failure::Failure;
use crate::task::Cancel;
use std::cell::RefCell;
use std::rc::Rc;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use warden_spawner::signals;

const SIGHUP: i32 = 1;

/// What SIGHUP does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hangup {
    /// It begins a new segment of the log, as services are told to.
    NewSegment,
    /// It ends the task: whoever had it run at a terminal is gone. Who was started to ignore it goes on (`nohup`).
    Ends,
}

/// A person's signals, watched.
pub(super) struct Watch {
    /// Whether a person has asked for the end.
    pub cancel: watch::Receiver<Cancel>,
    /// SIGHUP, where it ends nothing.
    pub hangup: Option<Signal>,
}

/// SIGINT, SIGTERM and SIGQUIT end tasks gently the first time and everything at once the second.
pub(super) fn watch_signals(on_hangup: Hangup) -> Result<Watch, Failure> {
    let failed = |e: std::io::Error| Failure::internal(format!("signals could not be watched: {e}"));
    let stays = on_hangup == Hangup::Ends && signals::ignores_hangup();
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut quit = signal(SignalKind::quit()).map_err(failed)?;
    let hangup = if stays { None } else { Some(signal(SignalKind::hangup()).map_err(failed)?) };
    let (send, receive) = watch::channel(Cancel::No);
    let send = Rc::new(send);
    let ask = send.clone();
    tokio::task::spawn_local(async move {
        loop {
            let number = tokio::select! {
                _ = interrupt.recv() => 2,
                _ = terminate.recv() => 15,
                _ = quit.recv() => 3,
            };
            if *ask.borrow() != Cancel::No {
                // The spawner ends with us, and with it everything it made (T-12).
                std::process::exit(crate::failure::SIGNAL_BASE.saturating_add(number));
            }
            let _ = ask.send(Cancel::Gently(number));
        }
    });
    let hangup = match on_hangup {
        Hangup::NewSegment => hangup,
        Hangup::Ends => {
            hangup.into_iter().for_each(|hangup| end_on_hangup(send.clone(), hangup));
            None
        }
    };
    Ok(Watch { cancel: receive, hangup })
}

/// Gently, however often it comes: a terminal that ends and the shell on it both say so, and it is one end.
fn end_on_hangup(send: Rc<watch::Sender<Cancel>>, mut hangup: Signal) {
    tokio::task::spawn_local(async move {
        while hangup.recv().await.is_some() {
            if *send.borrow() == Cancel::No {
                let _ = send.send(Cancel::Gently(SIGHUP));
            }
        }
    });
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
