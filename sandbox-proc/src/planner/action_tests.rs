//! Every action in its forms: accepted, defaults, and each kind of mistake.

use super::*;
use warden_proto::msg::error::ErrorCode;

fn refused(capability: &str, input: &str) -> String {
    let error = parse(capability, input).unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidArgument);
    error.message.to_string()
}

#[test]
fn files_with_their_defaults() {
    let read = parse("fs.read_file", r#"{"path":"repo:a"}"#).unwrap();
    let expected = FileAction::Read { offset: 0, max_bytes: 4096, base64: false };
    assert_eq!(read, Action::Files { path: Text::cut("repo:a"), action: expected });
    let list = parse("fs.list_dir", "{}").unwrap();
    assert_eq!(list, Action::Files { path: Text::cut(""), action: FileAction::List });
    let write = parse("fs.write_file", r#"{"path":"a","contents":"aGk=","encoding":"base64","append":true}"#).unwrap();
    let expected = FileAction::Write { contents: b"hi".to_vec(), append: true, parents: false };
    assert_eq!(write, Action::Files { path: Text::cut("a"), action: expected });
    for (name, input) in [
        ("fs.metadata", r#"{"path":"a"}"#),
        ("fs.ensure_dir", r#"{"path":"a"}"#),
        ("fs.remove_file", r#"{"path":"a"}"#),
        ("fs.remove_dir", r#"{"path":"a","recursive":true}"#),
        ("fs.rename", r#"{"path":"a","to":"b"}"#),
    ] {
        assert!(matches!(parse(name, input), Ok(Action::Files { .. })), "{name}");
    }
}

/// T-08: it would be written, typed or sent in place of the secret, and nobody told.
#[test]
fn a_secret_that_is_named_anywhere_in_an_input_is_unavailable() {
    for (capability, input) in [
        ("fs.write_file", r#"{"path":"a","contents":"key={{secret:demo.key}}"}"#),
        ("fs.write_file", r#"{"path":"a","contents":"\u007b{secret:demo.key}}"}"#),
        ("fs.read_file", r#"{"path":"{{secret:demo.key}}"}"#),
        ("proc.spawn", r#"{"command":"a","args":["x","{{secret:demo.key}}"]}"#),
        ("proc.spawn", r#"{"command":"a","args":[],"env":[{"key":"K","value":"{{secret:demo.key}}"}]}"#),
        ("proc.write_stdin", r#"{"process":"a","data":"{{secret:demo.key}}"}"#),
        ("policy.log_event", r#"{"event_type":"a","payload":{"{{secret:demo.key}}":1}}"#),
    ] {
        let error = parse(capability, input).unwrap_err();
        assert_eq!(error.code, ErrorCode::Unavailable, "{input}");
        assert!(error.message.contains("`demo.key`"), "{error}");
    }
    parse("fs.write_file", r#"{"path":"a","contents":"{{secret}} {{other:demo.key}}"}"#).unwrap();
}

#[test]
fn mistakes_are_named() {
    assert!(refused("fs.read_file", "{}").contains("`path` of fs.read_file is missing"));
    assert!(refused("fs.read_file", r#"{"path":1}"#).contains("must be a string"));
    assert!(refused("fs.read_file", r#"{"path":"a","max_bytes":-1}"#).contains("`max_bytes`"));
    assert!(refused("fs.read_file", r#"{"path":"a","mode":"r"}"#).contains("no field `mode`"));
    assert!(refused("fs.read_file", r#"{"path":"a","encoding":"latin-1"}"#).contains("encoding"));
    assert!(refused("fs.write_file", r#"{"path":"a","contents":"*","encoding":"base64"}"#).contains("not base64"));
    assert!(refused("fs.read_file", "[]").contains("JSON object"));
    assert!(refused("fs.read_file", "{").contains("no JSON"));
    assert!(refused("fs.chmod", "{}").contains("no capability `fs.chmod`"));
    assert!(refused("shell", "{}").contains("no capability `shell`"));
    assert!(refused("fs.read_file", &format!(r#"{{"path":"{}"}}"#, "a".repeat(5000))).contains("longer than 4096"));
    let deep = format!(r#"{{"path":{}1{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    assert!(refused("fs.read_file", &deep).contains("no JSON"));
}

#[test]
fn commands_and_their_aliases() {
    let input = r#"{"command":"git","args":["status"],"cwd":"repo:","env":[{"key":"A","value":"b"}],"timeout_ms":5}"#;
    let Ok(Action::Spawn { line }) = parse("proc.spawn", input) else { panic!("spawn") };
    assert_eq!((line.name.as_str(), line.cwd.as_str(), line.command.timeout_ms), ("git", "repo:", Some(5)));
    assert_eq!(line.stdin, None);
    assert!(refused("proc.spawn", r#"{"command":"git","args":"status"}"#).contains("a list"));
    assert!(refused("proc.spawn", r#"{"command":"git","args":[1]}"#).contains("list of strings"));
    assert!(refused("proc.spawn", r#"{"command":"git","env":[{"key":"A"}]}"#).contains("`value`"));
    assert!(refused("proc.start", r#"{"command":"git"}"#).contains("`alias`"));
    for (alias, good) in [("a", true), ("A1_.-", true), ("1a", false), ("", false), ("a b", false), ("ä", false)] {
        assert_eq!(parse("proc.start", &format!(r#"{{"command":"x","alias":"{alias}"}}"#)).is_ok(), good, "{alias:?}");
    }
    for (length, good) in [(64, true), (65, false)] {
        let alias = "a".repeat(length);
        assert_eq!(parse("proc.start", &format!(r#"{{"command":"x","alias":"{alias}"}}"#)).is_ok(), good, "{length}");
    }
}

#[test]
fn started_processes() {
    let read = parse("proc.read", r#"{"process":"p","stream":"stdout","max_bytes":99999999999}"#).unwrap();
    let action = ProcessAction::Read { stream: Stream::Stdout, max_bytes: u32::try_from(INLINE_MAX_BYTES).unwrap() };
    assert_eq!(read, Action::Process { alias: "p".into(), action });
    assert!(parse("proc.wait", r#"{"process":"p","timeout_ms":null}"#).is_ok());
    assert!(parse("proc.signal", r#"{"process":"p","signal":"term"}"#).is_ok());
    assert!(refused("proc.signal", r#"{"process":"p","signal":"stop"}"#).contains("hangup"));
    assert!(refused("proc.read", r#"{"process":"p","stream":"both"}"#).contains("stderr"));
    let long = format!(r#"{{"process":"p","data":"{}"}}"#, "a".repeat(INLINE_MAX_BYTES + 1));
    assert!(refused("proc.write_stdin", &long).contains("in parts"));
}

#[test]
fn policy_and_model() {
    assert_eq!(parse("policy.describe", "{}").unwrap(), Action::Policy { call: PolicyCall::Describe });
    let claim = parse("policy.claim_budget", r#"{"kind":"llm-tokens","units":5}"#).unwrap();
    assert_eq!(claim, Action::Policy { call: PolicyCall::ClaimBudget { kind: BudgetKind::LlmTokens, units: 5 } });
    assert!(refused("policy.claim_budget", r#"{"kind":"money","units":5}"#).contains("money"));
    assert!(parse("policy.log_event", r#"{"event_type":"note","payload":{"a":[1]}}"#).is_ok());
    assert!(parse("policy.request_capability", r#"{"capability":"net.fetch","justification":"why"}"#).is_ok());
    let complete = r#"{"messages":[{"role":"user","content":"hi"}],"options":{"temperature":0.25,"stop":["x"]}}"#;
    let Ok(Action::Complete { options, .. }) = parse("llm.complete", complete) else { panic!("complete") };
    assert_eq!(options.temperature_milli, Some(250));
    assert!(refused("llm.complete", "{}").contains("messages"));
    assert!(refused("llm.complete", r#"{"messages":[{"role":"robot","content":""}]}"#).contains("robot"));
}

#[test]
fn what_is_not_there_is_known_by_name() {
    for capability in ["browser.open_session", "input.key_sequence", "net.fetch", "tools.run", "exec.run"] {
        assert_eq!(parse(capability, "{}").unwrap(), Action::Absent { capability: capability.into() });
    }
}
