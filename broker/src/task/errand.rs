//! A person's own command: a task without a guest, whose one act is the command.
//!
//! Runs in the broker, for `warden jail`. Decided, reserved, recorded and run by cap-proc like a command that a guest asks
//! for; the person's streams are pumped beside it. A person's signal goes to the command first, as a terminal would send it,
//! and then ends its whole tree (T-12).

use super::act::{Act, outcome_of};
use super::commands::Early;
use super::monitor::ERRAND;
use super::process_grants::Startable;
use super::{Ended, Ending, Spec, Stop, Surroundings, Task, absent};
use crate::audit::Value;
use crate::cancel::cancelled;
use crate::output::Sinks;
use crate::peer::PeerError;
use crate::progress::Silent;
use crate::streams::{Ends, Flow, Streamed, Streams};
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use warden_policy::{Call, PathArg, SpawnKind, Verdict};
use warden_proto::limits::{CANCEL_GRACE, REPLY_DEADLINE};
use warden_proto::msg::error::{CallError, ErrorCode};
use warden_proto::msg::fs::GuestTarget;
use warden_proto::msg::life::Role;
use warden_proto::msg::proc::{
    Exit, GuestCommand, ProcCall, ProcHelperCall, ProcHelperReply, ProcReply, ProcessSignal, Toll,
};
use warden_proto::{Kind, List, Text};

/// What a command that was asked to end gets before its tree is ended.
const PARTING: Duration = Duration::from_secs(1);
/// What a reader gets for the last output of a command that a person has stopped.
const LAST_WORDS: Duration = Duration::from_millis(500);
const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;

/// What a person wants run.
#[derive(Debug)]
pub struct Errand {
    /// Name of a command of the policy.
    pub command: String,
    /// Arguments without its name.
    pub args: Vec<String>,
    /// Where the person stands, as `label:path`, if that lies in a workspace. Where the command may not start there, it
    /// starts in its own place.
    pub stands: Option<String>,
    /// The program's path, for the record.
    pub program: String,
}

/// Why a command is no longer waited for.
enum Over {
    /// It has ended.
    Ended(Exit, Toll),
    /// A person asked for its end.
    Asked(i32),
    /// The task's time is up.
    Late,
}

impl Task {
    /// Runs one command to its end. `early`: its helper, where that is starting already.
    pub async fn errand(
        spec: Spec,
        around: Surroundings,
        (id, mut early): ([u8; 16], Option<Early>),
        errand: Errand,
        streams: Streams,
    ) -> Ended {
        let sinks = Sinks::keep(spec.output_max_bytes);
        let mut task = Self::new(spec, around, sinks, Rc::new(Silent), id);
        if let Some(turns) = early.as_mut().and_then(Early::take_turns) {
            let _ = task.helpers.turns.set(turns);
        }
        task.early = early;
        let ending = match task.perform_errand(&errand, streams).await {
            Ok(ending) | Err(Stop(ending)) => ending,
        };
        task.ended(ending).await
    }

    async fn perform_errand(&mut self, errand: &Errand, streams: Streams) -> Result<Ending, Stop> {
        self.report.count(ERRAND.capability);
        let wanted = self.wanted(errand);
        let cwd = wanted.as_ref().ok().and_then(|wanted| wanted.cwd.clone());
        let cwd = if let Some(GuestTarget::Path { path }) = cwd { path.to_string() } else { String::new() };
        let fields = [
            ("command", Value::Text(&errand.command)),
            ("program", Value::Text(&errand.program)),
            ("args", Value::Texts(&errand.args)),
            ("cwd", Value::Text(&cwd)),
        ];
        let input = Value::Fields(&fields);
        let target = format!("{} {}", errand.command, errand.args.join(" "));
        let decided = wanted.and_then(|wanted| {
            absent::secrets(errand.args.iter().map(String::as_bytes))?;
            self.startable(SpawnKind::Spawn, wanted)
        });
        let needed = match decided {
            Ok(start) => match self.need(Role::CapProcFront).await {
                Ok(Ok(())) => Ok(start),
                Ok(Err(error)) => {
                    self.ledger.settle(start.reserved, 0);
                    Err(error)
                }
                Err(stop) => return Err(stop),
            },
            Err(error) => {
                // T-09: what was begun for it is on the record too.
                if self.early.is_some()
                    && let Err(stop) = self.need(Role::CapProcFront).await
                {
                    return Err(stop);
                }
                Err(error)
            }
        };
        let start = match needed {
            Ok(start) => start,
            Err(error) => {
                self.refuse(ERRAND, ERRAND.capability, target.trim(), input, &error)?;
                return Ok(Ending::NotRun(error));
            }
        };
        self.report.landlock_abi =
            self.helpers.get(Role::CapProcFront).map_or(0, |helper| helper.jailed.locked.landlock_abi);
        self.recorded(start, input, target.trim(), streams).await
    }

