//! What a verifier finds: the kinds of damage, each with the record it was found at.

use super::record::HexDigest;
use std::fmt;

/// One thing wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub segment: String,
    /// Line in the segment, from 1; none where a whole segment is meant.
    pub line: Option<u64>,
    /// The sequence number of the bad record, or the one that was due there.
    pub seq: Option<u64>,
    pub kind: FaultKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The bytes are not the ones that were hashed.
    Edited,
    /// The record carries its own hash but the chain does not lead to it: it or the one before was replaced.
    Replaced,
    /// The record that was due follows after this one, which does not belong here.
    Inserted,
    /// Records from `first` to `last` are not there.
    Removed { first: u64, last: u64 },
    /// A record stands before one that was written earlier.
    Reordered,
    /// A record stands here a second time.
    Duplicated,
    /// A line that is no record.
    NotARecord,
    /// A line longer than any record is.
    TooLong,
    /// Something follows the closing record.
    AfterClose,
    /// The segment does not begin with an opening record of this log.
    NoOpening,
    /// The opening record is of a segment with another name.
    Renamed { recorded: String },
    /// Count or head of the closing record are not those of the segment.
    WrongClosing,
    /// An end record whose begin record is not there.
    EndWithoutBegin { begin: Option<u64> },
    /// More calls in flight than any broker has.
    TooManyCalls,
    /// A segment named by this one's opening record is not in the directory.
    SegmentMissing { named: String },
    /// A segment named by this one's opening record has another head now.
    SegmentChanged { named: String, recorded: HexDigest, found: Option<HexDigest> },
    /// The segment goes on from another, and its numbers do not.
    WrongContinuation { named: String },
    /// No record has the hash that was expected.
    HeadMissing { head: HexDigest },
    /// The segment cannot be read, or is no regular file.
    Unreadable { reason: String },
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Edited => f.write_str("edited: its bytes are not the ones that were hashed"),
            Self::Replaced => {
                f.write_str("replaced: it does not follow the record before it; one of the two was rewritten")
            }
            Self::Inserted => f.write_str("inserted: the record that was due here comes later"),
            Self::Removed { first, last } if first == last => {
                write!(f, "removed: record {first} is missing before it")
            }
            Self::Removed { first, last } => write!(f, "removed: records {first} to {last} are missing before it"),
            Self::Reordered => f.write_str("reordered: a record that was written before it comes later"),
            Self::Duplicated => f.write_str("duplicated: this record was here before"),
            Self::NotARecord => f.write_str("not an audit record"),
            Self::TooLong => f.write_str("the line is longer than any audit record"),
            Self::AfterClose => f.write_str("inserted: it stands after the closing record"),
            Self::NoOpening => f.write_str("removed: the segment does not begin with its opening record"),
            Self::Renamed { recorded } => write!(f, "the segment was written as {recorded}"),
            Self::WrongClosing => f.write_str("the closing record's count or head is not the segment's"),
            Self::EndWithoutBegin { begin: Some(seq) } => {
                write!(f, "it ends call {seq}, which was not begun or has ended")
            }
            Self::EndWithoutBegin { begin: None } => f.write_str("it ends a call without saying which"),
            Self::TooManyCalls => f.write_str("more calls in flight than a broker ever has"),
            Self::SegmentMissing { named } => {
                write!(f, "segment {named}, which it follows, is missing")
            }
            Self::SegmentChanged { named, recorded, found } => {
                write!(f, "segment {named}, which it follows, ended with {recorded}")?;
                match found {
                    Some(found) => write!(f, " and now ends with {found}"),
                    None => f.write_str(" and now holds no record"),
                }
            }
            Self::WrongContinuation { named } => {
                write!(f, "its numbers do not go on where {named} ends")
            }
            Self::HeadMissing { head } => {
                write!(f, "no record has the hash {head}: the log was rewritten, cut, or is another one")
            }
            Self::Unreadable { reason } => write!(f, "cannot be read: {reason}"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.segment)?;
        if let Some(line) = self.line {
            write!(f, " line {line}")?;
        }
        if let Some(seq) = self.seq {
            write!(f, " (record {seq})")?;
        }
        write!(f, ": {}", self.kind)
    }
}
