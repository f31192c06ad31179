//! What front, runner and keeper say to each other. All are of this one program, so the types are not the protocol's.

use bincode::{Decode, Encode};
use warden_proto::msg::error::{CallError, ErrorCode};
use warden_proto::msg::fs::PathText;
use warden_proto::msg::proc::{Args, EnvVar, ProcessSignal, Toll};
use warden_proto::{List, Text};

/// Workspace index that means none: the task has no workspace.
pub const NO_WORKSPACE: u16 = u16::MAX;

/// Runner to front, once: its jail is shut, or why no command can run here.
#[derive(Debug, Encode, Decode)]
pub struct Ready {
    /// [`warden_proto::build_id`] of the runner.
    pub build_id: [u8; 32],
    /// The jail, or what this host lacks for it.
    pub jail: Result<Jail, Text<1024>>,
}

/// What holds the runner and, nested in it, every command.
#[derive(Debug, Clone, Encode, Decode)]
pub struct Jail {
    /// Landlock ABI in force.
    pub landlock_abi: u8,
    /// What this host could not enforce.
    pub degraded: List<Text<256>, 16>,
    /// What holds commands besides, where the host offers it.
    pub held: List<Text<64>, 16>,
    /// Whether commands go through the door.
    pub door: DoorState,
}

/// Whether commands of the task go through the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum DoorState {
    /// Landlock alone can say all that the policy says of its workspaces.
    Unneeded,
    /// They do.
    Open,
    /// They would have to, and this host does not allow a keeper to be one.
    Impossible,
}

/// Front to runner: start this. Descriptors: the command's end of a pipe for each of `piped`, in order.
#[derive(Debug, Encode, Decode)]
pub struct Launch {
    /// The front's name for the process.
    pub process: u32,
    /// Index of the command.
    pub command: u16,
    /// Arguments without argv\[0\].
    pub args: Args,
    /// The guest's variables; the command's own are in the runner's setup.
    pub env: List<EnvVar, 128>,
    /// Index of the workspace to start in, or [`NO_WORKSPACE`].
    pub workspace: u16,
    /// Directory in it.
    pub cwd: PathText,
    /// Processes of the whole tree at once.
    pub processes_max: u32,
    /// Bytes that it may make files of the workspaces grow by.
    pub growth_max: u64,
    /// Whether stdin, stdout and stderr are pipes; /dev/null otherwise.
    pub piped: [bool; 3],
}

/// Runner to usher: have a keeper born. The keeper's end of a lane, by which its launch comes, is the one descriptor. What the
/// runner found out only after the usher was forked.
#[derive(Debug, Encode, Decode)]
pub struct Seat {
    /// Whether the kernel confines signals.
    pub scoped: bool,
    /// Whether commands go through the door.
    pub door: DoorState,
}

/// Usher to runner: the keeper's number, or why there is none.
#[derive(Debug, Encode, Decode)]
pub struct Seated {
    /// Which.
    pub keeper: Result<i32, Text<512>>,
}

/// Runner to a keeper that was born by the usher, after its [`Launch`] and the pipes of that: its lane to the front, and the one
/// to whoever provides connections, where the command's rule names hosts.
#[derive(Debug, Encode, Decode)]
pub struct SeatRest {
    /// Whether that second one comes.
    pub connects: bool,
}

/// Runner to front: a keeper has been forked, its control lane is the one descriptor; or it could not be.
#[derive(Debug, Encode, Decode)]
pub struct Launched {
    /// Which.
    pub process: u32,
    /// Nothing, or why not.
    pub result: Result<(), CallError>,
}

/// Front to keeper. End-of-file means: end it, nobody wants it any more.
#[derive(Debug, Clone, Copy, Encode, Decode)]
pub struct Order {
    /// `Kill` ends the whole tree; the others go to the command's process group.
    pub signal: ProcessSignal,
}

/// Keeper to front.
#[derive(Debug, Encode, Decode)]
pub enum Report {
    /// The command's program runs.
    Begun,
    /// It could not be started, or was ended over a limit; nothing of it is left.
    Failed {
        /// Why.
        error: CallError,
    },
    /// The command has ended and nothing of its tree is left.
    Ended {
        /// Its status, when it ended by itself.
        code: Option<i32>,
        /// The signal that ended it.
        signal: Option<i32>,
        /// What it cost.
        toll: Toll,
    },
}

/// The command that is being started to its keeper, until its program runs.
#[derive(Debug, Encode, Decode)]
pub enum Birth {
    /// The listener for its forks comes with this.
    Listener,
    /// It could not become the program.
    Failed {
        /// Why.
        error: CallError,
    },
}

/// A failure at `step`, of the host's doing.
pub fn failed(step: &str, why: impl std::fmt::Display) -> CallError {
    CallError::new(ErrorCode::Internal, &format!("the command could not be started: {step}: {why}"))
}
