//! A running cap-proc, the broker's end of its link, and the places it works in.

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use warden_proto::blob::{self, Body, Inbox};
use warden_proto::limits::OUTPUT_MAX_BYTES;
use warden_proto::msg::error::CallError;
use warden_proto::msg::fs::{HelperTarget, PathRuleSetup, RuleKind, WorkspaceSetup};
use warden_proto::msg::life::{Hello, Locked, Role, Setup};
use warden_proto::msg::proc::*;
use warden_proto::{Bytes, Frame, FrameSocket, Kind, List, SocketError, Text, build_id, codec, socket};

/// Nobody's uid and gid on Debian.
const NOBODY: u32 = 65534;
/// How long anything may take on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What a helper is set up with.
pub struct Options {
    pub commands: Vec<(CommandSetup, PathBuf)>,
    pub bounds: ProcBounds,
    pub workspaces: Vec<WorkspaceSetup>,
    pub scratch: bool,
    /// Workspaces and scratch lie in memory.
    pub in_memory: bool,
    /// As on a host where nobody may look into another process: the call that does answers EPERM.
    pub no_tracing: bool,
    /// Commands whose rules name hosts, by index, and the runner's end of the lane to whoever connects them.
    pub network: Vec<u16>,
    pub provider: Option<OwnedFd>,
    /// As nobody, under a parent of the same uid, as an unprivileged broker would.
    pub as_nobody: bool,
    pub namespaces: Wish,
    /// As on a kernel with this Landlock, which debug builds can be told.
    pub landlock_abi: Option<u8>,
    /// The runner is started where no further user namespace may be made.
    pub hardened: bool,
    /// The task's control group.
    pub group: Option<(GroupSetup, PathBuf)>,
}

/// Namespaces are required in tests that are run again in a module of that name, and off in all others.
fn wish() -> Wish {
    let inside = |name: &str| name.starts_with("inside::");
    let named = std::thread::current().name().is_some_and(inside);
    if named || std::env::args().any(|argument| inside(&argument)) { Wish::Require } else { Wish::Off }
}

/// A command of this name that may be given anything.
pub fn any(name: &str, program: &str) -> (CommandSetup, PathBuf) {
    let setup = CommandSetup {
        name: Text::cut(name),
        shapes: List::default(),
        any_args: true,
        env: List::default(),
        exec_workspace: false,
        unchecked: true,
        rule: Text::cut(&format!("proc.command.{name}")),
    };
    (setup, PathBuf::from(program))
}

/// Workspace `wN`; its rules are `wN.0`, `wN.1` and so on.
pub fn workspace(number: usize, writable: bool, rules: &[(&str, RuleKind)]) -> WorkspaceSetup {
    let rules = rules.iter().enumerate().map(|(n, (glob, kind))| PathRuleSetup {
        glob: Text::cut(glob),
        kind: *kind,
        rule: Text::cut(&format!("w{number}.{n}")),
    });
    WorkspaceSetup {
        label: Text::cut(&format!("w{number}")),
        writable,
        symlinks: true,
        max_file_bytes: 1 << 26,
        max_file_rule: Text::cut(&format!("w{number}.max_file")),
        rules: List::new(rules.collect()).unwrap(),
        rule: Text::cut(&format!("w{number}")),
    }
}

pub const PYTHON: u16 = 0;
pub const SH: u16 = 1;
pub const ECHO: u16 = 2;

impl Default for Options {
    fn default() -> Self {
        let bounds = ProcBounds {
            memory_bytes: 1 << 30,
            file_bytes: 1 << 26,
            private_bytes: 1 << 26,
            processes: 64,
            output_bytes: 1 << 20,
        };
        let commands = vec![any("python3", "/usr/bin/python3"), any("sh", "/bin/sh"), any("echo", "/bin/echo")];
        Self {
            commands,
            bounds,
            workspaces: vec![workspace(0, true, &[])],
            scratch: true,
            in_memory: false,
            no_tracing: false,
            as_nobody: false,
            namespaces: wish(),
            landlock_abi: None,
            hardened: false,
            group: None,
            network: Vec::new(),
            provider: None,
        }
    }
}

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

pub fn sealed(bytes: &[u8]) -> OwnedFd {
    let mut file = File::from(memfd_create("test", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap());
    file.write_all(bytes).unwrap();
    fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK)).unwrap();
    file.into()
}

