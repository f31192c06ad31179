//! One segment, read from its first record to its last, in bounded memory.

use super::chain::{Links, is_live};
use super::directory::AuditDirectory;
use super::fault::{Fault, FaultKind};
use super::record::HexDigest;
use super::row::{Found, LineReader, Row, checked_hash};
use std::collections::BTreeMap;
use std::io;

/// No broker has so many calls in flight; a forged log may claim it (T-06).
const OPEN_CALLS_MAX: usize = 65_536;

/// A call that was begun and whose end nobody recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownCall {
    pub seq: u64,
    pub time: String,
    pub task: Option<String>,
    pub capability: String,
}

/// How a segment ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SegmentState {
    /// With its closing record.
    Closed,
    /// Its broker is still writing.
    Live,
    /// Its broker died; `torn_bytes` of a last record that never was complete may follow.
    Crashed { torn_bytes: u64 },
    /// Read up to the first fault.
    Bad,
}

/// What one segment holds.
#[derive(Clone, Debug)]
pub struct SegmentReport {
    pub segment: String,
    pub state: SegmentState,
    /// Good records.
    pub records: u64,
    pub first_seq: Option<u64>,
    pub last_seq: Option<u64>,
    /// Hash of the last good record.
    pub head: Option<HexDigest>,
    /// Calls begun and not ended here. Those of a segment that was rotated may end in the next one.
    pub open_calls: Vec<UnknownCall>,
    /// Whether another segment of the same broker goes on where this one ends.
    pub rotated: bool,
    pub(super) links: Links,
    pub(super) continues: bool,
    pub(super) expected_found: bool,
}

impl SegmentReport {
    /// Whether open calls are of unknown outcome: not those of a broker still at work, and not those of a
    /// segment that could not be read to its end.
    pub(super) fn has_unknown_calls(&self) -> bool {
        !matches!(self.state, SegmentState::Live | SegmentState::Bad)
    }
}

/// Reads a segment. `open` are the calls in flight that it took over, `None` when they are not known.
pub(super) fn walk(
    dir: &AuditDirectory,
    name: &str,
    open: Option<BTreeMap<u64, UnknownCall>>,
    expected: Option<&HexDigest>,
) -> (SegmentReport, Option<Fault>) {
    let mut walk = Walk::new(name, open, expected);
    let fault = match dir.open_segment(name) {
        Ok(file) => {
            // Before the first read: what a dead segment holds is final.
            let live = is_live(&file);
            walk.run(&mut LineReader::new(file), live)
                .unwrap_or_else(|e| Some(walk.fault(None, FaultKind::Unreadable { reason: e.to_string() })))
        }
        Err(e) => Some(walk.fault(None, FaultKind::Unreadable { reason: e.to_string() })),
    };
    if fault.is_some() {
        walk.report.state = SegmentState::Bad;
    }
    walk.report.open_calls = walk.open.into_values().collect();
    (walk.report, fault)
}

struct Walk<'a> {
    report: SegmentReport,
    open: BTreeMap<u64, UnknownCall>,
    /// False when calls begun in a segment we did not read may end here.
    all_begins_known: bool,
    expected: Option<&'a HexDigest>,
    line: u64,
    closed: bool,
}

impl<'a> Walk<'a> {
    fn new(name: &str, open: Option<BTreeMap<u64, UnknownCall>>, expected: Option<&'a HexDigest>) -> Self {
        let report = SegmentReport {
            segment: name.to_owned(),
            state: SegmentState::Crashed { torn_bytes: 0 },
            records: 0,
            first_seq: None,
            last_seq: None,
            head: None,
            open_calls: Vec::new(),
            rotated: false,
            links: Links::default(),
            continues: false,
            expected_found: false,
        };
        let all_begins_known = open.is_some();
        Self { report, open: open.unwrap_or_default(), all_begins_known, expected, line: 0, closed: false }
    }

    fn run(&mut self, lines: &mut LineReader, live: bool) -> io::Result<Option<Fault>> {
        loop {
            let found = lines.read_next()?;
            self.line = self.line.saturating_add(1);
            if self.closed && found != Found::End {
                return Ok(Some(self.fault(None, FaultKind::AfterClose)));
            }
            match found {
                Found::Line => {
                    if let Some((seq, kind)) = self.take(lines)? {
                        return Ok(Some(self.fault(seq, kind)));
                    }
                }
                Found::TooLong => return Ok(Some(self.fault(None, FaultKind::TooLong))),
                // A whole record and then something else than its newline: no crash leaves that.
                Found::Torn { .. }
                    if lines.line().split_last().is_some_and(|(_, whole)| checked_hash(whole).is_some()) =>
                {
                    return Ok(Some(self.fault(self.due_seq(), FaultKind::Edited)));
                }
                Found::Torn { .. } if live => self.report.state = SegmentState::Live,
                Found::Torn { bytes } => self.report.state = SegmentState::Crashed { torn_bytes: bytes },
                Found::End => {
                    self.report.state = match (self.closed, live) {
                        (true, _) => SegmentState::Closed,
                        (false, true) => SegmentState::Live,
                        (false, false) => SegmentState::Crashed { torn_bytes: 0 },
                    };
                }
            }
            if found != Found::Line {
                return Ok(None);
            }
        }
    }

