//! From the end of a task to what a command prints: `warden.run/1` and `warden.task/1`.

use super::{Answer, remedies};
use crate::audit::Head;
use crate::failure::{Class, SIGNAL_BASE};
use crate::ledger::Cost;
use crate::progress::one_line;
use crate::task::report::Denial;
use crate::task::{Ended, Ending, Verdict};
use base64::Engine as _;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::time::Duration;
use warden_policy::{Effective, LimitKey};
use warden_proto::msg::error::{CallError, ErrorCode};
use warden_proto::msg::proc::Exit;
use warden_proto::msg::worker::{End, MEMORY_LIMIT};

/// A failure of the guest or the task: its class and its words.
pub type Fault = (Class, String);

fn audit_json(head: Option<&Head>) -> Value {
    match head {
        Some(head) => json!({"segment": head.segment, "seq": head.seq, "head": head.head.as_str()}),
        None => Value::Null,
    }
}

fn usage_json(ended: &mut Ended) -> Value {
    let ledger = &mut ended.ledger;
    json!({
        "fuel": ended.fuel,
        "memory_peak_bytes": ended.memory_peak_bytes,
        "calls": ended.report.calls,
        "steps": ledger.used(Cost::Steps),
        "fs_ops": ledger.used(Cost::FsOps),
        "fs_written": ledger.used(Cost::FsWritten),
        "llm_calls": ledger.used(Cost::LlmCalls),
        "llm_tokens": ledger.used(Cost::LlmTokens),
        "wall_ms": crate::ledger::millis(ledger.elapsed()),
    })
}

/// Both outputs as text if both are text, else both base64.
fn outputs(stdout: &[u8], stderr: &[u8]) -> (String, String, &'static str) {
    match (std::str::from_utf8(stdout), std::str::from_utf8(stderr)) {
        (Ok(out), Ok(err)) => (out.to_owned(), err.to_owned(), "utf-8"),
        _ => {
            let engine = base64::engine::general_purpose::STANDARD;
            (engine.encode(stdout), engine.encode(stderr), "base64")
        }
    }
}

/// How a program's end is told: its own status, or a fault.
pub fn program_end(ended: &Ended) -> Result<i32, Fault> {
    match &ended.ending {
        Ending::Guest(End::Returned) => Ok(0),
        Ending::Guest(End::Exited { code }) => Ok(*code),
        Ending::Command(Exit { code: Some(code), .. }) => Ok(*code),
        other => Err(fault_of(other, &ended.policy)),
    }
}

/// The exit status for a guest's own: a process has one byte for it. What is left of 256 must not look like success.
fn exit_status(code: i32) -> i32 {
    match code & 0xff {
        0 if code != 0 => 1,
        low => low,
    }
}

