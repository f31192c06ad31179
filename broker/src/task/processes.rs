//! Calls on commands: decided here, run by cap-proc.

use super::absent;
use super::act::{Act, outcome_of};
use super::handles::{Held, Process};
use super::monitor::Row;
use super::process_grants::Prepared;
use super::{Answer, Stop, Task, failed};
use crate::audit::Value;
use crate::ledger::Cost;
use crate::peer::PeerError;
use tokio::time::Instant;
use warden_policy::LimitKey;
use warden_proto::Text;
use warden_proto::blob::Body;
use warden_proto::limits::INLINE_MAX_BYTES;
use warden_proto::msg::error::{CallError, ErrorCode};
use warden_proto::msg::fs::GuestTarget;
use warden_proto::msg::life::Role;
use warden_proto::msg::proc::{
    GuestCommand, ProcCall, ProcGuestCall, ProcHelperCall, ProcHelperReply, ProcReply, Stream, Toll,
};
use warden_proto::msg::worker::{Origin, WorkerReply};
use warden_proto::render::{self, Subject};

/// Most of each output in one reply to a worker: both must fit what it may be sent in parts.
const OUTPUT_REPLY_MAX_BYTES: u32 = 480 * 1024;

/// What a guest asked for, as records and results show it.
struct Shown {
    command: String,
    args: Vec<String>,
    cwd: String,
    process: String,
    detail: &'static str,
    stdin: Vec<u8>,
    env: Vec<String>,
}

impl Shown {
    /// Every text that the command would be given.
    fn texts(&self) -> impl Iterator<Item = &[u8]> {
        self.args.iter().chain(&self.env).map(String::as_bytes).chain([self.stdin.as_slice()])
    }
}

/// A call that was done, with its payloads.
struct Done {
    reply: ProcReply,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// What the door refused, as `rule: label:path`.
    denied: Vec<String>,
}

impl Done {
    /// What the record says of the answer: how it ended, and its output by the log's own bound.
    fn told(&self) -> Vec<(&'static str, Value<'_>)> {
        let number = |n: Option<i32>| n.map_or(Value::Null, |n| Value::Signed(i64::from(n)));
        match &self.reply {
            ProcReply::Ran { exit, toll, .. } | ProcReply::Exited { exit, toll } => vec![
                ("status", number(exit.code)),
                ("signal", number(exit.signal)),
                ("timed_out", Value::Bool(exit.timed_out)),
                ("stdout", Value::Bytes(&self.stdout)),
                ("stderr", Value::Bytes(&self.stderr)),
                ("grown_bytes", Value::Number(toll.grown)),
                ("denials", Value::Number(toll.denials)),
                ("denied", Value::Texts(&self.denied)),
            ],
            ProcReply::Closed { toll } => vec![
                ("grown_bytes", Value::Number(toll.grown)),
                ("denials", Value::Number(toll.denials)),
                ("denied", Value::Texts(&self.denied)),
            ],
            ProcReply::Started { process, .. } => vec![("process", Value::Number(u64::from(*process)))],
            ProcReply::Data { bytes, eof } => vec![("data", Value::Bytes(bytes)), ("eof", Value::Bool(*eof))],
            ProcReply::Accepted { bytes } => vec![("bytes", Value::Number(u64::from(*bytes)))],
            ProcReply::Done => Vec::new(),
        }
    }
}

