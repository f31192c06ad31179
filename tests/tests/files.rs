//! `fs.*`: every action done, denied by its rule, stopped by its limit, and its helper killed under it; the same through
//! the imports, with handles that are closed, dropped or of another kind.

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;
use warden_tests::manifest::{self, denied, error, failed, ok, results, succeeded};
use warden_tests::{Family, Place, Task, gate, is_root, log, probe, skipped};

const RULES: &str = "deny = [\"secret\", \"**/.env\", \"secret/**\"]\ndeny_write = [\"locked/**\"]\n";

/// A workspace with something in it for every act, and a second one that is only for reading.
fn place(rest: &str) -> Place {
    let place = Place::new();
    place.folder_of_task("other", 0o755);
    let read_only = "[[fs.workspace]]\nlabel = \"other\"\npath = \"other\"\n";
    place.work_policy(&format!("{RULES}{read_only}{rest}"));
    for (name, text) in [
        ("work/a.txt", "hello"),
        ("work/old/file", "x"),
        ("work/gone.txt", "x"),
        ("work/secret/key", "TOPSECRET"),
        ("work/.env", "TOPSECRET"),
        ("work/locked/l.txt", "locked"),
        ("other/o.txt", "other"),
        ("other/sub/x", "x"),
    ] {
        place.put(name, text);
    }
    place
}

/// One act of every kind; each can be repeated only where that is said.
fn acts() -> Vec<(&'static str, Value)> {
    vec![
        ("fs.read_file", json!({"path": "work:a.txt"})),
        ("fs.write_file", json!({"path": "work:new.txt", "contents": "new"})),
        ("fs.list_dir", json!({"path": "work:"})),
        ("fs.metadata", json!({"path": "work:a.txt"})),
        ("fs.ensure_dir", json!({"path": "work:made"})),
        ("fs.rename", json!({"path": "work:new.txt", "to": "work:renamed.txt"})),
        ("fs.remove_file", json!({"path": "work:gone.txt"})),
        ("fs.remove_dir", json!({"path": "work:old", "recursive": true})),
    ]
}

#[test]
fn every_action_does_what_it_says() {
    let place = place("");
    let actions = Task::runbook(&acts()).actions(&place);
    let outputs: Vec<&Value> = actions.iter().map(succeeded).collect();
    assert_eq!((&outputs[0]["contents"], &outputs[0]["encoding"]), (&json!("hello"), &json!("utf-8")));
    assert_eq!(outputs[1]["bytes_written"], 3);
    let names: Vec<&str> =
        outputs[2]["entries"].as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"a.txt") && names.contains(&"new.txt"), "{names:?}");
    assert!(!names.contains(&".env") && !names.contains(&"secret"), "denied names are not told: {names:?}");
    assert_eq!((&outputs[3]["kind"], &outputs[3]["size_bytes"]), (&json!("file"), &json!(5)));
    assert!(place.path("work/made").is_dir());
    assert_eq!(place.read("work/renamed.txt"), "new");
    assert!(!place.path("work/gone.txt").exists() && !place.path("work/old").exists());
    log::verify_complete(&place);
    // T-09: what changes something has a record before and one after it; what only answers has one.
    let phases = |capability: &str| log::of(&place, capability).iter().map(|r| r["phase"].clone()).collect::<Vec<_>>();
    assert_eq!(phases("fs.write_file"), ["begin", "end"]);
    assert_eq!(phases("fs.remove_dir"), ["begin", "end"]);
    assert_eq!(phases("fs.read_file").len(), 1);
}

