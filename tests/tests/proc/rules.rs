//! What is done to a process: denied by its rule, and stopped by its limit, act by act.

use crate::{place, read, sh, signal, start, wait, write};
use serde_json::json;
use std::time::{Duration, Instant};
use warden_tests::manifest::{denied, error, failed, ok, succeeded};
use warden_tests::{Place, Task, log, probe};

const ON_PROCESSES: [&str; 4] = ["proc.write_stdin", "proc.read", "proc.wait", "proc.signal"];

/// T-11: a process is named by who started it in the same task, and by nobody else.
#[test]
fn a_process_of_nobody_is_not_found_and_one_of_another_task_is_not_either() {
    let place = place("");
    let of_nobody = [write("p", "x", false), read("p"), wait("p"), signal("p", "kill")];
    for action in Task::runbook(&of_nobody).actions(&place) {
        failed(&action, "not-found");
    }
    // Another task of the same user and policy, at the same time, has one of that name.
    let other = Task::runbook(&[start("p", "echo theirs; touch up; sleep 100"), wait("p")]).start_as(&place, "other");
    warden_tests::processes::wait("the other task's process", || place.path("work/up").exists().then_some(()));
    for action in Task::runbook(&of_nobody).actions(&place) {
        failed(&action, "not-found");
    }
    drop(other);
}

/// T-10: where no command is granted there is nothing to do anything to, and the start is what is denied.
#[test]
fn without_a_command_every_act_fails_and_the_start_is_denied() {
    let place = Place::new();
    place.work_policy("");
    let steps = [start("p", "sleep 1"), write("p", "x", false), read("p"), wait("p"), signal("p", "kill")];
    let object = Task::runbook(&steps).run(&place).object();
    let actions = warden_tests::manifest::actions(&object);
    denied(&actions[0], "default-deny");
    for action in &actions[1..] {
        failed(action, "not-found");
    }
    assert_eq!(object["denials"].as_array().map(Vec::len), Some(1), "{object}");
}

/// Each act is denied by a rule of its own, and the others are not; through actions and through imports.
#[test]
fn each_act_is_denied_alone() {
    for (at, capability) in ON_PROCESSES.iter().enumerate() {
        let place = place(&format!("[approval]\nask = [\"{capability}\"]\nvia = \"deny\"\n"));
        let steps = [start("p", "echo up; cat"), write("p", "x\n", false), read("p"), signal("p", "kill"), wait("p")];
        let names = ["proc.start", "proc.write_stdin", "proc.read", "proc.signal", "proc.wait"];
        for (action, name) in Task::runbook(&steps).actions(&place).iter().zip(names) {
            if name == *capability {
                denied(action, "user:approval.ask[0]");
            } else {
                succeeded(action);
            }
        }
        let results = probe(
            &place,
            json!([
                {"op": "proc.spawn", "command": "sh", "argv": ["-c", "echo up; cat"], "stdin": "pipe", "as": "p"},
                {"op": "proc.write_stdin", "process": "p", "text": "x\n"},
                {"op": "proc.read_stdout", "process": "p", "max_bytes": 10},
                {"op": "proc.wait", "process": "p", "timeout_ms": 1},
                {"op": "proc.signal", "process": "p", "signal": "kill"},
            ]),
        );
        error(&results[at + 1], "denied");
        let record = log::of(&place, capability).pop().expect("its record");
        assert_eq!(
            (&record["decision"], &record["rule"]),
            (&json!("deny"), &json!("user:approval.ask[0]")),
            "{record}"
        );
    }
}

