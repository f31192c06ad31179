//! `osagent:proc/proc`.

#![forbid(unsafe_code)]

use super::bindings::osagent::proc::proc::{self, ExitStatus, SpawnOptions, StreamRead};
use super::{closed, text, wrong_reply};
use crate::worker::call::{Fault, Halt};
use crate::worker::guest::Guest;
use warden_proto::limits::INLINE_MAX_BYTES;
use warden_proto::msg::error::ErrorCode;
use warden_proto::msg::fs::GuestTarget;
use warden_proto::msg::proc::{
    EnvVar, Exit, GuestCommand, ProcCall, ProcGuestCall, ProcReply, ProcessSignal, StdioMode, Stream,
};
use warden_proto::msg::worker::Origin;
use warden_proto::{Bytes, List, bounded::TooLong};
use wasmtime::component::Resource;

/// A started command.
#[derive(Debug)]
pub struct Process {
    handle: Option<u32>,
}

type ProcessResource = Resource<Process>;

impl Guest {
    fn commands(&mut self, call: ProcGuestCall) -> Result<ProcReply, Fault> {
        self.link.proc(Origin::Import, "", call)
    }

    fn process(&self, process: &ProcessResource) -> Result<u32, Fault> {
        self.table.get(process)?.handle.ok_or_else(|| closed("process"))
    }

    fn read_stream(&mut self, process: &ProcessResource, stream: Stream, max_bytes: u32) -> Result<StreamRead, Fault> {
        let process = self.process(process)?;
        let max_bytes = max_bytes.min(u32::try_from(INLINE_MAX_BYTES).unwrap_or(u32::MAX));
        match self.commands(ProcCall::Read { process, stream, max_bytes })? {
            ProcReply::Data { bytes, eof } => Ok(StreamRead { data: bytes.into_vec(), eof }),
            _ => Err(wrong_reply()),
        }
    }

    fn close_process(&mut self, handle: Option<u32>) -> wasmtime::Result<()> {
        let Some(process) = handle else { return Ok(()) };
        match self.commands(ProcCall::Close { process }) {
            Err(Fault::Halt(halt)) => Err(halt.into()),
            Ok(_) | Err(Fault::Answer(_)) => Ok(()),
        }
    }
}

impl proc::HostProcess for Guest {
    fn write_stdin(&mut self, process: ProcessResource, chunk: Vec<u8>, eof: bool) -> Result<u32, Fault> {
        let process = self.process(&process)?;
        // One frame at most: like a pipe's, the caller is told how much was taken, and the end is only for the last part.
        let taken = chunk.get(..INLINE_MAX_BYTES).unwrap_or(&chunk);
        let eof = eof && taken.len() == chunk.len();
        let bytes = Bytes::new(taken).map_err(|e| Halt::Broken(e.to_string()))?;
        match self.commands(ProcCall::WriteStdin { process, bytes, eof })? {
            ProcReply::Accepted { bytes } => Ok(bytes),
            _ => Err(wrong_reply()),
        }
    }

    fn read_stdout(&mut self, process: ProcessResource, max_bytes: u32) -> Result<StreamRead, Fault> {
        self.read_stream(&process, Stream::Stdout, max_bytes)
    }

    fn read_stderr(&mut self, process: ProcessResource, max_bytes: u32) -> Result<StreamRead, Fault> {
        self.read_stream(&process, Stream::Stderr, max_bytes)
    }

    fn wait(&mut self, process: ProcessResource, timeout_ms: Option<u64>) -> Result<ExitStatus, Fault> {
        let process = self.process(&process)?;
        match self.commands(ProcCall::Wait { process, timeout_ms })? {
            ProcReply::Exited { exit, .. } => Ok(exit_status(exit)),
            _ => Err(wrong_reply()),
        }
    }

