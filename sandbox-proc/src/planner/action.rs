//! Action JSON to typed actions (contract, "Actions"). This is the one place where a model's JSON is taken apart, inside
//! the worker's jail; the broker sees typed frames only.

#![forbid(unsafe_code)]

use super::fields::{Fields, bounded, mistake};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use warden_proto::limits::{BLOB_MAX_BYTES, INLINE_MAX_BYTES};
use warden_proto::msg::error::CallError;
use warden_proto::msg::fs::{GuestTarget, PathText};
use warden_proto::msg::llm::{Conversation, LlmOptions, Message, MessageRole};
use warden_proto::msg::policy::{BudgetKind, PolicyCall};
use warden_proto::msg::proc::{Args, EnvVar, GuestCommand, ProcessSignal, Stream};
use warden_proto::{List, Text, bounded::TooLong};

/// `max_bytes` when it is left out.
const READ_DEFAULT_BYTES: u64 = 4096;
/// Capabilities that exist by name and are not there, besides `browser.` and `input.`.
const ABSENT: [&str; 3] = ["net.fetch", "tools.run", "exec.run"];

/// An operation on files.
#[derive(Debug, PartialEq, Eq)]
pub enum FileAction {
    Read { offset: u64, max_bytes: u32, base64: bool },
    Write { contents: Vec<u8>, append: bool, parents: bool },
    List,
    Metadata,
    EnsureDir,
    RemoveFile,
    RemoveDir { recursive: bool },
    Rename { to: PathText },
}

/// A command line, as it was written and as the broker wants it.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    pub name: String,
    pub args: Vec<String>,
    pub cwd: String,
    pub command: GuestCommand,
    pub stdin: Option<Vec<u8>>,
}

/// An operation on a started command.
#[derive(Debug, PartialEq, Eq)]
pub enum ProcessAction {
    WriteStdin { data: Vec<u8>, eof: bool },
    Read { stream: Stream, max_bytes: u32 },
    Wait { timeout_ms: Option<u64> },
    Signal { signal: ProcessSignal },
}

/// One action, ready to be carried out.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    Files { path: PathText, action: FileAction },
    Spawn { line: Line },
    Start { line: Line, alias: String },
    Process { alias: String, action: ProcessAction },
    Policy { call: PolicyCall },
    Complete { conversation: Conversation, options: LlmOptions },
    Absent { capability: String },
}

/// Reads an action.
pub fn parse(capability: &str, input: &str) -> Result<Action, CallError> {
    if ABSENT.contains(&capability) || capability.starts_with("browser.") || capability.starts_with("input.") {
        return Ok(Action::Absent { capability: capability.to_owned() });
    }
    let mut fields = Fields::parse(capability, input)?;
    let group = capability.split_once('.');
    let action = match group {
        Some(("fs", name)) => files(name, &mut fields)?,
        Some(("proc", name)) => commands(name, &mut fields)?,
        Some(("policy", name)) => policy(name, &mut fields)?,
        Some(("llm", "complete")) => Some(complete(&mut fields)?),
        _ => None,
    };
    let action = action.ok_or_else(|| mistake(&format!("there is no capability `{capability}`")))?;
    fields.end()?;
    Ok(action)
}

fn files(name: &str, fields: &mut Fields) -> Result<Option<Action>, CallError> {
    let path = match name {
        "list_dir" => fields.optional_bounded("path")?.unwrap_or_default(),
        "read_file" | "write_file" | "metadata" | "ensure_dir" | "remove_file" | "remove_dir" | "rename" => {
            fields.bounded("path")?
        }
        _ => return Ok(None),
    };
    let action = match name {
        "list_dir" => FileAction::List,
        "read_file" => FileAction::Read {
            offset: fields.optional_number("offset")?.unwrap_or(0),
            max_bytes: capped(fields.optional_number("max_bytes")?, BLOB_MAX_BYTES),
            base64: is_base64(fields)?,
        },
        "write_file" => write_file(fields)?,
        "metadata" => FileAction::Metadata,
        "ensure_dir" => FileAction::EnsureDir,
        "remove_file" => FileAction::RemoveFile,
        "remove_dir" => FileAction::RemoveDir { recursive: fields.flag("recursive")? },
        _ => FileAction::Rename { to: fields.bounded("to")? },
    };
    Ok(Some(Action::Files { path, action }))
}

