//! The shapes a caller fills in to have an act recorded. Plain data: nothing here touches a file.

use sha2::{Digest as _, Sha256};
use std::fmt;

/// A SHA-256 digest as 64 lower-case hex characters, the form that stands in the log.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HexDigest([u8; 64]);

impl HexDigest {
    /// The head before the first record of a log that follows nothing.
    pub const ZERO: Self = Self([b'0'; 64]);

    pub fn from_bytes(digest: [u8; 32]) -> Self {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut out = [b'0'; 64];
        for (pair, byte) in out.chunks_exact_mut(2).zip(digest) {
            if let ([high, low], Some(h), Some(l)) =
                (pair, HEX.get(usize::from(byte >> 4)), HEX.get(usize::from(byte & 15)))
            {
                *high = *h;
                *low = *l;
            }
        }
        Self(out)
    }

    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_bytes(Sha256::digest(bytes).into())
    }

    /// Reads exactly 64 lower-case hex characters.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; 64] = text.as_bytes().try_into().ok()?;
        bytes.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')).then_some(Self(bytes))
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    pub(super) fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl fmt::Display for HexDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for HexDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An input or an output. Every text is escaped by the log and bounded by it: a text or byte
/// string over 1 KiB, or a whole over 4 KiB of JSON, is recorded as its length and hash.
/// There is no variant that takes finished JSON, so that no caller can hand on a forged line (T-14).
/// Secrets must be out before a value comes here (T-08).
#[derive(Clone, Copy, Debug, Default)]
pub enum Value<'a> {
    #[default]
    Null,
    Bool(bool),
    Number(u64),
    Signed(i64),
    Text(&'a str),
    /// Valid UTF-8 is recorded as text, anything else as `{"hex":"…"}`.
    Bytes(&'a [u8]),
    /// Bytes whose hash somebody trusted has computed already (a leased file).
    Summary {
        len: u64,
        sha256: &'a HexDigest,
    },
    List(&'a [Value<'a>]),
    /// One argument vector, so that callers need not build a list of values.
    Texts(&'a [String]),
    Fields(&'a [(&'a str, Value<'a>)]),
}

/// What the policy said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow,
    Deny,
    /// Allowed after a person said yes.
    Approved,
    /// Denied because a person said no, or nobody answered in time.
    Rejected,
}

impl Decision {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
        }
    }
}

/// What is known before an effect. `task`, `role`, `capability`, `op` and `rule` over 256 bytes
/// are recorded as `sha256:…`.
#[derive(Clone, Copy, Debug, Default)]
pub struct BeginRecord<'a> {
    /// The task's id; none for acts of the broker itself.
    pub task: Option<&'a str>,
    /// The process that asked: `worker`, `cap-fs`, `broker`…
    pub role: &'a str,
    /// The contract's name of the action: `fs.read_file`.
    pub capability: &'a str,
    /// The operation inside it: `open`, `read`, `lease`…
    pub op: &'a str,
    pub input: Value<'a>,
    pub decision: Option<Decision>,
    /// The id of the rule that decided.
    pub rule: Option<&'a str>,
    pub policy_hash: Option<&'a HexDigest>,
}

/// How an act ended.
#[derive(Clone, Copy, Debug, Default)]
pub enum Outcome<'a> {
    /// Not known when the record is written (an act whose only effect is its answer).
    #[default]
    Unstated,
    /// Recorded as `{"ok":…}`.
    Done(Value<'a>),
    /// Recorded as `{"error":code,"message":…}`.
    Failed { code: &'a str, message: &'a str },
}

/// What is known after an effect. The log itself adds the duration since the begin record.
#[derive(Clone, Copy, Debug, Default)]
pub struct EndRecord<'a> {
    pub result: Outcome<'a>,
    /// Payload bytes moved.
    pub bytes: Option<u64>,
}

/// An act with one record: its only effect is its answer, or it was denied.
#[derive(Clone, Copy, Debug, Default)]
pub struct Record<'a> {
    pub act: BeginRecord<'a>,
    pub end: EndRecord<'a>,
    pub duration_us: Option<u64>,
}

/// The right to write one end record, given by a begin record. Space for that record is
/// allocated already. A ticket that is never redeemed leaves a call the verifier calls unknown.
#[derive(Debug)]
#[must_use = "a begin record without its end record is a call of unknown outcome"]
pub struct Ticket {
    pub(super) slot: usize,
    pub(super) seq: u64,
}

impl Ticket {
    /// The sequence number of the begin record.
    pub fn seq(&self) -> u64 {
        self.seq
    }
}

/// Where the log stands: the `audit` object of every result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub segment: String,
    /// Sequence number of the last record.
    pub seq: u64,
    /// Its hash.
    pub head: HexDigest,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_is_lower_hex_and_parses_back() {
        let d = HexDigest::of(b"abc");
        assert_eq!(d.as_str(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(HexDigest::parse(d.as_str()), Some(d));
        assert_eq!(HexDigest::parse(&d.as_str().to_uppercase()), None);
        assert_eq!(HexDigest::parse("ab"), None);
    }
}
