//! A success predicate that is a command: run with the task's grants and a budget of its own, and on the record.

use super::act::{Act, outcome_of};
use super::processes::empty_body;
use super::{Stop, Task};
use crate::audit::Value;
use crate::ledger::Cost;
use tokio::time::Instant;
use warden_policy::SpawnKind;
use warden_proto::limits::REPLY_DEADLINE;
use warden_proto::msg::error::{CallError, ErrorCode};
use warden_proto::msg::fs::HelperTarget;
use warden_proto::msg::life::Role;
use warden_proto::msg::proc::{GuestCommand, HelperCommand, ProcCall, ProcHelperCall, ProcHelperReply, ProcReply};
use warden_proto::{List, Text};

impl Task {
    /// Runs a predicate's command with the task's grants and a budget of its own.
    pub(super) async fn check_command(
        &mut self,
        predicate: &str,
        command: &str,
        args: &[String],
    ) -> Result<Result<(bool, String), CallError>, Stop> {
        let asked = args.iter().map(Text::new).collect::<Result<Vec<_>, _>>().and_then(List::new);
        let (Ok(args), Ok(name)) = (asked, Text::new(command)) else {
            return Ok(Err(CallError::new(ErrorCode::InvalidArgument, "the predicate's command is too long")));
        };
        let timeout_ms = Some(crate::ledger::millis(super::predicates::DEADLINE));
        let wanted = GuestCommand { command: name, args: args.clone(), cwd: None, env: List::default(), timeout_ms };
        let (grant, rule) = match self.decide_command(SpawnKind::Spawn, &wanted) {
            Ok(decided) => decided,
            Err(error) => return Ok(Err(error)),
        };
        self.need_for_predicate(Role::CapProcFront, predicate).await?;
        let cwd = match &grant.cwd {
            Some((workspace, path)) => HelperTarget::Workspace {
                workspace: u16::try_from(*workspace).unwrap_or(u16::MAX),
                path: Text::cut(path.relative()),
            },
            None => HelperTarget::Workspace { workspace: u16::MAX, path: Text::default() },
        };
        let growth_max = self.ledger.left(Cost::FsWritten);
        let growth = match self.ledger.reserve(Cost::FsWritten, growth_max) {
            Ok(growth) => growth,
            Err(spent) => return Ok(Err(CallError::new(ErrorCode::Limit, &spent.to_string()))),
        };
        let helper = HelperCommand {
            command: u16::try_from(grant.command).unwrap_or(u16::MAX),
            args,
            cwd,
            env: List::default(),
            timeout_ms: crate::ledger::millis(grant.timeout.min(super::predicates::DEADLINE)),
            processes_max: super::predicates::PROCESSES,
            growth_max,
        };
        let call: ProcHelperCall = ProcCall::Run { command: helper, stdin: empty_body(), output_max_bytes: 4096 };
        let act = Act { row: super::monitor::PREDICATE, input: Value::Text(predicate), rule: &rule };
        let (ticket, started) = (self.begin(&act)?, Instant::now());
        let (answer, grown) = self.ask_predicate(&call).await;
        self.ledger.settle(growth, grown.unwrap_or(growth_max));
        let met = answer.as_ref().map_or(Value::Null, |(met, _)| Value::Bool(*met));
        self.end(&act, ticket, outcome_of(&answer, met), None, started)?;
        Ok(answer)
    }

    /// The answer, and what it made files grow by, where that is known.
    async fn ask_predicate(&mut self, call: &ProcHelperCall) -> (Result<(bool, String), CallError>, Option<u64>) {
        let patience = super::predicates::DEADLINE + REPLY_DEADLINE;
        let reply: Result<ProcHelperReply, CallError> = self.ask_undisturbed(Role::CapProcFront, call, patience).await;
        let grown = if let Ok(Ok(ProcReply::Ran { toll, .. })) = &reply { Some(toll.grown) } else { None };
        (self.met_by(reply, call).await, grown)
    }

    async fn met_by(
        &mut self,
        reply: Result<ProcHelperReply, CallError>,
        call: &ProcHelperCall,
    ) -> Result<(bool, String), CallError> {
        let ProcReply::Ran { exit, stdout, stderr, degraded, .. } = reply.and_then(|reply| reply)? else {
            return Err(CallError::new(ErrorCode::Internal, "cap-proc answered something else than was asked"));
        };
        for what in degraded.iter() {
            self.report.degrade(what.as_str());
        }
        self.payload(Role::CapProcFront, stdout).await?;
        let errors = self.payload(Role::CapProcFront, stderr).await?;
        let last = String::from_utf8_lossy(&errors).trim().lines().next_back().unwrap_or_default().to_owned();
        Ok(match exit.code {
            Some(0) => (true, "it succeeded".to_owned()),
            Some(code) => (false, format!("it ended with status {code}: {last}")),
            // T-15: it was ended by us, so it answered nothing. The one that a signal of somebody else's ended has failed.
            None if exit.timed_out => {
                let message = format!("it did not end within {} ms and was ended", call_timeout(call));
                return Err(CallError::new(ErrorCode::Timeout, &message));
            }
            None => (false, format!("signal {} ended it", exit.signal.unwrap_or(0))),
        })
    }
}

fn call_timeout(call: &ProcHelperCall) -> u64 {
    if let ProcCall::Run { command, .. } = call { command.timeout_ms } else { 0 }
}
