//! `warden audit show` and `tail`: records as they stand in the log.

use super::task_id::{self, Known};
use super::{FilterArgs, Place};
use crate::audit::{Entry, Filter, Follower, Reading, last_entries};
use crate::cli::Answer;
use crate::failure::Failure;
use crate::terminal;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

/// How often a follower looks.
const POLL_PAUSE: Duration = Duration::from_millis(200);

impl FilterArgs {
    /// The filter, and whether the log knows the task that it names.
    fn filter(self, places: &[Place]) -> Result<(Filter, Known), Failure> {
        let known = task_id::find(places, self.task.as_deref())?;
        let filter = Filter {
            task: known.filter().map(str::to_owned),
            capability: self.capability,
            denials_only: self.denied,
            since: None,
        };
        Ok((filter, known))
    }
}

/// The newest records that pass, at most `limit`.
///
/// `flag` is the one that would show more.
pub fn show(places: &[Place], filter: FilterArgs, limit: u32, flag: &str) -> Result<Answer, Failure> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let (filter, known) = filter.filter(places)?;
    let mut all = Kept::new(limit);
    for place in places {
        all.take(read(place, &filter)?)?;
    }
    all.in_order(places.len());
    let mut answer = answer(&all, flag);
    match known {
        Known::Nowhere(start) => {
            answer.note.push_str(&format!("the log has no record of a task {start}\n"));
            answer.status = 1;
        }
        _ if all.entries.is_empty() && all.omitted == 0 => answer.note.push_str("no record is of this kind\n"),
        _ => {}
    }
    Ok(answer)
}

/// The records of one place that pass.
pub fn read(place: &Place, filter: &Filter) -> Result<Reading, Failure> {
    let folder = open(&place.folder)?;
    let reading = match &place.segment {
        None => Reading::directory(&folder, filter.clone()),
        Some(name) => Reading::segment(&folder, name, filter.clone()),
    };
    reading.map_err(usage_or_internal)
}

/// The newest records, in bounded memory whatever the log holds (T-06).
struct Kept {
    limit: usize,
    entries: VecDeque<Entry>,
    /// Records that passed and were left out.
    omitted: u64,
    /// Lines that are no record.
    skipped: u64,
}

impl Kept {
    fn new(limit: usize) -> Self {
        Self { limit, entries: VecDeque::new(), omitted: 0, skipped: 0 }
    }

    fn take(&mut self, mut reading: Reading) -> Result<(), Failure> {
        // Each log gets `limit` first; the merge cuts once more.
        let mut newest = VecDeque::new();
        for entry in &mut reading {
            newest.push_back(entry?);
            if newest.len() > self.limit {
                newest.pop_front();
                self.omitted = self.omitted.saturating_add(1);
            }
        }
        self.entries.append(&mut newest);
        self.skipped = self.skipped.saturating_add(reading.skipped);
        Ok(())
    }

    /// Several logs become one, in the order of time. One log is in its own order already, which is the writer's.
    fn in_order(&mut self, logs: usize) {
        if logs > 1 {
            self.entries.make_contiguous().sort_by(|a, b| a.row.time.cmp(&b.row.time));
        }
        while self.entries.len() > self.limit {
            self.entries.pop_front();
            self.omitted = self.omitted.saturating_add(1);
        }
    }
}

fn answer(kept: &Kept, flag: &str) -> Answer {
    // A line that no writer of ours made comes as one string, escaped.
    let record = |entry: &Entry| serde_json::from_str(&entry.json()).unwrap_or(Value::Null);
    let json = json!({
        "schema": "warden.audit-records/1",
        "records": kept.entries.iter().map(record).collect::<Vec<_>>(),
        "truncated": kept.omitted > 0,
        "omitted": kept.omitted,
        "skipped_lines": kept.skipped,
    });
    let text = kept.entries.iter().map(|entry| entry.human() + "\n").collect();
    let mut note = String::new();
    if kept.omitted > 0 {
        note.push_str(&format!("{} older records were left out; see {flag}\n", kept.omitted));
    }
    if kept.skipped > 0 {
        note.push_str(&format!("{} lines are no records; `warden audit verify` names them\n", kept.skipped));
    }
    Answer { json, text, note, status: 0 }
}

/// Prints the last records and then what is added, until interrupted or nobody reads any more.
pub fn follow(places: &[Place], filter: FilterArgs, lines: u32) -> Result<Answer, Failure> {
    if places.iter().any(|place| place.segment.is_some()) {
        return Err(Failure::usage(
            "tail -f follows a folder of segments, not one segment: a broker goes on in another",
        ));
    }
    let count = usize::try_from(lines).unwrap_or(usize::MAX);
    // A task that is not known yet may begin while the log is followed.
    let (filter, _) = filter.filter(places)?;
    let (mut first, mut followers) = (Vec::new(), Vec::new());
    for place in places {
        let (entries, follower) =
            last_entries(open(&place.folder)?, filter.clone(), count).map_err(usage_or_internal)?;
        first.extend(entries);
        followers.push(follower);
    }
    if places.len() > 1 {
        first.sort_by(|a, b| a.row.time.cmp(&b.row.time));
    }
    let from = first.len().saturating_sub(count);
    let mut going = print(first.get(from..).unwrap_or_default())?;
    while going {
        std::thread::sleep(POLL_PAUSE);
        going = print(&poll(&mut followers)?)?;
    }
    Ok(Answer { json: Value::Null, text: String::new(), note: String::new(), status: 0 })
}

fn poll(followers: &mut [Follower]) -> Result<Vec<Entry>, Failure> {
    let mut fresh = Vec::new();
    for follower in followers {
        fresh.extend(follower.poll()?);
    }
    fresh.sort_by(|a: &Entry, b: &Entry| a.row.time.cmp(&b.row.time));
    Ok(fresh)
}

/// False when nobody reads any more.
fn print(entries: &[Entry]) -> Result<bool, Failure> {
    let text: String = entries.iter().map(|entry| entry.human() + "\n").collect();
    let lost = |e| Failure::internal(format!("the records could not be written to standard output: {e}"));
    terminal::say(&text).map_err(lost)
}

fn open(folder: &Path) -> Result<File, Failure> {
    // Reading, so the folder may be another's; a segment in it is opened without following a link (T-02).
    File::open(folder).map_err(|e| Failure::usage(format!("{} could not be opened: {e}", folder.display())))
}

fn usage_or_internal(error: crate::audit::AuditError) -> Failure {
    use crate::audit::AuditError;
    match error {
        AuditError::NotASegment { .. } | AuditError::NotADirectory { .. } => Failure::usage(error.to_string()),
        other => other.into(),
    }
}
