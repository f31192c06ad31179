//! Payloads longer than a frame: sent in parts before the message that names them.
//!
//! A receiver holds at most [`BLOB_MAX_BYTES`] for one peer (or what it has said with [`Inbox::hold`]), in at most
//! [`BLOBS_MAX`] pieces; more is a protocol error.
//! That bound is the sender's whole credit: it is given back when the message that names the blob is taken.

use crate::bounded::{Bytes, TooLong};
use crate::codec::CodecError;
use crate::frame::Kind;
use crate::limits::{BLOB_MAX_BYTES, INLINE_MAX_BYTES};
use crate::socket::{FrameSocket, SocketError};
use bincode::{Decode, Encode};

/// Blobs of one peer that may be under way at once.
pub const BLOBS_MAX: usize = 4;

/// A piece of a blob.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Part {
    /// The sender's name for the blob.
    pub blob: u32,
    /// The next bytes.
    pub bytes: Bytes<INLINE_MAX_BYTES>,
}

/// A byte string of up to [`BLOB_MAX_BYTES`], inside its message or sent before it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Body {
    /// In the message.
    Inline {
        /// The bytes.
        bytes: Bytes<INLINE_MAX_BYTES>,
    },
    /// Sent before it, in parts.
    Sent {
        /// The sender's name for the blob.
        blob: u32,
        /// Its whole length, bytes.
        len: u32,
    },
}

/// The peer's parts do not add up.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// More bytes or blobs at once than a peer may send.
    #[error("the peer sent more in parts than it may have under way, or more than {BLOBS_MAX} payloads")]
    TooMuch,
    /// A message names a blob that was not sent, or of another length.
    #[error("a message names payload {0}, which did not come or has another length")]
    Unknown(u32),
}

/// What one peer has sent in parts and not named yet.
#[derive(Debug)]
pub struct Inbox {
    blobs: Vec<(u32, Vec<u8>)>,
    held: usize,
    max_bytes: usize,
}

impl Default for Inbox {
    fn default() -> Self {
        Self { blobs: Vec::new(), held: 0, max_bytes: BLOB_MAX_BYTES }
    }
}

impl Inbox {
    /// Holds so many bytes from now on, for a peer whose answers may be as long (a command's output).
    pub fn hold(&mut self, max_bytes: usize) {
        self.max_bytes = max_bytes.max(BLOB_MAX_BYTES);
    }

    /// Takes one part.
    pub fn put(&mut self, part: Part) -> Result<(), BlobError> {
        let held = self.held.saturating_add(part.bytes.len());
        if held > self.max_bytes {
            return Err(BlobError::TooMuch);
        }
        if let Some((_, bytes)) = self.blobs.iter_mut().find(|(id, _)| *id == part.blob) {
            bytes.extend_from_slice(&part.bytes);
        } else if self.blobs.len() >= BLOBS_MAX {
            return Err(BlobError::TooMuch);
        } else {
            self.blobs.push((part.blob, part.bytes.into_vec()));
        }
        self.held = held;
        Ok(())
    }

    /// The bytes of `body`; a blob is taken out.
    pub fn take(&mut self, body: Body) -> Result<Vec<u8>, BlobError> {
        match body {
            Body::Inline { bytes } => Ok(bytes.into_vec()),
            Body::Sent { blob, len } => {
                let at = self.blobs.iter().position(|(id, _)| *id == blob).ok_or(BlobError::Unknown(blob))?;
                let (_, bytes) = self.blobs.swap_remove(at);
                self.held = self.held.saturating_sub(bytes.len());
                if usize::try_from(len) == Ok(bytes.len()) { Ok(bytes) } else { Err(BlobError::Unknown(blob)) }
            }
        }
    }
}

/// The parts that carry `bytes` as blob `blob`.
pub fn parts(blob: u32, bytes: &[u8]) -> impl Iterator<Item = Result<Part, TooLong>> + '_ {
    bytes.chunks(INLINE_MAX_BYTES).map(move |chunk| Ok(Part { blob, bytes: Bytes::new(chunk)? }))
}

/// Sends `bytes` ahead of a message if they are too long for it, blocking, and returns what the message shall hold.
///
/// `spare` is what else the message holds, bytes. Used by jailed processes; the broker queues parts itself.
pub fn send(socket: &mut FrameSocket, blob: u32, bytes: Vec<u8>, spare: usize) -> Result<Body, SocketError> {
    if bytes.len().saturating_add(spare) <= INLINE_MAX_BYTES {
        let bytes = Bytes::new(bytes).map_err(too_long)?;
        return Ok(Body::Inline { bytes });
    }
    if bytes.len() > BLOB_MAX_BYTES {
        return Err(too_long(TooLong { len: bytes.len(), max: BLOB_MAX_BYTES }).into());
    }
    for part in parts(blob, &bytes) {
        socket.send(Kind::Part, 0, &part.map_err(too_long)?, &[], true)?;
    }
    let len = u32::try_from(bytes.len()).map_err(|_| too_long(TooLong { len: bytes.len(), max: BLOB_MAX_BYTES }))?;
    Ok(Body::Sent { blob, len })
}

fn too_long(error: TooLong) -> CodecError {
    CodecError::Encode(bincode::error::EncodeError::OtherString(error.to_string()))
}
