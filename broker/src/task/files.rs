//! Calls on files: from what a worker names to what cap-fs is told, and back.

use super::act::{Act, limit_error, outcome_of};
use super::handles::Handle;
use super::monitor::Row;
use super::{Answer, Stop, Task, failed};
use crate::audit::Value;
use crate::ledger::{Cost, Reserved};
use crate::peer::PeerError;
use tokio::time::Instant;
use warden_policy::LimitKey;
use warden_policy::{Call, FsGrant, FsOp, GrantScope, Intent, PathArg, Verdict};
use warden_proto::Text;
use warden_proto::blob::Body;
use warden_proto::limits::{BLOB_MAX_BYTES, REPLY_DEADLINE};
use warden_proto::msg::error::{CallError, ErrorCode};
use warden_proto::msg::fs::{FsCall, FsGuestCall, FsHelperCall, FsHelperReply, FsReply, GuestTarget, HelperTarget};
use warden_proto::msg::life::Role;
use warden_proto::msg::worker::{Origin, WorkerReply};
use warden_proto::render::{self, Subject};

/// A call that the policy allows, in cap-fs's terms.
struct Allowed {
    call: FsHelperCall,
    rule: String,
    /// What an open will have opened.
    handle: Option<Handle>,
    /// Bytes that a write may add to files at most.
    growth_max: u64,
    /// Payload to send ahead.
    contents: Option<Vec<u8>>,
}

/// A path of a call, once it is known where it lies.
struct Located {
    grant: FsGrant,
    rule: String,
    base: Option<u32>,
}

impl Task {
    /// One call on files.
    pub(super) async fn files(&mut self, row: Row, origin: Origin, call: FsGuestCall) -> Answer {
        self.report.count(row.capability);
        // A payload is taken whatever comes of the call, so that it does not stay in the inbox.
        let (call, contents) = self.take_contents(call)?;
        let shown = shown_paths(&call);
        let result = self.file_act(row, &shown, call, contents).await?;
        if origin == Origin::Action {
            self.note_file_action(row, &shown, &result);
        }
        match result {
            Ok(Done { reply: FsReply::Content { truncated, .. }, content, .. }) => {
                let contents = self.place_for_worker(content).await?;
                Ok(WorkerReply::Fs(FsReply::Content { contents, truncated }))
            }
            Ok(done) => Ok(WorkerReply::Fs(done.reply)),
            Err(error) => Ok(failed(error)),
        }
    }

    fn take_contents(&mut self, call: FsGuestCall) -> Result<(FsGuestCall, Option<Vec<u8>>), Stop> {
        match call {
            FsCall::WriteFile { target, contents, append, parents } => {
                let bytes = self.worker.peer.take(contents)?;
                let contents = Body::Inline { bytes: warden_proto::Bytes::default() };
                Ok((FsCall::WriteFile { target, contents, append, parents }, Some(bytes)))
            }
            other => Ok((other, None)),
        }
    }

    async fn file_act(
        &mut self,
        row: Row,
        shown: &(String, String),
        call: FsGuestCall,
        contents: Option<Vec<u8>>,
    ) -> Result<Result<Done, CallError>, Stop> {
        let bytes = contents.as_ref().map(|c| u64::try_from(c.len()).unwrap_or(u64::MAX));
        let fields = input_fields(&call, shown, bytes);
        let input = Value::Fields(&fields);
        let allowed = match self.allow_file(call, contents) {
            Ok(allowed) => allowed,
            Err(error) => {
                self.refuse(row, row.capability, &shown.0, input, &error)?;
                return Ok(Err(error));
            }
        };
        let reserved = match self.reserve_file(row, allowed.growth_max) {
            Ok(reserved) => reserved,
            Err(error) => {
                self.refuse(row, row.capability, &shown.0, input, &error)?;
                return Ok(Err(error));
            }
        };
        if let Err(error) = self.need(Role::CapFs).await? {
            self.settle_file(reserved, 0);
            self.refuse(row, row.capability, &shown.0, input, &error)?;
            return Ok(Err(error));
        }
        let rule = allowed.rule.clone();
        let act = Act { row, input, rule: &rule };
        let ticket = self.begin(&act)?;
        let started = Instant::now();
        let resizes = matches!(allowed.call, FsCall::SetLen { .. });
        let mut result = self.ask_files(allowed).await;
        let grown = match &result {
            Ok(Done { reply: FsReply::Written { grown, .. }, .. }) => *grown,
            _ => 0,
        };
        self.settle_file(reserved, grown);
        if let (true, Ok(done)) = (resizes, &mut result) {
            done.reply = FsReply::Done;
        }
        let moved = result.as_ref().ok().and_then(Done::moved);
        self.end(&act, ticket, outcome_of(&result, Value::Null), moved, started)?;
        if let Err(error) = &result {
            self.report.deny(row.capability, &shown.0, error);
            if error.code == ErrorCode::Denied {
                self.progress.denied(row.capability, &shown.0, error);
            }
        }
        Ok(result)
    }