/// T-06: a start takes its tree's share of the task's processes, is refused by the limit's rule when none is left, and the end
/// of another gives it back. Half of what is left, so that one start leaves something for the next.
#[test]
fn starts_are_bounded_and_an_end_gives_the_places_back() {
    let place = place("[limits]\nprocesses = 1\n");
    let actions = Task::runbook(&[
        start("one", "exec sleep 100"),
        start("two", "exec sleep 100"),
        sh("echo no"),
        signal("one", "kill"),
        wait("one"),
        start("three", "exit 3"),
        wait("three"),
    ])
    .actions(&place);
    succeeded(&actions[0]);
    for action in &actions[1..3] {
        assert_eq!(failed(action, "limit")["rule"], "user:limits.processes", "{action}");
    }
    succeeded(&actions[5]);
    assert_eq!(succeeded(&actions[6])["status"], 3);
    // With four, three starts have one place at least each: 2, 1 and 1; a fourth has none.
    let place = self::place("[limits]\nprocesses = 4\n");
    let steps: Vec<_> = ["a", "b", "c", "d"].map(|name| start(name, "exec sleep 100")).to_vec();
    let actions = Task::runbook(&steps).actions(&place);
    for action in &actions[..3] {
        succeeded(action);
    }
    assert_eq!(failed(&actions[3], "limit")["rule"], "user:limits.processes");
}

/// T-06: what is written waits in the pipe, which is bounded: no more is taken than fits, and the task goes on.
#[test]
fn what_is_written_is_bounded_by_what_the_process_takes() {
    let place = place("");
    let much = "x".repeat(50_000);
    let steps = [
        start("deaf", "exec sleep 100"),
        write("deaf", &much, false),
        write("deaf", &much, false),
        write("deaf", &much, false),
    ];
    let ran = Task::runbook(&steps).run(&place);
    let actions = warden_tests::manifest::actions(&ran.object());
    let taken: u64 = actions[1..].iter().map(|action| action["output"]["bytes"].as_u64().unwrap_or(0)).sum();
    // The pipe holds 64 KiB and the helper as much for it.
    assert!((65_536..=131_072).contains(&taken), "{actions:?}");
    failed(&actions[3], "timeout");
    assert!(ran.took < Duration::from_secs(20), "a full pipe holds nobody up: {:?}", ran.took);
    // The control: one that reads takes it all.
    let steps = [
        start("reads", "exec cat >/dev/null"),
        write("reads", &much, false),
        write("reads", &much, true),
        wait("reads"),
    ];
    let actions = Task::runbook(&steps).actions(&place);
    for action in &actions[1..3] {
        assert_eq!(succeeded(action)["bytes"], 50_000);
    }
    assert_eq!(succeeded(&actions[3])["status"], 0);
}

/// T-06: a reader gets what it asked for and no more, and the rest waits for it.
#[test]
fn what_is_read_is_bounded_by_what_was_asked_for() {
    let place = place("");
    let reads = |bytes: u64| ("proc.read", json!({"process": "p", "stream": "stdout", "max_bytes": bytes}));
    let steps = [start("p", "printf 0123456789; exec sleep 100"), reads(4), reads(4), reads(100)];
    let actions = Task::runbook(&steps).actions(&place);
    let got: Vec<&str> = actions[1..].iter().map(|action| succeeded(action)["data"].as_str().unwrap()).collect();
    assert_eq!(got, ["0123", "4567", "89"]);
    let results = probe(
        &place,
        json!([
            {"op": "proc.spawn", "command": "sh", "argv": ["-c", "head -c 1000000 /dev/zero"], "as": "p"},
            {"op": "proc.read_stdout", "process": "p", "max_bytes": 4_000_000_000_u32},
        ]),
    );
    let length = ok(&results[1])["len"].as_u64().expect("a length");
    assert!(length > 0 && length <= 64 * 1024, "one frame at most: {length}");
}

/// T-06: a wait ends at its own time, and without one at the task's.
#[test]
fn a_wait_is_bounded_by_its_own_time_and_by_the_tasks() {
    let place = place("[limits]\nwall = \"3s\"\n");
    let began = Instant::now();
    let steps = [
        start("p", "exec sleep 100"),
        ("proc.wait", json!({"process": "p", "timeout_ms": 100})),
        wait("p"),
        sh("echo late"),
    ];
    let object = Task::runbook(&steps).run(&place).outcome("budget_exhausted");
    assert!((2..8).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    let actions = warden_tests::manifest::actions(&object);
    failed(&actions[1], "timeout");
    let late = log::of(&place, "proc.spawn");
    assert!(late.iter().all(|record| record["phase"] != "begin"), "after the time was up: {late:?} {:?}", actions[2]);
}
