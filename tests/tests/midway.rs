//! A helper killed in the middle of an act, at a known point of it: what was done is done, what was not is not, the guest is
//! told that nobody knows, the record has its end, and the broker goes on.
//!
//! Beside `files/killed.rs` and `proc/killed.rs`, where the helper is stopped before the act has begun.

use serde_json::{Value, json};
use std::time::{Duration, Instant};
use warden_tests::manifest::{self, failed, succeeded};
use warden_tests::{Held, Place, Running, Task, gate, is_root, log, processes, skipped};

/// A death is told within this.
const TOLD_WITHIN: Duration = Duration::from_secs(2);
/// What a guest is told of an act whose helper is gone.
const UNKNOWN: &str = "whether the call took effect is not known";

/// Records of an act that say how it ended.
fn ends(place: &Place, capability: &str) -> Vec<Value> {
    log::of(place, capability).into_iter().filter(|record| record["phase"] != "begin").collect()
}

/// Waits for the record that says how the act ended, which says the same as the answer, soon after the death.
#[track_caller]
fn told(place: &Place, capability: &str, before: usize, death: Instant) {
    let all = processes::wait("the record's end", || {
        let all = ends(place, capability);
        (all.len() > before).then_some(all)
    });
    assert!(death.elapsed() < TOLD_WITHIN, "{capability}: {:?}", death.elapsed());
    let result = &all[before]["result"];
    assert_eq!(result["error"], "unavailable", "{capability}: {result}");
    assert!(result["message"].as_str().is_some_and(|text| text.contains(UNKNOWN)), "{capability}: {result}");
}

