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
    /// cap-fs's own number for it.
    pub helper: u32,
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

/// The open files and directories of one task, by numbers of the broker's own.
///
/// A number is never given out twice, so one that outlived its helper names nothing, and not another helper's file.
#[derive(Debug, Default)]
pub struct Handles {
    open: HashMap<u32, Handle>,
    last: u32,
}

impl Handles {
    /// Notes a handle that cap-fs gave out, and returns the task's number for it; none when cap-fs gave one out twice.
    pub fn add(&mut self, handle: Handle) -> Option<u32> {
        let again = self.open.values().any(|known| known.helper == handle.helper);
        if handle.helper == 0 || again || self.open.len() >= HANDLES_MAX {
            return None;
        }
        self.last = self.last.checked_add(1)?;
        self.open.insert(self.last, handle);
        Some(self.last)
    }

    /// The directory that `number` names.
    pub fn directory(&self, number: u32) -> Result<&Handle, CallError> {
        self.open.get(&number).filter(|h| h.directory).ok_or_else(|| unknown("directory"))
    }

    /// The file that `number` names.
    pub fn file(&self, number: u32) -> Result<&Handle, CallError> {
        self.open.get(&number).filter(|h| !h.directory).ok_or_else(|| unknown("file"))
    }

    /// Any handle.
    pub fn any(&self, number: u32) -> Result<&Handle, CallError> {
        self.open.get(&number).ok_or_else(|| unknown("file or directory"))
    }

    /// Forgets a handle.
    pub fn remove(&mut self, number: u32) {
        self.open.remove(&number);
    }

    /// Forgets all: the helper that gave them out is gone.
    pub fn clear(&mut self) {
        self.open.clear();
    }
}

fn unknown(what: &str) -> CallError {
    CallError::new(ErrorCode::NotFound, &format!("this handle names no open {what} of this task; open it first"))
}

/// A running process of this task.
#[derive(Debug, Clone)]
pub struct Process {
    /// cap-proc's own number for it.
    pub helper: u32,
    /// Its command's name.
    pub command: String,
    /// The rule that allowed it.
    pub rule: String,
    /// Places of the task's limit that its tree may take; given back when its end is seen.
    pub places: u64,
}

/// The processes of one task, by numbers of the broker's own.
#[derive(Debug, Default)]
pub struct Processes {
    started: HashMap<u32, Process>,
    last: u32,
}

impl Processes {
    /// Notes a process that cap-proc started, and returns the task's number for it; none when it was given out twice.
    pub fn add(&mut self, process: Process) -> Option<u32> {
        let again = self.started.values().any(|known| known.helper == process.helper);
        if process.helper == 0 || again || self.started.len() >= HANDLES_MAX {
            return None;
        }
        self.last = self.last.checked_add(1)?;
        self.started.insert(self.last, process);
        Some(self.last)
    }

    /// The process that `number` names.
    pub fn get(&self, number: u32) -> Result<&Process, CallError> {
        let gone = || CallError::new(ErrorCode::NotFound, "this handle names no process of this task");
        self.started.get(&number).ok_or_else(gone)
    }

    /// Its end was seen: the places that it held, once.
    pub fn ended(&mut self, number: u32) -> u64 {
        self.started.get_mut(&number).map_or(0, |process| std::mem::take(&mut process.places))
    }

    /// Forgets a process, and returns the places that it still held.
    pub fn remove(&mut self, number: u32) -> u64 {
        self.started.remove(&number).map_or(0, |process| process.places)
    }

    /// Forgets all, and returns the places that they still held.
    pub fn clear(&mut self) -> u64 {
        self.started.drain().fold(0, |sum, (_, process)| sum.saturating_add(process.places))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(helper: u32) -> Handle {
        let (label, path) = ("a".into(), "x".into());
        Handle { helper, label, path, directory: false, writable: true, rule: String::new() }
    }

    #[test]
    fn a_number_that_was_not_given_out_names_nothing() {
        let mut handles = Handles::default();
        let number = handles.add(file(7)).unwrap();
        assert!(handles.file(number).is_ok());
        assert!(handles.file(number + 1).is_err());
        assert!(handles.directory(number).is_err(), "a file is no directory");
        assert_eq!(handles.add(file(7)), None, "the same number of the helper's twice");
        assert_eq!(handles.add(file(0)), None, "zero is no handle");
    }

    #[test]
    fn a_number_that_outlived_its_helper_names_nothing_of_the_next() {
        let mut handles = Handles::default();
        let old = handles.add(file(1)).unwrap();
        handles.clear();
        let new = handles.add(file(1)).unwrap();
        assert_ne!(old, new);
        assert!(handles.file(old).is_err());
        assert!(handles.file(new).is_ok());
    }

    #[test]
    fn places_are_given_back_once() {
        let mut processes = Processes::default();
        let process = Process { helper: 3, command: "sh".into(), rule: String::new(), places: 5 };
        let number = processes.add(process).unwrap();
        assert_eq!(processes.ended(number), 5);
        assert_eq!(processes.ended(number), 0);
        assert_eq!(processes.remove(number), 0);
    }
}
