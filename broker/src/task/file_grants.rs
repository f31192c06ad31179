//! What the policy says of a call on files, and the call in cap-fs's terms.

use super::Task;
use super::handles::Handle;
use warden_policy::{Call, FsGrant, FsOp, GrantScope, Intent, PathArg, Verdict};
use warden_proto::Text;
use warden_proto::limits::BLOB_MAX_BYTES;
use warden_proto::msg::error::{CallError, ErrorCode};
use warden_proto::msg::fs::{FsCall, FsGuestCall, FsHelperCall, GuestTarget, HelperTarget};

/// A call that the policy allows, in cap-fs's terms.
pub(super) struct Allowed {
    pub call: FsHelperCall,
    pub rule: String,
    /// What an open will have opened.
    pub handle: Option<Handle>,
    /// Bytes that a write may add to files at most.
    pub growth_max: u64,
    /// Payload to send ahead.
    pub contents: Option<Vec<u8>>,
}

/// A path of a call, once it is known where it lies.
pub(super) struct Located {
    grant: FsGrant,
    rule: String,
    base: Option<u32>,
}

impl Task {
    /// The policy's word on a call, and the call in cap-fs's terms.
    pub(super) fn allow_file(&self, call: FsGuestCall, contents: Option<Vec<u8>>) -> Result<Allowed, CallError> {
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
        let (handle, growth_max) = match &call {
            FsCall::Read { file, .. } | FsCall::Flush { file } => (self.handles.file(*file)?, 0),
            FsCall::Write { file, bytes } => {
                (writable(self.handles.file(*file)?)?, u64::try_from(bytes.len()).unwrap_or(u64::MAX))
            }
            // What it may grow by is not known before: the whole new length is reserved.
            FsCall::SetLen { file, len } => (writable(self.handles.file(*file)?)?, *len),
            FsCall::Close { handle } => (self.handles.any(*handle)?, 0),
            _ => return Err(CallError::new(ErrorCode::Internal, "a call without a handle and without a path")),
        };
        let (rule, file) = (handle.rule.clone(), handle.helper);
        let call = match call {
            FsCall::Read { max_bytes, .. } => FsCall::Read { file, max_bytes },
            FsCall::Write { bytes, .. } => FsCall::Write { file, bytes },
            FsCall::SetLen { len, .. } => FsCall::SetLen { file, len },
            FsCall::Flush { .. } => FsCall::Flush { file },
            _ => FsCall::Close { handle: file },
        };
        Ok(Allowed { call, rule, handle: None, growth_max, contents: None })
    }

    /// cap-fs's number for the directory that a path is relative to.
    fn base_of(&self, target: &GuestTarget) -> Option<u32> {
        match target {
            GuestTarget::At { dir, .. } => self.handles.directory(*dir).ok().map(|handle| handle.helper),
            GuestTarget::Path { .. } => None,
        }
    }

    /// Where a path lies and whether the policy allows it.
    pub(super) fn locate(
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
    /// The rule that allows it.
    pub fn rule(&self) -> &str {
        &self.rule
    }

    /// The first path in cap-fs's terms.
    pub fn target(&self, asked: &GuestTarget) -> Result<HelperTarget, CallError> {
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
        helper: 0,
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