impl Task {
    /// One call on commands.
    pub(super) async fn commands(&mut self, row: Row, origin: Origin, alias: &str, call: ProcGuestCall) -> Answer {
        self.report.count(row.capability);
        let (call, stdin) = match call {
            ProcCall::Run { command, stdin, output_max_bytes } => {
                let bytes = self.worker()?.peer.take(stdin)?;
                (ProcCall::Run { command, stdin: empty_body(), output_max_bytes }, Some(bytes))
            }
            other => (other, None),
        };
        let wanted = if let ProcCall::Run { output_max_bytes, .. } = &call { *output_max_bytes } else { 0 };
        let shown = self.shown(&call, alias, stdin.clone().unwrap_or_default());
        let result = self.command_act(row, &shown, call, stdin).await?;
        if origin == Origin::Action {
            self.note_command_action(row, &shown, &result);
        }
        match result {
            Ok(Done {
                reply: ProcReply::Ran { exit, mut truncated, degraded, toll, .. },
                mut stdout,
                mut stderr,
                ..
            }) => {
                // The result has it all; what the worker is told is for its planner, who wants no more than it asked for.
                let most = usize::try_from(wanted.min(OUTPUT_REPLY_MAX_BYTES)).unwrap_or(usize::MAX);
                truncated |= stdout.len() > most || stderr.len() > most;
                stdout.truncate(most);
                stderr.truncate(most);
                // Both must fit one frame: what the first takes of it the second has not.
                let beside = stderr.len().min(INLINE_MAX_BYTES);
                let stdout = self.place_for_worker(stdout, beside).await?;
                let taken = if let Body::Inline { bytes } = &stdout { bytes.len() } else { 0 };
                let stderr = self.place_for_worker(stderr, taken).await?;
                Ok(WorkerReply::Proc(ProcReply::Ran { exit, stdout, stderr, truncated, degraded, toll }))
            }
            Ok(done) => Ok(WorkerReply::Proc(done.reply)),
            Err(error) => Ok(failed(error)),
        }
    }

    fn shown(&self, call: &ProcGuestCall, alias: &str, stdin: Vec<u8>) -> Shown {
        let of_command = |command: &GuestCommand| Shown {
            command: command.command.to_string(),
            args: command.args.iter().map(|a| a.to_string()).collect(),
            cwd: match &command.cwd {
                Some(GuestTarget::Path { path }) => path.to_string(),
                Some(GuestTarget::At { dir, path }) => format!("#{dir}/{path}"),
                None => String::new(),
            },
            process: alias.to_owned(),
            detail: "",
            stdin: stdin.clone(),
            env: command.env.iter().map(|var| format!("{}={}", var.key, var.value)).collect(),
        };
        let number = match call {
            ProcCall::Run { command, .. } | ProcCall::Start { command, .. } | ProcCall::Attach { command, .. } => {
                return of_command(command);
            }
            ProcCall::WriteStdin { process, .. }
            | ProcCall::Read { process, .. }
            | ProcCall::Wait { process, .. }
            | ProcCall::Signal { process, .. }
            | ProcCall::Close { process } => *process,
        };
        let command = self.processes.get(number).map(|p| p.command.clone()).unwrap_or_default();
        let process = if alias.is_empty() { format!("#{number}") } else { alias.to_owned() };
        let (detail, stdin) = match call {
            ProcCall::WriteStdin { bytes, eof, .. } => (if *eof { "eof" } else { "" }, bytes.to_vec()),
            ProcCall::Signal { signal, .. } => (signal.name(), Vec::new()),
            ProcCall::Read { stream: Stream::Stdout, .. } => ("stdout", Vec::new()),
            ProcCall::Read { stream: Stream::Stderr, .. } => ("stderr", Vec::new()),
            _ => ("", Vec::new()),
        };
        Shown { command, args: Vec::new(), cwd: String::new(), process, detail, stdin, env: Vec::new() }
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
            ("detail", Value::Text(shown.detail)),
            ("env", Value::Texts(&shown.env)),
            ("stdin", Value::Bytes(&shown.stdin)),
        ];
        let input = Value::Fields(&fields);
        let prepared = match absent::secrets(shown.texts()).and_then(|()| self.prepare(row, call)) {
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
        let fields = result.as_ref().map(Done::told).unwrap_or_default();
        let done = Value::Fields(&fields);
        let moved = result.as_ref().ok().map(|d| d.stdout.len().saturating_add(d.stderr.len()));
        let moved = moved.and_then(|n| u64::try_from(n).ok());
        self.end(&act, ticket, outcome_of(&result, done), moved, started)?;
        if let Err(error) = &result {
            self.report.deny(row.capability, &target, error);
        }
        Ok(result)
    }

    fn release(&mut self, prepared: Prepared) {
        for reserved in prepared.reserved.into_iter().chain(prepared.growth) {
            self.ledger.settle(reserved, 0);
        }
    }

