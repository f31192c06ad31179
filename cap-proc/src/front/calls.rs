//! The broker's calls: each is answered at once or noted with the process whose progress answers it.

use super::desk::Desk;
use super::life::FrontError;
use super::pipes::{self, Input, Output};
use super::process::{Kill, Phase, Process, Purpose, Write};
use super::rules;
use crate::lane::LaneError;
use crate::orders::{DoorState, Launch, Order};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};
use warden_proto::SocketError;
use warden_proto::limits::{BLOB_MAX_BYTES, INLINE_MAX_BYTES, OUTPUT_MAX_BYTES, REPLY_DEADLINE};
use warden_proto::msg::error::{CallError, ErrorCode};
use warden_proto::msg::proc::{
    ATTACHED_MAX, HelperCommand, ProcCall, ProcHelperCall, ProcReply, ProcessSignal, StdioMode, Toll,
};

/// Processes of one task that may be open at once, ended ones that nobody has closed included.
const PROCESSES_MAX: usize = 64;
/// What a call may wait for room in a process's input: less than the broker waits for the answer.
const WRITE_DEADLINE: Duration = Duration::from_secs(REPLY_DEADLINE.as_secs().saturating_sub(2));
/// Where a time limit is so long that the clock cannot hold it.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// A process that has been checked and is ready to be launched.
struct Draft {
    launch: Launch,
    process: Process,
    theirs: Vec<OwnedFd>,
}

fn later(delay: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(delay.min(LONGEST)).unwrap_or(now)
}

fn conflict<T>(message: &str) -> Result<T, CallError> {
    Err(CallError::new(ErrorCode::Conflict, message))
}

impl Desk {
    /// Takes one call, and what came with it: only a start of attached streams may bring descriptors.
    pub(super) fn call(
        &mut self,
        request: u32,
        call: ProcHelperCall,
        attached: Vec<OwnedFd>,
    ) -> Result<(), FrontError> {
        let due = match &call {
            ProcCall::Attach { stdin: true, .. } => ATTACHED_MAX,
            ProcCall::Attach { stdin: false, .. } => ATTACHED_MAX.saturating_sub(1),
            _ => 0,
        };
        if attached.len() != due {
            return Err(SocketError::Descriptors(attached.len(), due).into());
        }
        let answer = match call {
            ProcCall::Attach { command, stdin } => {
                self.draft_attached(request, &command, stdin, attached).and_then(|draft| self.launch(draft))
            }
            ProcCall::Run { command, stdin, output_max_bytes } => {
                let stdin = self.calls.take(stdin)?;
                let output_max = usize::try_from(output_max_bytes).unwrap_or(usize::MAX).min(OUTPUT_MAX_BYTES);
                self.draft_run(request, &command, stdin, output_max).and_then(|draft| self.launch(draft))
            }
            ProcCall::Start { command, stdin, stdout, stderr } => {
                let modes = [stdin, stdout, stderr];
                self.draft_start(request, &command, modes).and_then(|draft| self.launch(draft))
            }
            ProcCall::WriteStdin { process, bytes, eof } => self.handle(process).and_then(|process| {
                let [stdin, ..] = process.piped;
                if !stdin {
                    return conflict("the process's input is no pipe");
                }
                process.writes.push_back(Write { request, bytes: bytes.into_vec(), eof, until: later(WRITE_DEADLINE) });
                Ok(None)
            }),
            ProcCall::Read { process, stream, max_bytes } => self.handle(process).and_then(|process| {
                let [_, stdout, stderr] = process.piped;
                let piped = if stream == warden_proto::msg::proc::Stream::Stdout { stdout } else { stderr };
                if !piped {
                    return conflict("this output of the process is no pipe");
                }
                let max = usize::try_from(max_bytes).unwrap_or(usize::MAX).clamp(1, INLINE_MAX_BYTES);
                process.reads.push((request, stream, max));
                Ok(None)
            }),
            ProcCall::Wait { process, timeout_ms } => self.handle(process).map(|process| {
                let until = timeout_ms.map(|ms| later(Duration::from_millis(ms)));
                process.waits.push((request, until));
                None
            }),
            ProcCall::Signal { process, signal } => {
                self.handle(process).and_then(|process| give_signal(process, signal))
            }
            ProcCall::Close { process } => self.handle(process).map(|process| {
                process.closes.push(request);
                process.want_kill();
                None
            }),
        };
        match answer {
            Ok(None) => Ok(()),
            Ok(Some(reply)) => self.reply(request, Ok(reply)),
            Err(error) => self.reply(request, Err(error)),
        }
    }