    async fn ask_files(&mut self, allowed: Allowed) -> Result<Done, CallError> {
        let Allowed { mut call, handle, contents, .. } = allowed;
        if let Some(bytes) = contents {
            let placed = match self.helpers.get(Role::CapFs) {
                Some(helper) => helper.jailed.peer.place(bytes, 8192, Instant::now() + REPLY_DEADLINE).await,
                None => Err(PeerError::Gone),
            };
            let placed = placed.map_err(|e| CallError::new(ErrorCode::Unavailable, &format!("cap-fs: {e}")))?;
            if let FsCall::WriteFile { contents, .. } = &mut call {
                *contents = placed;
            }
        }
        let closes = if let FsCall::Close { handle } = &call { Some(*handle) } else { None };
        let reply: FsHelperReply = self.ask(Role::CapFs, &call, REPLY_DEADLINE).await?;
        let reply = reply?;
        if let Some(number) = closes {
            self.handles.remove(number);
        }
        let mut done = Done { reply, content: Vec::new() };
        match (&done.reply, &handle) {
            (FsReply::Opened { handle: number, .. }, Some(handle)) if !self.handles.add(*number, handle.clone()) => {
                let error = PeerError::Refused("it gave out a handle twice".to_owned());
                return Err(self.helper_lost(Role::CapFs, &error, false).await);
            }
            (FsReply::Content { contents, .. }, _) => {
                done.content = self.payload(Role::CapFs, contents.clone()).await?;
            }
            _ => {}
        }
        Ok(done)
    }

    fn reserve_file(&mut self, row: Row, growth_max: u64) -> Result<Option<Reserved>, CallError> {
        let policy = self.spec.policy.clone();
        if let Some(cost) = row.cost {
            let taken = self.ledger.reserve(cost, 1);
            let taken = taken.map_err(|spent| limit_error(&spent, policy.limits().rule(LimitKey::FsOps)))?;
            // An operation that was begun is spent, however it ends.
            self.ledger.settle(taken, 1);
        }
        if growth_max == 0 {
            return Ok(None);
        }
        let reserved = self.ledger.reserve(Cost::FsWritten, growth_max);
        reserved.map(Some).map_err(|spent| limit_error(&spent, policy.limits().rule(LimitKey::FsWritten)))
    }

    fn settle_file(&mut self, reserved: Option<Reserved>, grown: u64) {
        if let Some(reserved) = reserved {
            self.ledger.settle(reserved, grown);
        }
    }

    fn note_file_action(&mut self, row: Row, shown: &(String, String), result: &Result<Done, CallError>) {
        let rendered = match result {
            Ok(done) => {
                let subject =
                    Subject { path: &shown.0, to: &shown.1, content: [&done.content, &[]], ..Subject::default() };
                Ok(render::fs(&subject, &done.reply))
            }
            Err(error) => Err(error.clone()),
        };
        self.progress.action(row.capability, &shown.0, rendered.as_ref().err());
        self.report.action(row.capability, &rendered);
    }

    /// The policy's word on a call, and the call in cap-fs's terms.
    fn allow_file(&self, call: FsGuestCall, contents: Option<Vec<u8>>) -> Result<Allowed, CallError> {
        let size = contents.as_ref().map_or(0, |c| u64::try_from(c.len()).unwrap_or(u64::MAX));
        let mut allowed = self.allow_paths(call)?;
        if matches!(allowed.call, FsCall::WriteFile { .. }) {
            allowed.growth_max = size;
        }
        allowed.contents = contents;
        Ok(allowed)
    }

