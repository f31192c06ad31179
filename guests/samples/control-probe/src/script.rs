//! The script: the task's text, JSON.
//!
//! ```json
//! {"script": [
//!   {"op": "fs.open_workspace", "as": "root"},
//!   {"op": "fs.open_file", "dir": "root", "path": "a.txt", "options": {"read": true}, "as": "f"},
//!   {"op": "fs.read", "file": "f", "max_bytes": 100},
//!   {"op": "repeat", "times": 1000, "each": {"op": "policy.describe"}}
//! ]}
//! ```
//!
//! All runs in the first step, unless an op ends it: `plan` hands actions to the host and goes on with the next op when it is called again, with
//! the observation in its result; `fail` returns an `agent-error` and goes on likewise. After the last op, or at `complete`, the answer is a
//! `complete-plan` whose outcome is `{"results":[…]}`, one result an op, and stays so if asked again:
//!
//! - `{"op":"fs.read","ok":…}`: the call worked. Bytes are `{"len":3,"text":"abc"}`, or `{"len":2,"hex":"00ff"}` when not UTF-8, or only `len` with
//!   `"discard":true`. Handles give `null`.
//! - `{"op":"fs.read","error":{"code":"denied","message":"…","detail":"…"|null}}`: the host said no.
//! - `{"op":"fs.read","script_error":"…"}`: the script is wrong (no such handle).
//!
//! A failed op does not end the script. Bytes to write are one of `"text":"…"`, `"hex":"…"`, `"fill":{"byte":120,"len":1000}`. `as` names a handle; the same
//! name again drops the one before it; within `repeat` a `#` in it becomes the turn's number, so that many can be held.

use serde::Deserialize;
use serde_json::{Map, Value};

/// The whole script.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    pub script: Vec<Value>,
}

/// Bytes that a script gives.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bytes {
    Text(String),
    Hex(String),
    Fill { byte: u8, len: usize },
}

impl Bytes {
    /// The bytes themselves; none when the hex is no hex.
    pub fn into_vec(self) -> Option<Vec<u8>> {
        match self {
            Self::Text(text) => Some(text.into_bytes()),
            Self::Fill { byte, len } => Some(vec![byte; len]),
            Self::Hex(hex) => (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok()).collect(),
        }
    }
}

/// One environment variable.
#[derive(Debug, Clone, Deserialize)]
pub struct Variable {
    pub key: String,
    pub value: String,
}

/// `file-open-options`; what is left out is false.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OpenOptions {
    pub read: bool,
    pub write: bool,
    pub append: bool,
    pub create: bool,
    pub truncate: bool,
}

/// Files.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "op")]
pub enum FsOp {
    #[serde(rename = "fs.open_workspace")]
    OpenWorkspace {
        #[serde(rename = "as")]
        name: String,
    },
    #[serde(rename = "fs.open_dir")]
    OpenDir {
        dir: String,
        path: String,
        #[serde(rename = "as")]
        name: String,
    },
    #[serde(rename = "fs.ensure_dir")]
    EnsureDir {
        dir: String,
        path: String,
        #[serde(rename = "as")]
        name: String,
    },
    #[serde(rename = "fs.remove_dir")]
    RemoveDir {
        dir: String,
        path: String,
        #[serde(default)]
        recursive: bool,
    },
    #[serde(rename = "fs.remove_file")]
    RemoveFile { dir: String, path: String },
    #[serde(rename = "fs.rename")]
    Rename { dir: String, from: String, to: String },
    #[serde(rename = "fs.list")]
    List { dir: String },
    #[serde(rename = "fs.metadata")]
    Metadata { dir: String, path: Option<String> },
    #[serde(rename = "fs.open_file")]
    OpenFile {
        dir: String,
        path: String,
        #[serde(default)]
        options: OpenOptions,
        #[serde(rename = "as")]
        name: String,
    },
    #[serde(rename = "fs.read")]
    Read {
        file: String,
        max_bytes: u64,
        #[serde(default)]
        discard: bool,
    },
    #[serde(rename = "fs.read_string")]
    ReadString { file: String, max_bytes: u64 },
    #[serde(rename = "fs.write")]
    Write {
        file: String,
        #[serde(flatten)]
        bytes: Bytes,
    },
    #[serde(rename = "fs.write_string")]
    WriteString {
        file: String,
        text: String,
        #[serde(default)]
        newline: bool,
    },
    #[serde(rename = "fs.set_len")]
    SetLen { file: String, len: u64 },
    #[serde(rename = "fs.flush")]
    Flush { file: String },
    #[serde(rename = "fs.close_dir")]
    CloseDir { dir: String },
    #[serde(rename = "fs.close_file")]
    CloseFile { file: String },
}

