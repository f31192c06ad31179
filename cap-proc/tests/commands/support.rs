//! A running cap-proc, the broker's end of its link, and the places it works in.

mod options;
mod starting;
mod watching;

pub use options::*;
pub use starting::sealed;
pub use watching::*;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use starting::{NOBODY, real_pid, start};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::process::Child;
use std::time::Instant;
use tempfile::TempDir;
use warden_proto::blob::{self, Body, Inbox};
use warden_proto::limits::OUTPUT_MAX_BYTES;
use warden_proto::msg::error::CallError;
use warden_proto::msg::life::{Hello, Locked, Role, Setup};
use warden_proto::msg::proc::*;
use warden_proto::{Bytes, Frame, FrameSocket, Kind, List, SocketError, Text, build_id, codec, socket};

pub struct Helper {
    pub front: Child,
    pub runner: Child,
    pub front_pid: Pid,
    /// What was executed as the runner: itself, or what stays outside.
    pub guard_pid: Pid,
    pub runner_pid: Pid,
    pub link: FrameSocket,
    pub locked: Locked,
    /// Parent of the workspaces `w0`, `w1`, … and of `scratch`.
    pub root: TempDir,
    inbox: Inbox,
    requests: u32,
    replies: Vec<(u32, ProcHelperReply)>,
}

/// Other things may be held where there are none.
fn in_namespaces(locked: &Locked) -> bool {
    locked.held.iter().any(|text| text.as_str() == "user namespace")
}

impl Helper {
    pub fn new() -> Self {
        Self::with(Options::default())
    }

    pub fn with(options: Options) -> Self {
        let above = match (options.in_memory, options.apart) {
            (true, _) => PathBuf::from("/dev/shm"),
            (false, true) => PathBuf::from("/var/tmp"),
            (false, false) => std::env::temp_dir(),
        };
        let root = tempfile::Builder::new().prefix("cap-proc").tempdir_in(above).unwrap();
        let (mut files, mut owned) = (Vec::new(), vec![root.path().to_owned()]);
        for (n, _) in options.workspaces.iter().enumerate() {
            let path = root.path().join(format!("w{n}"));
            std::fs::create_dir(&path).unwrap();
            files.push(path.display().to_string());
            owned.push(path);
        }
        files.extend(options.commands.iter().map(|(_, program)| program.display().to_string()));
        if options.scratch {
            let path = root.path().join("scratch");
            std::fs::create_dir(&path).unwrap();
            files.push(path.display().to_string());
            owned.push(path);
        }
        files.extend(options.group.iter().map(|(_, path)| path.display().to_string()));
        let turns = memfd_create("turns", MFdFlags::MFD_CLOEXEC).unwrap();
        files.push(format!("/proc/{}/fd/{}", std::process::id(), turns.as_raw_fd()));
        if options.as_nobody {
            owned.iter().for_each(|path| std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap());
        }
        let commands = options.commands.iter().enumerate().map(|(n, (setup, _))| RunnerCommand {
            name: setup.name.clone(),
            env: setup.env.clone(),
            exec_workspace: setup.exec_workspace,
            unchecked: setup.unchecked,
            network: options.network.iter().any(|index| usize::from(*index) == n),
        });
        let runner_setup = RunnerSetup {
            build_id: build_id(),
            workspaces: List::new(options.workspaces.clone()).unwrap(),
            growth_rule: Text::cut("limits.fs_written"),
            commands: List::new(commands.collect()).unwrap(),
            bounds: options.bounds.clone(),
            scratch: options.scratch,
            namespaces: options.namespaces,
            group: options.group.as_ref().map(|(setup, _)| *setup),
            connects: options.provider.is_some(),
        };
        let document = sealed(&codec::encode(&runner_setup).unwrap());
        files.insert(0, format!("/proc/{}/fd/{}", std::process::id(), document.as_raw_fd()));
        let (to_runner, at_runner) = socket::pair().unwrap();
        let how = (options.as_nobody, options.hardened, options.no_tracing);
        let runner = start("--runner", vec![at_runner], &files, options.provider, how, options.landlock_abi);
        let (link, at_front) = socket::pair().unwrap();
        let front = start(
            "--front",
            vec![at_front, to_runner],
            &[],
            None,
            (options.as_nobody, false, false),
            options.landlock_abi,
        );
        let mut link = FrameSocket::new(link);
        let setup = ProcSetup {
            task: [3; 16],
            commands: List::new(options.commands.iter().map(|(setup, _)| setup.clone()).collect()).unwrap(),
            bounds: options.bounds,
            workspaces: u16::try_from(options.workspaces.len()).unwrap(),
        };
        let bytes = codec::encode(&setup).unwrap();
        let frame = Setup { build_id: build_id(), document_len: u32::try_from(bytes.len()).unwrap(), descriptors: 0 };
        link.send(Kind::Setup, 0, &frame, &[sealed(&bytes).as_fd()], true).unwrap();
        let deadline = Some(Instant::now() + PATIENCE);
        let hello: Hello = link.receive(0, deadline).unwrap().decode().unwrap();
        assert_eq!((hello.build_id, hello.role), (build_id(), Role::CapProcFront));
        let locked = link.receive(0, deadline).unwrap();
        assert_eq!(locked.kind, Kind::Locked);
        let locked: Locked = locked.decode().unwrap();
        let (front_pid, guard_pid) = (real_pid(&front, options.as_nobody), real_pid(&runner, options.as_nobody));
        // Inside, what was executed stands guard over the runner.
        let runner_pid = children(guard_pid).first().copied().filter(|_| in_namespaces(&locked)).unwrap_or(guard_pid);
        drop((document, turns));
        let (mut inbox, replies) = (Inbox::default(), Vec::new());
        inbox.hold(2 * OUTPUT_MAX_BYTES);
        Self { front, runner, front_pid, guard_pid, runner_pid, link, locked, root, inbox, requests: 0, replies }
    }

