//! `warden audit verify`: the verdict on one log or several.

use super::Place;
use crate::audit::{
    AuditError, Fault, FaultKind, HexDigest, Report, SegmentReport, SegmentState, UnknownCall, verify_path,
};
use crate::cli::Answer;
use crate::failure::Failure;
use crate::progress::one_line;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Longest line, characters.
const LINE_MAX_CHARS: usize = 400;
/// A damaged log of very many calls still gives one readable answer.
const LISTED_MAX: usize = 1_000;

/// One log and what was found.
struct Verdict {
    shown: PathBuf,
    report: Report,
}

/// Verifies `places`; exit status 1 if any is not intact.
pub fn run(places: &[Place], head: Option<&str>) -> Result<Answer, Failure> {
    let head = head.map(parse_head).transpose()?;
    let mut verdicts = Vec::new();
    for place in places {
        let shown = place.shown();
        let report = verify_path(&shown, head.as_ref()).map_err(explain)?;
        verdicts.push(Verdict { shown, report });
    }
    settle_head(&mut verdicts);
    let intact = verdicts.iter().all(|each| each.report.is_intact());
    let status = i32::from(!intact);
    Ok(Answer { json: to_json(&verdicts, intact), text: to_text(&verdicts), note: String::new(), status })
}

fn parse_head(text: &str) -> Result<HexDigest, Failure> {
    HexDigest::parse(text)
        .ok_or_else(|| Failure::usage("--head takes the 64 lower-case hex digits of a result's `audit.head`"))
}

/// A wrong argument is no damage.
fn explain(error: AuditError) -> Failure {
    match error {
        AuditError::NotASegment { .. } | AuditError::NotADirectory { .. } => Failure::usage(error.to_string()),
        other => other.into(),
    }
}

/// A head that one of several logs holds is not missing from the others.
fn settle_head(verdicts: &mut [Verdict]) {
    let missing = |fault: &Fault| matches!(fault.kind, FaultKind::HeadMissing { .. });
    if verdicts.iter().any(|each| !each.report.faults.iter().any(missing)) {
        for verdict in verdicts {
            verdict.report.faults.retain(|fault| !missing(fault));
        }
    }
}

fn to_json(verdicts: &[Verdict], intact: bool) -> Value {
    let faults = || verdicts.iter().flat_map(|each| each.report.faults.iter().map(move |fault| (each, fault)));
    let unknown = || verdicts.iter().flat_map(|each| &each.report.unknown);
    let segments: Vec<Value> = verdicts
        .iter()
        .flat_map(|each| each.report.segments.iter().map(move |segment| segment_json(each, segment)))
        .collect();
    json!({
        "schema": "warden.audit/1",
        "ok": intact,
        "paths": verdicts.iter().map(|each| each.shown.display().to_string()).collect::<Vec<_>>(),
        "records": verdicts.iter().flat_map(|each| &each.report.segments).map(|each| each.records).sum::<u64>(),
        "first_bad": faults().next().map(|(verdict, fault)| fault_json(verdict, fault)),
        "faults": faults().take(LISTED_MAX).map(|(verdict, fault)| fault_json(verdict, fault)).collect::<Vec<_>>(),
        "unknown": unknown().take(LISTED_MAX).map(unknown_json).collect::<Vec<_>>(),
        "unknown_count": unknown().count(),
        "segments": segments,
    })
}

fn fault_json(verdict: &Verdict, fault: &Fault) -> Value {
    json!({
        "path": verdict.shown.display().to_string(),
        "segment": fault.segment,
        "line": fault.line,
        "seq": fault.seq,
        "what": fault.kind.to_string(),
    })
}

fn unknown_json((segment, call): &(String, UnknownCall)) -> Value {
    json!({
        "segment": segment,
        "seq": call.seq,
        "time": call.time,
        "task": call.task,
        "capability": call.capability,
        "outcome": "unknown",
    })
}

fn segment_json(verdict: &Verdict, segment: &SegmentReport) -> Value {
    let (state, torn_bytes) = state(segment);
    json!({
        "path": verdict.shown.display().to_string(),
        "segment": segment.segment,
        "state": state,
        "torn_bytes": torn_bytes,
        "records": segment.records,
        "first_seq": segment.first_seq,
        "last_seq": segment.last_seq,
        "head": segment.head.as_ref().map(HexDigest::as_str),
        "open_calls": segment.open_calls.len(),
    })
}

fn state(segment: &SegmentReport) -> (&'static str, u64) {
    match segment.state {
        SegmentState::Closed => ("closed", 0),
        SegmentState::Live => ("live", 0),
        SegmentState::Crashed { torn_bytes } => ("crashed", torn_bytes),
        SegmentState::Bad => ("bad", 0),
    }
}

fn to_text(verdicts: &[Verdict]) -> String {
    let mut lines = Vec::new();
    for Verdict { shown, report } in verdicts {
        let records: u64 = report.segments.iter().map(|each| each.records).sum();
        let word = match (report.is_intact(), report.segments.is_empty()) {
            (false, _) => "NOT INTACT",
            // Nothing was found wrong, and nothing was vouched for.
            (true, true) => "empty",
            (true, false) => "intact",
        };
        lines.push(format!("{word}: {}, {} segments, {records} records", shown.display(), report.segments.len()));
        for (index, fault) in report.faults.iter().take(LISTED_MAX).enumerate() {
            let word = if index == 0 { "first bad" } else { "also bad" };
            lines.push(format!("  {word}: {fault}"));
        }
        for segment in &report.segments {
            if let ("crashed", torn_bytes) = state(segment) {
                let torn = match torn_bytes {
                    0 => "its broker died without closing it".to_owned(),
                    bytes => format!("its broker died; {bytes} bytes of a record that never was complete follow"),
                };
                lines.push(format!("  crashed: {}: {torn}", segment.segment));
            }
        }
        for (segment, call) in report.unknown.iter().take(LISTED_MAX) {
            let task = call.task.as_deref().unwrap_or("no task");
            lines.push(format!(
                "  unknown: {segment} record {}: {} of {task}, begun {}, has no end; what it did is not known",
                call.seq, call.capability, call.time
            ));
        }
        if let Some(last) = report.segments.last().and_then(|each| each.head.as_ref()) {
            lines.push(format!("  head: {last}"));
        }
    }
    lines.iter().map(|line| one_line(line, LINE_MAX_CHARS) + "\n").collect()
}
