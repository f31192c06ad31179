//! What a person sees while a task runs: a line a step on a terminal, and nothing where nobody watches.

use nix::pty::{OpenptyResult, openpty};
use serde_json::{Value, json};
use std::fs::File;
use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};
use warden_tests::{Place, Task};

const ESCAPE: &str = "\u{1b}[2J";

fn place() -> Place {
    let place = Place::new();
    place.work_policy("[llm]\nprovider = \"replay\"\nfile = \"run.jsonl\"\n");
    place.put("work/there", "x");
    let acts = json!([
        {"capability": "fs.list_dir", "input": {"path": "work:"}},
        {"capability": "fs.read_file", "input": {"path": format!("work:../{ESCAPE}out")}},
        {"capability": "fs.read_file", "input": {"path": "work:none"}},
    ]);
    let turn = |value: Value| json!({"content": value.to_string()}).to_string();
    let lines = [
        turn(json!({"status": "continue", "thought": format!("I look{ESCAPE}.\nstep 99"), "actions": acts})),
        turn(json!({"status": "complete", "reason": format!("all{ESCAPE} done"), "result": 1})),
    ];
    place.write("run.jsonl", &lines.join("\n"));
    let task = json!({"kind": "goal", "policy": "warden.toml", "goal": "Look.", "success": [{"file": "work:there", "exists": true}]});
    place.write("task.json", &task.to_string());
    place
}

/// Runs `warden` with standard error on a terminal; what the terminal got, and standard output.
fn watched(place: &Place, args: &[&str]) -> (String, String) {
    let OpenptyResult { master, slave } = openpty(None, None).expect("a terminal");
    let mut command = place.command(args);
    command.stderr(Stdio::from(slave));
    let child = command.spawn().expect("warden starts");
    // Ours of the other end goes with the command, so that reading ends with warden.
    drop(command);
    let reader = std::thread::spawn(move || {
        let (mut seen, mut terminal) = (Vec::new(), File::from(master));
        // A terminal whose last user has gone answers with an error.
        let _ = terminal.read_to_end(&mut seen);
        String::from_utf8_lossy(&seen).replace("\r\n", "\n")
    });
    let output = child.wait_with_output().expect("warden ends");
    (reader.join().expect("the reader"), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn a_terminal_gets_a_line_for_each_step_and_act_and_verdict() {
    let place = place();
    let (seen, out) = watched(&place, &["task", "run", "task.json"]);
    for line in ["step 1", "step 2", "  ✓ fs.list_dir work:", "  ✓ file work:there exists"] {
        assert!(seen.lines().any(|found| found == line), "no line {line:?} in\n{seen}");
    }
    let denied = seen.lines().find(|line| line.contains("✗ fs.read_file work:../")).expect("the denial");
    assert!(denied.ends_with(']') && denied.contains("denied"), "with its rule: {denied}");
    assert!(seen.lines().any(|line| line.contains("✗ fs.read_file work:none: not-found")), "{seen}");
    assert!(seen.contains("  · I look") && seen.contains("says it is done: all"), "{seen}");
    // T-14: what a model says is one line and steers nothing.
    assert!(!seen.contains('\u{1b}') && !seen.lines().any(|line| line == "step 99"), "{seen:?}");
    assert!(out.starts_with("done"), "{out}");
}

#[test]
fn nobody_gets_lines_who_does_not_watch() {
    let place = place();
    let ran = place.run(&["task", "run", "task.json"]);
    assert!(!ran.err.contains("step 1") && !ran.err.contains('✓'), "{}", ran.err);
    let (seen, out) = watched(&place, &["--json", "task", "run", "task.json"]);
    assert_eq!(seen, "", "one object is all, whoever watches");
    assert!(out.starts_with('{'), "{out}");
}

/// The lines come while the task runs, and not at its end.
#[test]
fn lines_come_as_the_steps_do() {
    let place = Place::new();
    place.work_policy(warden_tests::gate::COMMAND);
    let steps = [("fs.list_dir", json!({"path": "work:"})), warden_tests::gate::step(1)];
    let steps: Vec<Value> = steps.iter().map(|(c, input)| json!({"capability": c, "input": input})).collect();
    place.write("task.json", &json!({"kind": "runbook", "policy": "warden.toml", "step": steps}).to_string());
    let OpenptyResult { master, slave } = openpty(None, None).expect("a terminal");
    let mut command = place.command(&["task", "run", "task.json"]);
    command.stderr(Stdio::from(slave)).stdout(Stdio::null());
    let mut child = command.spawn().expect("warden starts");
    drop(command);
    warden_tests::gate::reached(&place, 1);
    let (mut terminal, mut seen, until) = (File::from(master), String::new(), Instant::now() + Duration::from_secs(10));
    while !seen.contains("✓ fs.list_dir") && Instant::now() < until {
        let mut some = [0; 4096];
        let count = terminal.read(&mut some).expect("the terminal");
        seen.push_str(&String::from_utf8_lossy(&some[..count]));
    }
    assert!(child.try_wait().expect("its state").is_none(), "the task still stands at its gate");
    assert!(seen.contains("✓ fs.list_dir"), "{seen}");
    place.put("work/gate-1", "");
    assert!(child.wait().is_ok());
}

/// T-15: predicates have a time of their own, and what did not answer in it does not hold.
#[test]
fn a_predicate_that_never_answers_is_not_met_after_its_ten_seconds() {
    let place = Place::new();
    let command = "[[proc.command]]\nname = \"sleep\"\npath = \"/usr/bin/sleep\"\nargs = [[\"*\"]]\ncwd = \"work\"\n";
    place.work_policy(command);
    place.put("work/there", "x");
    let list = [("fs.list_dir", json!({"path": "work:"}))];
    let task = Task::runbook(&list).success(json!({"command": "sleep", "args": ["100"]}));
    let ran = task.success(json!({"file": "work:there", "exists": true})).run(&place);
    let object = ran.outcome("failed");
    let took = ran.took.as_secs();
    assert!((10..16).contains(&took), "{:?}", ran.took);
    assert_eq!(object["predicates"][0]["met"], false, "{object}");
    let detail = object["predicates"][0]["detail"].as_str().unwrap();
    assert!(detail.contains("10000 ms"), "{detail}");
    // The control: the same command that answers in time.
    let task = Task::runbook(&list).success(json!({"command": "sleep", "args": ["0"]}));
    let ran = task.run(&place);
    ran.outcome("done");
    assert!(ran.took < Duration::from_secs(9), "{:?}", ran.took);
}
