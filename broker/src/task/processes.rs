//! Calls on commands: decided here, run by cap-proc.

use super::act::{Act, limit_error, outcome_of};
use super::handles::Process;
use super::monitor::Row;
use super::{Answer, Stop, Task, failed};
use crate::audit::Value;
use crate::ledger::{Cost, Reserved};
use crate::peer::PeerError;
use std::time::Duration;
use tokio::time::Instant;
use warden_policy::LimitKey;
use warden_policy::{Call, GrantScope, PathArg, ProcGrant, SpawnKind, Verdict};
use warden_proto::blob::Body;
use warden_proto::limits::REPLY_DEADLINE;
use warden_proto::msg::error::{CallError, ErrorCode};
use warden_proto::msg::fs::{GuestTarget, HelperTarget};
use warden_proto::msg::life::Role;
use warden_proto::msg::proc::{
    GuestCommand, HelperCommand, ProcCall, ProcGuestCall, ProcHelperCall, ProcHelperReply, ProcReply,
};
use warden_proto::msg::worker::{Origin, WorkerReply};
use warden_proto::render::{self, Subject};
use warden_proto::{List, Text};

/// What a guest asked for, as records and results show it.
struct Shown {
    command: String,
    args: Vec<String>,
    cwd: String,
    process: String,
    bytes: u64,
}

/// A command that may be started.
struct Startable {
    command: HelperCommand,
    rule: String,
    degraded: Vec<String>,
    reserved: Reserved,
}