#[test]
fn the_options_of_reading_and_writing_hold() {
    let place = place("");
    let write = |more: Value| {
        let mut input = json!({"path": "work:deep/er/f.txt", "contents": "one"});
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ("fs.write_file", input)
    };
    let read = |input: Value| ("fs.read_file", input);
    let actions = Task::runbook(&[
        write(json!({})),
        write(json!({"parents": true})),
        write(json!({"contents": "+two", "append": true})),
        write(json!({"contents": "/wA=", "encoding": "base64", "path": "work:bytes"})),
        read(json!({"path": "work:deep/er/f.txt", "offset": 2, "max_bytes": 3})),
        read(json!({"path": "work:bytes"})),
        read(json!({"path": "work:a.txt", "encoding": "base64"})),
        read(json!({"path": "a.txt"})),
        read(json!({"path": "other:o.txt"})),
    ])
    .actions(&place);
    failed(&actions[0], "not-found");
    succeeded(&actions[1]);
    succeeded(&actions[2]);
    assert_eq!(place.read("work/deep/er/f.txt"), "one+two");
    succeeded(&actions[3]);
    assert_eq!(fs::read(place.path("work/bytes")).unwrap(), [255, 0]);
    let piece = succeeded(&actions[4]);
    assert_eq!((&piece["contents"], &piece["truncated"]), (&json!("e+t"), &json!(true)));
    let bytes = succeeded(&actions[5]);
    assert_eq!((&bytes["contents"], &bytes["encoding"]), (&json!("/wA="), &json!("base64")));
    // Without a label a path is of the first workspace.
    assert_eq!(succeeded(&actions[7])["contents"], "hello");
    assert_eq!(succeeded(&actions[8])["contents"], "other");
    succeeded(&actions[6]);
    // What was asked for as base64 is told to the brain so.
    let script = json!([
        {"op": "plan", "actions": [{"capability": "fs.read_file", "input": {"path": "work:a.txt", "encoding": "base64"}}]},
    ]);
    let seen = &ok(&probe(&place, script)[0])["data"]["actions"][0]["output"].clone();
    assert_eq!((&seen["contents"], &seen["encoding"]), (&json!("aGVsbG8="), &json!("base64")));
}

/// Every act beside its denial: the rule is named, nothing changed, and what was asked for is not told.
#[test]
fn every_action_is_denied_by_its_rule() {
    let place = place("");
    let deny = "user:fs.workspace.work.deny[";
    let deny_write = "user:fs.workspace.work.deny_write[0]";
    let read_only = "user:fs.workspace.other";
    let cases = [
        ("fs.read_file", json!({"path": "work:secret/key"}), deny),
        ("fs.read_file", json!({"path": "work:.env"}), "user:fs.workspace.work.deny[1]"),
        ("fs.write_file", json!({"path": "work:secret/key", "contents": "x"}), deny),
        ("fs.write_file", json!({"path": "work:locked/l.txt", "contents": "x"}), deny_write),
        ("fs.write_file", json!({"path": "other:o.txt", "contents": "x"}), read_only),
        ("fs.write_file", json!({"path": "work:sub/.env", "contents": "x", "parents": true}), "deny[1]"),
        (
            "fs.write_file",
            json!({"path": "work:.git/hooks/pre-commit", "contents": "x", "parents": true}),
            "deny_write.builtin",
        ),
        ("fs.list_dir", json!({"path": "work:secret"}), deny),
        ("fs.metadata", json!({"path": "work:secret/key"}), deny),
        ("fs.ensure_dir", json!({"path": "work:secret/new"}), deny),
        ("fs.ensure_dir", json!({"path": "other:new"}), read_only),
        ("fs.remove_file", json!({"path": "work:locked/l.txt"}), deny_write),
        ("fs.remove_file", json!({"path": "work:.env"}), "deny[1]"),
        ("fs.remove_dir", json!({"path": "work:secret", "recursive": true}), deny),
        ("fs.remove_dir", json!({"path": "other:sub", "recursive": true}), read_only),
        ("fs.remove_dir", json!({"path": "work:", "recursive": true}), "default-deny"),
        ("fs.rename", json!({"path": "work:secret/key", "to": "work:key"}), deny),
        ("fs.rename", json!({"path": "work:a.txt", "to": "work:sub.env/../.env"}), "deny[1]"),
        ("fs.rename", json!({"path": "work:locked/l.txt", "to": "work:l.txt"}), deny_write),
        ("fs.rename", json!({"path": "work:a.txt", "to": "other:a.txt"}), read_only),
    ];
    let steps: Vec<_> = cases.iter().map(|(capability, input, _)| (*capability, input.clone())).collect();
    let object = Task::runbook(&steps).run(&place).object();
    let actions = manifest::actions(&object);
    for (action, (capability, input, rule)) in actions.iter().zip(&cases) {
        eprintln!("{capability} {input}");
        denied(action, rule);
    }
    assert_eq!(object["denials"].as_array().map(Vec::len), Some(cases.len()), "{}", object["denials"]);
    assert!(!object.to_string().contains("TOPSECRET"), "{object}");
    assert_eq!(place.read("work/secret/key"), "TOPSECRET");
    assert_eq!(place.read("work/locked/l.txt"), "locked");
    assert_eq!(place.read("other/o.txt"), "other");
    assert_eq!(place.read("work/a.txt"), "hello");
    // The control: the same place allows all that no rule forbids.
    for action in Task::runbook(&acts()).actions(&place) {
        succeeded(&action);
    }
    log::verify_complete(&place);
}

