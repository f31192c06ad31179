//! The hands: typed calls on the imports, their results as JSON, and the handles that are held.

mod browser;
mod fs;
mod model;
mod proc;

use crate::component::osagent::browser::browser::Session;
use crate::component::osagent::common::types::{CapabilityError, CapabilityErrorCode};
use crate::component::osagent::fs::fs::{DirHandle, FileHandle};
use crate::component::osagent::proc::proc::Process;
use crate::script::{FsOp, OtherOp, ProcOp};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What became of an op.
pub enum Outcome {
    Ok(Value),
    Error(CapabilityError),
    Script(String),
}

impl Outcome {
    /// Its result, under the op's name.
    pub fn json(self, op: &str) -> Value {
        match self {
            Self::Ok(value) => json!({"op": op, "ok": value}),
            Self::Error(error) => {
                json!({"op": op, "error": {"code": code(error.code), "message": error.message, "detail": error.detail}})
            }
            Self::Script(fault) => json!({"op": op, "script_error": fault}),
        }
    }
}

impl From<CapabilityError> for Outcome {
    fn from(error: CapabilityError) -> Self {
        Self::Error(error)
    }
}

impl From<String> for Outcome {
    fn from(fault: String) -> Self {
        Self::Script(fault)
    }
}

/// A call's name for its error code.
pub fn code(code: CapabilityErrorCode) -> &'static str {
    match code {
        CapabilityErrorCode::Denied => "denied",
        CapabilityErrorCode::NotFound => "not-found",
        CapabilityErrorCode::InvalidArgument => "invalid-argument",
        CapabilityErrorCode::Limit => "limit",
        CapabilityErrorCode::Timeout => "timeout",
        CapabilityErrorCode::Conflict => "conflict",
        CapabilityErrorCode::Unavailable => "unavailable",
        CapabilityErrorCode::Internal => "internal",
    }
}

enum Held {
    Dir(DirHandle),
    File(FileHandle),
    Process(Process),
    Session(#[expect(dead_code, reason = "held so that it is not dropped")] Session),
}

/// The handles, by the names the script gave them.
#[derive(Default)]
pub struct Hands {
    held: BTreeMap<String, Held>,
    /// The turn of the `repeat` that runs.
    pub turn: u64,
}

impl Hands {
    pub fn fs(&mut self, op: FsOp) -> Outcome {
        fs::run(self, op).map_or_else(|failed| failed, Outcome::Ok)
    }

    pub fn proc(&mut self, op: ProcOp) -> Outcome {
        proc::run(self, op).map_or_else(|failed| failed, Outcome::Ok)
    }

    pub fn other(&mut self, op: OtherOp) -> Outcome {
        let run = match op {
            OtherOp::Describe
            | OtherOp::ClaimBudget { .. }
            | OtherOp::RequestCapability { .. }
            | OtherOp::LogEvent { .. }
            | OtherOp::Complete { .. }
            | OtherOp::CallTools { .. } => model::run(op),
            OtherOp::OpenSession
            | OtherOp::KeySequence { .. }
            | OtherOp::SendKeyChord { .. }
            | OtherOp::MouseMove { .. }
            | OtherOp::MouseClick
            | OtherOp::MouseScroll { .. } => browser::run(self, op),
        };
        run.map_or_else(|failed| failed, Outcome::Ok)
    }

    pub fn drop_handle(&mut self, name: &str) -> Outcome {
        match self.held.remove(name) {
            Some(_) => Outcome::Ok(Value::Null),
            None => no_handle(name),
        }
    }

    fn hold(&mut self, name: &str, held: Held) -> Value {
        self.held.insert(name.replace('#', &self.turn.to_string()), held);
        Value::Null
    }

    fn dir(&self, name: &str) -> Result<&DirHandle, Outcome> {
        match self.held.get(name) {
            Some(Held::Dir(dir)) => Ok(dir),
            _ => Err(no_handle(name)),
        }
    }

    fn file(&self, name: &str) -> Result<&FileHandle, Outcome> {
        match self.held.get(name) {
            Some(Held::File(file)) => Ok(file),
            _ => Err(no_handle(name)),
        }
    }

    fn process(&self, name: &str) -> Result<&Process, Outcome> {
        match self.held.get(name) {
            Some(Held::Process(process)) => Ok(process),
            _ => Err(no_handle(name)),
        }
    }
}

fn no_handle(name: &str) -> Outcome {
    Outcome::Script(format!("no handle of that kind is held as {name:?}"))
}

/// Bytes as a result.
fn bytes(bytes: Vec<u8>, discard: bool) -> Value {
    let len = bytes.len();
    match String::from_utf8(bytes) {
        _ if discard => json!({"len": len}),
        Ok(text) => json!({"len": len, "text": text}),
        Err(error) => json!({"len": len, "hex": error.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>()}),
    }
}
