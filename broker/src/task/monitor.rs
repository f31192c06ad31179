//! The monitor table: what each call of a worker is called, when it may come, and what it costs.
//!
//! What is not in the table is refused, and a request in the wrong state ends the worker (T-05). The table says nothing of
//! paths and arguments: that is the policy's.

use crate::ledger::Cost;
use warden_proto::msg::fs::FsCall;
use warden_proto::msg::loops::LoopCall;
use warden_proto::msg::policy::PolicyCall;
use warden_proto::msg::proc::ProcCall;
use warden_proto::msg::worker::{Origin, WorkerCall};

/// Where a worker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// A program runs; there is no loop.
    Program,
    /// A planner's worker between two steps.
    BetweenSteps,
    /// The planner thinks: it may call imports.
    Planning,
    /// Its plan is executed.
    Acting,
}

/// How an act is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recording {
    /// One record before the effect and one after it.
    BeginEnd,
    /// Its only effect is its answer: one record.
    Single,
    /// Not an act of its own.
    None,
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The contract's name.
    pub capability: &'static str,
    /// The operation inside it.
    pub op: &'static str,
    /// Where it may come from.
    pub states: &'static [State],
    /// What it costs before anything is done: one of these, or nothing.
    pub cost: Option<Cost>,
    /// How it is recorded.
    pub recording: Recording,
}

use Recording::{BeginEnd, None as Unrecorded, Single};
use State::{Acting, BetweenSteps, Planning, Program};

const IMPORT: &[State] = &[Program, Planning];
const ACTION: &[State] = &[Acting];
const ANY: &[State] = &[Program, Planning, Acting];

const fn row(capability: &'static str, op: &'static str, cost: Option<Cost>, recording: Recording) -> Row {
    Row { capability, op, states: ANY, cost, recording }
}

/// A success predicate that is asked of a helper: the broker's own act, and on the record like any other.
pub const PREDICATE: Row = row("task.predicate", "check", None, BeginEnd);

/// A person's own command, with the person's streams.
pub const ERRAND: Row = row("proc.spawn", "jail", None, BeginEnd);

/// The row of `call`, or none when a worker may never send it.
pub fn row_of(call: &WorkerCall) -> Option<Row> {
    let (mut row, origin) = match call {
        WorkerCall::Fs { origin, call, .. } => (fs(call)?, Some(*origin)),
        WorkerCall::Proc { origin, call, .. } => (proc(call)?, Some(*origin)),
        WorkerCall::Llm { origin, call } => {
            let name = if call.tools { "llm.call_tools" } else { "llm.complete" };
            (row(name, "call", Some(Cost::LlmCalls), BeginEnd), Some(*origin))
        }
        WorkerCall::Policy { origin, call } => (policy(call), Some(*origin)),
        WorkerCall::Absent { origin, .. } => (row("", "absent", None, Single), Some(*origin)),
        WorkerCall::Loop { call } => (turn(call), None),
    };
    match origin {
        Some(Origin::Import) => row.states = IMPORT,
        Some(Origin::Action) => row.states = ACTION,
        None => {}
    }
    Some(row)
}

fn fs<T>(call: &FsCall<T>) -> Option<Row> {
    let op = Some(Cost::FsOps);
    Some(match call {
        FsCall::OpenDir { .. } => row("fs.open_dir", "open", op, Single),
        FsCall::EnsureDir { .. } => row("fs.ensure_dir", "make", op, BeginEnd),
        FsCall::RemoveDir { .. } => row("fs.remove_dir", "remove", op, BeginEnd),
        FsCall::RemoveFile { .. } => row("fs.remove_file", "remove", op, BeginEnd),
        FsCall::Rename { .. } => row("fs.rename", "rename", op, BeginEnd),
        FsCall::ListDir { .. } => row("fs.list_dir", "list", op, Single),
        FsCall::Metadata { .. } => row("fs.metadata", "stat", op, Single),
        FsCall::OpenFile { flags, .. } if flags.write || flags.append || flags.create || flags.truncate => {
            row("fs.open", "open", op, BeginEnd)
        }
        FsCall::OpenFile { .. } => row("fs.open", "open", op, Single),
        FsCall::ReadFile { .. } => row("fs.read_file", "read", op, Single),
        FsCall::WriteFile { .. } => row("fs.write_file", "write", op, BeginEnd),
        FsCall::Read { .. } => row("fs.read_file", "read", op, Single),
        FsCall::Write { .. } => row("fs.write_file", "write", op, BeginEnd),
        FsCall::SetLen { .. } => row("fs.write_file", "set-len", op, BeginEnd),
        FsCall::Flush { .. } => row("fs.write_file", "flush", op, BeginEnd),
        FsCall::Close { .. } => row("fs.open", "close", None, Single),
        // The broker's own question when a task is over, never a worker's.
        FsCall::Check { .. } => return None,
    })
}