/// T-01, T-02: no way of naming a file leads out of the workspace.
#[test]
fn no_path_leads_out_of_the_workspace() {
    let place = place("");
    place.write("beside.txt", "OUTSIDE");
    symlink(place.path("beside.txt"), place.path("work/out")).unwrap();
    symlink("/", place.path("work/root")).unwrap();
    symlink("../work/../beside.txt", place.path("work/winding")).unwrap();
    symlink("a.txt", place.path("work/in")).unwrap();
    let absolute = place.path("work/a.txt");
    let ways = [
        "../beside.txt",
        "work:../beside.txt",
        "work:old/../../beside.txt",
        "work:out",
        "work:root/etc/passwd",
        "work:winding",
        "/etc/passwd",
        "work:/etc/passwd",
        "nowhere:a.txt",
        absolute.to_str().unwrap(),
        "work:secret/../secret/key",
    ];
    let mut steps: Vec<_> = ways.iter().map(|path| ("fs.read_file", json!({"path": path}))).collect();
    steps.push(("fs.write_file", json!({"path": "work:out", "contents": "x"})));
    let object = Task::runbook(&steps).run(&place).object();
    let actions = manifest::actions(&object);
    assert_eq!(actions.len(), steps.len());
    for (action, (_, input)) in actions.iter().zip(&steps) {
        eprintln!("{input}");
        denied(action, "");
    }
    assert!(!object.to_string().contains("OUTSIDE") && !object.to_string().contains("root:x:"), "{object}");
    assert_eq!(place.read("beside.txt"), "OUTSIDE");
    // The controls: a link that stays inside, and a winding path to a file that may be read.
    let inside = [("fs.read_file", json!({"path": "work:in"})), ("fs.read_file", json!({"path": "work:old/../a.txt"}))];
    for action in Task::runbook(&inside).actions(&place) {
        assert_eq!(succeeded(&action)["contents"], "hello");
    }
    // NUL and over-long paths are mistakes, no denials.
    let long = format!("work:{}", "x/".repeat(3000));
    let mistakes = [("fs.read_file", json!({"path": "work:a\0b"})), ("fs.read_file", json!({"path": long}))];
    for action in Task::runbook(&mistakes).actions(&place) {
        failed(&action, "invalid-argument");
    }
}

/// T-06: `fs_ops` stops every one of them, and nothing is done any more.
#[test]
fn every_action_is_stopped_by_its_limit() {
    let place = place("[limits]\nfs_ops = 8\n");
    let actions = Task::runbook(&[acts(), acts()].concat()).actions(&place);
    assert_eq!(actions.len(), 16);
    for action in &actions[..8] {
        succeeded(action);
    }
    for action in &actions[8..] {
        let error = failed(action, "limit");
        assert!(error["rule"].as_str().is_some_and(|rule| rule.contains("limits.fs_ops")), "{action}");
    }
    assert!(!place.path("work/new.txt").exists(), "a refused write has no effect");
}

/// T-06
#[test]
fn growth_of_files_is_bounded_in_all_and_each() {
    let place = Place::new();
    place.work_policy("max_file = \"2KiB\"\n[limits]\nfs_written = \"3KiB\"\n");
    let write = |name: &str, len: usize| {
        ("fs.write_file", json!({"path": format!("work:{name}"), "contents": "x".repeat(len)}))
    };
    let actions =
        Task::runbook(&[write("a", 2048), write("b", 2049), write("a", 100), write("b", 1025), write("b", 900)])
            .actions(&place);
    succeeded(&actions[0]);
    failed(&actions[1], "limit");
    // Shorter than it was: nothing has grown.
    succeeded(&actions[2]);
    let error = failed(&actions[3], "limit");
    assert!(error["rule"].as_str().is_some_and(|rule| rule.contains("limits.fs_written")), "{error}");
    succeeded(&actions[4]);
    assert_eq!((place.read("work/a").len(), place.read("work/b").len()), (100, 900));
}

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

const OPEN: &str = "fs.open_file";

