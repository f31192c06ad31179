//! Replies as the JSON that observations and results show (contract, "Actions").
//!
//! Used by the worker for what the planner sees and by the broker for what the result says, so that the two cannot
//! differ: the broker renders what the helper told it, never what a worker says it was told (T-14).

use crate::msg::error::CallError;
use crate::msg::fs::{EntryKind, FsReply};
use crate::msg::llm::LlmReply;
use crate::msg::policy::{BudgetSnapshot, PolicyReply};
use crate::msg::proc::{DoorDenial, Exit, ProcReply, Toll};
use base64::Engine as _;
use serde_json::{Map, Value, json};

/// How an action succeeded or failed, for `actions[]`.
pub fn action(capability: &str, result: &Result<Value, CallError>) -> Value {
    match result {
        Ok(output) => json!({"capability": capability, "success": true, "output": output, "error": null}),
        Err(e) => json!({"capability": capability, "success": false, "output": null, "error": error(e)}),
    }
}

/// A failure, for `error`.
pub fn error(error: &CallError) -> Value {
    let rule = if error.rule.is_empty() { Value::Null } else { json!(error.rule.as_str()) };
    json!({"code": error.code.name(), "message": error.message.as_str(), "rule": rule})
}

/// Bytes as `encoding` and text: as they are when they are UTF-8, else base64.
pub fn bytes(bytes: &[u8]) -> (&'static str, String) {
    match std::str::from_utf8(bytes) {
        Ok(text) => ("utf-8", text.to_owned()),
        Err(_) => ("base64", base64(bytes)),
    }
}

