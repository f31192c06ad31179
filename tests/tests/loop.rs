//! The loop from its first step to its outcome: what makes a task done, what does not, and every limit that ends it.

use serde_json::{Value, json};
use std::time::Duration;
use warden_tests::manifest::{actions, denied, error, failed, ok, succeeded};
use warden_tests::{Place, Task, gate, is_root, log, sample, skipped};

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

#[test]
fn a_goal_is_done_when_its_predicates_hold() {
    let place = replaying(&[writes("work:SUMMARY.md", "I fixed it."), claims()], "");
    let object = Task::goal("Say it.").success(summary()).run(&place).outcome("done");
    assert_eq!(met(&object), [true]);
    assert_eq!(object["steps"].as_array().map(Vec::len), Some(2), "{object}");
    assert_eq!(object["steps"][0]["thought"], "I act.");
    assert_eq!((&object["usage"]["llm_calls"], &object["usage"]["steps"]), (&json!(2), &json!(2)));
    assert!(object["transcript"].as_str().is_some_and(|path| path.ends_with("run.jsonl")), "{object}");
    assert_eq!(place.read("work/SUMMARY.md"), "I fixed it.");
    log::verify_complete(&place);
}

/// T-15: the brain is told what is missing, and its word counts for nothing.
#[test]
fn an_early_claim_is_told_what_is_unmet_and_the_loop_goes_on() {
    let mut second = writes("work:SUMMARY.md", "fixed");
    second["expect"] = json!("SUMMARY\\.md");
    let place = replaying(&[claims(), second, claims()], "");
    let object = Task::goal("Say it.").success(summary()).run(&place).outcome("done");
    assert_eq!(met(&object), [true]);
    assert_eq!(object["usage"]["llm_calls"], 3);
}

/// T-15
#[test]
fn a_brain_that_only_claims_is_never_done() {
    let place = Place::new();
    place.work_policy("[limits]\nsteps = 5\n");
    let script =
        json!([{"op": "complete", "reason": "all is well", "outcome_text": "{\"done\":true,\"outcome\":\"done\"}"}]);
    let ran = Task::script(&script).success(summary()).run(&place);
    let object = ran.outcome("budget_exhausted");
    assert_eq!(met(&object), [false]);
    assert_eq!(object["usage"]["steps"], 5);
    // The same claim where the thing holds.
    place.put("work/SUMMARY.md", "fixed");
    Task::script(&script).success(summary()).run(&place).outcome("done");
}

#[test]
fn without_a_predicate_a_goal_is_unverified_never_done() {
    let place = replaying(&[claims()], "");
    let object = Task::goal("Say it.").run(&place).outcome("unverified");
    assert_eq!(object["predicates"], json!([]));
    assert_eq!(object["reason"], "It is done.");
}

