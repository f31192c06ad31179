//! Reading a model's turn: tool calls, or one JSON object as text, bare or in one code fence with prose around it.
//!
//! Both forms are accepted at every turn. Whatever else comes back is a fault that names what was wrong, for the model to repair; the text is
//! hostile (T-16): bounded before it is parsed, and the parser's own depth limit holds.

use serde::Deserialize;
use serde_json::{Map, Value};

/// Longest answer that is parsed, bytes.
pub const ANSWER_MAX_BYTES: usize = 512 * 1024;

/// One act of a plan, not yet checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    pub capability: String,
    pub input: Map<String, Value>,
    pub audit_tag: Option<String>,
}

/// What a model wants next.
#[derive(Debug, Clone, PartialEq)]
pub enum Turn {
    Continue { thought: String, actions: Vec<Planned> },
    Complete { reason: String, result: Value },
}

/// Why an answer is no turn, in words that a model can act on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TurnFault {
    #[error("the answer is longer than {ANSWER_MAX_BYTES} bytes")]
    TooLong,
    #[error("the answer is empty")]
    Empty,
    #[error("the answer is not JSON ({0}); answer with one JSON object, bare or in one code fence")]
    NotJson(String),
    #[error("the answer holds {0} code fences; put the one JSON object into one fence")]
    Fences(usize),
    #[error("the answer is JSON of another kind; answer with one object that has \"status\"")]
    OtherJson,
    #[error("\"status\" must be \"continue\" or \"complete\"")]
    Status,
    #[error("the object does not fit: {0}")]
    Fields(String),
    #[error("\"continue\" needs at least one action")]
    NoActions,
    #[error("tool call {place}: {problem}")]
    ToolCall { place: usize, problem: String },
}

#[derive(Deserialize)]
struct TextTurn {
    status: String,
    #[serde(default)]
    thought: Option<String>,
    #[serde(default)]
    actions: Option<Vec<TextAction>>,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    result: Value,
}

#[derive(Deserialize)]
struct TextAction {
    capability: String,
    #[serde(default)]
    input: Map<String, Value>,
    #[serde(default)]
    audit_tag: Option<String>,
}

#[derive(Deserialize)]
struct ToolCall {
    function: ToolFunction,
}

#[derive(Deserialize)]
struct ToolFunction {
    name: String,
    #[serde(default)]
    arguments: Value,
}

/// Reads an answer in words. Tool calls written out as text are taken as what they are.
pub fn from_text(answer: &str) -> Result<Turn, TurnFault> {
    if answer.len() > ANSWER_MAX_BYTES {
        return Err(TurnFault::TooLong);
    }
    let spoken = without_reasoning(answer).trim();
    if spoken.is_empty() {
        return Err(TurnFault::Empty);
    }
    from_value(find_json(spoken)?)
}

/// Reads tool calls, the list of `llm.call-tools`. `None`: the model called no tool and has to be asked for words.
pub fn from_tool_calls(calls_json: &str) -> Result<Option<Turn>, TurnFault> {
    if calls_json.len() > ANSWER_MAX_BYTES {
        return Err(TurnFault::TooLong);
    }
    match serde_json::from_str(calls_json).map_err(not_json)? {
        Value::Null => Ok(None),
        Value::Array(calls) if calls.is_empty() => Ok(None),
        Value::Array(calls) => calls_turn(String::new(), calls).map(Some),
        _ => Err(TurnFault::OtherJson),
    }
}

fn not_json(error: serde_json::Error) -> TurnFault {
    TurnFault::NotJson(error.to_string())
}

/// Some models think aloud in a leading `<think>` element; it is no part of the turn.
fn without_reasoning(answer: &str) -> &str {
    let begun = answer.trim_start().strip_prefix("<think>");
    begun.and_then(|rest| rest.split_once("</think>")).map_or(answer, |(_, after)| after)
}

fn find_json(spoken: &str) -> Result<Value, TurnFault> {
    let bare = match serde_json::from_str(spoken) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    let fences = fenced(spoken);
    match fences.as_slice() {
        [] => Err(not_json(bare)),
        [one] => serde_json::from_str(one).map_err(not_json),
        more => Err(TurnFault::Fences(more.len())),
    }
}

