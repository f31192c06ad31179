//! What a task reaches outside of the host's files and programs: network, browser, display, model.

use std::path::PathBuf;

/// `[[net.allow]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetRule {
    pub host: String,
    pub ports: Vec<u16>,
    pub methods: Vec<String>,
    pub paths: Vec<String>,
    pub secret: Option<String>,
    pub allow_private: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BrowserDriver {
    Spawn,
    Url(String),
}

/// `[browser]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Browser {
    pub hosts: Vec<String>,
    pub screenshots: bool,
    pub uploads: Vec<String>,
    pub downloads: Option<String>,
    pub eval: bool,
    pub driver: BrowserDriver,
    /// Only from an earlier configuration.
    pub profile: Option<String>,
}

/// `[input]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    pub enabled: bool,
    /// `private`, or a display's name such as `:0`.
    pub display: String,
}

/// `[llm]`: one endpoint, and no other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Llm {
    Endpoint {
        provider: LlmProvider,
        base_url: String,
        model: String,
        secret: Option<String>,
    },
    /// Answers from a recording; reaches nothing.
    Replay {
        file: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LlmProvider {
    OpenAi,
    Anthropic,
    Ollama,
}

impl LlmProvider {
    pub fn name(self) -> &'static str {
        match self {
            LlmProvider::OpenAi => "openai",
            LlmProvider::Anthropic => "anthropic",
            LlmProvider::Ollama => "ollama",
        }
    }
}
