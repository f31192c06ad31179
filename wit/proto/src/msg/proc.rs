//! Calls on commands: worker to broker, and, with the command's index and the environment decided, broker to cap-proc's
//! front. `T` is how the speaker names the working directory.

use super::fs::{GuestTarget, HelperTarget, RuleKind, WorkspaceSetup};
use crate::blob::Body;
use crate::bounded::{Bytes, List, Text};
use crate::limits::{ARGS_MAX, COMMANDS_MAX, INLINE_MAX_BYTES, WORKSPACES_MAX};
use bincode::{Decode, Encode};

/// One argument.
pub type Arg = Text<32768>;
/// All arguments of a command, without its own name.
pub type Args = List<Arg, ARGS_MAX>;

/// `env-var` of the WIT.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct EnvVar {
    /// Its name.
    pub key: Text<256>,
    /// Its value.
    pub value: Text<32768>,
}

/// `stdio-mode` of the WIT. `Inherit` is the broker's terminal in the WIT; a command here never gets one: it is `Null`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum StdioMode {
    /// Treated as `Null`.
    Inherit,
    /// /dev/null.
    Null,
    /// A pipe that the guest reads or writes.
    Pipe,
}

/// Which output of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Stream {
    /// Descriptor 1.
    Stdout,
    /// Descriptor 2.
    Stderr,
}

/// `process-signal` of the WIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum ProcessSignal {
    /// SIGTERM.
    Term,
    /// SIGKILL: the whole tree, by its keeper.
    Kill,
    /// SIGINT.
    Interrupt,
    /// SIGHUP.
    Hangup,
}

impl ProcessSignal {
    /// Its name in JSON and WIT.
    pub fn name(self) -> &'static str {
        match self {
            Self::Term => "term",
            Self::Kill => "kill",
            Self::Interrupt => "interrupt",
            Self::Hangup => "hangup",
        }
    }
}

/// What a guest asks to start.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct GuestCommand {
    /// Name of a `[[proc.command]]`.
    pub command: Text<128>,
    /// Arguments.
    pub args: Args,
    /// Working directory; the command's own when left out.
    pub cwd: Option<GuestTarget>,
    /// Variables it asks for.
    pub env: List<EnvVar, 128>,
    /// At most so long, milliseconds; never longer than the rule's timeout.
    pub timeout_ms: Option<u64>,
}

/// What the broker tells cap-proc to start.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct HelperCommand {
    /// Index in [`ProcSetup::commands`].
    pub command: u16,
    /// Arguments, already allowed; the front checks them against the shapes again.
    pub args: Args,
    /// Working directory, always in a workspace.
    pub cwd: HelperTarget,
    /// The guest's variables, already allowed; the command's own are in the setup.
    pub env: List<EnvVar, 128>,
    /// Killed after so long, milliseconds.
    pub timeout_ms: u64,
    /// Processes it may have at once, itself included: what is left of the task's limit.
    pub processes_max: u32,
    /// Bytes that it may make files of the workspaces grow by: what is reserved for it of the task's limit.
    pub growth_max: u64,
}

/// An operation on commands. `C` is how the speaker describes what to start.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum ProcCall<C> {
    /// `proc.spawn`: run to its end → `Ran`.
    Run {
        /// What.
        command: C,
        /// Its standard input.
        stdin: Body,
        /// Most bytes kept of each output.
        output_max_bytes: u32,
    },
    /// `proc.start`: start it and go on → `Started`.
    Start {
        /// What.
        command: C,
        /// Descriptor 0.
        stdin: StdioMode,
        /// Descriptor 1.
        stdout: StdioMode,
        /// Descriptor 2.
        stderr: StdioMode,
    },
    /// `proc.write_stdin` → `Accepted`; waits for room no longer than the reply's deadline.
    WriteStdin {
        /// The process.
        process: u32,
        /// What.
        bytes: Bytes<INLINE_MAX_BYTES>,
        /// Close it after these bytes.
        eof: bool,
    },
    /// `proc.read` → `Data`; waits for a byte or the end.
    Read {
        /// The process.
        process: u32,
        /// Which output.
        stream: Stream,
        /// At most so many bytes (at most [`INLINE_MAX_BYTES`]).
        max_bytes: u32,
    },
    /// `proc.wait` → `Exited`, or `timeout` with the process still running.
    Wait {
        /// The process.
        process: u32,
        /// At most so long, milliseconds; without it, to the process's own timeout.
        timeout_ms: Option<u64>,
    },
    /// `proc.signal` → `Done`.
    Signal {
        /// The process.
        process: u32,
        /// Which.
        signal: ProcessSignal,
    },
    /// The handle ends and with it the process and its whole tree → `Closed`.
    Close {
        /// The process.
        process: u32,
    },
    /// `proc.start` on pipes that come with the frame, each the command's end: for descriptor 0 with `stdin`, else that is
    /// /dev/null, and for 1 and 2 → `Started`. The broker's own call: a worker that makes it is refused.
    Attach {
        /// What.
        command: C,
        /// Whether three pipes come, or two.
        stdin: bool,
    },
}