/// Python that answers process_vm_readv, number 310, with EPERM by a filter of its own and becomes what it is told to.
const NO_TRACING: &str = "\
import ctypes, os, struct, sys
code = b\"\".join(struct.pack(\"HBBI\", *each) for each in [(32, 0, 0, 0), (21, 0, 1, 310), (6, 0, 0, 0x50001), (6, 0, 0, 0x7fff0000)])
text = ctypes.create_string_buffer(code, len(code))
filter = struct.pack(\"HxxxxxxQ\", 4, ctypes.addressof(text))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, filter, 0, 0) == 0
for fd in range(3, 64):
    try: os.set_inheritable(fd, True)
    except OSError: pass
os.execve(sys.argv[1], sys.argv[1:], {})";

/// Starts cap-proc with sockets as its first descriptors and files after them; the shell only opens and moves them. The
/// environment holds a secret that no command may see.
fn start(
    role: &str,
    sockets: Vec<OwnedFd>,
    files: &[String],
    last: Option<OwnedFd>,
    (as_nobody, hardened, no_tracing): (bool, bool, bool),
    abi: Option<u8>,
) -> Child {
    let count = sockets.len();
    let mut moves: Vec<String> = (0..count).map(|n| format!("{}<&{n}", n + 3)).collect();
    moves.extend(files.iter().enumerate().map(|(n, path)| format!("{}<'{path}'", n + 3 + count)));
    if last.is_some() {
        moves.push(format!("{}<&1", 3 + count + files.len()));
    }
    moves.push("0</dev/null 1>/dev/null".to_owned());
    let moves = moves.join(" ");
    let program = env!("CARGO_BIN_EXE_cap-proc");
    let script = if as_nobody {
        let drop = format!("/usr/bin/setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups");
        format!("exec {drop} /bin/bash --norc -c '\"{program}\" {role}; exit $?' {moves}")
    } else if hardened {
        // The setting is each user namespace's own: nobody else's changes.
        let close = "echo 0 > /proc/sys/user/max_user_namespaces";
        format!("exec /usr/bin/unshare --map-root-user /bin/sh -c '{close}; exec \"{program}\" {role}' {moves}")
    } else if no_tracing {
        format!("exec /usr/bin/python3 -c '{NO_TRACING}' '{program}' {role} {moves}")
    } else {
        format!("exec '{program}' {role} {moves}")
    };
    let mut command = Command::new("/bin/bash");
    // Bash takes a socket for a remote login and would read a start-up file.
    command.args(["--norc", "-c", &script]).env_clear().env("BROKER_SECRET", "hunter2");
    command.envs(abi.map(|abi| ("WARDEN_TEST_LANDLOCK_ABI", abi.to_string())));
    let mut sockets = sockets.into_iter();
    if let Some(first) = sockets.next() {
        command.stdin(Stdio::from(first));
    }
    if let Some(second) = sockets.next().or(last) {
        command.stdout(Stdio::from(second));
    }
    command.spawn().unwrap()
}

/// The process itself, where a shell of its own uid stands between.
fn real_pid(child: &Child, as_nobody: bool) -> Pid {
    let id = child.id();
    if !as_nobody {
        return Pid::from_raw(i32::try_from(id).unwrap());
    }
    let shell = Pid::from_raw(i32::try_from(id).unwrap());
    wait_for("the helper to be forked", || !children(shell).is_empty());
    children(shell)[0]
}

/// Other things may be held where there are none.
fn in_namespaces(locked: &Locked) -> bool {
    locked.held.iter().any(|text| text.as_str() == "user namespace")
}

pub fn children(of: Pid) -> Vec<Pid> {
    let listed = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
    listed.split_whitespace().map(|number| Pid::from_raw(number.parse().unwrap())).collect()
}

impl Helper {
    pub fn new() -> Self {
        Self::with(Options::default())
    }

    pub fn with(options: Options) -> Self {
        let above = if options.in_memory { PathBuf::from("/dev/shm") } else { std::env::temp_dir() };
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

/// A command in the first workspace with room for everything.
pub fn command(index: u16, args: &[&str]) -> HelperCommand {
    HelperCommand {
        command: index,
        args: List::new(args.iter().map(|arg| Text::new(*arg).unwrap()).collect()).unwrap(),
        cwd: HelperTarget::Workspace { workspace: 0, path: Text::default() },
        env: List::default(),
        timeout_ms: 60_000,
        processes_max: 64,
        growth_max: 1 << 30,
    }
}

pub fn variable(key: &str, value: &str) -> EnvVar {
    EnvVar { key: Text::cut(key), value: Text::cut(value) }
}

/// A word that no other process on this machine has on its command line.
pub fn marker() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("cap-proc-marker-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Processes with `marker` on their command line, the dead ones that nobody has reaped not counted.
pub fn marked(marker: &str) -> Vec<i32> {
    let numbers = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
    let has = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.windows(marker.len()).any(|window| window == marker.as_bytes())
    };
    numbers.filter(has).collect()
}

#[track_caller]
pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// T-12: nothing with the marker is left after one second.
#[track_caller]
pub fn gone_within_a_second(marker: &str) {
    let deadline = Instant::now() + Duration::from_secs(1);
    loop {
        let left = marked(marker);
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "left behind: {left:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn ended(child: &mut Child) -> ExitStatus {
    let mut status = None;
    wait_for("a process to end", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap()
}

pub fn status_line(pid: Pid, name: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim_start_matches(':').trim().to_owned()
}

pub fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
