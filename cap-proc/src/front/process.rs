//! One process as the front knows it: where it stands, its pipes, and the calls that wait for it.

use super::pipes::{Input, Output};
use crate::lane::{Lane, LaneError};
use crate::orders::Order;
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use warden_proto::limits::INLINE_MAX_BYTES;
use warden_proto::msg::error::{CallError, ErrorCode};
use warden_proto::msg::proc::{Exit, ProcReply, ProcessSignal, Stream, Toll};
use warden_proto::{Bytes, SocketError};

/// Between two tries to tell a keeper whose lane is full.
const RETRY: Duration = Duration::from_millis(10);

/// Where a process stands.
#[derive(Debug)]
pub enum Phase {
    /// Asked of the runner; the command's program does not run yet.
    Launching,
    /// It runs.
    Running,
    /// It and its whole tree have ended.
    Ended(Exit),
}

/// Why it was started.
#[derive(Debug)]
pub enum Purpose {
    /// For this call, which is answered at its end with so many bytes of each output.
    Run {
        /// The call.
        request: u32,
        /// Most bytes of each output.
        output_max: usize,
    },
    /// To be had by handle.
    Handle {
        /// The call that started it, until it is answered.
        request: Option<u32>,
    },
}

/// Whether it is to be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kill {
    /// No.
    No,
    /// Its keeper does not know yet.
    Wanted,
    /// Its keeper knows.
    Sent,
}

/// A call that waits for room in its input.
#[derive(Debug)]
pub struct Write {
    /// The call.
    pub request: u32,
    /// What to write.
    pub bytes: Vec<u8>,
    /// Close it afterwards.
    pub eof: bool,
    /// Answered `timeout` then.
    pub until: Instant,
}

/// What a call is answered.
#[derive(Debug)]
pub enum Answer {
    /// As it is.
    Reply(Result<ProcReply, CallError>),
    /// A process was started.
    Started,
    /// A process ran to its end; its outputs have yet to be dressed.
    Ran {
        /// How it ended.
        exit: Exit,
        /// Its outputs.
        outputs: [Vec<u8>; 2],
        /// Whether either was cut.
        truncated: bool,
        /// What it cost.
        toll: Toll,
    },
}

/// One process.
#[derive(Debug)]
pub struct Process {
    /// Its paths are not checked.
    pub unchecked: bool,
    /// Where it stands.
    pub phase: Phase,
    /// What for.
    pub purpose: Purpose,
    /// To its keeper, from the runner's answer to its end.
    pub control: Option<Lane>,
    /// Descriptor 0.
    pub input: Input,
    /// Descriptors 1 and 2.
    pub outputs: [Output; 2],
    /// Which descriptors are pipes.
    pub piped: [bool; 3],
    /// It is killed then.
    pub deadline: Instant,
    /// The deadline has passed.
    pub timed_out: bool,
    /// Whether it is to be killed.
    pub kill: Kill,
    /// Calls that wait for its end, and until when.
    pub waits: Vec<(u32, Option<Instant>)>,
    /// Calls that wait for output, and for how many bytes.
    pub reads: Vec<(u32, Stream, usize)>,
    /// Calls that wait for room, in order.
    pub writes: VecDeque<Write>,
    /// Calls that wait for its end and then forget it.
    pub closes: Vec<u32>,
    /// Why its keeper ended it, where that was neither its own doing nor somebody's wish.
    pub over: Option<CallError>,
    /// What it cost, once it has ended.
    pub toll: Toll,
}

impl Process {
    /// One of its outputs.
    pub fn output(&mut self, stream: Stream) -> &mut Output {
        let [stdout, stderr] = &mut self.outputs;
        match stream {
            Stream::Stdout => stdout,
            Stream::Stderr => stderr,
        }
    }

    /// Its tree has ended.
    pub fn ended(&mut self, code: Option<i32>, signal: Option<i32>, toll: Toll) {
        // A command that ended by itself just before its time was up has not timed out.
        let timed_out = self.timed_out && code.is_none();
        self.phase = Phase::Ended(Exit { code, signal, timed_out });
        self.toll = toll;
        self.control = None;
        self.input.close();
    }

    /// Has its keeper kill the tree.
    pub fn want_kill(&mut self) {
        if self.kill == Kill::No && !matches!(self.phase, Phase::Ended(_)) {
            self.kill = Kill::Wanted;
        }
    }

    /// When something is due though nothing happens.
    pub fn next_due(&self, now: Instant) -> Option<Instant> {
        let running = !matches!(self.phase, Phase::Ended(_));
        let deadline = (running && self.kill == Kill::No).then_some(self.deadline);
        let retry = (self.kill == Kill::Wanted && self.control.is_some()).then(|| now.checked_add(RETRY)).flatten();
        let waits = self.waits.iter().filter_map(|(_, until)| *until);
        waits.chain(self.writes.iter().map(|write| write.until)).chain(deadline).chain(retry).min()
    }