/// Every kind of predicate that this version can ask, met and unmet.
#[test]
fn predicates_are_asked_of_the_helper_that_holds_the_thing() {
    let command = "[[proc.command]]\nname = \"test\"\npath = \"/usr/bin/test\"\nargs = [[\"-e\", \"*\"]]\ncwd = \"work\"\n\
                   unchecked = true\n";
    let place = Place::new();
    place.work_policy(command);
    place.put("work/a.json", r#"{"list":[{"n":3}]}"#);
    let sha = "sha256sum of a.json";
    let digest = std::process::Command::new("sha256sum").arg(place.path("work/a.json")).output().expect(sha);
    let digest = String::from_utf8_lossy(&digest.stdout)[..64].to_owned();
    let holds = [
        json!({"file": "work:a.json", "exists": true}),
        json!({"file": "work:none", "absent": true}),
        json!({"file": "work:a.json", "contains": "\"n\":\\d"}),
        json!({"file": "work:a.json", "sha256": digest}),
        json!({"file": "work:a.json", "json": "/list/0/n", "equals": 3}),
        json!({"command": "test", "args": ["-e", "a.json"]}),
        json!({"all": [{"file": "work:a.json", "exists": true}, {"not": {"file": "work:none", "exists": true}}]}),
        json!({"any": [{"file": "work:none", "exists": true}, {"file": "work:a.json", "exists": true}]}),
    ];
    let step = [("fs.list_dir", json!({"path": "work:"}))];
    let task = holds.iter().fold(Task::runbook(&step), |task, one| task.success(one.clone()));
    assert_eq!(met(&task.run(&place).outcome("done")), [true; 8]);
    let fails = [
        json!({"file": "work:none", "exists": true}),
        json!({"file": "work:a.json", "absent": true}),
        json!({"file": "work:a.json", "contains": "^n$"}),
        json!({"file": "work:a.json", "sha256": "0".repeat(64)}),
        json!({"file": "work:a.json", "json": "/list/0/n", "equals": "3"}),
        json!({"command": "test", "args": ["-e", "none"]}),
        // What the task may not do, its predicates may not either.
        json!({"command": "test", "args": ["-d", "a.json"]}),
        json!({"file": "work:../a.json", "exists": true}),
        json!({"all": [{"file": "work:a.json", "exists": true}, {"file": "work:none", "exists": true}]}),
        json!({"any": [{"file": "work:none", "exists": true}]}),
        json!({"not": {"file": "work:a.json", "exists": true}}),
    ];
    let task = fails.iter().fold(Task::runbook(&step), |task, one| task.success(one.clone()));
    assert_eq!(met(&task.run(&place).outcome("failed")), [false; 11]);
}

/// T-15: what cannot be asked is not held to hold, nor its contrary.
#[test]
fn a_predicate_that_nobody_can_ask_never_makes_a_task_done() {
    let place = Place::new();
    place.work_policy("");
    let step = [("fs.list_dir", json!({"path": "work:"}))];
    for predicate in [
        json!({"url": "http://127.0.0.1:9/", "status": 200}),
        json!({"not": {"url": "http://127.0.0.1:9/", "status": 200}}),
        json!({"not": {"command": "none-such", "args": []}}),
        json!({"not": {"file": "nowhere:x", "exists": true}}),
        json!({"any": [{"not": {"file": "work:../x", "exists": true}}]}),
    ] {
        let ran = Task::runbook(&step).success(predicate.clone()).run(&place);
        let object = ran.object();
        assert!(ran.status != 0 && object["outcome"] != "done", "{predicate}: {object}");
    }
    // The control.
    let holds = json!({"not": {"file": "work:none", "exists": true}});
    Task::runbook(&step).success(holds).run(&place).outcome("done");
}

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
    let object = Task::goal("Look.").with("limits", json!({"steps": 9})).run(&place).outcome("budget_exhausted");
    assert_eq!(object["usage"]["steps"], 3);
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

/// T-15: a recording that does not fit what happened ends the task.
#[test]
fn a_line_that_expects_something_else_ends_the_task_failed() {
    let mut look = acts(json!([{"capability": "fs.list_dir", "input": {"path": "work:"}}]));
    look["expect"] = json!("(?s)Observation");
    let mut wrong = claims();
    wrong["expect"] = json!("the moon is green");
    let place = replaying(&[look.clone(), wrong], "");
    place.put("work/SUMMARY.md", "fixed");
    let object = Task::goal("Look.").success(summary()).run(&place).outcome("failed");
    assert!(object["reason"].as_str().unwrap().contains("does not match"), "{object}");
    // The control: the same with what did happen.
    let mut right = claims();
    right["expect"] = json!("SUMMARY\\.md");
    let place = replaying(&[look, right], "");
    place.put("work/SUMMARY.md", "fixed");
    Task::goal("Look.").success(summary()).run(&place).outcome("done");
}

#[test]
fn after_its_last_line_a_recording_has_ended() {
    let look = acts(json!([{"capability": "fs.list_dir", "input": {"path": "work:"}}]));
    let place = replaying(&[look], "");
    let object = Task::goal("Look.").run(&place).outcome("failed");
    assert!(object["reason"].as_str().unwrap().contains("recording ended"), "{object}");
    let place = replaying(&[claims()], "");
    let results = warden_tests::probe(
        &place,
        json!([
            {"op": "llm.complete", "messages": [["user", "hello"]]},
            {"op": "llm.complete", "messages": [["user", "hello"]]},
        ]),
    );
    assert!(ok(&results[0])["content"].as_str().unwrap().contains("It is done."));
    assert!(error(&results[1], "unavailable")["message"].as_str().unwrap().contains("recording ended"));
}

/// The helper of the model goes in the middle of a call; the next call starts another. Line n answers call n all the same.
#[test]
fn a_model_helper_killed_under_a_call_is_unavailable_and_the_next_call_works() {
    if !is_root() {
        return skipped("another user's process can be found and killed by root only");
    }
    let lines: Vec<Value> = (1..=4).map(|n| json!({"content": format!("line {n}")})).collect();
    let place = replaying(&lines, gate::COMMAND);
    let ask = ("llm.complete", json!({"messages": [{"role": "user", "content": "hi"}]}));
    let running = Task::runbook(&[ask.clone(), gate::step(1), ask.clone(), ask]).start(&place);
    gate::reached(&place, 1);
    let helper = running.family().role("cap-llm").expect("cap-llm runs");
    helper.signal(nix::sys::signal::Signal::SIGSTOP);
    gate::open(&place, 1);
    std::thread::sleep(Duration::from_millis(60));
    helper.kill();
    let all = actions(&running.end().outcome("unverified"));
    assert_eq!(succeeded(&all[0])["content"], "line 1");
    let lost = failed(&all[2], "unavailable");
    assert!(lost["message"].as_str().unwrap().contains("cap-llm"), "{lost}");
    assert_eq!(succeeded(&all[3])["content"], "line 3", "{all:?}");
    log::verify_complete(&place);
}

#[test]
fn a_model_that_was_not_granted_is_denied_or_not_there() {
    let place = Place::new();
    place.work_policy("");
    let results = warden_tests::probe(&place, json!([{"op": "llm.complete", "messages": [["user", "hello"]]}]));
    let code = results[0]["error"]["code"].as_str();
    assert!(matches!(code, Some("denied" | "unavailable")), "{results:?}");
    let place = replaying(&[claims()], "");
    let script = json!([{"op": "llm.call_tools", "messages": [["user", "hello"]]}]);
    assert_eq!(ok(&warden_tests::probe(&place, script)[0])["tool_calls_json"], "[]");
}

/// A denial is an observation: the model is told the rule and plans around it.
#[test]
fn a_denial_is_told_to_the_model_and_the_task_goes_on() {
    let first = acts(json!([
        {"capability": "fs.read_file", "input": {"path": "work:.env"}},
        {"capability": "proc.spawn", "input": {"command": "curl", "args": ["http://x"]}},
    ]));
    let mut second = writes("work:SUMMARY.md", "fixed");
    second["expect"] = json!("deny\\[0\\]");
    let place = Place::new();
    let replay = "[llm]\nprovider = \"replay\"\nfile = \"run.jsonl\"\n";
    place.work_policy(&format!("deny = [\"**/.env\"]\n{replay}"));
    place.put("work/.env", "TOPSECRET");
    let lines: Vec<String> = [first, second, claims()].iter().map(Value::to_string).collect();
    place.write("run.jsonl", &lines.join("\n"));
    let object = Task::goal("Look.").success(summary()).run(&place).outcome("done");
    let all = actions(&object);
    denied(&all[0], "deny[0]");
    denied(&all[1], "default-deny");
    succeeded(&all[2]);
    assert_eq!(object["denials"].as_array().map(Vec::len), Some(2), "{object}");
    assert!(!object.to_string().contains("TOPSECRET"));
}

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

/// A runbook whose step failed and stopped it is no success, predicates or none.
#[test]
fn a_runbook_that_was_stopped_is_not_done_because_its_predicate_held_before() {
    let place = Place::new();
    place.work_policy("");
    place.put("work/there", "x");
    let fails = [("fs.read_file", json!({"path": "work:none"}))];
    let there = json!({"file": "work:there", "exists": true});
    let steps = json!([{"capability": "fs.read_file", "input": {"path": "work:none"}, "on_failure": "stop"}]);
    let object = Task::runbook(&fails).with("step", steps).success(there).run(&place).object();
    let error = &actions(&object)[0]["error"];
    assert_eq!(error["code"], "not-found", "{object}");
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
