//! The canonical form of a record: one line of JSON, its members always these and in this order,
//! written into one buffer that every record reuses.
//!
//! `{"seq":…,"time":…,"mono_us":…,"task":…,"uid":…,"role":…,"capability":…,"op":…,"phase":…,"input":…,`
//! `"decision":…,"rule":…,"policy_hash":…,"result":…,"bytes":…,"duration_us":…,"prev":…,"hash":…}` and a newline.
//!
//! `hash` is the SHA-256 of the line's bytes with the member `,"hash":"…"` taken out and without the newline,
//! that is, of everything up to and including the closing quote of `prev`, followed by `}`. `prev` is the `hash`
//! of the record before. By hand: `sed 's/,"hash":"[0-9a-f]*"}$/}/' | tr -d '\n' | sha256sum`.

use super::clock::{Instants, SecondsText};
use super::escape::push_escaped;
use super::record::{BeginRecord, EndRecord, HexDigest, Outcome, Value};
use sha2::{Digest as _, Sha256};

/// A single text or byte string over this is recorded as length and hash.
pub(super) const LEAF_MAX_BYTES: usize = 1024;
/// A whole input or result over this, as JSON, is recorded as length and hash.
pub(super) const VALUE_MAX_BYTES: usize = 4096;
/// An identifier over this, escaped, is recorded as `sha256:…`.
pub(super) const NAME_MAX_BYTES: usize = 256;
/// No end or closing record is longer: what is allocated ahead for each call in flight.
/// Five identifiers, one value, and under 700 bytes of member names, numbers and hashes.
pub(super) const END_RECORD_MAX_BYTES: usize = 5 * (NAME_MAX_BYTES + 2) + VALUE_MAX_BYTES + 700;
/// No line is longer (the opening record is the longest); a reader refuses more.
pub(super) const LINE_MAX_BYTES: usize = 32 * 1024;

/// `,"hash":"` and 64 digits and `"}`: what is taken out of a line before it is hashed.
pub(super) const HASH_MEMBER: &[u8] = b",\"hash\":\"";
pub(super) const HASH_TAIL_BYTES: usize = HASH_MEMBER.len() + 64 + 2;

/// The buffer a record is formed in.
#[derive(Debug, Default)]
pub(super) struct Line {
    bytes: Vec<u8>,
    seconds: SecondsText,
}

impl Line {
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The length the line will have when it is sealed.
    pub fn sealed_len(&self) -> usize {
        // `,"prev":"` + 64 + `"` and the hash member and the newline.
        self.bytes.len().saturating_add(9 + 64 + 1 + HASH_TAIL_BYTES + 1)
    }

    /// Begins a record, dropping what was there.
    pub fn start(&mut self, seq: u64, now: &Instants) {
        self.bytes.clear();
        // A single huge value must not keep its memory for ever (T-06).
        if self.bytes.capacity() > 256 * 1024 {
            self.bytes.shrink_to(16 * 1024);
        }
        self.raw(b"{\"seq\":");
        self.number(seq);
        self.raw(b",\"time\":\"");
        let text = self.seconds.of(now.unix_seconds);
        self.bytes.extend_from_slice(text.as_bytes());
        self.raw(b".");
        self.padded_micros(now.micros);
        self.raw(b"Z\",\"mono_us\":");
        self.number(now.mono_us);
    }

    /// `task` to `op`: the part that an end record repeats.
    pub fn identity(&mut self, uid: u32, act: &BeginRecord<'_>) -> std::ops::Range<usize> {
        let from = self.bytes.len();
        self.raw(b",\"task\":");
        self.optional_name(act.task);
        self.raw(b",\"uid\":");
        self.number(u64::from(uid));
        self.raw(b",\"role\":");
        self.name(act.role);
        self.raw(b",\"capability\":");
        self.name(act.capability);
        self.raw(b",\"op\":");
        self.name(act.op);
        from..self.bytes.len()
    }

    pub fn phase(&mut self, phase: &str) {
        self.raw(b",\"phase\":\"");
        self.raw(phase.as_bytes());
        self.raw(b"\",\"input\":");
    }

    /// `decision` to `policy_hash`.
    pub fn verdict(&mut self, act: &BeginRecord<'_>) {
        self.raw(b",\"decision\":");
        match act.decision {
            Some(decision) => {
                self.raw(b"\"");
                self.raw(decision.as_str().as_bytes());
                self.raw(b"\"");
            }
            None => self.raw(b"null"),
        }
        self.raw(b",\"rule\":");
        self.optional_name(act.rule);
        self.policy(act.policy_hash);
    }

    pub fn policy(&mut self, policy_hash: Option<&HexDigest>) {
        self.raw(b",\"policy_hash\":");
        match policy_hash {
            Some(hash) => self.digest(hash),
            None => self.raw(b"null"),
        }
    }

    /// `result` to `duration_us`.
    pub fn ending(&mut self, end: &EndRecord<'_>, duration_us: Option<u64>) {
        self.raw(b",\"result\":");
        let from = self.bytes.len();
        match end.result {
            Outcome::Unstated => self.raw(b"null"),
            Outcome::Done(value) => {
                self.raw(b"{\"ok\":");
                self.unbounded(&value);
                self.raw(b"}");
            }
            Outcome::Failed { code, message } => {
                self.raw(b"{\"error\":");
                self.name(code);
                self.raw(b",\"message\":");
                self.leaf(message.as_bytes(), Some(message));
                self.raw(b"}");
            }
        }
        self.bound(from);
        self.raw(b",\"bytes\":");
        self.optional_number(end.bytes);
        self.raw(b",\"duration_us\":");
        self.optional_number(duration_us);
    }

