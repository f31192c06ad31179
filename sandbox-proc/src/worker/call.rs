//! The worker's end of its link while a guest runs: one call at a time, and what ends the guest from outside.
//!
//! The worker trusts the broker; what it reads here are the broker's answers, which may hold bytes of other jailed
//! processes, so they are decoded with every bound of the protocol all the same (T-05).

#![forbid(unsafe_code)]

use std::time::Instant;
use warden_proto::blob::{self, Body, Inbox};
use warden_proto::limits::{BLOB_MAX_BYTES, INLINE_MAX_BYTES};
use warden_proto::msg::error::{CallError, ErrorCode};
use warden_proto::msg::fs::{FsGuestCall, FsReply};
use warden_proto::msg::llm::{LlmCall, LlmReply};
use warden_proto::msg::loops::{LoopCall, LoopReply};
use warden_proto::msg::policy::{PolicyCall, PolicyReply};
use warden_proto::msg::proc::{ProcGuestCall, ProcReply, Stream};
use warden_proto::msg::worker::{Finish, Origin, Output, WorkerCall, WorkerReply};
use warden_proto::{Bytes, FrameSocket, Kind, SocketError, Text};

/// What ends a guest that did nothing wrong by itself. Travels through Wasmtime as a host error.
#[derive(Debug, thiserror::Error)]
pub enum Halt {
    /// It ended itself with a status.
    #[error("the guest ended with status {0}")]
    Exit(i32),
    /// The wall clock ran out while a call was under way; an epoch cannot interrupt the host.
    #[error("the time of the guest is up")]
    OutOfTime,
    /// The broker is gone or said goodbye: there is nobody to tell.
    #[error("the link to the broker is closed")]
    Closed,
    /// The broker's frames make no sense; builds differ, or worse.
    #[error("the link to the broker failed: {0}")]
    Broken(String),
}

