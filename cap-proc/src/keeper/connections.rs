//! Connections of a command whose rule names hosts (T-07).
//!
//! Its connects wait at the listener. For each the provider is asked, over a lane of this command's own, and what it gives
//! replaces the command's descriptor, whatever address was asked for. The keeper never waits for the provider: it goes on
//! serving, and a connect that has waited too long is answered ETIMEDOUT. It trusts the provider to decide where a
//! connection leads and nothing else: what comes is looked at, and what nobody waits for any more is closed.

use crate::lane::{Lane, LaneError};
use nix::errno::Errno;
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};
use warden_jail::connect::{self, Asked};
use warden_jail::notify::{Listener, Notice};
use warden_proto::SocketError;
use warden_proto::msg::connect::{ConnectAnswer, ConnectAsk, ConnectRefusal};

/// How long a command's connect waits for its provider.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// Connects of one command that wait at once. A thread has one at most.
const WAITING_MAX: usize = 64;
/// Sockets that are remembered as connected.
const GIVEN_MAX: usize = 4096;
/// Answers taken before anything else has its turn (T-06).
const ANSWERS_PER_TURN: usize = 16;

#[derive(Debug)]
struct Waiting {
    notice: Notice,
    asked: Asked,
    deadline: Instant,
}

/// The connections of one command.
#[derive(Debug)]
pub struct Connections {
    /// Until the provider is gone, or has broken the rules of the lane.
    provider: Option<Lane>,
    waiting: BTreeMap<u32, Waiting>,
    next: u32,
    /// The kernel's numbers of the sockets that were given, the oldest first.
    given: VecDeque<u64>,
}

impl Connections {
    /// Asks over `lane`.
    pub fn new(lane: OwnedFd) -> Self {
        Self { provider: Some(Lane::new(lane)), waiting: BTreeMap::new(), next: 0, given: VecDeque::new() }
    }

    /// What to wait for: the provider's answers.
    pub fn provider(&self) -> Option<BorrowedFd<'_>> {
        self.provider.as_ref().map(Lane::as_fd)
    }

    /// When [`Self::serve`] has something to do though nothing has come.
    pub fn next_look(&self) -> Option<Duration> {
        let first = self.waiting.values().map(|waiting| waiting.deadline).min()?;
        Some(first.saturating_duration_since(Instant::now()))
    }

    /// Takes a connect that waits.
    pub fn ask(&mut self, listener: &Listener, notice: Notice) {
        if let Err(errno) = self.try_ask(listener, notice) {
            refuse(listener, &notice, errno);
        }
    }

    fn try_ask(&mut self, listener: &Listener, notice: Notice) -> nix::Result<()> {
        let asked = connect::look(listener, &notice)?;
        if self.given.contains(&asked.socket) {
            return Err(Errno::EISCONN);
        }
        if self.waiting.len() >= WAITING_MAX {
            // Threads that were killed meanwhile wait no more.
            self.waiting.retain(|_, waiting| listener.is_waiting(&waiting.notice));
        }
        if self.waiting.len() >= WAITING_MAX {
            return Err(Errno::EAGAIN);
        }
        let request = self.next;
        self.next = self.next.wrapping_add(1);
        let provider = self.provider.as_ref().ok_or(Errno::ECONNREFUSED)?;
        match provider.send(&ConnectAsk { request, address: asked.address.into() }, &[], false) {
            Ok(()) => {}
            Err(LaneError::Send(SocketError::WouldBlock)) => return Err(Errno::EAGAIN),
            Err(_) => return Err(Errno::ECONNREFUSED),
        }
        let deadline = Instant::now().checked_add(CONNECT_DEADLINE).ok_or(Errno::ETIMEDOUT)?;
        self.waiting.insert(request, Waiting { notice, asked, deadline });
        Ok(())
    }

    /// Takes answers, and ends what has waited too long.
    pub fn serve(&mut self, listener: &Listener) {
        for _ in 0..ANSWERS_PER_TURN {
            let Some(provider) = &self.provider else { break };
            match provider.try_receive::<ConnectAnswer>() {
                Ok(Some((answer, descriptors))) => self.answer(listener, answer, descriptors),
                Ok(None) => break,
                // Gone, or no provider of ours: nobody asks it again.
                Err(_) => self.provider = None,
            }
        }
        let (now, gone) = (Instant::now(), self.provider.is_none());
        self.waiting.retain(|_, waiting| {
            let errno = if gone { Errno::ECONNREFUSED } else { Errno::ETIMEDOUT };
            let over = gone || now >= waiting.deadline;
            if over {
                refuse(listener, &waiting.notice, errno);
            }
            !over
        });
    }

    fn answer(&mut self, listener: &Listener, answer: ConnectAnswer, descriptors: Vec<OwnedFd>) {
        // Answered before, or over its time: what came with it is closed.
        let Some(Waiting { notice, asked, .. }) = self.waiting.remove(&answer.request) else { return };
        let mut given = descriptors.into_iter();
        let errno = match (answer.result, given.next(), given.next()) {
            (Ok(()), Some(connection), None) if connect::is_connection(connection.as_fd()) => {
                self.note(&connection);
                let _ = connect::replace(listener, &notice, &asked, connection);
                return;
            }
            (Ok(()), ..) => Errno::ECONNREFUSED,
            (Err(refusal), ..) => errno_of(refusal),
        };
        refuse(listener, &notice, errno);
    }

    /// Who connects it again is told that it is connected.
    fn note(&mut self, connection: &OwnedFd) {
        if self.given.len() >= GIVEN_MAX {
            self.given.pop_front();
        }
        self.given.extend(connect::socket_number(connection.as_fd()).ok());
    }
}

/// Who waits no more hears nothing.
fn refuse(listener: &Listener, notice: &Notice, errno: Errno) {
    let number = std::io::Error::from(errno).raw_os_error().unwrap_or(libc::ECONNREFUSED);
    let _ = listener.refuse(notice, number);
}

fn errno_of(refusal: ConnectRefusal) -> Errno {
    match refusal {
        ConnectRefusal::Denied => Errno::EACCES,
        ConnectRefusal::Refused => Errno::ECONNREFUSED,
        ConnectRefusal::Unreachable => Errno::ENETUNREACH,
        ConnectRefusal::TimedOut => Errno::ETIMEDOUT,
    }
}
