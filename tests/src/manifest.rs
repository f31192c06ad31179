//! Tasks of tests: runbooks, goals with a recording, and scripts for the probe that calls every import.

use crate::place::{Place, sample};
use crate::ran::{Ran, Running};
use serde_json::{Value, json};

/// A manifest under construction.
#[derive(Debug, Clone)]
pub struct Task(Value);

impl Task {
    /// A runbook: `(capability, input)` after another; each goes on after a failure.
    pub fn runbook(steps: &[(&str, Value)]) -> Self {
        let steps: Vec<Value> = steps
            .iter()
            .map(|(capability, input)| json!({"capability": capability, "input": input, "on_failure": "continue"}))
            .collect();
        Self(json!({"kind": "runbook", "policy": "warden.toml", "step": steps}))
    }

    /// A goal for the built-in brain.
    pub fn goal(goal: &str) -> Self {
        Self(json!({"kind": "goal", "policy": "warden.toml", "goal": goal}))
    }

    /// A goal for the probe: a script of calls on imports.
    pub fn script(script: &Value) -> Self {
        let brain = sample("control-probe.wasm");
        let goal = json!({"script": script}).to_string();
        Self(json!({"kind": "goal", "policy": "warden.toml", "goal": goal, "brain": brain}))
    }

    /// Sets a key of the manifest.
    pub fn with(mut self, key: &str, value: Value) -> Self {
        self.0[key] = value;
        self
    }

    /// Adds a predicate.
    pub fn success(mut self, predicate: Value) -> Self {
        match self.0.get_mut("success").and_then(Value::as_array_mut) {
            Some(list) => list.push(predicate),
            None => self.0["success"] = json!([predicate]),
        }
        self
    }

    /// Writes it as `task.json`.
    pub fn write(&self, place: &Place) {
        place.write("task.json", &self.0.to_string());
    }

    /// Writes it as `NAME.json` and starts `warden --json task run`.
    pub fn start_as(&self, place: &Place, name: &str) -> Running {
        let file = place.write(&format!("{name}.json"), &self.0.to_string());
        place.start(&["--json", "task", "run", file.to_str().expect("a path of text")])
    }

    /// The same as `task.json`.
    pub fn start(&self, place: &Place) -> Running {
        self.start_as(place, "task")
    }

    /// Runs it to its end.
    pub fn run(&self, place: &Place) -> Ran {
        self.start(place).end()
    }

    /// Runs a runbook to its end and returns its actions in order.
    #[track_caller]
    pub fn actions(&self, place: &Place) -> Vec<Value> {
        actions(&self.run(place).object())
    }
}

/// The actions of a result, in order.
pub fn actions(object: &Value) -> Vec<Value> {
    let steps = object["steps"].as_array().unwrap_or_else(|| panic!("no steps: {object}"));
    steps.iter().flat_map(|step| step["actions"].as_array().cloned().unwrap_or_default()).collect()
}

/// An action succeeded; its output.
#[track_caller]
pub fn succeeded(action: &Value) -> &Value {
    assert_eq!(action["success"], true, "{action}");
    &action["output"]
}

/// An action failed with `code`; its error.
#[track_caller]
pub fn failed<'a>(action: &'a Value, code: &str) -> &'a Value {
    assert_eq!((action["success"].as_bool(), action["error"]["code"].as_str()), (Some(false), Some(code)), "{action}");
    &action["error"]
}

/// An action was denied by a rule that contains `rule`.
#[track_caller]
pub fn denied(action: &Value, rule: &str) {
    let error = failed(action, "denied");
    assert!(error["rule"].as_str().is_some_and(|found| found.contains(rule)), "rule {rule}: {action}");
}

/// Runs a script of the probe and returns one result an op.
#[track_caller]
pub fn probe(place: &Place, script: Value) -> Vec<Value> {
    results(&Task::script(&script).run(place))
}

/// The results of a probe that came to its end.
#[track_caller]
pub fn results(ran: &Ran) -> Vec<Value> {
    let object = ran.outcome("unverified");
    let text = object["result"].as_str().unwrap_or_else(|| panic!("no result: {object}"));
    let outcome: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
    outcome["results"].as_array().unwrap_or_else(|| panic!("no results: {outcome}")).clone()
}

/// A probe's call worked; what it returned.
#[track_caller]
pub fn ok(result: &Value) -> &Value {
    result.get("ok").unwrap_or_else(|| panic!("it did not work: {result}"))
}

/// A probe's call failed with `code`.
#[track_caller]
pub fn error<'a>(result: &'a Value, code: &str) -> &'a Value {
    assert_eq!(result["error"]["code"].as_str(), Some(code), "{result}");
    &result["error"]
}
