//! The life of cap-llm with the replay provider, its order held by types.

use crate::ops::{self, OpsError};
use crate::recording::{self, Recording};
use nix::sys::stat::{SFlag, fstat};
use std::cell::OnceCell;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::time::Instant;
use warden_jail::{Grants, Isolation, Life, LifeError, Limits, Privileges, Role, descriptors};
use warden_proto::codec::{self, CodecError};
use warden_proto::limits::{HELLO_DEADLINE, SETUP_MAX_BYTES};
use warden_proto::msg::life::{Hello, LINK_FD, Locked, Role as ProtoRole, Setup};
use warden_proto::msg::llm::{LlmSetup, Provider};
use warden_proto::socket::SocketError;
use warden_proto::{FrameSocket, Kind, List, Text, build_id, sys};

/// Longest recording, bytes.
const RECORDING_MAX_BYTES: usize = 64 * 1024 * 1024;
/// RLIMIT_DATA: the recording, one conversation in parts and decoded, one answer (T-06).
const DATA_BYTES: u64 = 256 * 1024 * 1024;
/// RLIMIT_NOFILE: the link and the standard three, with room for what a frame may bring.
const OPEN_FILES: u64 = 16;

/// cap-llm could not get ready, or its link broke.
#[derive(Debug, thiserror::Error)]
pub enum LlmLifeError {
    /// The link is not descriptor 3.
    #[error("started by wasi-warden's spawner, never by hand: no link at descriptor 3 ({0})")]
    Link(nix::errno::Errno),
    /// The link broke.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The jail could not be shut.
    #[error(transparent)]
    Jail(#[from] LifeError),
    /// The broker's setup does not decode.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The broker's first frame is not what is due.
    #[error("the broker's first frame is no setup of this build with a document and a recording")]
    Setup,
    /// The setup document or recording cannot be read.
    #[error("the {what} could not be read: {source}")]
    Read {
        /// Which.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Serving ended by a fault.
    #[error(transparent)]
    Ops(#[from] OpsError),
}

/// What is prepared before the jail is shut.
struct Prepared {
    recording: Vec<u8>,
    /// Lines that answered an earlier process.
    calls_before: u32,
    /// Descriptors that are open just before lock-down, by the process's own count.
    open: OnceCell<Vec<u32>>,
}

/// The whole life.
pub fn live() -> Result<(), LlmLifeError> {
    let limits = Limits { data_bytes: Some(DATA_BYTES), open_files: Some(OPEN_FILES), ..Limits::default() };
    let parent = Some(nix::unistd::getppid().as_raw());
    let privileges = Privileges { limits, parent, keep: Some(vec![0, 1, 2, LINK_FD]), ..Privileges::default() };
    let life = Life::connect(Role::CapLlmReplay, connect)?.prepare(prepare)?.drop_privileges(&privileges)?.lock_down(
        |_, prepared| {
            prepared.open.get_or_init(open_descriptors);
            Grants::none()
        },
    )?;
    let isolation = life.isolation().clone();
    life.serve(|mut link, prepared| {
        link.send(Kind::Locked, 0, &locked(&isolation, prepared.open.get_or_init(Vec::new)), &[], true)?;
        Ok(ops::serve(link, Recording::behind(prepared.calls_before, prepared.recording))?)
    })
}

fn connect() -> Result<FrameSocket, LlmLifeError> {
    let mut link = FrameSocket::new(sys::inherited(LINK_FD).map_err(LlmLifeError::Link)?);
    let hello = Hello { build_id: build_id(), role: ProtoRole::CapLlm };
    link.send(Kind::Hello, 0, &hello, &[], true)?;
    Ok(link)
}

fn prepare(link: &mut FrameSocket) -> Result<Prepared, LlmLifeError> {
    let frame = link.receive(2, Some(Instant::now() + HELLO_DEADLINE))?;
    if frame.kind != Kind::Setup {
        return Err(LlmLifeError::Setup);
    }
    let setup: Setup = frame.decode()?;
    if setup.build_id != build_id() || setup.descriptors != 1 {
        return Err(LlmLifeError::Setup);
    }
    let [document, recording] = <[OwnedFd; 2]>::try_from(frame.descriptors).map_err(|_| LlmLifeError::Setup)?;
    let document = read_all(document, "setup document", SETUP_MAX_BYTES)?;
    if u32::try_from(document.len()) != Ok(setup.document_len) {
        return Err(LlmLifeError::Setup);
    }
    let document: LlmSetup = codec::decode_document(&document)?;
    match document.provider {
        Provider::Replay => {}
    }
    // Copied now and parsed in the jail: what changes in the file during the task changes no answer, and the parser
    // never runs outside (T-16, T-03).
    let recording = read_all(recording, "recording", RECORDING_MAX_BYTES)?;
    recording::warm();
    Ok(Prepared { recording, calls_before: document.calls_before, open: OnceCell::new() })
}

fn open_descriptors() -> Vec<u32> {
    descriptors::list_descriptors().into_iter().filter_map(|number| u32::try_from(number).ok()).collect()
}

/// Reads a regular file from its beginning, whatever position the broker left it at.
fn read_all(fd: OwnedFd, what: &'static str, max_bytes: usize) -> Result<Vec<u8>, LlmLifeError> {
    let failed = |source| LlmLifeError::Read { what, source };
    let facts = fstat(&fd).map_err(|e| failed(e.into()))?;
    if facts.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFREG.bits() {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")));
    }
    let mut file = File::from(fd);
    io::Seek::rewind(&mut file).map_err(failed)?;
    let mut bytes = Vec::new();
    let one_more = u64::try_from(max_bytes).unwrap_or(u64::MAX).saturating_add(1);
    file.take(one_more).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > max_bytes {
        let why = format!("it is longer than {max_bytes} bytes");
        return Err(failed(io::Error::new(io::ErrorKind::FileTooLarge, why)));
    }
    Ok(bytes)
}

fn locked(isolation: &Isolation, open: &[u32]) -> Locked {
    Locked {
        landlock_abi: isolation.landlock_abi,
        seccomp_filters: isolation.seccomp_filters,
        degraded: List::first(isolation.degraded.iter().map(|text| Text::cut(text))),
        descriptors: List::first(open.iter().copied()),
        pid: std::process::id(),
    }
}
