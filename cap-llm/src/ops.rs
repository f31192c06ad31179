//! What cap-llm does once it is locked: one call at a time, in the order in which they come. A conversation that the
//! recording does not answer is an ordinary answer.

use crate::recording::{Answer, Recording, RecordingError};
use warden_proto::calls::{Calls, CallsError};
use warden_proto::codec;
use warden_proto::msg::error::{CallError, ErrorCode};
use warden_proto::msg::llm::{Conversation, LlmCall, LlmHelperReply, LlmReply};
use warden_proto::{FrameSocket, Kind, Text};

/// Bytes that an [`LlmReply`] takes besides its content, generously: a frame has room for them beside the longest
/// inline payload.
const REPLY_SPARE_BYTES: usize = 2048;

/// Answers calls until the broker says goodbye or goes. Answers are immediate, so that there is nothing to cancel.
pub fn serve(mut link: FrameSocket, mut recording: Recording) -> Result<(), CallsError> {
    let mut calls = Calls::default();
    while let Some(frame) = calls.next(|| link.receive(0, None))? {
        let call: LlmCall = frame.decode()?;
        let conversation: Conversation = codec::decode_document(&calls.take(call.conversation)?)?;
        let result = answer(&mut recording, &conversation, call.tools);
        let reply = dress(&mut link, &mut calls, result)?;
        link.send(Kind::Reply, frame.request, &reply, &[], true)?;
    }
    Ok(())
}

fn answer(recording: &mut Recording, conversation: &Conversation, tools: bool) -> Result<Answer, RecordingError> {
    let last = conversation.messages.last().map(|message| message.content.as_str()).unwrap_or_default();
    recording.answer(last, tools)
}

/// The reply to send, its content sent ahead where a frame has no room for it.
fn dress(
    link: &mut FrameSocket,
    calls: &mut Calls,
    result: Result<Answer, RecordingError>,
) -> Result<LlmHelperReply, CallsError> {
    let reply = |content, answer: Answer| LlmReply {
        content,
        finish_reason: answer.finish_reason.map(|reason| Text::cut(&reason)),
        usage: answer.usage,
        mismatch: None,
    };
    match result {
        Ok(mut answer) => {
            let content = std::mem::take(&mut answer.content).into_bytes();
            let content = calls.body(link, content, REPLY_SPARE_BYTES)?;
            Ok(Ok(reply(content, answer)))
        }
        Err(RecordingError::Mismatch(detail)) => {
            let content = calls.body(link, Vec::new(), REPLY_SPARE_BYTES)?;
            Ok(Ok(LlmReply { mismatch: Some(Text::cut(&detail)), ..reply(content, Answer::default()) }))
        }
        Err(other) => Ok(Err(CallError::new(ErrorCode::Unavailable, &other.to_string()))),
    }
}
