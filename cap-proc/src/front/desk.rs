//! The front's one loop and what it waits for.

use super::life::FrontError;
use super::outbox::Outbox;
use super::process::{Answer, Phase, Process, Purpose};
use super::rules::UNCHECKED;
use crate::lane::{Lane, LaneError};
use crate::orders::{Jail, Launched, Report};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;
use warden_proto::calls::{Calls, Heard};
use warden_proto::limits::FRAMES_PER_WAKEUP;
use warden_proto::msg::error::{CallError, ErrorCode};
use warden_proto::msg::proc::{ATTACHED_MAX, ProcHelperReply, ProcReply, ProcSetup, Stream, Toll};
use warden_proto::{FrameSocket, Kind, List, SocketError, Text};

/// Everything the front holds.
#[derive(Debug)]
pub struct Desk {
    pub(super) link: FrameSocket,
    pub(super) runner: Lane,
    pub(super) setup: ProcSetup,
    /// The runner's jail, or why no command can run here.
    pub(super) jail: Result<Jail, String>,
    pub(super) calls: Calls,
    pub(super) processes: BTreeMap<u32, Process>,
    pub(super) last_process: u32,
    outbox: Outbox,
}

/// What may be ready.
#[derive(Debug, Clone, Copy)]
enum Source {
    Link,
    Runner,
    Keeper(u32),
    Input(u32),
    Output(u32, Stream),
}

impl Desk {
    /// Ready to serve.
    pub fn new(link: FrameSocket, runner: Lane, setup: ProcSetup, jail: Result<Jail, String>) -> Self {
        let (calls, outbox) = (Calls::default(), Outbox::default());
        Self { link, runner, setup, jail, calls, processes: BTreeMap::new(), last_process: 0, outbox }
    }

    /// Serves until the broker says goodbye or goes. Every keeper's lane closes with this process, and with it every tree
    /// (T-12).
    pub fn serve(mut self) -> Result<(), FrontError> {
        loop {
            match self.outbox.flush(&self.link) {
                Err(SocketError::Closed) => return Ok(()),
                other => other?,
            }
            for source in self.wait()? {
                match source {
                    Source::Link => {
                        if !self.read_link()? {
                            return Ok(());
                        }
                    }
                    Source::Runner => self.read_runner()?,
                    Source::Keeper(process) => self.read_keeper(process)?,
                    Source::Input(process) => self.with(process, |process| process.input.pump()),
                    Source::Output(process, stream) => self.with(process, |process| process.output(stream).pump()),
                }
            }
            self.settle()?;
        }
    }

    fn with(&mut self, process: u32, act: impl FnOnce(&mut Process)) {
        if let Some(process) = self.processes.get_mut(&process) {
            act(process);
        }
    }

