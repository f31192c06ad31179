//! `policy.*` as actions and as imports; `browser.*` and `input.*`, which exist by name and answer that they are not there.

use serde_json::{Value, json};
use warden_tests::manifest::{self, denied, error, failed, ok, succeeded};
use warden_tests::{Place, Task, log, probe};

const COMMAND: &str = "[[proc.command]]\nname = \"true\"\npath = \"/usr/bin/true\"\nargs = [[\"--version\"]]\n";

#[test]
fn describe_tells_workspaces_commands_and_budgets_and_no_host_path() {
    let place = Place::new();
    place.work_policy(&format!("max_file = \"1MiB\"\n{COMMAND}[limits]\nsteps = 7\nfs_ops = 11\n"));
    let actions = Task::runbook(&[("policy.describe", json!({}))]).actions(&place);
    let told = succeeded(&actions[0]);
    assert_eq!(told["workspaces"][0]["label"], "work");
    assert_eq!(told["workspaces"][0]["read_only"], false);
    assert_eq!(told["workspaces"][0]["max_file_bytes"], 1024 * 1024);
    assert_eq!(told["commands"][0]["name"], "true");
    let budget = |kind: &str| told["budgets"].as_array().unwrap().iter().find(|b| b["kind"] == kind).cloned().unwrap();
    assert_eq!((budget("steps")["limit"].clone(), budget("steps")["used"].clone()), (json!(7), json!(1)));
    assert_eq!(budget("filesystem-ops")["limit"], 11);
    assert!(!told.to_string().contains(place.path("").to_str().unwrap()), "a host path: {told}");
    // The same through the import.
    let results = probe(&place, json!([{"op": "policy.describe"}]));
    assert_eq!(ok(&results[0])["workspaces"][0]["label"], "work");
    assert_eq!(ok(&results[0])["commands"][0]["name"], "true");
}

/// T-06: a claim spends, and beyond the limit it is refused with the limit's rule.
#[test]
fn a_budget_can_be_claimed_up_to_its_limit() {
    let place = Place::new();
    place.work_policy("[limits]\nfs_ops = 10\n");
    place.put("work/a.txt", "a");
    let claim = |units: u64| ("policy.claim_budget", json!({"kind": "filesystem-ops", "units": units}));
    let read = ("fs.read_file", json!({"path": "work:a.txt"}));
    let actions = Task::runbook(&[claim(4), claim(7), claim(5), read.clone(), read]).actions(&place);
    assert_eq!(succeeded(&actions[0])["used"], 4);
    let refused = failed(&actions[1], "limit");
    assert!(refused["rule"].as_str().is_some_and(|rule| rule.contains("limits.fs_ops")), "{refused}");
    assert_eq!(succeeded(&actions[2])["used"], 9);
    succeeded(&actions[3]);
    failed(&actions[4], "limit");
    // The import.
    let results = probe(
        &place,
        json!([
            {"op": "policy.claim_budget", "kind": "filesystem-ops", "units": 10},
            {"op": "policy.claim_budget", "kind": "filesystem-ops", "units": 1},
            {"op": "fs.open_workspace", "as": "root"}, {"op": "fs.list", "dir": "root"},
        ]),
    );
    assert_eq!(ok(&results[0])["used"], 10);
    error(&results[1], "limit");
    assert!(results[2].get("error").is_some() || results[3].get("error").is_some(), "{results:?}");
}

/// T-10: asking for more never gives more.
#[test]
fn a_request_is_answered_with_what_the_policy_already_says() {
    let place = Place::new();
    place.work_policy("");
    let ask = |name: &str| ("policy.request_capability", json!({"capability": name, "justification": "I want it"}));
    let steps = [
        ask("fs.write_file"),
        ask("proc.spawn"),
        ("proc.spawn", json!({"command": "true", "args": []})),
        ask("browser.open_session"),
    ];
    let actions = Task::runbook(&steps).actions(&place);
    assert_eq!(succeeded(&actions[0])["approved"], true);
    assert_eq!(succeeded(&actions[1])["approved"], false);
    denied(&actions[2], "default-deny");
    assert_eq!(succeeded(&actions[3])["approved"], false);
    let script = json!([{"op": "policy.request_capability", "capability": "proc.spawn", "justification": "x"}]);
    assert_eq!(ok(&probe(&place, script)[0])["approved"], false);
}

