//! What makes a task done, and what does not (T-15).

use crate::{claims, met, replaying, summary, writes};
use serde_json::json;
use warden_tests::{Place, Task, log};

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
        json!({"all": [{"file": "work:a.json", "exists": true}, {"file": "work:none", "exists": true}]}),
        json!({"any": [{"file": "work:none", "exists": true}]}),
        json!({"not": {"file": "work:a.json", "exists": true}}),
    ];
    let task = fails.iter().fold(Task::runbook(&step), |task, one| task.success(one.clone()));
    assert_eq!(met(&task.run(&place).outcome("failed")), [false; 10]);
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
    // What can never be granted is found before anything starts, with its place.
    for predicate in [json!({"command": "none-such"}), json!({"file": "/etc/passwd", "exists": true})] {
        let ran = Task::runbook(&step).success(predicate.clone()).run(&place);
        let object = ran.fails("invalid-argument", 2);
        assert!(object["error"].as_str().unwrap().contains("task.json:1:"), "{object}");
    }
    // The control.
    let holds = json!({"not": {"file": "work:none", "exists": true}});
    Task::runbook(&step).success(holds).run(&place).outcome("done");
}
