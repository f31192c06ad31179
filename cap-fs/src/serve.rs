//! What cap-fs does once it is locked: one call at a time, in the order in which they come.

use crate::files::{Done, Files};
use crate::wire::Wire;
use warden_proto::calls::{Calls, CallsError};
use warden_proto::msg::error::CallError;
use warden_proto::msg::fs::{FsCall, FsHelperReply, FsOrder, FsReply};
use warden_proto::{Frame, Kind};

/// Bytes that a reply takes besides its content, generously.
const REPLY_SPARE_BYTES: usize = 64;

/// Answers calls until the broker says goodbye or goes. A cancel that comes in time is seen by the call's pulse.
pub fn serve(mut wire: Wire, mut files: Files) -> Result<(), CallsError> {
    let mut calls = Calls::default();
    while let Some(frame) = calls.next(|| wire.next())? {
        let done = answer(&mut wire, &mut files, &mut calls, &frame)?;
        let reply = dress(&mut wire, &mut calls, done)?;
        wire.link.send(Kind::Reply, frame.request, &reply, &[], true)?;
    }
    Ok(())
}

fn answer(
    wire: &mut Wire,
    files: &mut Files,
    calls: &mut Calls,
    frame: &Frame,
) -> Result<Result<Done, CallError>, CallsError> {
    let order: FsOrder = frame.decode()?;
    // Taken whatever comes of the call, so that a payload never stays behind.
    let contents = match &order.call {
        FsCall::WriteFile { contents, .. } => calls.take(contents.clone())?,
        _ => Vec::new(),
    };
    Ok(files.perform(order, &contents, &mut wire.pulse(frame.request)).map_err(CallError::from))
}

/// The reply to send, its content sent ahead where a frame has no room for it.
fn dress(wire: &mut Wire, calls: &mut Calls, done: Result<Done, CallError>) -> Result<FsHelperReply, CallsError> {
    Ok(match done {
        Err(error) => Err(error),
        Ok(Done::Reply(reply)) => Ok(reply),
        Ok(Done::Content { bytes, truncated }) => {
            let contents = calls.body(&mut wire.link, bytes, REPLY_SPARE_BYTES)?;
            Ok(FsReply::Content { contents, truncated })
        }
    })
}