/// T-10: what is approved is done when it is asked for, and what is not is denied.
#[test]
fn a_request_is_decided_on_its_scope_as_the_call_would_be() {
    let place = Place::new();
    place.folder_of_task("kept", 0o755);
    let kept = "deny = [\"**/.env\"]\n[[fs.workspace]]\nlabel = \"kept\"\npath = \"kept\"\n";
    place.work_policy(&format!("{kept}{COMMAND}[approval]\nask = [\"fs.remove-*\"]\n"));
    place.put("work/a", "a");
    place.put("work/.env", "a");
    let calls = [
        ("fs.read_file", "work:a", json!({"path": "work:a"}), true),
        ("fs.read_file", "work:.env", json!({"path": "work:.env"}), false),
        ("fs.write_file", "kept:a", json!({"path": "kept:a", "contents": "x"}), false),
        ("fs.write_file", "work:b", json!({"path": "work:b", "contents": "x"}), true),
        ("fs.remove_file", "work:a", json!({"path": "work:a"}), false),
        ("fs.read_file", "nowhere:a", json!({"path": "nowhere:a"}), false),
        ("proc.spawn", "true", json!({"command": "true", "args": ["--version"]}), true),
        ("proc.spawn", "false", json!({"command": "false", "args": []}), false),
    ];
    for (capability, scope, input, approved) in calls {
        let ask = json!({"capability": capability, "scope": scope, "justification": "I want it"});
        let actions = Task::runbook(&[("policy.request_capability", ask), (capability, input)]).actions(&place);
        let answer = succeeded(&actions[0]);
        assert_eq!(
            (&answer["approved"], actions[1]["success"].as_bool()),
            (&json!(approved), Some(approved)),
            "{actions:?}"
        );
        assert!(answer["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{answer}");
    }
}

/// T-06, T-14: a guest's lines stand in the log as data, and a flood of them is refused.
#[test]
fn events_of_a_guest_are_recorded_escaped_and_bounded() {
    let place = Place::new();
    place.work_policy("");
    let forged = "x\"}\n{\"seq\":1,\"capability\":\"forged\u{1b}[2J";
    let script = json!([
        {"op": "policy.log_event", "event_type": "note", "step": 3, "payload": forged},
        {"op": "repeat", "times": 1100, "each": {"op": "policy.log_event", "event_type": "flood", "payload": "{}"}},
    ]);
    let results = probe(&place, script);
    ok(&results[0]);
    let flood = ok(&results[1]);
    assert_eq!(flood["ok"], 999, "{flood}");
    assert_eq!(flood["errors"]["limit"], 101, "{flood}");
    log::verify_complete(&place);
    let noted = log::of(&place, "policy.log_event");
    assert_eq!(noted[0]["input"]["payload"], forged, "{}", noted[0]);
    assert!(log::of(&place, "forged\u{1b}[2J").is_empty() && log::of(&place, "forged").is_empty());
    let actions =
        Task::runbook(&[("policy.log_event", json!({"event_type": "t", "payload": {"a": 1}}))]).actions(&place);
    succeeded(&actions[0]);
}

/// T-10: where the policy wants a person asked, nobody answers in the person's place; each act by its own rule.
#[test]
fn every_act_on_the_policy_is_denied_by_its_rule() {
    let acts = [
        ("policy.describe", json!({})),
        ("policy.claim_budget", json!({"kind": "steps", "units": 1})),
        ("policy.request_capability", json!({"capability": "fs.write_file", "justification": "x"})),
        ("policy.log_event", json!({"event_type": "t", "payload": {}})),
    ];
    for (at, (capability, _)) in acts.iter().enumerate() {
        let place = Place::new();
        place.work_policy(&format!("[approval]\nask = [\"{capability}\"]\nvia = \"deny\"\n"));
        let object = Task::runbook(&acts).run(&place).object();
        for (number, action) in manifest::actions(&object).iter().enumerate() {
            if number == at {
                denied(action, "user:approval.ask[0]");
            } else {
                succeeded(action);
            }
        }
        assert_eq!(object["denials"].as_array().map(Vec::len), Some(1), "{object}");
        let record = &log::of(&place, capability)[0];
        assert_eq!(
            (&record["decision"], &record["rule"]),
            (&json!("deny"), &json!("user:approval.ask[0]")),
            "{record}"
        );
    }
    // The same through the imports, for all of them at once.
    let place = Place::new();
    place.work_policy("[approval]\nask = [\"policy.*\"]\n");
    let script = json!([
        {"op": "policy.describe"},
        {"op": "policy.claim_budget", "kind": "steps", "units": 1},
        {"op": "policy.request_capability", "capability": "fs.write_file", "justification": "x"},
        {"op": "policy.log_event", "event_type": "t", "payload": "{}"},
        {"op": "fs.open_workspace", "as": "root"},
    ]);
    let results = probe(&place, script);
    for result in &results[..4] {
        error(result, "denied");
    }
    ok(&results[4]);
}

#[test]
fn browser_and_input_answer_that_they_are_not_available() {
    let place = Place::new();
    place.work_policy("");
    let steps = [
        ("browser.open_session", json!({})),
        ("input.key_sequence", json!({"text": "a"})),
        ("input.mouse_move", json!({"x": 1, "y": 2})),
        ("fs.list_dir", json!({"path": "work:"})),
    ];
    let actions = Task::runbook(&steps).actions(&place);
    for action in &actions[..3] {
        failed(action, "unavailable");
    }
    // The control: the next action of the same task works.
    succeeded(&actions[3]);
    let script = json!([
        {"op": "browser.open_session"}, {"op": "input.key_sequence", "text": "a"}, {"op": "input.send_key_chord", "key": "a"},
        {"op": "input.mouse_move", "x": 1, "y": 1}, {"op": "input.mouse_click"}, {"op": "input.mouse_scroll", "vertical": 1},
        {"op": "policy.describe"},
    ]);
    let results = probe(&place, script);
    for result in &results[..6] {
        error(result, "unavailable");
    }
    ok(&results[6]);
}

/// Every function of `osagent:browser` and `osagent:input` by the name of its action, on the record like any other call. Of
/// the browser's imports a guest can only reach `open-session`: all others take a handle that nothing gives out.
#[test]
fn every_function_of_browser_and_input_answers_that_it_is_not_available() {
    let place = Place::new();
    place.work_policy("");
    let names: Vec<&str> = warden_policy::CAPABILITIES
        .iter()
        .copied()
        .filter(|name| name.starts_with("browser.") || name.starts_with("input."))
        .collect();
    assert_eq!(names.len(), 19, "14 of browser, 5 of input: {names:?}");
    let mut steps: Vec<(&str, Value)> = names.iter().map(|name| (*name, json!({}))).collect();
    steps.push(("fs.list_dir", json!({"path": "work:"})));
    let actions = Task::runbook(&steps).with("limits", json!({"steps": 32})).actions(&place);
    for (name, action) in names.iter().zip(&actions) {
        assert_eq!(action["capability"], **name);
        failed(action, "unavailable");
        assert_eq!(log::of(&place, name).len(), 1, "{name}");
    }
    // The control: the next action of the same task works.
    succeeded(&actions[names.len()]);
}

/// A capability that the project names and that no helper has yet, and one that nobody names.
#[test]
fn names_that_lead_nowhere_are_typed_errors() {
    let place = Place::new();
    place.work_policy("");
    let results = probe(
        &place,
        json!([{"op": "plan", "actions": [
            {"capability": "net.fetch", "input": {"url": "http://127.0.0.1/"}},
            {"capability": "no.such", "input": {}},
            {"capability": "fs.read_file", "input_text": "{"},
            {"capability": "fs.read_file", "input": {"path": "work:a", "colour": 1}},
            {"capability": "fs.read_file", "input": {"path": 7}},
        ]}, {"op": "observation"}]),
    );
    let seen = ok(&results[1])["data"]["actions"].as_array().expect("the observation lists the actions");
    let codes: Vec<&str> = seen.iter().map(|action| action["error"]["code"].as_str().unwrap()).collect();
    assert_eq!(codes[0], "unavailable");
    assert!(codes[1..].iter().all(|code| *code == "invalid-argument"), "{codes:?}");
}
