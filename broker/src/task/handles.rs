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

/// What one helper gave out, by numbers of the broker's own.
///
/// A number is never given out twice, so one that outlived its helper names nothing, and not another helper's thing.
#[derive(Debug)]
struct Numbered<T> {
    known: HashMap<u32, T>,
    last: u32,
}

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Self { known: HashMap::new(), last: 0 }
    }
}

impl<T> Numbered<T> {
    /// Notes a thing and returns the task's number for it; none when the helper gave out its own number for it, which
    /// `of_helper` says, twice.
    fn add(&mut self, thing: T, of_helper: impl Fn(&T) -> u32) -> Option<u32> {
        let number = of_helper(&thing);
        let again = self.known.values().any(|known| of_helper(known) == number);
        if number == 0 || again || self.known.len() >= HANDLES_MAX {
            return None;
        }
        self.last = self.last.checked_add(1)?;
        self.known.insert(self.last, thing);
        Some(self.last)
    }
}

/// The open files and directories of one task.
#[derive(Debug, Default)]
pub struct Handles {
    open: Numbered<Handle>,
}

impl Handles {
    /// Notes a handle that cap-fs gave out, and returns the task's number for it; none when cap-fs gave one out twice.
    pub fn add(&mut self, handle: Handle) -> Option<u32> {
        self.open.add(handle, |handle| handle.helper)
    }

    /// The directory that `number` names.
    pub fn directory(&self, number: u32) -> Result<&Handle, CallError> {
        self.open.known.get(&number).filter(|h| h.directory).ok_or_else(|| unknown("directory"))
    }

    /// The file that `number` names.
    pub fn file(&self, number: u32) -> Result<&Handle, CallError> {
        self.open.known.get(&number).filter(|h| !h.directory).ok_or_else(|| unknown("file"))
    }

    /// Any handle.
    pub fn any(&self, number: u32) -> Result<&Handle, CallError> {
        self.open.known.get(&number).ok_or_else(|| unknown("file or directory"))
    }

    /// Forgets a handle.
    pub fn remove(&mut self, number: u32) {
        self.open.known.remove(&number);
    }

    /// Forgets all: the helper that gave them out is gone.
    pub fn clear(&mut self) {
        self.open.known.clear();
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
    /// Bytes of the task's limit that it may make files grow by; what it did not use is given back then too.
    pub growth_max: u64,
}

/// What a process held of the task's limits until its end was seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// Places.
    pub places: u64,
    /// Bytes of growth.
    pub growth_max: u64,
}

impl Process {
    /// Takes what it holds, once.
    fn let_go(&mut self) -> Held {
        Held { places: std::mem::take(&mut self.places), growth_max: std::mem::take(&mut self.growth_max) }
    }
}

/// The processes of one task.
#[derive(Debug, Default)]
pub struct Processes {
    started: Numbered<Process>,
}

impl Processes {
    /// Notes a process that cap-proc started, and returns the task's number for it; none when it was given out twice.
    pub fn add(&mut self, process: Process) -> Option<u32> {
        self.started.add(process, |process| process.helper)
    }

    /// The process that `number` names.
    pub fn get(&self, number: u32) -> Result<&Process, CallError> {
        let gone = || CallError::new(ErrorCode::NotFound, "this handle names no process of this task");
        self.started.known.get(&number).ok_or_else(gone)
    }

    /// Its end was seen: what it held, once.
    pub fn ended(&mut self, number: u32) -> Held {
        self.started.known.get_mut(&number).map(Process::let_go).unwrap_or_default()
    }

    /// Forgets a process, and returns what it still held.
    pub fn remove(&mut self, number: u32) -> Held {
        self.started.known.remove(&number).map(|mut process| process.let_go()).unwrap_or_default()
    }

    /// Forgets all, and returns the places that they still held.
    pub fn clear(&mut self) -> u64 {
        self.started.known.drain().fold(0, |sum, (_, process)| sum.saturating_add(process.places))
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
        let process = Process { helper: 3, command: "sh".into(), rule: String::new(), places: 5, growth_max: 7 };
        let held = Held { places: 5, growth_max: 7 };
        let number = processes.add(process).unwrap();
        assert_eq!(processes.ended(number), held);
        assert_eq!(processes.ended(number), Held::default());
        assert_eq!(processes.remove(number), Held::default());
    }
}
