//! What a policy grants or a guest asks for and no helper of this version gives: answered in words, and never done by half.

use super::monitor::{Recording, Row};
use super::{Answer, Task, failed};
use crate::audit::Value;
use warden_policy::{Effective, ProcGrant};
use warden_proto::msg::error::{CallError, ErrorCode};
use warden_proto::msg::worker::Origin;
use warden_proto::{Text, secret_name};

/// T-08: where nothing resolves a secret's name, a command does not get the name in its place.
pub(super) fn secrets<'a>(mut texts: impl Iterator<Item = &'a [u8]>) -> Result<(), CallError> {
    let Some(name) = texts.find_map(secret_name::find) else { return Ok(()) };
    let message = format!(
        "the command is given the secret `{name}` by name, and this version of warden resolves no secrets; nothing was done"
    );
    Err(CallError::new(ErrorCode::Unavailable, &message))
}

/// A command that is to have a network is not run without one and without a word.
pub(super) fn network(policy: &Effective, grant: &ProcGrant) -> CallError {
    let rule = policy.commands().get(grant.command).map_or("", |command| command.rule.as_str());
    let message = format!(
        "the command is to have a network ({}), and this version of warden has no egress proxy to give it one; take `network` \
         out of {rule} to run it without",
        grant.network.join(", ")
    );
    CallError { rule: Text::cut(rule), ..CallError::new(ErrorCode::Unavailable, &message) }
}

impl Task {
    /// A capability that exists by name and is not there.
    pub(super) fn absent(&mut self, origin: Origin, capability: &str) -> Answer {
        let name = warden_policy::canonical_capability(capability);
        let known = warden_policy::CAPABILITIES.iter().find(|known| **known == name);
        let error = match known {
            Some(known) => CallError::new(
                ErrorCode::Unavailable,
                &format!("{known} is not available: this version of warden has no helper for it"),
            ),
            None => CallError::new(ErrorCode::InvalidArgument, "there is no such capability"),
        };
        let row = Row {
            capability: known.copied().unwrap_or("unknown"),
            op: "absent",
            states: &[],
            cost: None,
            recording: Recording::Single,
        };
        self.refuse(row, row.capability, capability, Value::Text(capability), &error)?;
        if origin == Origin::Action {
            self.progress.action(row.capability, "", Some(&error));
            self.report.action(row.capability, &Err(error.clone()));
        }
        Ok(failed(error))
    }
}