    /// Judges one line; the answer is what is wrong with it.
    fn take(&mut self, lines: &mut LineReader) -> io::Result<Option<(Option<u64>, FaultKind)>> {
        let hash = checked_hash(lines.line());
        let row = Row::parse(lines.line());
        let (hash, row) = match (hash, row) {
            (Some(hash), Some(row)) => (hash, row),
            (None, Some(_)) => {
                let kind = if self.due_comes_later(lines)? { FaultKind::Inserted } else { FaultKind::Edited };
                return Ok(Some((self.due_seq(), kind)));
            }
            (_, None) => {
                let kind = if self.due_comes_later(lines)? { FaultKind::Inserted } else { FaultKind::NotARecord };
                return Ok(Some((self.due_seq(), kind)));
            }
        };
        let seq = row.seq;
        let wrong = match self.due_seq() {
            None => self.judge_first(&row),
            Some(due) => self.judge_place(&row, &hash, due, lines)?,
        };
        if let Some(kind) = wrong.or_else(|| self.judge_meaning(&row)) {
            return Ok(Some((Some(seq), kind)));
        }
        self.report.records = self.report.records.saturating_add(1);
        self.report.first_seq = self.report.first_seq.or(Some(seq));
        self.report.last_seq = Some(seq);
        self.report.head = Some(hash);
        self.report.expected_found |= self.expected == Some(&hash);
        Ok(None)
    }

    fn judge_first(&mut self, row: &Row) -> Option<FaultKind> {
        if !row.is_opening() {
            return Some(match row.seq.checked_sub(1) {
                Some(last) => FaultKind::Removed { first: 0, last },
                None => FaultKind::NoOpening,
            });
        }
        let (Some(links), Some(continues), Some(recorded)) = (
            Links::read(row),
            row.input.get("continues").and_then(serde_json::Value::as_bool),
            row.input.get("segment").and_then(serde_json::Value::as_str),
        ) else {
            return Some(FaultKind::NoOpening);
        };
        if recorded != self.report.segment {
            return Some(FaultKind::Renamed { recorded: recorded.to_owned() });
        }
        let prev = links.previous.as_ref().map_or(HexDigest::ZERO, |tip| tip.head);
        if prev.as_str() != row.prev || (!continues && row.seq != 0) {
            return Some(FaultKind::NoOpening);
        }
        self.report.links = links;
        self.report.continues = continues;
        self.all_begins_known |= !continues;
        None
    }

    fn judge_place(
        &self,
        row: &Row,
        hash: &HexDigest,
        due: u64,
        lines: &mut LineReader,
    ) -> io::Result<Option<FaultKind>> {
        let follows = self.report.head.is_some_and(|head| head.as_str() == row.prev);
        if row.seq == due && follows {
            return Ok(None);
        }
        if row.seq < due {
            // Something that was moved back here left a gap before, and that was found first.
            let again = self.report.head.as_ref() == Some(hash) || row.seq >= self.report.first_seq.unwrap_or(0);
            return Ok(Some(if again { FaultKind::Duplicated } else { FaultKind::Inserted }));
        }
        let later = self.due_comes_later(lines)?;
        Ok(Some(match (row.seq == due, later) {
            (true, true) => FaultKind::Inserted,
            (true, false) => FaultKind::Replaced,
            (false, true) => FaultKind::Reordered,
            (false, false) => FaultKind::Removed { first: due, last: row.seq.saturating_sub(1) },
        }))
    }

    fn judge_meaning(&mut self, row: &Row) -> Option<FaultKind> {
        match row.phase.as_str() {
            "begin" => {
                if self.open.len() >= OPEN_CALLS_MAX {
                    return Some(FaultKind::TooManyCalls);
                }
                let call = UnknownCall {
                    seq: row.seq,
                    time: row.time.clone(),
                    task: row.task.clone(),
                    capability: row.capability.clone(),
                };
                self.open.insert(row.seq, call);
                None
            }
            "end" => {
                let begin = row.begin_seq();
                let known = begin.is_some_and(|seq| {
                    let earlier = self.report.first_seq.is_some_and(|first| seq < first);
                    self.open.remove(&seq).is_some() || (earlier && !self.all_begins_known)
                });
                (!known).then_some(FaultKind::EndWithoutBegin { begin })
            }
            _ if row.is_closing() => {
                let text = |name: &str| row.input.get(name).and_then(serde_json::Value::as_str);
                let count = row.input.get("records").and_then(serde_json::Value::as_u64);
                if text("head") != Some(&row.prev) || count != Some(self.report.records) {
                    return Some(FaultKind::WrongClosing);
                }
                self.closed = true;
                self.report.rotated = text("reason") == Some("rotation");
                None
            }
            _ => None,
        }
    }

    /// The number of the next record; none before the first.
    fn due_seq(&self) -> Option<u64> {
        self.report.last_seq.map(|seq| seq.saturating_add(1))
    }

    /// Whether the record that should be here stands further on. Reads to the end: only a fault asks.
    fn due_comes_later(&self, lines: &mut LineReader) -> io::Result<bool> {
        while lines.read_next()? == Found::Line {
            if checked_hash(lines.line()).is_none() {
                continue;
            }
            let Some(row) = Row::parse(lines.line()) else {
                continue;
            };
            let due = match (self.due_seq(), self.report.head) {
                (Some(seq), Some(head)) => row.seq == seq && row.prev == head.as_str(),
                _ => row.is_opening(),
            };
            if due {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn fault(&self, seq: Option<u64>, kind: FaultKind) -> Fault {
        let line = (self.line > 0).then_some(self.line);
        Fault { segment: self.report.segment.clone(), line, seq, kind }
    }
}
