//! The broker's end of a link B: one peer, not trusted.
//!
//! Frames are taken one by one as the task asks for them; the socket's queue, bounded by the peer's own send buffer, is
//! the only other queue. A frame that is none, a part too many, a reply nobody waits for: the peer is refused, which
//! ends it and nobody else (T-05).

use bincode::{Decode, Encode};
use std::os::fd::{BorrowedFd, OwnedFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, timeout_at};
use warden_proto::blob::{self, BlobError, Body, Inbox, Part};
use warden_proto::codec::CodecError;
use warden_proto::limits::{FRAMES_PER_WAKEUP, INLINE_MAX_BYTES};
use warden_proto::{Bytes, Frame, FrameSocket, Kind, SocketError};

/// A peer is gone, or broke the protocol and must go.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// It closed its link: it has ended.
    #[error("it ended")]
    Gone,
    /// It was silent past the deadline.
    #[error("it did not answer in time")]
    Silent,
    /// It does not read what it is sent.
    #[error("it did not take what it was sent")]
    Stuck,
    /// It broke the protocol.
    #[error("it broke the protocol: {0}")]
    Refused(String),
    /// Our side failed.
    #[error("its link failed: {0}")]
    Failed(String),
}

impl From<SocketError> for PeerError {
    fn from(error: SocketError) -> Self {
        match error {
            SocketError::Closed => Self::Gone,
            SocketError::Deadline => Self::Silent,
            SocketError::WouldBlock => Self::Stuck,
            SocketError::System(errno) => Self::Failed(errno.to_string()),
            SocketError::Frame(_) | SocketError::Codec(_) | SocketError::Descriptors(..) => {
                Self::Refused(error.to_string())
            }
        }
    }
}

impl From<CodecError> for PeerError {
    fn from(error: CodecError) -> Self {
        Self::Refused(error.to_string())
    }
}

impl From<BlobError> for PeerError {
    fn from(error: BlobError) -> Self {
        Self::Refused(error.to_string())
    }
}

/// One peer.
pub struct Peer {
    socket: AsyncFd<FrameSocket>,
    inbox: Inbox,
    next_request: u32,
    next_blob: u32,
    taken_in_a_row: usize,
}

impl Peer {
    /// Takes the broker's end of a fresh pair. Must be called in the runtime.
    #[allow(deprecated, reason = "the replacement is unsafe; a FrameSocket owns its descriptor and never changes it")]
    pub fn new(fd: OwnedFd) -> Result<Self, PeerError> {
        let socket = AsyncFd::with_interest(FrameSocket::new(fd), Interest::READABLE | Interest::WRITABLE)
            .map_err(|e| PeerError::Failed(e.to_string()))?;
        Ok(Self { socket, inbox: Inbox::default(), next_request: 1, next_blob: 1, taken_in_a_row: 0 })
    }

    /// Lets this peer have so many bytes of payloads under way.
    pub fn hold(&mut self, max_bytes: usize) {
        self.inbox.hold(max_bytes);
    }

    /// The next frame that is not part of a payload.
    pub async fn next(&mut self) -> Result<Frame, PeerError> {
        loop {
            let frame = self.next_any().await?;
            if frame.kind != Kind::Part {
                return Ok(frame);
            }
            self.inbox.put(frame.decode::<Part>()?)?;
        }
    }

    async fn next_any(&mut self) -> Result<Frame, PeerError> {
        loop {
            // T-06: a peer that always has another frame does not starve the others.
            if self.taken_in_a_row >= FRAMES_PER_WAKEUP {
                self.taken_in_a_row = 0;
                tokio::task::yield_now().await;
            }
            match self.socket.get_mut().try_receive(0) {
                Ok(frame) => {
                    self.taken_in_a_row = self.taken_in_a_row.saturating_add(1);
                    return Ok(frame);
                }
                Err(SocketError::WouldBlock) => {
                    self.taken_in_a_row = 0;
                    let ready = self.socket.readable().await;
                    let mut ready = ready.map_err(|e| PeerError::Failed(e.to_string()))?;
                    // Only a try that found nothing, made after this wake-up, may clear the readiness.
                    ready.clear_ready_matching(tokio::io::Ready::READABLE);
                    match self.socket.get_mut().try_receive(0) {
                        Ok(frame) => return Ok(frame),
                        Err(SocketError::WouldBlock) => continue,
                        Err(other) => return Err(other.into()),
                    }
                }
                Err(other) => return Err(other.into()),
            }
        }
    }