#[test]
fn every_import_does_what_it_says() {
    let place = place("");
    let script = json!([
        {"op": "fs.open_workspace", "as": "root"},
        {"op": "fs.open_dir", "dir": "root", "path": "old", "as": "old"},
        {"op": "fs.list", "dir": "old"},
        {"op": "fs.metadata", "dir": "root", "path": "a.txt"},
        {"op": "fs.metadata", "dir": "old", "path": null},
        {"op": "fs.ensure_dir", "dir": "root", "path": "made", "as": "made"},
        {"op": OPEN, "dir": "made", "path": "f", "options": {"read": true, "write": true, "create": true}, "as": "f"},
        {"op": "fs.write", "file": "f", "hex": "00ff"},
        {"op": "fs.write_string", "file": "f", "text": "abc", "newline": true},
        {"op": "fs.flush", "file": "f"},
        {"op": "fs.set_len", "file": "f", "len": 4},
        {"op": "fs.close_file", "file": "f"},
        {"op": OPEN, "dir": "made", "path": "f", "options": {"read": true}, "as": "g"},
        {"op": "fs.read", "file": "g", "max_bytes": 2},
        {"op": "fs.read_string", "file": "g", "max_bytes": 10},
        {"op": "fs.read", "file": "g", "max_bytes": 10},
        {"op": "fs.rename", "dir": "root", "from": "made/f", "to": "made/h"},
        {"op": "fs.remove_file", "dir": "made", "path": "h"},
        {"op": "fs.remove_dir", "dir": "root", "path": "old", "recursive": true},
        {"op": "fs.close_dir", "dir": "made"},
    ]);
    let results = probe(&place, script);
    let outputs: Vec<&Value> = results.iter().map(ok).collect();
    assert_eq!(outputs[2][0]["name"], "file");
    assert_eq!((&outputs[3]["size_bytes"], &outputs[3]["kind"]), (&json!(5), &json!("file")));
    assert_eq!(outputs[4]["kind"], "directory");
    assert_eq!((outputs[7], outputs[8]), (&json!(2), &json!(4)));
    assert_eq!(outputs[13], &json!({"len": 2, "hex": "00ff"}));
    assert_eq!(outputs[14], "ab");
    assert_eq!(outputs[15]["len"], 0, "the end of the file");
    assert!(
        place.path("work/made").is_dir() && !place.path("work/made/h").exists() && !place.path("work/old").exists()
    );
    log::verify_complete(&place);
}

#[test]
fn every_import_is_denied_by_its_rule() {
    let place = place("");
    place.write("beside.txt", "OUTSIDE");
    symlink(place.path("beside.txt"), place.path("work/out")).unwrap();
    let read = json!({"read": true});
    let write = json!({"write": true});
    let create = json!({"write": true, "create": true});
    let script = json!([
        {"op": "fs.open_workspace", "as": "root"},
        {"op": "fs.open_dir", "dir": "root", "path": "old", "as": "old"},
        {"op": OPEN, "dir": "root", "path": "locked/l.txt", "options": read, "as": "l"},
        {"op": "fs.open_dir", "dir": "root", "path": "secret", "as": "x"},
        {"op": OPEN, "dir": "root", "path": "secret/key", "options": read, "as": "x"},
        {"op": OPEN, "dir": "root", "path": "locked/l.txt", "options": write, "as": "x"},
        {"op": OPEN, "dir": "root", "path": ".env", "options": create, "as": "x"},
        {"op": OPEN, "dir": "root", "path": "out", "options": read, "as": "x"},
        {"op": OPEN, "dir": "root", "path": "../beside.txt", "options": read, "as": "x"},
        {"op": OPEN, "dir": "old", "path": "../a.txt", "options": read, "as": "x"},
        {"op": OPEN, "dir": "root", "path": "/etc/passwd", "options": read, "as": "x"},
        {"op": "fs.ensure_dir", "dir": "root", "path": "secret/d", "as": "x"},
        {"op": "fs.remove_file", "dir": "root", "path": "locked/l.txt"},
        {"op": "fs.remove_dir", "dir": "root", "path": "secret", "recursive": true},
        {"op": "fs.rename", "dir": "root", "from": "a.txt", "to": "secret/a"},
        {"op": "fs.rename", "dir": "old", "from": "file", "to": "../file"},
        {"op": "fs.metadata", "dir": "root", "path": ".env"},
        {"op": "fs.write", "file": "l", "text": "x"},
        {"op": "fs.set_len", "file": "l", "len": 0},
        {"op": "fs.read", "file": "l", "max_bytes": 100},
    ]);
    let results = probe(&place, script);
    for result in &results[..3] {
        ok(result);
    }
    for result in &results[3..19] {
        let error = error(result, "denied");
        assert!(error["detail"].as_str().is_some_and(|detail| detail.contains("\"rule\"")), "{result}");
    }
    // The control: the handle that was given for reading reads.
    assert_eq!(ok(&results[19])["text"], "locked");
    assert_eq!(place.read("work/locked/l.txt"), "locked");
    assert_eq!(place.read("work/old/file"), "x");
}