fn proc<C>(call: &ProcCall<C>) -> Option<Row> {
    Some(match call {
        ProcCall::Run { .. } => row("proc.spawn", "run", None, BeginEnd),
        ProcCall::Start { .. } => row("proc.start", "start", None, BeginEnd),
        ProcCall::WriteStdin { .. } => row("proc.write_stdin", "write", None, BeginEnd),
        ProcCall::Read { .. } => row("proc.read", "read", None, Single),
        ProcCall::Wait { .. } => row("proc.wait", "wait", None, Single),
        ProcCall::Signal { .. } => row("proc.signal", "signal", None, BeginEnd),
        ProcCall::Close { .. } => row("proc.start", "close", None, BeginEnd),
        // The broker's own call for a person, never a worker's.
        ProcCall::Attach { .. } => return None,
    })
}

fn policy(call: &PolicyCall) -> Row {
    match call {
        PolicyCall::Describe => row("policy.describe", "describe", None, Single),
        PolicyCall::ClaimBudget { .. } => row("policy.claim_budget", "claim", None, Single),
        PolicyCall::RequestCapability { .. } => row("policy.request_capability", "request", None, Single),
        PolicyCall::LogEvent { .. } => row("policy.log_event", "log", None, Single),
    }
}

fn turn(call: &LoopCall) -> Row {
    let at = |op, states, recording| Row { capability: "task.step", op, states, cost: None, recording };
    match call {
        LoopCall::BeginStep => Row { cost: Some(Cost::Steps), ..at("begin", &[BetweenSteps, Acting], Single) },
        LoopCall::Plan { .. } => at("plan", &[Planning], Single),
        LoopCall::BadAction { .. } => at("bad-action", &[Acting], Unrecorded),
        LoopCall::Complete { .. } => at("complete", &[Planning], Single),
        LoopCall::PlannerError { .. } => at("planner-error", &[Planning], Single),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use warden_proto::msg::fs::{FileCheck, GuestTarget};
    use warden_proto::msg::proc::GuestCommand;
    use warden_proto::{List, Text};

    fn command() -> GuestCommand {
        let (command, args, env) = (Text::cut("sh"), List::default(), List::default());
        GuestCommand { command, args, cwd: None, env, timeout_ms: None }
    }

    #[test]
    fn a_worker_may_not_ask_the_brokers_own_question() {
        let target = GuestTarget::Path { path: warden_proto::Text::default() };
        let check = FsCall::Check { target: target.clone(), check: FileCheck::Exists };
        assert_eq!(row_of(&WorkerCall::Fs { origin: Origin::Import, base64: false, call: check }), None);
        let attach = ProcCall::Attach { command: command(), stdin: false };
        assert_eq!(row_of(&WorkerCall::Proc { origin: Origin::Import, alias: Text::default(), call: attach }), None);
        let close = ProcCall::Close { process: 1 };
        assert!(row_of(&WorkerCall::Proc { origin: Origin::Import, alias: Text::default(), call: close }).is_some());
        let stat = FsCall::Metadata { target };
        assert!(row_of(&WorkerCall::Fs { origin: Origin::Import, base64: false, call: stat }).is_some());
    }

    #[test]
    fn actions_come_only_while_a_plan_is_executed() {
        let call = WorkerCall::Policy { origin: Origin::Action, call: PolicyCall::Describe };
        assert_eq!(row_of(&call).unwrap().states, &[Acting]);
        let call = WorkerCall::Policy { origin: Origin::Import, call: PolicyCall::Describe };
        assert!(!row_of(&call).unwrap().states.contains(&Acting));
    }
}
