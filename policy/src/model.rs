//! What one policy says, as data: the sections of a policy file after parsing, before layers are combined.
//!
//! Lives in the broker. Nothing here has been opened or resolved: paths are absolute but only lexically so.

use std::path::PathBuf;
use std::time::Duration;

use crate::argv::ArgvShape;
use crate::glob::Glob;
use crate::limits::Limits;

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
        }
    }

    /// Replaces every workspace path by what `resolve` makes of it, so that layers are compared by where a path leads and
    /// not by how it is written: a link beneath a ceiling's workspace must not lead out of it (T-02, T-10).
    pub fn resolve_workspaces<E>(
        &mut self,
        mut resolve: impl FnMut(&std::path::Path) -> Result<PathBuf, E>,
    ) -> Result<(), E> {
        for workspace in self.workspaces.iter_mut().flatten() {
            workspace.path = resolve(&workspace.path)?;
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    ReadOnly,
    ReadWrite,
}

impl Access {
    pub fn name(self) -> &'static str {
        match self {
            Access::ReadOnly => "read-only",
            Access::ReadWrite => "read-write",
        }
    }
}

/// `[[fs.workspace]]`
#[derive(Debug, Clone)]
pub struct Workspace {
    pub label: String,
    pub path: PathBuf,
    pub access: Access,
    pub deny: Vec<Glob>,
    pub deny_write: Vec<Glob>,
    /// True takes away the built-in `deny_write` of what runs later outside.
    pub allow_run_later: bool,
    pub symlinks: bool,
    pub max_file_bytes: u64,
    pub lease: bool,
    /// The path under which a WASI guest sees it; the label where nothing else is said. Set from flags and manifests only.
    pub guest_path: Option<String>,
}

/// `max_file` where it is left out.
pub const MAX_FILE_BYTES_DEFAULT: u64 = 64 * 1024 * 1024;

impl Workspace {
    /// A workspace with every default.
    pub fn new(label: impl Into<String>, path: impl Into<PathBuf>, access: Access) -> Workspace {
        Workspace {
            label: label.into(),
            path: path.into(),
            access,
            deny: Vec::new(),
            deny_write: Vec::new(),
            allow_run_later: false,
            symlinks: true,
            max_file_bytes: MAX_FILE_BYTES_DEFAULT,
            lease: true,
            guest_path: None,
        }
    }
}

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

/// `[[net.allow]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetRule {
    pub host: String,
    pub ports: Vec<u16>,
    pub methods: Vec<String>,
    pub paths: Vec<String>,
    pub secret: Option<String>,
    pub allow_private: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BrowserDriver {
    Spawn,
    Url(String),
}

/// `[browser]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Browser {
    pub hosts: Vec<String>,
    pub screenshots: bool,
    pub uploads: Vec<String>,
    pub downloads: Option<String>,
    pub eval: bool,
    pub driver: BrowserDriver,
    /// Only from an earlier configuration.
    pub profile: Option<String>,
}

/// `[input]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    pub enabled: bool,
    /// `private`, or a display's name such as `:0`.
    pub display: String,
}

/// `[llm]`: one endpoint, and no other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Llm {
    Endpoint {
        provider: LlmProvider,
        base_url: String,
        model: String,
        secret: Option<String>,
    },
    /// Answers from a recording; reaches nothing.
    Replay {
        file: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LlmProvider {
    OpenAi,
    Anthropic,
    Ollama,
}

impl LlmProvider {
    pub fn name(self) -> &'static str {
        match self {
            LlmProvider::OpenAi => "openai",
            LlmProvider::Anthropic => "anthropic",
            LlmProvider::Ollama => "ollama",
        }
    }
}

/// `[[secret]]`
#[derive(Debug, Clone)]
pub struct Secret {
    pub name: String,
    pub source: SecretSource,
    pub uses: Vec<SecretUse>,
}

#[derive(Debug, Clone)]
pub enum SecretSource {
    File(PathBuf),
    Env(String),
    /// `[llm] api_key` of an earlier configuration.
    Inline(SecretText),
}

/// A secret that stood in a configuration's text. It has no rendering and no `Debug` of its content (T-08).
#[derive(Clone)]
pub struct SecretText(Vec<u8>);

impl SecretText {
    pub(crate) fn new(text: &str) -> SecretText {
        SecretText(text.as_bytes().to_vec())
    }

    /// The bytes, for the one move into a sealed descriptor.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for SecretText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretText(…)")
    }
}

impl Drop for SecretText {
    fn drop(&mut self) {
        self.0.fill(0);
        std::hint::black_box(&self.0);
    }
}

/// One place a secret may be put, of `for`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretUse {
    Llm,
    Net { host: String },
    Browser { host: String, field: String },
    ProcStdin { command: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ApprovalVia {
    #[default]
    Tty,
    Queue,
    Deny,
}

/// `[approval]`; what is `None` was left out.
#[derive(Debug, Clone, Default)]
pub struct Approval {
    pub ask: Vec<String>,
    pub via: Option<ApprovalVia>,
    pub timeout: Option<Duration>,
}

/// `timeout` of an approval where it is left out.
pub const APPROVAL_TIMEOUT_DEFAULT: Duration = Duration::from_secs(120);

/// In rising strictness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Durability {
    #[default]
    Flush,
    Sync,
}

/// Where else the records go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditSink {
    Journald,
    Descriptor(u32),
}

/// `[audit]`
#[derive(Debug, Clone, Default)]
pub struct Audit {
    pub dir: Option<PathBuf>,
    pub durability: Option<Durability>,
    pub sink: Option<AuditSink>,
}

/// In rising strictness, so that the strictest of several layers is their maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Feature {
    Off,
    #[default]
    Auto,
    Require,
}

/// `[isolation]`
#[derive(Debug, Clone, Default)]
pub struct Isolation {
    pub namespaces: Option<Feature>,
    pub cgroups: Option<Feature>,
    pub allow_root: Option<bool>,
}

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
