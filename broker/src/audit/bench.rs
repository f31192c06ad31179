//! What a record costs, for the project's benchmark.

use super::error::AuditError;
use super::log::AuditLog;
use super::record::{BeginRecord, Decision, EndRecord, HexDigest, Outcome, Value};
use std::time::{Duration, Instant};

/// Writes `pairs` begin and end records of an ordinary read and returns the time they took together.
pub fn measure_pairs(log: &mut AuditLog, pairs: u32) -> Result<Duration, AuditError> {
    let policy = HexDigest::of(b"policy");
    let input = [("path", Value::Text("repo:notes/a.txt")), ("max_bytes", Value::Number(65_536))];
    let act = BeginRecord {
        task: Some("0f1e2d3c4b5a69788796a5b4c3d2e1f0"),
        role: "worker",
        capability: "fs.read_file",
        op: "read",
        input: Value::Fields(&input),
        decision: Some(Decision::Allow),
        rule: Some("user:fs.workspace.repo"),
        policy_hash: Some(&policy),
    };
    let end = EndRecord { result: Outcome::Done(Value::Null), bytes: Some(4096) };
    let start = Instant::now();
    for _ in 0..pairs {
        let ticket = log.begin(&act)?;
        log.end(ticket, &end)?;
    }
    Ok(start.elapsed())
}
