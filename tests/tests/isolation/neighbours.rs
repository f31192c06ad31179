//! What others can see: processes of the same user, and tasks beside each other.

use crate::{REPLAY, finish, standing};
use serde_json::{Value, json};
use std::fs;
use warden_tests::manifest::{self, ok, results};
use warden_tests::{NOBODY, Place, Task, gate, is_root, log, processes, skipped};

/// T-08, T-13: another process of the same user learns nothing from /proc.
#[test]
fn a_neighbour_of_the_same_user_cannot_look_in() {
    if !is_root() {
        return skipped("the neighbour is started as the task's user, which takes root");
    }
    let (place, running) = standing();
    let family = running.family();
    use std::os::unix::process::CommandExt;
    let neighbour = |script: &str| {
        let mut command = std::process::Command::new("/bin/sh");
        let output = command.args(["-c", script]).uid(NOBODY).gid(NOBODY).env_clear().output().expect("sh runs");
        output.status.success()
    };
    for role in ["spawner", "template", "worker", "cap-fs", "cap-llm", "cap-proc", "cap-proc-runner"] {
        let pid = family.role(role).unwrap_or_else(|| panic!("no {role}")).pid;
        for name in ["mem", "environ", "maps", "fd/3", "cwd", "exe"] {
            let script =
                format!("ls -l /proc/{pid}/{name} >/dev/null 2>&1 && head -c 1 /proc/{pid}/{name} >/dev/null 2>&1");
            assert!(!neighbour(&script), "{role}: {name}");
        }
        assert!(neighbour(&format!("test -d /proc/{pid}")), "the probe sees that it is there");
    }
    let broker = running.pid();
    assert!(
        !neighbour(&format!("head -c 1 /proc/{broker}/mem"))
            && !neighbour(&format!("head -c 1 /proc/{broker}/environ"))
    );
    // The control: a neighbour can look at its own.
    assert!(neighbour("head -c 1 /proc/self/environ >/dev/null; head -c 1 /proc/self/maps >/dev/null"));
    finish(&place, running);
}

/// T-08: no variable of the caller's reaches any of them.
#[test]
fn no_environment_is_handed_on() {
    if !is_root() {
        return skipped("only root can read the environment of processes that are not dumpable");
    }
    let place = Place::new();
    place.work_policy(gate::COMMAND);
    let manifest = json!({"kind": "runbook", "policy": "warden.toml", "step": [
        {"capability": "fs.list_dir", "input": {"path": "work:"}},
        {"capability": gate::step(1).0, "input": gate::step(1).1},
    ]});
    let file = place.write("task.json", &manifest.to_string());
    let mut command = place.command(&["--json", "task", "run", file.to_str().unwrap()]);
    command.env("SECRET_OF_CALLER", "do-not-hand-on");
    let running = warden_tests::Running::of(command);
    gate::reached(&place, 1);
    let family = running.family();
    assert!(family.members.len() >= 6, "{family:?}");
    for member in family.members.iter().filter(|member| member.pid != running.pid()) {
        // The spawner is a fork of the broker and has its memory; what it executes gets nothing.
        if family.spawner().is_some_and(|spawner| spawner.pid == member.pid) {
            continue;
        }
        let environment = fs::read(format!("/proc/{}/environ", member.pid)).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&environment).contains("do-not-hand-on"), "{}", member.line);
    }
    gate::open(&place, 1);
    running.end().outcome("unverified");
}

/// T-11: two tasks at once, each with its own; neither sees the other's files, handles, output or answers.
#[test]
fn two_tasks_at_once_never_meet() {
    let place = |word: &str| {
        let place = Place::new();
        place.work_policy(&format!("{}{REPLAY}", gate::COMMAND));
        place.put("work/own.txt", word);
        place.write("run.jsonl", &json!({"content": format!("model of {word}")}).to_string());
        place
    };
    let (one, two) = (place("ONE"), place("TWO"));
    let script = |beyond: &Place| {
        let out = beyond.path("work/own.txt").display().to_string();
        let wait = "cat own.txt; until [ -e gate-1 ]; do sleep 0.02; done; ls";
        json!([
            {"op": "fs.open_workspace", "as": "root"},
            {"op": "fs.open_file", "dir": "root", "path": "own.txt", "options": {"read": true}, "as": "own"},
            {"op": "proc.spawn", "command": "gate", "argv": ["-c", wait], "as": "p"},
            {"op": "proc.wait", "process": "p"},
            {"op": "proc.drain", "process": "p", "stream": "stdout"},
            {"op": "fs.read", "file": "own", "max_bytes": 100},
            {"op": "fs.open_file", "dir": "root", "path": out, "options": {"read": true}, "as": "theirs"},
            {"op": "llm.complete", "messages": [["user", "who"]]},
            {"op": "policy.describe"},
        ])
    };
    let first = Task::script(&script(&two)).start(&one);
    let second = Task::script(&script(&one)).start(&two);
    for place in [&one, &two] {
        processes::wait("both commands", || {
            log::of(place, "proc.start").iter().any(|record| record["phase"] == "end").then_some(())
        });
    }
    one.put("work/gate-1", "");
    two.put("work/gate-1", "");
    let (first, second) = (results(&first.end()), results(&second.end()));
    for (results, own, other) in [(&first, "ONE", "TWO"), (&second, "TWO", "ONE")] {
        let all = Value::Array(results.clone()).to_string();
        assert!(!all.contains(other), "{all}");
        assert!(ok(&results[4]).to_string().contains(own), "{}", results[4]);
        assert_eq!(ok(&results[5])["text"], own);
        manifest::error(&results[6], "denied");
        assert!(ok(&results[7])["content"].as_str().unwrap().contains(own));
    }
    log::verify_complete(&one);
    log::verify_complete(&two);
}