    fn allow_paths(&self, call: FsGuestCall) -> Result<Allowed, CallError> {
        let plain = |located: &Located, call| Allowed {
            call,
            rule: located.rule.clone(),
            handle: None,
            growth_max: 0,
            contents: None,
        };
        let at = |op, target: &GuestTarget, intent| self.locate(op, target, None, intent);
        Ok(match call {
            FsCall::OpenDir { target } => {
                let located = at(FsOp::OpenDir, &target, Intent::READ)?;
                let handle = opened(&located, true, false);
                Allowed {
                    handle: Some(handle),
                    ..plain(&located, FsCall::OpenDir { target: located.target(&target)? })
                }
            }
            FsCall::EnsureDir { target } => {
                let located = at(FsOp::EnsureDir, &target, Intent::CREATE)?;
                plain(&located, FsCall::EnsureDir { target: located.target(&target)? })
            }
            FsCall::RemoveDir { target, recursive } => {
                let located = at(FsOp::RemoveDir, &target, Intent::REMOVE)?;
                plain(&located, FsCall::RemoveDir { target: located.target(&target)?, recursive })
            }
            FsCall::RemoveFile { target } => {
                let located = at(FsOp::RemoveFile, &target, Intent::REMOVE)?;
                plain(&located, FsCall::RemoveFile { target: located.target(&target)? })
            }
            FsCall::Rename { target, to } => self.allow_rename(&target, &to)?,
            FsCall::ListDir { target, after } => {
                let located = at(FsOp::ListDir, &target, Intent::READ)?;
                plain(&located, FsCall::ListDir { target: located.target(&target)?, after })
            }
            FsCall::Metadata { target } => {
                let located = at(FsOp::Metadata, &target, Intent::READ)?;
                plain(&located, FsCall::Metadata { target: located.target(&target)? })
            }
            FsCall::OpenFile { target, flags } => {
                let write = flags.write || flags.append || flags.truncate;
                let intent = Intent { read: flags.read, write, create: flags.create, remove: false };
                let located = at(FsOp::Open, &target, intent)?;
                let handle = opened(&located, false, write || flags.create);
                let call = FsCall::OpenFile { target: located.target(&target)?, flags };
                Allowed { handle: Some(handle), ..plain(&located, call) }
            }
            FsCall::ReadFile { target, offset, max_bytes } => {
                let located = at(FsOp::ReadFile, &target, Intent::READ)?;
                let max_bytes = max_bytes.min(u32::try_from(BLOB_MAX_BYTES).unwrap_or(u32::MAX));
                plain(&located, FsCall::ReadFile { target: located.target(&target)?, offset, max_bytes })
            }
            FsCall::WriteFile { target, contents, append, parents } => {
                let located = at(FsOp::WriteFile, &target, Intent::WRITE)?;
                plain(&located, FsCall::WriteFile { target: located.target(&target)?, contents, append, parents })
            }
            on_handle => self.allow_on_handle(on_handle)?,
        })
    }

    fn allow_rename(&self, from: &GuestTarget, to: &GuestTarget) -> Result<Allowed, CallError> {
        let located = self.locate(FsOp::Rename, from, Some(to), Intent::REMOVE)?;
        let Some((workspace, path)) = located.grant.to.clone() else {
            return Err(CallError::new(ErrorCode::Internal, "the policy decided a rename without its second path"));
        };
        let second = helper_target(self.base_of(to), workspace, path.relative(), to)?;
        let call = FsCall::Rename { target: located.target(from)?, to: second };
        Ok(Allowed { call, rule: located.rule.clone(), handle: None, growth_max: 0, contents: None })
    }

    fn allow_on_handle(&self, call: FsGuestCall) -> Result<Allowed, CallError> {
        let (handle, growth_max, call) = match call {
            FsCall::Read { file, max_bytes } => (self.handles.file(file)?, 0, FsCall::Read { file, max_bytes }),
            FsCall::Write { file, bytes } => {
                let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                (writable(self.handles.file(file)?)?, size, FsCall::Write { file, bytes })
            }
            FsCall::SetLen { file, len } => {
                // What it may grow by is not known before: reserve the whole new length.
                (writable(self.handles.file(file)?)?, len, FsCall::SetLen { file, len })
            }
            FsCall::Flush { file } => (self.handles.file(file)?, 0, FsCall::Flush { file }),
            FsCall::Close { handle } => (self.handles.any(handle)?, 0, FsCall::Close { handle }),
            _ => return Err(CallError::new(ErrorCode::Internal, "a call without a handle and without a path")),
        };
        let rule = handle.rule.clone();
        Ok(Allowed { call, rule, handle: None, growth_max, contents: None })
    }

    fn base_of(&self, target: &GuestTarget) -> Option<u32> {
        match target {
            GuestTarget::At { dir, .. } => Some(*dir),
            GuestTarget::Path { .. } => None,
        }
    }