/// The class and words of an ending that is none of the guest's own.
pub fn fault_of(ending: &Ending, policy: &Effective) -> Fault {
    let more = |key| remedies::of_limit(policy, key);
    match ending {
        Ending::Guest(End::Trapped { message }) => (Class::Trap, format!("the guest trapped: {message}")),
        Ending::Guest(End::OutOfFuel) => {
            (Class::Budget, format!("the guest used all of its fuel; {}", more(LimitKey::Fuel)))
        }
        Ending::Guest(End::OutOfMemory { message }) if message.starts_with(MEMORY_LIMIT) => {
            (Class::Budget, format!("the guest ran out of memory: {message}; {}", more(LimitKey::Memory)))
        }
        // Tables, instances, the host's own memory: no key gives more of them.
        Ending::Guest(End::OutOfMemory { message }) => {
            (Class::Budget, format!("the guest reached a limit that is fixed: {message}"))
        }
        Ending::Guest(End::OutOfTime) | Ending::Timeout => {
            (Class::Timeout, format!("the time was up and what ran was stopped; {}", more(LimitKey::Wall)))
        }
        Ending::Guest(End::Invalid { message }) => {
            (Class::InvalidModule, format!("the module cannot run here: {message}"))
        }
        Ending::Guest(End::Stopped { message }) => (Class::Internal, format!("the loop stopped: {message}")),
        Ending::Guest(End::Returned | End::Exited { .. }) => {
            (Class::Internal, "the guest ended without a verdict".to_owned())
        }
        Ending::Command(exit) if exit.timed_out => {
            (Class::Timeout, "the command's own time was up (its `timeout` in the policy) and it was ended".to_owned())
        }
        // What it wrote to, if that is known, stands among the denials, with the rule.
        Ending::Command(Exit { signal: Some(SIGXFSZ), .. }) => {
            let name = signal_name(Some(SIGXFSZ));
            (Class::Trap, format!("{name} ended the command: it wrote to a file that is as long as a file may be"))
        }
        Ending::Command(Exit { signal, .. }) => (Class::Trap, format!("{} ended the command", signal_name(*signal))),
        Ending::NotRun(error) => (class_of(error.code), told(error)),
        Ending::Verdict(Verdict::Exhausted(why)) => (Class::Budget, why.clone()),
        Ending::Verdict(_) => (Class::Internal, "a verdict is no fault".to_owned()),
        Ending::Cancelled(signal) => (Class::Unavailable, format!("ended by signal {signal}")),
        Ending::WorkerLost(why) if why.contains("broke the protocol") => {
            (Class::Refused, format!("the worker was ended: {why}"))
        }
        Ending::WorkerLost(why) => (Class::Unavailable, format!("the worker was lost: {why}")),
        Ending::OutputLost(why) => {
            (Class::Internal, format!("the output could not be written to standard output: {why}"))
        }
        Ending::HelperMissing(why) => (Class::Unavailable, why.clone()),
        Ending::AuditLost(why) => {
            (Class::Internal, format!("the audit log could not be written, so nothing went on: {why}"))
        }
    }
}

/// The kernel's answer to who writes beyond RLIMIT_FSIZE.
const SIGXFSZ: i32 = 25;

fn signal_name(signal: Option<i32>) -> String {
    let name = signal.and_then(|number| Signal::try_from(number).ok());
    let number = signal.unwrap_or_default();
    name.map_or_else(|| format!("signal {number}"), |name| format!("signal {number} ({})", name.as_str()))
}

fn class_of(code: ErrorCode) -> Class {
    match code {
        ErrorCode::Denied => Class::Denied,
        ErrorCode::Limit => Class::Budget,
        ErrorCode::Timeout => Class::Timeout,
        ErrorCode::NotFound => Class::NotFound,
        ErrorCode::InvalidArgument => Class::Usage,
        ErrorCode::Unavailable => Class::Unavailable,
        ErrorCode::Conflict | ErrorCode::Internal => Class::Internal,
    }
}

/// An error's words, with the rule that it names.
fn told(error: &CallError) -> String {
    let rule = if error.rule.is_empty() { String::new() } else { format!(" [{}]", error.rule) };
    let denied = if error.code == ErrorCode::Denied { "denied: " } else { "" };
    format!("{denied}{}{rule}", error.message)
}

/// `warden.run/1`
fn run_json(ended: &mut Ended, end: &Result<i32, Fault>, id: &str, took: Duration, head: Option<&Head>) -> Value {
    let usage = usage_json(ended);
    let (stdout, stderr, encoding) = outputs(&ended.sinks.stdout.bytes, &ended.sinks.stderr.bytes);
    json!({
        "schema": "warden.run/1",
        "status": if end.is_ok() { "success" } else { "error" },
        "exit_code": end.as_ref().ok(),
        "execution_time_ms": crate::ledger::millis(took),
        "stdout": stdout,
        "stderr": stderr,
        "error": end.as_ref().err().map(|(_, why)| why),
        "error_code": end.as_ref().err().map(|(class, _)| class.code()),
        "encoding": encoding,
        "truncated": ended.sinks.truncated(),
        "task_id": id,
        "usage": usage,
        "denials": ended.report.denials_json(),
        "denials_total": ended.report.denials_total,
        "isolation": ended.report.isolation_json(),
        "audit": audit_json(head),
    })
}