    /// What is asked of the policy. A person who stands where the command may not start has not asked for that.
    fn wanted(&self, errand: &Errand) -> Result<GuestCommand, CallError> {
        let long = |e: warden_proto::bounded::TooLong| {
            CallError::new(ErrorCode::InvalidArgument, &format!("the command line is too long: {e}"))
        };
        let args = errand.args.iter().map(Text::new).collect::<Result<Vec<_>, _>>().map_err(long)?;
        let texts: Vec<&str> = errand.args.iter().map(String::as_str).collect();
        let stands = errand.stands.as_deref().filter(|stands| {
            let (command, cwd) = (errand.command.as_str(), Some(PathArg::Text(stands)));
            let (args, kind) = (texts.as_slice(), SpawnKind::Spawn);
            let call = Call::Spawn { kind, command, args, cwd, env_names: &[], timeout: None };
            matches!(self.spec.policy.decide(&call), Ok(Verdict::Allow(_)))
        });
        let cwd = stands.map(|path| Ok(GuestTarget::Path { path: Text::new(path).map_err(long)? })).transpose()?;
        let command = Text::new(errand.command.as_str()).map_err(long)?;
        Ok(GuestCommand { command, args: List::new(args).map_err(long)?, cwd, env: List::default(), timeout_ms: None })
    }

    /// The act between its two records.
    async fn recorded(
        &mut self,
        start: Startable,
        input: Value<'_>,
        target: &str,
        streams: Streams,
    ) -> Result<Ending, Stop> {
        let Startable { command, rule, reserved, growth, .. } = start;
        let growth_max = command.growth_max;
        let keep = usize::try_from(self.spec.output_max_bytes).unwrap_or(usize::MAX);
        let (mut flow, ends) = Flow::prepare(streams, keep).map_err(|errno| {
            let message = format!("the command's pipes could not be made: {errno}");
            Stop(Ending::NotRun(CallError::new(ErrorCode::Internal, &message)))
        })?;
        let act = Act { row: ERRAND, input, rule: &rule };
        let ticket = self.begin(&act)?;
        let started = Instant::now();
        let call = ProcCall::Attach { command, stdin: ends.stdin };
        let result = self.attend(&call, ends, &mut flow).await;
        self.ledger.settle(reserved, 0);
        // Where it is not known what its files grew by, all that was reserved is spent.
        let grown = if let Ok(Over::Ended(_, toll)) = &result { toll.grown } else { growth_max };
        self.ledger.settle(growth, grown);
        if let Ok(Over::Ended(_, toll)) = &result {
            self.used.1 = toll.memory_peak_bytes;
        }
        let denied = match &result {
            Ok(Over::Ended(_, toll)) => self.note_toll(&toll.clone(), target.split(" ").next().unwrap_or_default()),
            _ => Vec::new(),
        };
        let streamed = flow.streamed();
        let fields = result.as_ref().map(|over| told(over, &streamed, &denied)).unwrap_or_default();
        let moved = streamed.iter().flatten().fold(0_u64, |sum, stream| sum.saturating_add(stream.bytes));
        self.end(&act, ticket, outcome_of(&result, Value::Fields(&fields)), Some(moved), started)?;
        [self.sinks.stdout, self.sinks.stderr] = flow.take_kept();
        Ok(match result {
            Err(error) => {
                self.report.deny(ERRAND.capability, target, &error);
                Ending::NotRun(error)
            }
            Ok(Over::Asked(signal)) => Ending::Cancelled(signal),
            Ok(Over::Late) => Ending::Timeout,
            Ok(Over::Ended(exit, _)) => match flow.lost() {
                Some(errno) => Ending::OutputLost(errno.to_string()),
                None => Ending::Command(exit),
            },
        })
    }

