//! `[tools]`: the directory of modules that a task may run.

use std::path::PathBuf;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolsProfile {
    None,
    Dev,
    Staging,
    Prod,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolsWorkspace {
    None,
    Read,
    ReadWrite,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolsPins {
    Disabled,
    Warn,
    Enforce,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolsEscalation {
    Deny,
    Clamp,
}

/// `[tools]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tools {
    pub dir: PathBuf,
    pub max_module_bytes: u64,
    pub profile: ToolsProfile,
    pub workspace: ToolsWorkspace,
    pub hosts: Vec<String>,
    pub pins: ToolsPins,
    pub escalation: ToolsEscalation,
    pub fuel: Option<u64>,
    pub memory_bytes: Option<u64>,
    /// Module name and lower-case hex.
    pub sha256: Vec<(String, String)>,
}
