//! The link to the broker, with a look ahead for cancels while an operation runs.
//!
//! Runs in cap-fs, locked. Calls are answered one at a time and in order. Frames that arrive while one is being answered
//! wait here, boundedly: beyond that they wait in the socket, which is the broker's own bound (T-06).

use std::collections::VecDeque;
use std::time::Duration;
use warden_beneath::errors::OpError;
use warden_beneath::pulse::{Pulse, Timer};
use warden_proto::limits::{QUEUED_FRAMES_MAX, REPLY_DEADLINE};
use warden_proto::{Frame, FrameSocket, Kind, SocketError};

/// Left of a reply's deadline when an operation is stopped, so that the answer still arrives in time.
const ANSWER_TIME: Duration = Duration::from_secs(1);
/// The link is looked at once in so many beats.
const BEATS_PER_LOOK: u32 = 64;

/// The link.
#[derive(Debug)]
pub struct Wire {
    /// Its socket.
    pub link: FrameSocket,
    waiting: VecDeque<Frame>,
    broken: Option<SocketError>,
}

impl Wire {
    /// Takes the socket.
    pub fn new(link: FrameSocket) -> Self {
        Self { link, waiting: VecDeque::new(), broken: None }
    }

    /// The next frame, however long it takes: the broker ends this process when it is not needed.
    pub fn next(&mut self) -> Result<Frame, SocketError> {
        if let Some(frame) = self.waiting.pop_front() {
            return Ok(frame);
        }
        match self.broken.take() {
            Some(error) => Err(error),
            None => self.link.receive(0, None),
        }
    }

    /// Whether a call is no longer wanted, as far as is known without waiting.
    pub fn is_cancelled(&mut self, request: u32) -> bool {
        while self.waiting.len() < QUEUED_FRAMES_MAX && self.broken.is_none() {
            match self.link.try_receive(0) {
                Ok(frame) => self.waiting.push_back(frame),
                Err(SocketError::WouldBlock) => break,
                Err(error) => self.broken = Some(error),
            }
        }
        self.broken.is_some() || self.waiting.iter().any(|f| f.kind == Kind::Cancel && f.request == request)
    }

    /// The pulse of a call that begins now.
    pub fn pulse(&mut self, request: u32) -> CallPulse<'_> {
        let timer = Timer::lasting(REPLY_DEADLINE.saturating_sub(ANSWER_TIME));
        CallPulse { wire: self, request, timer, beats: 0 }
    }
}

/// Stops an operation whose time is up, whose call is cancelled, or whose broker is gone.
#[derive(Debug)]
pub struct CallPulse<'w> {
    wire: &'w mut Wire,
    request: u32,
    timer: Timer,
    beats: u32,
}

impl Pulse for CallPulse<'_> {
    fn beat(&mut self) -> Result<(), OpError> {
        self.timer.beat()?;
        self.beats = self.beats.wrapping_add(1);
        if self.beats.is_multiple_of(BEATS_PER_LOOK) && self.wire.is_cancelled(self.request) {
            return Err(OpError::Stopped("it was cancelled".to_owned()));
        }
        Ok(())
    }
}
