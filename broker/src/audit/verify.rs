//! Is this log the one that was written? Reads a directory, or one segment, and names the first bad record.
//!
//! Found: any record edited, removed, reordered, duplicated or inserted, and any closed or dead segment that a later one names,
//! when it is gone or changed. Not found: a log rewritten from end to end by somebody who may write it, newest segments taken
//! away that no later one names, records cut from the end of a segment whose broker died. A head kept elsewhere (a
//! result's `audit` object, the mirror) finds these: [`verify_directory`] compares.

use super::directory::AuditDirectory;
use super::error::AuditError;
use super::fault::{Fault, FaultKind};
use super::record::HexDigest;
use super::walk::{SegmentReport, SegmentState, UnknownCall, walk};
use std::collections::{BTreeMap, HashMap};
use std::os::fd::AsFd;
use std::path::Path;

/// What a verification found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// In the order of their start.
    pub segments: Vec<SegmentReport>,
    /// In the order of the segments; empty for an intact log.
    pub faults: Vec<Fault>,
    /// Calls begun whose end is in no segment: what they did is unknown. Those of live segments are only in flight.
    pub unknown: Vec<(String, UnknownCall)>,
}

impl Report {
    /// True when `warden audit verify` exits 0.
    pub fn is_intact(&self) -> bool {
        self.faults.is_empty()
    }

    pub fn first_bad(&self) -> Option<&Fault> {
        self.faults.first()
    }
}

/// Verifies all segments of a directory and how they hang together.
pub fn verify_directory(dir: impl AsFd, expected_head: Option<&HexDigest>) -> Result<Report, AuditError> {
    let dir = AuditDirectory::any(dir, "(as given)")?;
    let mut check =
        DirectoryCheck { dir: &dir, expected: expected_head, report: Report::default(), carried: HashMap::new() };
    for name in dir.segments()? {
        check.segment(&name);
    }
    let mut report = check.finish();
    require_head(&mut report, expected_head, "(directory)");
    Ok(report)
}

/// Verifies one segment of a directory by itself; what it says of others is not followed.
pub fn verify_segment(dir: impl AsFd, name: &str, expected_head: Option<&HexDigest>) -> Result<Report, AuditError> {
    let dir = AuditDirectory::any(dir, "(as given)")?;
    // A segment that does not exist is a wrong argument, not a damaged log.
    dir.open_segment(name)?;
    let (segment, fault) = walk(&dir, name, None, expected_head);
    let mut report = Report { faults: fault.into_iter().collect(), ..Report::default() };
    if segment.has_unknown_calls() && !segment.rotated {
        report.unknown.extend(segment.open_calls.iter().map(|call| (name.to_owned(), call.clone())));
    }
    report.segments.push(segment);
    require_head(&mut report, expected_head, name);
    Ok(report)
}

/// Verifies what a path names: a directory or a segment in one.
pub fn verify_path(path: &Path, expected_head: Option<&HexDigest>) -> Result<Report, AuditError> {
    let open = |dir: &Path| {
        use nix::fcntl::{OFlag, open};
        open(dir, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, nix::sys::stat::Mode::empty())
            .map_err(|source| AuditError::Directory { dir: dir.display().to_string(), source, remedy: String::new() })
    };
    if path.is_dir() {
        return verify_directory(open(path)?, expected_head);
    }
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    verify_segment(open(parent)?, name, expected_head)
}

fn require_head(report: &mut Report, expected: Option<&HexDigest>, at: &str) {
    if let Some(head) = expected
        && !report.segments.iter().any(|segment| segment.expected_found)
    {
        let kind = FaultKind::HeadMissing { head: *head };
        report.faults.push(Fault { segment: at.to_owned(), line: None, seq: None, kind });
    }
}

struct DirectoryCheck<'a> {
    dir: &'a AuditDirectory,
    expected: Option<&'a HexDigest>,
    report: Report,
    /// Calls in flight at the end of each rotated segment that nobody has taken over yet.
    carried: HashMap<String, BTreeMap<u64, UnknownCall>>,
}

impl DirectoryCheck<'_> {
    fn segment(&mut self, name: &str) {
        // Which segment this one continues is known only once its first record is read, so all carried calls of
        // the one it names are handed over by a second, cheap look.
        let taken = self.continued_by(name).and_then(|from| self.carried.remove(&from));
        let (mut segment, fault) = walk(self.dir, name, taken, self.expected);
        self.report.faults.extend(fault);
        let open = std::mem::take(&mut segment.open_calls);
        if segment.rotated {
            let open = open.into_iter().map(|call| (call.seq, call)).collect();
            self.carried.insert(name.to_owned(), open);
        } else if segment.has_unknown_calls() {
            self.report.unknown.extend(open.iter().map(|call| (name.to_owned(), call.clone())));
            segment.open_calls = open;
        } else {
            segment.open_calls = open;
        }
        self.report.segments.push(segment);
    }

    fn continued_by(&self, name: &str) -> Option<String> {
        use super::row::{Found, LineReader, Row};
        let mut lines = LineReader::new(self.dir.open_segment(name).ok()?);
        if lines.read_next().ok()? != Found::Line {
            return None;
        }
        let row = Row::parse(lines.line())?;
        let continues = row.input.get("continues")?.as_bool()?;
        let previous = row.input.get("previous")?.get("segment")?.as_str()?;
        continues.then(|| previous.to_owned())
    }

    fn finish(mut self) -> Report {
        let order: HashMap<&str, usize> =
            self.report.segments.iter().enumerate().map(|(at, s)| (s.segment.as_str(), at)).collect();
        let mut faults = Vec::new();
        for segment in &self.report.segments {
            for tip in segment.links.all() {
                let named = order.get(tip.segment.as_str()).and_then(|at| self.report.segments.get(*at));
                let kind = match named {
                    None => Some(FaultKind::SegmentMissing { named: tip.segment.clone() }),
                    // Its own fault is named already.
                    Some(named) if named.state == SegmentState::Bad => None,
                    Some(named) => self.judge_link(segment, named, &tip.head),
                };
                let (line, seq) = (Some(1), segment.first_seq);
                faults.extend(kind.map(|kind| Fault { segment: segment.segment.clone(), line, seq, kind }));
            }
        }
        self.report.faults.extend(faults);
        self.report.faults.sort_by(|a, b| a.segment.cmp(&b.segment));
        // A rotated segment whose successor is missing, or never was written.
        for (name, open) in self.carried {
            self.report.unknown.extend(open.into_values().map(|call| (name.clone(), call)));
        }
        self.report.unknown.sort_by(|a, b| (&a.0, a.1.seq).cmp(&(&b.0, b.1.seq)));
        self.report
    }

    fn judge_link(&self, segment: &SegmentReport, named: &SegmentReport, recorded: &HexDigest) -> Option<FaultKind> {
        let again;
        let mut named = named;
        if named.head.as_ref() != Some(recorded) && named.state == SegmentState::Live {
            // It was closed, and this one opened, after we had read it.
            again = walk(self.dir, &named.segment, None, None).0;
            named = &again;
        }
        if named.head.as_ref() != Some(recorded) {
            let (found, recorded) = (named.head, *recorded);
            return Some(FaultKind::SegmentChanged { named: named.segment.clone(), recorded, found });
        }
        let own_predecessor =
            segment.continues && segment.links.previous.as_ref().is_some_and(|tip| tip.segment == named.segment);
        let follows = named.last_seq.map(|seq| seq.saturating_add(1)) == segment.first_seq && named.rotated;
        (own_predecessor && !follows).then(|| FaultKind::WrongContinuation { named: named.segment.clone() })
    }
}
