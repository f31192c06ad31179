//! Calls on files: worker to broker ([`GuestTarget`]) and, narrowed, broker to cap-fs ([`HelperTarget`]).
//!
//! A handle is a number that cap-fs gave for this task; the broker remembers which of them exist and what they name, so
//! a worker cannot use one it was not given (T-11). The workspaces' roots are no handles: they are named by index.

use crate::blob::Body;
use crate::bounded::{Bytes, List, Text};
use crate::limits::{
    ENTRIES_PER_REPLY_MAX, INLINE_MAX_BYTES, NAME_MAX_BYTES, PATH_MAX_BYTES, PATH_RULES_MAX, WORKSPACES_MAX,
};
use bincode::{Decode, Encode};

/// A path, bytes of PATH_MAX at most.
pub type PathText = Text<PATH_MAX_BYTES>;

/// What a worker may name.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum GuestTarget {
    /// `label:relative/path`, or without a label in the first workspace.
    Path {
        /// The text as the guest wrote it.
        path: PathText,
    },
    /// Relative to an open directory; empty for the directory itself.
    At {
        /// The directory.
        dir: u32,
        /// A relative path.
        path: PathText,
    },
}

/// What the broker names to cap-fs: always normalised, never absolute, never with `..`.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum HelperTarget {
    /// Relative to a workspace's root; empty for the root.
    Workspace {
        /// Index in [`FsSetup::workspaces`].
        workspace: u16,
        /// A normalised relative path.
        path: PathText,
    },
    /// Relative to an open directory.
    At {
        /// The directory.
        dir: u32,
        /// A normalised relative path.
        path: PathText,
    },
}

/// `file-open-options` of the WIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub struct OpenFlags {
    /// For reading.
    pub read: bool,
    /// For writing.
    pub write: bool,
    /// Every write goes to the end.
    pub append: bool,
    /// Make it if it is not there.
    pub create: bool,
    /// Cut it to nothing.
    pub truncate: bool,
    /// Fail if it is there (with `create`).
    pub exclusive: bool,
}

/// An operation on files. `T` is how the speaker names a path.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum FsCall<T> {
    /// `fs.open_dir`: a handle on a directory → [`FsReply::Opened`].
    OpenDir {
        /// The directory.
        target: T,
    },
    /// `fs.ensure_dir`: a directory and its parents exist → `Done`.
    EnsureDir {
        /// The directory.
        target: T,
    },
    /// `fs.remove_dir` → `Done`.
    RemoveDir {
        /// The directory.
        target: T,
        /// With all beneath it.
        recursive: bool,
    },
    /// `fs.remove_file` → `Done`.
    RemoveFile {
        /// The file or link.
        target: T,
    },
    /// `fs.rename`, replacing a file at the new name → `Done`.
    Rename {
        /// Old name.
        target: T,
        /// New name.
        to: T,
    },
    /// `fs.list_dir` → `Entries`, from `after` on.
    ListDir {
        /// The directory.
        target: T,
        /// Entries to pass over: what the previous reply's `next` said, 0 at first. Entries are sorted by name.
        after: u32,
    },
    /// `fs.metadata` → `Metadata`.
    Metadata {
        /// Of what.
        target: T,
    },
    /// `fs.open`: a handle on a regular file → `Opened`.
    OpenFile {
        /// The file.
        target: T,
        /// How.
        flags: OpenFlags,
    },
    /// `fs.read_file`: the bytes of a regular file from `offset` → `Content`.
    ReadFile {
        /// The file.
        target: T,
        /// First byte.
        offset: u64,
        /// At most so many bytes (at most [`crate::limits::BLOB_MAX_BYTES`]).
        max_bytes: u32,
    },
    /// `fs.write_file`: the whole of a regular file → `Written`.
    WriteFile {
        /// The file; made when it is not there.
        target: T,
        /// Its contents.
        contents: Body,
        /// Add to the end instead of replacing.
        append: bool,
        /// Make missing parents.
        parents: bool,
    },
    /// Read from an open file at its own offset → `Data`.
    Read {
        /// The file.
        file: u32,
        /// At most so many bytes (at most [`INLINE_MAX_BYTES`]).
        max_bytes: u32,
    },
    /// Write to an open file at its own offset → `Written`.
    Write {
        /// The file.
        file: u32,
        /// What.
        bytes: Bytes<INLINE_MAX_BYTES>,
    },
    /// → `Written` with no bytes and the growth; the broker tells the worker `Done`.
    SetLen {
        /// The file.
        file: u32,
        /// New length, bytes.
        len: u64,
    },
    /// To the disk → `Done`.
    Flush {
        /// The file.
        file: u32,
    },
    /// A file or directory handle ends → `Closed`.
    Close {
        /// The handle.
        handle: u32,
    },
    /// A predicate on a file, for the broker alone (a worker's is refused) → `Checked`.
    Check {
        /// The file.
        target: T,
        /// What must hold.
        check: FileCheck,
    },
}