/// The exit status of a program or command that has ended somehow.
fn status_of(end: &Result<i32, Fault>, ending: &Ending) -> i32 {
    match (end, ending) {
        (Ok(code), _) => exit_status(*code),
        (Err(_), Ending::Cancelled(signal)) => SIGNAL_BASE.saturating_add(*signal),
        (Err(_), Ending::Command(Exit { signal: Some(signal), timed_out: false, .. })) => {
            SIGNAL_BASE.saturating_add(*signal)
        }
        (Err((class, _)), _) => class.status(),
    }
}

/// Denials that a person is shown; the result has more.
const DENIALS_SHOWN: usize = 20;

/// What a person's own command was refused, and what lifts that; how much more there was.
fn denied_lines(ended: &Ended) -> Vec<String> {
    let shown = ended.report.denials.iter().take(DENIALS_SHOWN);
    let mut lines: Vec<String> = shown
        .map(|denial| {
            let remedy = remedies::of_rule(&ended.policy, &denial.rule);
            denied_line(denial) + &remedy.map(|remedy| format!(" ({remedy})")).unwrap_or_default()
        })
        .collect();
    let told = u64::try_from(lines.len()).unwrap_or(u64::MAX);
    match ended.report.denials_total.saturating_sub(told) {
        0 => {}
        more => lines.push(format!("warden: and {more} more, of these or of others")),
    }
    lines
}

fn denied_line(denial: &Denial) -> String {
    format!("warden: denied {} {} [{}]", denial.capability, one_line(&denial.target, 80), denial.rule)
}

/// The answer of `warden jail`. Its output has been passed through, or stands in the JSON.
pub fn command(mut ended: Ended, id: &str, took: Duration, head: Option<&Head>) -> Answer {
    let end = program_end(&ended);
    let status = status_of(&end, &ended.ending);
    let json = run_json(&mut ended, &end, id, took, head);
    let mut lines: Vec<String> = Vec::new();
    // A signal is told by the status, as every shell does; one that a limit sent is told.
    let by_limit = matches!(ended.ending, Ending::Command(Exit { signal: Some(SIGXFSZ), .. }));
    if let Err((class, why)) = &end
        && (*class != Class::Trap || by_limit)
    {
        lines.push(format!("warden: {}", one_line(why, 600)));
    }
    // Of a command that ran: what it was refused. One that was not run has said so.
    if !matches!(ended.ending, Ending::NotRun(_)) {
        lines.extend(denied_lines(&ended));
    }
    if !ended.report.degraded.is_empty() {
        lines.push(format!("warden: degraded: {}", one_line(&ended.report.degraded.join("; "), 1000)));
    }
    Answer { json, text: String::new(), note: lines.join("\n"), status }
}

/// The answer of `warden run`.
pub fn program(mut ended: Ended, id: &str, took: Duration, head: Option<&Head>) -> Answer {
    let end = program_end(&ended);
    let status = status_of(&end, &ended.ending);
    let json = run_json(&mut ended, &end, id, took, head);
    let mut note = String::new();
    if let Err((_, why)) = &end {
        note = format!("warden: {}", one_line(why, 600));
    }
    if let Ok(code) = end
        && code != status
    {
        note = format!(
            "warden: the guest ended with status {code}, for which a process has no room; the exit status is {status}"
        );
    }
    for denial in ended.report.denials.iter().take(DENIALS_SHOWN) {
        note.push('\n');
        note.push_str(&denied_line(denial));
    }
    let shown = u64::try_from(DENIALS_SHOWN).unwrap_or(u64::MAX);
    if ended.report.denials_total > shown {
        note.push_str(&format!("\nwarden: and {} more", ended.report.denials_total.saturating_sub(shown)));
    }
    Answer { json, text: String::new(), note: note.trim_start().to_owned(), status }
}

