//! Reading a whole directory in the order of time: `warden audit show` and `tail`.
//!
//! It shows and does not judge; `verify` judges. What it prints is safe for a terminal even where the log was forged (T-14).

use super::directory::{AuditDirectory, start_time};
use super::error::AuditError;
use super::escape::{is_presentable, push_escaped};
use super::row::{Found, LineReader, Row};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::os::fd::AsFd;

/// How much of one segment a [`Follower`] reads at a time.
const POLL_MAX_RECORDS: usize = 1024;

/// Which records to show. An absent field lets all pass.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// A task's id, or how it begins.
    pub task: Option<String>,
    /// A name, or a pattern: `*` stands for any characters.
    pub capability: Option<String>,
    /// Denied and rejected records only.
    pub denials_only: bool,
    /// Records not before this time, in the form records have.
    pub since: Option<String>,
}

impl Filter {
    fn passes(&self, row: &Row) -> bool {
        let capability =
            self.capability.as_ref().is_none_or(|pattern| warden_policy::pattern_matches(pattern, &row.capability));
        let denied = matches!(row.decision.as_deref(), Some("deny" | "rejected"));
        capability
            && (denied || !self.denials_only)
            && self
                .task
                .as_ref()
                .is_none_or(|start| row.task.as_ref().is_some_and(|task| task.starts_with(start.as_str())))
            && self.since.as_ref().is_none_or(|since| row.time.as_str() >= since.as_str())
    }
}

/// One record, with the segment it is from.
#[derive(Clone, Debug)]
pub struct Entry {
    pub segment: String,
    pub row: Row,
    line: String,
}

impl Entry {
    fn read(segment: &str, line: &[u8]) -> Option<Self> {
        let row = Row::parse(line)?;
        let line = std::str::from_utf8(line).ok()?.to_owned();
        Some(Self { segment: segment.to_owned(), row, line })
    }

    /// The record as it stands in the log. A line that no writer of ours made, because it holds a character
    /// that could steer a terminal, is given as one escaped JSON string.
    pub fn json(&self) -> String {
        if is_presentable(&self.line) { self.line.clone() } else { quoted(&self.line) }
    }

    /// One line for a person.
    pub fn human(&self) -> String {
        let row = &self.row;
        let mut out = format!("{} #{} {:<6}", plain(&row.time), row.seq, plain(&row.phase));
        if let Some(task) = &row.task {
            out.push_str(&format!(" {}", plain(&task.chars().take(8).collect::<String>())));
        }
        out.push_str(&format!(" {} {} {}", plain(&row.role), plain(&row.capability), plain(&row.op)));
        for (name, value) in [("decision", &row.decision), ("rule", &row.rule)] {
            if let Some(value) = value {
                out.push_str(&format!(" {name}={}", plain(value)));
            }
        }
        for (name, value) in [("input", &row.input), ("result", &row.result)] {
            if !value.is_null() {
                // serde_json leaves some characters as they are that we do not.
                out.push_str(&format!(" {name}={}", hidden_escaped(&value.to_string())));
            }
        }
        for (name, value) in [("bytes", row.bytes), ("us", row.duration_us)] {
            if let Some(value) = value {
                out.push_str(&format!(" {name}={value}"));
            }
        }
        out
    }
}

/// Escapes a text that is no JSON.
fn plain(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    push_escaped(&mut out, text);
    String::from_utf8_lossy(&out).into_owned()
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", plain(text))
}

/// Escapes what is hidden in a text that is JSON already, leaving its quotes and backslashes.
fn hidden_escaped(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if crate::terminal::is_hidden(c) { out.push_str(&plain(&c.to_string())) } else { out.push(c) }
    }
    out
}

/// All records of a directory in the order of their times; of one segment, in the order they stand.
/// Holds open only the segments that overlap at the time it has come to.
#[derive(Debug)]
pub struct Reading {
    dir: AuditDirectory,
    filter: Filter,
    /// Not yet opened, newest first.
    waiting: Vec<String>,
    /// The next record of each open segment, oldest on top.
    next: BinaryHeap<Reverse<(String, String)>>,
    open: HashMap<String, OpenSegment>,
    /// Where each segment that was read ends.
    offsets: HashMap<String, u64>,
    /// Lines that are no record; `verify` names them.
    pub skipped: u64,
}

#[derive(Debug)]
struct OpenSegment {
    lines: LineReader,
    entry: Entry,
}

impl Reading {
    pub fn directory(dir: impl AsFd, filter: Filter) -> Result<Self, AuditError> {
        let dir = AuditDirectory::any(dir, "(as given)")?;
        let names = dir.segments()?;
        Ok(Self::of(dir, names, filter))
    }

