//! Every limit that ends a loop (T-06, T-16).

use crate::{acts, claims, replaying, summary};
use serde_json::json;
use std::time::Duration;
use warden_tests::{Place, Task, log};

#[test]
fn steps_run_out() {
    let look = acts(json!([{"capability": "fs.list_dir", "input": {"path": "work:"}}]));
    let lines = vec![look; 10];
    let place = replaying(&lines, "[limits]\nsteps = 3\n");
    let object = Task::goal("Look.").success(summary()).run(&place).outcome("budget_exhausted");
    assert!(object["error"].as_str().unwrap().contains("steps"), "{object}");
    assert_eq!((object["usage"]["steps"].as_u64(), object["steps"].as_array().map(Vec::len)), (Some(3), Some(3)));
    // A manifest may narrow the policy, and never widen it.
    let narrower = Task::goal("Look.").with("limits", json!({"steps": 2})).run(&place).outcome("budget_exhausted");
    assert_eq!(narrower["usage"]["steps"], 2);
}

/// T-10: limits are the least of all; a folder beyond the policy's is denied before the start, with both rules.
#[test]
fn a_manifest_that_asks_for_more_than_its_policy_gets_no_more() {
    let look = acts(json!([{"capability": "fs.list_dir", "input": {"path": "work:"}}]));
    let place = replaying(&vec![look; 10], "[limits]\nsteps = 3\n");
    let ran = Task::goal("Look.").with("limits", json!({"steps": 9})).run(&place);
    assert_eq!(ran.outcome("budget_exhausted")["usage"]["steps"], 3);
    // Not in silence: who asked, and which layer won.
    assert!(ran.err.contains("task:limits.steps asks for 9 and gets 3, by user:limits.steps"), "{}", ran.err);
    let shown = place.run(&["policy", "show", "--manifest", "task.json"]);
    assert!(shown.out.contains("# task:limits.steps asks for 9 and gets 3, by user:limits.steps"), "{}", shown.out);
    let within = Task::goal("Look.").with("limits", json!({"steps": 2})).run(&place);
    assert_eq!(within.outcome("budget_exhausted")["usage"]["steps"], 2);
    assert!(!within.err.contains("asks for"), "{}", within.err);
    let records = log::records(&place).len();
    let beyond = place.folder_of_task("beyond", 0o755);
    let object = Task::goal("Look.").with("workspace", json!(beyond)).run(&place).fails("denied", 126);
    let error = object["error"].as_str().unwrap();
    assert!(error.contains("task:fs.workspace") && error.contains("user:"), "both rules: {error}");
    assert_eq!(log::records(&place).len(), records, "nothing was started");
    // The control: a folder within the policy's.
    let within = place.folder_of_task("work/within", 0o755);
    Task::goal("Look.").with("workspace", json!(within)).run(&place).outcome("budget_exhausted");
}

/// T-16
#[test]
fn calls_of_the_model_run_out() {
    let look = acts(json!([{"capability": "fs.list_dir", "input": {"path": "work:"}}]));
    let place = replaying(&vec![look; 10], "[limits]\nllm_calls = 2\n");
    let object = Task::goal("Look.").run(&place).outcome("budget_exhausted");
    assert!(object["error"].as_str().unwrap().contains("llm_calls"), "{object}");
    assert_eq!(object["usage"]["llm_calls"], 2);
}

/// T-16: a model that answers nonsense is asked twice more, and each ask is a call.
#[test]
fn repairs_count_as_calls_and_not_as_steps() {
    let nonsense = json!({"content": "I would rather talk."});
    let place = replaying(&[nonsense.clone(), nonsense, claims()], "");
    let object = Task::goal("Look.").run(&place).outcome("unverified");
    assert_eq!((&object["usage"]["llm_calls"], &object["usage"]["steps"]), (&json!(3), &json!(1)));
}

/// T-16: a plan that failed after its two repairs is a step of its own, and three of those in a row end the task.
#[test]
fn a_model_that_talks_nonsense_ends_its_task_after_three_counted_steps() {
    let nonsense = json!({"content": "I would rather talk."});
    let place = replaying(&vec![nonsense.clone(); 20], "");
    let object = Task::goal("Look.").run(&place).outcome("failed");
    assert_eq!((&object["usage"]["llm_calls"], &object["usage"]["steps"]), (&json!(9), &json!(3)), "{object}");
    assert!(object["steps"][0]["thought"].as_str().is_some_and(|text| text.contains("no plan")), "{object}");
    // They count: where there is one step, there are three calls.
    place.write("one.toml", &place.read("warden.toml").replace("[llm]", "[limits]\nsteps = 1\n[llm]"));
    let object = Task::goal("Look.").with("policy", json!("one.toml")).run(&place).outcome("budget_exhausted");
    assert_eq!((&object["usage"]["llm_calls"], &object["usage"]["steps"]), (&json!(3), &json!(1)), "{object}");
    // The control: two such steps, then a plan.
    let mut lines = vec![nonsense; 6];
    lines.push(claims());
    let object = Task::goal("Look.").run(&replaying(&lines, "")).outcome("unverified");
    assert_eq!((&object["usage"]["llm_calls"], &object["usage"]["steps"]), (&json!(7), &json!(3)), "{object}");
}

/// T-16
#[test]
fn tokens_run_out() {
    let mut look = acts(json!([{"capability": "fs.list_dir", "input": {"path": "work:"}}]));
    look["usage"] = json!({"prompt_tokens": 900, "completion_tokens": 100, "total_tokens": 1000});
    let place = replaying(&vec![look; 10], "[limits]\nllm_tokens = 2500\n");
    let object = Task::goal("Look.").run(&place).outcome("budget_exhausted");
    assert!(object["error"].as_str().unwrap().contains("llm_tokens"), "{object}");
    assert_eq!(object["usage"]["llm_tokens"], 3000, "what was used is told, and more was not: {object}");
}

#[test]
fn time_runs_out() {
    let place = Place::new();
    place.work_policy("[limits]\nwall = \"500ms\"\n");
    let ran = Task::script(&json!([{"op": "spin"}])).run(&place);
    ran.outcome("budget_exhausted");
    assert!(ran.took < Duration::from_secs(10), "{:?}", ran.took);
    // Fuel too, where it is metered.
    place.work_policy("[limits]\nfuel = 50_000_000\n");
    Task::script(&json!([{"op": "spin"}])).run(&place).outcome("budget_exhausted");
    place.work_policy("[limits]\nfuel = 5_000_000_000\n");
    Task::script(&json!([{"op": "policy.describe"}])).run(&place).outcome("unverified");
}
