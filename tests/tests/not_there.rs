//! What a policy grants and this version cannot give is refused in words where it is used, and never done by half.

use serde_json::json;
use warden_tests::manifest::{error, failed, ok, succeeded};
use warden_tests::{Place, Task, log, probe};

fn command(name: &str, more: &str) -> String {
    format!(
        "[[proc.command]]\nname = \"{name}\"\npath = \"/bin/sh\"\nargs = [[\"-c\", \"*\"]]\ncwd = \"work\"\n{more}\n"
    )
}

fn run(name: &str, script: &str) -> (&'static str, serde_json::Value) {
    ("proc.spawn", json!({"command": name, "args": ["-c", script]}))
}

/// A command that was granted hosts does not run without a network and without a word.
#[test]
fn a_command_with_a_network_is_unavailable_and_one_without_runs() {
    let place = Place::new();
    let both = [command("fetcher", "network = [\"example.com\"]"), command("sh", "")].concat();
    place.work_policy(&both);
    let start = ("proc.start", json!({"command": "fetcher", "args": ["-c", "touch started"], "alias": "a"}));
    let actions = Task::runbook(&[run("fetcher", "touch ran"), start, run("sh", "echo ran")]).actions(&place);
    for action in &actions[..2] {
        let refused = failed(action, "unavailable");
        let words = refused["message"].as_str().unwrap();
        assert!(words.contains("network") && words.contains("user:proc.command.fetcher"), "{refused}");
    }
    assert!(!place.path("work/ran").exists() && !place.path("work/started").exists());
    assert_eq!(succeeded(&actions[2])["stdout"], "ran\n");
    // A predicate that would need it does not hold, and says why.
    let holds = json!({"command": "fetcher", "args": ["-c", "true"]});
    let object = Task::runbook(&[run("sh", "true")]).success(holds).run(&place).outcome("failed");
    assert!(object["predicates"][0]["detail"].as_str().is_some_and(|text| text.contains("network")), "{object}");
    // `policy check` warns before anything runs.
    let checked = place.json(&["policy", "check", "warden.toml"]).object();
    assert!(checked["warnings"].to_string().contains("user:proc.command.fetcher: network"), "{checked}");
    // An answer to a request promises no more.
    let ask = |name: &str| {
        ("policy.request_capability", json!({"capability": "proc.spawn", "scope": name, "justification": "x"}))
    };
    let actions = Task::runbook(&[ask("fetcher"), ask("sh")]).actions(&place);
    assert_eq!(
        (&succeeded(&actions[0])["approved"], &succeeded(&actions[1])["approved"]),
        (&json!(false), &json!(true))
    );
}

/// T-08: a secret's name is never passed on as if it were text.
#[test]
fn a_secret_that_is_named_is_unavailable_and_its_name_goes_nowhere() {
    let place = Place::new();
    place.work_policy(&command("sh", ""));
    let named = "{{secret:demo.key}}";
    let steps = [
        ("fs.write_file", json!({"path": "work:a", "contents": format!("key={named}")})),
        ("proc.spawn", json!({"command": "sh", "args": ["-c", "cat > b"], "stdin": named})),
        ("proc.spawn", json!({"command": "sh", "args": ["-c", format!("echo '{named}' > c")]})),
        ("proc.start", json!({"command": "sh", "args": ["-c", "cat > d"], "alias": "cat"})),
        ("proc.write_stdin", json!({"process": "cat", "data": named})),
        ("proc.write_stdin", json!({"process": "cat", "data": "{{plain}}", "eof": true})),
        ("proc.wait", json!({"process": "cat"})),
        ("fs.write_file", json!({"path": "work:e", "contents": "secret:demo.key"})),
    ];
    let actions = Task::runbook(&steps).actions(&place);
    for refused in [0, 1, 2, 4] {
        let error = failed(&actions[refused], "unavailable");
        assert!(error["message"].as_str().is_some_and(|text| text.contains("`demo.key`")), "{error}");
    }
    for name in ["a", "b", "c"] {
        assert!(!place.path("work").join(name).exists(), "{name}");
    }
    // The controls: what names no secret is passed on as it is.
    for done in [3, 5, 6, 7] {
        succeeded(&actions[done]);
    }
    assert_eq!((place.read("work/d"), place.read("work/e")), ("{{plain}}".to_owned(), "secret:demo.key".to_owned()));
    // The same through the imports, where the broker itself looks.
    let results = probe(
        &place,
        json!([
            {"op": "proc.spawn", "command": "sh", "argv": ["-c", "cat > f"], "stdin": "pipe", "as": "p"},
            {"op": "proc.write_stdin", "process": "p", "text": named},
            {"op": "proc.write_stdin", "process": "p", "text": "plain", "eof": true},
            {"op": "proc.wait", "process": "p"},
        ]),
    );
    error(&results[1], "unavailable");
    ok(&results[3]);
    assert_eq!(place.read("work/f"), "plain");
    log::verify_complete(&place);
}

/// T-08, T-10: the file of a secret decides like any other: it is there, nobody else can change it, no task can write it.
#[test]
fn the_file_of_a_secret_is_opened_and_checked_before_anything_starts() {
    let place = Place::of_user();
    let with = |file: &str| {
        place.work_policy(&format!("[[secret]]\nname = \"demo.key\"\nfile = \"{file}\"\n"));
        Task::runbook(&[("fs.list_dir", json!({}))]).run(&place)
    };
    let refused = |file: &str, why: &str| {
        let object = with(file).fails("invalid-argument", 2);
        let words = object["error"].as_str().unwrap();
        assert!(words.contains("warden.toml:10:8: secret.demo.key") && words.contains(why), "{file}: {words}");
    };
    refused("gone", "does not exist");
    place.put("work/key", "OF-THE-TASK");
    refused("work/key", "workspace `work`");
    let key = place.folder_of_task("keys", 0o700).join("key");
    place.put("keys/key", "TOPSECRET");
    let mode = |bits| std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(bits)).unwrap();
    mode(0o666);
    refused("keys/key", "is refused");
    assert!(log::records(&place).is_empty(), "nothing was started");
    // The control: as it should be, and nothing of it is anywhere.
    mode(0o600);
    let ran = with("keys/key");
    ran.outcome("unverified");
    let all = format!("{}{}{:?}", ran.out, ran.err, log::records(&place));
    assert!(!all.contains("TOPSECRET"), "{all}");
}
