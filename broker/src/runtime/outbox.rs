//! Commands on their way to the spawner: queued here, sent only when the link is sure to have room.
//!
//! Link A's channel blocks a sender whose peer does not read. A broker that blocked there would take no frame, no signal and
//! no report either, and when the spawner waits in turn for its reports to be read, neither would go on (T-06). So the
//! spawner says how many commands it has taken, and the broker has no more on the way than the link surely holds. What
//! waits longer than [`SPAWNER_STALL`] behind a spawner that takes nothing is given up with a typed error.

use super::RuntimeError;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use tokio::time::Instant;
use warden_proto::codec;
use warden_proto::limits::SPAWNER_STALL;
use warden_proto::link_a::{Command, LinkA, LinkAError};

/// Commands that may be on the way at once.
const IN_FLIGHT_MAX: usize = 64;
/// What they may take of the socket's buffer together, bytes: three quarters of the least that Linux gives by default.
const IN_FLIGHT_MAX_BYTES: usize = 156 * 1024;
/// What the kernel takes for a packet beside its bytes, which it rounds up to a power of two.
const PACKET_OVERHEAD_BYTES: usize = 1024;
/// Commands that may wait; each may hold a descriptor.
const WAITING_MAX: usize = 4096;

struct Waiting {
    number: u64,
    bytes: Vec<u8>,
    charge_bytes: usize,
    descriptors: Vec<OwnedFd>,
    since: Instant,
}

/// The queue. A command's number grows with its place in it.
pub(super) struct Outbox {
    waiting: VecDeque<Waiting>,
    in_flight: VecDeque<usize>,
    in_flight_bytes: usize,
    last: u64,
    /// When the spawner last took something, or was given something after it had taken all.
    moved: Instant,
}

impl Outbox {
    pub fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            last: 0,
            moved: Instant::now(),
        }
    }

    /// Queues a command that somebody waits for, and returns its number.
    pub fn put(&mut self, command: &Command, descriptors: Vec<OwnedFd>) -> Result<u64, RuntimeError> {
        if self.waiting.len() >= WAITING_MAX {
            return Err(RuntimeError::Busy);
        }
        self.put_always(command, descriptors)
    }

    /// Queues what only gives back (a kill): there are never more of these than of what was started.
    pub fn put_always(&mut self, command: &Command, descriptors: Vec<OwnedFd>) -> Result<u64, RuntimeError> {
        let bytes = codec::encode(command).map_err(|e| RuntimeError::Link(LinkAError::Codec(e)))?;
        let charge_bytes = bytes.len().saturating_add(PACKET_OVERHEAD_BYTES).saturating_mul(2);
        self.last = self.last.saturating_add(1);
        let number = self.last;
        self.waiting.push_back(Waiting { number, bytes, charge_bytes, descriptors, since: Instant::now() });
        Ok(number)
    }

    /// Sends what the link has room for; never blocks. Returns whether anything went.
    pub fn flush(&mut self, link: &LinkA) -> Result<bool, LinkAError> {
        let mut sent = false;
        while let Some(next) = self.waiting.front() {
            let total = self.in_flight_bytes.saturating_add(next.charge_bytes);
            let full = self.in_flight.len() >= IN_FLIGHT_MAX || total > IN_FLIGHT_MAX_BYTES;
            if full && !self.in_flight.is_empty() {
                break;
            }
            let Some(next) = self.waiting.pop_front() else { break };
            if self.in_flight.is_empty() {
                self.moved = Instant::now();
            }
            let descriptors: Vec<BorrowedFd<'_>> = next.descriptors.iter().map(AsFd::as_fd).collect();
            link.send_encoded(&next.bytes, &descriptors)?;
            self.in_flight.push_back(next.charge_bytes);
            self.in_flight_bytes = total;
            sent = true;
        }
        Ok(sent)
    }

    /// The spawner has taken `count` commands.
    pub fn taken(&mut self, count: u32) {
        for _ in 0..count {
            let charge = self.in_flight.pop_front().unwrap_or_default();
            self.in_flight_bytes = self.in_flight_bytes.saturating_sub(charge);
            self.moved = Instant::now();
        }
    }

    /// Until when a command is waited for; none when it is on its way.
    pub fn patience(&self, number: u64) -> Option<Instant> {
        let waiting = self.waiting.iter().find(|waiting| waiting.number == number)?;
        Some(waiting.since.max(self.moved) + SPAWNER_STALL)
    }

    /// Takes a command back that is not on its way yet, and says whether it was.
    pub fn withdraw(&mut self, number: u64) -> bool {
        let at = self.waiting.iter().position(|waiting| waiting.number == number);
        at.and_then(|at| self.waiting.remove(at)).is_some()
    }

    /// Nothing goes any more.
    pub fn clear(&mut self) {
        self.waiting.clear();
    }
}
