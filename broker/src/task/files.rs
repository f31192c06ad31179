//! Calls on files: recorded, asked of cap-fs, settled and answered. What is allowed is `file_grants.rs`'s.

use super::act::{Act, limit_error, outcome_of};
use super::file_grants::Allowed;
use super::monitor::Row;
use super::{Answer, Stop, Task, failed};
use crate::audit::{HexDigest, Value};
use crate::ledger::{Cost, Reserved};
use crate::peer::PeerError;
use tokio::time::Instant;
use warden_policy::{FsOp, Intent, LimitKey};
use warden_proto::Text;
use warden_proto::blob::Body;
use warden_proto::limits::REPLY_DEADLINE;
use warden_proto::msg::error::{CallError, ErrorCode};
use warden_proto::msg::fs::{FileCheck, FsCall, FsGuestCall, FsHelperReply, FsOrder, FsReply, GuestTarget};
use warden_proto::msg::life::Role;
use warden_proto::msg::worker::{Origin, WorkerReply};
use warden_proto::render::{self, Subject};

impl Task {
    /// One call on files; `base64` is how an action wants its output told.
    pub(super) async fn files(&mut self, row: Row, (origin, base64): (Origin, bool), call: FsGuestCall) -> Answer {
        self.report.count(row.capability);
        // A payload is taken whatever comes of the call, so that it does not stay in the inbox.
        let (call, contents) = self.take_contents(call)?;
        let shown = self.shown_paths(&call);
        let after = if let FsCall::ListDir { after, .. } = &call { *after } else { 0 };
        let goes_on = origin == Origin::Action && self.report.takes_page(&shown.0, after);
        let result = self.file_act(row, &shown, call, contents).await?;
        if origin == Origin::Action {
            self.note_file_action(row, &shown, &result, base64, goes_on);
        }
        match result {
            Ok(Done { reply: FsReply::Content { truncated, .. }, content, .. }) => {
                let contents = self.place_for_worker(content, 0).await?;
                Ok(WorkerReply::Fs(FsReply::Content { contents, truncated }))
            }
            Ok(done) => Ok(WorkerReply::Fs(done.reply)),
            Err(error) => Ok(failed(error)),
        }
    }

