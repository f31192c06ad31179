//! What may be moved and what may be removed.
//!
//! Deny rules are about names, so a name that decides stays where it is: a directory does not move while a rule could match
//! beneath its old or its new name because of it (T-02).

use crate::errors::OpError;
use crate::links::DeniedInodes;
use crate::paths::{self, RelPath};
use crate::rules::Want;
use crate::tree::Tree;
use crate::world::World;
use nix::sys::stat::{FileStat, SFlag};

/// One end of a move, or what is removed: a name whose place has been judged for a change already.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    /// Its workspace.
    pub tree: &'a Tree,
    /// Where it lies.
    pub path: &'a RelPath,
    /// What has the name, if anything has.
    pub stat: Option<&'a FileStat>,
    /// For messages.
    pub shown: &'a str,
}

impl End<'_> {
    fn is_directory(&self) -> bool {
        self.stat.is_some_and(|stat| paths::kind(stat) == SFlag::S_IFDIR)
    }

    /// The name is what goes; a file that is denied under another name keeps the ones it has.
    fn allow_other_names(&self, world: &World, links: &mut DeniedInodes) -> Result<(), OpError> {
        match self.stat {
            Some(stat) => links.allow(world, self.tree, stat, Want::Change, self.shown),
            None => Ok(()),
        }
    }
}

/// Whether `from` may become `to`, replacing what is there.
pub fn allow_rename(world: &World, links: &mut DeniedInodes, from: End<'_>, to: End<'_>) -> Result<(), OpError> {
    from.allow_other_names(world, links)?;
    to.allow_other_names(world, links)?;
    if from.is_directory() {
        from.tree.allow_move(from.path, from.shown)?;
    }
    if from.is_directory() || to.is_directory() {
        to.tree.allow_move(to.path, to.shown)?;
    }
    Ok(())
}

/// Whether this may go.
pub fn allow_removal(world: &World, links: &mut DeniedInodes, end: End<'_>) -> Result<(), OpError> {
    end.allow_other_names(world, links)?;
    if end.is_directory() { end.tree.allow_move(end.path, end.shown) } else { Ok(()) }
}
