//! The life of the front, its order held by types. Descriptors over exec: 3 the link, 4 the lane to the runner.

use super::desk::Desk;
use crate::lane::{Lane, LaneError};
use crate::orders::{Jail, Ready};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use std::os::fd::{AsFd, RawFd};
use warden_jail::{Grants, Isolation, Life, LifeError, Limits, Privileges, Role, descriptors};
use warden_proto::calls::CallsError;
use warden_proto::codec::CodecError;
use warden_proto::greeting::{self, GreetingError};
use warden_proto::limits::LOCKED_DEADLINE;
use warden_proto::msg::life::{INHERITED_FD, LINK_FD, Locked, Role as ProtoRole};
use warden_proto::msg::proc::ProcSetup;
use warden_proto::{FrameSocket, SocketError, build_id, sys};

/// RLIMIT_DATA: the buffers of every process and what waits for the broker (T-06).
const DATA_BYTES: u64 = 512 * 1024 * 1024;
/// RLIMIT_NOFILE: four for each process, and the six of the front's own.
const OPEN_FILES: u64 = 512;

/// The front could not get ready, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum FrontError {
    /// The link, or the broker's first frame, is not what is due.
    #[error(transparent)]
    Greeting(#[from] GreetingError),
    /// The lane to the runner is not where the spawner puts it.
    #[error("no lane to the runner at descriptor {INHERITED_FD} ({0})")]
    NoLane(Errno),
    /// The jail could not be shut.
    #[error(transparent)]
    Jail(#[from] LifeError),
    /// Serving ended by a fault of the broker or of the link.
    #[error(transparent)]
    Calls(#[from] CallsError),
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

impl From<SocketError> for FrontError {
    fn from(error: SocketError) -> Self {
        Self::Calls(error.into())
    }
}

impl From<CodecError> for FrontError {
    fn from(error: CodecError) -> Self {
        Self::Calls(error.into())
    }
}

/// What is prepared before the jail is shut.
struct Prepared {
    setup: ProcSetup,
    runner: Lane,
}

/// The whole life.
pub fn live() -> Result<(), FrontError> {
    let limits = Limits { data_bytes: Some(DATA_BYTES), open_files: Some(OPEN_FILES), ..Limits::default() };
    let parent = Some(nix::unistd::getppid().as_raw());
    let keep = Some(vec![0, 1, 2, LINK_FD, INHERITED_FD]);
    let privileges = Privileges { limits, parent, keep, ..Privileges::default() };
    let life = Life::connect(Role::CapProcFront, connect)?.prepare(prepare)?.drop_privileges(&privileges)?;
    let open = descriptors::list_descriptors();
    let life = life.lock_down(|_, _| Grants::none())?;
    let isolation = life.isolation().clone();
    life.serve(|mut link, Prepared { setup, runner }| {
        // Both jails are shut at the same time, and this one before the other's word is read.
        let jail = hear_runner(&runner)?;
        greeting::say_locked(&mut link, &locked(&isolation, &jail, &open))?;
        Desk::new(link, runner, setup, jail).serve()
    })
}

fn connect() -> Result<FrameSocket, FrontError> {
    Ok(greeting::connect(ProtoRole::CapProcFront)?)
}

fn prepare(link: &mut FrameSocket) -> Result<Prepared, FrontError> {
    let runner = Lane::new(sys::inherited(INHERITED_FD).map_err(FrontError::NoLane)?);
    let (setup, []) = greeting::receive_setup(link)?;
    Ok(Prepared { setup, runner })
}

/// The runner's first word. One that cannot shut its jail says why, and every command is then `unavailable`.
fn hear_runner(runner: &Lane) -> Result<Result<Jail, String>, FrontError> {
    let timeout = TimeSpec::from_duration(LOCKED_DEADLINE.mul_f32(0.8));
    let mut ready = [PollFd::new(runner.as_fd(), PollFlags::POLLIN)];
    if ppoll(&mut ready, Some(timeout), None).map_err(|e| FrontError::System("wait for the runner", e))? == 0 {
        return Err(FrontError::RunnerSilent);
    }
    let heard = match runner.try_receive::<Ready>() {
        // Without a word there are no commands, and that is said: an end of ours would say nothing.
        Err(LaneError::Closed) => return Ok(Err("the process that starts them ended before it was ready".to_owned())),
        other => other.map_err(FrontError::Runner)?,
    };
    match heard {
        Some((ready, _)) if ready.build_id == build_id() => Ok(ready.jail.map_err(|why| why.into_string())),
        _ => Err(FrontError::RunnerSilent),
    }
}

/// The broker hears of the runner's jail too: what it lacks is a fact of every command.
fn locked(isolation: &Isolation, jail: &Result<Jail, String>, open: &[RawFd]) -> Locked {
    let of_runner = jail.iter().flat_map(|jail| jail.degraded.iter()).map(|text| text.as_str());
    let degraded = isolation.degraded.iter().map(String::as_str).chain(of_runner);
    let runner_abi = jail.as_ref().map_or(isolation.landlock_abi, |jail| jail.landlock_abi);
    let held = jail.iter().flat_map(|jail| jail.held.iter()).map(|text| text.as_str());
    Locked::new(isolation.landlock_abi.min(runner_abi), isolation.seccomp_filters, degraded, open).holding(held)
}
