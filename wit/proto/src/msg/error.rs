//! How a call fails, in the terms that a guest sees: the eight codes of `osagent:common/types`.

use crate::bounded::Text;
use bincode::{Decode, Encode};

/// The codes of `capability-error-code`, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum ErrorCode {
    /// Policy said no.
    Denied,
    /// There is no such thing.
    NotFound,
    /// The request makes no sense.
    InvalidArgument,
    /// A budget is spent or a bound reached.
    Limit,
    /// A deadline passed.
    Timeout,
    /// The thing is in another state than the request needs.
    Conflict,
    /// The capability is off, or its helper is gone.
    Unavailable,
    /// Our side failed.
    Internal,
}

impl ErrorCode {
    /// The code's name in JSON and WIT.
    pub fn name(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::NotFound => "not-found",
            Self::InvalidArgument => "invalid-argument",
            Self::Limit => "limit",
            Self::Timeout => "timeout",
            Self::Conflict => "conflict",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }
}

/// A call's failure. Only a denial goes to the guest in full; the message never holds a host path.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, thiserror::Error)]
#[error("{}: {message}", code.name())]
pub struct CallError {
    /// Which of the eight.
    pub code: ErrorCode,
    /// What happened, to what, and what to do.
    pub message: Text<1024>,
    /// The rule that refused; empty when none did.
    pub rule: Text<256>,
}

impl CallError {
    /// A failure with no rule behind it.
    pub fn new(code: ErrorCode, message: &str) -> Self {
        Self { code, message: Text::cut(message), rule: Text::default() }
    }

    /// A denial by `rule`.
    pub fn denied(rule: &str, message: &str) -> Self {
        Self { code: ErrorCode::Denied, message: Text::cut(message), rule: Text::cut(rule) }
    }
}