    pub fn segment(dir: impl AsFd, name: &str, filter: Filter) -> Result<Self, AuditError> {
        let dir = AuditDirectory::any(dir, "(as given)")?;
        dir.open_segment(name)?;
        Ok(Self::of(dir, vec![name.to_owned()], filter))
    }

    fn of(dir: AuditDirectory, mut names: Vec<String>, filter: Filter) -> Self {
        names.reverse();
        Self {
            dir,
            filter,
            waiting: names,
            next: BinaryHeap::new(),
            open: HashMap::new(),
            offsets: HashMap::new(),
            skipped: 0,
        }
    }

    fn advance(&mut self) -> Result<Option<Entry>, AuditError> {
        // A segment is opened when the reading comes to its start.
        while let Some(name) = self.waiting.last() {
            let due = match self.next.peek() {
                Some(Reverse((time, _))) => start_time(name) <= *time,
                None => true,
            };
            if !due {
                break;
            }
            if let Some(name) = self.waiting.pop() {
                let lines = LineReader::new(self.dir.open_segment(&name)?);
                self.queue(name, lines)?;
            }
        }
        let Some(Reverse((_, name))) = self.next.pop() else {
            return Ok(None);
        };
        let Some(OpenSegment { lines, entry }) = self.open.remove(&name) else {
            return Ok(None);
        };
        self.queue(name, lines)?;
        Ok(Some(entry))
    }

    /// Reads the segment's next record and puts it in line.
    fn queue(&mut self, name: String, mut lines: LineReader) -> Result<(), AuditError> {
        let failed = |source| AuditError::Read { segment: name.clone(), source };
        loop {
            match lines.read_next().map_err(failed)? {
                Found::Line => match Entry::read(&name, lines.line()) {
                    Some(entry) => {
                        self.next.push(Reverse((entry.row.time.clone(), name.clone())));
                        self.open.insert(name, OpenSegment { lines, entry });
                        return Ok(());
                    }
                    None => self.skipped = self.skipped.saturating_add(1),
                },
                Found::Torn { .. } | Found::TooLong | Found::End => {
                    self.offsets.insert(name.clone(), lines.offset());
                    return Ok(());
                }
            }
        }
    }
}

impl Iterator for Reading {
    type Item = Result<Entry, AuditError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.advance() {
                Ok(Some(entry)) if self.filter.passes(&entry.row) => return Some(Ok(entry)),
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(e) => {
                    // An error ends the reading: the caller must not loop on it.
                    self.waiting.clear();
                    self.next.clear();
                    return Some(Err(e));
                }
            }
        }
    }
}

/// The last `count` records of a directory, and what follows them: `warden audit tail [-f]`.
pub fn last_entries(dir: impl AsFd, filter: Filter, count: usize) -> Result<(Vec<Entry>, Follower), AuditError> {
    let mut reading = Reading::directory(dir, filter)?;
    let mut last = VecDeque::new();
    for entry in &mut reading {
        last.push_back(entry?);
        if last.len() > count {
            last.pop_front();
        }
    }
    let Reading { dir, filter, offsets, .. } = reading;
    Ok((last.into(), Follower { dir, filter, offsets }))
}

/// Reads what is added to a directory. The caller polls, a few times a second.
#[derive(Debug)]
pub struct Follower {
    dir: AuditDirectory,
    filter: Filter,
    offsets: HashMap<String, u64>,
}

impl Follower {
    /// The complete records added since the last call, of all segments, in the order of time.
    pub fn poll(&mut self) -> Result<Vec<Entry>, AuditError> {
        let mut fresh = Vec::new();
        for name in self.dir.segments()? {
            let from = self.offsets.get(&name).copied().unwrap_or(0);
            let to = self.read_more(&name, from, &mut fresh)?;
            self.offsets.insert(name, to);
        }
        fresh.sort_by(|a, b| (&a.row.time, &a.segment, a.row.seq).cmp(&(&b.row.time, &b.segment, b.row.seq)));
        fresh.retain(|entry| self.filter.passes(&entry.row));
        Ok(fresh)
    }

    fn read_more(&self, name: &str, from: u64, fresh: &mut Vec<Entry>) -> Result<u64, AuditError> {
        let failed = |source| AuditError::Read { segment: name.to_owned(), source };
        let file = self.dir.open_segment(name)?;
        if file.metadata().map_err(failed)?.len() <= from {
            return Ok(from);
        }
        let mut lines = LineReader::at(file, from).map_err(failed)?;
        for _ in 0..POLL_MAX_RECORDS {
            match lines.read_next().map_err(failed)? {
                Found::Line => fresh.extend(Entry::read(name, lines.line())),
                Found::Torn { .. } | Found::TooLong | Found::End => break,
            }
        }
        Ok(lines.offset())
    }
}