/// A call that was done, with its payloads.
struct Done {
    reply: ProcReply,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Task {
    /// One call on commands.
    pub(super) async fn commands(&mut self, row: Row, origin: Origin, alias: &str, call: ProcGuestCall) -> Answer {
        self.report.count(row.capability);
        let (call, stdin) = match call {
            ProcCall::Run { command, stdin, output_max_bytes } => {
                let bytes = self.worker.peer.take(stdin)?;
                (ProcCall::Run { command, stdin: empty_body(), output_max_bytes }, Some(bytes))
            }
            other => (other, None),
        };
        let shown = self.shown(&call, alias, stdin.as_ref().map_or(0, Vec::len));
        let result = self.command_act(row, &shown, call, stdin).await?;
        if origin == Origin::Action {
            self.note_command_action(row, &shown, &result);
        }
        match result {
            Ok(Done { reply: ProcReply::Ran { exit, truncated, degraded, .. }, stdout, stderr }) => {
                let stdout = self.place_for_worker(stdout).await?;
                let stderr = self.place_for_worker(stderr).await?;
                Ok(WorkerReply::Proc(ProcReply::Ran { exit, stdout, stderr, truncated, degraded }))
            }
            Ok(done) => Ok(WorkerReply::Proc(done.reply)),
            Err(error) => Ok(failed(error)),
        }
    }

    fn shown(&mut self, call: &ProcGuestCall, alias: &str, stdin: usize) -> Shown {
        let of_command = |command: &GuestCommand| Shown {
            command: command.command.to_string(),
            args: command.args.iter().map(|a| a.to_string()).collect(),
            cwd: match &command.cwd {
                Some(GuestTarget::Path { path }) => path.to_string(),
                Some(GuestTarget::At { dir, path }) => format!("#{dir}/{path}"),
                None => String::new(),
            },
            process: alias.to_owned(),
            bytes: u64::try_from(stdin).unwrap_or(u64::MAX),
        };
        let number = match call {
            ProcCall::Run { command, .. } | ProcCall::Start { command, .. } => return of_command(command),
            ProcCall::WriteStdin { process, .. }
            | ProcCall::Read { process, .. }
            | ProcCall::Wait { process, .. }
            | ProcCall::Signal { process, .. }
            | ProcCall::Close { process } => *process,
        };
        let command = self.processes.get_mut(number).map(|p| p.command.clone()).unwrap_or_default();
        let process = if alias.is_empty() { format!("#{number}") } else { alias.to_owned() };
        let bytes = if let ProcCall::WriteStdin { bytes, .. } = call { bytes.len() } else { 0 };
        Shown { command, args: Vec::new(), cwd: String::new(), process, bytes: u64::try_from(bytes).unwrap_or(0) }
    }

    async fn command_act(
        &mut self,
        row: Row,
        shown: &Shown,
        call: ProcGuestCall,
        stdin: Option<Vec<u8>>,
    ) -> Result<Result<Done, CallError>, Stop> {
        let target = if shown.args.is_empty() {
            shown.command.clone()
        } else {
            format!("{} {}", shown.command, shown.args.join(" "))
        };
        let fields = [
            ("command", Value::Text(&shown.command)),
            ("args", Value::Texts(&shown.args)),
            ("cwd", Value::Text(&shown.cwd)),
            ("process", Value::Text(&shown.process)),
            ("bytes", Value::Number(shown.bytes)),
        ];
        let input = Value::Fields(&fields);
        let prepared = match self.prepare(call) {
            Ok(prepared) => prepared,
            Err(error) => {
                self.refuse(row, row.capability, &target, input, &error)?;
                return Ok(Err(error));
            }
        };
        if let Err(error) = self.need(Role::CapProcFront).await? {
            self.release(prepared);
            self.refuse(row, row.capability, &target, input, &error)?;
            return Ok(Err(error));
        }
        let rule = prepared.rule.clone();
        let act = Act { row, input, rule: &rule };
        let ticket = self.begin(&act)?;
        let started = Instant::now();
        let result = self.ask_commands(prepared, shown, stdin).await;
        let (exit, fields);
        let done = match &result {
            Ok(Done { reply: ProcReply::Ran { exit: how, .. } | ProcReply::Exited { exit: how }, .. }) => {
                exit = *how;
                fields = [
                    ("status", exit.code.map_or(Value::Null, |c| Value::Signed(i64::from(c)))),
                    ("signal", exit.signal.map_or(Value::Null, |s| Value::Signed(i64::from(s)))),
                    ("timed_out", Value::Bool(exit.timed_out)),
                ];
                Value::Fields(&fields)
            }
            _ => Value::Null,
        };
        let moved = result.as_ref().ok().map(|d| d.stdout.len().saturating_add(d.stderr.len()));
        let moved = moved.and_then(|n| u64::try_from(n).ok());
        self.end(&act, ticket, outcome_of(&result, done), moved, started)?;
        if let Err(error) = &result {
            self.report.deny(row.capability, &target, error);
        }
        Ok(result)
    }

    fn release(&mut self, prepared: Prepared) {
        if let Some(reserved) = prepared.reserved {
            self.ledger.settle(reserved, 0);
        }
    }

    /// The call in cap-proc's terms, decided and reserved.
    fn prepare(&mut self, call: ProcGuestCall) -> Result<Prepared, CallError> {
        let done = |rule: String, call: ProcHelperCall, process: Option<u32>| Prepared {
            call,
            rule,
            degraded: Vec::new(),
            reserved: None,
            process,
            patience: REPLY_DEADLINE,
        };
        match call {
            ProcCall::Run { command, output_max_bytes, .. } => {
                let start = self.startable(SpawnKind::Spawn, command)?;
                let patience = Duration::from_millis(start.command.timeout_ms).saturating_add(REPLY_DEADLINE);
                let most = u32::try_from(self.spec.output_max_bytes).unwrap_or(u32::MAX).min(OUTPUT_REPLY_MAX_BYTES);
                let output_max_bytes = output_max_bytes.min(most);
                let call = ProcCall::Run { command: start.command, stdin: empty_body(), output_max_bytes };
                let (degraded, reserved) = (start.degraded, Some(start.reserved));
                Ok(Prepared { degraded, reserved, patience, ..done(start.rule, call, None) })
            }
            ProcCall::Start { command, stdin, stdout, stderr } => {
                let start = self.startable(SpawnKind::Start, command)?;
                let call = ProcCall::Start { command: start.command, stdin, stdout, stderr };
                let (degraded, reserved) = (start.degraded, Some(start.reserved));
                Ok(Prepared { degraded, reserved, ..done(start.rule, call, None) })
            }
            ProcCall::WriteStdin { process, bytes, eof } => {
                let rule = self.processes.get_mut(process)?.rule.clone();
                Ok(done(rule, ProcCall::WriteStdin { process, bytes, eof }, Some(process)))
            }
            ProcCall::Read { process, stream, max_bytes } => {
                let rule = self.processes.get_mut(process)?.rule.clone();
                let patience = self.spec.allowance.wall;
                let call = ProcCall::Read { process, stream, max_bytes };
                Ok(Prepared { patience, ..done(rule, call, Some(process)) })
            }
            ProcCall::Wait { process, timeout_ms } => {
                let rule = self.processes.get_mut(process)?.rule.clone();
                let patience = self.spec.allowance.wall;
                Ok(Prepared { patience, ..done(rule, ProcCall::Wait { process, timeout_ms }, Some(process)) })
            }
            ProcCall::Signal { process, signal } => {
                let rule = self.processes.get_mut(process)?.rule.clone();
                Ok(done(rule, ProcCall::Signal { process, signal }, Some(process)))
            }
            ProcCall::Close { process } => {
                let rule = self.processes.get_mut(process)?.rule.clone();
                Ok(done(rule, ProcCall::Close { process }, Some(process)))
            }
        }
    }

    fn startable(&mut self, kind: SpawnKind, command: GuestCommand) -> Result<Startable, CallError> {
        let (grant, rule) = self.decide_command(kind, &command)?;
        let policy = self.spec.policy.clone();
        // One place is taken for the command itself; what is left besides is the bound of its whole tree.
        let reserved = self.ledger.reserve(Cost::Processes, 1);
        let reserved = reserved.map_err(|spent| limit_error(&spent, policy.limits().rule(LimitKey::Processes)))?;
        let processes = self.ledger.left(Cost::Processes).saturating_add(1);
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
            processes_max: u32::try_from(processes).unwrap_or(u32::MAX),
        };
        Ok(Startable { command, rule, degraded: grant.degraded, reserved })
    }

