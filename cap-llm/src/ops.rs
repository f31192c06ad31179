//! What cap-llm does once it is locked: one call at a time, in the order in which they come.
//!
//! A frame that does not decode, is of a kind that is not due, or brings a descriptor ends the process: the sender has
//! broken the protocol (T-05). A conversation that the recording does not answer is an ordinary answer.

use crate::recording::{Answer, Recording, RecordingError};
use warden_proto::blob::{self, BlobError, Inbox};
use warden_proto::codec::{self, CodecError};
use warden_proto::msg::error::{CallError, ErrorCode};
use warden_proto::msg::llm::{Conversation, LlmCall, LlmHelperReply, LlmReply};
use warden_proto::socket::SocketError;
use warden_proto::{FrameSocket, Kind, Text};

/// Bytes that an [`LlmReply`] takes besides its content, generously: a frame has room for them beside the longest
/// inline payload.
const REPLY_SPARE_BYTES: usize = 2048;

/// Serving ended by a fault of the peer or of the link.
#[derive(Debug, thiserror::Error)]
pub enum OpsError {
    /// The link broke, or a frame is none.
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
pub fn serve(mut link: FrameSocket, mut recording: Recording) -> Result<(), OpsError> {
    let mut inbox = Inbox::default();
    let mut next_blob = 0_u32;
    loop {
        let frame = match link.receive(0, None) {
            Err(SocketError::Closed) => return Ok(()),
            other => other?,
        };
        match frame.kind {
            Kind::Part => inbox.put(frame.decode()?)?,
            // Answers are immediate: what is cancelled has been answered already.
            Kind::Cancel => {}
            Kind::Goodbye => return Ok(()),
            Kind::Call => {
                let call: LlmCall = frame.decode()?;
                let conversation: Conversation = codec::decode_document(&inbox.take(call.conversation)?)?;
                let result = answer(&mut recording, &conversation, call.tools);
                let reply = dress(&mut link, &mut next_blob, result)?;
                link.send(Kind::Reply, frame.request, &reply, &[], true)?;
            }
            other => return Err(OpsError::OutOfState(other)),
        }
    }
}

fn answer(recording: &mut Recording, conversation: &Conversation, tools: bool) -> Result<Answer, RecordingError> {
    let last = conversation.messages.last().map(|message| message.content.as_str()).unwrap_or_default();
    recording.answer(last, tools)
}

/// The reply to send, its content sent ahead where a frame has no room for it.
fn dress(
    link: &mut FrameSocket,
    next_blob: &mut u32,
    result: Result<Answer, RecordingError>,
) -> Result<LlmHelperReply, OpsError> {
    let reply = |content, answer: Answer| LlmReply {
        content,
        finish_reason: answer.finish_reason.map(|reason| Text::cut(&reason)),
        usage: answer.usage,
        mismatch: None,
    };
    match result {
        Ok(mut answer) => {
            *next_blob = next_blob.wrapping_add(1);
            let content = std::mem::take(&mut answer.content).into_bytes();
            let content = blob::send(link, *next_blob, content, REPLY_SPARE_BYTES)?;
            Ok(Ok(reply(content, answer)))
        }
        Err(RecordingError::Mismatch(detail)) => {
            let content = blob::send(link, *next_blob, Vec::new(), REPLY_SPARE_BYTES)?;
            Ok(Ok(LlmReply { mismatch: Some(Text::cut(&detail)), ..reply(content, Answer::default()) }))
        }
        Err(other) => Ok(Err(CallError::new(ErrorCode::Unavailable, &other.to_string()))),
    }
}