/// Commands. Standard streams are `inherit`, `null` or `pipe`; left out, input is `null` and the outputs are `pipe`.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "op")]
pub enum ProcOp {
    #[serde(rename = "proc.spawn")]
    Spawn {
        command: String,
        #[serde(default)]
        argv: Vec<String>,
        cwd: Option<String>,
        #[serde(default)]
        env: Vec<Variable>,
        stdin: Option<String>,
        stdout: Option<String>,
        stderr: Option<String>,
        timeout_ms: Option<u64>,
        #[serde(rename = "as")]
        name: String,
    },
    #[serde(rename = "proc.write_stdin")]
    WriteStdin {
        process: String,
        #[serde(flatten)]
        bytes: Bytes,
        #[serde(default)]
        eof: bool,
    },
    #[serde(rename = "proc.read_stdout")]
    ReadStdout {
        process: String,
        max_bytes: u32,
        #[serde(default)]
        discard: bool,
    },
    #[serde(rename = "proc.read_stderr")]
    ReadStderr {
        process: String,
        max_bytes: u32,
        #[serde(default)]
        discard: bool,
    },
    /// Reads one stream to its end, or to `max_bytes` (1 MiB when left out).
    #[serde(rename = "proc.drain")]
    Drain {
        process: String,
        stream: String,
        max_bytes: Option<usize>,
        #[serde(default)]
        discard: bool,
    },
    #[serde(rename = "proc.wait")]
    Wait { process: String, timeout_ms: Option<u64> },
    #[serde(rename = "proc.signal")]
    Signal { process: String, signal: String },
    #[serde(rename = "proc.close")]
    Close { process: String },
}

/// Policy, model, browser, input.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "op")]
pub enum OtherOp {
    #[serde(rename = "policy.describe")]
    Describe,
    #[serde(rename = "policy.claim_budget")]
    ClaimBudget { kind: String, units: u64 },
    #[serde(rename = "policy.request_capability")]
    RequestCapability { capability: String, scope: Option<String>, justification: String },
    #[serde(rename = "policy.log_event")]
    LogEvent { event_type: String, step: Option<u32>, payload: String },
    /// `messages` are `[["user","text"],…]`.
    #[serde(rename = "llm.complete")]
    Complete { messages: Vec<(String, String)>, max_tokens: Option<u32> },
    /// With one tool, `fs_list_dir`, when `tools` is left out; `tools` are `[["name","description","{schema}"],…]`.
    #[serde(rename = "llm.call_tools")]
    CallTools { messages: Vec<(String, String)>, tools: Option<Vec<(String, String, String)>>, max_tokens: Option<u32> },
    #[serde(rename = "browser.open_session")]
    OpenSession,
    #[serde(rename = "input.key_sequence")]
    KeySequence { text: String },
    #[serde(rename = "input.send_key_chord")]
    SendKeyChord { key: String },
    #[serde(rename = "input.mouse_move")]
    MouseMove { x: i32, y: i32 },
    #[serde(rename = "input.mouse_click")]
    MouseClick,
    #[serde(rename = "input.mouse_scroll")]
    MouseScroll { vertical: i32 },
}

/// An action of a `plan`; `input_text` is handed on as it stands, JSON or not.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedAction {
    pub capability: String,
    #[serde(default)]
    pub input: Map<String, Value>,
    pub input_text: Option<String>,
    pub audit_tag: Option<String>,
}

/// The script's own course.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "op")]
pub enum CourseOp {
    /// Ends the step with a `continue-plan`.
    #[serde(rename = "plan")]
    Plan {
        #[serde(default)]
        thought: String,
        actions: Vec<PlannedAction>,
    },
    /// Ends the script; `outcome_text` is the outcome as it stands, JSON or not, in place of the results.
    #[serde(rename = "complete")]
    Complete { reason: Option<String>, outcome_text: Option<String> },
    /// Ends the step with an `agent-error`.
    #[serde(rename = "fail")]
    Fail { retryable: bool, message: String },
    /// `{"step","summary","data"}` of the step that runs.
    #[serde(rename = "observation")]
    Observation,
    /// One op many times: `{"ok":n,"errors":{"denied":m},"script_errors":k,"last":…}`.
    #[serde(rename = "repeat")]
    Repeat { times: u64, each: Value },
    /// Drops a handle without closing it.
    #[serde(rename = "drop")]
    Drop { handle: String },
}