    fn decide_command(&self, kind: SpawnKind, command: &GuestCommand) -> Result<(ProcGrant, String), CallError> {
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
                    GrantScope::Proc(scope) => Ok((scope, rule)),
                    _ => Err(CallError::new(ErrorCode::Internal, "the policy granted something else than a command")),
                }
            }
        }
    }

    async fn ask_commands(
        &mut self,
        prepared: Prepared,
        shown: &Shown,
        stdin: Option<Vec<u8>>,
    ) -> Result<Done, CallError> {
        let Prepared { mut call, rule, degraded, reserved, process, patience } = prepared;
        if let (ProcCall::Run { stdin: place, .. }, Some(bytes)) = (&mut call, stdin) {
            let placed = match self.helpers.get(Role::CapProcFront) {
                Some(helper) => helper.jailed.peer.place(bytes, 40_960, Instant::now() + REPLY_DEADLINE).await,
                None => Err(PeerError::Gone),
            };
            *place = placed.map_err(|e| CallError::new(ErrorCode::Unavailable, &format!("cap-proc: {e}")))?;
        }
        let closing = matches!(call, ProcCall::Close { .. });
        let asked: Result<ProcHelperReply, CallError> = self.ask(Role::CapProcFront, &call, patience).await;
        let reply = asked.and_then(|reply| reply);
        // A command that runs to its end gives its place back; one that was started keeps it until its end is seen.
        let keeps = matches!(reply, Ok(ProcReply::Started { .. }));
        if let Some(reserved) = reserved {
            self.ledger.settle(reserved, u64::from(keeps));
        }
        let reply = reply?;
        for what in &degraded {
            self.report.degrade(what);
        }
        self.follow(&reply, process, closing, shown, rule)?;
        match reply {
            ProcReply::Ran { exit, stdout, stderr, truncated, degraded } => {
                for what in degraded.iter() {
                    self.report.degrade(what.as_str());
                }
                let stdout = self.payload(Role::CapProcFront, stdout).await?;
                let stderr = self.payload(Role::CapProcFront, stderr).await?;
                let (none, other) = (empty_body(), empty_body());
                Ok(Done {
                    reply: ProcReply::Ran { exit, stdout: none, stderr: other, truncated, degraded },
                    stdout,
                    stderr,
                })
            }
            reply => Ok(Done { reply, stdout: Vec::new(), stderr: Vec::new() }),
        }
    }

    /// Keeps the table of processes true after a reply.
    fn follow(
        &mut self,
        reply: &ProcReply,
        process: Option<u32>,
        closing: bool,
        shown: &Shown,
        rule: String,
    ) -> Result<(), CallError> {
        match (reply, process) {
            (ProcReply::Started { process: number, degraded }, _) => {
                for what in degraded.iter() {
                    self.report.degrade(what.as_str());
                }
                let new = Process { command: shown.command.clone(), rule, ended: false };
                if !self.processes.add(*number, new) {
                    return Err(CallError::new(ErrorCode::Internal, "cap-proc gave out a process twice"));
                }
            }
            (ProcReply::Exited { .. }, Some(number)) => {
                let process = self.processes.get_mut(number)?;
                if !std::mem::replace(&mut process.ended, true) {
                    self.ledger.give_back(Cost::Processes, 1);
                }
            }
            (ProcReply::Done, Some(number))
                if closing && self.processes.remove(number).is_some_and(|process| !process.ended) =>
            {
                self.ledger.give_back(Cost::Processes, 1);
            }
            _ => {}
        }
        Ok(())
    }

    fn note_command_action(&mut self, row: Row, shown: &Shown, result: &Result<Done, CallError>) {
        let rendered = match result {
            Ok(done) => {
                let command = (!shown.command.is_empty() && shown.process.is_empty()).then_some((
                    shown.command.as_str(),
                    shown.args.as_slice(),
                    shown.cwd.as_str(),
                ));
                let content: [&[u8]; 2] = [&done.stdout, &done.stderr];
                let subject = Subject { command, process: &shown.process, content, ..Subject::default() };
                Ok(render::proc(&subject, &done.reply))
            }
            Err(error) => Err(error.clone()),
        };
        let target = format!("{} {}", shown.command, shown.args.join(" "));
        self.progress.action(row.capability, target.trim(), rendered.as_ref().err());
        self.report.action(row.capability, &rendered);
    }

    /// Runs a predicate's command with the task's grants and a budget of its own.
    pub(super) async fn check_command(
        &mut self,
        command: &str,
        args: &[String],
    ) -> Result<Result<(bool, String), CallError>, Stop> {
        let asked = args.iter().map(Text::new).collect::<Result<Vec<_>, _>>().and_then(List::new);
        let (Ok(args), Ok(name)) = (asked, Text::new(command)) else {
            return Ok(Err(CallError::new(ErrorCode::InvalidArgument, "the predicate's command is too long")));
        };
        let timeout_ms = Some(crate::ledger::millis(super::predicates::DEADLINE));
        let wanted = GuestCommand { command: name, args: args.clone(), cwd: None, env: List::default(), timeout_ms };
        let (grant, _rule) = match self.decide_command(SpawnKind::Spawn, &wanted) {
            Ok(decided) => decided,
            Err(error) => return Ok(Err(error)),
        };
        if let Err(error) = self.need(Role::CapProcFront).await? {
            return Ok(Err(error));
        }
        let cwd = match &grant.cwd {
            Some((workspace, path)) => HelperTarget::Workspace {
                workspace: u16::try_from(*workspace).unwrap_or(u16::MAX),
                path: Text::cut(path.relative()),
            },
            None => HelperTarget::Workspace { workspace: u16::MAX, path: Text::default() },
        };
        let helper = HelperCommand {
            command: u16::try_from(grant.command).unwrap_or(u16::MAX),
            args,
            cwd,
            env: List::default(),
            timeout_ms: crate::ledger::millis(super::predicates::DEADLINE),
            processes_max: super::predicates::PROCESSES,
        };
        let call: ProcHelperCall = ProcCall::Run { command: helper, stdin: empty_body(), output_max_bytes: 4096 };
        let patience = super::predicates::DEADLINE + REPLY_DEADLINE;
        let reply: Result<ProcHelperReply, CallError> = self.ask(Role::CapProcFront, &call, patience).await;
        Ok(match reply.and_then(|r| r) {
            Ok(ProcReply::Ran { exit, stdout, stderr, .. }) => {
                let _ = self.payload(Role::CapProcFront, stdout).await;
                let errors = self.payload(Role::CapProcFront, stderr).await.unwrap_or_default();
                let last = String::from_utf8_lossy(&errors).trim().lines().next_back().unwrap_or_default().to_owned();
                match exit.code {
                    Some(0) => Ok((true, "it succeeded".to_owned())),
                    Some(code) => Ok((false, format!("it ended with status {code}: {last}"))),
                    None if exit.timed_out => Ok((false, "it did not end in time".to_owned())),
                    None => Ok((false, format!("signal {} ended it", exit.signal.unwrap_or(0)))),
                }
            }
            Ok(_) => Err(CallError::new(ErrorCode::Internal, "cap-proc answered something else than was asked")),
            Err(error) => Err(error),
        })
    }
}

/// Most of each output in one reply: both must fit what a peer may send in parts.
const OUTPUT_REPLY_MAX_BYTES: u32 = 480 * 1024;

struct Prepared {
    call: ProcHelperCall,
    rule: String,
    degraded: Vec<String>,
    reserved: Option<Reserved>,
    process: Option<u32>,
    patience: Duration,
}

fn empty_body() -> Body {
    Body::Inline { bytes: warden_proto::Bytes::default() }
}
