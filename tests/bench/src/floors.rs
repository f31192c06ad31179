//! The floors: the same work with nothing of wasi-warden around it.

use crate::stats::Samples;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, sendmsg, socketpair};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};
use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Instant;
use warden_jail::{Grants, Role, life};
use wasmtime::{Config, Engine, Instance, Module, Store};

/// Keeps this process and all it starts on the first CPU.
pub fn pin_to_one_cpu() {
    let mut set = CpuSet::new();
    set.set(0).expect("a CPU 0");
    sched_setaffinity(Pid::from_raw(0), &set).expect("pinning");
}

/// Calls `act` with this process, and so all that it starts, on the first CPU; then as before.
pub fn on_one_cpu<T>(act: impl FnOnce() -> T) -> T {
    let before = sched_getaffinity(Pid::from_raw(0)).expect("the CPUs of this process");
    pin_to_one_cpu();
    let done = act();
    sched_setaffinity(Pid::from_raw(0), &before).expect("pinning");
    done
}

fn pair() -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).expect("a socket pair")
}

/// A warm process forks; the child applies the template's and the worker's jail, instantiates and calls.
pub fn start(rounds: usize) -> Samples {
    let mut config = Config::new();
    config.epoch_interruption(true);
    let engine = Engine::new(&config).expect("an engine");
    let wasm = wat::parse_str("(module (func (export \"run\") (result i32) i32.const 42))").expect("text");
    let module = Module::new(&engine, wasm).expect("a module");
    Engine::tls_eager_initialize();
    let mut all = Vec::new();
    for _ in 0..rounds {
        let (ours, theirs) = pair();
        let begin = Instant::now();
        // SAFETY: this process has one thread, so the child may run any code.
        match unsafe { fork() }.expect("fork") {
            ForkResult::Child => {
                let status = jailed_call(&engine, &module, &theirs);
                std::process::exit(status);
            }
            ForkResult::Parent { child } => {
                drop(theirs);
                let mut byte = [0; 1];
                let len = recv(ours.as_raw_fd(), &mut byte, MsgFlags::empty()).expect("a byte");
                assert_eq!(len, 1, "the jailed child of the floor ended before it had called");
                all.push(begin.elapsed());
                let _ = nix::sys::signal::kill(child, nix::sys::signal::Signal::SIGKILL);
                waitpid(child, None).expect("reaped");
            }
        }
    }
    Samples::new(all)
}

fn jailed_call(engine: &Engine, module: &Module, link: &OwnedFd) -> i32 {
    if life::lock_down(Role::Template, &Grants::none()).is_err() {
        return 1;
    }
    let Ok(scope) = life::worker_scope() else { return 2 };
    if life::lock_down_worker(scope).is_err() {
        return 3;
    }
    let mut store = Store::new(engine, ());
    store.set_epoch_deadline(1);
    let Ok(instance) = Instance::new(&mut store, module, &[]) else { return 4 };
    let Ok(run) = instance.get_typed_func::<(), i32>(&mut store, "run") else { return 5 };
    if run.call(&mut store, ()).ok() != Some(42) {
        return 6;
    }
    // sendmsg: the one call of its family that the worker's filter has.
    match sendmsg::<()>(link.as_raw_fd(), &[IoSlice::new(b"!")], &[], MsgFlags::empty(), None) {
        Ok(_) => 0,
        Err(_) => 7,
    }
}

/// A message of a call's size from here over a second process to a third and back.
pub fn two_hops(rounds: usize) -> Samples {
    let (here, second_left) = pair();
    let (second_right, third) = pair();
    // SAFETY: this process has one thread.
    let echo = match unsafe { fork() }.expect("fork") {
        ForkResult::Child => {
            relay(&third, None);
            std::process::exit(0);
        }
        ForkResult::Parent { child } => child,
    };
    // SAFETY: as above.
    let middle = match unsafe { fork() }.expect("fork") {
        ForkResult::Child => {
            relay(&second_left, Some(&second_right));
            std::process::exit(0);
        }
        ForkResult::Parent { child } => child,
    };
    let (message, mut buffer) = ([7_u8; 96], [0_u8; 256]);
    let mut all = Vec::new();
    for _ in 0..rounds {
        let begin = Instant::now();
        send(here.as_raw_fd(), &message, MsgFlags::empty()).expect("send");
        recv(here.as_raw_fd(), &mut buffer, MsgFlags::empty()).expect("receive");
        all.push(begin.elapsed());
    }
    for child in [echo, middle] {
        let _ = nix::sys::signal::kill(child, nix::sys::signal::Signal::SIGKILL);
        let _ = waitpid(child, None);
    }
    Samples::new(all)
}

/// Passes each message on and its answer back; without anybody behind, answers itself.
fn relay(front: &OwnedFd, behind: Option<&OwnedFd>) {
    let mut buffer = [0_u8; 256];
    loop {
        let Ok(len @ 1..) = recv(front.as_raw_fd(), &mut buffer, MsgFlags::empty()) else { return };
        let mut len = len;
        if let Some(behind) = behind {
            if send(behind.as_raw_fd(), &buffer[..len], MsgFlags::empty()).is_err() {
                return;
            }
            let Ok(back @ 1..) = recv(behind.as_raw_fd(), &mut buffer, MsgFlags::empty()) else { return };
            len = back;
        }
        if send(front.as_raw_fd(), &buffer[..len], MsgFlags::empty()).is_err() {
            return;
        }
    }
}
