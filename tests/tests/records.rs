//! The log says by itself what was run and how it ended (T-09).

use serde_json::{Value, json};
use warden_tests::{Place, Task, guest, log, sample};

/// The two records of the one task in a place's log, which stand around all others.
#[track_caller]
fn bookends(place: &Place) -> (Value, Value) {
    let all = log::of(place, "task.run");
    let [begin, end] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!((&begin["op"], &end["op"], &begin["role"]), (&json!("begin"), &json!("end"), &json!("broker")));
    assert!(begin["task"].is_string() && begin["task"] == end["task"] && begin["policy_hash"].is_string(), "{begin}");
    let of_task = |record: &&Value| record["task"] == begin["task"];
    let numbers: Vec<u64> = log::records(place).iter().filter(of_task).filter_map(|r| r["seq"].as_u64()).collect();
    assert_eq!((numbers.first().copied(), numbers.last().copied()), (begin["seq"].as_u64(), end["seq"].as_u64()));
    log::verify_complete(place);
    (begin.clone(), end.clone())
}

fn sha256(path: &std::path::Path) -> Value {
    let out = std::process::Command::new("sha256sum").arg(path).output().expect("sha256sum");
    json!(String::from_utf8_lossy(&out.stdout)[..64])
}

#[test]
fn a_task_names_its_manifest_its_guest_its_folders_and_its_outcome() {
    let place = Place::new();
    place.folder_of_task("kept", 0o755);
    place.work_policy("[[fs.workspace]]\nlabel = \"kept\"\npath = \"kept\"\n");
    let there = json!({"file": "work:none", "exists": true});
    Task::runbook(&[("fs.list_dir", json!({}))]).success(there).run(&place).outcome("failed");
    let (begin, end) = bookends(&place);
    let input = &begin["input"];
    assert_eq!((&input["kind"], &input["manifest_sha256"]), (&json!("runbook"), &sha256(&place.path("task.json"))));
    assert_eq!(input["guest_sha256"], sha256(&guest("runbook-player.wasm")));
    let folders = json!([{"label": "work", "access": "read-write"}, {"label": "kept", "access": "read-only"}]);
    assert_eq!(input["workspaces"], folders, "{begin}");
    let result = &end["result"]["ok"];
    assert_eq!((&result["outcome"], &result["status"]), (&json!("failed"), &json!(1)), "{end}");
    assert!(result["reason"].as_str().is_some_and(|reason| reason.contains("work:none")), "{end}");
}

#[test]
fn a_program_names_its_module_and_its_status_or_its_error() {
    let place = Place::new();
    place.module(&sample("exit3.wat"), &[]).exits(3);
    let (begin, end) = bookends(&place);
    assert_eq!((&begin["input"]["kind"], &begin["input"]["manifest_sha256"]), (&json!("program"), &Value::Null));
    assert_eq!(begin["input"]["guest_sha256"], sha256(&sample("exit3.wat")));
    assert_eq!(end["result"]["ok"], json!({"exit_code": 3}), "{end}");
    for (name, code) in
        [("trap.wat", "trap"), ("no-entry.wat", "invalid-argument"), ("unknown-import.wat", "invalid-argument")]
    {
        let place = Place::new();
        place.module(&sample(name), &[]).fails(code, 125);
        assert_eq!(bookends(&place).1["result"]["error"], code, "{name}");
    }
    // One that is no module at all never comes to a worker, and is on the record all the same.
    let place = Place::new();
    place.module(&place.put("noise.wasm", "noise"), &[]).fails("invalid-argument", 125);
    assert_eq!(bookends(&place).1["result"]["error"], "invalid-argument");
}
