//! The handles that this task's helpers gave out, and what they name.
//!
//! T-11: a worker's number is worth nothing by itself; it is looked up here, in the table of its own task, before any
//! helper hears of it.

use std::collections::HashMap;
use warden_proto::limits::HANDLES_MAX;
use warden_proto::msg::error::{CallError, ErrorCode};

/// What an open handle names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handle {
    /// Label of its workspace.
    pub label: String,
    /// Where it was when it was opened, relative to the workspace's root.
    pub path: String,
    /// A directory, or a file.
    pub directory: bool,
    /// The file was opened for writing.
    pub writable: bool,
    /// The rule that allowed it, for the records of what is done with it.
    pub rule: String,
}

/// The open files and directories of one task.
#[derive(Debug, Default)]
pub struct Handles(HashMap<u32, Handle>);

impl Handles {
    /// Notes a handle that cap-fs gave out. False when it gave one out twice or too many: it has broken the protocol.
    pub fn add(&mut self, number: u32, handle: Handle) -> bool {
        number != 0 && self.0.len() < HANDLES_MAX && self.0.insert(number, handle).is_none()
    }

    /// The directory that `number` names.
    pub fn directory(&self, number: u32) -> Result<&Handle, CallError> {
        self.0.get(&number).filter(|h| h.directory).ok_or_else(|| unknown("directory"))
    }

    /// The file that `number` names.
    pub fn file(&self, number: u32) -> Result<&Handle, CallError> {
        self.0.get(&number).filter(|h| !h.directory).ok_or_else(|| unknown("file"))
    }

    /// Any handle.
    pub fn any(&self, number: u32) -> Result<&Handle, CallError> {
        self.0.get(&number).ok_or_else(|| unknown("file or directory"))
    }

    /// Forgets a handle.
    pub fn remove(&mut self, number: u32) {
        self.0.remove(&number);
    }

    /// Forgets all: the helper that gave them out is gone.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

fn unknown(what: &str) -> CallError {
    CallError::new(ErrorCode::NotFound, &format!("this handle names no open {what} of this task; open it first"))
}

/// A running process of this task.
#[derive(Debug, Clone)]
pub struct Process {
    /// Its command's name.
    pub command: String,
    /// The rule that allowed it.
    pub rule: String,
    /// Whether its end has been seen and its place given back.
    pub ended: bool,
}

/// The processes of one task.
#[derive(Debug, Default)]
pub struct Processes(HashMap<u32, Process>);

impl Processes {
    /// Notes a process that cap-proc started.
    pub fn add(&mut self, number: u32, process: Process) -> bool {
        number != 0 && self.0.len() < HANDLES_MAX && self.0.insert(number, process).is_none()
    }

    /// The process that `number` names.
    pub fn get_mut(&mut self, number: u32) -> Result<&mut Process, CallError> {
        let gone = || CallError::new(ErrorCode::NotFound, "this handle names no process of this task");
        self.0.get_mut(&number).ok_or_else(gone)
    }

    /// Forgets a process.
    pub fn remove(&mut self, number: u32) -> Option<Process> {
        self.0.remove(&number)
    }

    /// Forgets all, and says how many had not ended.
    pub fn clear(&mut self) -> u64 {
        let running = self.0.values().filter(|p| !p.ended).count();
        self.0.clear();
        u64::try_from(running).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Handle {
        Handle { label: "a".into(), path: "x".into(), directory: false, writable: true, rule: String::new() }
    }

    #[test]
    fn a_number_that_was_not_given_out_names_nothing() {
        let mut handles = Handles::default();
        assert!(handles.add(7, file()));
        assert!(handles.file(7).is_ok());
        assert!(handles.file(8).is_err());
        assert!(handles.directory(7).is_err(), "a file is no directory");
        assert!(!handles.add(7, file()), "the same number twice");
        assert!(!handles.add(0, file()), "zero is no handle");
    }
}
