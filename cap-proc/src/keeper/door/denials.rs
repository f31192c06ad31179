//! What the rules refused a command, for its result and for the log.
//!
//! A command hears an errno and no more. Who runs it hears which rule refused what, each pair once, up to a bound: how often
//! and how many are the command's to choose (T-06).

use super::judge::errno_of;
use nix::errno::Errno;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use warden_beneath::errors::OpError;
use warden_proto::msg::proc::DoorDenial;
use warden_proto::{List, Text};

/// Different ones that are told.
const TOLD_MAX: usize = 16;

/// The refusals of one command.
#[derive(Debug, Default)]
pub struct Denials {
    told: RefCell<BTreeSet<(String, String)>>,
    count: Cell<u64>,
}

impl Denials {
    /// One more, by `rule`, of what is shown as `shown`.
    pub fn note(&self, rule: &str, shown: &str) {
        self.count.set(self.count.get().saturating_add(1));
        if let Ok(mut told) = self.told.try_borrow_mut()
            && told.len() < TOLD_MAX
        {
            told.insert((rule.to_owned(), shown.to_owned()));
        }
    }

    /// The same for an operation that was refused, as an errno for the program.
    pub fn errno(&self, error: &OpError, shown: &str) -> Errno {
        match error {
            OpError::Denied { rule, .. } | OpError::Bound { rule, .. } => self.note(rule, shown),
            _ => {}
        }
        errno_of(error)
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count.get()
    }

    /// The first different ones.
    pub fn list(&self) -> List<DoorDenial, TOLD_MAX> {
        let told = self.told.borrow();
        List::first(told.iter().map(|(rule, shown)| DoorDenial { rule: Text::cut(rule), target: Text::cut(shown) }))
    }
}
