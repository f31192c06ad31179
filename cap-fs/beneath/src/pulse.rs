//! When a long operation has to stop.
//!
//! Runs in the process that acts. Walks and hashes call [`Pulse::beat`] for every entry or block; it answers with an error once the time
//! is up or the broker has cancelled the call (T-06).

use crate::errors::OpError;
use std::time::{Duration, Instant};

/// Whether to go on.
pub trait Pulse {
    /// Called between any two pieces of work.
    fn beat(&mut self) -> Result<(), OpError>;
}

/// A pulse that stops at a time.
#[derive(Debug, Clone, Copy)]
pub struct Timer {
    started: Instant,
    lasts: Duration,
}

impl Timer {
    /// From now.
    pub fn lasting(time: Duration) -> Self {
        Self { started: Instant::now(), lasts: time }
    }
}

impl Pulse for Timer {
    fn beat(&mut self) -> Result<(), OpError> {
        if self.started.elapsed() >= self.lasts {
            return Err(OpError::Stopped("it took too long and was stopped".to_owned()));
        }
        Ok(())
    }
}
