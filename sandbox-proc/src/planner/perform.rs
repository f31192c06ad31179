//! Carries out actions: each becomes a typed call to the broker, and its reply the JSON of the observation.

#![forbid(unsafe_code)]

use super::action::{Action, FileAction, Line, ProcessAction};
use super::aliases::{Aliases, Use};
use crate::control::conversation_body;
use crate::worker::call::{Fault, Halt, Link};
use serde_json::Value;
use warden_proto::Bytes;
use warden_proto::msg::fs::{FsCall, FsReply, GuestTarget, PathText};
use warden_proto::msg::llm::{Conversation, LlmCall, LlmOptions};
use warden_proto::msg::proc::{ProcCall, ProcReply, StdioMode};
use warden_proto::msg::worker::Origin;
use warden_proto::render::{self, Subject};

/// Bytes of each output of `proc.spawn` that the planner's observation is made of; the result has what the policy allows.
const SPAWN_OUTPUT_BYTES: u32 = 256 * 1024;
/// What a call holds beside its payload: a command line at its longest is refused by the frame, not cut.
const CALL_SPARE_BYTES: usize = 48 * 1024;
/// Pages of a directory in one observation; more is cut and said.
const LIST_PAGES_MAX: usize = 8;

/// Carries out one action. `home` is what a path that is left out names.
pub fn perform(link: &mut Link, aliases: &mut Aliases, home: &str, action: Action) -> Result<Value, Fault> {
    match action {
        Action::Files { path, action: FileAction::List } => list(link, home, &path),
        Action::Files { path, action } => files(link, home, &path, action),
        Action::Spawn { line } => spawn(link, line),
        Action::Start { line, alias } => start(link, aliases, line, alias),
        Action::Process { alias, action } => process(link, aliases, &alias, action),
        Action::Policy { call } => Ok(render::policy(&link.policy(Origin::Action, call)?)),
        Action::Complete { conversation, options } => complete(link, &conversation, options),
        Action::Absent { capability } => Err(link.absent(Origin::Action, &capability)),
    }
}

fn at(path: &PathText) -> GuestTarget {
    GuestTarget::Path { path: path.clone() }
}

/// What an action on files is about, as its output shows it.
fn about<'a>(home: &'a str, path: &'a PathText) -> Subject<'a> {
    Subject { path: if path.is_empty() { home } else { path.as_str() }, ..Subject::default() }
}

fn files(link: &mut Link, home: &str, path: &PathText, action: FileAction) -> Result<Value, Fault> {
    let target = at(path);
    let mut subject = about(home, path);
    let to_path;
    let call = match action {
        FileAction::Read { offset, max_bytes, base64 } => {
            subject.force_base64 = base64;
            FsCall::ReadFile { target, offset, max_bytes }
        }
        FileAction::Write { contents, append, parents } => {
            let contents = link.body(contents, CALL_SPARE_BYTES)?;
            FsCall::WriteFile { target, contents, append, parents }
        }
        FileAction::Metadata => FsCall::Metadata { target },
        FileAction::EnsureDir => FsCall::EnsureDir { target },
        FileAction::RemoveFile => FsCall::RemoveFile { target },
        FileAction::RemoveDir { recursive } => FsCall::RemoveDir { target, recursive },
        FileAction::List => FsCall::ListDir { target, after: 0 },
        FileAction::Rename { to } => {
            to_path = to;
            subject.to = to_path.as_str();
            FsCall::Rename { target, to: at(&to_path) }
        }
    };
    // The broker renders the same reply for the result, and must render it the same.
    let reply = link.fs_told(Origin::Action, subject.force_base64, call)?;
    let content = match &reply {
        FsReply::Content { contents, .. } => link.take(contents.clone())?,
        _ => Vec::new(),
    };
    subject.content = [&content, &[]];
    Ok(render::fs(&subject, &reply))
}

