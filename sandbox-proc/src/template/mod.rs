//! The template: everything a worker needs, built once, and a fork for each task.
//!
//! Executed by the spawner, which it trusts. It holds no secret, reads no byte of a jail or a guest, and is itself
//! inside the workers' jail before its first fork, so that they inherit it at no cost (T-03).
//!
//! On descriptor 3 it speaks with the spawner: one packet of 32 bytes, its build id, when it is warm and locked; then
//! for each packet `F` that brings one descriptor, the link of the worker to be, it answers the worker's process id, or
//! a negative errno, as an `i32`, little-endian.

pub mod alarm;
pub mod code;
pub mod fork;
pub mod open;

use crate::Failure;
use crate::engine::{self, Metering};
use crate::worker::guest::Guest;
use fork::Side;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, sendmsg};
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use warden_jail::{Grants, Life, Privileges, Role};
use warden_proto::msg::life::LINK_FD;
use warden_proto::sys;

/// The request to fork.
const FORK: u8 = b'F';
/// Longer than any request, so that one that is too long is seen.
const REQUEST_BUFFER_BYTES: usize = 16;
/// Memory that the allocator keeps at hand, so that a worker's first allocations need no system call, bytes.
const ALLOCATOR_RESERVE_BYTES: usize = 512 * 1024;

/// One engine with everything that guests may import.
pub struct Runtime {
    /// Loads and runs; does not compile.
    pub engine: wasmtime::Engine,
    /// For core modules.
    pub core: wasmtime::Linker<Guest>,
    /// For components.
    pub component: wasmtime::component::Linker<Guest>,
}

/// What a worker finds ready when it is forked.
pub struct Warm {
    metered: Runtime,
    unmetered: Runtime,
    /// The spawner's process id: workers end with it (T-12).
    pub spawner: i32,
}

impl Warm {
    /// The runtime for a guest with or without a fuel limit.
    pub fn runtime(&self, metering: Metering) -> &Runtime {
        match metering {
            Metering::Metered => &self.metered,
            Metering::Unmetered => &self.unmetered,
        }
    }
}

/// The template's whole life.
pub fn life() -> Result<(), Failure> {
    let spawner = nix::unistd::getppid().as_raw();
    let privileges = Privileges { parent: Some(spawner), keep: Some(vec![0, 1, 2, LINK_FD]), ..Privileges::default() };
    Life::connect(Role::Template, || sys::inherited(LINK_FD))?
        .prepare(|_| warm(spawner))?
        .drop_privileges(&privileges)?
        .lock_down(|_, _| Grants::none())?
        .serve(|control, warm| serve(&control, &warm))
}

fn warm(spawner: i32) -> Result<Warm, Failure> {
    // A panic ends the process, and must not write what it knows to whatever descriptor 2 is in a worker by then (T-08).
    std::panic::set_hook(Box::new(|_| std::process::abort()));
    alarm::prepare()?;
    let warm = Warm { metered: runtime(Metering::Metered)?, unmetered: runtime(Metering::Unmetered)?, spawner };
    // The signal stack of this thread, which workers inherit: made later it would cost each of them three calls.
    wasmtime::Engine::tls_eager_initialize();
    drop(std::hint::black_box(vec![1_u8; ALLOCATOR_RESERVE_BYTES]));
    Ok(warm)
}

fn runtime(metering: Metering) -> Result<Runtime, Failure> {
    let engine = engine::running(metering, Arc::new(code::MappedCode))?;
    let mut core = wasmtime::Linker::new(&engine);
    crate::preview1::add_to_linker(&mut core)?;
    let mut component = wasmtime::component::Linker::new(&engine);
    crate::wasi::add_to_linker(&mut component)?;
    crate::control::add_to_linker(&mut component)?;
    Ok(Runtime { engine, core, component })
}

/// Forks until the spawner is gone.
fn serve(control: &OwnedFd, warm: &Warm) -> Result<(), Failure> {
    say(control, &warden_proto::build_id())?;
    let mut buffer = [0_u8; REQUEST_BUFFER_BYTES];
    loop {
        let mut packet = match sys::receive(control.as_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(packet) => packet,
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        };
        if packet.len == 0 {
            return Ok(());
        }
        let link = match (buffer.get(..packet.len), packet.descriptors.pop(), packet.descriptors.is_empty(), packet.cut)
        {
            (Some([FORK]), Some(link), true, false) => link,
            _ => return Err("the spawner sent something that is no request".into()),
        };
        let answer = match fork::fork_for_parent() {
            // Never returns: the worker's stack above this frame belongs to the template's life.
            Ok(Side::Worker) => crate::worker::life(warm, link),
            Ok(Side::Template(pid)) => pid,
            Err(error) => -(error as i32),
        };
        drop(link);
        say(control, &answer.to_le_bytes())?;
    }
}

fn say(control: &OwnedFd, packet: &[u8]) -> Result<(), Errno> {
    sendmsg::<()>(control.as_raw_fd(), &[IoSlice::new(packet)], &[], MsgFlags::MSG_NOSIGNAL, None).map(|_| ())
}
