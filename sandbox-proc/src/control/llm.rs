//! `osagent:llm/llm`.

#![forbid(unsafe_code)]

use super::bindings::osagent::llm::llm::{self, CompletionResponse, Message, Options, ToolResponse, ToolSchema};
use super::text;
use crate::worker::call::{Fault, Link};
use crate::worker::guest::Guest;
use warden_proto::blob::Body;
use warden_proto::msg::error::ErrorCode;
use warden_proto::msg::llm::{self as wire, Conversation, LlmCall, LlmOptions};
use warden_proto::msg::worker::Origin;
use warden_proto::{List, codec};

/// What a call holds beside its conversation: stop sequences and numbers, bytes.
const OPTIONS_MAX_BYTES: usize = 8 * 1024;

/// Encodes a conversation as the payload of a call, which must follow.
pub fn conversation_body(link: &mut Link, conversation: &Conversation) -> Result<Body, Fault> {
    let bytes = codec::encode(conversation).map_err(|e| Fault::answer(ErrorCode::InvalidArgument, &e.to_string()))?;
    link.body(bytes, OPTIONS_MAX_BYTES)
}

impl Guest {
    fn ask(
        &mut self,
        messages: Vec<Message>,
        tools: Option<Vec<ToolSchema>>,
        options: Options,
    ) -> Result<Answer, Fault> {
        let options = wire_options(options)?;
        let with_tools = tools.is_some();
        let conversation = Conversation {
            messages: bounded("messages", messages.into_iter().map(wire_message).collect::<Result<_, _>>()?)?,
            tools: bounded("tools", tools.unwrap_or_default().into_iter().map(wire_tool).collect::<Result<_, _>>()?)?,
        };
        let conversation = conversation_body(&mut self.link, &conversation)?;
        let reply = self.link.llm(Origin::Import, LlmCall { conversation, tools: with_tools, options })?;
        let content = self.link.take(reply.content)?;
        let content = String::from_utf8(content)
            .map_err(|_| Fault::answer(ErrorCode::Internal, "the model's answer is not UTF-8 text"))?;
        let usage = reply.usage.map(|usage| llm::TokenUsage {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            total_tokens: usage.total_tokens,
        });
        Ok(Answer { content, finish_reason: reply.finish_reason.map(|reason| reason.into_string()), usage })
    }
}

struct Answer {
    content: String,
    finish_reason: Option<String>,
    usage: Option<llm::TokenUsage>,
}

impl llm::Host for Guest {
    fn complete(&mut self, messages: Vec<Message>, options: Options) -> Result<CompletionResponse, Fault> {
        let Answer { content, finish_reason, usage } = self.ask(messages, None, options)?;
        Ok(CompletionResponse { content, finish_reason, usage })
    }

    fn call_tools(
        &mut self,
        messages: Vec<Message>,
        tools: Vec<ToolSchema>,
        options: Options,
    ) -> Result<ToolResponse, Fault> {
        let Answer { content, finish_reason, usage } = self.ask(messages, Some(tools), options)?;
        Ok(ToolResponse { tool_calls_json: content, finish_reason, usage })
    }
}

fn bounded<T, const N: usize>(what: &str, items: Vec<T>) -> Result<List<T, N>, Fault> {
    List::new(items)
        .map_err(|e| Fault::answer(ErrorCode::InvalidArgument, &format!("{} {what} are more than {}", e.len, e.max)))
}

fn wire_message(message: Message) -> Result<wire::Message, Fault> {
    let role = match message.role {
        llm::Role::System => wire::MessageRole::System,
        llm::Role::User => wire::MessageRole::User,
        llm::Role::Assistant => wire::MessageRole::Assistant,
        llm::Role::Tool => wire::MessageRole::Tool,
    };
    let name = message.name.map(|name| text("a message's name", name)).transpose()?;
    Ok(wire::Message { role, content: text("a message", message.content)?, name })
}

fn wire_tool(tool: ToolSchema) -> Result<wire::ToolSchema, Fault> {
    Ok(wire::ToolSchema {
        name: text("a tool's name", tool.name)?,
        description: text("a tool's description", tool.description)?,
        schema_json: text("a tool's schema", tool.schema_json)?,
    })
}

fn wire_options(options: Options) -> Result<LlmOptions, Fault> {
    let stop = options.stop.into_iter().map(|stop| text("a stop sequence", stop)).collect::<Result<_, _>>()?;
    Ok(LlmOptions {
        max_tokens: options.max_tokens,
        temperature_milli: options.temperature.map(thousandths).transpose()?,
        top_p_milli: options.top_p.map(thousandths).transpose()?,
        stop: bounded("stop sequences", stop)?,
        presence_penalty_milli: options.presence_penalty.map(thousandths).transpose()?,
        frequency_penalty_milli: options.frequency_penalty.map(thousandths).transpose()?,
    })
}

/// Messages carry no floats.
fn thousandths(value: f32) -> Result<i32, Fault> {
    if !value.is_finite() || value.abs() > 1000.0 {
        return Err(Fault::answer(
            ErrorCode::InvalidArgument,
            "an option of the model is no number between -1000 and 1000",
        ));
    }
    // In range, as checked: the conversion only rounds.
    Ok((value * 1000.0).round() as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_thousandths() {
        assert_eq!(thousandths(0.2).unwrap(), 200);
        assert_eq!(thousandths(-1.5).unwrap(), -1500);
        assert!(thousandths(f32::NAN).is_err());
        assert!(thousandths(f32::INFINITY).is_err());
    }
}