    fn take_contents(&mut self, call: FsGuestCall) -> Result<(FsGuestCall, Option<Vec<u8>>), Stop> {
        match call {
            FsCall::WriteFile { target, contents, append, parents } => {
                let bytes = self.worker()?.peer.take(contents)?;
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
        let closes = if let FsCall::Close { handle } = &call { Some(*handle) } else { None };
        let (described, written) = (call.clone(), contents.clone());
        let fields = input_fields(&described, shown, written.as_deref());
        let input = Value::Fields(&fields);
        let allowed = match self.allow_file(call, contents) {
            Ok(allowed) => allowed,
            Err(error) => {
                self.refuse(row, row.capability, &shown.0, input, &error)?;
                return Ok(Err(error));
            }
        };
        let (reserved, growth_max) = match self.reserve_file(row, allowed.growth_max) {
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
        let mut result = self.ask_files(allowed, growth_max).await;
        let grown = match &result {
            Ok(Done { reply: FsReply::Written { grown, .. }, .. }) => *grown,
            _ => 0,
        };
        self.settle_file(reserved, grown);
        if let (true, Ok(done)) = (resizes, &mut result) {
            done.reply = FsReply::Done;
        }
        if let (Some(number), Ok(_)) = (closes, &result) {
            self.handles.remove(number);
        }
        let moved = result.as_ref().ok().and_then(Done::moved);
        let digest = result.as_ref().ok().and_then(Done::closed_digest);
        let told = result.as_ref().map_or(Value::Null, |done| done.told(digest.as_ref()));
        self.end(&act, ticket, outcome_of(&result, told), moved, started)?;
        if let Err(error) = &result {
            self.report.deny(row.capability, &shown.0, error);
            if error.code == ErrorCode::Denied {
                self.progress.denied(row.capability, &shown.0, error);
            }
        }
        Ok(result)
    }

    async fn ask_files(&mut self, allowed: Allowed, growth_max: u64) -> Result<Done, CallError> {
        let Allowed { mut call, handle, contents, .. } = allowed;
        if let Some(bytes) = contents {
            let placed = self.place_for_helper(Role::CapFs, bytes, 8192).await?;
            if let FsCall::WriteFile { contents, .. } = &mut call {
                *contents = placed;
            }
        }
        let order = FsOrder { call, growth_max };
        let reply: FsHelperReply = self.ask(Role::CapFs, &order, REPLY_DEADLINE).await?;
        let mut done = Done { reply: reply?, content: Vec::new() };
        match (&mut done.reply, handle) {
            (FsReply::Opened { handle: number, .. }, Some(mut handle)) => {
                handle.helper = *number;
                let Some(own) = self.handles.add(handle) else {
                    let error = PeerError::Refused("it gave out a handle twice".to_owned());
                    return Err(self.helper_lost(Role::CapFs, &error, false).await);
                };
                *number = own;
            }
            (FsReply::Content { contents, .. }, _) => {
                let contents = contents.clone();
                done.content = self.payload(Role::CapFs, contents).await?;
            }
            _ => {}
        }
        Ok(done)
    }

    /// What the operation costs, and what a write may make files grow by: no more than it has bytes, and no more than is left.
    /// How much of that is growth only cap-fs can tell, which does no more than was reserved.
    fn reserve_file(&mut self, row: Row, growth_max: u64) -> Result<(Option<Reserved>, u64), CallError> {
        let policy = self.spec.policy.clone();
        if let Some(cost) = row.cost {
            let taken = self.ledger.reserve(cost, 1);
            let taken = taken.map_err(|spent| limit_error(&spent, policy.limits().rule(LimitKey::FsOps)))?;
            // An operation that was begun is spent, however it ends.
            self.ledger.settle(taken, 1);
        }
        let amount = growth_max.min(self.ledger.left(Cost::FsWritten));
        if amount == 0 {
            return Ok((None, 0));
        }
        let reserved = self.ledger.reserve(Cost::FsWritten, amount);
        let reserved = reserved.map_err(|spent| limit_error(&spent, policy.limits().rule(LimitKey::FsWritten)))?;
        Ok((Some(reserved), amount))
    }

    fn settle_file(&mut self, reserved: Option<Reserved>, grown: u64) {
        if let Some(reserved) = reserved {
            self.ledger.settle(reserved, grown);
        }
    }

    fn note_file_action(
        &mut self,
        row: Row,
        shown: &(String, String),
        result: &Result<Done, CallError>,
        force_base64: bool,
        goes_on: bool,
    ) {
        let rendered = match result {
            Ok(done) => {
                let content: [&[u8]; 2] = [&done.content, &[]];
                let subject = Subject { path: &shown.0, to: &shown.1, content, force_base64, ..Subject::default() };
                Ok(render::fs(&subject, &done.reply))
            }
            Err(error) => Err(error.clone()),
        };
        // A person is told of an action once, and again only where a page of it failed.
        if !goes_on || rendered.is_err() {
            self.progress.action(row.capability, &shown.0, rendered.as_ref().err());
        }
        self.report.listed(goes_on, row.capability, &shown.0, rendered, next_page(result));
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

    /// Evaluates a predicate's question about a file with the task's own grants, on the record.
    pub(super) async fn check_file(
        &mut self,
        predicate: &str,
        path: &str,
        check: FileCheck,
    ) -> Result<Result<(bool, String), CallError>, Stop> {
        let target = GuestTarget::Path { path: Text::cut(path) };
        let located = match self.locate(FsOp::ReadFile, &target, None, Intent::READ) {
            Ok(located) => located,
            Err(error) => return Ok(Err(error)),
        };
        let order = match located.target(&target) {
            Ok(target) => FsOrder { call: FsCall::Check { target, check }, growth_max: 0 },
            Err(error) => return Ok(Err(error)),
        };
        self.need_for_predicate(Role::CapFs, predicate).await?;
        let act = Act { row: super::monitor::PREDICATE, input: Value::Text(predicate), rule: located.rule() };
        let (ticket, started) = (self.begin(&act)?, Instant::now());
        let reply: Result<FsHelperReply, CallError> =
            self.ask_undisturbed(Role::CapFs, &order, super::predicates::DEADLINE).await;
        let answer = match reply.and_then(|reply| reply) {
            Ok(FsReply::Checked { met, detail }) => Ok((met, detail.into_string())),
            Ok(_) => Err(CallError::new(ErrorCode::Internal, "cap-fs answered something else than was asked")),
            Err(error) => Err(error),
        };
        let met = answer.as_ref().map_or(Value::Null, |(met, _)| Value::Bool(*met));
        self.end(&act, ticket, outcome_of(&answer, met), None, started)?;
        Ok(answer)
    }

    /// The paths of a call as records and results show them: as the guest wrote them, or where its handle was opened.
    fn shown_paths(&self, call: &FsGuestCall) -> (String, String) {
        let opened = |number: u32| match self.handles.any(number) {
            Ok(handle) => format!("{}:{}", handle.label, handle.path),
            Err(_) => format!("#{number}"),
        };
        let text = |target: &GuestTarget| match target {
            GuestTarget::Path { path } if path.is_empty() => self.spec.home(),
            GuestTarget::Path { path } => path.to_string(),
            GuestTarget::At { dir, path } if path.is_empty() => opened(*dir),
            GuestTarget::At { dir, path } => {
                let folder = opened(*dir);
                let slash = if folder.ends_with(':') { "" } else { "/" };
                format!("{folder}{slash}{path}")
            }
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
            | FsCall::Flush { file } => (opened(*file), String::new()),
            FsCall::Close { handle } => (opened(*handle), String::new()),
        }
    }
}

/// Where a listing goes on, if this was a part of one.
fn next_page(result: &Result<Done, CallError>) -> u32 {
    match result {
        Ok(Done { reply: FsReply::Entries { next, .. }, .. }) => *next,
        _ => 0,
    }
}

/// A call that was done.
pub(super) struct Done {
    reply: FsReply,
    content: Vec<u8>,
}

impl Done {
    /// The hash of a file that was closed after writing.
    fn closed_digest(&self) -> Option<HexDigest> {
        match &self.reply {
            FsReply::Closed { sha256: Some(digest), .. } => Some(HexDigest::from_bytes(*digest)),
            _ => None,
        }
    }

    /// What the record says of the answer: contents by the log's own bound, a closed file by its size and hash.
    fn told<'a>(&'a self, digest: Option<&'a HexDigest>) -> Value<'a> {
        match (&self.reply, digest) {
            (FsReply::Content { .. }, _) => Value::Bytes(&self.content),
            (FsReply::Data { bytes }, _) => Value::Bytes(bytes),
            (FsReply::Opened { handle, .. }, _) => Value::Number(u64::from(*handle)),
            (FsReply::Closed { size_bytes: Some(len), .. }, Some(sha256)) => Value::Summary { len: *len, sha256 },
            _ => Value::Null,
        }
    }

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

/// The input of a record: what was asked, and for contents their bytes, which the log bounds and hashes.
fn input_fields<'a>(
    call: &'a FsGuestCall,
    shown: &'a (String, String),
    written: Option<&'a [u8]>,
) -> Vec<(&'a str, Value<'a>)> {
    let mut fields = vec![("path", Value::Text(&shown.0))];
    if !shown.1.is_empty() {
        fields.push(("to", Value::Text(&shown.1)));
    }
    match call {
        FsCall::WriteFile { append, parents, .. } => {
            fields.push(("contents", Value::Bytes(written.unwrap_or_default())));
            fields.push(("append", Value::Bool(*append)));
            fields.push(("parents", Value::Bool(*parents)));
        }
        FsCall::Write { bytes, .. } => fields.push(("contents", Value::Bytes(bytes))),
        FsCall::ReadFile { offset, max_bytes, .. } => {
            fields.push(("offset", Value::Number(*offset)));
            fields.push(("max_bytes", Value::Number(u64::from(*max_bytes))));
        }
        FsCall::Read { max_bytes, .. } => fields.push(("max_bytes", Value::Number(u64::from(*max_bytes)))),
        FsCall::ListDir { after, .. } => fields.push(("after", Value::Number(u64::from(*after)))),
        FsCall::SetLen { len, .. } => fields.push(("len", Value::Number(*len))),
        FsCall::RemoveDir { recursive, .. } => fields.push(("recursive", Value::Bool(*recursive))),
        FsCall::OpenFile { flags, .. } => {
            let said = [
                ("read", flags.read),
                ("write", flags.write),
                ("append", flags.append),
                ("create", flags.create),
                ("truncate", flags.truncate),
                ("exclusive", flags.exclusive),
            ];
            fields.extend(said.into_iter().filter(|(_, set)| *set).map(|(name, _)| (name, Value::Bool(true))));
        }
        _ => {}
    }
    fields
}