fn write_file(fields: &mut Fields) -> Result<FileAction, CallError> {
    let text = fields.text("contents")?;
    let contents = if is_base64(fields)? {
        STANDARD.decode(text).map_err(|e| mistake(&format!("field `contents` is not base64: {e}")))?
    } else {
        text.into_bytes()
    };
    Ok(FileAction::Write { contents, append: fields.flag("append")?, parents: fields.flag("parents")? })
}

fn is_base64(fields: &mut Fields) -> Result<bool, CallError> {
    match fields.optional_text("encoding")?.as_deref() {
        None | Some("utf-8") => Ok(false),
        Some("base64") => Ok(true),
        Some(other) => Err(mistake(&format!("field `encoding` must be \"utf-8\" or \"base64\", not {other:?}"))),
    }
}

/// A count of bytes: left out it is the default, above the bound it is the bound (the answer says that more is there).
fn capped(asked: Option<u64>, max: usize) -> u32 {
    let max = u32::try_from(max).unwrap_or(u32::MAX);
    u32::try_from(asked.unwrap_or(READ_DEFAULT_BYTES)).unwrap_or(u32::MAX).min(max)
}

fn commands(name: &str, fields: &mut Fields) -> Result<Option<Action>, CallError> {
    let action = match name {
        "spawn" => return Ok(Some(Action::Spawn { line: line(fields)? })),
        "start" => {
            let alias = fields.text("alias")?;
            return Ok(Some(Action::Start { alias: valid_alias(alias)?, line: line(fields)? }));
        }
        "write_stdin" => ProcessAction::WriteStdin { data: stdin_data(fields)?, eof: fields.flag("eof")? },
        "read" => ProcessAction::Read {
            stream: stream(&fields.text("stream")?)?,
            max_bytes: capped(fields.optional_number("max_bytes")?, INLINE_MAX_BYTES),
        },
        "wait" => ProcessAction::Wait { timeout_ms: fields.optional_number("timeout_ms")? },
        "signal" => ProcessAction::Signal { signal: signal(&fields.text("signal")?)? },
        _ => return Ok(None),
    };
    let alias = fields.text("process")?;
    Ok(Some(Action::Process { alias, action }))
}

fn stdin_data(fields: &mut Fields) -> Result<Vec<u8>, CallError> {
    let data = fields.text("data")?.into_bytes();
    if data.len() > INLINE_MAX_BYTES {
        let message =
            format!("field `data` of {} bytes is longer than {INLINE_MAX_BYTES}: send it in parts", data.len());
        return Err(mistake(&message));
    }
    Ok(data)
}

fn line(fields: &mut Fields) -> Result<Line, CallError> {
    let name = fields.text("command")?;
    let args = fields.texts("args")?;
    let cwd = fields.optional_text("cwd")?;
    let stdin = fields.optional_text("stdin")?.map(String::into_bytes);
    let env = fields.list("env")?.into_iter().map(variable).collect::<Result<Vec<_>, _>>()?;
    let wire_args = args.iter().map(|arg| bounded("args", arg.clone())).collect::<Result<Vec<_>, _>>()?;
    let wire_args: Args = items("args", wire_args)?;
    let command = GuestCommand {
        command: bounded("command", name.clone())?,
        args: wire_args,
        cwd: cwd.clone().map(|cwd| bounded("cwd", cwd)).transpose()?.map(|path| GuestTarget::Path { path }),
        env: items("env", env)?,
        timeout_ms: fields.optional_number("timeout_ms")?,
    };
    Ok(Line { name, args, cwd: cwd.unwrap_or_default(), command, stdin })
}

fn variable(value: Value) -> Result<EnvVar, CallError> {
    let mut fields = Fields::of("`env`", value)?;
    let variable = EnvVar { key: fields.bounded("key")?, value: fields.bounded("value")? };
    fields.end()?;
    Ok(variable)
}

fn items<T, const N: usize>(name: &str, items: Vec<T>) -> Result<List<T, N>, CallError> {
    List::new(items)
        .map_err(|TooLong { len, max }| mistake(&format!("field `{name}` has {len} items, at most {max} are allowed")))
}

/// `[A-Za-z][A-Za-z0-9_.-]{0,63}`.
fn valid_alias(alias: String) -> Result<String, CallError> {
    let mut chars = alias.chars();
    let first = chars.next().is_some_and(|c| c.is_ascii_alphabetic());
    if first && alias.len() <= 64 && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')) {
        return Ok(alias);
    }
    Err(mistake("field `alias` must be a letter followed by at most 63 letters, digits, `_`, `.` or `-`"))
}

