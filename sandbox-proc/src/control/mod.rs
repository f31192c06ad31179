//! The world `osagent:agent/control`: each import becomes one typed call to the broker and its answer.
//!
//! Nothing is decided here: policy, budgets and records are the broker's. What a guest holds are handles of its own table,
//! so it cannot name another's (T-11). `browser` and `input` are answered by the broker with `unavailable`.

mod absent;
#[allow(unsafe_code)] // `bindgen!` derives lifting and lowering, which are unsafe traits; nothing else is in there
pub mod bindings;
mod fs;
mod llm;
mod policy;
mod proc;

use crate::worker::call::{Fault, Halt};
use crate::worker::guest::Guest;
use bindings::osagent::common::types::{CapabilityError, CapabilityErrorCode, Host};
use warden_proto::Text;
use warden_proto::msg::error::{CallError, ErrorCode};
use wasmtime::component::{HasSelf, Linker, ResourceTableError};

pub use fs::{Dir, File};
pub use llm::conversation_body;
pub use proc::Process;

/// Defines every interface of the world once, in the template. A component imports what it needs of them.
pub fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    bindings::Control::add_to_linker::<_, HasSelf<_>>(linker, |guest| guest)
}

/// A resource of a capability that is not there: no guest ever holds one.
#[derive(Debug)]
pub enum Never {}

impl Host for Guest {
    fn convert_capability_error(&mut self, fault: Fault) -> wasmtime::Result<CapabilityError> {
        match fault {
            Fault::Answer(error) => Ok(answer(&error)),
            Fault::Halt(halt) => Err(halt.into()),
        }
    }
}

fn answer(error: &CallError) -> CapabilityError {
    let code = match error.code {
        ErrorCode::Denied => CapabilityErrorCode::Denied,
        ErrorCode::NotFound => CapabilityErrorCode::NotFound,
        ErrorCode::InvalidArgument => CapabilityErrorCode::InvalidArgument,
        ErrorCode::Limit => CapabilityErrorCode::Limit,
        ErrorCode::Timeout => CapabilityErrorCode::Timeout,
        ErrorCode::Conflict => CapabilityErrorCode::Conflict,
        ErrorCode::Unavailable => CapabilityErrorCode::Unavailable,
        ErrorCode::Internal => CapabilityErrorCode::Internal,
    };
    let rule = error.rule.as_str();
    let detail = (!rule.is_empty()).then(|| serde_json::json!({"rule": rule}).to_string());
    CapabilityError { code, message: error.message.to_string(), detail }
}

impl From<ResourceTableError> for Fault {
    fn from(error: ResourceTableError) -> Self {
        match error {
            ResourceTableError::Full => Fault::answer(ErrorCode::Limit, "too many handles are open: close some"),
            other => Halt::Broken(other.to_string()).into(),
        }
    }
}

/// A reply of the right capability and the wrong operation: the broker's fault, and the guest's end.
fn wrong_reply() -> Fault {
    Halt::Broken("the reply is to another operation".to_owned()).into()
}

/// A use of a handle after its `close`.
fn closed(what: &str) -> Fault {
    Fault::answer(ErrorCode::NotFound, &format!("the {what} is closed"))
}

/// Text that a message can carry, or the guest's mistake by name.
fn text<const N: usize>(what: &str, text: String) -> Result<Text<N>, Fault> {
    Text::new(text).map_err(|e| {
        Fault::answer(ErrorCode::InvalidArgument, &format!("{what} of {} bytes is longer than {}", e.len, e.max))
    })
}