/// What a success predicate asks of a file.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum FileCheck {
    /// It is there.
    Exists,
    /// It is not there.
    Absent,
    /// A regular expression (Rust syntax) matches somewhere in it.
    Contains {
        /// The expression.
        regex: Text<4096>,
    },
    /// Its SHA-256.
    Sha256 {
        /// The digest.
        digest: [u8; 32],
    },
    /// A JSON pointer into it finds this value.
    JsonEquals {
        /// RFC 6901.
        pointer: Text<1024>,
        /// The value, as JSON text.
        value: Text<16384>,
    },
}

/// `entry-kind` of the WIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// Anything else.
    Other,
}

/// `entry-metadata` of the WIT.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Entry {
    /// Last component.
    pub name: Text<NAME_MAX_BYTES>,
    /// What it is.
    pub kind: EntryKind,
    /// Bytes, for regular files.
    pub size_bytes: Option<u64>,
    /// Milliseconds since 1970.
    pub modified_ms: Option<u64>,
    /// Whether this task may not write it.
    pub readonly: bool,
}

/// The answer to an [`FsCall`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum FsReply {
    /// It is done.
    Done,
    /// A new handle.
    Opened {
        /// Its number, never 0.
        handle: u32,
        /// Size of a regular file, bytes.
        size_bytes: u64,
    },
    /// Part of a file, with its whole size.
    Content {
        /// The bytes.
        contents: Body,
        /// Whether the file goes on after them.
        truncated: bool,
    },
    /// Bytes of an open file; empty at its end.
    Data {
        /// The bytes.
        bytes: Bytes<INLINE_MAX_BYTES>,
    },
    /// So many bytes were written.
    Written {
        /// Bytes.
        bytes: u64,
        /// How much longer files have become by it, bytes: what `fs_written` is charged.
        grown: u64,
    },
    /// Entries of a directory.
    Entries {
        /// Sorted by name.
        entries: List<Entry, ENTRIES_PER_REPLY_MAX>,
        /// Where to go on; 0 at the end.
        next: u32,
        /// Names in the directory, of which these are some.
        total: u32,
    },
    /// What a path is.
    Metadata {
        /// The facts.
        entry: Entry,
    },
    /// A handle has ended; for a file that was open for writing, its size and hash for the record.
    Closed {
        /// Size, bytes.
        size_bytes: Option<u64>,
        /// SHA-256 of the whole file.
        sha256: Option<[u8; 32]>,
    },
    /// A predicate's answer.
    Checked {
        /// Whether it holds.
        met: bool,
        /// Why not, for people.
        detail: Text<512>,
    },
}

/// What a deny rule takes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum RuleKind {
    /// Everything.
    Deny,
    /// Writing, making, renaming, removing.
    DenyWrite,
}

/// A deny rule of a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct PathRuleSetup {
    /// Glob on paths relative to the workspace's root (`**`, `*`, `?`, `[…]`, `{a,b}`; `*` does not cross `/`).
    /// What it matches is denied with all beneath it.
    pub glob: Text<1024>,
    /// What it takes away.
    pub kind: RuleKind,
    /// For the denial.
    pub rule: Text<256>,
}

/// One workspace of a task.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct WorkspaceSetup {
    /// For messages.
    pub label: Text<64>,
    /// read-write or read-only.
    pub writable: bool,
    /// Links inside the workspace are followed.
    pub symlinks: bool,
    /// Longest file that may come about, bytes.
    pub max_file_bytes: u64,
    /// The rule that says so.
    pub max_file_rule: Text<256>,
    /// Deny rules, those of enclosing workspaces included, already relative to this root.
    pub rules: List<PathRuleSetup, PATH_RULES_MAX>,
    /// The rule that grants this workspace, for denials of writes to a read-only one.
    pub rule: Text<256>,
}

/// Setup document of cap-fs. Inherited descriptors: one O_PATH directory for each workspace, in order, and the memory file by
/// which the task's moves and walks take turns.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct FsSetup {
    /// The task's id.
    pub task: [u8; 16],
    /// The task's workspaces.
    pub workspaces: List<WorkspaceSetup, WORKSPACES_MAX>,
    /// The rule of the task's limit on what files grow by.
    pub growth_rule: Text<256>,
}

/// An operation, and what is left of the task's limit for it.
///
/// How much a write makes a file grow is known where the file is: the broker reserves what there is, cap-fs does no more, and
/// the broker settles what it was.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct FsOrder {
    /// The operation.
    pub call: FsHelperCall,
    /// Bytes that files may grow by.
    pub growth_max: u64,
}

/// What cap-fs is asked to do, inside a [`FsOrder`].
pub type FsHelperCall = FsCall<HelperTarget>;
/// What a worker sends.
pub type FsGuestCall = FsCall<GuestTarget>;
/// What cap-fs answers.
pub type FsHelperReply = Result<FsReply, super::error::CallError>;