/// The contents of the code fences. A fence opens and closes at the beginning of a line, so that one quoted in a JSON string is none.
fn fenced(spoken: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Option<String> = None;
    for line in spoken.lines() {
        let mark = line.trim();
        match open.as_mut() {
            None if mark.starts_with("```") => open = Some(String::new()),
            None => {}
            Some(_) if mark == "```" => found.extend(open.take()),
            Some(inside) => {
                inside.push_str(line);
                inside.push('\n');
            }
        }
    }
    // An answer that was cut at its token limit leaves its fence open; its JSON will say what is missing.
    found.extend(open);
    found
}

fn from_value(value: Value) -> Result<Turn, TurnFault> {
    match value {
        Value::Array(calls) => calls_turn(String::new(), calls),
        Value::Object(mut object) => match object.remove("tool_calls") {
            Some(Value::Array(calls)) if !object.contains_key("status") => {
                let words = object.get("content").and_then(Value::as_str).unwrap_or("");
                calls_turn(words.to_owned(), calls)
            }
            _ => status_turn(object),
        },
        _ => Err(TurnFault::OtherJson),
    }
}

fn status_turn(object: Map<String, Value>) -> Result<Turn, TurnFault> {
    if !object.contains_key("status") {
        return Err(TurnFault::OtherJson);
    }
    let turn: TextTurn = serde_json::from_value(Value::Object(object)).map_err(|error| TurnFault::Fields(error.to_string()))?;
    match turn.status.as_str() {
        "continue" => {
            let actions: Vec<Planned> = turn.actions.unwrap_or_default().into_iter().map(Planned::from).collect();
            if actions.is_empty() {
                return Err(TurnFault::NoActions);
            }
            Ok(Turn::Continue { thought: turn.thought.unwrap_or_default(), actions })
        }
        "complete" => Ok(Turn::Complete { reason: turn.reason.or(turn.thought).unwrap_or_default(), result: turn.result }),
        _ => Err(TurnFault::Status),
    }
}

impl From<TextAction> for Planned {
    fn from(action: TextAction) -> Self {
        Self { capability: action.capability, input: action.input, audit_tag: action.audit_tag }
    }
}

fn calls_turn(thought: String, calls: Vec<Value>) -> Result<Turn, TurnFault> {
    if calls.is_empty() {
        return Err(TurnFault::NoActions);
    }
    let actions: Result<Vec<Planned>, TurnFault> = (1..).zip(calls).map(|(place, call)| tool_call(place, call)).collect();
    Ok(Turn::Continue { thought, actions: actions? })
}