    /// The broker no longer wants the answer to a call: what it started is ended, what it waits for is not waited for.
    /// Every call is answered all the same, once: a run and a start with what really became of them.
    pub(super) fn cancel(&mut self, request: u32) -> Result<(), FrontError> {
        let mut dropped = 0_usize;
        for process in self.processes.values_mut() {
            let starts = match &process.purpose {
                Purpose::Run { request: own, .. } => *own == request,
                Purpose::Handle { request: own } => *own == Some(request),
            };
            if starts {
                process.want_kill();
            }
            let before = process.waits.len().saturating_add(process.reads.len()).saturating_add(process.writes.len());
            process.waits.retain(|(own, _)| *own != request);
            process.reads.retain(|(own, _, _)| *own != request);
            process.writes.retain(|write| write.request != request);
            let after = process.waits.len().saturating_add(process.reads.len()).saturating_add(process.writes.len());
            dropped = dropped.saturating_add(before.saturating_sub(after));
        }
        for _ in 0..dropped {
            self.reply(request, Err(CallError::new(ErrorCode::Timeout, "the call was cancelled")))?;
        }
        Ok(())
    }

    /// The process of a handle that the broker was given; a run has none.
    fn handle(&mut self, id: u32) -> Result<&mut Process, CallError> {
        let known = self.processes.get_mut(&id).filter(|process| matches!(process.purpose, Purpose::Handle { .. }));
        let process = known.ok_or_else(|| CallError::new(ErrorCode::NotFound, "there is no such process"))?;
        if process.closes.is_empty() { Ok(process) } else { conflict("the process is being closed") }
    }

    fn draft_run(
        &mut self,
        request: u32,
        command: &HelperCommand,
        stdin: Vec<u8>,
        output_max: usize,
    ) -> Result<Draft, CallError> {
        let piped = [!stdin.is_empty(), true, true];
        let purpose = Purpose::Run { request, output_max };
        let mut draft = self.draft(command, piped, purpose, |pipe| match pipe {
            Some(pipe) => Output::kept(pipe, output_max),
            None => Output::default(),
        })?;
        draft.process.input.put(&stdin, true);
        Ok(draft)
    }

    fn draft_start(
        &mut self,
        request: u32,
        command: &HelperCommand,
        modes: [StdioMode; 3],
    ) -> Result<Draft, CallError> {
        let held = usize::try_from(self.setup.bounds.output_bytes).unwrap_or(usize::MAX).clamp(1, BLOB_MAX_BYTES);
        let piped = modes.map(|mode| mode == StdioMode::Pipe);
        let purpose = Purpose::Handle { request: Some(request) };
        self.draft(command, piped, purpose, |pipe| Output::streamed(pipe, held))
    }

    /// The command's streams are the broker's to pump: here they pass through, and no byte of them is held.
    fn draft_attached(
        &mut self,
        request: u32,
        command: &HelperCommand,
        stdin: bool,
        attached: Vec<OwnedFd>,
    ) -> Result<Draft, CallError> {
        // T-07: a terminal, a socket, a file or a directory never reaches a command, whoever asks.
        if !attached.iter().all(pipes::is_pipe) {
            let message = "a command's streams are pipes, and nothing else is handed to one";
            return Err(CallError::new(ErrorCode::InvalidArgument, message));
        }
        let purpose = Purpose::Handle { request: Some(request) };
        let mut draft = self.draft(command, [false; 3], purpose, |_| Output::default())?;
        draft.launch.piped = [stdin, true, true];
        draft.theirs = attached;
        Ok(draft)
    }