    /// Where a path lies and whether the policy allows it.
    fn locate(
        &self,
        op: FsOp,
        target: &GuestTarget,
        to: Option<&GuestTarget>,
        intent: Intent,
    ) -> Result<Located, CallError> {
        let first = self.absolute(target)?;
        let second = to.map(|to| self.absolute(to)).transpose()?;
        let call = Call::Fs { op, path: first.arg(), to: second.as_ref().map(Absolute::arg), intent };
        let verdict = self.spec.policy.decide(&call);
        match verdict.map_err(|e| CallError::new(ErrorCode::InvalidArgument, &e.to_string()))? {
            Verdict::Deny(denial) => Err(CallError::denied(&denial.rule, &denial.reason)),
            Verdict::Allow(grant) => {
                let rule = grant.rules.last().cloned().unwrap_or_default();
                self.check_approval(op.capability(), grant.approval.as_deref())?;
                match grant.scope {
                    GrantScope::Fs(scope) => Ok(Located { grant: scope, rule, base: self.base_of(target) }),
                    _ => Err(CallError::new(ErrorCode::Internal, "the policy granted something else than a path")),
                }
            }
        }
    }

    /// What a target names, before the policy is asked: text of the guest's, or a place beneath a handle of this task.
    fn absolute<'a>(&self, target: &'a GuestTarget) -> Result<Absolute<'a>, CallError> {
        match target {
            GuestTarget::Path { path } => Ok(Absolute::Text(path.as_str())),
            GuestTarget::At { dir, path } => {
                let handle = self.handles.directory(*dir)?;
                // T-01: a path relative to a handle stays beneath that handle, not only beneath its workspace.
                let beneath = normal_beneath(path.as_str()).ok_or_else(|| {
                    CallError::denied("default-deny", "a path relative to a directory handle may not leave it")
                })?;
                let relative = match (handle.path.is_empty(), beneath.is_empty()) {
                    (true, _) => beneath,
                    (_, true) => handle.path.clone(),
                    _ => format!("{}/{beneath}", handle.path),
                };
                Ok(Absolute::Within { label: handle.label.clone(), relative })
            }
        }
    }

    /// Appends nothing and asks nobody: approvals are not offered yet, so what would need one is denied, with its rule.
    pub(super) fn check_approval(&self, capability: &str, rule: Option<&str>) -> Result<(), CallError> {
        match rule {
            None => Ok(()),
            Some(rule) => Err(CallError::denied(
                rule,
                &format!("{capability} needs a person's approval, and this version of warden cannot ask for one"),
            )),
        }
    }

    /// Evaluates a predicate's question about a file with the task's own grants.
    pub(super) async fn check_file(
        &mut self,
        path: &str,
        check: warden_proto::msg::fs::FileCheck,
    ) -> Result<Result<(bool, String), CallError>, Stop> {
        let target = GuestTarget::Path { path: Text::cut(path) };
        let located = match self.locate(FsOp::ReadFile, &target, None, Intent::READ) {
            Ok(located) => located,
            Err(error) => return Ok(Err(error)),
        };
        if let Err(error) = self.need(Role::CapFs).await? {
            return Ok(Err(error));
        }
        let call: FsHelperCall = match located.target(&target) {
            Ok(target) => FsCall::Check { target, check },
            Err(error) => return Ok(Err(error)),
        };
        let reply: Result<FsHelperReply, CallError> = self.ask(Role::CapFs, &call, super::predicates::DEADLINE).await;
        Ok(match reply {
            Ok(Ok(FsReply::Checked { met, detail })) => Ok((met, detail.into_string())),
            Ok(Ok(_)) => Err(CallError::new(ErrorCode::Internal, "cap-fs answered something else than was asked")),
            Ok(Err(error)) | Err(error) => Err(error),
        })
    }
}

/// A call that was done.
pub(super) struct Done {
    reply: FsReply,
    content: Vec<u8>,
}

impl Done {
    /// Payload bytes that it moved.
    fn moved(&self) -> Option<u64> {
        let len = |n: usize| u64::try_from(n).ok();
        match &self.reply {
            FsReply::Content { .. } => len(self.content.len()),
            FsReply::Data { bytes } => len(bytes.len()),
            FsReply::Written { bytes, .. } => Some(*bytes),
            _ => None,
        }
    }
}

enum Absolute<'a> {
    Text(&'a str),
    Within { label: String, relative: String },
}

impl Absolute<'_> {
    fn arg(&self) -> PathArg<'_> {
        match self {
            Self::Text(text) => PathArg::Text(text),
            Self::Within { label, relative } => PathArg::Within { label, relative },
        }
    }
}

impl Located {
    /// The first path in cap-fs's terms.
    fn target(&self, asked: &GuestTarget) -> Result<HelperTarget, CallError> {
        helper_target(self.base, self.grant.workspace, self.grant.path.relative(), asked)
    }
}

