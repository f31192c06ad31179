//! The model, answered from a recording.

use crate::{acts, claims, replaying, summary, writes};
use serde_json::{Value, json};
use std::time::Duration;
use warden_tests::manifest::{actions, denied, error, failed, ok, succeeded};
use warden_tests::{Place, Task, gate, is_root, log, skipped};

/// T-15: a recording that does not fit what happened ends the task.
#[test]
fn a_line_that_expects_something_else_ends_the_task_failed() {
    let mut look = acts(json!([{"capability": "fs.list_dir", "input": {"path": "work:"}}]));
    look["expect"] = json!("(?s)Observation");
    let mut wrong = claims();
    wrong["expect"] = json!("the moon is green");
    let place = replaying(&[look.clone(), wrong], "");
    place.put("work/SUMMARY.md", "fixed");
    let object = Task::goal("Look.").success(summary()).run(&place).outcome("failed");
    assert!(object["reason"].as_str().unwrap().contains("does not match"), "{object}");
    // The control: the same with what did happen.
    let mut right = claims();
    right["expect"] = json!("SUMMARY\\.md");
    let place = replaying(&[look, right], "");
    place.put("work/SUMMARY.md", "fixed");
    Task::goal("Look.").success(summary()).run(&place).outcome("done");
}

#[test]
fn after_its_last_line_a_recording_has_ended() {
    let look = acts(json!([{"capability": "fs.list_dir", "input": {"path": "work:"}}]));
    let place = replaying(&[look], "");
    let object = Task::goal("Look.").run(&place).outcome("failed");
    assert!(object["reason"].as_str().unwrap().contains("recording ended"), "{object}");
    let place = replaying(&[claims()], "");
    let results = warden_tests::probe(
        &place,
        json!([
            {"op": "llm.complete", "messages": [["user", "hello"]]},
            {"op": "llm.complete", "messages": [["user", "hello"]]},
        ]),
    );
    assert!(ok(&results[0])["content"].as_str().unwrap().contains("It is done."));
    assert!(error(&results[1], "unavailable")["message"].as_str().unwrap().contains("recording ended"));
    // A call that the helper itself refused has cost nothing.
    let ends = log::of(&place, "llm.complete");
    let spent: u64 = ends.iter().filter_map(|record| record["result"]["ok"]["tokens"].as_u64()).sum();
    assert!(spent > 0);
    let twice = warden_tests::probe(
        &place,
        json!([
            {"op": "llm.complete", "messages": [["user", "hello"]]},
            {"op": "llm.complete", "messages": [["user", "hello"]]},
            {"op": "policy.describe"},
        ]),
    );
    let tokens = ok(&twice[2])["budgets"].as_array().unwrap().iter().find(|b| b["kind"] == "llm-tokens");
    assert_eq!(tokens.unwrap_or_else(|| panic!("{}", twice[2]))["used"], spent, "{}", twice[2]);
}

/// The helper of the model goes in the middle of a call; the next call starts another. Line n answers call n all the same.
#[test]
fn a_model_helper_killed_under_a_call_is_unavailable_and_the_next_call_works() {
    if !is_root() {
        return skipped("another user's process can be found and killed by root only");
    }
    let lines: Vec<Value> = (1..=4).map(|n| json!({"content": format!("line {n}")})).collect();
    let place = replaying(&lines, gate::COMMAND);
    let ask = ("llm.complete", json!({"messages": [{"role": "user", "content": "hi"}]}));
    let running = Task::runbook(&[ask.clone(), gate::step(1), ask.clone(), ask]).start(&place);
    gate::reached(&place, 1);
    let helper = running.family().role("cap-llm").expect("cap-llm runs");
    helper.signal(nix::sys::signal::Signal::SIGSTOP);
    gate::open(&place, 1);
    std::thread::sleep(Duration::from_millis(60));
    helper.kill();
    let object = running.end().outcome("unverified");
    let all = actions(&object);
    assert_eq!(succeeded(&all[0])["content"], "line 1");
    let lost = failed(&all[2], "unavailable");
    assert!(lost["message"].as_str().unwrap().contains("cap-llm"), "{lost}");
    assert_eq!(succeeded(&all[3])["content"], "line 3", "{all:?}");
    log::verify_complete(&place);
    // T-06: what the lost call has cost is not known, so what was reserved for it stays spent, as much as each of the others.
    let ends = log::of(&place, "llm.complete");
    let told = |at: usize| ends.iter().filter_map(|record| record["result"]["ok"]["tokens"].as_u64()).nth(at);
    let each = told(0).expect("the record of an answered call tells its tokens");
    assert!(each > 0 && told(1) == Some(each), "{ends:?}");
    assert_eq!(object["usage"]["llm_tokens"], 3 * each, "{object}");
}

#[test]
fn a_model_that_was_not_granted_is_denied_or_not_there() {
    let place = Place::new();
    place.work_policy("");
    let results = warden_tests::probe(&place, json!([{"op": "llm.complete", "messages": [["user", "hello"]]}]));
    let code = results[0]["error"]["code"].as_str();
    assert!(matches!(code, Some("denied" | "unavailable")), "{results:?}");
    let place = replaying(&[claims()], "");
    let script = json!([{"op": "llm.call_tools", "messages": [["user", "hello"]]}]);
    assert_eq!(ok(&warden_tests::probe(&place, script)[0])["tool_calls_json"], "[]");
}

/// A denial is an observation: the model is told the rule and plans around it.
#[test]
fn a_denial_is_told_to_the_model_and_the_task_goes_on() {
    let first = acts(json!([
        {"capability": "fs.read_file", "input": {"path": "work:.env"}},
        {"capability": "proc.spawn", "input": {"command": "curl", "args": ["http://x"]}},
    ]));
    let mut second = writes("work:SUMMARY.md", "fixed");
    second["expect"] = json!("deny\\[0\\]");
    let place = Place::new();
    let replay = "[llm]\nprovider = \"replay\"\nfile = \"run.jsonl\"\n";
    place.work_policy(&format!("deny = [\"**/.env\"]\n{replay}"));
    place.put("work/.env", "TOPSECRET");
    let lines: Vec<String> = [first, second, claims()].iter().map(Value::to_string).collect();
    place.write("run.jsonl", &lines.join("\n"));
    let object = Task::goal("Look.").success(summary()).run(&place).outcome("done");
    let all = actions(&object);
    denied(&all[0], "deny[0]");
    denied(&all[1], "default-deny");
    succeeded(&all[2]);
    assert_eq!(object["denials"].as_array().map(Vec::len), Some(2), "{object}");
    assert!(!object.to_string().contains("TOPSECRET"));
}