    /// Does what is due and answers what can be answered. `true` when the process is to be forgotten.
    pub fn settle(&mut self, now: Instant, answers: &mut Vec<(u32, Answer)>) -> bool {
        self.enforce(now);
        self.answer_writes(now, answers);
        self.answer_reads(answers);
        let exit = match &self.phase {
            Phase::Ended(exit) => Some(*exit),
            _ => None,
        };
        self.waits.retain(|(request, until)| {
            let answer = match (exit, until) {
                (Some(exit), _) => {
                    self.over.clone().map_or_else(|| Ok(ProcReply::Exited { exit, toll: self.toll.clone() }), Err)
                }
                (None, Some(until)) if now >= *until => {
                    Err(CallError::new(ErrorCode::Timeout, "the process is still running"))
                }
                _ => return true,
            };
            answers.push((*request, Answer::Reply(answer)));
            false
        });
        let Some(exit) = exit else { return false };
        if let Purpose::Handle { request } = &mut self.purpose
            && let Some(request) = request.take()
        {
            answers.push((request, Answer::Started));
        }
        self.finish(exit, answers)
    }

    /// The time limit, and the kill that somebody wants.
    fn enforce(&mut self, now: Instant) {
        if now >= self.deadline && self.kill == Kill::No && !matches!(self.phase, Phase::Ended(_)) {
            self.timed_out = true;
            self.kill = Kill::Wanted;
        }
        if self.kill == Kill::Wanted
            && let Some(control) = &self.control
        {
            match control.send(&Order { signal: ProcessSignal::Kill }, &[], false) {
                Err(LaneError::Send(SocketError::WouldBlock)) => {}
                // A keeper that is gone is noticed where its lane is read.
                _ => self.kill = Kill::Sent,
            }
        }
    }

    fn answer_writes(&mut self, now: Instant, answers: &mut Vec<(u32, Answer)>) {
        while let Some(write) = self.writes.front() {
            let answer = if !self.input.is_open() {
                Err(CallError::new(ErrorCode::Conflict, "the process's input is closed"))
            } else if self.input.has_room(write.bytes.len()) {
                self.input.put(&write.bytes, write.eof);
                Ok(ProcReply::Accepted { bytes: u32::try_from(write.bytes.len()).unwrap_or(u32::MAX) })
            } else if now >= write.until {
                Err(CallError::new(ErrorCode::Timeout, "the process does not read its input; nothing was taken"))
            } else {
                return;
            };
            answers.push((write.request, Answer::Reply(answer)));
            self.writes.pop_front();
        }
    }

    fn answer_reads(&mut self, answers: &mut Vec<(u32, Answer)>) {
        let reads = std::mem::take(&mut self.reads);
        for (request, stream, max) in reads {
            let output = self.output(stream);
            if !output.has_bytes() && !output.at_end() {
                self.reads.push((request, stream, max));
                continue;
            }
            let bytes = Bytes::new(output.take(max.min(INLINE_MAX_BYTES)));
            let eof = output.at_end() && !output.has_bytes();
            let answer = bytes.map(|bytes| ProcReply::Data { bytes, eof });
            let answer = answer.map_err(|e| CallError::new(ErrorCode::Internal, &e.to_string()));
            answers.push((request, Answer::Reply(answer)));
        }
    }

    /// After the end: a run is answered when its pipes are empty, a closed handle at once.
    fn finish(&mut self, exit: Exit, answers: &mut Vec<(u32, Answer)>) -> bool {
        if let Purpose::Run { request, output_max } = self.purpose {
            let [stdout, stderr] = &mut self.outputs;
            if !stdout.at_end() || !stderr.at_end() {
                return false;
            }
            let outputs = [stdout.take_all(output_max), stderr.take_all(output_max)];
            let truncated = stdout.truncated() || stderr.truncated();
            answers.push((request, Answer::Ran { exit, outputs, truncated, toll: self.toll.clone() }));
            return true;
        }
        if self.closes.is_empty() {
            return false;
        }
        let done = || Answer::Reply(Ok(ProcReply::Closed { toll: self.toll.clone() }));
        answers.extend(self.closes.drain(..).map(|request| (request, done())));
        let closed = || Answer::Reply(Err(CallError::new(ErrorCode::Conflict, "the process was closed")));
        answers.extend(self.reads.drain(..).map(|(request, _, _)| (request, closed())));
        true
    }
}