fn list(link: &mut Link, home: &str, path: &PathText) -> Result<Value, Fault> {
    let subject = about(home, path);
    let mut whole: Option<Value> = None;
    let mut after = 0;
    for _ in 0..LIST_PAGES_MAX {
        let reply = link.fs(Origin::Action, FsCall::ListDir { target: at(path), after })?;
        let page = render::fs(&subject, &reply);
        let FsReply::Entries { next, .. } = reply else { return Err(wrong_reply()) };
        match &mut whole {
            None => whole = Some(page),
            Some(whole) => render::append_entries(whole, page),
        }
        if next <= after {
            return Ok(whole.unwrap_or_default());
        }
        after = next;
    }
    // The last page said that there are more.
    Ok(whole.unwrap_or_default())
}

fn subject_of(line: &Line) -> Subject<'_> {
    Subject { command: Some((&line.name, &line.args, &line.cwd)), ..Subject::default() }
}

fn spawn(link: &mut Link, mut line: Line) -> Result<Value, Fault> {
    let stdin = link.body(line.stdin.take().unwrap_or_default(), CALL_SPARE_BYTES)?;
    let call = ProcCall::Run { command: line.command.clone(), stdin, output_max_bytes: SPAWN_OUTPUT_BYTES };
    let reply = link.proc(Origin::Action, "", call)?;
    let ProcReply::Ran { stdout, stderr, .. } = &reply else { return Err(wrong_reply()) };
    let (stdout, stderr) = (link.take(stdout.clone())?, link.take(stderr.clone())?);
    let mut subject = subject_of(&line);
    subject.content = [&stdout, &stderr];
    Ok(render::proc(&subject, &reply))
}

fn start(link: &mut Link, aliases: &mut Aliases, line: Line, alias: String) -> Result<Value, Fault> {
    aliases.check_free(&alias)?;
    let command = line.command.clone();
    let pipe = StdioMode::Pipe;
    let reply =
        link.proc(Origin::Action, &alias, ProcCall::Start { command, stdin: pipe, stdout: pipe, stderr: pipe })?;
    let ProcReply::Started { process, .. } = &reply else { return Err(wrong_reply()) };
    let process = *process;
    aliases.add(alias.clone(), process);
    let mut subject = subject_of(&line);
    subject.process = &alias;
    if let Some(stdin) = &line.stdin {
        let bytes = Bytes::new(stdin.as_slice()).map_err(|e| super::fields::mistake(&format!("field `stdin`: {e}")))?;
        link.proc(Origin::Action, &alias, ProcCall::WriteStdin { process, bytes, eof: true })?;
    }
    Ok(render::proc(&subject, &reply))
}

fn process(link: &mut Link, aliases: &mut Aliases, alias: &str, action: ProcessAction) -> Result<Value, Fault> {
    let wanted = match &action {
        ProcessAction::Read { stream, .. } => Use::Output(*stream),
        _ => Use::Running,
    };
    let process = aliases.find(alias, wanted)?;
    let mut drains = None;
    let call = match action {
        ProcessAction::WriteStdin { data, eof } => {
            ProcCall::WriteStdin { process, bytes: Bytes::new(data).map_err(|e| Halt::Broken(e.to_string()))?, eof }
        }
        ProcessAction::Read { stream, max_bytes } => {
            drains = Some(stream);
            ProcCall::Read { process, stream, max_bytes }
        }
        ProcessAction::Wait { timeout_ms } => ProcCall::Wait { process, timeout_ms },
        ProcessAction::Signal { signal } => ProcCall::Signal { process, signal },
    };
    let reply = link.proc(Origin::Action, alias, call)?;
    match (&reply, drains) {
        (ProcReply::Exited { .. }, _) => aliases.exited(alias),
        (ProcReply::Data { eof: true, .. }, Some(stream)) => aliases.drained(alias, stream),
        _ => {}
    }
    Ok(render::proc(&Subject { process: alias, ..Subject::default() }, &reply))
}

fn complete(link: &mut Link, conversation: &Conversation, options: LlmOptions) -> Result<Value, Fault> {
    let conversation = conversation_body(link, conversation)?;
    let reply = link.llm(Origin::Action, LlmCall { conversation, tools: false, options })?;
    let content = link.take(reply.content.clone())?;
    Ok(render::llm(&content, &reply))
}

fn wrong_reply() -> Fault {
    Halt::Broken("the reply is to another operation".to_owned()).into()
}
