//! Files that decide, requests wider than their ceiling, and whom a task runs as (T-10).

use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use warden_tests::{NOBODY, Place, Task, is_root, log, sample, skipped};

fn listing() -> Task {
    Task::runbook(&[("fs.list_dir", json!({"path": "work:"}))])
}

/// T-10: a file that decides and that the task could write is refused, and nothing is started.
#[test]
fn files_that_decide_may_not_lie_in_a_writable_workspace() {
    let place = Place::new();
    let policy = place.work_policy("");
    listing().run(&place).outcome("unverified");
    let records = log::records(&place).len();
    // The policy.
    fs::copy(&policy, place.put("work/warden.toml", "")).unwrap();
    listing().with("policy", json!("work/warden.toml")).run(&place).object();
    let refused = |what: &str, ran: warden_tests::Ran| {
        let object = ran.fails("invalid-argument", 2);
        eprintln!("{what}: {}", object["error"]);
    };
    let inside = "version = 1\n[audit]\ndir = \"../audit\"\n[[fs.workspace]]\nlabel = \"work\"\npath = \".\"\naccess = \"read-write\"\n";
    place.put("work/warden.toml", inside);
    refused("policy", listing().with("policy", json!("work/warden.toml")).run(&place));
    // The manifest.
    let manifest = json!({"kind": "runbook", "policy": "../warden.toml",
        "step": [{"capability": "fs.list_dir", "input": {"path": "work:"}}]});
    let path = place.put("work/task.json", manifest.to_string());
    refused("manifest", place.json(&["task", "run", path.to_str().unwrap()]));
    // The brain.
    let brain = place.path("work/brain.wasm");
    fs::copy(sample("control-probe.wasm"), &brain).unwrap();
    let goal = Task::goal("{\"script\":[]}");
    refused("brain", goal.clone().with("brain", json!("work/brain.wasm")).run(&place));
    // The recording.
    place.put("work/run.jsonl", "{\"content\":\"x\"}");
    place.work_policy("[llm]\nprovider = \"replay\"\nfile = \"work/run.jsonl\"\n");
    refused("recording", goal.run(&place));
    // The program of a command.
    fs::copy("/usr/bin/true", place.path("work/true")).unwrap();
    place.work_policy("[[proc.command]]\nname = \"true\"\npath = \"work/true\"\n");
    refused("program", listing().run(&place));
    // The audit folder.
    place.folder_of_task("work/audit", 0o700);
    place.write("warden.toml", &format!("version = 1\n[audit]\ndir = \"work/audit\"\n{}", warden_tests::place::WORK));
    refused("audit", listing().run(&place));
    assert_eq!(log::records(&place).len(), records, "nothing was started");
    // The control: the same workspace, only for reading, may hold what decides.
    let reads = "version = 1\n[audit]\ndir = \"../audit\"\n[[fs.workspace]]\nlabel = \"work\"\npath = \".\"\n";
    place.put("work/warden.toml", reads);
    if !is_root() {
        listing().with("policy", json!("work/warden.toml")).run(&place).outcome("unverified");
    }
}

/// T-10
#[test]
fn files_that_decide_and_others_can_write_are_refused() {
    let place = Place::new();
    let policy = place.work_policy("");
    let run = || listing().run(&place);
    run().outcome("unverified");
    let mode = |path: &std::path::Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for bad in [0o666, 0o664, 0o646] {
        mode(&policy, bad);
        let object = run().fails("invalid-argument", 2);
        assert!(object["error"].as_str().unwrap().contains("warden.toml"), "{object}");
    }
    mode(&policy, 0o644);
    run().outcome("unverified");
    // A folder above it.
    mode(&place.path("."), 0o777);
    run().fails("invalid-argument", 2);
    mode(&place.path("."), 0o755);
    run().outcome("unverified");
    // Somebody else's.
    if is_root() {
        std::os::unix::fs::chown(&policy, Some(12_345), None).unwrap();
        run().fails("invalid-argument", 2);
    } else {
        skipped("only root can give a policy away");
    }
}

/// T-10: a request for a folder or a mode beyond the policy's.
#[test]
fn a_request_wider_than_its_ceiling_is_denied_with_both_rules() {
    let place = Place::new();
    place.policy("[[fs.workspace]]\nlabel = \"work\"\npath = \"work\"\n");
    let config = place.path("warden.toml").display().to_string();
    let work = place.path("work").display().to_string();
    place
        .write("run.jsonl", &json!({"content": "{\"status\":\"complete\",\"reason\":\"x\",\"result\":1}"}).to_string());
    let replay = place.path("run.jsonl").display().to_string();
    let step = |more: &[&str]| {
        place.json(&[&["step", "--task", "x", "--config", &config, "--replay", &replay][..], more].concat())
    };
    let object = step(&["--workspace", &work]).fails("denied", 126);
    let error = object["error"].as_str().unwrap();
    assert!(error.contains("task:fs.workspace") && error.contains("user:fs.workspace.work"), "{error}");
    let object = step(&["--allow-proc", "true"]).fails("denied", 126);
    assert!(object["error"].as_str().unwrap().contains("task:proc.command.true"), "{object}");
    assert!(log::records(&place).is_empty(), "nothing was started");
    // The control: within its policy.
    let within = place.json(&["step", "--task", "x", "--config", &config, "--replay", &replay]);
    assert!(within.status != 126, "{}", within.out);
    place.policy("[[fs.workspace]]\nlabel = \"work\"\npath = \"work\"\naccess = \"read-write\"\n");
    step(&["--workspace", &work]).outcome("unverified");
}

/// T-10: root is left behind, and where nobody else can take its place nothing runs.
#[test]
fn root_becomes_somebody_else_or_nothing_runs() {
    if !is_root() {
        return skipped("it is about root");
    }
    let place = Place::new();
    place.work_policy("");
    let file = place.write(
        "task.json",
        &json!({"kind": "runbook", "policy": "warden.toml",
        "step": [{"capability": "fs.write_file", "input": {"path": "work:a", "contents": "x"}}]})
        .to_string(),
    );
    let ran = place.run(&["task", "run", file.to_str().unwrap()]);
    assert!(ran.err.contains("running as uid 65534"), "{}", ran.err);
    use std::os::unix::fs::MetadataExt;
    assert_eq!(fs::metadata(place.path("work/a")).unwrap().uid(), NOBODY);
    // A workspace of root's that nobody else can use.
    std::os::unix::fs::chown(place.path("work"), Some(0), Some(0)).unwrap();
    fs::set_permissions(place.path("work"), fs::Permissions::from_mode(0o700)).unwrap();
    let object = place.json(&["task", "run", file.to_str().unwrap()]).object();
    assert!(
        object["error"].as_str().is_some_and(|error| error.contains("--user") && error.contains("chown")),
        "{object}"
    );
}
