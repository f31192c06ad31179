//! T-15: a predicate whose evaluation was stopped, timed out or could not begin says neither yes nor no; and no `not` makes a
//! task done by it.

use crate::met;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::time::Duration;
use warden_tests::{Place, Ran, Running, Task, log, processes};

const SHELL: &str = "[[proc.command]]\nname = \"sh\"\npath = \"/bin/sh\"\nargs = [[\"-c\", \"*\"]]\ncwd = \"work\"\n";

fn shell(script: &str) -> Value {
    json!({"command": "sh", "args": ["-c", script]})
}

fn not(predicate: Value) -> Value {
    json!({"not": predicate})
}

fn looks() -> Task {
    Task::runbook(&[("fs.list_dir", json!({"path": "work:"}))])
}

/// A task in the middle of its predicate, which says so by a file.
fn in_predicate(place: &Place) -> Running {
    let running = looks().success(not(shell("echo > begun; sleep 50"))).start(place);
    processes::wait("the predicate", || place.path("work/begun").exists().then_some(()));
    running
}

#[test]
fn a_signal_in_a_predicate_ends_the_task_by_it() {
    for (signal, status) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let place = Place::new();
        place.work_policy(SHELL);
        let running = in_predicate(&place);
        running.signal(signal);
        let ran = running.end();
        let object = ran.object();
        assert_eq!((ran.status, object["outcome"].as_str()), (status, Some("error")), "{object}");
        log::verify_complete(&place);
    }
    // The control: the same predicate, left alone, and unmet.
    let place = Place::new();
    place.work_policy(SHELL);
    looks().success(not(shell("exit 1"))).run(&place).outcome("done");
}

#[test]
fn time_that_runs_out_in_a_predicate_exhausts_the_budget() {
    let place = Place::new();
    place.work_policy(&format!("[limits]\nwall = \"2s\"\n{SHELL}"));
    let ran = looks().success(not(shell("sleep 50"))).run(&place);
    assert_eq!(met(&ran.outcome("budget_exhausted")), [false; 0]);
    assert!(ran.took < Duration::from_secs(8), "{:?}", ran.took);
    looks().success(not(shell("exit 1"))).run(&place).outcome("done");
}

#[track_caller]
fn unknown(ran: &Ran) {
    let object = ran.outcome("failed");
    let detail = object["predicates"][0]["detail"].as_str().unwrap_or_default();
    assert!(detail.starts_with("could not be evaluated: "), "{object}");
    assert!(object["reason"].as_str().is_some_and(|text| text.contains("could not be evaluated")), "{object}");
}

#[test]
fn a_command_that_was_ended_for_its_time_says_neither_yes_nor_no() {
    let place = Place::new();
    place.work_policy(&format!("{SHELL}timeout = \"500ms\"\n"));
    let slow = || shell("sleep 50");
    for predicate in [slow(), not(slow()), not(not(slow())), json!({"any": [not(slow()), shell("exit 1")]})] {
        unknown(&looks().success(predicate).run(&place));
    }
    // Three values: what holds whatever the unknown part is does hold.
    for predicate in [
        json!({"any": [not(slow()), shell("exit 0")]}),
        not(json!({"all": [slow(), shell("exit 1")]})),
        // Ended by a signal that is none of ours: it has failed.
        not(shell("kill -9 $$")),
    ] {
        looks().success(predicate).run(&place).outcome("done");
    }
}

/// The predicate's own ten seconds.
#[test]
fn a_predicate_that_takes_too_long_says_neither_yes_nor_no() {
    let place = Place::new();
    place.work_policy(SHELL);
    unknown(&looks().success(not(shell("sleep 50"))).run(&place));
}

#[test]
fn a_file_that_is_no_json_says_neither_yes_nor_no() {
    let place = Place::new();
    place.work_policy("");
    place.put("work/a.json", "{\"ok\": tru");
    let fine = || json!({"file": "work:a.json", "json": "/ok", "equals": true});
    for predicate in [fine(), not(fine())] {
        unknown(&looks().success(predicate).run(&place));
    }
    place.put("work/a.json", "{\"ok\": false}");
    looks().success(not(fine())).run(&place).outcome("done");
}

#[test]
fn the_death_of_the_helper_in_a_predicate_says_neither_yes_nor_no() {
    if !warden_tests::is_root() {
        return warden_tests::skipped("processes of the task are found and killed by root only");
    }
    for role in ["cap-proc", "cap-proc-runner"] {
        let place = Place::new();
        place.work_policy(SHELL);
        let running = in_predicate(&place);
        running.family().role(role).expect(role).kill();
        unknown(&running.end());
    }
}

/// A helper that cannot be started is a fault of the installation and none of the task's.
#[test]
fn a_helper_that_cannot_start_for_a_predicate_is_an_error() {
    let place = Place::new();
    place.work_policy(SHELL);
    let installed = place.install();
    let holds = not(json!({"file": "work:none", "exists": true}));
    let task = Task::runbook(&[("policy.describe", json!({}))]).success(holds);
    let run = || Running::of(installed.command(&place, &["--json", "task", "run", "task.json"])).end();
    task.run(&place).outcome("done");
    run().outcome("done");
    installed.empty("cap-fs");
    let object = run().outcome("error");
    assert!(object["error"].as_str().is_some_and(|text| text.contains("cap-fs")), "{object}");
    log::verify_complete(&place);
}

/// The cause comes with the effect.
#[test]
fn a_predicate_that_is_not_met_does_not_hide_the_step_that_went_wrong() {
    let place = Place::new();
    place.work_policy(SHELL);
    let steps = [
        ("proc.spawn", json!({"command": "sh", "args": ["-c", "exit 0"]})),
        ("proc.spawn", json!({"command": "sh", "args": ["-c", "exit 3"]})),
        ("fs.read_file", json!({"path": "work:none"})),
    ];
    let task = Task::runbook(&steps).success(json!({"file": "work:made", "exists": true}));
    let object = task.run(&place).outcome("failed");
    let reason = object["reason"].as_str().unwrap();
    assert!(reason.starts_with("step 2: proc.spawn sh -c exit 3: status 3; not met: "), "{reason}");
    let text = place.run(&["task", "run", "task.json"]).out;
    for line in [
        "failed: step 2: ",
        "  step 2: proc.spawn sh -c exit 3: status 3\n",
        "  step 3: fs.read_file failed: not-found",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(!text.contains("step 1"), "what went well is not told: {text}");
    // A step that stops the runbook.
    let stops = json!([{"capability": "fs.read_file", "input": {"path": "work:none"}}]);
    let object = task.with("step", stops).run(&place).outcome("failed");
    let reason = object["reason"].as_str().unwrap();
    assert!(reason.contains("step 1 of 1 stopped the runbook") && reason.contains("not met: "), "{reason}");
}
