//! The records of a process of ours: that it runs and what it holds, and how it ended.

use super::{AuditError, AuditLog, BeginRecord, EndRecord, HexDigest, Outcome, Record, Value};
use crate::runtime::ChildExit;
use warden_proto::msg::life::{Locked, Role};

/// Whom the records are about.
#[derive(Debug, Clone, Copy)]
pub struct ProcessRecord<'a> {
    /// The task it was started for; none for a compiler, whose code any task may use.
    pub task: Option<&'a str>,
    /// The policy it was started under.
    pub policy_hash: Option<&'a HexDigest>,
    /// What it is.
    pub role: Role,
    /// Its process id.
    pub pid: u32,
}

impl ProcessRecord<'_> {
    fn single(&self, log: &mut AuditLog, op: &str, input: Value<'_>, end: EndRecord<'_>) -> Result<(), AuditError> {
        let act = BeginRecord {
            task: self.task,
            role: self.role.name(),
            capability: "task.process",
            op,
            input,
            decision: None,
            rule: None,
            policy_hash: self.policy_hash,
        };
        log.single(&Record { act, end, duration_us: None })
    }

    /// It has shut its jail: what holds it, and its own list of its descriptors.
    pub fn locked(&self, log: &mut AuditLog, locked: &Locked) -> Result<(), AuditError> {
        let descriptors: Vec<Value<'_>> = locked.descriptors.iter().map(|d| Value::Number(u64::from(*d))).collect();
        let held: Vec<Value<'_>> = locked.held.iter().map(|held| Value::Text(held.as_str())).collect();
        let input = [
            ("pid", Value::Number(u64::from(self.pid))),
            ("landlock_abi", Value::Number(u64::from(locked.landlock_abi))),
            ("seccomp_filters", Value::Number(u64::from(locked.seccomp_filters))),
            ("descriptors", Value::List(&descriptors)),
            ("held", Value::List(&held)),
        ];
        self.single(log, "locked", Value::Fields(&input), EndRecord::default())
    }

    /// It runs and has no link on which it could say more: what it was given is told, numbers 0 to `descriptors` - 1.
    pub fn started(&self, log: &mut AuditLog, descriptors: u32) -> Result<(), AuditError> {
        let descriptors: Vec<Value<'_>> = (0..descriptors).map(|d| Value::Number(u64::from(d))).collect();
        let input = [("pid", Value::Number(u64::from(self.pid))), ("descriptors", Value::List(&descriptors))];
        self.single(log, "started", Value::Fields(&input), EndRecord::default())
    }

    /// It has ended, or has not been seen to end in the time it was given.
    pub fn ended(&self, log: &mut AuditLog, exit: Option<ChildExit>) -> Result<(), AuditError> {
        let number = |n: Option<i32>| n.map_or(Value::Null, |n| Value::Signed(i64::from(n)));
        let how = exit.map(|exit| [("status", number(exit.code)), ("signal", number(exit.signal))]);
        let result = match &how {
            Some(how) => Outcome::Done(Value::Fields(how)),
            None => Outcome::Failed { code: "timeout", message: "it was killed, and its end was not seen in time" },
        };
        let input = [("pid", Value::Number(u64::from(self.pid)))];
        self.single(log, "ended", Value::Fields(&input), EndRecord { result, bytes: None })
    }
}
