//! Brains that are no model: runbooks, planners that fail, and what starts a loop.

use crate::{claims, met, summary, writes};
use serde_json::json;
use warden_tests::manifest::{actions, ok};
use warden_tests::{Place, Task, log, sample};

#[test]
fn a_runbook_stops_or_goes_on_as_each_step_says() {
    let place = Place::new();
    place.work_policy("");
    let steps = |on_failure: &str| {
        json!([
            {"capability": "fs.write_file", "input": {"path": "work:one", "contents": "1"}, "audit_tag": "first"},
            {"capability": "fs.read_file", "input": {"path": "work:none"}, "on_failure": on_failure},
            {"capability": "fs.write_file", "input": {"path": "work:three", "contents": "3"}},
        ])
    };
    let three = json!({"file": "work:three", "exists": true});
    let stops = Task::runbook(&[]).with("step", steps("stop")).success(three.clone());
    let object = stops.run(&place).outcome("failed");
    assert_eq!(actions(&object).len(), 2, "{object}");
    assert!(place.path("work/one").exists() && !place.path("work/three").exists());
    let goes_on = Task::runbook(&[]).with("step", steps("continue")).success(three);
    let object = goes_on.run(&place).outcome("done");
    assert_eq!((actions(&object).len(), met(&object)), (3, vec![true]));
    assert_eq!(object["result"].as_str().map(|text| text.contains("\"played\":3")), Some(true), "{object}");
}

/// T-15: a runbook whose step failed and stopped it is no success, predicates or none.
#[test]
fn a_runbook_that_was_stopped_is_not_done_because_its_predicate_held_before() {
    let place = Place::new();
    place.work_policy("");
    place.put("work/there", "x");
    let there = json!({"file": "work:there", "exists": true});
    let runs = |path: &str, on_failure: &str| {
        let steps = json!([
            {"capability": "fs.read_file", "input": {"path": path}, "on_failure": on_failure},
            {"capability": "fs.list_dir", "input": {}},
        ]);
        Task::runbook(&[]).with("step", steps)
    };
    for (path, code) in [("work:none", "not-found"), ("work:../x", "denied")] {
        let object = runs(path, "stop").success(there.clone()).run(&place).outcome("failed");
        let reason = object["reason"].as_str().unwrap();
        assert!(reason.contains("step 1 of 2") && reason.contains("fs.read_file") && reason.contains(code), "{reason}");
        assert_eq!(
            (met(&object), actions(&object).len()),
            (vec![true], 1),
            "the predicate is told all the same: {object}"
        );
        runs(path, "stop").run(&place).outcome("failed");
    }
    // The controls: a failure that is let pass, and no failure.
    runs("work:none", "continue").success(there.clone()).run(&place).outcome("done");
    runs("work:there", "stop").success(there).run(&place).outcome("done");
}

#[test]
fn a_failed_planner_is_told_and_a_retry_helps() {
    let place = Place::new();
    place.work_policy("");
    let gives_up = json!([{"op": "fail", "retryable": false, "message": "I cannot"}]);
    let object = Task::script(&gives_up).run(&place).outcome("failed");
    assert!(object["reason"].as_str().unwrap().contains("I cannot"), "{object}");
    let tries_again = json!([{"op": "fail", "retryable": true, "message": "once more"}, {"op": "policy.describe"}]);
    Task::script(&tries_again).run(&place).outcome("unverified");
}

/// T-06: whatever a brain does to its runtime ends its own task, typed.
#[test]
fn a_brain_that_breaks_its_runtime_ends_as_an_error() {
    let place = Place::new();
    place.work_policy("[limits]\nmemory = \"32MiB\"\nwall = \"20s\"\n");
    for (op, words) in [("trap", "trap"), ("panic", "trap"), ("recurse", "trap"), ("alloc_abort", "")] {
        let ran = Task::script(&json!([{"op": op}])).success(summary()).run(&place);
        let object = ran.object();
        let outcome = object["outcome"].as_str().unwrap();
        assert!(["error", "budget_exhausted"].contains(&outcome), "{op}: {object}");
        assert!(object["error"].as_str().is_some_and(|text| text.contains(words)), "{op}: {object}");
    }
    let results = warden_tests::probe(&place, json!([{"op": "alloc"}, {"op": "policy.describe"}]));
    assert!(ok(&results[0])["bytes"].as_u64().is_some_and(|bytes| bytes < 32 << 20), "{results:?}");
    ok(&results[1]);
    Task::script(&json!([{"op": "big_result", "len": 8 << 20}])).run(&place).object();
}

#[test]
fn step_runs_the_loop_from_flags() {
    let place = Place::new();
    let lines = [writes("workspace:notes.txt", "hello"), claims()].map(|line| line.to_string()).join("\n");
    let replay = place.write("run.jsonl", &lines);
    let work = place.path("work");
    let (work, replay) = (work.to_str().unwrap(), replay.to_str().unwrap());
    let ran = place.json(&["step", "--task", "Write notes.", "--workspace", work, "--replay", replay, "--step", "4"]);
    let object = ran.outcome("unverified");
    assert_eq!((&object["steps"][0]["step"], &object["steps"][1]["step"]), (&json!(4), &json!(5)));
    assert_eq!(place.read("work/notes.txt"), "hello");
    // Without a model nothing starts, and the words say what to do.
    let none = place.json(&["step", "--task", "Write notes.", "--workspace", work]).fails("invalid-argument", 2);
    assert!(none["error"].as_str().unwrap().contains("--replay"), "{none}");
    // A brain of one's own.
    let probe = sample("control-probe.wasm");
    let script = json!({"script": [{"op": "observation"}]}).to_string();
    let config = place.work_policy("[llm]\nprovider = \"replay\"\nfile = \"run.jsonl\"\n");
    let (config, probe) = (config.to_str().unwrap(), probe.to_str().unwrap());
    let args = ["step", "--task", &script, "--config", config, "--component", probe, "--observation", "{\"a\":1}"];
    let object = place.json(&args).outcome("unverified");
    assert!(object["result"].as_str().unwrap().contains("\"a\":1"), "{object}");
    place.json(&["step", "--task", "x", "--config", config, "--observation", "{"]).fails("invalid-argument", 2);
}

#[test]
fn wrong_manifests_start_nothing() {
    let place = Place::new();
    place.work_policy("");
    for (key, value) in [
        ("kind", json!("dance")),
        ("goal", json!("")),
        ("colour", json!("red")),
        ("policy", json!("gone.toml")),
        ("brain", json!("gone.wasm")),
        ("success", json!([{"file": "work:x", "contains": "("}])),
        ("success", json!([{"nonsense": 1}])),
    ] {
        let object = Task::goal("x").with(key, value.clone()).run(&place).fails("invalid-argument", 2);
        assert_eq!(object["schema"], "warden.error/1", "{key} {value}");
    }
    place.json(&["task", "run", "gone.toml"]).fails("invalid-argument", 2);
    assert!(log::records(&place).is_empty(), "nothing was started");
}
