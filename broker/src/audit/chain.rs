//! How segments hang together: what an opening record says of the segments before it.
//!
//! A new segment names the newest closed one and its head, which becomes the `prev` of its first record. It names as well the
//! other recent segments that no segment it looked at has named: ones closed in the same while by other brokers, and ones
//! whose broker died. So taking a whole segment away, or cutting a dead one shorter, is found by whoever reads the next (T-09).

use super::directory::AuditDirectory;
use super::encode::{LINE_MAX_BYTES, Line};
use super::error::AuditError;
use super::record::HexDigest;
use super::row::{Row, checked_hash};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::uio::pread;
use std::collections::HashSet;
use std::fs::File;

/// How many segments, newest first by name, a new one looks at.
const LOOK_BACK: usize = 32;

/// A segment and the hash of its last complete record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tip {
    pub segment: String,
    pub head: HexDigest,
}

/// What a new segment says about the ones before it.
#[derive(Clone, Debug, Default)]
pub(super) struct Links {
    /// The newest closed segment.
    pub previous: Option<Tip>,
    /// Other segments that nobody may add to any more and nobody has named.
    pub also: Vec<Tip>,
    /// Segments whose last record could not be read or did not carry its own hash.
    pub unreadable: u64,
}

impl Links {
    /// Looks at the newest segments.
    pub fn survey(dir: &AuditDirectory) -> Result<Self, AuditError> {
        Self::look(dir, None)
    }

    /// The same for a segment that goes on where `own`, just closed or about to be, ends.
    pub fn continuing(dir: &AuditDirectory, own: Tip) -> Result<Self, AuditError> {
        Self::look(dir, Some(own))
    }

    fn look(dir: &AuditDirectory, own: Option<Tip>) -> Result<Self, AuditError> {
        let mut buffer = vec![0u8; LINE_MAX_BYTES.saturating_mul(2)];
        let mut named = HashSet::new();
        let mut closed: Vec<(String, Tip)> = Vec::new();
        let mut dead = Vec::new();
        let mut unreadable = 0u64;
        for name in dir.segments()?.into_iter().rev().take(LOOK_BACK) {
            let ending = match dir.open_segment(&name) {
                Ok(file) => Ending::of(&file, &name, &mut named, &mut buffer),
                Err(_) => Ending::Unreadable,
            };
            match ending {
                Ending::Closed { time, tip } => closed.push((time, tip)),
                Ending::Dead(tip) => dead.push(tip),
                Ending::Live | Ending::Empty => {}
                Ending::Unreadable => unreadable = unreadable.saturating_add(1),
            }
        }
        closed.sort_by(|a, b| (&a.0, &a.1.segment).cmp(&(&b.0, &b.1.segment)));
        let previous = own.or_else(|| closed.pop().map(|(_, tip)| tip));
        let also = closed
            .into_iter()
            .map(|(_, tip)| tip)
            .chain(dead)
            .filter(|tip| !named.contains(&tip.segment))
            .filter(|tip| previous.as_ref().is_none_or(|p| p.segment != tip.segment))
            .collect();
        Ok(Self { previous, also, unreadable })
    }

    /// Adds the links to an opening record.
    pub fn write(&self, line: &mut Line) {
        line.raw(b",\"previous\":");
        match &self.previous {
            Some(tip) => write_tip(line, tip),
            None => line.raw(b"null"),
        }
        line.raw(b",\"also\":[");
        for (at, tip) in self.also.iter().enumerate() {
            if at > 0 {
                line.raw(b",");
            }
            write_tip(line, tip);
        }
        line.raw(b"],\"unreadable\":");
        line.number(self.unreadable);
    }

    /// Reads them back from an opening record.
    pub fn read(opening: &Row) -> Option<Self> {
        let tip = |value: &serde_json::Value| {
            Some(Tip {
                segment: value.get("segment")?.as_str()?.to_owned(),
                head: HexDigest::parse(value.get("head")?.as_str()?)?,
            })
        };
        let previous = match opening.input.get("previous")? {
            serde_json::Value::Null => None,
            value => Some(tip(value)?),
        };
        let also = opening.input.get("also")?.as_array()?.iter().map(tip).collect::<Option<Vec<_>>>()?;
        let unreadable = opening.input.get("unreadable")?.as_u64()?;
        Some(Self { previous, also, unreadable })
    }

    pub fn all(&self) -> impl Iterator<Item = &Tip> {
        self.previous.iter().chain(&self.also)
    }
}

fn write_tip(line: &mut Line, tip: &Tip) {
    line.raw(b"{\"segment\":");
    line.name(&tip.segment);
    line.raw(b",\"head\":");
    line.digest(&tip.head);
    line.raw(b"}");
}

/// Whether some process still holds the segment's lock.
pub(super) fn is_live(file: &File) -> bool {
    let Ok(copy) = file.try_clone() else {
        return true;
    };
    // Dropping the guard gives the shared lock back at once.
    matches!(Flock::lock(copy, FlockArg::LockSharedNonblock), Err((_, Errno::EWOULDBLOCK)))
}

enum Ending {
    Closed { time: String, tip: Tip },
    Dead(Tip),
    Live,
    Empty,
    Unreadable,
}

impl Ending {
    fn of(file: &File, name: &str, named: &mut HashSet<String>, buffer: &mut [u8]) -> Self {
        // The lock first: what an unlocked segment holds is final.
        let live = is_live(file);
        let first = read_at(file, buffer, 0).and_then(|part| part.split(|b| *b == b'\n').next()).and_then(Row::parse);
        if let Some(links) = first.as_ref().and_then(Links::read) {
            named.extend(links.all().map(|tip| tip.segment.clone()));
        }
        let Ok(len) = file.metadata().map(|m| m.len()) else {
            return Self::Unreadable;
        };
        // The buffer, twice the bound, holds a torn line and the whole one before it.
        let from = len.saturating_sub(u64::try_from(buffer.len()).unwrap_or(0));
        let Some(last) = read_at(file, buffer, from).and_then(last_line) else {
            return if live { Self::Live } else { Self::Empty };
        };
        let (Some(head), Some(row)) = (checked_hash(last), Row::parse(last)) else {
            return Self::Unreadable;
        };
        let tip = Tip { segment: name.to_owned(), head };
        match (row.is_closing(), live) {
            (true, _) => Self::Closed { time: row.time, tip },
            (false, true) => Self::Live,
            (false, false) => Self::Dead(tip),
        }
    }
}

fn read_at<'a>(file: &File, buffer: &'a mut [u8], from: u64) -> Option<&'a [u8]> {
    let count = pread(file, buffer, i64::try_from(from).ok()?).ok()?;
    buffer.get(..count)
}

/// The last line that has its newline.
fn last_line(part: &[u8]) -> Option<&[u8]> {
    let end = part.iter().rposition(|b| *b == b'\n')?;
    let whole = part.get(..end)?;
    let start = whole.iter().rposition(|b| *b == b'\n').map_or(0, |at| at.saturating_add(1));
    whole.get(start..)
}