    /// Sends one frame, waiting until `deadline` for room.
    pub async fn send<T: Encode>(
        &mut self,
        kind: Kind,
        request: u32,
        body: &T,
        descriptors: &[BorrowedFd<'_>],
        deadline: Instant,
    ) -> Result<(), PeerError> {
        loop {
            match self.socket.get_mut().send(kind, request, body, descriptors, false) {
                Ok(()) => return Ok(()),
                Err(SocketError::WouldBlock) => {}
                // What does not encode is our own message: no fault of the peer's.
                Err(SocketError::Codec(error)) => return Err(PeerError::Failed(error.to_string())),
                Err(other) => return Err(other.into()),
            }
            let ready = timeout_at(deadline, self.socket.writable()).await.map_err(|_| PeerError::Stuck)?;
            ready.map_err(|e| PeerError::Failed(e.to_string()))?.clear_ready_matching(tokio::io::Ready::WRITABLE);
        }
    }

    /// Puts `bytes` into a message, or sends them ahead of it in parts. `spare`: what else the message holds, bytes.
    pub async fn place(&mut self, bytes: Vec<u8>, spare: usize, deadline: Instant) -> Result<Body, PeerError> {
        let failed = |e: warden_proto::bounded::TooLong| PeerError::Failed(e.to_string());
        if bytes.len().saturating_add(spare) <= INLINE_MAX_BYTES {
            return Ok(Body::Inline { bytes: Bytes::new(bytes).map_err(failed)? });
        }
        let blob = self.next_blob;
        self.next_blob = self.next_blob.wrapping_add(1);
        for part in blob::parts(blob, &bytes) {
            self.send(Kind::Part, 0, &part.map_err(failed)?, &[], deadline).await?;
        }
        let len = u32::try_from(bytes.len()).map_err(|e| PeerError::Failed(e.to_string()))?;
        Ok(Body::Sent { blob, len })
    }

    /// The bytes of a body that this peer sent.
    pub fn take(&mut self, body: Body) -> Result<Vec<u8>, PeerError> {
        Ok(self.inbox.take(body)?)
    }

    /// Sends a call and returns its number. One call is under way at a time.
    pub async fn begin_call<C: Encode>(&mut self, call: &C, deadline: Instant) -> Result<u32, PeerError> {
        self.begin_call_with(call, &[], deadline).await
    }

    /// The same with the descriptors that the call states.
    pub async fn begin_call_with<C: Encode>(
        &mut self,
        call: &C,
        descriptors: &[BorrowedFd<'_>],
        deadline: Instant,
    ) -> Result<u32, PeerError> {
        let request = self.next_request;
        self.next_request = self.next_request.wrapping_add(1).max(1);
        self.send(Kind::Call, request, call, descriptors, deadline).await?;
        Ok(request)
    }

    /// Waits for the reply to `request`; any other frame is a broken protocol. Nothing is lost when this is dropped
    /// before it is ready.
    pub async fn reply<R: Decode<()>>(&mut self, request: u32) -> Result<R, PeerError> {
        let frame = self.next().await?;
        if frame.kind != Kind::Reply || frame.request != request {
            return Err(PeerError::Refused(format!(
                "it sent {:?} {} instead of reply {request}",
                frame.kind, frame.request
            )));
        }
        Ok(frame.decode()?)
    }
}
