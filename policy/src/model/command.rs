//! `[[proc.command]]`: a program that a task may start.

use crate::argv::ArgvShape;
use std::path::PathBuf;
use std::time::Duration;

/// Where a command's program is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandPath {
    File(PathBuf),
    /// A bare name from a flag or an earlier configuration, to be looked up once and pinned ([`Policy::pin_commands`]).
    Lookup(String),
}

/// `[[proc.command]]`
#[derive(Debug, Clone)]
pub struct Command {
    pub name: String,
    pub path: CommandPath,
    /// Lower-case hex.
    pub sha256: Option<String>,
    pub args: Vec<ArgvShape>,
    /// A workspace's label.
    pub cwd: Option<String>,
    pub env: Vec<(String, String)>,
    pub env_from_guest: Vec<String>,
    pub timeout: Duration,
    pub exec_workspace: bool,
    pub network: Vec<String>,
    pub unchecked: bool,
}

/// `timeout` of a command where it is left out.
pub const COMMAND_TIMEOUT_DEFAULT: Duration = Duration::from_secs(300);

impl Command {
    /// A command with every default: it takes no argument.
    pub fn new(name: impl Into<String>, path: CommandPath) -> Command {
        Command {
            name: name.into(),
            path,
            sha256: None,
            args: Vec::new(),
            cwd: None,
            env: Vec::new(),
            env_from_guest: Vec::new(),
            timeout: COMMAND_TIMEOUT_DEFAULT,
            exec_workspace: false,
            network: Vec::new(),
            unchecked: false,
        }
    }
}
