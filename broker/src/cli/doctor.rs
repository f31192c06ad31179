//! `warden doctor`: what this host can enforce, for whom, and what follows where it cannot.
//!
//! Runs in the broker's process before there is a session, while there is one thread. Features are tried by using them in
//! children, as the user that tasks would run as; no version and no sysctl is believed.

mod commands;
mod host;
mod installed;

use super::Answer;
use crate::failure::Failure;
use crate::progress::one_line;
use clap::Args;
use serde_json::{Value, json};

/// Longest line, characters.
const LINE_MAX_CHARS: usize = 400;

/// `warden doctor`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  warden doctor --json | jq '.checks[] | select(.state != \"ok\")'\n\n\
ok: enforced. degraded: something is lost, and the line says what. missing: required, so that what needs it is refused.\n\
Exit status: 0, or 1 if something required is missing.")]
pub struct DoctorArgs {}

/// How one thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ok,
    /// Something is lost that nothing requires.
    Degraded,
    /// Required: something is refused without it.
    Missing,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Missing => "missing",
        }
    }
}

/// One line of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Check {
    name: String,
    state: State,
    /// What was found.
    detail: String,
    /// What follows, and what to do; empty where all is well.
    consequence: String,
}

impl Check {
    fn ok(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { name: name.into(), state: State::Ok, detail: detail.into(), consequence: String::new() }
    }

    fn degraded(name: impl Into<String>, detail: impl Into<String>, consequence: impl Into<String>) -> Self {
        Self { name: name.into(), state: State::Degraded, detail: detail.into(), consequence: consequence.into() }
    }

    fn missing(name: impl Into<String>, detail: impl Into<String>, consequence: impl Into<String>) -> Self {
        Self { name: name.into(), state: State::Missing, detail: detail.into(), consequence: consequence.into() }
    }
}

/// Runs the command.
pub fn run(_: &DoctorArgs) -> Result<Answer, Failure> {
    // First what lies where, and who we are; then what can be enforced, as whom a task would run.
    let (mut checks, identity) = installed::checks();
    let programs = installed::opened_programs();
    checks.extend(installed::become_task_user(&identity));
    checks.extend(programs.as_ref().and_then(installed::executed));
    let found = host::of_commands()?;
    checks.extend(host::checks(&found)?);
    checks.extend(commands::limits(&found));
    Ok(answer(&checks))
}

fn answer(checks: &[Check]) -> Answer {
    let ok = checks.iter().all(|check| check.state != State::Missing);
    Answer { json: to_json(checks, ok), text: to_text(checks, ok), note: String::new(), status: i32::from(!ok) }
}

fn to_json(checks: &[Check], ok: bool) -> Value {
    let checks: Vec<Value> = checks
        .iter()
        .map(|check| {
            json!({
                "name": check.name,
                "state": check.state.name(),
                "detail": check.detail,
                "consequence": check.consequence,
            })
        })
        .collect();
    json!({"schema": "warden.doctor/1", "ok": ok, "checks": checks})
}

fn to_text(checks: &[Check], ok: bool) -> String {
    let width = checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for check in checks {
        let line = format!("{:<8} {:<width$}  {}", check.state.name(), check.name, check.detail);
        text.push_str(&one_line(line.trim_end(), LINE_MAX_CHARS));
        text.push('\n');
        if !check.consequence.is_empty() {
            text.push_str(&one_line(&format!("{:<8} → {}", "", check.consequence), LINE_MAX_CHARS));
            text.push('\n');
        }
    }
    let degraded = checks.iter().filter(|check| check.state == State::Degraded).count();
    text.push_str(match (ok, degraded) {
        (true, 0) => "everything required is here\n",
        (true, _) => "everything required is here; what is degraded is said above\n",
        (false, _) => "something required is missing\n",
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_required_and_missing_fails() {
        let degraded = answer(&[Check::ok("a", "works"), Check::degraded("b", "lost", "so")]);
        assert_eq!((degraded.status, degraded.json["ok"].clone()), (0, json!(true)));
        let missing = answer(&[Check::ok("a", "works"), Check::missing("b", "gone", "so")]);
        assert_eq!((missing.status, missing.json["ok"].clone()), (1, json!(false)));
        assert_eq!(missing.json["checks"][1]["state"], "missing");
    }

    #[test]
    fn a_path_cannot_steer_the_terminal() {
        let answer = answer(&[Check::missing("a", "/tmp/\u{1b}[2Jx\nok", "b\u{202e}c")]);
        assert!(!answer.text.contains(['\u{1b}', '\u{202e}']), "{}", answer.text);
        assert_eq!(answer.text.lines().count(), 3);
    }
}