    /// From the start of the command to its end and that of its output.
    async fn attend(&mut self, call: &ProcHelperCall, ends: Ends, flow: &mut Flow) -> Result<Over, CallError> {
        let process = self.attach(call, ends).await?;
        flow.start().map_err(|errno| {
            CallError::new(ErrorCode::Internal, &format!("the command's streams could not be passed: {errno}"))
        })?;
        let over = self.watch(process).await?;
        let mut cancel = self.around.cancel.clone();
        if matches!(over, Over::Ended(..)) {
            // Its time was its own; what it wrote belongs to whoever reads it, at the reader's speed.
            tokio::select! {
                biased;
                () = flow.finish() => return Ok(over),
                signal = cancelled(&mut cancel) => return Ok(Over::Asked(signal)),
            }
        }
        let _ = timeout(LAST_WORDS, flow.finish()).await;
        Ok(over)
    }

    /// Has it started with its ends of the pipes, which are closed here.
    async fn attach(&mut self, call: &ProcHelperCall, ends: Ends) -> Result<u32, CallError> {
        let descriptors: Vec<BorrowedFd<'_>> = ends.pipes.iter().map(AsFd::as_fd).collect();
        match self.ask_now(call, &descriptors, REPLY_DEADLINE).await? {
            ProcReply::Started { process, degraded } => {
                for what in degraded.iter() {
                    self.report.degrade(what.as_str());
                }
                Ok(process)
            }
            _ => {
                let error = PeerError::Refused("it answered something else than it was asked".to_owned());
                Err(self.helper_lost(Role::CapProcFront, &error, false).await)
            }
        }
    }

    /// Waits for its end, the person and the clock, whichever comes first; nothing of its tree is left then.
    async fn watch(&mut self, process: u32) -> Result<Over, CallError> {
        let (mut cancel, deadline) = (self.around.cancel.clone(), self.ledger.deadline());
        let call = ProcCall::Wait { process, timeout_ms: None };
        let request = match self.front()?.begin_call(&call, Instant::now() + REPLY_DEADLINE).await {
            Ok(request) => request,
            Err(error) => return Err(self.helper_lost(Role::CapProcFront, &error, false).await),
        };
        let front = self.front()?;
        let early = tokio::select! {
            biased;
            reply = front.reply::<ProcHelperReply>(request) => Ok(reply),
            signal = cancelled(&mut cancel) => Err(Over::Asked(signal)),
            () = sleep_until(deadline) => Err(Over::Late),
        };
        let (reply, over) = match early {
            Ok(reply) => (reply, None),
            Err(over) => {
                let until = Instant::now() + CANCEL_GRACE;
                let _ = front.send(Kind::Cancel, request, &(), &[], until).await;
                let late = timeout_at(until, front.reply(request)).await;
                (late.unwrap_or(Err(PeerError::Silent)), Some(over))
            }
        };
        match (reply, over) {
            (Ok(Ok(ProcReply::Exited { exit, toll })), None) => Ok(Over::Ended(exit, toll)),
            (Ok(Err(error)), None) => Err(self.over_limit(error, &call, None)),
            (Ok(Ok(ProcReply::Exited { .. })), Some(over)) => Ok(over),
            (Ok(Err(_)), Some(over)) => {
                self.end_tree(process, &over).await?;
                Ok(over)
            }
            (Ok(Ok(_)), _) => {
                let error = PeerError::Refused("it answered something else than it was asked".to_owned());
                Err(self.helper_lost(Role::CapProcFront, &error, false).await)
            }
            (Err(error), _) => Err(self.helper_lost(Role::CapProcFront, &error, false).await),
        }
    }

