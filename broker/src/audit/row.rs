//! Reading records back: bounded lines, hashes checked over their bytes, then parsed. Whatever lies in a log file
//! may have been written by somebody else, so nothing here trusts it.

use super::encode::{HASH_MEMBER, HASH_TAIL_BYTES, LINE_MAX_BYTES};
use super::record::HexDigest;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

/// A record as it is read from a log. Fields as in design §7.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    pub seq: u64,
    pub time: String,
    pub mono_us: u64,
    pub task: Option<String>,
    pub uid: u32,
    pub role: String,
    pub capability: String,
    pub op: String,
    pub phase: String,
    pub input: serde_json::Value,
    pub decision: Option<String>,
    pub rule: Option<String>,
    pub policy_hash: Option<String>,
    pub result: serde_json::Value,
    pub bytes: Option<u64>,
    pub duration_us: Option<u64>,
    pub prev: String,
    pub hash: String,
}

impl Row {
    pub fn parse(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }

    /// The record that opens a segment.
    pub(super) fn is_opening(&self) -> bool {
        self.is_own("open")
    }

    /// The record that ends a segment.
    pub(super) fn is_closing(&self) -> bool {
        self.is_own("close")
    }

    fn is_own(&self, op: &str) -> bool {
        self.role == "broker" && self.capability == "audit.segment" && self.op == op && self.phase == "single"
    }

    /// The begin record that an end record is for.
    pub(super) fn begin_seq(&self) -> Option<u64> {
        self.input.get("begin")?.as_u64()
    }
}

/// The hash of a line (without its newline), if it is the one that stands in it.
pub(super) fn checked_hash(line: &[u8]) -> Option<HexDigest> {
    let (body, tail) = line.split_at_checked(line.len().checked_sub(HASH_TAIL_BYTES)?)?;
    let stated = tail.strip_prefix(HASH_MEMBER)?.strip_suffix(b"\"}")?;
    let stated = HexDigest::parse(std::str::from_utf8(stated).ok()?)?;
    let mut hasher = Sha256::new();
    hasher.update(body);
    hasher.update(b"}");
    (HexDigest::from_bytes(hasher.finalize().into()) == stated).then_some(stated)
}

/// What the reader found next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A complete line, in [`LineReader::line`], without its newline.
    Line,
    /// The file ends in part of a line.
    Torn {
        bytes: u64,
    },
    /// A line over the bound.
    TooLong,
    End,
}

/// Reads lines in bounded memory, whatever the file holds (T-06).
#[derive(Debug)]
pub(super) struct LineReader {
    input: BufReader<File>,
    line: Vec<u8>,
    /// Where the next line starts.
    offset: u64,
}

impl LineReader {
    pub fn new(file: File) -> Self {
        Self { input: BufReader::with_capacity(64 * 1024, file), line: Vec::new(), offset: 0 }
    }

    pub fn at(file: File, offset: u64) -> io::Result<Self> {
        let mut reader = Self::new(file);
        reader.input.seek(SeekFrom::Start(offset))?;
        reader.offset = offset;
        Ok(reader)
    }

    pub fn line(&self) -> &[u8] {
        self.line.strip_suffix(b"\n").unwrap_or(&self.line)
    }

    pub fn offset(&self) -> u64 {
        self.offset
    }

    pub fn read_next(&mut self) -> io::Result<Found> {
        self.line.clear();
        let bound = u64::try_from(LINE_MAX_BYTES).unwrap_or(u64::MAX);
        let count = self.input.by_ref().take(bound).read_until(b'\n', &mut self.line)?;
        let bytes = u64::try_from(count).unwrap_or(0);
        if count == 0 {
            return Ok(Found::End);
        }
        if self.line.ends_with(b"\n") {
            self.offset = self.offset.saturating_add(bytes);
            return Ok(Found::Line);
        }
        Ok(if count >= LINE_MAX_BYTES { Found::TooLong } else { Found::Torn { bytes } })
    }
}
