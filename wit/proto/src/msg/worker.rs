//! Worker and compiler: their setup, the calls a worker makes, and how they end.

use super::error::CallError;
use super::fs::{FsGuestCall, FsReply};
use super::llm::{LlmCall, LlmReply};
use super::loops::{LoopCall, LoopReply};
use super::policy::{PolicyCall, PolicyReply};
use super::proc::{EnvVar, ProcGuestCall, ProcReply, Stream};
use crate::bounded::{Bytes, List, Text};
use crate::limits::INLINE_MAX_BYTES;
use bincode::{Decode, Encode};

/// How a guest is run.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum GuestKind {
    /// `warden run`: a core module (`_start` or `run() -> i32`) or a component.
    Program {
        /// Arguments, the first is the program's name.
        args: List<Text<32768>, 1024>,
        /// Environment.
        env: List<EnvVar, 256>,
    },
    /// A brain of the world `osagent:agent/control`.
    Planner {
        /// The task in words, or a runbook's steps as JSON.
        task: Text<1_048_576>,
        /// The first observation's data, JSON text (`--observation`).
        observation: Text<1_048_576>,
        /// The first step's number (`--step`).
        first_step: u32,
    },
}

/// Setup document of a worker. Descriptors: the compiled code, a sealed memfd.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct WorkerSetup {
    /// The task's id.
    pub task: [u8; 16],
    /// How the guest is run.
    pub guest: GuestKind,
    /// Fuel; the code is compiled with metering when there is a limit.
    pub fuel: Option<u64>,
    /// Linear memories together, bytes.
    pub memory_bytes: u64,
    /// Until the guest is interrupted, milliseconds from now.
    pub wall_ms: u64,
    /// What a path that is left out names, `label:`; empty without a workspace.
    pub home: Text<80>,
}

/// Setup document of a compiler. Descriptors: the module (sealed memfd), the output (an empty memfd of the broker's).
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct CompilerSetup {
    /// Length of the module, bytes.
    pub module_len: u64,
    /// Compile with fuel metering.
    pub metered: bool,
    /// Longest output, bytes.
    pub output_max_bytes: u64,
}

/// Which name a call has in records and reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Origin {
    /// The guest called an import.
    Import,
    /// The loop executes an action of the planner's.
    Action,
}

/// What a worker asks.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum WorkerCall {
    /// Files.
    Fs {
        /// Import or action.
        origin: Origin,
        /// An action asked for its output as base64 (`encoding`), whatever the bytes are.
        base64: bool,
        /// The operation.
        call: FsGuestCall,
    },
    /// Commands.
    Proc {
        /// Import or action.
        origin: Origin,
        /// The alias that an action gives to what it starts, or uses; empty for an import.
        alias: Text<64>,
        /// The operation.
        call: ProcGuestCall,
    },
    /// The model.
    Llm {
        /// Import or action.
        origin: Origin,
        /// The call.
        call: LlmCall,
    },
    /// The policy.
    Policy {
        /// Import or action.
        origin: Origin,
        /// The call.
        call: PolicyCall,
    },
    /// The loop.
    Loop {
        /// The turn.
        call: LoopCall,
    },
    /// A capability that exists by name and is not there (browser, input, net, tools, exec) → always an error.
    Absent {
        /// Import or action.
        origin: Origin,
        /// Its name, `browser.open_session`.
        capability: Text<128>,
    },
}

impl WorkerCall {
    /// Whether it executes an action of the planner's.
    pub fn is_action(&self) -> bool {
        match self {
            Self::Fs { origin, .. }
            | Self::Proc { origin, .. }
            | Self::Llm { origin, .. }
            | Self::Policy { origin, .. }
            | Self::Absent { origin, .. } => *origin == Origin::Action,
            Self::Loop { .. } => false,
        }
    }
}

/// The answer to a [`WorkerCall`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum WorkerReply {
    /// To `Fs`.
    Fs(FsReply),
    /// To `Proc`.
    Proc(ProcReply),
    /// To `Llm`.
    Llm(LlmReply),
    /// To `Policy`.
    Policy(PolicyReply),
    /// To `Loop`.
    Loop(LoopReply),
    /// It failed.
    Error(CallError),
}

/// Output of the guest; no answer comes. The queue of the link is its back-pressure.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Output {
    /// Which.
    pub stream: Stream,
    /// The bytes.
    pub bytes: Bytes<INLINE_MAX_BYTES>,
}

/// How the message of an [`End::OutOfMemory`] begins where the limit is `limits.memory`; the others are fixed.
pub const MEMORY_LIMIT: &str = "memories of ";

/// How a guest or a compilation ended, as the jailed process tells it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum End {
    /// The guest returned, or the compiler wrote its output.
    Returned,
    /// The guest ended with a status.
    Exited {
        /// Its status.
        code: i32,
    },
    /// The guest trapped.
    Trapped {
        /// What the engine says.
        message: Text<2048>,
    },
    /// No fuel is left.
    OutOfFuel,
    /// A memory, table or instance limit stopped it.
    OutOfMemory {
        /// Which.
        message: Text<512>,
    },
    /// Its time is up.
    OutOfTime,
    /// The bytes are no module, or its world or an import is unknown.
    Invalid {
        /// What is wrong.
        message: Text<2048>,
    },
    /// The planner ended without a verdict (its error was final, or the steps ran out).
    Stopped {
        /// Why.
        message: Text<2048>,
    },
}

/// Last frame of a worker or compiler.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Finish {
    /// How it ended.
    pub end: End,
    /// Fuel consumed, when metered.
    pub fuel: u64,
    /// Highest size of the linear memories together, bytes.
    pub memory_peak_bytes: u64,
    /// Length of a compiler's output, bytes; 0 for a worker.
    pub output_len: u64,
}
