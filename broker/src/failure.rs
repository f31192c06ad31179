//! How a command fails before or beside a task: what happened, in which class, with which exit status.

use serde_json::{Value, json};

/// Status of a task that was cancelled is 128 and the signal's number.
pub const SIGNAL_BASE: i32 = 128;

/// The classes of `error_code` (design §8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Policy said no.
    Denied,
    /// A limit was reached.
    Budget,
    /// Time was up.
    Timeout,
    /// The guest trapped.
    Trap,
    /// A peer broke the protocol.
    Refused,
    /// Something that is needed is not there or was lost.
    Unavailable,
    /// A module, command, tool or file that was named does not exist.
    NotFound,
    /// The command line, policy or manifest is wrong.
    Usage,
    /// A module is not valid, or wants what is not there.
    InvalidModule,
    /// Our side failed.
    Internal,
    /// A person asked for the end, by this signal.
    Cancelled(i32),
}

impl Class {
    /// `error_code` in results.
    pub fn code(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Budget => "budget",
            Self::Timeout => "timeout",
            Self::Trap => "trap",
            Self::Refused => "refused",
            Self::Unavailable | Self::Cancelled(_) => "unavailable",
            Self::NotFound => "not-found",
            Self::Usage | Self::InvalidModule => "invalid-argument",
            Self::Internal => "internal",
        }
    }

    /// Exit status.
    pub fn status(self) -> i32 {
        match self {
            Self::Denied => 126,
            Self::Budget | Self::Timeout => 124,
            Self::Trap | Self::Refused | Self::Unavailable | Self::InvalidModule | Self::Internal => 125,
            Self::NotFound => 127,
            Self::Usage => 2,
            Self::Cancelled(signal) => SIGNAL_BASE.saturating_add(signal),
        }
    }
}

/// A command cannot go on.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// In which class.
    pub class: Class,
    /// What happened, to what, and what to do.
    pub message: String,
}

impl Failure {
    /// A failure of `class`.
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Self { class, message: message.into() }
    }

    /// A mistake of the command line, a policy or a manifest.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Class::Usage, message)
    }

    /// Our side.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Class::Internal, message)
    }

    /// `warden.error/1`.
    pub fn to_json(&self) -> Value {
        json!({"schema": "warden.error/1", "status": "error", "error": self.message, "error_code": self.class.code()})
    }
}

/// A path as a shell takes it, for commands that somebody is told to type.
pub fn shell_word(path: &std::path::Path) -> String {
    let text = path.display().to_string();
    let plain = |each: char| each.is_ascii_alphanumeric() || "/._-+@%=:,".contains(each);
    if !text.is_empty() && !text.starts_with('-') && text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

impl From<crate::deciding::DecidingError> for Failure {
    fn from(error: crate::deciding::DecidingError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<crate::runtime::RuntimeError> for Failure {
    fn from(error: crate::runtime::RuntimeError) -> Self {
        let class = match error {
            crate::runtime::RuntimeError::Workspace { .. } => Class::Usage,
            _ => Class::Internal,
        };
        Self::new(class, error.to_string())
    }
}

impl From<crate::jailed::JailedError> for Failure {
    fn from(error: crate::jailed::JailedError) -> Self {
        Self::new(class_of_start(&error), error.to_string())
    }
}

/// A process that could not be started is not there; a log that could not be written is our side's failure.
fn class_of_start(error: &crate::jailed::JailedError) -> Class {
    match error {
        crate::jailed::JailedError::Unrecorded { .. } => Class::Internal,
        crate::jailed::JailedError::Cancelled { signal } => Class::Cancelled(*signal),
        _ => Class::Unavailable,
    }
}

impl From<crate::audit::AuditError> for Failure {
    fn from(error: crate::audit::AuditError) -> Self {
        Self::internal(error.to_string())
    }
}

impl From<crate::compile::CompileError> for Failure {
    fn from(error: crate::compile::CompileError) -> Self {
        use crate::compile::CompileError;
        let class = match &error {
            CompileError::Invalid(_) => Class::InvalidModule,
            CompileError::Deadline => Class::Timeout,
            CompileError::Ended(_) => Class::Refused,
            CompileError::Jailed(start) => class_of_start(start),
            CompileError::System(_) | CompileError::Lingers | CompileError::Unrecorded(_) => Class::Internal,
            CompileError::Cancelled { signal } => return Self::new(Class::Cancelled(*signal), error.to_string()),
        };
        Self::new(class, format!("the module could not be compiled: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::CompileError;
    use crate::jailed::JailedError;
    use std::path::Path;

    /// T-09: nobody is told to try again, or to install something, when it is the log that cannot be written.
    #[test]
    fn a_start_without_its_record_is_internal_and_one_that_failed_is_unavailable() {
        let unrecorded = || JailedError::Unrecorded { role: "worker", why: "no space left".into() };
        let failed = || JailedError::Setup { role: "worker", why: "too long".into() };
        assert_eq!(Failure::from(unrecorded()).class, Class::Internal);
        assert_eq!(Failure::from(CompileError::Jailed(unrecorded())).class, Class::Internal);
        assert_eq!(Failure::from(failed()).class, Class::Unavailable);
        assert_eq!(Failure::from(CompileError::Jailed(failed())).class, Class::Unavailable);
    }

    #[test]
    fn what_is_to_be_typed_is_one_word_of_a_shell() {
        assert_eq!(shell_word(Path::new("/srv/a-b_c.d")), "/srv/a-b_c.d");
        assert_eq!(shell_word(Path::new("/srv/a b; rm x")), "'/srv/a b; rm x'");
        assert_eq!(shell_word(Path::new("/srv/it's")), "'/srv/it'\\''s'");
        assert_eq!(shell_word(Path::new("-rf")), "'-rf'");
    }
}
