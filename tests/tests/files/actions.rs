//! Every action: done, denied, limited.

use crate::{acts, place};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use warden_tests::manifest::{self, denied, failed, ok, succeeded};
use warden_tests::{Place, Task, log, probe};

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
fn a_long_listing_is_one_action_and_says_that_it_was_cut() {
    let place = place("");
    for (folder, files) in [("many", 2600), ("some", 600)] {
        fs::create_dir(place.path("work").join(folder)).unwrap();
        for n in 0..files {
            fs::write(place.path("work").join(folder).join(format!("{n:05}")), "").unwrap();
        }
    }
    let list = |path: &str| ("fs.list_dir", json!({"path": path}));
    let task = Task::runbook(&[list("work:many"), list("work:some"), list("work:some")]);
    let actions = task.actions(&place);
    let outputs: Vec<&Value> = actions.iter().map(succeeded).collect();
    let told = |output: &Value| (output["entries"].as_array().unwrap().len(), output["truncated"].clone());
    assert_eq!(outputs.len(), 3);
    assert_eq!((told(outputs[0]), outputs[0]["total"].clone()), ((2048, json!(true)), json!(2600)));
    // The control: all of it, and no word of a cut.
    for whole in &outputs[1..] {
        assert_eq!((told(whole), whole["total"].clone()), ((600, json!(false)), json!(600)));
        assert_eq!(whole["entries"][599]["name"], "00599");
    }
    let ran = place.run(&["task", "run", place.path("task.json").to_str().unwrap()]);
    assert!(ran.out.contains("3 actions"), "{}", ran.out);
    assert!(ran.out.contains("truncated: fs.list_dir work:many: 2048 of 2600 entries"), "{}", ran.out);
    assert!(!ran.out.contains("work:some:"), "{}", ran.out);
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
    // What was asked for as base64 is told so in the result, and what was not is not.
    let forced = succeeded(&actions[6]);
    assert_eq!((&forced["contents"], &forced["encoding"]), (&json!("aGVsbG8="), &json!("base64")));
    assert_eq!(succeeded(&actions[7])["encoding"], "utf-8");
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