    fn signal(&mut self, process: ProcessResource, kind: proc::ProcessSignal) -> Result<(), Fault> {
        let process = self.process(&process)?;
        let signal = match kind {
            proc::ProcessSignal::Term => ProcessSignal::Term,
            proc::ProcessSignal::Kill => ProcessSignal::Kill,
            proc::ProcessSignal::Interrupt => ProcessSignal::Interrupt,
            proc::ProcessSignal::Hangup => ProcessSignal::Hangup,
        };
        match self.commands(ProcCall::Signal { process, signal })? {
            ProcReply::Done => Ok(()),
            _ => Err(wrong_reply()),
        }
    }

    fn close(&mut self, process: ProcessResource) -> wasmtime::Result<()> {
        let handle = self.table.get_mut(&process)?.handle.take();
        self.close_process(handle)
    }

    fn drop(&mut self, process: ProcessResource) -> wasmtime::Result<()> {
        let process = self.table.delete(process)?;
        self.close_process(process.handle)
    }
}

impl proc::Host for Guest {
    fn spawn(&mut self, command: String, options: SpawnOptions) -> Result<ProcessResource, Fault> {
        let SpawnOptions { argv, working_dir, env, stdin, stdout, stderr, timeout_ms } = options;
        let command = GuestCommand {
            command: text("a command's name", command)?,
            args: list("arguments", argv.into_iter().map(|arg| text("an argument", arg)).collect::<Result<_, _>>()?)?,
            cwd: match working_dir {
                Some(path) => Some(GuestTarget::Path { path: text("a path", path)? }),
                None => None,
            },
            env: list("variables", env.into_iter().map(variable).collect::<Result<_, _>>()?)?,
            timeout_ms,
        };
        let call = ProcCall::Start { command, stdin: mode(stdin), stdout: mode(stdout), stderr: mode(stderr) };
        match self.commands(call)? {
            ProcReply::Started { process, .. } => Ok(self.table.push(Process { handle: Some(process) })?),
            _ => Err(wrong_reply()),
        }
    }
}

fn variable(variable: proc::EnvVar) -> Result<EnvVar, Fault> {
    Ok(EnvVar { key: text("a variable's name", variable.key)?, value: text("a variable's value", variable.value)? })
}

fn list<T, const N: usize>(what: &str, items: Vec<T>) -> Result<List<T, N>, Fault> {
    List::new(items).map_err(|TooLong { len, max }| {
        Fault::answer(ErrorCode::InvalidArgument, &format!("{len} {what} are more than {max}"))
    })
}

fn mode(mode: proc::StdioMode) -> StdioMode {
    match mode {
        proc::StdioMode::Inherit => StdioMode::Inherit,
        proc::StdioMode::Null => StdioMode::Null,
        proc::StdioMode::Pipe => StdioMode::Pipe,
    }
}

fn exit_status(exit: Exit) -> ExitStatus {
    let signal = match exit.signal {
        Some(libc::SIGTERM) => Some(proc::ProcessSignal::Term),
        Some(libc::SIGKILL) => Some(proc::ProcessSignal::Kill),
        Some(libc::SIGINT) => Some(proc::ProcessSignal::Interrupt),
        Some(libc::SIGHUP) => Some(proc::ProcessSignal::Hangup),
        _ => None,
    };
    // The interface knows four signals; of another its number is told the way shells do.
    let code = match (exit.code, exit.signal, signal) {
        (None, Some(number), None) => number.checked_add(128),
        (code, _, _) => code,
    };
    ExitStatus { code, signal, timed_out: exit.timed_out }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_without_a_name_become_codes() {
        let killed = exit_status(Exit { code: None, signal: Some(9), timed_out: true });
        assert_eq!((killed.code, killed.signal, killed.timed_out), (None, Some(proc::ProcessSignal::Kill), true));
        let crashed = exit_status(Exit { code: None, signal: Some(11), timed_out: false });
        assert_eq!((crashed.code, crashed.signal), (Some(139), None));
        assert_eq!(exit_status(Exit { code: Some(3), signal: None, timed_out: false }).code, Some(3));
    }
}
