//! Every action and import: done, and denied by its rule.

use crate::{place, printed, read, sh, signal, start, wait, write};
use serde_json::{Value, json};
use warden_tests::manifest::{self, denied, error, failed, ok, succeeded};
use warden_tests::{Task, log, probe};

#[test]
fn spawn_runs_a_command_to_its_end() {
    let place = place("");
    place.folder_of_task("work/sub", 0o755);
    let actions = Task::runbook(&[
        sh("echo out; echo err >&2; exit 3"),
        ("proc.spawn", json!({"command": "cat", "args": [], "stdin": "through"})),
        (
            "proc.spawn",
            json!({"command": "sh", "args": ["-c", "echo $FIXED, $GIVEN; pwd"], "cwd": "work:sub",
                "env": [{"key": "GIVEN", "value": "of the guest"}]}),
        ),
        ("proc.spawn", json!({"command": "fixed", "args": ["two", "things"]})),
        sh("kill -9 $$"),
    ])
    .actions(&place);
    let first = succeeded(&actions[0]);
    assert_eq!((&first["status"], &first["stdout"], &first["stderr"]), (&json!(3), &json!("out\n"), &json!("err\n")));
    assert_eq!((&first["timed_out"], &first["truncated"]), (&json!(false), &json!(false)));
    assert_eq!(succeeded(&actions[1])["stdout"], "through");
    let third = succeeded(&actions[2])["stdout"].as_str().unwrap();
    assert!(third.starts_with("of the policy, of the guest\n") && third.trim_end().ends_with("/sub"), "{third}");
    assert_eq!(succeeded(&actions[3])["stdout"], "two things\n");
    assert_eq!((&actions[4]["output"]["status"], &actions[4]["output"]["signal"]), (&Value::Null, &json!(9)));
    log::verify_complete(&place);
}

#[test]
fn a_started_process_is_written_to_read_waited_for_and_signalled() {
    let place = place("");
    let actions = Task::runbook(&[
        start("talk", "while read line; do echo \"got $line\"; done; exit 4"),
        write("talk", "hello\n", false),
        read("talk"),
        write("talk", "bye\n", true),
        wait("talk"),
        read("talk"),
        start("long", "sleep 100"),
        ("proc.wait", json!({"process": "long", "timeout_ms": 50})),
        signal("long", "term"),
        wait("long"),
        start("stubborn", "trap '' TERM INT HUP; echo ready; sleep 100"),
        read("stubborn"),
        signal("stubborn", "interrupt"),
        signal("stubborn", "hangup"),
        ("proc.wait", json!({"process": "stubborn", "timeout_ms": 50})),
        signal("stubborn", "kill"),
        wait("stubborn"),
    ])
    .actions(&place);
    let begun = succeeded(&actions[0]);
    assert_eq!((&begun["command"], &begun["args"][0], &begun["process"]), (&json!("sh"), &json!("-c"), &json!("talk")));
    assert_eq!(succeeded(&actions[1])["bytes"], 6);
    assert!(actions[2]["output"].get("command").is_none(), "{}", actions[2]);
    assert_eq!(succeeded(&actions[2])["data"], "got hello\n");
    succeeded(&actions[3]);
    assert_eq!(succeeded(&actions[4])["status"], 4);
    assert_eq!(succeeded(&actions[5])["data"], "got bye\n");
    failed(&actions[7], "timeout");
    succeeded(&actions[8]);
    assert_eq!(succeeded(&actions[9])["signal"], 15);
    assert_eq!(succeeded(&actions[11])["data"], "ready\n");
    succeeded(&actions[12]);
    succeeded(&actions[13]);
    failed(&actions[14], "timeout");
    succeeded(&actions[15]);
    assert_eq!(succeeded(&actions[16])["signal"], 9);
    log::verify_complete(&place);
}

#[test]
fn starting_is_denied_by_its_rule() {
    let place = place("");
    let cases = [
        (json!({"command": "curl", "args": ["http://x"]}), "default-deny"),
        (json!({"command": "/bin/sh", "args": ["-c", "id"]}), "default-deny"),
        (json!({"command": "sh", "args": ["-i"]}), "user:proc.command.sh.args"),
        (json!({"command": "sh", "args": ["-c", "id", "more"]}), "user:proc.command.sh.args"),
        (json!({"command": "cat", "args": ["/etc/passwd"]}), "user:proc.command.cat.args"),
        (json!({"command": "fixed", "args": ["one", "two"]}), "user:proc.command.fixed.args"),
        (
            json!({"command": "sh", "args": ["-c", "id"], "env": [{"key": "LD_PRELOAD", "value": "/x"}]}),
            "user:proc.command.sh.env_from_guest",
        ),
        (json!({"command": "sh", "args": ["-c", "id"], "cwd": "other:"}), "user:proc.command.sh.cwd"),
        (json!({"command": "sh", "args": ["-c", "id"], "cwd": "work:../other"}), ""),
    ];
    for capability in ["proc.spawn", "proc.start"] {
        let steps: Vec<_> = cases
            .iter()
            .map(|(input, _)| {
                let mut input = input.clone();
                if capability == "proc.start" {
                    input["alias"] = json!("a");
                }
                (capability, input)
            })
            .collect();
        let object = Task::runbook(&steps).run(&place).object();
        for (action, (input, rule)) in manifest::actions(&object).iter().zip(&cases) {
            eprintln!("{capability} {input}");
            denied(action, rule);
        }
        assert_eq!(object["denials"].as_array().map(Vec::len), Some(cases.len()), "{object}");
    }
    // The control.
    assert_eq!(printed(&place, "echo fine"), "fine\n");
}