fn helper_target(
    base: Option<u32>,
    workspace: usize,
    relative: &str,
    asked: &GuestTarget,
) -> Result<HelperTarget, CallError> {
    let internal = |what: String| CallError::new(ErrorCode::Internal, &what);
    match (base, asked) {
        (Some(dir), GuestTarget::At { path, .. }) => {
            let beneath = normal_beneath(path.as_str()).unwrap_or_default();
            Ok(HelperTarget::At { dir, path: Text::new(beneath).map_err(|e| internal(e.to_string()))? })
        }
        _ => Ok(HelperTarget::Workspace {
            workspace: u16::try_from(workspace).map_err(|e| internal(e.to_string()))?,
            path: Text::new(relative).map_err(|e| internal(e.to_string()))?,
        }),
    }
}

/// A relative path without `.`, `..` and empty names, or none when it leaves where it starts.
fn normal_beneath(path: &str) -> Option<String> {
    if path.starts_with('/') || path.contains('\0') {
        return None;
    }
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => {
                names.pop()?;
            }
            other => names.push(other),
        }
    }
    Some(names.join("/"))
}

fn opened(located: &Located, directory: bool, writable: bool) -> Handle {
    Handle {
        label: located.grant.path.label.clone(),
        path: located.grant.path.relative().to_owned(),
        directory,
        writable,
        rule: located.rule.clone(),
    }
}

fn writable(handle: &Handle) -> Result<&Handle, CallError> {
    if handle.writable {
        return Ok(handle);
    }
    Err(CallError::denied(&handle.rule, "the file was not opened for writing"))
}

/// The paths of a call as the guest wrote them.
fn shown_paths(call: &FsGuestCall) -> (String, String) {
    let text = |target: &GuestTarget| match target {
        GuestTarget::Path { path } => path.to_string(),
        GuestTarget::At { dir, path } => format!("#{dir}/{path}"),
    };
    match call {
        FsCall::Rename { target, to } => (text(target), text(to)),
        FsCall::OpenDir { target }
        | FsCall::EnsureDir { target }
        | FsCall::RemoveDir { target, .. }
        | FsCall::RemoveFile { target }
        | FsCall::ListDir { target, .. }
        | FsCall::Metadata { target }
        | FsCall::OpenFile { target, .. }
        | FsCall::ReadFile { target, .. }
        | FsCall::WriteFile { target, .. }
        | FsCall::Check { target, .. } => (text(target), String::new()),
        FsCall::Read { file, .. }
        | FsCall::Write { file, .. }
        | FsCall::SetLen { file, .. }
        | FsCall::Flush { file } => (format!("#{file}"), String::new()),
        FsCall::Close { handle } => (format!("#{handle}"), String::new()),
    }
}

/// The input of a record.
fn input_fields<'a>(call: &FsGuestCall, shown: &'a (String, String), bytes: Option<u64>) -> Vec<(&'a str, Value<'a>)> {
    let mut fields = vec![("path", Value::Text(&shown.0))];
    if !shown.1.is_empty() {
        fields.push(("to", Value::Text(&shown.1)));
    }
    match call {
        FsCall::WriteFile { append, .. } => {
            fields.push(("bytes", Value::Number(bytes.unwrap_or(0))));
            fields.push(("append", Value::Bool(*append)));
        }
        FsCall::Write { bytes, .. } => {
            fields.push(("bytes", Value::Number(u64::try_from(bytes.len()).unwrap_or(u64::MAX))));
        }
        FsCall::ReadFile { offset, max_bytes, .. } => {
            fields.push(("offset", Value::Number(*offset)));
            fields.push(("max_bytes", Value::Number(u64::from(*max_bytes))));
        }
        FsCall::SetLen { len, .. } => fields.push(("len", Value::Number(*len))),
        FsCall::RemoveDir { recursive, .. } => fields.push(("recursive", Value::Bool(*recursive))),
        FsCall::OpenFile { flags, .. } => {
            fields.push(("write", Value::Bool(flags.write || flags.append)));
            fields.push(("create", Value::Bool(flags.create)));
        }
        _ => {}
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_beneath_a_handle_cannot_leave_it() {
        assert_eq!(normal_beneath("a/./b//c").as_deref(), Some("a/b/c"));
        assert_eq!(normal_beneath("a/../b").as_deref(), Some("b"));
        assert_eq!(normal_beneath("").as_deref(), Some(""));
        for bad in ["..", "a/../..", "/etc/passwd", "a/../../b", "a\0b"] {
            assert_eq!(normal_beneath(bad), None, "{bad:?}");
        }
    }
}