/// Why a call gave nothing: an answer for the guest, or the guest's end.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The capability's own error.
    #[error(transparent)]
    Answer(#[from] CallError),
    /// The guest does not go on.
    #[error(transparent)]
    Halt(#[from] Halt),
}

impl Fault {
    /// An answer that no helper gave.
    pub fn answer(code: ErrorCode, message: &str) -> Self {
        Self::Answer(CallError::new(code, message))
    }
}

/// The link of a running worker.
#[derive(Debug)]
pub struct Link {
    socket: FrameSocket,
    inbox: Inbox,
    request: u32,
    /// Calls that the broker has been sent.
    sent: u64,
    blob: u32,
    deadline: Instant,
}

impl Link {
    /// `deadline` is the end of the guest's wall time. The broker keeps the deadline of each operation; it answers
    /// `timeout`, and its answer may come late where a person is asked for approval.
    pub fn new(socket: FrameSocket, deadline: Instant) -> Self {
        Self { socket, inbox: Inbox::default(), request: 0, sent: 0, blob: 0, deadline }
    }

    /// When the guest's time ends.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether the guest's time has ended.
    pub fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// How many calls the broker has been sent: where it has not changed, the broker knows nothing of an act.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Sends a call and waits for its answer.
    fn call(&mut self, call: &WorkerCall) -> Result<WorkerReply, Fault> {
        // Ids never repeat within a worker's life, so that a late answer cannot be taken for another.
        self.request = self.request.checked_add(1).ok_or(Halt::OutOfTime)?;
        match self.socket.send(Kind::Call, self.request, call, &[], true) {
            Ok(()) => self.sent = self.sent.wrapping_add(1),
            Err(SocketError::Codec(error)) => {
                return Err(Fault::answer(ErrorCode::InvalidArgument, &format!("the call is too long: {error}")));
            }
            Err(other) => return Err(broken(other).into()),
        }
        loop {
            let frame = self.socket.receive(0, Some(self.deadline)).map_err(broken)?;
            match frame.kind {
                Kind::Part => {
                    let part = frame.decode().map_err(|e| broken(e.into()))?;
                    self.inbox.put(part).map_err(|e| Halt::Broken(e.to_string()))?;
                }
                Kind::Reply if frame.request == self.request => {
                    return match frame.decode().map_err(|e| broken(e.into()))? {
                        WorkerReply::Error(error) => Err(Fault::Answer(error)),
                        reply => Ok(reply),
                    };
                }
                Kind::Goodbye => return Err(Halt::Closed.into()),
                other => return Err(Halt::Broken(format!("a {other:?} frame came where a reply was due")).into()),
            }
        }
    }

    /// A call on files.
    pub fn fs(&mut self, origin: Origin, call: FsGuestCall) -> Result<FsReply, Fault> {
        self.fs_told(origin, false, call)
    }

    /// The same; an action says with `base64` how its output is to be told.
    pub fn fs_told(&mut self, origin: Origin, base64: bool, call: FsGuestCall) -> Result<FsReply, Fault> {
        match self.call(&WorkerCall::Fs { origin, base64, call })? {
            WorkerReply::Fs(reply) => Ok(reply),
            _ => Err(wrong_reply().into()),
        }
    }

    /// A call on commands.
    pub fn proc(&mut self, origin: Origin, alias: &str, call: ProcGuestCall) -> Result<ProcReply, Fault> {
        match self.call(&WorkerCall::Proc { origin, alias: Text::cut(alias), call })? {
            WorkerReply::Proc(reply) => Ok(reply),
            _ => Err(wrong_reply().into()),
        }
    }

    /// A call to the model.
    pub fn llm(&mut self, origin: Origin, call: LlmCall) -> Result<LlmReply, Fault> {
        match self.call(&WorkerCall::Llm { origin, call })? {
            WorkerReply::Llm(reply) => Ok(reply),
            _ => Err(wrong_reply().into()),
        }
    }

    /// A call on the policy.
    pub fn policy(&mut self, origin: Origin, call: PolicyCall) -> Result<PolicyReply, Fault> {
        match self.call(&WorkerCall::Policy { origin, call })? {
            WorkerReply::Policy(reply) => Ok(reply),
            _ => Err(wrong_reply().into()),
        }
    }

    /// A turn of the loop.
    pub fn turn(&mut self, call: LoopCall) -> Result<LoopReply, Fault> {
        match self.call(&WorkerCall::Loop { call })? {
            WorkerReply::Loop(reply) => Ok(reply),
            _ => Err(wrong_reply().into()),
        }
    }

    /// A capability that is not there. The broker counts and records the try, and its error is the answer.
    pub fn absent(&mut self, origin: Origin, capability: &str) -> Fault {
        match self.call(&WorkerCall::Absent { origin, capability: Text::cut(capability) }) {
            Ok(_) => wrong_reply().into(),
            Err(fault) => fault,
        }
    }

    /// Prepares a payload for a call whose other fields take `spare` bytes at most; must be followed by that call.
    pub fn body(&mut self, bytes: Vec<u8>, spare: usize) -> Result<Body, Fault> {
        if bytes.len() > BLOB_MAX_BYTES {
            let message = format!("a payload of {} bytes is longer than the {BLOB_MAX_BYTES} allowed", bytes.len());
            return Err(Fault::answer(ErrorCode::InvalidArgument, &message));
        }
        self.blob = self.blob.wrapping_add(1);
        Ok(blob::send(&mut self.socket, self.blob, bytes, spare).map_err(broken)?)
    }

    /// The bytes of a payload that a reply names.
    pub fn take(&mut self, body: Body) -> Result<Vec<u8>, Halt> {
        self.inbox.take(body).map_err(|e| Halt::Broken(e.to_string()))
    }

    /// Passes on at most one frame of the guest's output, and says how many bytes that were.
    pub fn output(&mut self, stream: Stream, bytes: &[u8]) -> Result<usize, Halt> {
        let taken = bytes.get(..INLINE_MAX_BYTES).unwrap_or(bytes);
        if taken.is_empty() {
            return Ok(0);
        }
        let frame = Output { stream, bytes: Bytes::new(taken).map_err(|e| Halt::Broken(e.to_string()))? };
        self.socket.send(Kind::Output, 0, &frame, &[], true).map_err(broken)?;
        Ok(taken.len())
    }

    /// The last frame.
    pub fn finish(&mut self, finish: &Finish) -> Result<(), Halt> {
        self.socket.send(Kind::Finish, 0, finish, &[], true).map_err(broken)
    }
}

fn wrong_reply() -> Halt {
    Halt::Broken("the reply is to another kind of call".to_owned())
}

fn broken(error: SocketError) -> Halt {
    match error {
        SocketError::Closed => Halt::Closed,
        SocketError::Deadline => Halt::OutOfTime,
        other => Halt::Broken(other.to_string()),
    }
}
