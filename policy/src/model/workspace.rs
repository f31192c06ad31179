//! `[[fs.workspace]]`: a folder that a task may work in, and what in it is denied.

use crate::glob::Glob;
use std::path::PathBuf;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    ReadOnly,
    ReadWrite,
}

impl Access {
    pub fn name(self) -> &'static str {
        match self {
            Access::ReadOnly => "read-only",
            Access::ReadWrite => "read-write",
        }
    }
}

/// `[[fs.workspace]]`
#[derive(Debug, Clone)]
pub struct Workspace {
    pub label: String,
    pub path: PathBuf,
    pub access: Access,
    pub deny: Vec<Glob>,
    pub deny_write: Vec<Glob>,
    /// True takes away the built-in `deny_write` of what runs later outside.
    pub allow_run_later: bool,
    pub symlinks: bool,
    pub max_file_bytes: u64,
    pub lease: bool,
    /// What the caller of this moment has asked for in so many words.
    pub asked: Asked,
    /// The path under which a WASI guest sees it; the label where nothing else is said. Set from flags and manifests only.
    pub guest_path: Option<String>,
}

/// What a request says of a workspace itself. What it does not say is as the policies above it have it; what it says and they
/// do not is refused, where two files would be narrowed in silence. Set from flags only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked {
    /// `max_file`
    pub max_file: bool,
    /// `allow_run_later = true`
    pub run_later: bool,
}

/// `max_file` where it is left out.
pub const MAX_FILE_BYTES_DEFAULT: u64 = 64 * 1024 * 1024;

impl Workspace {
    /// A workspace with every default.
    pub fn new(label: impl Into<String>, path: impl Into<PathBuf>, access: Access) -> Workspace {
        Workspace {
            label: label.into(),
            path: path.into(),
            access,
            deny: Vec::new(),
            deny_write: Vec::new(),
            allow_run_later: false,
            symlinks: true,
            max_file_bytes: MAX_FILE_BYTES_DEFAULT,
            lease: true,
            asked: Asked::default(),
            guest_path: None,
        }
    }
}