/// A right that needs a person's word is no right where nobody can be asked; each act has its own.
#[test]
fn what_is_done_to_a_process_is_denied_by_its_rule() {
    let place = place(
        "[approval]\nask = [\"proc.write_stdin\", \"proc.read\", \"proc.wait\", \"proc.signal\"]\nvia = \"deny\"\n",
    );
    let steps =
        [start("p", "sleep 1"), write("p", "x", true), read("p"), wait("p"), signal("p", "kill"), sh("echo fine")];
    let actions = Task::runbook(&steps).actions(&place);
    succeeded(&actions[0]);
    for (at, action) in actions.iter().enumerate().take(5).skip(1) {
        denied(action, &format!("approval.ask[{}]", at - 1));
    }
    assert_eq!(succeeded(&actions[5])["stdout"], "fine\n");
}

#[test]
fn names_of_processes_are_the_tasks_own_and_say_when_they_are_wrong() {
    let place = place("");
    let actions = Task::runbook(&[
        start("one", "exec sleep 100"),
        start("one", "exit 0"),
        ("proc.spawn", json!({"command": "fixed", "args": ["one"]})),
        wait("none"),
        read("none"),
        write("none", "x", false),
        signal("none", "kill"),
        signal("one", "kill"),
        wait("one"),
        signal("one", "kill"),
        signal("one", "stop"),
        start("9bad", "exit 0"),
        start("one", "exit 0"),
    ])
    .actions(&place);
    succeeded(&actions[0]);
    failed(&actions[1], "conflict");
    succeeded(&actions[2]);
    for action in &actions[3..7] {
        failed(action, "not-found");
    }
    succeeded(&actions[7]);
    assert_eq!(succeeded(&actions[8])["signal"], 9);
    failed(&actions[9], "not-found");
    failed(&actions[10], "invalid-argument");
    failed(&actions[11], "invalid-argument");
    // A name is a process's for the whole task, so that an answer can never be about another.
    failed(&actions[12], "conflict");
}

#[test]
fn imports_stream_both_ways() {
    let place = place("");
    let script = json!([
        {"op": "proc.spawn", "command": "sh", "argv": ["-c", "while read l; do echo \"got $l\"; echo \"err $l\" >&2; done; exit 7"],
            "stdin": "pipe", "as": "p"},
        {"op": "proc.write_stdin", "process": "p", "text": "one\n"},
        {"op": "proc.read_stdout", "process": "p", "max_bytes": 100},
        {"op": "proc.read_stderr", "process": "p", "max_bytes": 100},
        {"op": "proc.write_stdin", "process": "p", "text": "two\n", "eof": true},
        {"op": "proc.drain", "process": "p", "stream": "stdout"},
        {"op": "proc.drain", "process": "p", "stream": "stderr"},
        {"op": "proc.wait", "process": "p"},
        {"op": "proc.close", "process": "p"},
        {"op": "proc.wait", "process": "p"},
        {"op": "proc.spawn", "command": "sh", "argv": ["-c", "head -c 3000000 /dev/zero"], "as": "big"},
        {"op": "proc.drain", "process": "big", "stream": "stdout", "max_bytes": 4_000_000, "discard": true},
        {"op": "proc.wait", "process": "big"},
        {"op": "proc.spawn", "command": "sh", "argv": ["-c", "sleep 100"], "as": "long"},
        {"op": "proc.wait", "process": "long", "timeout_ms": 50},
        {"op": "proc.signal", "process": "long", "signal": "term"},
        {"op": "proc.wait", "process": "long"},
        {"op": "proc.spawn", "command": "nothing", "as": "x"},
        {"op": "proc.spawn", "command": "sh", "argv": ["-i"], "as": "x"},
    ]);
    let results = probe(&place, script);
    ok(&results[0]);
    assert_eq!(ok(&results[1]), &json!(4));
    let text = |at: usize| ok(&results[at]).to_string();
    assert!(text(2).contains("got one"), "{}", text(2));
    assert!(text(3).contains("err one"), "{}", text(3));
    assert!(text(5).contains("got two") && text(6).contains("err two"), "{} {}", text(5), text(6));
    assert_eq!(ok(&results[7])["code"], 7, "{}", results[7]);
    ok(&results[8]);
    error(&results[9], "not-found");
    assert!(text(11).contains("3000000"), "{}", text(11));
    error(&results[14], "timeout");
    assert!(text(16).contains("term"), "{}", text(16));
    error(&results[17], "denied");
    error(&results[18], "denied");
    log::verify_complete(&place);
}
