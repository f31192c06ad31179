//! The broker's calls, as a helper that is locked takes them.
//!
//! Runs in the helpers. A frame that does not decode, is of a kind that is not due, or brings a descriptor ends the process:
//! the sender has broken the protocol (T-05). Everything that a call asks for and does not get is an ordinary answer.

use crate::blob::{self, BlobError, Body, Inbox};
use crate::codec::CodecError;
use crate::{Frame, FrameSocket, Kind, SocketError};

/// Serving ended by a fault of the peer or of the link.
#[derive(Debug, thiserror::Error)]
pub enum CallsError {
    /// The link broke, or a packet is no frame.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// A body does not decode.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// Parts do not add up.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// A kind that is not due after lock-down.
    #[error("a frame of kind {0:?} came where a call is due")]
    OutOfState(Kind),
}

/// What a frame of the broker comes to.
#[derive(Debug)]
pub enum Heard {
    /// A part of a payload, kept until a call names it.
    Part,
    /// A call, still encoded.
    Call(Frame),
    /// The call of this number is no longer wanted.
    Cancel(u32),
    /// The end.
    Goodbye,
}

/// The payloads under way between the broker and a helper.
#[derive(Debug, Default)]
pub struct Calls {
    inbox: Inbox,
    last_blob: u32,
}

impl Calls {
    /// Takes one frame.
    pub fn hear(&mut self, frame: Frame) -> Result<Heard, CallsError> {
        Ok(match frame.kind {
            Kind::Part => {
                self.inbox.put(frame.decode()?)?;
                Heard::Part
            }
            Kind::Call => Heard::Call(frame),
            Kind::Cancel => Heard::Cancel(frame.request),
            Kind::Goodbye => Heard::Goodbye,
            other => return Err(CallsError::OutOfState(other)),
        })
    }

    /// The next call of a helper that answers one at a time; none when the broker says goodbye or goes. What a cancel
    /// names has been answered by then.
    pub fn next(
        &mut self,
        mut receive: impl FnMut() -> Result<Frame, SocketError>,
    ) -> Result<Option<Frame>, CallsError> {
        loop {
            let frame = match receive() {
                Err(SocketError::Closed) => return Ok(None),
                other => other?,
            };
            match self.hear(frame)? {
                Heard::Call(frame) => return Ok(Some(frame)),
                Heard::Goodbye => return Ok(None),
                Heard::Part | Heard::Cancel(_) => {}
            }
        }
    }

    /// The bytes of a payload that a call names.
    pub fn take(&mut self, body: Body) -> Result<Vec<u8>, CallsError> {
        Ok(self.inbox.take(body)?)
    }

    /// The body for a reply that holds `spare` bytes besides, sent ahead where a frame has no room for it.
    pub fn body(&mut self, link: &mut FrameSocket, bytes: Vec<u8>, spare: usize) -> Result<Body, CallsError> {
        self.last_blob = self.last_blob.wrapping_add(1);
        Ok(blob::send(link, self.last_blob, bytes, spare)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Bytes;
    use crate::blob::Part;

    fn frame(kind: Kind, body: Vec<u8>) -> Frame {
        Frame { kind, request: 5, body, descriptors: Vec::new() }
    }

    fn part() -> Frame {
        let part = Part { blob: 1, bytes: Bytes::new(*b"abc").unwrap() };
        frame(Kind::Part, crate::codec::encode(&part).unwrap())
    }

    #[test]
    fn a_call_comes_after_its_parts_and_goodbye_ends() {
        let mut calls = Calls::default();
        let mut frames =
            [part(), frame(Kind::Cancel, vec![]), frame(Kind::Call, vec![1]), frame(Kind::Goodbye, vec![])].into_iter();
        let mut receive = || frames.next().ok_or(SocketError::Closed);
        assert_eq!(calls.next(&mut receive).unwrap().unwrap().body, [1]);
        assert!(calls.next(&mut receive).unwrap().is_none(), "goodbye");
        assert!(calls.next(&mut receive).unwrap().is_none(), "the broker is gone");
        assert_eq!(calls.take(Body::Sent { blob: 1, len: 3 }).unwrap(), b"abc");
    }

    #[test]
    fn what_is_not_due_is_a_fault() {
        for kind in [Kind::Hello, Kind::Setup, Kind::Locked, Kind::Reply, Kind::Output, Kind::Finish] {
            let heard = Calls::default().hear(frame(kind, vec![]));
            assert!(matches!(heard, Err(CallsError::OutOfState(k)) if k == kind));
        }
        assert!(matches!(Calls::default().hear(frame(Kind::Part, vec![1])), Err(CallsError::Codec(_))));
        assert!(matches!(Calls::default().next(|| Err(SocketError::Deadline)), Err(CallsError::Socket(_))));
    }
}
