//! The life of the front, its order held by types. Descriptors over exec: 3 the link, 4 the lane to the runner.

use super::desk::Desk;
use crate::lane::{Lane, LaneError};
use crate::orders::{Jail, Ready};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::cell::OnceCell;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;
use warden_jail::{Grants, Isolation, Life, LifeError, Limits, Privileges, Role, descriptors};
use warden_proto::blob::BlobError;
use warden_proto::codec::{self, CodecError};
use warden_proto::limits::{HELLO_DEADLINE, LOCKED_DEADLINE, SETUP_MAX_BYTES};
use warden_proto::msg::life::{Hello, INHERITED_FD, LINK_FD, Locked, Role as ProtoRole, Setup};
use warden_proto::msg::proc::ProcSetup;
use warden_proto::{FrameSocket, Kind, List, SocketError, Text, build_id, sys};

/// RLIMIT_DATA: the buffers of every process and what waits for the broker (T-06).
const DATA_BYTES: u64 = 512 * 1024 * 1024;
/// RLIMIT_NOFILE: four for each process, and the six of the front's own.
const OPEN_FILES: u64 = 512;

/// The front could not get ready, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum FrontError {
    /// The link is not descriptor 3, or the lane not descriptor 4.
    #[error("started by wasi-warden's spawner, never by hand: no socket at descriptors 3 and 4 ({0})")]
    Inherited(Errno),
    /// The link broke, or a frame is none.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The jail could not be shut.
    #[error(transparent)]
    Jail(#[from] LifeError),
    /// A body does not decode.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// Parts do not add up.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The broker's first frame is not what is due.
    #[error("the broker's first frame is no setup of this build with a document")]
    Setup,
    /// A kind that is not due after lock-down.
    #[error("a frame of kind {0:?} came where a call is due")]
    OutOfState(Kind),
    /// The runner is gone or is of another build.
    #[error("the runner: {0}")]
    Runner(#[source] LaneError),
    /// The runner is of another build, or silent.
    #[error("the runner did not say that its jail is shut")]
    RunnerSilent,
    /// A keeper is gone that had not reported its command's end.
    #[error("the keeper of process {0} is gone")]
    KeeperLost(u32),
    /// A system call failed.
    #[error("the front could not {0}: {1}")]
    System(&'static str, #[source] Errno),
}

/// What is prepared before the jail is shut.
struct Prepared {
    setup: ProcSetup,
    runner: Lane,
    jail: Result<Jail, String>,
    /// Descriptors that are open just before lock-down, by the process's own count.
    open: OnceCell<Vec<u32>>,
}

/// The whole life.
pub fn live() -> Result<(), FrontError> {
    let limits = Limits { data_bytes: Some(DATA_BYTES), open_files: Some(OPEN_FILES), ..Limits::default() };
    let parent = Some(nix::unistd::getppid().as_raw());
    let keep = Some(vec![0, 1, 2, LINK_FD, INHERITED_FD]);
    let life = Life::connect(Role::CapProcFront, connect)?
        .prepare(prepare)?
        .drop_privileges(&Privileges { limits, parent, keep, ..Privileges::default() })?
        .lock_down(|_, prepared| {
            prepared.open.get_or_init(open_descriptors);
            Grants::none()
        })?;
    let isolation = life.isolation().clone();
    life.serve(|mut link, prepared| {
        link.send(Kind::Locked, 0, &locked(&isolation, &prepared), &[], true)?;
        Desk::new(link, prepared.runner, prepared.setup, prepared.jail).serve()
    })
}

fn connect() -> Result<FrameSocket, FrontError> {
    let mut link = FrameSocket::new(sys::inherited(LINK_FD).map_err(FrontError::Inherited)?);
    link.send(Kind::Hello, 0, &Hello { build_id: build_id(), role: ProtoRole::CapProcFront }, &[], true)?;
    Ok(link)
}

fn prepare(link: &mut FrameSocket) -> Result<Prepared, FrontError> {
    let runner = Lane::new(sys::inherited(INHERITED_FD).map_err(FrontError::Inherited)?);
    let frame = link.receive(1, Some(Instant::now() + HELLO_DEADLINE))?;
    if frame.kind != Kind::Setup {
        return Err(FrontError::Setup);
    }
    let setup: Setup = frame.decode()?;
    if setup.build_id != build_id() || setup.descriptors != 0 {
        return Err(FrontError::Setup);
    }
    let [document] = <[OwnedFd; 1]>::try_from(frame.descriptors).map_err(|_| FrontError::Setup)?;
    let setup = read_setup(document, setup.document_len)?;
    let jail = hear_runner(&runner)?;
    Ok(Prepared { setup, runner, jail, open: OnceCell::new() })
}

fn read_setup(document: OwnedFd, len: u32) -> Result<ProcSetup, FrontError> {
    let len = usize::try_from(len).ok().filter(|len| *len <= SETUP_MAX_BYTES).ok_or(FrontError::Setup)?;
    let mut file = File::from(document);
    std::io::Seek::rewind(&mut file).map_err(|_| FrontError::Setup)?;
    let mut bytes = vec![0; len];
    file.read_exact(&mut bytes).map_err(|_| FrontError::Setup)?;
    Ok(codec::decode_document(&bytes)?)
}

/// The runner's first word. One that cannot shut its jail says why, and every command is then `unavailable`.
fn hear_runner(runner: &Lane) -> Result<Result<Jail, String>, FrontError> {
    let timeout = PollTimeout::try_from(LOCKED_DEADLINE.mul_f32(0.8)).unwrap_or(PollTimeout::MAX);
    let mut ready = [PollFd::new(runner.as_fd(), PollFlags::POLLIN)];
    if poll(&mut ready, timeout).map_err(|e| FrontError::System("wait for the runner", e))? == 0 {
        return Err(FrontError::RunnerSilent);
    }
    match runner.try_receive::<Ready>().map_err(FrontError::Runner)? {
        Some((ready, _)) if ready.build_id == build_id() => Ok(ready.jail.map_err(|why| why.into_string())),
        _ => Err(FrontError::RunnerSilent),
    }
}

fn open_descriptors() -> Vec<u32> {
    descriptors::list_descriptors().into_iter().filter_map(|number| u32::try_from(number).ok()).collect()
}

/// The broker hears of the runner's jail too: what it lacks is a fact of every command.
fn locked(isolation: &Isolation, prepared: &Prepared) -> Locked {
    let of_runner = prepared.jail.iter().flat_map(|jail| jail.degraded.iter()).map(|text| text.as_str());
    let degraded = isolation.degraded.iter().map(String::as_str).chain(of_runner);
    let runner_abi = prepared.jail.as_ref().map_or(isolation.landlock_abi, |jail| jail.landlock_abi);
    Locked {
        landlock_abi: isolation.landlock_abi.min(runner_abi),
        seccomp_filters: isolation.seccomp_filters,
        degraded: List::first(degraded.map(Text::cut)),
        descriptors: List::first(prepared.open.get_or_init(Vec::new).iter().copied()),
        pid: std::process::id(),
    }
}