    /// Closes the line with `prev`, `hash` and the newline; returns the hash.
    pub fn seal(&mut self, prev: &HexDigest) -> HexDigest {
        self.raw(b",\"prev\":");
        self.digest(prev);
        self.bytes.push(b'}');
        let hash = HexDigest::from_bytes(Sha256::digest(&self.bytes).into());
        self.bytes.pop();
        self.raw(HASH_MEMBER);
        self.raw(hash.as_bytes());
        self.raw(b"\"}\n");
        hash
    }

    /// A value, or its length and hash when its JSON passes the bound.
    pub fn value(&mut self, value: &Value<'_>) {
        let from = self.bytes.len();
        self.unbounded(value);
        self.bound(from);
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Part of the line, to be repeated by another.
    pub fn part(&self, range: std::ops::Range<usize>) -> &[u8] {
        self.bytes.get(range).unwrap_or_default()
    }

    pub fn number(&mut self, mut number: u64) {
        let mut digits = [b'0'; 20];
        let mut from = digits.len();
        for digit in digits.iter_mut().rev() {
            *digit = b'0'.saturating_add(u8::try_from(number % 10).unwrap_or(0));
            number /= 10;
            from = from.saturating_sub(1);
            if number == 0 {
                break;
            }
        }
        self.bytes.extend_from_slice(digits.get(from..).unwrap_or_default());
    }

    pub fn digest(&mut self, digest: &HexDigest) {
        self.bytes.push(b'"');
        self.raw(digest.as_bytes());
        self.bytes.push(b'"');
    }

    /// An identifier, or its hash when it is over the bound (T-06: a line has a greatest length).
    pub fn name(&mut self, name: &str) {
        let from = self.bytes.len();
        self.bytes.push(b'"');
        if name.len() <= NAME_MAX_BYTES {
            push_escaped(&mut self.bytes, name);
            if self.bytes.len().saturating_sub(from) <= NAME_MAX_BYTES.saturating_add(1) {
                self.bytes.push(b'"');
                return;
            }
        }
        self.bytes.truncate(from);
        self.raw(b"\"sha256:");
        self.raw(HexDigest::of(name.as_bytes()).as_bytes());
        self.bytes.push(b'"');
    }

    fn optional_name(&mut self, name: Option<&str>) {
        match name {
            Some(name) => self.name(name),
            None => self.raw(b"null"),
        }
    }

    fn optional_number(&mut self, number: Option<u64>) {
        match number {
            Some(number) => self.number(number),
            None => self.raw(b"null"),
        }
    }

    #[allow(clippy::arithmetic_side_effects, reason = "the divisors are constants above zero")]
    fn padded_micros(&mut self, micros: u32) {
        let mut rest = micros;
        for scale in [100_000, 10_000, 1000, 100, 10, 1] {
            self.bytes.push(b'0'.saturating_add(u8::try_from(rest / scale % 10).unwrap_or(0)));
            rest %= scale;
        }
    }

    fn bound(&mut self, from: usize) {
        let encoded = self.bytes.get(from..).unwrap_or_default();
        if encoded.len() > VALUE_MAX_BYTES {
            let (len, hash) = (encoded.len(), HexDigest::of(encoded));
            self.bytes.truncate(from);
            self.summary(u64::try_from(len).unwrap_or(u64::MAX), &hash, b",\"of\":\"json\"");
        }
    }

    fn summary(&mut self, len: u64, hash: &HexDigest, note: &[u8]) {
        self.raw(b"{\"len\":");
        self.number(len);
        self.raw(b",\"sha256\":");
        self.digest(hash);
        self.raw(note);
        self.raw(b"}");
    }

    fn leaf(&mut self, bytes: &[u8], text: Option<&str>) {
        if bytes.len() > LEAF_MAX_BYTES {
            let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            return self.summary(len, &HexDigest::of(bytes), b"");
        }
        match text.or_else(|| std::str::from_utf8(bytes).ok()) {
            Some(text) => {
                self.bytes.push(b'"');
                push_escaped(&mut self.bytes, text);
                self.bytes.push(b'"');
            }
            None => {
                self.raw(b"{\"hex\":\"");
                for byte in bytes {
                    self.raw(format!("{byte:02x}").as_bytes());
                }
                self.raw(b"\"}");
            }
        }
    }

    fn unbounded(&mut self, value: &Value<'_>) {
        match value {
            Value::Null => self.raw(b"null"),
            Value::Bool(true) => self.raw(b"true"),
            Value::Bool(false) => self.raw(b"false"),
            Value::Number(number) => self.number(*number),
            Value::Signed(number) => {
                if *number < 0 {
                    self.bytes.push(b'-');
                }
                self.number(number.unsigned_abs());
            }
            Value::Text(text) => self.leaf(text.as_bytes(), Some(text)),
            Value::Bytes(bytes) => self.leaf(bytes, None),
            Value::Summary { len, sha256 } => self.summary(*len, sha256, b""),
            Value::List(items) => {
                self.bytes.push(b'[');
                for (at, item) in items.iter().enumerate() {
                    self.comma(at);
                    self.unbounded(item);
                }
                self.bytes.push(b']');
            }
            Value::Texts(items) => {
                self.bytes.push(b'[');
                for (at, item) in items.iter().enumerate() {
                    self.comma(at);
                    self.leaf(item.as_bytes(), Some(item));
                }
                self.bytes.push(b']');
            }
            Value::Fields(fields) => {
                self.bytes.push(b'{');
                for (at, (name, item)) in fields.iter().enumerate() {
                    self.comma(at);
                    self.name(name);
                    self.bytes.push(b':');
                    self.unbounded(item);
                }
                self.bytes.push(b'}');
            }
        }
    }

    fn comma(&mut self, at: usize) {
        if at > 0 {
            self.bytes.push(b',');
        }
    }
}
