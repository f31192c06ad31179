//! What the planner asks of its host, as a trait, so that the logic is tested without a runtime.
//!
//! The one implementation that ships is `component`, over the WIT imports.

/// Who speaks in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    System,
    User,
    Assistant,
}

/// One message of the conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub role: Role,
    pub content: String,
}

impl Message {
    pub fn system(content: String) -> Self {
        Self { role: Role::System, content }
    }
    pub fn user(content: String) -> Self {
        Self { role: Role::User, content }
    }
    pub fn assistant(content: String) -> Self {
        Self { role: Role::Assistant, content }
    }
}

/// A tool offered to the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    pub name: String,
    pub description: &'static str,
    /// JSON schema of the input.
    pub schema_json: String,
}

/// A workspace that the task has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    pub label: String,
    pub read_only: bool,
    pub max_file_bytes: Option<u64>,
}

/// A command that the task has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    pub name: String,
    pub description: Option<String>,
}

/// A budget that is limited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    pub kind: &'static str,
    pub limit: u64,
}

/// What the policy says the task may do. The first workspace is the one a path without a label means.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    pub workspaces: Vec<Workspace>,
    pub commands: Vec<Command>,
    pub budgets: Vec<Budget>,
}

/// A call to the host that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{call}: {code}: {message}")]
pub struct CallFault {
    /// `llm.complete`, `llm.call-tools`, `policy.describe`.
    pub call: &'static str,
    /// A code of the WIT, `unavailable`.
    pub code: &'static str,
    pub message: String,
}

impl CallFault {
    /// Only a deadline and a failure of the host's own may be gone at the next try: cap-llm has already repeated what can be repeated,
    /// and a denial, a spent budget or a recording at its end stay what they are.
    pub fn retryable(&self) -> bool {
        matches!(self.code, "timeout" | "internal")
    }
}

/// The host's side.
pub trait Host {
    /// What the task may do now.
    fn describe(&mut self) -> Result<Grants, CallFault>;
    /// The model's answer in words.
    fn complete(&mut self, messages: &[Message]) -> Result<String, CallFault>;
    /// The model's answer in tool calls, JSON text; `[]` when it called none.
    fn call_tools(&mut self, messages: &[Message], tools: &[Tool]) -> Result<String, CallFault>;
}