    /// A person's signal goes to the command first; what has not ended after a moment is ended with its tree.
    async fn end_tree(&mut self, process: u32, over: &Over) -> Result<(), CallError> {
        if let Over::Asked(signal) = over {
            let signal = match *signal {
                SIGHUP => ProcessSignal::Hangup,
                SIGINT => ProcessSignal::Interrupt,
                _ => ProcessSignal::Term,
            };
            // One that has ended meanwhile is waited for all the same.
            let _ = self.ask_now(&ProcCall::Signal { process, signal }, &[], PARTING).await;
            let timeout_ms = Some(crate::ledger::millis(PARTING));
            let parted = self.ask_now(&ProcCall::Wait { process, timeout_ms }, &[], PARTING + CANCEL_GRACE).await;
            if matches!(parted, Ok(ProcReply::Exited { .. })) {
                return Ok(());
            }
        }
        self.ask_now(&ProcCall::Close { process }, &[], CANCEL_GRACE).await.map(drop)
    }

    fn front(&mut self) -> Result<&mut crate::peer::Peer, CallError> {
        match self.helpers.get(Role::CapProcFront) {
            Some(helper) => Ok(&mut helper.jailed.peer),
            None => Err(CallError::new(ErrorCode::Unavailable, "cap-proc is gone, and the command with it")),
        }
    }

    /// Asks cap-proc something that it answers at once, whoever has asked for the end.
    async fn ask_now(
        &mut self,
        call: &ProcHelperCall,
        descriptors: &[BorrowedFd<'_>],
        patience: Duration,
    ) -> Result<ProcReply, CallError> {
        let until = Instant::now() + patience;
        let front = self.front()?;
        let asked = match front.begin_call_with(call, descriptors, until).await {
            Ok(request) => timeout_at(until, front.reply::<ProcHelperReply>(request)).await,
            // Our own message does not fit a frame: nothing was sent, and the helper is not to blame.
            Err(PeerError::Failed(why)) => {
                return Err(CallError::new(
                    ErrorCode::InvalidArgument,
                    &format!("the command line is too long: {why}"),
                ));
            }
            Err(error) => Ok(Err(error)),
        };
        match asked.unwrap_or(Err(PeerError::Silent)) {
            Ok(reply) => reply,
            Err(error) => Err(self.helper_lost(Role::CapProcFront, &error, false).await),
        }
    }
}

/// What the record says of the end: how it ended, and what passed each stream, by length and hash.
fn told<'a>(over: &Over, streamed: &'a [Option<Streamed>; 3], denied: &'a [String]) -> Vec<(&'static str, Value<'a>)> {
    let number = |n: Option<i32>| n.map_or(Value::Null, |n| Value::Signed(i64::from(n)));
    let (status, signal, timed_out, asked) = match over {
        Over::Ended(exit, _) => (exit.code, exit.signal, exit.timed_out, None),
        Over::Asked(signal) => (None, None, false, Some(*signal)),
        Over::Late => (None, None, true, None),
    };
    let mut fields =
        vec![("status", number(status)), ("signal", number(signal)), ("timed_out", Value::Bool(timed_out))];
    fields.extend(asked.map(|signal| ("ended_by_person", number(Some(signal)))));
    if let Over::Ended(_, toll) = over {
        fields.push(("grown_bytes", Value::Number(toll.grown)));
        fields.push(("denials", Value::Number(toll.denials)));
        fields.push(("denied", Value::Texts(denied)));
    }
    for (name, stream) in ["stdin", "stdout", "stderr"].into_iter().zip(streamed) {
        let summary = |stream: &'a Streamed| Value::Summary { len: stream.bytes, sha256: &stream.sha256 };
        fields.push((name, stream.as_ref().map_or(Value::Null, summary)));
    }
    fields
}
