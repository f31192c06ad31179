//! Calls to the model: worker to broker to cap-llm.

use crate::blob::Body;
use crate::bounded::{List, Text};
use crate::limits::BLOB_MAX_BYTES;
use bincode::{Decode, Encode};

/// `role` of the WIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum MessageRole {
    /// Instructions.
    System,
    /// The person, or the loop in its place.
    User,
    /// The model.
    Assistant,
    /// A tool's answer.
    Tool,
}

/// `message` of the WIT.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Message {
    /// Who speaks.
    pub role: MessageRole,
    /// What.
    pub content: Text<BLOB_MAX_BYTES>,
    /// A name, where the endpoint wants one.
    pub name: Option<Text<256>>,
}

/// `tool-schema` of the WIT.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ToolSchema {
    /// Its name.
    pub name: Text<128>,
    /// What it does.
    pub description: Text<4096>,
    /// JSON schema of its input.
    pub schema_json: Text<65536>,
}

/// The payload of a call, encoded and sent as a [`Body`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Conversation {
    /// The messages, oldest first.
    pub messages: List<Message, 1024>,
    /// Tools the model may call; empty for `complete`.
    pub tools: List<ToolSchema, 256>,
}

/// `options` of the WIT; floats in thousandths.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct LlmOptions {
    /// Most tokens of the answer.
    pub max_tokens: Option<u32>,
    /// Thousandths.
    pub temperature_milli: Option<i32>,
    /// Thousandths.
    pub top_p_milli: Option<i32>,
    /// Stop sequences.
    pub stop: List<Text<256>, 16>,
    /// Thousandths.
    pub presence_penalty_milli: Option<i32>,
    /// Thousandths.
    pub frequency_penalty_milli: Option<i32>,
}

/// A call to the model → [`LlmReply`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct LlmCall {
    /// An encoded [`Conversation`].
    pub conversation: Body,
    /// `llm.call-tools` rather than `llm.complete`.
    pub tools: bool,
    /// Options.
    pub options: LlmOptions,
}

/// `token-usage` of the WIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub struct TokenUsage {
    /// Tokens sent.
    pub prompt_tokens: u32,
    /// Tokens received.
    pub completion_tokens: u32,
    /// Both.
    pub total_tokens: u32,
}

/// The model's answer.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct LlmReply {
    /// The text (`complete`) or the JSON array of tool calls (`call-tools`), UTF-8.
    pub content: Body,
    /// Why it stopped.
    pub finish_reason: Option<Text<64>>,
    /// What it cost.
    pub usage: Option<TokenUsage>,
    /// A recording's `expect` did not match: the task ends `failed` with this detail.
    pub mismatch: Option<Text<1024>>,
}

/// Which endpoint cap-llm speaks to.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Provider {
    /// A recording: the setup's first descriptor.
    Replay,
}

/// Setup document of cap-llm.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct LlmSetup {
    /// The task's id.
    pub task: [u8; 16],
    /// Which endpoint.
    pub provider: Provider,
    /// The model's name.
    pub model: Text<256>,
    /// Calls of this task that an earlier process of this helper was sent: a recording goes on behind them.
    pub calls_before: u32,
}

/// What cap-llm answers.
pub type LlmHelperReply = Result<LlmReply, super::error::CallError>;