    fn draft(
        &mut self,
        command: &HelperCommand,
        piped: [bool; 3],
        purpose: Purpose,
        output: impl Fn(Option<OwnedFd>) -> Output,
    ) -> Result<Draft, CallError> {
        if let Some(refusal) = self.refusal() {
            return Err(refusal);
        }
        if self.processes.len() >= PROCESSES_MAX {
            let message = format!("a task may hold {PROCESSES_MAX} processes at once; close some");
            return Err(CallError::new(ErrorCode::Limit, &message));
        }
        let door = self.jail.as_ref().map_or(DoorState::Impossible, |jail| jail.door);
        let launch = Launch { piped, ..rules::check(&self.setup, door, command)? };
        let unchecked = door == DoorState::Impossible;
        let mut theirs = Vec::new();
        let mut ours = [None, None, None];
        for ((at, slot), piped) in ours.iter_mut().enumerate().zip(piped) {
            if piped {
                let pair = pipes::pair(at == 0).map_err(|e| crate::orders::failed("make a pipe", e))?;
                *slot = Some(pair.0);
                theirs.push(pair.1);
            }
        }
        let [stdin, stdout, stderr] = ours;
        let process = Process {
            unchecked,
            phase: Phase::Launching,
            purpose,
            control: None,
            input: Input::new(stdin),
            outputs: [output(stdout), output(stderr)],
            piped,
            deadline: later(Duration::from_millis(command.timeout_ms)),
            timed_out: false,
            kill: Kill::No,
            waits: Vec::new(),
            reads: Vec::new(),
            writes: std::collections::VecDeque::new(),
            closes: Vec::new(),
            over: None,
            toll: Toll::default(),
        };
        Ok(Draft { launch, process, theirs })
    }

    /// Hands it to the runner; the command's ends of its pipes close here.
    fn launch(&mut self, draft: Draft) -> Result<Option<ProcReply>, CallError> {
        let Draft { mut launch, process, theirs } = draft;
        let mut id = self.last_process;
        loop {
            // Never 0, and never one that is still in use.
            id = id.checked_add(1).unwrap_or(1);
            if !self.processes.contains_key(&id) {
                break;
            }
        }
        self.last_process = id;
        launch.process = id;
        let descriptors: Vec<BorrowedFd<'_>> = theirs.iter().map(AsFd::as_fd).collect();
        match self.runner.send(&launch, &descriptors, false) {
            Ok(()) => {
                self.processes.insert(id, process);
                Ok(None)
            }
            Err(LaneError::Cut | LaneError::Codec(_)) => {
                Err(CallError::new(ErrorCode::InvalidArgument, "arguments and variables are too long together"))
            }
            Err(error) => {
                Err(CallError::new(ErrorCode::Unavailable, &format!("the runner does not take commands: {error}")))
            }
        }
    }
}

fn give_signal(process: &mut Process, signal: ProcessSignal) -> Result<Option<ProcReply>, CallError> {
    match (&process.phase, &process.control) {
        (Phase::Ended(_), _) => conflict("the process has ended"),
        (Phase::Launching, _) | (_, None) => conflict("the process is not running yet"),
        (Phase::Running, Some(_)) if signal == ProcessSignal::Kill => {
            process.want_kill();
            Ok(Some(ProcReply::Done))
        }
        (Phase::Running, Some(control)) => match control.send(&Order { signal }, &[], false) {
            // A keeper that is gone has reported the end, or is noticed where its lane is read.
            Ok(()) | Err(LaneError::Closed) => Ok(Some(ProcReply::Done)),
            Err(error) => Err(CallError::new(ErrorCode::Limit, &format!("too many signals at once: {error}"))),
        },
    }
}