    async fn ask_commands(
        &mut self,
        prepared: Prepared,
        shown: &Shown,
        stdin: Option<Vec<u8>>,
    ) -> Result<Done, CallError> {
        let Prepared { mut call, rule, reserved, places, growth, growth_max, process, patience } = prepared;
        if let (ProcCall::Run { stdin: place, .. }, Some(bytes)) = (&mut call, stdin) {
            match self.place_for_helper(Role::CapProcFront, bytes, 40_960).await {
                Ok(body) => *place = body,
                Err(error) => {
                    let all = reserved.into_iter().chain(growth);
                    all.for_each(|reserved| self.ledger.settle(reserved, 0));
                    return Err(error);
                }
            }
        }
        let closing = matches!(call, ProcCall::Close { .. });
        let asked: Result<ProcHelperReply, CallError> = self.ask(Role::CapProcFront, &call, patience).await;
        if let Some(growth) = growth {
            self.ledger.settle(growth, growth_of(&asked, growth_max));
        }
        let reply = asked.and_then(|reply| reply);
        // A command that runs to its end gives its place back; one that was started keeps it until its end is seen.
        let keeps = matches!(reply, Ok(ProcReply::Started { .. }));
        if let Some(reserved) = reserved {
            self.ledger.settle(reserved, if keeps { places } else { 0 });
        }
        let mut reply = reply.map_err(|error| self.over_limit(error, &call, process))?;
        let denied = self.note_denied(&reply, shown);
        self.follow(&mut reply, process, closing, (places, growth_max), (shown, rule)).await?;
        match reply {
            ProcReply::Ran { exit, stdout, stderr, truncated, degraded, toll } => {
                for what in degraded.iter() {
                    self.report.degrade(what.as_str());
                }
                let stdout = self.payload(Role::CapProcFront, stdout).await?;
                let stderr = self.payload(Role::CapProcFront, stderr).await?;
                let (none, other) = (empty_body(), empty_body());
                Ok(Done {
                    reply: ProcReply::Ran { exit, stdout: none, stderr: other, truncated, degraded, toll },
                    stdout,
                    stderr,
                    denied,
                })
            }
            reply => Ok(Done { reply, stdout: Vec::new(), stderr: Vec::new(), denied }),
        }
    }

    /// A command that its keeper ended over a limit: whoever waited for it has seen its end, and the limit is named by the
    /// layer that set it. cap-proc knows its name only.
    pub(super) fn over_limit(
        &mut self,
        mut error: CallError,
        call: &ProcHelperCall,
        process: Option<u32>,
    ) -> CallError {
        let key = LimitKey::ALL.into_iter().find(|key| error.rule.strip_prefix("limits.") == Some(key.name()));
        let Some(key) = key.filter(|_| error.code == ErrorCode::Limit) else { return error };
        match self.spec.policy.limits().rule(key) {
            "" => {}
            rule => error.rule = Text::cut(rule),
        }
        if let (ProcCall::Wait { .. }, Some(number)) = (call, process) {
            // How much its files grew is not known: what was reserved for it stays spent.
            let held = self.processes.ended(number);
            self.give_back(held, held.growth_max);
        }
        error
    }

    /// A process that has ended holds no places, and of its growth only what it came to.
    fn give_back(&mut self, held: Held, grown: u64) {
        self.ledger.give_back(Cost::Processes, held.places);
        self.ledger.give_back(Cost::FsWritten, held.growth_max.saturating_sub(grown));
    }

    /// What the door refused a command, in the result and for the record. A command that has ended says it again to whoever
    /// asks again; the result holds each pair once.
    fn note_denied(&mut self, reply: &ProcReply, shown: &Shown) -> Vec<String> {
        match reply {
            ProcReply::Ran { toll, .. } | ProcReply::Exited { toll, .. } | ProcReply::Closed { toll } => {
                self.note_toll(toll, &shown.command)
            }
            _ => Vec::new(),
        }
    }

