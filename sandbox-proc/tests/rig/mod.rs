//! Plays spawner and broker for the real `warden-sandbox`: starts a template and compilers, forks workers, and answers
//! their calls. No part of the process under test is replaced.

#![allow(dead_code)]

pub mod guests;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessage, MsgFlags, recv, sendmsg};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, ftruncate, write};
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use warden_proto::blob::Inbox;
use warden_proto::msg::life::{Hello, Locked, Role, Setup};
use warden_proto::msg::proc::Stream;
use warden_proto::msg::worker::{CompilerSetup, End, Finish, GuestKind, Output, WorkerCall, WorkerReply, WorkerSetup};
use warden_proto::{Frame, FrameSocket, Kind, List, SocketError, Text, codec, socket};

const PATIENCE: Duration = Duration::from_secs(20);

/// Writes a line and ends with 3.
pub const HELLO: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\10\00\00\00\06\00\00\00")
  (data (i32.const 16) "hello\n")
  (func (export "_start")
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))
    (call $exit (i32.const 3))))"#;

/// A running template; `ask` serialises the tests of one process.
pub struct Template {
    child: Child,
    control: Mutex<OwnedFd>,
}

fn with_fd_3(argument: &str, fd: &OwnedFd) -> Child {
    let number = fd.as_raw_fd();
    let mut command = Command::new(env!("CARGO_BIN_EXE_warden-sandbox"));
    command.arg(argument).env_clear();
    let dup = move || {
        // SAFETY: dup2 is async-signal-safe; both numbers are the child's own after the fork.
        match unsafe { libc::dup2(number, 3) } {
            3 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: the closure only calls dup2.
    unsafe { command.pre_exec(dup) };
    command.spawn().expect("warden-sandbox starts")
}

impl Template {
    pub fn start() -> Self {
        let (ours, theirs) = socket::pair().unwrap();
        let child = with_fd_3("--template", &theirs);
        drop(theirs);
        let mut id = [0; 64];
        let len = recv(ours.as_raw_fd(), &mut id, MsgFlags::empty()).expect("the template says that it is warm");
        assert_eq!(&id[..len], warden_proto::build_id());
        Self { child, control: Mutex::new(ours) }
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Forks a worker around `link`.
    pub fn fork_around(&self, link: &OwnedFd) -> i32 {
        let control = self.control.lock().unwrap();
        let numbers = [link.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&numbers)];
        sendmsg::<()>(control.as_raw_fd(), &[IoSlice::new(b"F")], &rights, MsgFlags::empty(), None).unwrap();
        let mut pid = [0; 4];
        assert_eq!(recv(control.as_raw_fd(), &mut pid, MsgFlags::empty()), Ok(4));
        i32::from_le_bytes(pid)
    }

    pub fn fork(&self) -> Worker {
        let (ours, theirs) = socket::pair().unwrap();
        let pid = self.fork_around(&theirs);
        assert!(pid > 0, "fork failed: {pid}");
        Worker { link: FrameSocket::new(ours), pid, reaped: false }
    }

    /// Compiles and runs a core module with generous limits, answering no calls.
    pub fn run_wat(&self, wat: &str) -> Ran {
        self.run_code(&compile(wat.as_bytes(), false).unwrap(), program())
    }

    pub fn run_code(&self, code: &[u8], setup: WorkerSetup) -> Ran {
        let mut worker = self.fork();
        worker.begin(&setup, code);
        worker.finish(&mut |call| panic!("no call was expected: {call:?}"))
    }
}

impl Drop for Template {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A worker, which is this process's own child.
pub struct Worker {
    pub link: FrameSocket,
    pub pid: i32,
    reaped: bool,
}

/// What became of a run.
#[derive(Debug)]
pub struct Ran {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub finish: Finish,
}

impl Ran {
    pub fn end(&self) -> &End {
        &self.finish.end
    }
}

impl Worker {
    fn next(&mut self) -> Result<Frame, SocketError> {
        self.link.receive(0, Some(Instant::now() + PATIENCE))
    }

    /// Hello, setup, locked.
    pub fn begin(&mut self, setup: &WorkerSetup, code: &[u8]) -> Locked {
        let code = memfd(code, true);
        self.begin_with(setup, &code)
    }

    pub fn begin_with(&mut self, setup: &WorkerSetup, code: &OwnedFd) -> Locked {
        send_setup(&mut self.link, &codec::encode(setup).unwrap(), &[code.as_fd()]);
        let hello: Hello = self.next().unwrap().decode().unwrap();
        assert_eq!(hello, Hello { build_id: warden_proto::build_id(), role: Role::Worker });
        let frame = self.next().unwrap();
        assert_eq!(frame.kind, Kind::Locked);
        frame.decode().unwrap()
    }

    /// Answers calls and collects output to the end.
    pub fn finish(&mut self, answer: &mut dyn FnMut(WorkerCall) -> WorkerReply) -> Ran {
        self.serve(&mut |call, _| answer(call))
    }

    pub fn serve(&mut self, answer: &mut dyn FnMut(WorkerCall, &mut Inbox) -> WorkerReply) -> Ran {
        let (mut stdout, mut stderr, mut inbox) = (Vec::new(), Vec::new(), Inbox::default());
        loop {
            let frame = self.next().expect("the worker lives until its last frame");
            match frame.kind {
                Kind::Output => {
                    let output: Output = frame.decode().unwrap();
                    let sink = if output.stream == Stream::Stdout { &mut stdout } else { &mut stderr };
                    sink.extend_from_slice(&output.bytes);
                }
                Kind::Part => inbox.put(frame.decode().unwrap()).unwrap(),
                Kind::Call => {
                    let reply = answer(frame.decode().unwrap(), &mut inbox);
                    self.link.send(Kind::Reply, frame.request, &reply, &[], true).unwrap();
                }
                Kind::Finish => {
                    let finish = frame.decode().unwrap();
                    assert_eq!(self.reap(), WaitStatus::Exited(Pid::from_raw(self.pid), 0));
                    return Ran { stdout, stderr, finish };
                }
                other => panic!("unexpected frame {other:?}"),
            }
        }
    }

    pub fn reap(&mut self) -> WaitStatus {
        self.reaped = true;
        waitpid(Pid::from_raw(self.pid), None).expect("a worker is the spawner's own child")
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if !self.reaped {
            let _ = kill(Pid::from_raw(self.pid), Signal::SIGKILL);
            let _ = waitpid(Pid::from_raw(self.pid), None);
        }
    }
}

/// A program with generous limits.
pub fn program() -> WorkerSetup {
    WorkerSetup {
        task: [7; 16],
        guest: GuestKind::Program { args: List::first([Text::cut("guest")]), env: List::default() },
        fuel: None,
        memory_bytes: 64 << 20,
        wall_ms: 10_000,
        home: Text::cut("repo:"),
    }
}

/// Machine code of a module, by a compiler process of its own.
pub fn compile(module: &[u8], metered: bool) -> Result<Vec<u8>, Finish> {
    compile_within(module, metered, 64 << 20)
}

pub fn compile_within(module: &[u8], metered: bool, output_max_bytes: u64) -> Result<Vec<u8>, Finish> {
    let (ours, theirs) = socket::pair().unwrap();
    let mut child = with_fd_3("--compiler", &theirs);
    drop(theirs);
    let mut link = FrameSocket::new(ours);
    let output = memfd(&[], false);
    let setup = CompilerSetup { module_len: u64::try_from(module.len()).unwrap(), metered, output_max_bytes };
    send_setup(&mut link, &codec::encode(&setup).unwrap(), &[memfd(module, true).as_fd(), output.as_fd()]);
    let mut kinds = Vec::new();
    let finish: Finish = loop {
        let frame =
            link.receive(0, Some(Instant::now() + PATIENCE * 6)).expect("the compiler lives until its last frame");
        kinds.push(frame.kind);
        if frame.kind == Kind::Finish {
            break frame.decode().unwrap();
        }
    };
    assert_eq!(kinds, [Kind::Hello, Kind::Locked, Kind::Finish]);
    assert!(child.wait().unwrap().success());
    if finish.end != End::Returned {
        return Err(finish);
    }
    let mut code = vec![0; usize::try_from(finish.output_len).unwrap()];
    assert_eq!(nix::sys::uio::pread(&output, &mut code, 0), Ok(code.len()));
    Ok(code)
}

pub fn send_setup(link: &mut FrameSocket, document: &[u8], more: &[BorrowedFd<'_>]) {
    let memfd = memfd(document, true);
    let mut descriptors = vec![memfd.as_fd()];
    descriptors.extend_from_slice(more);
    let setup = Setup {
        build_id: warden_proto::build_id(),
        document_len: u32::try_from(document.len()).unwrap(),
        descriptors: u32::try_from(more.len()).unwrap(),
    };
    link.send(Kind::Setup, 0, &setup, &descriptors, true).unwrap();
}

pub fn memfd(bytes: &[u8], sealed: bool) -> OwnedFd {
    let fd = memfd_create(c"test", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap();
    ftruncate(&fd, 0).unwrap();
    let mut rest = bytes;
    while !rest.is_empty() {
        rest = &rest[write(&fd, rest).unwrap()..];
    }
    if sealed {
        let seals = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
        fcntl(&fd, FcntlArg::F_ADD_SEALS(seals)).unwrap();
    }
    fd
}
