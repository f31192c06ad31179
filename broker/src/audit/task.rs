//! Records of a task as a whole: what is run, before anything of it is, and how that ended.
//!
//! With them the log says by itself which manifest, which guest and which folders its calls belong to (T-09).

use super::{AuditError, AuditLog, BeginRecord, EndRecord, HexDigest, Outcome, Record, Value};

/// Whom the records are about.
#[derive(Debug, Clone, Copy)]
pub struct TaskRecord<'a> {
    /// Its id.
    pub task: &'a str,
    /// The policy it runs under.
    pub policy_hash: &'a HexDigest,
}

/// What is run.
#[derive(Debug)]
pub struct About {
    /// `goal`, `runbook`, `program` or `command`.
    pub kind: &'static str,
    /// SHA-256 of the manifest, where there is one.
    pub manifest: Option<HexDigest>,
    /// SHA-256 of the brain or module, where there is one.
    pub guest: Option<HexDigest>,
    /// Label and mode of each workspace.
    pub workspaces: Vec<(String, &'static str)>,
}

/// How it ended.
#[derive(Debug, Clone, Copy)]
pub enum TaskEnd<'a> {
    /// A loop came to an outcome.
    Outcome { outcome: &'a str, status: i32, reason: &'a str },
    /// A program ended with a status of its own.
    Exited { code: i32 },
    /// It ended otherwise, or did not start.
    Failed { code: &'a str, message: &'a str },
}

impl TaskRecord<'_> {
    fn single(&self, log: &mut AuditLog, op: &str, input: Value<'_>, end: EndRecord<'_>) -> Result<(), AuditError> {
        let act = BeginRecord {
            task: Some(self.task),
            role: "broker",
            capability: "task.run",
            op,
            input,
            decision: None,
            rule: None,
            policy_hash: Some(self.policy_hash),
        };
        log.single(&Record { act, end, duration_us: None })
    }

    /// It is about to begin. Without this record nothing of it happens.
    pub fn begins(&self, log: &mut AuditLog, about: &About) -> Result<(), AuditError> {
        let folders: Vec<[(&str, Value<'_>); 2]> = about
            .workspaces
            .iter()
            .map(|(label, access)| [("label", Value::Text(label)), ("access", Value::Text(access))])
            .collect();
        let folders: Vec<Value<'_>> = folders.iter().map(|fields| Value::Fields(fields)).collect();
        let input = [
            ("kind", Value::Text(about.kind)),
            ("manifest_sha256", about.manifest.as_ref().map_or(Value::Null, |digest| Value::Text(digest.as_str()))),
            ("guest_sha256", about.guest.as_ref().map_or(Value::Null, |digest| Value::Text(digest.as_str()))),
            ("workspaces", Value::List(&folders)),
        ];
        self.single(log, "begin", Value::Fields(&input), EndRecord::default())
    }

    /// It has ended.
    pub fn ends(&self, log: &mut AuditLog, end: TaskEnd<'_>) -> Result<(), AuditError> {
        let fields = match end {
            TaskEnd::Outcome { outcome, status, reason } => vec![
                ("outcome", Value::Text(outcome)),
                ("status", Value::Signed(i64::from(status))),
                ("reason", Value::Text(reason)),
            ],
            TaskEnd::Exited { code } => vec![("exit_code", Value::Signed(i64::from(code)))],
            TaskEnd::Failed { .. } => Vec::new(),
        };
        let result = match end {
            TaskEnd::Failed { code, message } => Outcome::Failed { code, message },
            _ => Outcome::Done(Value::Fields(&fields)),
        };
        self.single(log, "end", Value::Null, EndRecord { result, bytes: None })
    }
}
