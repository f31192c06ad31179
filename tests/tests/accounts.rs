//! What is counted is what was done: growth of files, numbers of steps; and every bound that is met names its rule.

use serde_json::{Value, json};
use warden_tests::manifest::{failed, ok, succeeded};
use warden_tests::{Place, Task, probe};

fn write(path: &str, contents: &str) -> (&'static str, Value) {
    ("fs.write_file", json!({"path": path, "contents": contents}))
}

/// T-06: `fs_written` counts what files grow by. What takes the place of as many bytes is no growth, and needs no room.
#[test]
fn bytes_that_take_the_place_of_others_are_no_growth() {
    let place = Place::new();
    place.work_policy("[limits]\nfs_written = \"10\"\n");
    let steps = [
        write("work:a", "12345678"),
        write("work:a", "abcdefgh"),
        write("work:b", "123"),
        write("work:b", "12"),
        write("work:a", "abc"),
        write("work:c", ""),
    ];
    let actions = Task::runbook(&steps).actions(&place);
    for done in [0, 1, 3, 4, 5] {
        succeeded(&actions[done]);
    }
    let refused = failed(&actions[2], "limit");
    assert_eq!(refused["rule"], "user:limits.fs_written", "{refused}");
    assert!(refused["message"].as_str().is_some_and(|text| text.contains("2 are left")), "{refused}");
    assert_eq!((place.read("work/a"), place.read("work/b")), ("abc".to_owned(), "12".to_owned()));
    // The same through a handle.
    place.put("work/d", "12345678");
    let open = json!({"op": "fs.open_file", "dir": "root", "path": "d", "options": {"write": true}, "as": "f"});
    let results = probe(
        &place,
        json!([
            {"op": "fs.open_workspace", "as": "root"}, open,
            {"op": "fs.write", "file": "f", "text": "abcdefgh"},
            {"op": "fs.write", "file": "f", "text": "0123456789"},
            {"op": "fs.write", "file": "f", "text": "01234567890"},
            {"op": "fs.set_len", "file": "f", "len": 18},
        ]),
    );
    ok(&results[2]);
    ok(&results[3]);
    assert_eq!(results[4]["error"]["code"], "limit", "{results:?}");
    ok(&results[5]);
}

/// T-06
#[test]
fn a_file_that_would_be_too_long_names_the_rule() {
    let place = Place::new();
    place.work_policy("max_file = \"4\"\n");
    let actions = Task::runbook(&[write("work:a", "12345"), write("work:a", "1234")]).actions(&place);
    assert_eq!(failed(&actions[0], "limit")["rule"], "user:fs.workspace.work.max_file", "{}", actions[0]);
    succeeded(&actions[1]);
}

/// A claim spends steps and plays none.
#[test]
fn numbers_of_steps_are_those_of_plans_whatever_is_claimed() {
    let place = Place::new();
    place.work_policy("[limits]\nsteps = 9\n");
    let claim = ("policy.claim_budget", json!({"kind": "steps", "units": 2}));
    let look = ("fs.list_dir", json!({}));
    let object = Task::runbook(&[claim, look.clone(), look]).run(&place).outcome("unverified");
    let numbers: Vec<&Value> = object["steps"].as_array().unwrap().iter().map(|step| &step["step"]).collect();
    assert_eq!(numbers, [&json!(1), &json!(2), &json!(3)]);
    assert_eq!(object["usage"]["steps"], 5, "what was claimed is spent");
}

#[test]
fn a_path_that_is_left_out_is_shown_as_what_it_names() {
    let place = Place::new();
    place.work_policy("");
    place.put("work/a", "a");
    let actions =
        Task::runbook(&[("fs.list_dir", json!({})), ("fs.list_dir", json!({"path": "work:"}))]).actions(&place);
    assert_eq!((&succeeded(&actions[0])["path"], &actions[0]["output"]), (&json!("work:"), &actions[1]["output"]));
    // What the planner is told is the same.
    let script =
        json!([{"op": "plan", "actions": [{"capability": "fs.list_dir", "input": {}}]}, {"op": "observation"}]);
    assert_eq!(ok(&probe(&place, script)[1])["data"]["actions"][0]["output"]["path"], "work:");
}
