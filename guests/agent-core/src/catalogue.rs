//! The actions that a plan may hold, as data: name, purpose, what it needs of the policy, fields of its input.
//!
//! Names and inputs are those of the action contract. From this table come the prompt, the tools' JSON schemas and the checks; the broker
//! has its own and is the one that decides.

use crate::host::Grants;
use serde_json::{Map, Value, json};

/// What the policy must hold for an action to be offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Nothing,
    AnyWorkspace,
    WritableWorkspace,
    AnyCommand,
}

/// How an action stands to aliases of started commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AliasUse {
    None,
    /// Its field `alias` names what it starts.
    Begins,
    /// Its field `process` names what was started.
    Refers,
}

/// The shape of one field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Text,
    /// `label:relative/path`.
    Path,
    Alias,
    Unsigned,
    Flag,
    Texts,
    /// `[{"key","value"}]`.
    Environment,
    Choice(&'static [&'static str]),
    Json,
}

/// One field of an input.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    pub name: &'static str,
    pub shape: Shape,
    pub required: bool,
    pub about: &'static str,
}

/// One action.
#[derive(Debug, Clone, Copy)]
pub struct Action {
    pub name: &'static str,
    pub about: &'static str,
    pub need: Need,
    pub alias_use: AliasUse,
    pub fields: &'static [Field],
}

const fn must(name: &'static str, shape: Shape, about: &'static str) -> Field {
    Field { name, shape, required: true, about }
}

const fn may(name: &'static str, shape: Shape, about: &'static str) -> Field {
    Field { name, shape, required: false, about }
}

const fn files(name: &'static str, about: &'static str, need: Need, fields: &'static [Field]) -> Action {
    Action { name, about, need, alias_use: AliasUse::None, fields }
}

const fn commands(name: &'static str, about: &'static str, alias_use: AliasUse, fields: &'static [Field]) -> Action {
    Action { name, about, need: Need::AnyCommand, alias_use, fields }
}

const fn anyone(name: &'static str, about: &'static str, fields: &'static [Field]) -> Action {
    Action { name, about, need: Need::Nothing, alias_use: AliasUse::None, fields }
}

/// Longest path, bytes.
pub const PATH_MAX_BYTES: usize = 4096;
/// Longest alias, bytes.
pub const ALIAS_MAX_BYTES: usize = 64;

const PATH: Field = must("path", Shape::Path, "label:relative/path");
const ENCODING: Field = may("encoding", Shape::Choice(&["utf-8", "base64"]), "of contents; utf-8 when left out");
const PROCESS: Field = must("process", Shape::Alias, "the alias given to proc.start");
const COMMAND: Field = must("command", Shape::Text, "a command's name from the list, not a path");
const ARGS: Field = must("args", Shape::Texts, "one string an argument; there is no shell");
const CWD: Field = may("cwd", Shape::Path, "label:relative/path of a directory");
const ENV: Field = may("env", Shape::Environment, "only names that the policy lets you set");
const STDIN: Field = may("stdin", Shape::Text, "text for its standard input");
const TIMEOUT: Field = may("timeout_ms", Shape::Unsigned, "milliseconds");
const MAX_BYTES: Field = may("max_bytes", Shape::Unsigned, "4096 when left out");

/// Every action this planner knows.
pub const CATALOGUE: &[Action] = &[
    files("fs.list_dir", "List a directory.", Need::AnyWorkspace, &[may("path", Shape::Path, "the first workspace's root when left out")]),
    files(
        "fs.read_file",
        "Read a file, or a piece of it.",
        Need::AnyWorkspace,
        &[PATH, may("offset", Shape::Unsigned, "byte to begin at"), MAX_BYTES, ENCODING],
    ),
    files("fs.metadata", "Kind, size and time of a file or directory.", Need::AnyWorkspace, &[PATH]),
    files(
        "fs.write_file",
        "Write a whole file; what it held before is replaced unless append is true.",
        Need::WritableWorkspace,
        &[
            PATH,
            must("contents", Shape::Text, "the whole new text"),
            ENCODING,
            may("append", Shape::Flag, "add to the end instead"),
            may("parents", Shape::Flag, "make missing directories on the way"),
        ],
    ),
    files("fs.ensure_dir", "Make a directory and those above it.", Need::WritableWorkspace, &[PATH]),
    files("fs.remove_file", "Remove a file.", Need::WritableWorkspace, &[PATH]),
    files(
        "fs.remove_dir",
        "Remove a directory.",
        Need::WritableWorkspace,
        &[PATH, may("recursive", Shape::Flag, "with all that is in it")],
    ),
    files(
        "fs.rename",
        "Rename or move within one workspace.",
        Need::WritableWorkspace,
        &[PATH, must("to", Shape::Path, "the new label:relative/path")],
    ),
    commands("proc.spawn", "Run a command to its end.", AliasUse::None, &[COMMAND, ARGS, CWD, ENV, STDIN, TIMEOUT]),
    commands(
        "proc.start",
        "Start a command that goes on while you plan.",
        AliasUse::Begins,
        &[COMMAND, ARGS, CWD, ENV, STDIN, TIMEOUT, must("alias", Shape::Alias, "a new name for it, unique in this task")],
    ),
    commands(
        "proc.write_stdin",
        "Write to a started command's standard input.",
        AliasUse::Refers,
        &[PROCESS, must("data", Shape::Text, "text"), may("eof", Shape::Flag, "close it afterwards")],
    ),
    commands(
        "proc.read",
        "Read what a started command has written; waits for a byte or its end.",
        AliasUse::Refers,
        &[PROCESS, must("stream", Shape::Choice(&["stdout", "stderr"]), "which"), MAX_BYTES],
    ),
    commands("proc.wait", "Wait for a started command to end.", AliasUse::Refers, &[PROCESS, TIMEOUT]),
    commands(
        "proc.signal",
        "Send a signal to a started command.",
        AliasUse::Refers,
        &[PROCESS, must("signal", Shape::Choice(&["term", "kill", "interrupt", "hangup"]), "which")],
    ),
    anyone("policy.describe", "Say what this task may do and how much of its budgets is used.", &[]),
    anyone(
        "policy.claim_budget",
        "Spend units of a budget now.",
        &[
            must(
                "kind",
                Shape::Choice(&["steps", "wallclock-ms", "llm-tokens", "processes", "filesystem-ops", "browser-actions"]),
                "which budget",
            ),
            must("units", Shape::Unsigned, "how many"),
        ],
    ),
    anyone(
        "policy.request_capability",
        "Ask for something the policy leaves to a person. Never a way around a denial.",
        &[
            must("capability", Shape::Text, "an action's name"),
            may("scope", Shape::Text, "what of it"),
            must("justification", Shape::Text, "why; a person reads it"),
        ],
    ),
    anyone(
        "policy.log_event",
        "Leave a remark in the audit log.",
        &[must("event_type", Shape::Text, "a short word"), must("payload", Shape::Json, "anything")],
    ),
];