fn stream(name: &str) -> Result<Stream, CallError> {
    match name {
        "stdout" => Ok(Stream::Stdout),
        "stderr" => Ok(Stream::Stderr),
        _ => Err(mistake("field `stream` must be \"stdout\" or \"stderr\"")),
    }
}

fn signal(name: &str) -> Result<ProcessSignal, CallError> {
    use ProcessSignal::{Hangup, Interrupt, Kill, Term};
    let known = [Term, Kill, Interrupt, Hangup].into_iter().find(|signal| signal.name() == name);
    known.ok_or_else(|| mistake("field `signal` must be \"term\", \"kill\", \"interrupt\" or \"hangup\""))
}

fn policy(name: &str, fields: &mut Fields) -> Result<Option<Action>, CallError> {
    let call = match name {
        "describe" => PolicyCall::Describe,
        "claim_budget" => {
            PolicyCall::ClaimBudget { kind: budget(&fields.text("kind")?)?, units: fields.number("units")? }
        }
        "request_capability" => PolicyCall::RequestCapability {
            capability: fields.bounded("capability")?,
            scope: fields.optional_bounded("scope")?,
            justification: fields.bounded("justification")?,
        },
        "log_event" => PolicyCall::LogEvent {
            event_type: fields.bounded("event_type")?,
            step: None,
            payload: bounded("payload", fields.value("payload")?.to_string())?,
        },
        _ => return Ok(None),
    };
    Ok(Some(Action::Policy { call }))
}

fn budget(name: &str) -> Result<BudgetKind, CallError> {
    use BudgetKind::{BrowserActions, FilesystemOps, LlmTokens, Processes, Steps, WallclockMs};
    let kinds = [Steps, WallclockMs, LlmTokens, Processes, FilesystemOps, BrowserActions];
    let known = kinds.into_iter().find(|kind| kind.name() == name || kind.name().replace('-', "_") == name);
    known.ok_or_else(|| mistake(&format!("field `kind`: there is no budget {name:?}")))
}

fn complete(fields: &mut Fields) -> Result<Action, CallError> {
    let messages = fields.list("messages")?.into_iter().map(message).collect::<Result<Vec<_>, _>>()?;
    if messages.is_empty() {
        return Err(mistake("field `messages` of llm.complete is missing or empty"));
    }
    let options = match fields.optional_object("options")? {
        Some(fields) => options(fields)?,
        None => LlmOptions::default(),
    };
    Ok(Action::Complete {
        conversation: Conversation { messages: items("messages", messages)?, tools: List::default() },
        options,
    })
}

fn message(value: Value) -> Result<Message, CallError> {
    let mut fields = Fields::of("`messages`", value)?;
    let role = match fields.text("role")?.as_str() {
        "system" => MessageRole::System,
        "user" => MessageRole::User,
        "assistant" => MessageRole::Assistant,
        "tool" => MessageRole::Tool,
        other => return Err(mistake(&format!("field `role`: there is no role {other:?}"))),
    };
    let message = Message { role, content: fields.bounded("content")?, name: fields.optional_bounded("name")? };
    fields.end()?;
    Ok(message)
}

fn options(mut fields: Fields) -> Result<LlmOptions, CallError> {
    let stop =
        fields.texts("stop")?.into_iter().map(|text| bounded("stop", text)).collect::<Result<Vec<Text<256>>, _>>()?;
    let max_tokens = fields.optional_number("max_tokens")?.map(u32::try_from).transpose();
    let options = LlmOptions {
        max_tokens: max_tokens.map_err(|_| mistake("field `max_tokens` is too large"))?,
        temperature_milli: thousandths(&mut fields, "temperature")?,
        top_p_milli: thousandths(&mut fields, "top_p")?,
        stop: items("stop", stop)?,
        presence_penalty_milli: thousandths(&mut fields, "presence_penalty")?,
        frequency_penalty_milli: thousandths(&mut fields, "frequency_penalty")?,
    };
    fields.end()?;
    Ok(options)
}

fn thousandths(fields: &mut Fields, name: &str) -> Result<Option<i32>, CallError> {
    match fields.optional_float(name)? {
        None => Ok(None),
        // Bounded as checked: the conversion only rounds.
        Some(value) if value.abs() <= 1000.0 => Ok(Some((value * 1000.0).round() as i32)),
        Some(_) => Err(mistake(&format!("field `{name}` must lie between -1000 and 1000"))),
    }
}

#[cfg(test)]
#[path = "action_tests.rs"]
mod tests;
