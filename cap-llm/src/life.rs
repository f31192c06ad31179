//! The life of cap-llm with the replay provider, its order held by types.

use crate::ops;
use crate::recording::{self, Recording};
use nix::sys::stat::{SFlag, fstat};
use std::os::fd::OwnedFd;
use warden_jail::{Grants, Life, LifeError, Limits, Privileges, Role, descriptors};
use warden_proto::FrameSocket;
use warden_proto::calls::CallsError;
use warden_proto::document::{self, DocumentError};
use warden_proto::greeting::{self, GreetingError};
use warden_proto::msg::life::{LINK_FD, Locked, Role as ProtoRole};
use warden_proto::msg::llm::{LlmSetup, Provider};

/// Longest recording, bytes.
const RECORDING_MAX_BYTES: usize = 64 * 1024 * 1024;
/// RLIMIT_DATA: the recording, one conversation in parts and decoded, one answer (T-06).
const DATA_BYTES: u64 = 256 * 1024 * 1024;
/// RLIMIT_NOFILE: the link and the standard three, with room for what a frame may bring.
const OPEN_FILES: u64 = 16;

/// cap-llm could not get ready, or its link broke.
#[derive(Debug, thiserror::Error)]
pub enum LlmLifeError {
    /// The link, or the broker's first frame, is not what is due.
    #[error(transparent)]
    Greeting(#[from] GreetingError),
    /// The recording is no regular file.
    #[error("the recording is no regular file")]
    NoFile,
    /// The recording cannot be read.
    #[error("the recording: {0}")]
    Recording(#[from] DocumentError),
    /// The jail could not be shut.
    #[error(transparent)]
    Jail(#[from] LifeError),
    /// Serving ended by a fault.
    #[error(transparent)]
    Calls(#[from] CallsError),
}

/// What is prepared before the jail is shut.
struct Prepared {
    recording: Vec<u8>,
    /// Lines that answered an earlier process.
    calls_before: u32,
}

/// The whole life.
pub fn live() -> Result<(), LlmLifeError> {
    let limits = Limits { data_bytes: Some(DATA_BYTES), open_files: Some(OPEN_FILES), ..Limits::default() };
    let parent = Some(nix::unistd::getppid().as_raw());
    let privileges = Privileges { limits, parent, keep: Some(vec![0, 1, 2, LINK_FD]), ..Privileges::default() };
    let life = Life::connect(Role::CapLlmReplay, connect)?.prepare(prepare)?.drop_privileges(&privileges)?;
    let open = descriptors::list_descriptors();
    let life = life.lock_down(|_, _| Grants::none())?;
    let isolation = life.isolation().clone();
    life.serve(|mut link, prepared| {
        let degraded = isolation.degraded.iter().map(String::as_str);
        let locked = Locked::new(isolation.landlock_abi, isolation.seccomp_filters, degraded, &open);
        greeting::say_locked(&mut link, &locked)?;
        Ok(ops::serve(link, Recording::behind(prepared.calls_before, prepared.recording))?)
    })
}

fn connect() -> Result<FrameSocket, LlmLifeError> {
    Ok(greeting::connect(ProtoRole::CapLlm)?)
}

fn prepare(link: &mut FrameSocket) -> Result<Prepared, LlmLifeError> {
    let (setup, [recording]): (LlmSetup, _) = greeting::receive_setup(link)?;
    match setup.provider {
        Provider::Replay => {}
    }
    // Copied now and parsed in the jail: what changes in the file during the task changes no answer, and the parser
    // never runs outside (T-16, T-03).
    let recording = read_recording(&recording)?;
    recording::warm();
    Ok(Prepared { recording, calls_before: setup.calls_before })
}

fn read_recording(file: &OwnedFd) -> Result<Vec<u8>, LlmLifeError> {
    let facts = fstat(file).map_err(DocumentError::from)?;
    if facts.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFREG.bits() {
        return Err(LlmLifeError::NoFile);
    }
    Ok(document::read(file, RECORDING_MAX_BYTES)?)
}