impl Action {
    /// Whether the policy holds what the action needs.
    pub fn offered(&self, grants: &Grants) -> bool {
        match self.need {
            Need::Nothing => true,
            Need::AnyWorkspace => !grants.workspaces.is_empty(),
            Need::WritableWorkspace => grants.workspaces.iter().any(|workspace| !workspace.read_only),
            Need::AnyCommand => !grants.commands.is_empty(),
        }
    }

    /// Its name as a tool: endpoints do not take dots.
    pub fn tool_name(&self) -> String {
        self.name.replace('.', "_")
    }

    /// JSON schema of its input.
    pub fn schema(&self) -> Value {
        let properties: Map<String, Value> = self.fields.iter().map(|field| (field.name.to_owned(), field.schema())).collect();
        let required: Vec<&str> = self.fields.iter().filter(|field| field.required).map(|field| field.name).collect();
        json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
    }
}

impl Field {
    fn schema(&self) -> Value {
        let mut schema = match self.shape {
            Shape::Text => json!({"type": "string"}),
            Shape::Path => json!({"type": "string", "maxLength": PATH_MAX_BYTES}),
            Shape::Alias => json!({"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_.-]{0,63}$"}),
            Shape::Unsigned => json!({"type": "integer", "minimum": 0}),
            Shape::Flag => json!({"type": "boolean"}),
            Shape::Texts => json!({"type": "array", "items": {"type": "string"}}),
            Shape::Environment => json!({"type": "array", "items": {
                "type": "object", "required": ["key", "value"], "additionalProperties": false,
                "properties": {"key": {"type": "string"}, "value": {"type": "string"}}}}),
            Shape::Choice(names) => json!({"type": "string", "enum": names}),
            Shape::Json => json!({}),
        };
        if let Some(object) = schema.as_object_mut() {
            object.insert("description".to_owned(), Value::String(self.about.to_owned()));
        }
        schema
    }
}

/// The actions that these grants make worth offering.
pub fn offered(grants: &Grants) -> impl Iterator<Item = &'static Action> {
    CATALOGUE.iter().filter(|action| action.offered(grants))
}

/// The action of this name, dotted or as a tool's.
///
/// One that is known but not granted is found as well: it goes to the broker, whose denial names a rule and is on record.
pub fn find(name: &str) -> Option<&'static Action> {
    CATALOGUE.iter().find(|action| action.name == name || action.tool_name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Command, Workspace};
    use std::collections::BTreeSet;

    fn names(grants: &Grants) -> Vec<&'static str> {
        offered(grants).map(|action| action.name).collect()
    }

    #[test]
    fn only_what_is_granted_is_offered() {
        let mut grants = Grants::default();
        assert!(names(&grants).iter().all(|name| name.starts_with("policy.")));
        grants.workspaces.push(Workspace { label: "repo".into(), read_only: true, max_file_bytes: None });
        assert!(names(&grants).contains(&"fs.read_file"));
        assert!(!names(&grants).contains(&"fs.write_file"));
        grants.workspaces.push(Workspace { label: "out".into(), read_only: false, max_file_bytes: None });
        assert!(names(&grants).contains(&"fs.write_file"));
        assert!(!names(&grants).contains(&"proc.spawn"));
        grants.commands.push(Command { name: "git".into(), description: None });
        assert_eq!(names(&grants).len(), CATALOGUE.len());
    }

    #[test]
    fn the_actions_are_those_of_the_contract() {
        let expected = "fs.list_dir fs.read_file fs.metadata fs.write_file fs.ensure_dir fs.remove_file fs.remove_dir fs.rename proc.spawn proc.start \
            proc.write_stdin proc.read proc.wait proc.signal policy.describe policy.claim_budget policy.request_capability policy.log_event";
        let have: Vec<&str> = CATALOGUE.iter().map(|action| action.name).collect();
        assert_eq!(have, expected.split_whitespace().collect::<Vec<_>>());
        let tools: BTreeSet<String> = CATALOGUE.iter().map(Action::tool_name).collect();
        assert_eq!(tools.len(), CATALOGUE.len());
    }

    #[test]
    fn a_schema_names_its_fields() {
        let schema = find("fs_read_file").unwrap().schema();
        assert_eq!(schema["required"], json!(["path"]));
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["properties"]["offset"]["type"], "integer");
        assert!(find("fs.format_disk").is_none());
    }
}
