//! `llm.complete` and `llm.call_tools`: done, denied by their rule, stopped by their limits. (Killed midway: `midway.rs`.)

use serde_json::{Value, json};
use warden_tests::manifest::{self, denied, error, failed, ok, succeeded};
use warden_tests::{Place, Task, log, probe};

const REPLAY: &str = "[llm]\nprovider = \"replay\"\nfile = \"run.jsonl\"\n";
const BOTH: [&str; 2] = ["llm.complete", "llm.call_tools"];

/// A place whose model answers with `lines`, one a call.
fn replaying(lines: &[Value], rest: &str) -> Place {
    let place = Place::new();
    place.work_policy(&format!("{REPLAY}{rest}"));
    let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
    place.write("run.jsonl", &lines.join("\n"));
    place
}

fn ask(capability: &str) -> Value {
    json!({"op": capability, "messages": [["user", "hello"]]})
}

fn as_action() -> (&'static str, Value) {
    ("llm.complete", json!({"messages": [{"role": "user", "content": "hello"}]}))
}

#[test]
fn a_model_answers_with_text_and_with_calls_of_tools() {
    let usage = json!({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7});
    let call = json!({"id": "c1", "type": "function", "function": {"name": "fs_list_dir", "arguments": "{}"}});
    let text = json!({"content": "some text", "finish_reason": "stop", "usage": usage});
    let tools = json!({"tool_calls": [call], "finish_reason": "tool_calls", "usage": usage});
    let place = replaying(&[text.clone(), tools.clone(), text, tools], "");
    let results = probe(&place, json!([ask(BOTH[0]), ask(BOTH[1]), ask(BOTH[1]), ask(BOTH[0])]));
    let first = ok(&results[0]);
    assert_eq!((&first["content"], &first["finish_reason"]), (&json!("some text"), &json!("stop")));
    assert_eq!(first["usage"]["total_tokens"], 7, "{first}");
    let second = ok(&results[1]);
    let calls: Value = serde_json::from_str(second["tool_calls_json"].as_str().expect("JSON as text")).expect("JSON");
    assert_eq!((&calls, &second["finish_reason"]), (&json!([call]), &json!("tool_calls")));
    assert_eq!(second["usage"]["total_tokens"], 7, "{second}");
    // A text is no call of a tool, and a call of a tool is not lost where text was wanted.
    assert_eq!(ok(&results[2])["tool_calls_json"], "[]");
    assert!(ok(&results[3])["content"].as_str().is_some_and(|text| text.contains("fs_list_dir")), "{}", results[3]);
    // T-09: each is on record under its own name, before and after.
    for capability in BOTH {
        let phases: Vec<Value> = log::of(&place, capability).iter().map(|record| record["phase"].clone()).collect();
        assert_eq!(phases, ["begin", "end", "begin", "end"], "{capability}");
    }
    log::verify_complete(&place);
}

/// No model is granted, or a person would have to be asked: denied, with the rule, and not merely not there.
#[test]
fn a_model_is_denied_by_its_rule() {
    let none = Place::new();
    none.work_policy("");
    let asks = replaying(&[json!({"content": "x"})], "[approval]\nask = [\"llm.*\"]\nvia = \"deny\"\n");
    for (place, rule) in [(&none, "default-deny"), (&asks, "user:approval.ask[0]")] {
        let object = Task::script(&json!([ask(BOTH[0]), ask(BOTH[1])])).run(place).outcome("unverified");
        for (denial, capability) in object["denials"].as_array().expect("denials").iter().zip(BOTH) {
            assert_eq!((&denial["capability"], &denial["rule"]), (&json!(capability), &json!(rule)), "{object}");
        }
        assert_eq!(object["denials"].as_array().map(Vec::len), Some(2), "{object}");
        let results = probe(place, json!([ask(BOTH[0]), ask(BOTH[1])]));
        for result in &results {
            error(result, "denied");
        }
        denied(&Task::runbook(&[as_action()]).actions(place)[0], rule);
        for record in log::of(place, "llm.complete") {
            assert_eq!((&record["decision"], &record["rule"]), (&json!("deny"), &json!(rule)), "{record}");
        }
    }
    // The control: the same model with nobody to be asked.
    let place = replaying(&[json!({"content": "x"})], "");
    assert_eq!(succeeded(&Task::runbook(&[as_action()]).actions(&place)[0])["content"], "x");
}

/// T-16: calls and tokens are counted for both alike, and a refused call costs no line of the recording.
#[test]
fn both_are_stopped_by_their_limits() {
    let line = |n: u32| json!({"content": format!("[{n}]"), "usage": {"total_tokens": 100}});
    let lines: Vec<Value> = (1..=6).map(line).collect();
    for (rest, rule) in
        [("[limits]\nllm_calls = 2\n", "limits.llm_calls"), ("[limits]\nllm_tokens = 150\n", "limits.llm_tokens")]
    {
        let place = replaying(&lines, rest);
        let object =
            Task::script(&json!([ask(BOTH[0]), ask(BOTH[1]), ask(BOTH[0]), ask(BOTH[1])])).run(&place).object();
        let results: Value = serde_json::from_str(object["result"].as_str().expect("a result")).expect("JSON");
        let results = results["results"].as_array().expect("results").clone();
        assert_eq!(ok(&results[0])["content"], "[1]");
        assert_eq!(ok(&results[1])["tool_calls_json"], "[2]");
        error(&results[2], "limit");
        error(&results[3], "limit");
        let spent = log::of(&place, "llm.call_tools");
        let last = spent.last().expect("its record");
        assert_eq!((&last["result"]["error"], &last["decision"]), (&json!("limit"), &Value::Null), "{last}");
        assert!(last["rule"].as_str().is_some_and(|found| found.contains(rule)), "{last}");
        assert_eq!(object["usage"]["llm_tokens"], 200, "two answers were paid for and no more: {object}");
    }
    // As an action, the limit's rule is told.
    let place = replaying(&lines, "[limits]\nllm_calls = 1\n");
    let object = Task::runbook(&[as_action(), as_action()]).run(&place).object();
    let actions = manifest::actions(&object);
    succeeded(&actions[0]);
    assert_eq!(failed(&actions[1], "limit")["rule"], "user:limits.llm_calls");
}