/// Most pipes that come with an `Attach`.
pub const ATTACHED_MAX: usize = 3;

/// What the rules of a workspace refused a command.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct DoorDenial {
    /// The rule.
    pub rule: Text<256>,
    /// What, as `label:path`.
    pub target: Text<512>,
}

/// What a command cost, and what it was refused, by its door.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Toll {
    /// Bytes that files of the workspaces grew by.
    pub grown: u64,
    /// The first different refusals.
    pub denied: List<DoorDenial, 16>,
    /// All refusals.
    pub denials: u64,
    /// Most memory that its tree was seen to hold at once, bytes.
    pub memory_peak_bytes: u64,
    /// What of it went through the door.
    pub door: DoorForm,
}

/// What a command asks its keeper for by path, because a rule could be on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub enum DoorForm {
    /// Nothing: no rule needs it, or this host allows no door.
    #[default]
    None,
    /// What changes anything. No rule hides anything from it, so Landlock lets it read.
    Changes,
    /// Every open, and what changes anything.
    Opens,
}

impl DoorForm {
    /// In `isolation.held` of a result.
    pub fn held(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Changes => Some("door: changes only"),
            Self::Opens => Some("door: all opens"),
        }
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Exit {
    /// Its status, when it ended by itself.
    pub code: Option<i32>,
    /// The signal's number, when one ended it.
    pub signal: Option<i32>,
    /// Killed because its time was up.
    pub timed_out: bool,
}

/// The answer to a [`ProcCall`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum ProcReply {
    /// It is done.
    Done,
    /// It ran to its end.
    Ran {
        /// How it ended.
        exit: Exit,
        /// Its output, cut at the bound.
        stdout: Body,
        /// Its errors, cut at the bound.
        stderr: Body,
        /// Whether either was cut.
        truncated: bool,
        /// What of the jail this host could not give.
        degraded: List<Text<256>, 16>,
        /// What it cost.
        toll: Toll,
    },
    /// A new process.
    Started {
        /// Its handle, never 0.
        process: u32,
        /// What of the jail this host could not give.
        degraded: List<Text<256>, 16>,
    },
    /// So many bytes of input were taken.
    Accepted {
        /// Bytes.
        bytes: u32,
    },
    /// Output.
    Data {
        /// The bytes.
        bytes: Bytes<INLINE_MAX_BYTES>,
        /// Nothing comes after them.
        eof: bool,
    },
    /// It has ended.
    Exited {
        /// How.
        exit: Exit,
        /// What it cost.
        toll: Toll,
    },
    /// It has been closed, and nothing of it is left.
    Closed {
        /// What it cost.
        toll: Toll,
    },
}

/// One allowed shape of arguments: `*` is one argument, `**` the rest, anything else itself.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ArgShape {
    /// The shape's items.
    pub items: List<Arg, ARGS_MAX>,
}

/// One allowed command.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct CommandSetup {
    /// What the guest asks for; argv\[0\] of the command.
    pub name: Text<128>,
    /// Allowed shapes; none allows no argument at all.
    pub shapes: List<ArgShape, 64>,
    /// Any arguments (`--allow-proc`).
    pub any_args: bool,
    /// The command's own environment.
    pub env: List<EnvVar, 128>,
    /// May run programs that lie in a workspace.
    pub exec_workspace: bool,
    /// Runs without the door where this host allows none, degraded.
    pub unchecked: bool,
    /// The rule that allows it.
    pub rule: Text<256>,
}