    /// Keepers of living commands; in namespaces the runner has an usher besides, its first child.
    pub fn keepers(&self) -> Vec<Pid> {
        let ushered = self.locked.held.iter().any(|text| text.as_str().starts_with("own /"));
        children(self.runner_pid).into_iter().skip(usize::from(ushered)).collect()
    }

    /// What a command hears of what lies outside of all that it was given.
    pub fn refused_outside(&self) -> &'static str {
        if self.inside() { "ENOENT" } else { "EACCES" }
    }

    /// Whether commands are in namespaces.
    pub fn inside(&self) -> bool {
        in_namespaces(&self.locked)
    }

    pub fn workspace(&self) -> PathBuf {
        self.root.path().join("w0")
    }

    pub fn scratch(&self) -> PathBuf {
        self.root.path().join("scratch")
    }

    /// Sends a call and goes on.
    pub fn send(&mut self, call: &ProcHelperCall) -> u32 {
        self.requests += 1;
        self.link.send(Kind::Call, self.requests, call, &[], true).unwrap();
        self.requests
    }

    /// The answer to a call, whatever comes before it.
    pub fn answer(&mut self, request: u32) -> ProcHelperReply {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.replies.iter().position(|(of, _)| *of == request) {
                return self.replies.remove(at).1;
            }
            let frame = self.link.receive(0, Some(deadline)).expect("an answer in time");
            self.take(frame);
        }
    }

    fn take(&mut self, frame: Frame) {
        match frame.kind {
            Kind::Part => self.inbox.put(frame.decode().unwrap()).unwrap(),
            Kind::Reply => self.replies.push((frame.request, frame.decode().unwrap())),
            other => panic!("{other:?}"),
        }
    }

    pub fn call(&mut self, call: &ProcHelperCall) -> ProcHelperReply {
        let request = self.send(call);
        self.answer(request)
    }

    pub fn run_call(&mut self, command: HelperCommand, stdin: &[u8], output_max_bytes: u32) -> u32 {
        let stdin = blob::send(&mut self.link, 77, stdin.to_vec(), 8192).unwrap();
        self.send(&ProcCall::Run { command, stdin, output_max_bytes })
    }

    pub fn ran(&mut self, request: u32) -> Result<Ran, CallError> {
        match self.answer(request)? {
            ProcReply::Ran { exit, stdout, stderr, truncated, degraded, toll } => Ok(Ran {
                toll,
                exit,
                stdout: self.text(stdout),
                stderr: self.text(stderr),
                truncated,
                degraded: degraded.iter().map(|text| text.as_str().to_owned()).collect(),
            }),
            other => panic!("{other:?}"),
        }
    }

    fn text(&mut self, body: Body) -> String {
        String::from_utf8_lossy(&self.inbox.take(body).unwrap()).into_owned()
    }

    pub fn run(&mut self, command: HelperCommand) -> Result<Ran, CallError> {
        let request = self.run_call(command, b"", 1 << 20);
        self.ran(request)
    }

    /// Runs Python and returns what it printed; it must succeed.
    pub fn python(&mut self, code: &str) -> String {
        let ran = self.run(command(PYTHON, &["-c", code])).unwrap();
        assert_eq!(ran.exit.code, Some(0), "{ran:?}");
        ran.stdout.trim_end().to_owned()
    }

    /// Starts a command with pipes.
    pub fn start(&mut self, command: HelperCommand) -> u32 {
        let pipe = StdioMode::Pipe;
        match self.call(&ProcCall::Start { command, stdin: pipe, stdout: pipe, stderr: pipe }) {
            Ok(ProcReply::Started { process, .. }) => process,
            other => panic!("{other:?}"),
        }
    }

    pub fn wait(&mut self, process: u32) -> Exit {
        match self.call(&ProcCall::Wait { process, timeout_ms: None }) {
            Ok(ProcReply::Exited { exit, .. }) => exit,
            other => panic!("{other:?}"),
        }
    }

    pub fn read(&mut self, process: u32, stream: Stream, max_bytes: u32) -> (Vec<u8>, bool) {
        match self.call(&ProcCall::Read { process, stream, max_bytes }) {
            Ok(ProcReply::Data { bytes, eof }) => (bytes.into_vec(), eof),
            other => panic!("{other:?}"),
        }
    }

    /// Reads one line of standard output.
    pub fn line(&mut self, process: u32) -> String {
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            let (bytes, eof) = self.read(process, Stream::Stdout, 1);
            line.extend(bytes);
            if eof {
                break;
            }
        }
        String::from_utf8(line).unwrap().trim_end().to_owned()
    }

    pub fn write(&mut self, process: u32, bytes: &[u8], eof: bool) -> ProcHelperReply {
        self.call(&ProcCall::WriteStdin { process, bytes: Bytes::new(bytes).unwrap(), eof })
    }

    /// Whether the link closes in time, as it does when the front ends.
    pub fn link_closes(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.link.receive(0, Some(deadline)) {
                Err(SocketError::Closed) => return true,
                Err(other) => panic!("{other:?}"),
                Ok(frame) => self.take(frame),
            }
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        for (pid, child) in [(self.front_pid, &mut self.front), (self.guard_pid, &mut self.runner)] {
            if child.try_wait().ok().flatten().is_none() {
                let _ = kill(pid, Signal::SIGKILL);
                let _ = child.wait();
            }
        }
    }
}

#[derive(Debug)]
pub struct Ran {
    pub exit: Exit,
    pub stdout: String,
    pub stderr: String,
    pub truncated: bool,
    pub degraded: Vec<String>,
    pub toll: Toll,
}
