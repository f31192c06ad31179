//! The audit log of a place, read as an auditor would.

use crate::place::Place;
use serde_json::Value;
use std::fs;

/// Every record of every segment in `audit`, segment after segment.
pub fn records(place: &Place) -> Vec<Value> {
    let mut names: Vec<_> = fs::read_dir(place.path("audit")).expect("the audit folder").flatten().collect();
    names.sort_by_key(|entry| entry.file_name());
    let mut records = Vec::new();
    for entry in names {
        let text = fs::read_to_string(entry.path()).expect("a segment");
        records.extend(text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()));
    }
    records
}

/// The records of one capability.
pub fn of(place: &Place, capability: &str) -> Vec<Value> {
    records(place).into_iter().filter(|record| record["capability"] == capability).collect()
}

/// How many records of one capability there are, for a look that is repeated while thousands are written.
pub fn count(place: &Place, capability: &str) -> usize {
    let mark = format!("\"capability\":\"{capability}\"");
    let entries = fs::read_dir(place.path("audit")).expect("the audit folder").flatten();
    entries.map(|entry| fs::read_to_string(entry.path()).expect("a segment").matches(&mark).count()).sum()
}

/// The records of processes of `role` that say `op`: `locked`, `started` or `ended`.
pub fn processes(place: &Place, role: &str, op: &str) -> Vec<Value> {
    let mut records = of(place, "task.process");
    records.retain(|record| record["role"] == role && record["op"] == op);
    records
}

/// The verdict of `warden audit verify` on the place's log.
#[track_caller]
pub fn verify(place: &Place) -> Value {
    let audit = place.path("audit");
    let ran = place.json(&["audit", "verify", audit.to_str().expect("a path of text")]);
    let verdict = ran.object();
    assert_eq!((verdict["ok"].as_bool(), ran.status), (Some(true), 0), "{verdict}");
    verdict
}

/// The log is whole and no call in it has an unknown end.
#[track_caller]
pub fn verify_complete(place: &Place) {
    let verdict = verify(place);
    assert_eq!(verdict["unknown_count"], 0, "{verdict}");
    assert!(verdict["records"].as_u64().is_some_and(|records| records > 0), "{verdict}");
}
