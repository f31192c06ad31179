//! Open files and directories of the task, by the numbers that calls use.
//!
//! Runs in cap-fs. Numbers start at 1 and are never used twice, so a stale one names nothing (T-11). What a handle may do
//! was decided when it was opened.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use warden_beneath::bounds::FileBound;
use warden_beneath::errors::OpError;
use warden_proto::limits::HANDLES_MAX;

/// An open regular file.
#[derive(Debug)]
pub struct OpenFile {
    /// Its descriptor; of a file for writing readable too where the system allows, for the hash at close.
    pub fd: OwnedFd,
    /// Whether `read` is allowed.
    pub read: bool,
    /// Whether `write` and `set_len` are.
    pub write: bool,
    /// Writes go to the end.
    pub append: bool,
    /// Whether the descriptor can be read, whatever the handle may.
    pub hashable: bool,
    /// Where the next read or write begins.
    pub offset: u64,
    /// Longest that it may become.
    pub max: FileBound,
    /// The rule that it was opened by.
    pub grant: String,
    /// For messages.
    pub shown: String,
}

/// An open directory, O_PATH.
#[derive(Debug)]
pub struct OpenDir {
    /// Its descriptor.
    pub fd: OwnedFd,
    /// Its workspace.
    pub tree: usize,
    /// For messages.
    pub shown: String,
}

/// What a number stands for.
#[derive(Debug)]
pub enum Handle {
    /// A file.
    File(OpenFile),
    /// A directory.
    Dir(OpenDir),
}

/// The table.
#[derive(Debug, Default)]
pub struct Handles {
    open: BTreeMap<u32, Handle>,
    last: u32,
}

impl Handles {
    /// Whether one more fits; asked before anything is opened for it.
    pub fn room(&self) -> Result<(), OpError> {
        if self.open.len() >= HANDLES_MAX || self.last == u32::MAX {
            return Err(OpError::Limit(format!("{HANDLES_MAX} files and directories are open; close some")));
        }
        Ok(())
    }

    /// Adds one and gives its number.
    pub fn add(&mut self, handle: Handle) -> Result<u32, OpError> {
        self.room()?;
        self.last = self.last.saturating_add(1);
        self.open.insert(self.last, handle);
        Ok(self.last)
    }

    /// Takes one out.
    pub fn remove(&mut self, number: u32) -> Result<Handle, OpError> {
        self.open.remove(&number).ok_or_else(|| unknown(number))
    }

    /// An open file.
    pub fn file(&mut self, number: u32) -> Result<&mut OpenFile, OpError> {
        match self.open.get_mut(&number) {
            Some(Handle::File(file)) => Ok(file),
            Some(Handle::Dir(_)) => Err(OpError::Invalid(format!("handle {number} is a directory"))),
            None => Err(unknown(number)),
        }
    }

    /// An open directory.
    pub fn dir(&self, number: u32) -> Result<&OpenDir, OpError> {
        match self.open.get(&number) {
            Some(Handle::Dir(dir)) => Ok(dir),
            Some(Handle::File(_)) => Err(OpError::Invalid(format!("handle {number} is a file"))),
            None => Err(unknown(number)),
        }
    }
}

fn unknown(number: u32) -> OpError {
    OpError::NotFound(format!("there is no open handle {number}"))
}
