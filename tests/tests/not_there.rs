//! What a policy grants and this version cannot give is refused in words where it is used, and never done by half.

use serde_json::json;
use warden_tests::manifest::{error, failed, ok, succeeded};
use warden_tests::{Place, Task, log, probe};

fn command(name: &str, more: &str) -> String {
    format!(
        "[[proc.command]]\nname = \"{name}\"\npath = \"/bin/sh\"\nargs = [[\"-c\", \"*\"]]\ncwd = \"work\"\nunchecked = true\n{more}\n"
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