    /// Waits until something is ready or due.
    fn wait(&self) -> Result<Vec<Source>, FrontError> {
        let sources = self.sources();
        let mut fds: Vec<PollFd<'_>> = sources.iter().map(|(_, fd, flags)| PollFd::new(*fd, *flags)).collect();
        let now = Instant::now();
        let due = self.processes.values().filter_map(|process| process.next_due(now)).min();
        let timeout = due.map(|due| TimeSpec::from_duration(due.saturating_duration_since(now)));
        match ppoll(&mut fds, timeout, None) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(Vec::new()),
            Err(errno) => return Err(FrontError::System("wait", errno)),
        }
        let ready = |fd: &PollFd<'_>| fd.revents().is_none_or(|events| !events.is_empty());
        Ok(sources.iter().zip(&fds).filter(|(_, fd)| ready(fd)).map(|((source, _, _), _)| *source).collect())
    }

    fn sources(&self) -> Vec<(Source, BorrowedFd<'_>, PollFlags)> {
        let mut link = PollFlags::empty();
        link.set(PollFlags::POLLIN, self.outbox.has_room());
        link.set(PollFlags::POLLOUT, !self.outbox.is_empty());
        let mut sources = vec![(Source::Link, self.link.as_fd(), link)];
        // One that has no jail for commands has ended: its reason is the answer to each of them.
        if self.jail.is_ok() {
            sources.push((Source::Runner, self.runner.as_fd(), PollFlags::POLLIN));
        }
        for (id, process) in &self.processes {
            let keeper = process.control.as_ref().map(|lane| (Source::Keeper(*id), lane.as_fd(), PollFlags::POLLIN));
            let input = process.input.wants().map(|fd| (Source::Input(*id), fd, PollFlags::POLLOUT));
            sources.extend(keeper.into_iter().chain(input));
            for (stream, output) in [Stream::Stdout, Stream::Stderr].into_iter().zip(&process.outputs) {
                sources.extend(output.wants().map(|fd| (Source::Output(*id, stream), fd, PollFlags::POLLIN)));
            }
        }
        sources
    }

    /// Takes frames; `false` when the broker is done with us.
    fn read_link(&mut self) -> Result<bool, FrontError> {
        for _ in 0..FRAMES_PER_WAKEUP {
            if !self.outbox.has_room() {
                return Ok(true);
            }
            let mut frame = match self.link.try_receive(ATTACHED_MAX) {
                Err(SocketError::WouldBlock) => return Ok(true),
                Err(SocketError::Closed) => return Ok(false),
                other => other?,
            };
            let attached = std::mem::take(&mut frame.descriptors);
            if frame.kind != Kind::Call && !attached.is_empty() {
                return Err(SocketError::Descriptors(attached.len(), 0).into());
            }
            match self.calls.hear(frame)? {
                Heard::Part => {}
                Heard::Call(frame) => self.call(frame.request, frame.decode()?, attached)?,
                Heard::Cancel(request) => self.cancel(request)?,
                Heard::Goodbye => return Ok(false),
            }
        }
        Ok(true)
    }

    fn read_runner(&mut self) -> Result<(), FrontError> {
        while let Some((launched, descriptors)) = self.runner.try_receive::<Launched>().map_err(FrontError::Runner)? {
            let id = launched.process;
            match (launched.result, descriptors.into_iter().next()) {
                (Ok(()), Some(control)) => self.with(id, |process| process.control = Some(Lane::new(control))),
                (Ok(()), None) => return Err(FrontError::KeeperLost(id)),
                (Err(error), _) => self.never_ran(id, error)?,
            }
        }
        Ok(())
    }

    fn read_keeper(&mut self, id: u32) -> Result<(), FrontError> {
        loop {
            let Some(control) = self.processes.get(&id).and_then(|process| process.control.as_ref()) else {
                return Ok(());
            };
            match control.try_receive::<Report>() {
                Ok(None) => return Ok(()),
                Ok(Some((Report::Begun, _))) => self.begun(id)?,
                Ok(Some((Report::Failed { error }, _))) => return self.never_ran(id, error),
                Ok(Some((Report::Ended { code, signal, toll }, _))) => {
                    self.with(id, |process| process.ended(code, signal, toll));
                }
                // The runner ends everything in its scope; the broker gets a typed error from our own end (T-12).
                Err(LaneError::Closed) => return Err(FrontError::KeeperLost(id)),
                Err(other) => return Err(FrontError::Runner(other)),
            }
        }
    }

    fn begun(&mut self, id: u32) -> Result<(), FrontError> {
        let Some(process) = self.processes.get_mut(&id) else { return Ok(()) };
        process.phase = Phase::Running;
        let unchecked = process.unchecked;
        if let Purpose::Handle { request } = &mut process.purpose
            && let Some(request) = request.take()
        {
            self.started(request, id, unchecked)?;
        }
        Ok(())
    }

    /// It could not be started, or its keeper could not keep it or ended it over a limit: nothing of it is left.
    fn never_ran(&mut self, id: u32, error: CallError) -> Result<(), FrontError> {
        let Some(process) = self.processes.get_mut(&id) else { return Ok(()) };
        match &mut process.purpose {
            Purpose::Handle { request: None } => {
                process.ended(None, Some(libc::SIGKILL), Toll::default());
                process.over = Some(error);
                Ok(())
            }
            Purpose::Handle { request: Some(request) } | Purpose::Run { request, .. } => {
                let request = *request;
                self.processes.remove(&id);
                self.reply(request, Err(error))
            }
        }
    }

    /// Does what is due for every process and sends what it answers.
    fn settle(&mut self) -> Result<(), FrontError> {
        let now = Instant::now();
        let ids: Vec<u32> = self.processes.keys().copied().collect();
        for id in ids {
            let mut answers = Vec::new();
            let Some(process) = self.processes.get_mut(&id) else { continue };
            let unchecked = process.unchecked;
            if process.settle(now, &mut answers) {
                self.processes.remove(&id);
            }
            for (request, answer) in answers {
                match answer {
                    Answer::Reply(reply) => self.reply(request, reply)?,
                    Answer::Started => self.started(request, id, unchecked)?,
                    Answer::Ran { exit, outputs, truncated, toll } => {
                        let [stdout, stderr] = self.outbox.bodies(outputs)?;
                        let degraded = self.degraded(unchecked);
                        self.reply(request, Ok(ProcReply::Ran { exit, stdout, stderr, truncated, degraded, toll }))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn started(&mut self, request: u32, process: u32, unchecked: bool) -> Result<(), FrontError> {
        let degraded = self.degraded(unchecked);
        self.reply(request, Ok(ProcReply::Started { process, degraded }))
    }

    /// Queues one answer.
    pub(super) fn reply(&mut self, request: u32, reply: ProcHelperReply) -> Result<(), FrontError> {
        Ok(self.outbox.push(Kind::Reply, request, &reply)?)
    }

    fn degraded(&self, unchecked: bool) -> List<Text<256>, 16> {
        let of_host = self.jail.iter().flat_map(|jail| jail.degraded.iter().cloned());
        List::first(unchecked.then(|| Text::cut(UNCHECKED)).into_iter().chain(of_host))
    }

    /// Why no command can run here, if none can.
    pub(super) fn refusal(&self) -> Option<CallError> {
        let why = self.jail.as_ref().err()?;
        Some(CallError::new(ErrorCode::Unavailable, &format!("no command can be jailed on this host: {why}")))
    }
}
