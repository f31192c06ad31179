//! The worker's life, top to bottom: connect, prepare, lock down, serve. What the spawner's other children do between
//! exec and lock-down the template has done for it.

#![forbid(unsafe_code)]

use super::call::{Halt, Link};
use super::run;
use crate::Failure;
use crate::engine::Metering;
use crate::template::code::{self, Code};
use crate::template::{Warm, alarm, fork, open};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};
use warden_jail::landlock::Entered;
use warden_jail::{Isolation, Limits, descriptors, life as jail, process};
use warden_proto::msg::life::{Locked, Role};
use warden_proto::msg::worker::{End, Finish, WorkerSetup};
use warden_proto::{FrameSocket, greeting};

/// `RLIMIT_NOFILE` of a worker: its link and what its setup brings. Small, because the worker's own list of its
/// descriptors asks for each number, one call a number.
const OPEN_FILES_MAX: u16 = 64;
/// Private memory beside the guest's own: the engine, tables, payloads under way, bytes (T-06).
const HOST_MEMORY_BYTES: u64 = 256 << 20;
/// Status of a worker that ended without a last frame.
const LOST: i32 = 70;

/// Runs the worker to its end; never returns to the template's loop.
pub fn life(warm: &Warm, link: OwnedFd) -> ! {
    let status = match live(warm, link) {
        Ok(()) => 0,
        Err(_) => LOST,
    };
    fork::leave(status)
}

fn live(warm: &Warm, link: OwnedFd) -> Result<(), Failure> {
    let (mut socket, scope) = connect(warm, link)?;
    let (setup, code, deadline) = prepare(warm, &mut socket)?;
    let isolation = lock_down(scope)?;
    announce(&mut socket, &isolation)?;
    serve(warm, Link::new(socket, deadline), setup, code)
}

/// Lets go of the template, and says who this is.
///
/// What workers of one template share is its address layout and the seeds of its hash tables; none of those tables takes
/// a key from a guest, and random bytes for guests come from the kernel at each call.
fn connect(warm: &Warm, link: OwnedFd) -> Result<(FrameSocket, Entered), Failure> {
    // Before anything else: whatever else is open belongs to the template, or to the worker whose link came before (T-11).
    descriptors::sweep_descriptors(&[link.as_raw_fd()])?;
    process::death_signal(warm.spawner)?;
    let scope = jail::worker_scope()?;
    Ok((greeting::say_hello(link, Role::Worker)?, scope))
}

/// Receives the task and maps its code, inside the template's jail.
fn prepare(warm: &Warm, socket: &mut FrameSocket) -> Result<(WorkerSetup, Result<Code, String>, Instant), Failure> {
    Limits { open_files: Some(OPEN_FILES_MAX.into()), file_size_bytes: Some(0), ..Limits::default() }.apply()?;
    let (setup, [code]): (WorkerSetup, _) = greeting::receive_setup(socket)?;
    let deadline = Instant::now().checked_add(Duration::from_millis(setup.wall_ms)).unwrap_or_else(far_future);
    let data_bytes = setup.memory_bytes.saturating_add(HOST_MEMORY_BYTES);
    Limits { data_bytes: Some(data_bytes), ..Limits::default() }.apply()?;
    let engine = &warm.runtime(Metering::from_flag(setup.fuel.is_some())).engine;
    let code = code::load(engine, code.as_fd()).map_err(|error| error.to_string());
    Ok((setup, code, deadline))
}

fn far_future() -> Instant {
    let now = Instant::now();
    now.checked_add(Duration::from_secs(1 << 30)).unwrap_or(now)
}

/// Takes fork, executable memory and `seccomp` away, and tries it (T-03, T-04).
fn lock_down(scope: Entered) -> Result<Isolation, Failure> {
    Ok(jail::lock_down_worker(scope)?)
}

fn announce(socket: &mut FrameSocket, isolation: &Isolation) -> Result<(), Failure> {
    let degraded = isolation.degraded.iter().map(String::as_str);
    let open = open::descriptors(OPEN_FILES_MAX.into());
    let locked = Locked::new(isolation.landlock_abi, isolation.seccomp_filters, degraded, &open);
    Ok(greeting::say_locked(socket, &locked)?)
}

fn serve(warm: &Warm, link: Link, setup: WorkerSetup, code: Result<Code, String>) -> Result<(), Failure> {
    let runtime = warm.runtime(Metering::from_flag(setup.fuel.is_some()));
    let mut link = link;
    let code = match code {
        Ok(code) => code,
        Err(message) => {
            let end = End::Invalid { message: super::ending::plain(&message) };
            return Ok(link.finish(&Finish { end, fuel: 0, memory_peak_bytes: 0, output_len: 0 })?);
        }
    };
    alarm::arm(&runtime.engine, link.deadline().saturating_duration_since(Instant::now()))?;
    let (finish, mut guest) = run::guest(runtime, link, setup, &code)?;
    match finish {
        Some(finish) => Ok(guest.link.finish(&finish)?),
        None => Err(Halt::Closed.into()),
    }
}