/// `outcome` of a task, with its exit status and its reason.
pub fn task_outcome(ended: &Ended) -> (&'static str, i32, Option<String>) {
    match &ended.ending {
        Ending::Verdict(Verdict::Done) => ("done", 0, ended.reason.clone()),
        Ending::Verdict(Verdict::Unverified) => ("unverified", 1, ended.reason.clone()),
        Ending::Verdict(Verdict::Failed(why)) => ("failed", 1, Some(why.clone())),
        Ending::Verdict(Verdict::Exhausted(why)) => ("budget_exhausted", 124, Some(why.clone())),
        Ending::Cancelled(signal) => {
            ("error", SIGNAL_BASE.saturating_add(*signal), Some(format!("ended by signal {signal}")))
        }
        other => {
            let (class, why) = fault_of(other, &ended.policy);
            match class {
                Class::Budget | Class::Timeout => ("budget_exhausted", 124, Some(why)),
                _ => ("error", 125, Some(why)),
            }
        }
    }
}

/// The answer of `warden task run` and `warden step`.
pub fn task(mut ended: Ended, id: &str, head: Option<&Head>, transcript: Option<&str>) -> Answer {
    let (outcome, status, reason) = task_outcome(&ended);
    let usage = usage_json(&mut ended);
    let predicates: Vec<Value> = ended.predicates.iter().map(crate::task::predicates::Evaluated::to_json).collect();
    let error = if matches!(outcome, "error" | "budget_exhausted") { reason.clone() } else { None };
    let json = json!({
        "schema": "warden.task/1",
        "task_id": id,
        "outcome": outcome,
        "reason": reason,
        "steps": ended.report.steps_json(),
        "predicates": predicates,
        "result": ended.outcome,
        "usage": usage,
        "denials": ended.report.denials_json(),
        "denials_total": ended.report.denials_total,
        "isolation": ended.report.isolation_json(),
        "transcript": transcript,
        "error": error,
        "audit": audit_json(head),
    });
    Answer { json, text: task_text(&ended, outcome, reason.as_deref(), head), note: String::new(), status }
}

fn task_text(ended: &Ended, outcome: &str, reason: Option<&str>, head: Option<&Head>) -> String {
    let mut text = outcome.to_owned();
    if let Some(reason) = reason {
        text.push_str(&format!(": {}", one_line(reason, 600)));
    }
    text.push('\n');
    for predicate in &ended.predicates {
        let mark = if predicate.met { "met" } else { "not met" };
        let detail = crate::progress::after_colon(&predicate.detail, 200);
        text.push_str(&format!("  {mark}: {}{detail}\n", one_line(&predicate.predicate, 200)));
    }
    let actions: usize = ended.report.steps.iter().map(|s| s.actions.len()).sum();
    text.push_str(&format!(
        "  {} steps, {actions} actions, {} denied\n",
        ended.report.steps.len(),
        ended.report.denials.len()
    ));
    for trouble in ended.report.troubles().take(50) {
        text.push_str(&format!("  {}\n", one_line(&trouble, 200)));
    }
    for denial in ended.report.denials.iter().take(50) {
        let target = one_line(&denial.target, 80);
        text.push_str(&format!("  denied: {} {target} [{}]\n", denial.capability, one_line(&denial.rule, 120)));
    }
    for cut in ended.report.truncated().take(20) {
        text.push_str(&format!("  truncated: {}\n", one_line(&cut, 200)));
    }
    for what in &ended.report.degraded {
        text.push_str(&format!("  degraded: {}\n", one_line(what, 200)));
    }
    if let Some(head) = head {
        text.push_str(&format!("  audit: {} record {} {}\n", head.segment, head.seq, head.head.as_str()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_status_but_zero_looks_like_success_and_a_byte_is_told_as_it_is() {
        for code in [256, 512, i32::MIN, 65_536] {
            assert_eq!(exit_status(code), 1, "{code}");
        }
        for (code, status) in [(0, 0), (1, 1), (255, 255), (257, 1), (-1, 255), (259, 3)] {
            assert_eq!(exit_status(code), status, "{code}");
        }
    }
}
