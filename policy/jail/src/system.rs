//! The system paths of a rule file, opened once by a process that builds several domains over them.
//!
//! Used by cap-proc's runner, whose own domain, its keepers' and their commands' name the same paths: opening them for each
//! costs every command more than its domains do. They are opened where the process already is when it shuts its jail, as
//! paths only, so that holding them grants nothing; and a later domain is never over another file than an earlier one that
//! it is nested in (T-02, T-07).

use crate::landlock::{LandlockError, is_directory, open_path};
use crate::role::Role;
use crate::rules;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// The system paths of one role and of all that have the same rules.
#[derive(Debug)]
pub struct SystemPaths {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    path: &'static CStr,
    /// `None` where nothing is there.
    found: Option<(OwnedFd, bool)>,
}

/// A system path that is there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SystemPath<'fd> {
    pub descriptor: BorrowedFd<'fd>,
    pub is_directory: bool,
}

impl SystemPaths {
    /// Opens every system path of `role` that is there; one that must be there and is not is an error.
    pub fn open(role: Role) -> Result<SystemPaths, LandlockError> {
        let mut entries = Vec::new();
        for rule in rules::role_rules(role).paths {
            let found = match open_path(rule.path) {
                Ok(opened) => {
                    let is_directory = is_directory(opened.as_fd()).map_err(LandlockError::Inspect)?;
                    Some((opened, is_directory))
                }
                Err(source) if rule.required || source.kind() != io::ErrorKind::NotFound => {
                    return Err(LandlockError::OpenPath { role, path: rule.path, source });
                }
                Err(_) => None,
            };
            entries.push(Entry { path: rule.path, found });
        }
        Ok(SystemPaths { entries })
    }

    /// The numbers of its descriptors, for the sweep of all others.
    pub fn numbers(&self) -> impl Iterator<Item = RawFd> + '_ {
        self.entries.iter().filter_map(|entry| entry.found.as_ref()).map(|(opened, _)| opened.as_raw_fd())
    }

    /// What was found at a path. The outer `None`: it was not looked for, so these are not the paths of that role.
    pub(crate) fn at(&self, path: &CStr) -> Option<Option<SystemPath<'_>>> {
        let entry = self.entries.iter().find(|entry| entry.path == path)?;
        Some(
            entry
                .found
                .as_ref()
                .map(|(opened, is_directory)| SystemPath { descriptor: opened.as_fd(), is_directory: *is_directory }),
        )
    }
}