/// Misbehaviour. None of these returns, but `alloc`, when memory is refused: `{"bytes":n}` that it held.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "op")]
pub enum MisbehaviourOp {
    /// Loops for ever.
    #[serde(rename = "spin")]
    Spin,
    /// Executes `unreachable`.
    #[serde(rename = "trap")]
    Trap,
    /// Panics.
    #[serde(rename = "panic")]
    Panic { message: Option<String> },
    /// Recurses until the stack is used up.
    #[serde(rename = "recurse")]
    Recurse,
    /// Takes and touches memory, `step_bytes` (1 MiB when left out) at a time, until it is refused or `max_bytes` are held; then gives it back.
    #[serde(rename = "alloc")]
    Alloc { step_bytes: Option<usize>, max_bytes: Option<usize> },
    /// Takes memory until the allocator gives up, which traps.
    #[serde(rename = "alloc_abort")]
    AllocAbort,
    /// A result as long as this.
    #[serde(rename = "big_result")]
    BigResult { len: usize },
}

/// Any op.
#[derive(Debug, Clone)]
pub enum Op {
    Fs(FsOp),
    Proc(ProcOp),
    Other(OtherOp),
    Course(CourseOp),
    Misbehaviour(MisbehaviourOp),
}

/// Reads one op; the error is for the script's author.
pub fn op(value: &Value) -> Result<Op, String> {
    let name = name(value);
    let read = |error: serde_json::Error| format!("{name}: {error}");
    match name.split_once('.').map(|(family, _)| family) {
        Some("fs") => FsOp::deserialize(value).map(Op::Fs).map_err(read),
        Some("proc") => ProcOp::deserialize(value).map(Op::Proc).map_err(read),
        Some(_) => OtherOp::deserialize(value).map(Op::Other).map_err(read),
        None if ["plan", "complete", "fail", "observation", "repeat", "drop"].contains(&name) => {
            CourseOp::deserialize(value).map(Op::Course).map_err(read)
        }
        None => MisbehaviourOp::deserialize(value).map(Op::Misbehaviour).map_err(read),
    }
}

/// An op's name.
pub fn name(value: &Value) -> &str {
    value.get("op").and_then(Value::as_str).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ops_of_every_family_are_read() {
        for (value, wanted) in [
            (json!({"op": "fs.open_workspace", "as": "root"}), "OpenWorkspace"),
            (json!({"op": "fs.open_file", "dir": "root", "path": "a", "options": {"read": true}, "as": "f"}), "read: true"),
            (json!({"op": "fs.write", "file": "f", "fill": {"byte": 1, "len": 3}}), "Fill"),
            (json!({"op": "proc.spawn", "command": "git", "as": "p"}), "Spawn"),
            (json!({"op": "proc.write_stdin", "process": "p", "text": "x", "eof": true}), "eof: true"),
            (json!({"op": "policy.describe"}), "Describe"),
            (json!({"op": "llm.complete", "messages": [["user", "hi"]]}), "hi"),
            (json!({"op": "repeat", "times": 2, "each": {"op": "policy.describe"}}), "Repeat"),
            (json!({"op": "plan", "actions": [{"capability": "a", "input_text": "{"}]}), "input_text: Some"),
            (json!({"op": "alloc"}), "Alloc"),
        ] {
            let read = format!("{:?}", op(&value).unwrap());
            assert!(read.contains(wanted), "{read}");
        }
    }

    #[test]
    fn a_wrong_op_says_so() {
        for value in
            [json!({"op": "fs.fly"}), json!({"op": "fs.read", "file": "f"}), json!({"op": "dance"}), json!({}), json!({"op": "plan"})]
        {
            assert!(op(&value).is_err(), "{value}");
        }
    }

    #[test]
    fn bytes_have_three_forms() {
        assert_eq!(Bytes::Hex("00ff".into()).into_vec(), Some(vec![0, 255]));
        assert_eq!(Bytes::Hex("0".into()).into_vec(), None);
        assert_eq!(Bytes::Text("a".into()).into_vec(), Some(vec![97]));
        assert_eq!(Bytes::Fill { byte: 7, len: 2 }.into_vec(), Some(vec![7, 7]));
    }
}
