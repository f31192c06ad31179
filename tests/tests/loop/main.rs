//! The loop from its first step to its outcome: what makes a task done, what does not, and every limit that ends it.

mod brains;
mod limits;
mod model;
mod predicates;
mod stopped;

use serde_json::{Value, json};
use warden_tests::Place;

/// A turn of the model that acts.
fn acts(list: Value) -> Value {
    json!({"content": json!({"status": "continue", "thought": "I act.", "actions": list}).to_string()})
}

fn writes(path: &str, contents: &str) -> Value {
    acts(json!([{"capability": "fs.write_file", "input": {"path": path, "contents": contents}}]))
}

/// A turn of the model that says it is done.
fn claims() -> Value {
    json!({"content": json!({"status": "complete", "reason": "It is done.", "result": {"said": "done"}}).to_string()})
}

/// A place whose model answers with `lines`, one a call.
fn replaying(lines: &[Value], rest: &str) -> Place {
    let place = Place::new();
    place.work_policy(&format!("{rest}[llm]\nprovider = \"replay\"\nfile = \"run.jsonl\"\n"));
    let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
    place.write("run.jsonl", &lines.join("\n"));
    place
}

fn summary() -> Value {
    json!({"file": "work:SUMMARY.md", "contains": "fix(ed)?"})
}

/// The predicates of a result: whether each was met.
fn met(object: &Value) -> Vec<bool> {
    object["predicates"].as_array().unwrap().iter().map(|p| p["met"].as_bool().unwrap()).collect()
}
