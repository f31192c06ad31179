//! How an operation fails, and what of it the guest is told.
//!
//! Runs in the process that acts. Three classes are kept apart: a denial carries the rule; a failure carries one of the contract's codes;
//! a broken protocol is no [`OpError`] at all but ends the process (`serve.rs`). No message holds a host path: what a call
//! names is shown as `label:relative`, control characters escaped (T-14).

use nix::errno::Errno;
use warden_proto::msg::error::{CallError, ErrorCode};

/// An operation did not happen, or not to its end.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OpError {
    /// A rule says no.
    #[error("{why}")]
    Denied {
        /// Which.
        rule: String,
        /// What, and why.
        why: String,
    },
    /// The system says no.
    #[error("cannot {doing} `{shown}`: {}", .errno.desc())]
    System {
        /// The step.
        doing: &'static str,
        /// To what.
        shown: String,
        /// The system's reason.
        errno: Errno,
    },
    /// A bound is reached.
    #[error("{0}")]
    Limit(String),
    /// A bound of the policy is reached.
    #[error("{why}")]
    Bound {
        /// Which.
        rule: String,
        /// What, and why.
        why: String,
    },
    /// The thing is not as the request needs it.
    #[error("{0}")]
    Conflict(String),
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// Out of time, or cancelled.
    #[error("{0}")]
    Stopped(String),
}

impl OpError {
    /// A denial by `rule` of what is shown as `shown`.
    pub fn denied(rule: &str, shown: &str, why: &str) -> Self {
        Self::Denied { rule: rule.to_owned(), why: format!("`{shown}` {why}") }
    }

    /// The system's refusal of a step, for `map_err`.
    pub fn system(doing: &'static str, shown: &str) -> impl Fn(Errno) -> Self {
        move |errno| Self::System { doing, shown: shown.to_owned(), errno }
    }

    /// The system's reason, where it was the system.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::System { errno, .. } => Some(*errno),
            _ => None,
        }
    }

    fn code(&self) -> ErrorCode {
        match self {
            Self::Denied { .. } => ErrorCode::Denied,
            Self::System { errno, .. } => code_of(*errno),
            Self::Limit(_) | Self::Bound { .. } => ErrorCode::Limit,
            Self::Conflict(_) => ErrorCode::Conflict,
            Self::Invalid(_) => ErrorCode::InvalidArgument,
            Self::NotFound(_) => ErrorCode::NotFound,
            Self::Stopped(_) => ErrorCode::Timeout,
        }
    }
}

impl From<OpError> for CallError {
    fn from(error: OpError) -> Self {
        let message = error.to_string();
        match &error {
            OpError::Denied { rule, .. } => CallError::denied(rule, &message),
            OpError::Bound { rule, .. } => {
                CallError { rule: warden_proto::Text::cut(rule), ..CallError::new(ErrorCode::Limit, &message) }
            }
            _ => CallError::new(error.code(), &message),
        }
    }
}

fn code_of(errno: Errno) -> ErrorCode {
    match errno {
        Errno::ENOENT => ErrorCode::NotFound,
        Errno::EACCES | Errno::EPERM | Errno::EROFS => ErrorCode::Denied,
        Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG | Errno::EMLINK => ErrorCode::Limit,
        Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM => ErrorCode::Limit,
        Errno::EISDIR | Errno::ENOTDIR | Errno::EEXIST | Errno::ENOTEMPTY | Errno::EXDEV => ErrorCode::Conflict,
        Errno::EBUSY | Errno::ETXTBSY | Errno::EAGAIN => ErrorCode::Conflict,
        Errno::ENAMETOOLONG | Errno::EINVAL | Errno::EILSEQ => ErrorCode::InvalidArgument,
        _ => ErrorCode::Internal,
    }
}

/// Text of a guest or a directory as messages may show it: control characters escaped, cut at 256 characters (T-14).
pub fn shown(label: &str, path: &[u8]) -> String {
    let path = String::from_utf8_lossy(path);
    let mut out = format!("{label}:");
    for c in path.chars().take(256) {
        if c.is_control() || is_directional(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// Characters that reorder the text around them.
fn is_directional(c: char) -> bool {
    matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_shows_no_control_character_and_no_rule_but_the_denials() {
        assert_eq!(shown("repo", b"a\x1b[31m\xe2\x80\xaeb"), "repo:a\\u{1b}[31m\\u{202e}b");
        let denied = CallError::from(OpError::denied("fs.workspace.repo.deny[0]", "repo:.env", "is denied"));
        assert_eq!((denied.code, denied.rule.as_str()), (ErrorCode::Denied, "fs.workspace.repo.deny[0]"));
        let refused = CallError::from(OpError::system("open", "repo:x")(Errno::EACCES));
        assert_eq!((refused.code, refused.rule.as_str()), (ErrorCode::Denied, ""));
        for (errno, code) in [
            (Errno::ENOENT, ErrorCode::NotFound),
            (Errno::ENOSPC, ErrorCode::Limit),
            (Errno::EISDIR, ErrorCode::Conflict),
            (Errno::ENAMETOOLONG, ErrorCode::InvalidArgument),
        ] {
            assert_eq!(CallError::from(OpError::system("open", "x")(errno)).code, code);
        }
    }
}
