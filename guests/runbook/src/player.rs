//! The playing itself.
//!
//! The task is `{"steps":[{"capability":"fs.write_file","input":{…},"on_failure":"stop"|"continue","audit_tag":"…"}]}`; `input` is `{}`, `on_failure`
//! is `stop` and `audit_tag` is none when left out. Each step is a plan of one action. When it failed and says `stop`, the runbook is
//! complete with `{"failed_step":n}`, counted from 1; at its end with `{"played":n}`.
//!
//! A step counts as done only when the observation says so: a report that is missing or of another action is a failure.

use serde::Deserialize;
use serde_json::{Map, Value, json};

/// What happens after a failed step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OnFailure {
    #[default]
    Stop,
    Continue,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    capability: String,
    #[serde(default)]
    input: Map<String, Value>,
    #[serde(default)]
    on_failure: OnFailure,
    #[serde(default)]
    audit_tag: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Runbook {
    steps: Vec<Step>,
}

/// What comes next.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    Act { thought: String, capability: String, input: String, audit_tag: Option<String> },
    Complete { reason: String, outcome: String },
}

/// The task is no runbook.
#[derive(Debug, thiserror::Error)]
#[error("the task is no runbook: {0}")]
pub struct NoRunbook(#[from] serde_json::Error);

/// A runbook and how far it has come.
#[derive(Debug, Default)]
pub struct Player {
    task: Option<String>,
    steps: Vec<Step>,
    played: usize,
    /// Set once: a runbook that is over stays over.
    ended: Option<Next>,
}

impl Player {
    /// Takes in what became of the last step and says what comes next. Another task than before begins anew.
    pub fn step(&mut self, task: &str, observed_json: &str) -> Result<Next, NoRunbook> {
        if self.task.as_deref() != Some(task) {
            let Runbook { steps } = serde_json::from_str(task)?;
            *self = Self { task: Some(task.to_owned()), steps, ..Self::default() };
        }
        if let Some(ended) = &self.ended {
            return Ok(ended.clone());
        }
        let next = self.failure(observed_json).unwrap_or_else(|| self.next());
        match next {
            Next::Complete { .. } => self.ended = Some(next.clone()),
            Next::Act { .. } => self.played = self.played.saturating_add(1),
        }
        Ok(next)
    }

    /// The end of the runbook, when the step just played failed and says so.
    fn failure(&self, observed_json: &str) -> Option<Next> {
        let played = self.steps.get(self.played.checked_sub(1)?)?;
        let error = failed(&played.capability, observed_json)?;
        (played.on_failure == OnFailure::Stop).then(|| Next::Complete {
            reason: format!("step {} of {}, {}, failed: {error}", self.played, self.steps.len(), played.capability),
            outcome: json!({"failed_step": self.played}).to_string(),
        })
    }

    fn next(&self) -> Next {
        let of = self.steps.len();
        match self.steps.get(self.played) {
            Some(step) => Next::Act {
                thought: format!("step {} of {of}", self.played.saturating_add(1)),
                capability: step.capability.clone(),
                input: Value::Object(step.input.clone()).to_string(),
                audit_tag: step.audit_tag.clone(),
            },
            None => Next::Complete { reason: format!("played {of} of {of} steps"), outcome: json!({"played": of}).to_string() },
        }
    }
}

/// How the one reported action failed; none when it succeeded.
fn failed(capability: &str, observed_json: &str) -> Option<String> {
    let Ok(observed) = serde_json::from_str::<Value>(observed_json) else { return Some("its report is no JSON".to_owned()) };
    let Some(report) = observed.pointer("/actions/0") else { return Some("nothing was reported of it".to_owned()) };
    if report.get("capability").and_then(Value::as_str) != Some(capability) {
        return Some("the report is of another action".to_owned());
    }
    if report.get("success").and_then(Value::as_bool) == Some(true) {
        return None;
    }
    let word = |name: &str| report.pointer(name).and_then(Value::as_str).filter(|word| !word.is_empty());
    let rule = word("/error/rule").map(|rule| format!(" (rule {rule})")).unwrap_or_default();
    Some(format!("{}: {}{rule}", word("/error/code").unwrap_or("unknown"), word("/error/message").unwrap_or("no message")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: &str = r#"{"steps":[
        {"capability":"fs.write_file","input":{"path":"repo:a","contents":"x"},"audit_tag":"first"},
        {"capability":"proc.spawn","input":{"command":"git","args":[]},"on_failure":"continue"},
        {"capability":"fs.read_file","input":{"path":"repo:a"},"on_failure":"stop"}]}"#;

    fn report(capability: &str, success: bool) -> String {
        let error = if success { Value::Null } else { json!({"code": "denied", "message": "no", "rule": "r1"}) };
        json!({"actions": [{"capability": capability, "success": success, "output": null, "error": error}]}).to_string()
    }

    fn capability(next: &Next) -> &str {
        match next {
            Next::Act { capability, .. } => capability,
            Next::Complete { .. } => panic!("{next:?}"),
        }
    }

    fn complete(next: Next) -> (String, Value) {
        match next {
            Next::Complete { reason, outcome } => (reason, serde_json::from_str(&outcome).unwrap()),
            Next::Act { .. } => panic!("{next:?}"),
        }
    }

    #[test]
    fn steps_are_played_in_order_to_the_end() {
        let mut player = Player::default();
        let first = player.step(TASK, "{}").unwrap();
        let wanted = Next::Act {
            thought: "step 1 of 3".into(),
            capability: "fs.write_file".into(),
            input: r#"{"contents":"x","path":"repo:a"}"#.into(),
            audit_tag: Some("first".into()),
        };
        assert_eq!(first, wanted);
        assert_eq!(capability(&player.step(TASK, &report("fs.write_file", true)).unwrap()), "proc.spawn");
        assert_eq!(capability(&player.step(TASK, &report("proc.spawn", true)).unwrap()), "fs.read_file");
        let end = player.step(TASK, &report("fs.read_file", true)).unwrap();
        assert_eq!(complete(end.clone()).1, json!({"played": 3}));
        assert_eq!(player.step(TASK, r#"{"unmet":["x"]}"#).unwrap(), end);
    }

    #[test]
    fn a_failed_step_stops_or_goes_on_as_it_says() {
        let mut player = Player::default();
        player.step(TASK, "{}").unwrap();
        player.step(TASK, &report("fs.write_file", true)).unwrap();
        assert_eq!(capability(&player.step(TASK, &report("proc.spawn", false)).unwrap()), "fs.read_file");
        let (reason, outcome) = complete(player.step(TASK, &report("fs.read_file", false)).unwrap());
        assert_eq!(outcome, json!({"failed_step": 3}));
        assert_eq!(reason, "step 3 of 3, fs.read_file, failed: denied: no (rule r1)");
    }

    #[test]
    fn a_step_without_its_report_counts_as_failed() {
        for observed in [
            "{}",
            "not json",
            r#"{"actions":[]}"#,
            &report("fs.remove_file", true),
            r#"{"actions":[{"capability":"fs.write_file","success":1}]}"#,
        ] {
            let mut player = Player::default();
            player.step(TASK, "{}").unwrap();
            assert_eq!(complete(player.step(TASK, observed).unwrap()).1, json!({"failed_step": 1}), "{observed}");
        }
    }

    #[test]
    fn the_first_observation_is_of_nothing_played() {
        assert_eq!(capability(&Player::default().step(TASK, &report("fs.write_file", false)).unwrap()), "fs.write_file");
    }

    #[test]
    fn an_empty_runbook_is_played_at_once_and_a_wrong_one_is_refused() {
        assert_eq!(complete(Player::default().step(r#"{"steps":[]}"#, "{}").unwrap()).1, json!({"played": 0}));
        for task in [
            "do it",
            "{}",
            r#"{"steps":[{"input":{}}]}"#,
            r#"{"steps":[{"capability":"a","on_failure":"retry"}]}"#,
            r#"{"steps":[{"capability":"a","inputs":{}}]}"#,
        ] {
            assert!(Player::default().step(task, "{}").is_err(), "{task}");
        }
    }
}
