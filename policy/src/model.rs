//! What one policy says, as data: the sections of a policy file after parsing, before layers are combined.
//!
//! Lives in the broker. Nothing here has been opened or resolved: paths are absolute but only lexically so.

mod command;
mod outside;
mod oversight;
mod secret;
mod tools;
mod workspace;

use crate::limits::Limits;
use crate::marks::Marks;
use std::path::PathBuf;

pub use command::{COMMAND_TIMEOUT_DEFAULT, Command, CommandPath};
pub use outside::{Browser, BrowserDriver, Input, Llm, LlmProvider, NetRule};
pub use oversight::{
    APPROVAL_TIMEOUT_DEFAULT, Approval, ApprovalVia, Audit, AuditSink, Durability, Feature, Isolation,
};
pub use secret::{Secret, SecretSource, SecretText, SecretUse};
pub use tools::{Tools, ToolsEscalation, ToolsPins, ToolsProfile, ToolsWorkspace};
pub use workspace::{Access, Asked, MAX_FILE_BYTES_DEFAULT, Workspace};

/// Who speaks in a layer of policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// The system ceiling, `/etc/wasi-warden/policy.toml`.
    System,
    /// The user's own policy, or the one named by `--config` or a manifest.
    User,
    /// The task's request: keys of the manifest, flags.
    Task,
}

impl Layer {
    pub const ALL: [Layer; 3] = [Layer::System, Layer::User, Layer::Task];

    pub fn name(self) -> &'static str {
        match self {
            Layer::System => "system",
            Layer::User => "user",
            Layer::Task => "task",
        }
    }
}

/// Whether what a policy leaves out is denied or not spoken of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// A policy file: a section left out grants nothing, a limit left out has its default.
    Whole,
    /// A request of manifest keys or flags: a section left out asks for no narrowing.
    Request,
}

/// One layer's policy.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The file it came from, or what stands for it, as messages name it.
    pub file: String,
    pub scope: Scope,
    pub limits: Limits,
    pub workspaces: Option<Vec<Workspace>>,
    pub commands: Option<Vec<Command>>,
    pub net: Option<Vec<NetRule>>,
    pub browser: Option<Browser>,
    pub input: Option<Input>,
    pub llm: Option<Llm>,
    pub secrets: Vec<Secret>,
    pub approval: Approval,
    pub audit: Audit,
    pub isolation: Isolation,
    pub tools: Option<Tools>,
    /// Where its text names what lies outside of it.
    pub marks: Marks,
}

impl Policy {
    /// A policy that says nothing yet: the start for one built from flags or a manifest.
    pub fn empty(file: impl Into<String>, scope: Scope) -> Policy {
        Policy {
            file: file.into(),
            scope,
            limits: Limits::default(),
            workspaces: None,
            commands: None,
            net: None,
            browser: None,
            input: None,
            llm: None,
            secrets: Vec::new(),
            approval: Approval::default(),
            audit: Audit::default(),
            isolation: Isolation::default(),
            tools: None,
            marks: Marks::default(),
        }
    }

    /// Replaces every workspace path by what `resolve` makes of it, so that layers are compared by where a path leads and
    /// not by how it is written: a link beneath a ceiling's workspace must not lead out of it (T-02, T-10).
    pub fn resolve_workspaces<E>(
        &mut self,
        mut resolve: impl FnMut(&Workspace) -> Result<PathBuf, E>,
    ) -> Result<(), E> {
        for workspace in self.workspaces.iter_mut().flatten() {
            workspace.path = resolve(workspace)?;
        }
        Ok(())
    }

    /// Pins every command that was given by bare name to the file that `find` names for it. A command stays unpinned, and
    /// is then refused by `combine`, where it answers none.
    pub fn pin_commands(&mut self, mut find: impl FnMut(&str) -> Option<PathBuf>) {
        for command in self.commands.iter_mut().flatten() {
            if let CommandPath::Lookup(name) = &command.path
                && let Some(found) = find(name)
            {
                command.path = CommandPath::File(found);
            }
        }
    }
}