/// T-11: a handle is worth something only while it is open, and only for what it is.
#[test]
fn closed_handles_are_not_found_and_others_stay_open() {
    let place = place("");
    let script = json!([
        {"op": "fs.open_workspace", "as": "root"},
        {"op": "fs.open_workspace", "as": "again"},
        {"op": OPEN, "dir": "root", "path": "a.txt", "options": {"read": true, "write": true}, "as": "f"},
        {"op": OPEN, "dir": "root", "path": "a.txt", "options": {"read": true}, "as": "g"},
        {"op": "fs.close_file", "file": "f"},
        {"op": "fs.read", "file": "f", "max_bytes": 5},
        {"op": "fs.write", "file": "f", "text": "x"},
        {"op": "fs.set_len", "file": "f", "len": 0},
        {"op": "fs.flush", "file": "f"},
        {"op": "fs.close_dir", "dir": "root"},
        {"op": "fs.list", "dir": "root"},
        {"op": OPEN, "dir": "root", "path": "a.txt", "options": {"read": true}, "as": "x"},
        {"op": "fs.remove_file", "dir": "root", "path": "a.txt"},
        {"op": "fs.read", "file": "g", "max_bytes": 5},
        {"op": "fs.list", "dir": "again"},
    ]);
    let results = probe(&place, script);
    for at in [5, 6, 7, 8, 10, 11, 12] {
        error(&results[at], "not-found");
    }
    assert_eq!(ok(&results[13])["text"], "hello");
    ok(&results[14]);
    assert_eq!(place.read("work/a.txt"), "hello");
}

/// T-06: handles are bounded, and closing gives room again.
#[test]
fn open_handles_are_bounded() {
    let place = place("");
    let open = |name: &str| json!({"op": OPEN, "dir": "root", "path": "a.txt", "options": {"read": true}, "as": name});
    let script = json!([
        {"op": "fs.open_workspace", "as": "root"},
        {"op": "repeat", "times": 400, "each": open("f#")},
        {"op": "drop", "handle": "f0"},
        {"op": "drop", "handle": "f1"},
        open("again"),
        {"op": "fs.read", "file": "again", "max_bytes": 5},
    ]);
    let results = probe(&place, script);
    let held = ok(&results[1]);
    let opened = held["ok"].as_u64().unwrap();
    assert!((1..=256).contains(&opened), "{held}");
    assert_eq!(held["errors"]["limit"].as_u64(), Some(400 - opened), "{held}");
    assert_eq!(ok(&results[5])["text"], "hello", "{results:?}");
}

/// T-06: the limits hold for imports as for actions.
#[test]
fn imports_are_stopped_by_the_same_limits() {
    let place = Place::new();
    place.work_policy("max_file = \"1KiB\"\n[limits]\nfs_ops = 9\nfs_written = \"1500B\"\n");
    let fill = |len: usize| json!({"op": "fs.write", "file": "f", "fill": {"byte": 120, "len": len}});
    let script = json!([
        {"op": "fs.open_workspace", "as": "root"},
        {"op": OPEN, "dir": "root", "path": "f", "options": {"write": true, "create": true}, "as": "f"},
        fill(1000),
        fill(1000),
        {"op": "fs.set_len", "file": "f", "len": 5000},
        fill(24),
        {"op": "repeat", "times": 20, "each": {"op": "fs.metadata", "dir": "root", "path": "f"}},
    ]);
    let results = probe(&place, script);
    ok(&results[2]);
    error(&results[3], "limit");
    error(&results[4], "limit");
    ok(&results[5]);
    let rest = ok(&results[6]);
    assert!(rest["ok"].as_u64().unwrap() > 0 && rest["errors"]["limit"].as_u64().unwrap() >= 15, "{rest}");
    assert_eq!(place.read("work/f").len(), 1024);
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
        {"op": OPEN, "dir": "root", "path": "a.txt", "options": {"read": true}, "as": "f"},
        {"op": "proc.spawn", "command": "gate", "argv": ["-c", wait], "as": "p"},
        {"op": "proc.wait", "process": "p"},
        {"op": "fs.read", "file": "f", "max_bytes": 5},
        {"op": "fs.read", "file": "f", "max_bytes": 5},
        {"op": "fs.open_workspace", "as": "root"},
        {"op": OPEN, "dir": "root", "path": "a.txt", "options": {"read": true}, "as": "f"},
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
