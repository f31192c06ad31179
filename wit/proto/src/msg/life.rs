//! The first frames of every jailed process: hello, setup, locked.
//!
//! Order on the link: the broker sends `Setup` at once, with one sealed memfd holding the role's setup document (an
//! encoded `WorkerSetup`, `FsSetup`, …) and then the descriptors that the document counts. The jailed process sends
//! `Hello` before it reads anything, shuts its jail, and sends `Locked`; only then does it read a `Call`.
//!
//! Descriptors over exec, by fixed number: 0–2 are /dev/null, 3 is the link, 4 and up what the spawner was told to pass, in
//! that order.

use crate::bounded::{List, Text};
use bincode::{Decode, Encode};
use std::os::fd::RawFd;

/// Descriptor of the link in a process that the spawner executed.
pub const LINK_FD: i32 = 3;
/// First of the descriptors that the spawner was told to pass.
pub const INHERITED_FD: i32 = 4;

/// The kinds of jailed process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Role {
    /// The warm engine that forks workers. Has no link B.
    Template,
    /// Runs one guest.
    Worker,
    /// Turns one module into machine code.
    Compiler,
    /// Files.
    CapFs,
    /// Commands: reads frames.
    CapProcFront,
    /// Commands: starts them. Its link is with the front.
    CapProcRunner,
    /// The model endpoint.
    CapLlm,
}

impl Role {
    /// The role's name in records and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Template => "template",
            Self::Worker => "worker",
            Self::Compiler => "compiler",
            Self::CapFs => "cap-fs",
            Self::CapProcFront => "cap-proc",
            Self::CapProcRunner => "cap-proc-runner",
            Self::CapLlm => "cap-llm",
        }
    }
}

/// First frame of a jailed process.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Hello {
    /// [`crate::build_id`] of the sender.
    pub build_id: [u8; 32],
    /// What it believes to be.
    pub role: Role,
}

/// The broker's first frame; the document is its first descriptor.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Setup {
    /// [`crate::build_id`] of the broker.
    pub build_id: [u8; 32],
    /// Length of the document in the first descriptor, bytes.
    pub document_len: u32,
    /// Descriptors after the document, as the document lists them.
    pub descriptors: u32,
}

/// The jail is shut and the self-test passed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Locked {
    /// Landlock ABI in force, 0 for none.
    pub landlock_abi: u8,
    /// Seccomp filters installed by this process and its template.
    pub seccomp_filters: u8,
    /// What this host could not enforce and the policy let pass.
    pub degraded: List<Text<256>, 16>,
    /// The process's own list of its open descriptors, taken just before lock-down.
    pub descriptors: List<u32, 512>,
    /// Process id as it sees itself; a fact for the log, not an identity.
    pub pid: u32,
    /// What holds it, or what it starts, besides the jail of its role.
    pub held: List<Text<64>, 16>,
}

impl Locked {
    /// What the calling process says of itself; `open` are its descriptors.
    pub fn new<'a>(
        landlock_abi: u8,
        seccomp_filters: u8,
        degraded: impl IntoIterator<Item = &'a str>,
        open: &[RawFd],
    ) -> Self {
        Self {
            landlock_abi,
            seccomp_filters,
            degraded: List::first(degraded.into_iter().map(Text::cut)),
            descriptors: List::first(open.iter().filter_map(|number| u32::try_from(*number).ok())),
            pid: std::process::id(),
            held: List::default(),
        }
    }

    /// The same with what else holds it.
    pub fn holding<'a>(mut self, held: impl IntoIterator<Item = &'a str>) -> Self {
        self.held = List::first(held.into_iter().map(Text::cut));
        self
    }
}
