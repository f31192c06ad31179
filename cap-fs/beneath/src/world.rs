//! The workspaces of a task, as the process that acts in them holds them.

use crate::bounds::FileBound;
use crate::glob::GlobError;
use crate::paths::{self, OwnPaths};
use crate::rules::Rules;
use crate::tree::Tree;
use crate::turns::Turns;
use nix::errno::Errno;
use nix::sys::stat::SFlag;
use std::os::fd::OwnedFd;
use warden_proto::msg::fs::WorkspaceSetup;

/// The workspaces of the task, and the eyes to see where things lie.
#[derive(Debug)]
pub struct World {
    /// In the setup's order.
    pub trees: Vec<Tree>,
    /// See [`OwnPaths`].
    pub own: OwnPaths,
    /// The rule of the task's limit on growth.
    pub growth_rule: String,
    /// See [`Turns`].
    pub turns: Turns,
}

/// A workspace that cannot be used as it was set up.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A rule cannot be used.
    #[error(transparent)]
    Rule(#[from] GlobError),
    /// Its descriptor is no directory, or cannot be looked at.
    #[error("its descriptor: {0}")]
    Root(#[from] Errno),
}

impl Tree {
    /// A workspace of a setup document, with its directory as the spawner opened it.
    pub fn new(setup: WorkspaceSetup, root: OwnedFd) -> Result<Self, TreeError> {
        if paths::kind(&paths::facts(&root)?) != SFlag::S_IFDIR {
            return Err(Errno::ENOTDIR.into());
        }
        Ok(Self {
            label: setup.label.into_string(),
            writable: setup.writable,
            symlinks: setup.symlinks,
            max_file: FileBound { max_bytes: setup.max_file_bytes, rule: setup.max_file_rule.into_string() },
            rules: Rules::parse(&setup.rules)?,
            grant: setup.rule.into_string(),
            root,
        })
    }
}
