//! What cap-fs does once it is locked: one call at a time, in the order in which they come.
//!
//! A frame that does not decode, is of a kind that is not due, or brings a descriptor ends the process: the sender has
//! broken the protocol (T-05). Everything that a call asks for and does not get is an ordinary answer.

use crate::files::{Done, Files};
use crate::wire::Wire;
use warden_proto::blob::{self, BlobError, Inbox};
use warden_proto::codec::CodecError;
use warden_proto::msg::error::CallError;
use warden_proto::msg::fs::{FsCall, FsHelperCall, FsHelperReply, FsReply};
use warden_proto::{Frame, Kind, SocketError};

/// Bytes that a reply takes besides its content, generously.
const REPLY_SPARE_BYTES: usize = 64;

/// Serving ended by a fault of the peer or of the link.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
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

/// Answers calls until the broker says goodbye or goes.
pub fn serve(mut wire: Wire, mut files: Files) -> Result<(), ServeError> {
    let mut inbox = Inbox::default();
    let mut next_blob = 0_u32;
    loop {
        let frame = match wire.next() {
            Err(SocketError::Closed) => return Ok(()),
            other => other?,
        };
        match frame.kind {
            Kind::Part => inbox.put(frame.decode()?)?,
            // What it names has been answered by now: a cancel that came in time was seen by the call's pulse.
            Kind::Cancel => {}
            Kind::Goodbye => return Ok(()),
            Kind::Call => {
                let done = answer(&mut wire, &mut files, &mut inbox, &frame)?;
                let reply = dress(&mut wire, &mut next_blob, done)?;
                wire.link.send(Kind::Reply, frame.request, &reply, &[], true)?;
            }
            other => return Err(ServeError::OutOfState(other)),
        }
    }
}

fn answer(
    wire: &mut Wire,
    files: &mut Files,
    inbox: &mut Inbox,
    frame: &Frame,
) -> Result<Result<Done, CallError>, ServeError> {
    let call: FsHelperCall = frame.decode()?;
    // Taken whatever comes of the call, so that a payload never stays behind.
    let contents = match &call {
        FsCall::WriteFile { contents, .. } => inbox.take(contents.clone())?,
        _ => Vec::new(),
    };
    Ok(files.perform(call, &contents, &mut wire.pulse(frame.request)).map_err(CallError::from))
}

/// The reply to send, its content sent ahead where a frame has no room for it.
fn dress(wire: &mut Wire, next_blob: &mut u32, done: Result<Done, CallError>) -> Result<FsHelperReply, ServeError> {
    Ok(match done {
        Err(error) => Err(error),
        Ok(Done::Reply(reply)) => Ok(reply),
        Ok(Done::Content { bytes, truncated }) => {
            *next_blob = next_blob.wrapping_add(1);
            let contents = blob::send(&mut wire.link, *next_blob, bytes, REPLY_SPARE_BYTES)?;
            Ok(FsReply::Content { contents, truncated })
        }
    })
}
