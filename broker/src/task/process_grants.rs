//! What a call on commands comes to under the policy: the program, where it starts, and the places it may take.

use super::Task;
use super::absent;
use super::act::limit_error;
use super::monitor::Row;
use super::processes::empty_body;
use crate::ledger::{Cost, Reserved};
use std::time::Duration;
use warden_policy::LimitKey;
use warden_policy::{Call, GrantScope, PathArg, ProcGrant, SpawnKind, Verdict};
use warden_proto::limits::REPLY_DEADLINE;
use warden_proto::msg::error::{CallError, ErrorCode};
use warden_proto::msg::fs::{GuestTarget, HelperTarget};
use warden_proto::msg::proc::{GuestCommand, HelperCommand, ProcCall, ProcGuestCall, ProcHelperCall};
use warden_proto::{List, Text};

/// A call that may be made.
pub(super) struct Prepared {
    pub(super) call: ProcHelperCall,
    pub(super) rule: String,
    pub(super) reserved: Option<Reserved>,
    pub(super) places: u64,
    pub(super) growth: Option<Reserved>,
    pub(super) growth_max: u64,
    /// The task's number for the process, when it is a call on one.
    pub(super) process: Option<u32>,
    pub(super) patience: Duration,
}

/// A command that may be started.
pub(super) struct Startable {
    pub(super) command: HelperCommand,
    pub(super) rule: String,
    pub(super) reserved: Reserved,
    /// Processes that its tree may have, itself included.
    pub(super) places: u64,
    pub(super) growth: Reserved,
}

impl Startable {
    pub(super) fn prepared(self, call: ProcHelperCall, patience: Duration) -> Prepared {
        let (reserved, growth) = (Some(self.reserved), Some(self.growth));
        let growth_max = self.command.growth_max;
        Prepared { call, rule: self.rule, reserved, places: self.places, growth, growth_max, process: None, patience }
    }
}

impl Task {
    /// The call in cap-proc's terms, decided and reserved.
    pub(super) fn prepare(&mut self, row: Row, call: ProcGuestCall) -> Result<Prepared, CallError> {
        match call {
            ProcCall::Run { command, .. } => {
                let start = self.startable(SpawnKind::Spawn, command)?;
                let patience = Duration::from_millis(start.command.timeout_ms).saturating_add(REPLY_DEADLINE);
                let output_max_bytes = self.spec.output_max_bytes();
                let call = ProcCall::Run { command: start.command.clone(), stdin: empty_body(), output_max_bytes };
                Ok(start.prepared(call, patience))
            }
            ProcCall::Start { command, stdin, stdout, stderr } => {
                let start = self.startable(SpawnKind::Start, command)?;
                let call = ProcCall::Start { command: start.command.clone(), stdin, stdout, stderr };
                Ok(start.prepared(call, REPLY_DEADLINE))
            }
            on_process => self.prepare_on_process(row, on_process),
        }
    }

    /// A call on a process that was started before: decided again under its own name, by the process's own number.
    fn prepare_on_process(&mut self, row: Row, call: ProcGuestCall) -> Result<Prepared, CallError> {
        let number = match &call {
            ProcCall::WriteStdin { process, .. }
            | ProcCall::Read { process, .. }
            | ProcCall::Wait { process, .. }
            | ProcCall::Signal { process, .. }
            | ProcCall::Close { process } => *process,
            ProcCall::Run { .. } | ProcCall::Start { .. } | ProcCall::Attach { .. } => {
                return Err(CallError::new(ErrorCode::Internal, "a call without a process"));
            }
        };
        let (command, process) = {
            let known = self.processes.get(number)?;
            (known.command.clone(), known.helper)
        };
        // Ending a process is always allowed: it only gives back.
        let rule = match &call {
            ProcCall::Close { .. } => self.processes.get(number)?.rule.clone(),
            _ => self.decide_process(row, &command)?,
        };
        let wall = self.spec.allowance.wall;
        let (call, patience) = match call {
            ProcCall::WriteStdin { bytes, eof, .. } => (ProcCall::WriteStdin { process, bytes, eof }, REPLY_DEADLINE),
            ProcCall::Read { stream, max_bytes, .. } => (ProcCall::Read { process, stream, max_bytes }, wall),
            ProcCall::Wait { timeout_ms, .. } => (ProcCall::Wait { process, timeout_ms }, wall),
            ProcCall::Signal { signal, .. } => (ProcCall::Signal { process, signal }, REPLY_DEADLINE),
            _ => (ProcCall::Close { process }, REPLY_DEADLINE),
        };
        let (reserved, growth) = (None, None);
        Ok(Prepared { call, rule, reserved, places: 0, growth, growth_max: 0, process: Some(number), patience })
    }