/// Standard base64 with padding.
pub fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// What an action is about, for its output: the path or command as the guest wrote it.
#[derive(Debug, Clone, Default)]
pub struct Subject<'a> {
    /// `path` of the action, in `label:relative` form.
    pub path: &'a str,
    /// `to` of a rename.
    pub to: &'a str,
    /// Command, arguments and working directory.
    pub command: Option<(&'a str, &'a [String], &'a str)>,
    /// Alias of a process.
    pub process: &'a str,
    /// Content of the reply, blobs already put together: first and second.
    pub content: [&'a [u8]; 2],
    /// `encoding` asked for: `base64` forces it.
    pub force_base64: bool,
}

fn encoded(content: &[u8], force_base64: bool) -> (&'static str, String) {
    if force_base64 { ("base64", base64(content)) } else { bytes(content) }
}

/// Output of an `fs.*` action.
pub fn fs(subject: &Subject<'_>, reply: &FsReply) -> Value {
    let path = subject.path;
    match reply {
        FsReply::Done if subject.to.is_empty() => json!({"path": path}),
        FsReply::Done => json!({"path": path, "to": subject.to}),
        FsReply::Opened { size_bytes, .. } => json!({"path": path, "size_bytes": size_bytes}),
        FsReply::Content { truncated, .. } => {
            let (encoding, contents) = encoded(subject.content[0], subject.force_base64);
            json!({"path": path, "truncated": truncated, "encoding": encoding, "contents": contents})
        }
        FsReply::Data { bytes: data } => {
            let (encoding, contents) = encoded(data, subject.force_base64);
            json!({"encoding": encoding, "contents": contents})
        }
        FsReply::Written { bytes, .. } => json!({"path": path, "bytes_written": bytes}),
        FsReply::Entries { entries, next, total } => {
            let entries: Vec<Value> = entries.iter().map(entry).collect();
            json!({"path": path, "entries": entries, "total": total, "truncated": *next != 0})
        }
        FsReply::Metadata { entry: facts } => {
            let mut object = Map::new();
            object.insert("path".into(), json!(path));
            if let Value::Object(more) = entry(facts) {
                object.extend(more);
            }
            object.insert("readonly".into(), json!(facts.readonly));
            Value::Object(object)
        }
        FsReply::Closed { size_bytes, .. } => json!({"size_bytes": size_bytes}),
        FsReply::Checked { met, detail } => json!({"met": met, "detail": detail.as_str()}),
    }
}

fn entry(entry: &crate::msg::fs::Entry) -> Value {
    let kind = match entry.kind {
        EntryKind::File => "file",
        EntryKind::Directory => "directory",
        EntryKind::Symlink => "symlink",
        EntryKind::Other => "other",
    };
    json!({"name": entry.name.as_str(), "kind": kind, "size_bytes": entry.size_bytes, "modified_ms": entry.modified_ms})
}

/// Adds the page that follows to the output of an `fs.list_dir`: one action is one output, however many calls it took.
pub fn append_entries(whole: &mut Value, page: Value) {
    let (Value::Object(whole), Value::Object(mut page)) = (whole, page) else { return };
    let more = page.remove("entries");
    let (Some(Value::Array(entries)), Some(Value::Array(more))) = (whole.get_mut("entries"), more) else { return };
    entries.extend(more);
    if let Some(truncated) = page.remove("truncated") {
        whole.insert("truncated".to_owned(), truncated);
    }
}

fn exit(object: &mut Map<String, Value>, exit: &Exit) {
    object.insert("status".into(), json!(exit.code));
    object.insert("signal".into(), json!(exit.signal));
    object.insert("timed_out".into(), json!(exit.timed_out));
}

/// What the rules of a workspace refused a command: a model that hears the rule plans around it.
fn denied(object: &mut Map<String, Value>, toll: &Toll) {
    if toll.denials > 0 {
        let one = |denial: &DoorDenial| json!({"target": denial.target.as_str(), "rule": denial.rule.as_str()});
        object.insert("denied".into(), json!(toll.denied.iter().map(one).collect::<Vec<_>>()));
        object.insert("denials".into(), json!(toll.denials));
    }
}

/// Output of a `proc.*` action.
pub fn proc(subject: &Subject<'_>, reply: &ProcReply) -> Value {
    let mut object = Map::new();
    if let Some((command, args, cwd)) = subject.command {
        object.insert("command".into(), json!(command));
        object.insert("args".into(), json!(args));
        object.insert("cwd".into(), json!(cwd));
    }
    if !subject.process.is_empty() {
        object.insert("process".into(), json!(subject.process));
    }
    match reply {
        ProcReply::Done => {}
        ProcReply::Closed { toll } => denied(&mut object, toll),
        ProcReply::Started { degraded, .. } => {
            object.insert("degraded".into(), json!(degraded.iter().map(|d| d.as_str()).collect::<Vec<_>>()));
        }
        ProcReply::Ran { exit: how, truncated, degraded, toll, .. } => {
            exit(&mut object, how);
            denied(&mut object, toll);
            // Output of a command is text for the model: what is not UTF-8 in it is replaced.
            object.insert("stdout".into(), json!(String::from_utf8_lossy(subject.content[0])));
            object.insert("stderr".into(), json!(String::from_utf8_lossy(subject.content[1])));
            object.insert("truncated".into(), json!(truncated));
            object.insert("degraded".into(), json!(degraded.iter().map(|d| d.as_str()).collect::<Vec<_>>()));
        }
        ProcReply::Accepted { bytes } => {
            object.insert("bytes".into(), json!(bytes));
        }
        ProcReply::Data { bytes: data, eof } => {
            let (encoding, contents) = encoded(data, subject.force_base64);
            object.insert("encoding".into(), json!(encoding));
            object.insert("data".into(), json!(contents));
            object.insert("eof".into(), json!(eof));
        }
        ProcReply::Exited { exit: how, toll } => {
            exit(&mut object, how);
            denied(&mut object, toll);
        }
    }
    Value::Object(object)
}

/// Output of `llm.complete`; `content` is the reply's, put together.
pub fn llm(content: &[u8], reply: &LlmReply) -> Value {
    let usage = reply.usage.map(|usage| {
        json!({"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens,
            "total_tokens": usage.total_tokens})
    });
    let finish_reason = reply.finish_reason.as_ref().map(|reason| reason.as_str());
    json!({"content": String::from_utf8_lossy(content), "finish_reason": finish_reason, "usage": usage})
}

/// Output of a `policy.*` action.
pub fn policy(reply: &PolicyReply) -> Value {
    match reply {
        PolicyReply::Snapshot { workspaces, commands, budgets } => json!({
            "workspaces": workspaces.iter().map(|w| json!({"label": w.label.as_str(), "relative_root": w.relative_root.as_str(),
                "read_only": w.read_only, "max_file_bytes": w.max_file_bytes})).collect::<Vec<_>>(),
            "commands": commands.iter().map(|c| json!({"name": c.name.as_str(),
                "description": c.description.as_ref().map(|d| d.as_str())})).collect::<Vec<_>>(),
            "browser": null,
            "budgets": budgets.iter().map(budget).collect::<Vec<_>>(),
        }),
        PolicyReply::Budget { budget: b } => budget(b),
        PolicyReply::Granted { approved, reason } => {
            json!({"approved": approved, "reason": reason.as_ref().map(|r| r.as_str())})
        }
        PolicyReply::Logged => json!({}),
    }
}

fn budget(budget: &BudgetSnapshot) -> Value {
    json!({"kind": budget.kind.name(), "limit": budget.limit, "used": budget.used})
}
