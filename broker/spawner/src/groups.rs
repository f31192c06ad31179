//! The control groups of runners: made with them, handed to them as descriptors, ended and removed after them.
//!
//! The spawner outlives every runner and has no jail, so it alone can remove a group whose runner was killed (T-06, T-12). It
//! reads nothing there but whether a group is empty, by the kernel's word.

use nix::errno::Errno;
use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use warden_jail::delegation::Delegation;

/// The groups that were made, by the broker's names of the processes that they were made for.
#[derive(Debug)]
pub struct Groups {
    delegation: Option<Delegation>,
    made: HashMap<u32, String>,
    /// Those of children that have ended which were still in use.
    left: Vec<String>,
}

impl Groups {
    /// Groups can be made beneath `delegation`, if there is one.
    pub fn new(delegation: Option<Delegation>) -> Self {
        Self { delegation, made: HashMap::new(), left: Vec::new() }
    }

    /// Makes one for `child`, and returns its directory.
    pub fn make(&mut self, child: u32) -> nix::Result<OwnedFd> {
        let delegation = self.delegation.as_ref().ok_or(Errno::ENOSYS)?;
        // No other living process of the user has this number, and no other child of this one that name.
        let name = format!("warden-{}-{child}", std::process::id());
        let group = delegation.make(&name).map_err(|_| Errno::ENOSPC)?;
        self.made.insert(child, name);
        group.as_fd().try_clone_to_owned().map_err(|_| Errno::EMFILE)
    }

    /// Removes the group of a child that has ended, with what is left in it, and what was left before.
    pub fn remove(&mut self, child: u32) {
        let Some(delegation) = &self.delegation else { return };
        self.left.retain(|name| delegation.remove_at_once(name).is_err());
        if let Some(name) = self.made.remove(&child)
            && delegation.remove(&name).is_err()
        {
            self.left.push(name);
        }
    }

    /// Removes all.
    pub fn remove_all(&mut self) {
        let children: Vec<u32> = self.made.keys().copied().collect();
        children.into_iter().for_each(|child| self.remove(child));
        if let Some(delegation) = &self.delegation {
            self.left.retain(|name| delegation.remove_at_once(name).is_err());
        }
    }
}