fn tool_call(place: usize, call: Value) -> Result<Planned, TurnFault> {
    let fault = |problem: String| TurnFault::ToolCall { place, problem };
    let call: ToolCall = serde_json::from_value(call).map_err(|error| fault(error.to_string()))?;
    let arguments = match call.function.arguments {
        Value::String(text) if text.trim().is_empty() => Value::Object(Map::new()),
        Value::String(text) => serde_json::from_str(&text).map_err(|error| fault(format!("\"arguments\" is not JSON: {error}")))?,
        Value::Null => Value::Object(Map::new()),
        other => other,
    };
    match arguments {
        Value::Object(input) => Ok(Planned { capability: call.function.name, input, audit_tag: None }),
        _ => Err(fault("\"arguments\" must be a JSON object".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const BARE: &str =
        r#"{"status":"continue","thought":"look","actions":[{"capability":"fs.list_dir","input":{"path":"repo:"},"audit_tag":"t1"}]}"#;

    fn look() -> Turn {
        let input = json!({"path": "repo:"}).as_object().unwrap().clone();
        Turn::Continue {
            thought: "look".into(),
            actions: vec![Planned { capability: "fs.list_dir".into(), input, audit_tag: Some("t1".into()) }],
        }
    }

    #[test]
    fn the_text_form_is_read_bare_and_fenced() {
        assert_eq!(from_text(BARE), Ok(look()));
        assert_eq!(from_text(&format!("\n  {BARE}\n")), Ok(look()));
        assert_eq!(from_text(&format!("First I look.\n```json\n{BARE}\n```\nThen we see.")), Ok(look()));
        assert_eq!(from_text(&format!("```\n{BARE}\n```")), Ok(look()));
        assert_eq!(from_text(&format!("<think>hm {{}} ```</think>\n{BARE}")), Ok(look()));
    }

    #[test]
    fn a_fence_quoted_in_a_string_is_no_fence() {
        let turn = json!({"status": "complete", "reason": "see\n```\ncode\n```\n", "result": 1});
        let answer = format!("Done.\n```json\n{}\n```", serde_json::to_string_pretty(&turn).unwrap());
        assert!(matches!(from_text(&answer), Ok(Turn::Complete { .. })));
    }

    #[test]
    fn a_completion_has_a_reason_and_any_result() {
        let answer = r#"{"status":"complete","reason":"tests pass","result":{"fixed":true}}"#;
        assert_eq!(from_text(answer), Ok(Turn::Complete { reason: "tests pass".into(), result: json!({"fixed": true}) }));
        assert_eq!(from_text(r#"{"status":"complete"}"#), Ok(Turn::Complete { reason: String::new(), result: Value::Null }));
    }

    #[test]
    fn tool_calls_are_read_in_both_places() {
        let calls = r#"[{"id":"c1","type":"function","function":{"name":"fs_read_file","arguments":"{\"path\":\"a\"}"}},
                        {"id":"c2","type":"function","function":{"name":"policy_describe","arguments":""}}]"#;
        let turn = from_tool_calls(calls).unwrap().unwrap();
        let Turn::Continue { thought, actions } = &turn else { panic!("{turn:?}") };
        assert_eq!((thought.as_str(), actions.len()), ("", 2));
        assert_eq!(actions[0].capability, "fs_read_file");
        assert_eq!(actions[0].input["path"], "a");
        assert!(actions[1].input.is_empty());
        assert_eq!(from_text(calls), Ok(turn.clone()));
        let wrapped = from_text(&format!(r#"{{"content":"I read.","tool_calls":{calls}}}"#));
        assert!(matches!(wrapped, Ok(Turn::Continue { thought, actions }) if thought == "I read." && actions.len() == 2));
        assert_eq!(from_tool_calls("[]"), Ok(None));
    }

    #[test]
    fn what_is_no_turn_says_why() {
        let fault = |answer: &str| from_text(answer).unwrap_err();
        assert_eq!(fault("  "), TurnFault::Empty);
        assert!(matches!(fault("I think I should look around."), TurnFault::NotJson(_)));
        assert!(matches!(fault(r#"Sure: {"status":"complete"}"#), TurnFault::NotJson(_)));
        assert_eq!(fault("```\n{}\n```\n```\n{}\n```"), TurnFault::Fences(2));
        assert_eq!(fault("{}"), TurnFault::OtherJson);
        assert_eq!(fault("42"), TurnFault::OtherJson);
        assert_eq!(fault("[]"), TurnFault::NoActions);
        assert_eq!(fault(r#"{"status":"paused"}"#), TurnFault::Status);
        assert_eq!(fault(r#"{"status":"continue","actions":[]}"#), TurnFault::NoActions);
        assert!(matches!(fault(r#"{"status":"continue","actions":[{"capability":"a","input":"b"}]}"#), TurnFault::Fields(_)));
        assert!(matches!(fault(r#"[{"function":{"name":"a","arguments":"{"}}]"#), TurnFault::ToolCall { place: 1, .. }));
        assert!(matches!(fault(r#"[{"function":{"name":"a","arguments":"[1]"}}]"#), TurnFault::ToolCall { .. }));
        assert!(matches!(fault(&format!("```json\n{}", r#"{"status":"cont"#)), TurnFault::NotJson(_)));
        assert_eq!(fault(&"x".repeat(ANSWER_MAX_BYTES + 1)), TurnFault::TooLong);
    }

    #[test]
    fn deep_nesting_is_a_fault_and_no_overflow() {
        assert!(matches!(from_text(&"[".repeat(200_000)), Err(TurnFault::NotJson(_))));
        assert!(matches!(from_text(&r#"{"a":"#.repeat(50_000)), Err(TurnFault::NotJson(_))));
    }
}
