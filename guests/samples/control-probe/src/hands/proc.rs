//! `osagent:proc`, call by call.

use super::{Hands, Held, Outcome, bytes};
use crate::component::osagent::common::types::CapabilityError;
use crate::component::osagent::proc::proc::{self, EnvVar, Process, ProcessSignal, SpawnOptions, StdioMode, StreamRead};
use crate::script::ProcOp;
use serde_json::{Value, json};

const DRAIN_MAX_BYTES: usize = 1024 * 1024;
const PIECE_MAX_BYTES: u32 = 32 * 1024;

pub fn run(hands: &mut Hands, op: ProcOp) -> Result<Value, Outcome> {
    Ok(match op {
        ProcOp::Spawn { command, argv, cwd, env, stdin, stdout, stderr, timeout_ms, name } => {
            let options = SpawnOptions {
                argv,
                working_dir: cwd,
                env: env.into_iter().map(|variable| EnvVar { key: variable.key, value: variable.value }).collect(),
                stdin: mode(stdin, StdioMode::Null)?,
                stdout: mode(stdout, StdioMode::Pipe)?,
                stderr: mode(stderr, StdioMode::Pipe)?,
                timeout_ms,
            };
            let process = proc::spawn(&command, &options)?;
            hands.hold(&name, Held::Process(process))
        }
        ProcOp::WriteStdin { process, bytes, eof } => {
            let bytes = bytes.into_vec().ok_or_else(|| "no hex".to_owned())?;
            json!(hands.process(&process)?.write_stdin(&bytes, eof)?)
        }
        ProcOp::ReadStdout { process, max_bytes, discard } => piece(hands.process(&process)?.read_stdout(max_bytes)?, discard),
        ProcOp::ReadStderr { process, max_bytes, discard } => piece(hands.process(&process)?.read_stderr(max_bytes)?, discard),
        ProcOp::Drain { process, stream, max_bytes, discard } => {
            drain(hands.process(&process)?, &stream, max_bytes.unwrap_or(DRAIN_MAX_BYTES), discard)?
        }
        ProcOp::Wait { process, timeout_ms } => {
            let status = hands.process(&process)?.wait(timeout_ms)?;
            json!({"code": status.code, "signal": status.signal.map(signal_name), "timed_out": status.timed_out})
        }
        ProcOp::Signal { process, signal } => {
            hands.process(&process)?.signal(signal_named(&signal)?)?;
            Value::Null
        }
        ProcOp::Close { process } => {
            hands.process(&process)?.close();
            Value::Null
        }
    })
}

fn piece(read: StreamRead, discard: bool) -> Value {
    let mut value = bytes(read.data, discard);
    value["eof"] = json!(read.eof);
    value
}

fn drain(process: &Process, stream: &str, max_bytes: usize, discard: bool) -> Result<Value, Outcome> {
    let read: fn(&Process) -> Result<StreamRead, CapabilityError> = match stream {
        "stdout" => |process| process.read_stdout(PIECE_MAX_BYTES),
        "stderr" => |process| process.read_stderr(PIECE_MAX_BYTES),
        other => return Err(Outcome::Script(format!("no stream {other:?}"))),
    };
    let mut all = StreamRead { data: Vec::new(), eof: false };
    while !all.eof && all.data.len() < max_bytes {
        let next = read(process)?;
        all.eof = next.eof;
        all.data.extend(next.data);
    }
    Ok(piece(all, discard))
}

fn mode(name: Option<String>, otherwise: StdioMode) -> Result<StdioMode, Outcome> {
    match name.as_deref() {
        None => Ok(otherwise),
        Some("inherit") => Ok(StdioMode::Inherit),
        Some("null") => Ok(StdioMode::Null),
        Some("pipe") => Ok(StdioMode::Pipe),
        Some(other) => Err(Outcome::Script(format!("no stdio mode {other:?}"))),
    }
}

fn signal_named(name: &str) -> Result<ProcessSignal, Outcome> {
    match name {
        "term" => Ok(ProcessSignal::Term),
        "kill" => Ok(ProcessSignal::Kill),
        "interrupt" => Ok(ProcessSignal::Interrupt),
        "hangup" => Ok(ProcessSignal::Hangup),
        other => Err(Outcome::Script(format!("no signal {other:?}"))),
    }
}

fn signal_name(signal: ProcessSignal) -> &'static str {
    match signal {
        ProcessSignal::Term => "term",
        ProcessSignal::Kill => "kill",
        ProcessSignal::Interrupt => "interrupt",
        ProcessSignal::Hangup => "hangup",
    }
}