    /// The same of a toll.
    pub(super) fn note_toll(&mut self, toll: &Toll, command: &str) -> Vec<String> {
        if let Some(form) = toll.door.held() {
            self.report.hold(form);
        }
        let told = u64::try_from(toll.denied.iter().count()).unwrap_or(u64::MAX);
        self.report.deny_more(toll.denials.saturating_sub(told));
        for denial in toll.denied.iter() {
            let why = if denial.rule.as_str().ends_with(".max_file") {
                format!("`{}` may not become longer; who writes on is ended (SIGXFSZ) or told EFBIG", denial.target)
            } else {
                format!("`{}` was refused to the command {command}", denial.target)
            };
            let error = CallError::denied(denial.rule.as_str(), &why);
            self.report.deny("proc.spawn", denial.target.as_str(), &error);
        }
        toll.denied.iter().map(|denial| format!("{}: {}", denial.rule, denial.target)).collect()
    }

    /// Keeps the table of processes true after a reply, and gives a new process the task's own number.
    async fn follow(
        &mut self,
        reply: &mut ProcReply,
        process: Option<u32>,
        closing: bool,
        (places, growth_max): (u64, u64),
        (shown, rule): (&Shown, String),
    ) -> Result<(), CallError> {
        match (reply, process) {
            (ProcReply::Started { process: number, degraded }, None) => {
                for what in degraded.iter() {
                    self.report.degrade(what.as_str());
                }
                let new = Process { helper: *number, command: shown.command.clone(), rule, places, growth_max };
                let Some(own) = self.processes.add(new) else {
                    self.ledger.give_back(Cost::Processes, places);
                    let error = PeerError::Refused("it gave out a process twice".to_owned());
                    return Err(self.helper_lost(Role::CapProcFront, &error, false).await);
                };
                *number = own;
            }
            (ProcReply::Started { .. }, Some(_)) => {
                let error = PeerError::Refused("it started what it was not asked to".to_owned());
                return Err(self.helper_lost(Role::CapProcFront, &error, false).await);
            }
            (ProcReply::Exited { toll, .. }, Some(number)) => {
                let held = self.processes.ended(number);
                self.give_back(held, toll.grown);
            }
            (ProcReply::Closed { toll }, Some(number)) if closing => {
                let held = self.processes.remove(number);
                self.give_back(held, toll.grown);
            }
            _ => {}
        }
        Ok(())
    }

    fn note_command_action(&mut self, row: Row, shown: &Shown, result: &Result<Done, CallError>) {
        let rendered = match result {
            Ok(done) => {
                let begun = matches!(done.reply, ProcReply::Started { .. } | ProcReply::Ran { .. });
                let command = begun.then_some((shown.command.as_str(), shown.args.as_slice(), shown.cwd.as_str()));
                let content: [&[u8]; 2] = [&done.stdout, &done.stderr];
                let subject = Subject { command, process: &shown.process, content, ..Subject::default() };
                Ok(render::proc(&subject, &done.reply))
            }
            Err(error) => Err(error.clone()),
        };
        let target = format!("{} {}", shown.command, shown.args.join(" "));
        match rendered.as_ref().ok().and_then(super::report::end_of_command) {
            Some(end) => self.progress.command(row.capability, target.trim(), &end),
            None => self.progress.action(row.capability, target.trim(), rendered.as_ref().err()),
        }
        self.report.action(row.capability, &rendered);
    }
}

/// What of a reservation for growth is spent. A started command keeps it until its end is seen; where it is not known what a
/// command came to, all of it is; one that never ran wrote nothing.
fn growth_of(asked: &Result<ProcHelperReply, CallError>, growth_max: u64) -> u64 {
    match asked {
        Ok(Ok(ProcReply::Ran { toll, .. })) => toll.grown,
        Ok(Err(error)) => match error.code {
            ErrorCode::NotFound | ErrorCode::Unavailable | ErrorCode::InvalidArgument | ErrorCode::Denied => 0,
            _ => growth_max,
        },
        _ => growth_max,
    }
}

pub(super) fn empty_body() -> Body {
    Body::Inline { bytes: warden_proto::Bytes::default() }
}