    fn decide_process(&self, row: Row, command: &str) -> Result<String, CallError> {
        let verdict = self.spec.policy.decide(&Call::Process { capability: row.capability, command });
        match verdict.map_err(|e| CallError::new(ErrorCode::InvalidArgument, &e.to_string()))? {
            Verdict::Deny(denial) => Err(CallError::denied(&denial.rule, &denial.reason)),
            Verdict::Allow(grant) => {
                self.check_approval(row.capability, grant.approval.as_deref())?;
                Ok(grant.rules.last().cloned().unwrap_or_default())
            }
        }
    }

    pub(super) fn startable(&mut self, kind: SpawnKind, command: GuestCommand) -> Result<Startable, CallError> {
        let (grant, rule) = self.decide_command(kind, &command)?;
        let policy = self.spec.policy.clone();
        // What a tree may have is taken from the task's limit while it lives: all that is left for a command that runs to its
        // end, half of it for one that goes on beside others, so that together they never have more (T-06).
        let share = |left: u64| if matches!(kind, SpawnKind::Spawn) { left } else { left.div_ceil(2) };
        let places = share(self.ledger.left(Cost::Processes)).max(1);
        let reserved = self.ledger.reserve(Cost::Processes, places);
        let reserved = reserved.map_err(|spent| limit_error(&spent, policy.limits().rule(LimitKey::Processes)))?;
        // What is left is there, so this cannot fail; a command that may write nothing more runs all the same.
        let growth_max = share(self.ledger.left(Cost::FsWritten));
        let growth = self.ledger.reserve(Cost::FsWritten, growth_max);
        let growth = growth.map_err(|spent| limit_error(&spent, policy.limits().rule(LimitKey::FsWritten)))?;
        let internal = |e: String| CallError::new(ErrorCode::Internal, &e);
        let cwd = match &grant.cwd {
            Some((workspace, path)) => HelperTarget::Workspace {
                workspace: u16::try_from(*workspace).map_err(|e| internal(e.to_string()))?,
                path: Text::new(path.relative()).map_err(|e| internal(e.to_string()))?,
            },
            // Without a workspace a command starts in no place of the host's that it could use.
            None => HelperTarget::Workspace { workspace: u16::MAX, path: Text::default() },
        };
        let command = HelperCommand {
            command: u16::try_from(grant.command).map_err(|e| internal(e.to_string()))?,
            args: command.args,
            cwd,
            env: List::first(command.env.into_vec()),
            timeout_ms: crate::ledger::millis(grant.timeout),
            processes_max: u32::try_from(places).unwrap_or(u32::MAX),
            growth_max,
        };
        Ok(Startable { command, rule, reserved, places, growth })
    }

    pub(super) fn decide_command(
        &self,
        kind: SpawnKind,
        command: &GuestCommand,
    ) -> Result<(ProcGrant, String), CallError> {
        let args: Vec<&str> = command.args.iter().map(|a| a.as_str()).collect();
        let names: Vec<&str> = command.env.iter().map(|v| v.key.as_str()).collect();
        let cwd = match &command.cwd {
            None => None,
            Some(GuestTarget::Path { path }) => Some(PathArg::Text(path.as_str())),
            Some(GuestTarget::At { .. }) => {
                return Err(CallError::new(ErrorCode::InvalidArgument, "a working directory is named by path"));
            }
        };
        let timeout = command.timeout_ms.map(Duration::from_millis);
        let call =
            Call::Spawn { kind, command: command.command.as_str(), args: &args, cwd, env_names: &names, timeout };
        let capability = call.capability();
        let verdict = self.spec.policy.decide(&call);
        match verdict.map_err(|e| CallError::new(ErrorCode::InvalidArgument, &e.to_string()))? {
            Verdict::Deny(denial) => Err(CallError::denied(&denial.rule, &denial.reason)),
            Verdict::Allow(grant) => {
                self.check_approval(&capability, grant.approval.as_deref())?;
                let rule = grant.rules.last().cloned().unwrap_or_default();
                match grant.scope {
                    GrantScope::Proc(scope) if !scope.network.is_empty() => {
                        Err(absent::network(&self.spec.policy, &scope))
                    }
                    GrantScope::Proc(scope) => Ok((scope, rule)),
                    _ => Err(CallError::new(ErrorCode::Internal, "the policy granted something else than a command")),
                }
            }
        }
    }
}
