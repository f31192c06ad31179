//! A person's signal, as everything in the broker that waits sees it.
//!
//! The first SIGINT or SIGTERM means: no new calls, and what is under way gets a moment. Whatever waits for a process that
//! may be hostile, slow or stopped waits for this too, so that the end comes within its bound.

use std::future::Future;
use tokio::sync::watch;

/// How far a person has asked for the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancel {
    /// Go on.
    No,
    /// No new calls; what is under way gets a moment. Holds the signal's number.
    Gently(i32),
}

/// Resolves when a person has asked for the end, with the signal's number.
pub async fn cancelled(cancel: &mut watch::Receiver<Cancel>) -> i32 {
    loop {
        if let Cancel::Gently(signal) = *cancel.borrow_and_update() {
            return signal;
        }
        if cancel.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// What comes of `work`, or the signal's number when that comes first: `work` is dropped then.
pub async fn unless_cancelled<T>(cancel: &watch::Receiver<Cancel>, work: impl Future<Output = T>) -> Result<T, i32> {
    let mut cancel = cancel.clone();
    tokio::select! {
        biased;
        signal = cancelled(&mut cancel) => Err(signal),
        done = work => Ok(done),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn work_ends_by_itself_or_with_the_signal() {
        let (send, receive) = watch::channel(Cancel::No);
        assert_eq!(unless_cancelled(&receive, async { 7 }).await, Ok(7));
        send.send(Cancel::Gently(15)).unwrap();
        assert_eq!(unless_cancelled(&receive, std::future::pending::<()>()).await, Err(15));
        assert_eq!(unless_cancelled(&receive, async { 7 }).await, Err(15), "nothing new begins after it");
    }
}