/// Bounds of every command of a task.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ProcBounds {
    /// What a command's tree may hold in memory, and RLIMIT_DATA of each of its processes, bytes.
    pub memory_bytes: u64,
    /// RLIMIT_FSIZE of each process, bytes.
    pub file_bytes: u64,
    /// What a command's private directory may hold, bytes.
    pub private_bytes: u64,
    /// Processes of the whole task at once.
    pub processes: u32,
    /// What a pipe's unread output may come to before the command waits, bytes.
    pub output_bytes: u64,
    /// The rule that `file_bytes` comes from.
    pub file_rule: Text<256>,
    /// What files that it makes have not, of the mode that is asked for.
    pub umask: u32,
}

/// Setup document of cap-proc's front. Inherited descriptors: one socket to the runner.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ProcSetup {
    /// The task's id.
    pub task: [u8; 16],
    /// The task's commands.
    pub commands: List<CommandSetup, COMMANDS_MAX>,
    /// Bounds of every command.
    pub bounds: ProcBounds,
    /// Workspaces, in the order of their descriptors at the runner.
    pub workspaces: u16,
}

/// What cap-proc's front takes.
pub type ProcHelperCall = ProcCall<HelperCommand>;
/// What a worker sends.
pub type ProcGuestCall = ProcCall<GuestCommand>;
/// What cap-proc answers.
pub type ProcHelperReply = Result<ProcReply, super::error::CallError>;

/// A command as the runner knows it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RunnerCommand {
    /// argv\[0\].
    pub name: Text<128>,
    /// The command's own environment.
    pub env: List<EnvVar, 128>,
    /// May run programs that lie in a workspace.
    pub exec_workspace: bool,
    /// Runs without the door where this host allows none.
    pub unchecked: bool,
    /// Its rule names hosts: its connects are made by whom `connects` leads to.
    pub network: bool,
}

/// What the policy says of something that not every host offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Wish {
    /// It is not used.
    Off,
    /// It is used where it can be had; where it cannot, that is said.
    Auto,
    /// Without it there are no commands.
    Require,
}

/// Setup document of cap-proc's runner, which has no link B.
///
/// Inherited descriptors, from [`super::life::INHERITED_FD`] on: this document in a sealed memfd (its length is the
/// file's), an O_PATH directory for each workspace, an open program for each command, the task's scratch directory
/// if there is one, its control group if it has one, the memory file by which the task's moves and walks take turns, and the
/// lane to whoever provides connections if there is one ([`super::connect`]). Descriptor 3 is the socket to the front.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RunnerSetup {
    /// [`crate::build_id`] of the broker.
    pub build_id: [u8; 32],
    /// Workspaces in order, with their rules.
    pub workspaces: List<WorkspaceSetup, WORKSPACES_MAX>,
    /// The rule of the task's limit on what files grow by.
    pub growth_rule: Text<256>,
    /// Commands in the order of the front's setup.
    pub commands: List<RunnerCommand, COMMANDS_MAX>,
    /// Bounds of every command.
    pub bounds: ProcBounds,
    /// Whether a scratch directory follows the programs.
    pub scratch: bool,
    /// Whether it and its commands are in namespaces of their own.
    pub namespaces: Wish,
    /// The control group whose directory follows that, if there is one.
    pub group: Option<GroupSetup>,
    /// Whether a lane to a provider of connections follows that; without it no command with a network starts.
    pub connects: bool,
}

/// What a control group bounds in groups beneath it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct GroupSetup {
    /// `pids.max`.
    pub pids: bool,
    /// `memory.max`.
    pub memory: bool,
}

impl RunnerSetup {
    /// Whether commands need the door: a workspace has something that a plain grant of it would not hold to.
    pub fn needs_door(&self) -> bool {
        self.workspaces.iter().any(|workspace| {
            let hides = workspace.rules.iter().any(|rule| rule.kind == RuleKind::Deny);
            workspace.writable || hides || !workspace.symlinks
        })
    }
}
