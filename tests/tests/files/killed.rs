//! cap-fs killed under each act, between acts, and while a guest holds its handles.

use crate::{acts, place};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::time::Duration;
use warden_tests::manifest::{self, error, failed, ok, results, succeeded};
use warden_tests::{Family, Task, gate, is_root, log, skipped};

/// One act with cap-fs stopped before it and killed in the middle of it; then the same act again.
fn killed_under(acts: &[(&'static str, Value)]) {
    let place = place(gate::COMMAND);
    let mut steps = vec![("fs.metadata", json!({"path": "work:a.txt"}))];
    for (number, act) in acts.iter().enumerate() {
        steps.extend([gate::step(number + 1), act.clone(), act.clone()]);
    }
    let running = Task::runbook(&steps).start(&place);
    for (number, (capability, _)) in acts.iter().enumerate() {
        gate::reached(&place, number + 1);
        let helper = Family::of(running.pid()).role("cap-fs").expect("cap-fs runs");
        helper.signal(Signal::SIGSTOP);
        let before = log::of(&place, capability).len();
        gate::open(&place, number + 1);
        // What has an effect has its begin record now; what only answers waits for the stopped helper.
        std::thread::sleep(Duration::from_millis(60));
        let records = log::of(&place, capability);
        let begun = records[before..].iter().any(|record| record["phase"] == "begin");
        let acts_on_something = !["fs.read_file", "fs.list_dir", "fs.metadata"].contains(capability);
        assert_eq!(begun, acts_on_something, "{capability}: {records:?}");
        helper.kill();
    }
    let ran = running.end();
    let actions = manifest::actions(&ran.object());
    assert_eq!(actions.len(), steps.len(), "the task went on: {}", ran.out);
    for (number, (capability, _)) in acts.iter().enumerate() {
        let error = failed(&actions[2 + 3 * number], "unavailable");
        assert!(error["message"].as_str().unwrap().contains("cap-fs"), "{capability}: {error}");
        succeeded(&actions[3 + 3 * number]);
    }
    assert!(ran.took < Duration::from_secs(20), "{:?}", ran.took);
    log::verify_complete(&place);
}

#[test]
fn a_helper_killed_under_what_answers_is_unavailable_and_the_next_call_works() {
    if !is_root() {
        return skipped("another user's process can be found and killed by root only");
    }
    let all = acts();
    killed_under(&[all[0].clone(), all[2].clone(), all[3].clone()]);
}

#[test]
fn a_helper_killed_under_what_changes_files_is_unavailable_and_the_next_call_works() {
    if !is_root() {
        return skipped("another user's process can be found and killed by root only");
    }
    let all = acts();
    killed_under(&[all[1].clone(), all[4].clone(), all[5].clone()]);
    killed_under(&[all[6].clone(), all[7].clone()]);
}

/// T-06: a helper that ends again and again is not started for ever.
#[test]
fn a_helper_that_keeps_ending_stays_away() {
    if !is_root() {
        return skipped("another user's process can be found and killed by root only");
    }
    let place = place(gate::COMMAND);
    let read = ("fs.read_file", json!({"path": "work:a.txt"}));
    let mut steps = vec![read.clone()];
    for number in 1..=5 {
        steps.extend([gate::step(number), read.clone(), read.clone()]);
    }
    let running = Task::runbook(&steps).start(&place);
    for number in 1..=5 {
        gate::reached(&place, number);
        Family::of(running.pid()).role("cap-fs").expect("cap-fs runs").kill();
        gate::open(&place, number);
    }
    let actions = manifest::actions(&running.end().object());
    for number in 0..4 {
        succeeded(&actions[3 + 3 * number]);
    }
    let last = failed(&actions[15], "unavailable");
    assert!(last["message"].as_str().unwrap().contains("not started again"), "{last}");
}

/// The helper goes while a guest holds handles of it: they are gone, and new ones can be had.
#[test]
fn handles_of_a_killed_helper_are_gone_and_the_guest_goes_on() {
    if !is_root() {
        return skipped("another user's process can be found and killed by root only");
    }
    let place = place(gate::COMMAND);
    let wait = "until [ -e gate-1 ]; do sleep 0.02; done";
    let script = json!([
        {"op": "fs.open_workspace", "as": "root"},
        {"op": "fs.open_file", "dir": "root", "path": "a.txt", "options": {"read": true}, "as": "f"},
        {"op": "proc.spawn", "command": "gate", "argv": ["-c", wait], "as": "p"},
        {"op": "proc.wait", "process": "p"},
        {"op": "fs.read", "file": "f", "max_bytes": 5},
        {"op": "fs.read", "file": "f", "max_bytes": 5},
        {"op": "fs.open_workspace", "as": "root"},
        {"op": "fs.open_file", "dir": "root", "path": "a.txt", "options": {"read": true}, "as": "f"},
        {"op": "fs.read", "file": "f", "max_bytes": 5},
    ]);
    let running = Task::script(&script).start(&place);
    warden_tests::processes::wait("the command", || {
        log::of(&place, "proc.start").iter().any(|record| record["phase"] == "end").then_some(())
    });
    Family::of(running.pid()).role("cap-fs").expect("cap-fs runs").kill();
    place.put("work/gate-1", "");
    let results = results(&running.end());
    error(&results[4], "unavailable");
    error(&results[5], "not-found");
    assert_eq!(ok(&results[8])["text"], "hello", "{results:?}");
}
