//! Processes, output and time of commands (T-06).

use crate::{place, sh, signal, start, wait};
use serde_json::json;
use std::time::{Duration, Instant};
use warden_tests::Task;
use warden_tests::manifest::{failed, succeeded};

/// T-06
#[test]
fn processes_at_once_are_bounded_and_an_end_gives_a_place_back() {
    let place = place("[limits]\nprocesses = 2\n");
    let actions = Task::runbook(&[
        start("one", "exec sleep 100"),
        start("two", "exec sleep 100"),
        sh("echo third"),
        signal("one", "kill"),
        wait("one"),
        ("proc.spawn", json!({"command": "fixed", "args": ["one"]})),
    ])
    .actions(&place);
    succeeded(&actions[0]);
    let refused = actions[1..3].iter().filter(|action| action["success"] == false).collect::<Vec<_>>();
    assert!(!refused.is_empty(), "{actions:?}");
    for action in refused {
        let error = failed(action, "limit");
        assert!(error["rule"].as_str().is_some_and(|rule| rule.contains("limits.processes")), "{action}");
    }
    succeeded(&actions[4]);
    assert_eq!(succeeded(&actions[5])["stdout"], "one\n", "an ended process has given its place back");
    // A fork beyond the limit fails in the command itself, and the command lives on.
    let forks = "for i in 1 2 3 4 5 6; do sleep 0.4 & done 2>/dev/null; wait; echo over";
    let actions = Task::runbook(&[sh(forks)]).actions(&place);
    assert!(
        actions[0]["output"]["stderr"].as_str().is_some_and(|text| !text.is_empty())
            || actions[0]["output"]["status"] != 0
    );
}

/// T-06
#[test]
fn output_is_bounded_and_what_is_left_out_is_said() {
    let place = place("[limits]\noutput = \"10KiB\"\n");
    let actions =
        Task::runbook(&[sh("head -c 100000 /dev/zero | tr '\\0' x; echo end >&2"), sh("echo short")]).actions(&place);
    let cut = succeeded(&actions[0]);
    assert_eq!((&cut["truncated"], &cut["stderr"], &cut["status"]), (&json!(true), &json!("end\n"), &json!(0)));
    assert!(cut["stdout"].as_str().unwrap().len() <= 10 * 1024);
    assert_eq!(succeeded(&actions[1])["truncated"], false);
}

/// T-06
#[test]
fn time_of_a_command_is_bounded_by_guest_policy_and_task() {
    let place = place("");
    let began = Instant::now();
    let steps = [
        ("proc.spawn", json!({"command": "sh", "args": ["-c", "echo on; sleep 100"], "timeout_ms": 300})),
        sh("echo fine"),
    ];
    let actions = Task::runbook(&steps).actions(&place);
    let ended = &actions[0];
    assert!(ended["output"]["timed_out"] == true || ended["error"]["code"] == "timeout", "{ended}");
    assert_eq!(succeeded(&actions[1])["stdout"], "fine\n");
    assert!(began.elapsed() < Duration::from_secs(10));
    // The policy's bound holds whatever the guest asks for.
    let policy = place.read("warden.toml").replace("timeout = \"20s\"", "timeout = \"300ms\"");
    place.write("warden.toml", &policy);
    let began = Instant::now();
    let steps = [("proc.spawn", json!({"command": "sh", "args": ["-c", "sleep 100"], "timeout_ms": 60_000}))];
    let actions = Task::runbook(&steps).actions(&place);
    assert!(actions[0]["output"]["timed_out"] == true || actions[0]["error"]["code"] == "timeout", "{}", actions[0]);
    assert!(began.elapsed() < Duration::from_secs(10));
}

/// T-06: a tree that is over its memory is ended, and both who ran it and who waits for it hear of which limit.
#[test]
fn memory_of_a_whole_tree_is_bounded_and_the_limit_is_named() {
    let place = place("[limits]\nmemory = \"256MiB\"\nprocesses = 64\n");
    // Commands have four times as much: each of five has less, and together they have more.
    let tree = |count: u32| {
        let each = "head -c 250000000 /dev/zero | tail -c 250000000 | { sleep 4; wc -c >/dev/null; } &";
        format!("for i in $(seq {count}); do {each} done; wait; echo over")
    };
    let steps = [sh(&tree(5)), start("tree", &tree(5)), wait("tree"), sh(&tree(2))];
    let actions = Task::runbook(&steps).actions(&place);
    for at in [0, 2] {
        let error = failed(&actions[at], "limit");
        assert_eq!(error["rule"], "user:limits.memory", "{error}");
    }
    assert_eq!(succeeded(&actions[3])["stdout"], "over\n");
}