fn unknown(action: &Value, helper: &str) {
    let message = failed(action, "unavailable")["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains(helper) && message.contains(UNKNOWN), "{message}");
}

/// A task at its gate whose next act will be `act`, then `after`; `role` runs already.
fn at_gate(
    place: &Place,
    warm: (&'static str, Value),
    act: (&'static str, Value),
    after: (&'static str, Value),
) -> Running {
    let running = Task::runbook(&[warm, gate::step(1), act, after]).start(place);
    gate::reached(place, 1);
    running
}

/// Kills cap-fs in the middle of `act`, just before its `count`-th call `number`; `look` sees what is done by then.
#[track_caller]
fn files(act: (&'static str, Value), (number, count): (i64, usize), prepare: impl Fn(&Place), look: impl Fn(&Place)) {
    let place = Place::new();
    place.work_policy(gate::COMMAND);
    prepare(&place);
    let stat = ("fs.metadata", json!({"path": "work:"}));
    let running = at_gate(&place, stat, act.clone(), ("fs.list_dir", json!({"path": "work:"})));
    let mut held = Held::take(&running.family().role("cap-fs").expect("cap-fs runs"));
    let before = ends(&place, act.0).len();
    place.put("work/gate-1", "");
    held.until(number, count);
    look(&place);
    let death = Instant::now();
    held.kill();
    told(&place, act.0, before, death);
    let actions = manifest::actions(&running.end().outcome("unverified"));
    unknown(&actions[2], "cap-fs");
    succeeded(&actions[3]);
    // What was done before stays, and nothing was done after.
    look(&place);
    log::verify_complete(&place);
}

/// Whether tests like these can run here.
fn can() -> bool {
    if !is_root() {
        skipped("a process of the task can be traced by root only");
    }
    is_root()
}

#[test]
fn a_removal_of_many_files_is_left_where_it_was() {
    if !can() {
        return;
    }
    const FILES: usize = 600;
    const DONE: usize = 200;
    let count = |place: &Place| std::fs::read_dir(place.path("work/many")).map(Iterator::count).unwrap_or_default();
    files(
        ("fs.remove_dir", json!({"path": "work:many", "recursive": true})),
        (libc::SYS_unlinkat, DONE + 1),
        |place| (0..FILES).for_each(|n| drop(place.put(&format!("work/many/f{n}"), "x"))),
        |place| assert_eq!(count(place), FILES - DONE, "half of it is gone and half is there"),
    );
}

#[test]
fn a_large_write_is_left_where_it_was() {
    if !can() {
        return;
    }
    let contents = "n".repeat(150_000);
    files(
        ("fs.write_file", json!({"path": "work:big", "contents": contents})),
        (libc::SYS_pwrite64, 1),
        |place| drop(place.put("work/big", "o".repeat(300_000))),
        |place| assert_eq!(place.read("work/big"), "", "the old content has gone and the new has not come"),
    );
}

/// The helper has acted and is about to say so: done, and nobody was told.
#[test]
fn what_was_done_and_not_told_is_not_known() {
    if !can() {
        return;
    }
    let none = |_: &Place| {};
    let prepare = |place: &Place| {
        place.put("work/a.txt", "hello");
        place.put("work/old/file", "x");
    };
    let answer = (libc::SYS_sendmsg, 1);
    files(("fs.ensure_dir", json!({"path": "work:made"})), answer, none, |place| {
        assert!(place.path("work/made").is_dir());
    });
    files(("fs.rename", json!({"path": "work:a.txt", "to": "work:b.txt"})), answer, prepare, |place| {
        assert!(!place.path("work/a.txt").exists() && place.read("work/b.txt") == "hello");
    });
    files(("fs.remove_file", json!({"path": "work:a.txt"})), answer, prepare, |place| {
        assert!(!place.path("work/a.txt").exists());
    });
    files(("fs.write_file", json!({"path": "work:new", "contents": "all"})), answer, prepare, |place| {
        assert_eq!(place.read("work/new"), "all");
    });
}

/// The helper is on its way to the answer of an act that has no other effect.
#[test]
fn an_answer_that_was_under_way_is_not_known() {
    if !can() {
        return;
    }
    let prepare = |place: &Place| drop(place.put("work/a.txt", "hello"));
    let none = |_: &Place| {};
    files(("fs.read_file", json!({"path": "work:a.txt"})), (libc::SYS_pread64, 1), prepare, none);
    files(("fs.list_dir", json!({"path": "work:"})), (libc::SYS_getdents64, 1), prepare, none);
    files(("fs.metadata", json!({"path": "work:a.txt"})), (libc::SYS_sendmsg, 1), prepare, none);
}

/// cap-proc's front in the middle of a command that runs: the command is gone with it, what it did by then stays.
#[test]
fn a_running_command_ends_with_its_helper_and_is_not_known() {
    if !can() {
        return;
    }
    let place = Place::new();
    place.work_policy(gate::COMMAND);
    let mark = format!("sleep 7{}", std::process::id());
    let act =
        ("proc.spawn", json!({"command": "gate", "args": ["-c", format!("echo half > half; {mark}; echo all > all")]}));
    let echo = ("proc.spawn", json!({"command": "gate", "args": ["-c", "echo again"]}));
    let running = Task::runbook(&[act, echo]).start(&place);
    processes::wait("half of it", || place.path("work/half").exists().then_some(()));
    let command = processes::wait("the command", || running.family().named(&mark).first().cloned());
    let death = Instant::now();
    running.family().role("cap-proc").expect("cap-proc runs").kill();
    told(&place, "proc.spawn", 0, death);
    processes::wait("the command's end", || (!command.lives()).then_some(()));
    assert!(death.elapsed() < TOLD_WITHIN, "T-12: {:?}", death.elapsed());
    let actions = manifest::actions(&running.end().outcome("unverified"));
    unknown(&actions[0], "cap-proc");
    assert_eq!(succeeded(&actions[1])["stdout"], "again\n");
    assert!(place.read("work/half") == "half\n" && !place.path("work/all").exists());
    log::verify_complete(&place);
}

/// Each act on a process, with the front about to answer it: done, and nobody was told.
#[test]
fn acts_on_a_process_that_were_done_and_not_told_are_not_known() {
    if !can() {
        return;
    }
    for (capability, input) in [
        ("proc.start", json!({"command": "gate", "args": ["-c", "sleep 100"], "alias": "q"})),
        ("proc.write_stdin", json!({"process": "p", "data": "x"})),
        ("proc.read", json!({"process": "p", "stream": "stdout"})),
        ("proc.signal", json!({"process": "p", "signal": "term"})),
        ("proc.wait", json!({"process": "p", "timeout_ms": 1})),
    ] {
        let place = Place::new();
        place.work_policy(gate::COMMAND);
        let start = ("proc.start", json!({"command": "gate", "args": ["-c", "echo up; cat > got"], "alias": "p"}));
        let again = ("proc.spawn", json!({"command": "gate", "args": ["-c", "echo again"]}));
        let stands = (
            "proc.spawn",
            json!({"command": "gate", "args": ["-c", "echo > stands; until [ -e door ]; do sleep 0.02; done"]}),
        );
        let running = Task::runbook(&[start, stands, (capability, input), again]).start(&place);
        processes::wait("the command at its door", || place.path("work/stands").exists().then_some(()));
        let mut held = Held::take(&running.family().role("cap-proc").expect("cap-proc runs"));
        let before = ends(&place, capability).len();
        std::fs::write(place.path("work/door"), "").expect("the door opens");
        // Its answer about that command is the first thing that it sends, and the second belongs to the act.
        held.until(libc::SYS_sendmsg, 2);
        let death = Instant::now();
        held.kill();
        told(&place, capability, before, death);
        let actions = manifest::actions(&running.end().outcome("unverified"));
        succeeded(&actions[1]);
        unknown(&actions[2], "cap-proc");
        assert_eq!(succeeded(&actions[3])["stdout"], "again\n", "{capability}");
        log::verify_complete(&place);
    }
}

/// The model's helper about to answer: the call is lost and spent, and line n still answers call n.
#[test]
fn an_answer_of_the_model_that_was_under_way_is_not_known() {
    if !can() {
        return;
    }
    let lines =
        (1..=4).map(|n| json!({"content": format!("[\"line {n}\"]")}).to_string()).collect::<Vec<_>>().join("\n");
    for capability in ["llm.complete", "llm.call_tools"] {
        let place = Place::new();
        place.work_policy(&format!("{}[llm]\nprovider = \"replay\"\nfile = \"run.jsonl\"\n", gate::COMMAND));
        place.write("run.jsonl", &lines);
        let messages = json!([["user", "hi"]]);
        let wait = json!({"command": "gate", "args": ["-c", "until [ -e gate-1 ]; do sleep 0.02; done"]});
        let script = json!([
            {"op": "llm.complete", "messages": messages},
            {"op": "plan", "actions": [{"capability": "proc.spawn", "input": wait}]},
            {"op": capability, "messages": messages},
            {"op": capability, "messages": messages},
        ]);
        let running = Task::script(&script).start(&place);
        gate::reached(&place, 1);
        let mut held = Held::take(&running.family().role("cap-llm").expect("cap-llm runs"));
        let before = ends(&place, capability).len();
        place.put("work/gate-1", "");
        held.until(libc::SYS_sendmsg, 1);
        let death = Instant::now();
        held.kill();
        told(&place, capability, before, death);
        let results = manifest::results(&running.end());
        let error = manifest::error(&results[2], "unavailable");
        assert!(error["message"].as_str().is_some_and(|text| text.contains(UNKNOWN)), "{error}");
        assert!(manifest::ok(&results[3]).to_string().contains("line 3"), "{}", results[3]);
        log::verify_complete(&place);
    }
}
