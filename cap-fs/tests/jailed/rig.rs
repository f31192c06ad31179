//! Starts cap-fs the way the spawner does and speaks to it the way the broker does.

use command_fds::{CommandFdExt, FdMapping};
use nix::fcntl::{OFlag, open};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::Mode;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use warden_proto::blob::{self, Body, Inbox};
use warden_proto::msg::error::{CallError, ErrorCode};
use warden_proto::msg::fs::*;
use warden_proto::msg::life::{Hello, Locked, Role, Setup};
use warden_proto::{Bytes, Frame, FrameSocket, Kind, List, SocketError, Text, build_id, codec, socket};

pub const PATIENCE: Duration = Duration::from_secs(20);

/// A directory with workspaces in it and room beside them.
pub struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("w0")).unwrap();
        std::fs::create_dir(dir.path().join("outside")).unwrap();
        Self { dir }
    }

    pub fn inside(&self, path: &str) -> PathBuf {
        self.dir.path().join("w0").join(path)
    }

    pub fn outside(&self, path: &str) -> PathBuf {
        self.dir.path().join("outside").join(path)
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A helper for the one workspace with these deny rules.
    pub fn helper(&self, deny: &[(&str, RuleKind)]) -> Helper {
        Helper::start(&[(self.inside(""), workspace(deny))], None)
    }
}

pub fn workspace(rules: &[(&str, RuleKind)]) -> WorkspaceSetup {
    let rule = |(n, (glob, kind)): (usize, &(&str, RuleKind))| PathRuleSetup {
        glob: Text::new(*glob).unwrap(),
        kind: *kind,
        rule: Text::new(format!("rule[{n}]")).unwrap(),
    };
    WorkspaceSetup {
        label: Text::new("repo").unwrap(),
        writable: true,
        symlinks: true,
        max_file_bytes: 10 << 20,
        max_file_rule: Text::new("max_file").unwrap(),
        rules: List::new(rules.iter().enumerate().map(rule).collect()).unwrap(),
        rule: Text::new("grant").unwrap(),
    }
}

/// A process that ends with its owner.
pub struct Process(pub Child);

/// A started process before its setup.
pub struct Born {
    pub link: FrameSocket,
    pub child: Process,
}

pub struct Helper {
    pub link: FrameSocket,
    pub child: Process,
    pub locked: Locked,
    inbox: Inbox,
    next: u32,
}

/// Executes the binary with the link as 3 and `inherit` from 4 on.
pub fn bear(inherit: &[OwnedFd], user: Option<u32>) -> Born {
    let (ours, theirs) = socket::pair().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_cap-fs"));
    command.env_clear().current_dir("/").stdin(Stdio::null()).stdout(Stdio::null());
    if let Some(user) = user {
        // Its other groups go with root.
        command.uid(user).gid(user);
    }
    let passed = [theirs].into_iter().chain(inherit.iter().map(|fd| fd.try_clone().unwrap()));
    // And one that nobody told the helper about: it must be gone before it locks.
    let untold = std::fs::File::open("/dev/null").unwrap().into();
    let mappings = (3..).zip(passed).chain([(77, untold)]);
    let mappings = mappings.map(|(child_fd, parent_fd)| FdMapping { parent_fd, child_fd }).collect();
    command.fd_mappings(mappings).unwrap();
    let child = Process(command.spawn().unwrap());
    Born { link: FrameSocket::new(ours), child }
}

pub fn directory(path: &Path) -> OwnedFd {
    open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).unwrap()
}

/// What moves and walks take turns by.
pub fn turns() -> OwnedFd {
    memfd_create("turns", MFdFlags::MFD_CLOEXEC).unwrap()
}

pub fn document(bytes: &[u8]) -> OwnedFd {
    let fd = memfd_create("setup", MFdFlags::MFD_CLOEXEC).unwrap();
    std::fs::File::from(fd.try_clone().unwrap()).write_all(bytes).unwrap();
    fd
}

impl Born {
    pub fn hello(&mut self) -> Hello {
        let frame = self.link.receive(0, Some(Instant::now() + PATIENCE)).unwrap();
        assert_eq!(frame.kind, Kind::Hello);
        frame.decode().unwrap()
    }

    pub fn setup(&mut self, setup: &Setup, document: &OwnedFd) {
        self.link.send(Kind::Setup, 0, setup, &[document.as_fd()], true).unwrap();
    }

    pub fn status(mut self) -> ExitStatus {
        self.child.0.wait().unwrap()
    }
}

impl Helper {
    pub fn start(workspaces: &[(PathBuf, WorkspaceSetup)], user: Option<u32>) -> Self {
        let directories = workspaces.iter().map(|(path, _)| directory(path));
        let inherit: Vec<OwnedFd> = directories.chain([turns()]).collect();
        let mut born = bear(&inherit, user);
        let hello = born.hello();
        assert_eq!((hello.build_id, hello.role), (build_id(), Role::CapFs));
        let list = List::new(workspaces.iter().map(|(_, setup)| setup.clone()).collect()).unwrap();
        let bytes = codec::encode(&FsSetup { task: [7; 16], workspaces: list, growth_rule: Text::default() }).unwrap();
        let document_len = u32::try_from(bytes.len()).unwrap();
        born.setup(&Setup { build_id: build_id(), document_len, descriptors: 0 }, &document(&bytes));
        let frame = match born.link.receive(0, Some(Instant::now() + PATIENCE)) {
            Ok(frame) => frame,
            Err(error) => panic!("no lock: {error}, {:?}", born.status()),
        };
        assert_eq!(frame.kind, Kind::Locked);
        let Born { link, child } = born;
        Self { link, child, locked: frame.decode().unwrap(), inbox: Inbox::default(), next: 0 }
    }

    pub fn send(&mut self, call: &FsHelperCall) -> u32 {
        self.next += 1;
        let order = FsOrder { call: call.clone(), growth_max: u64::MAX };
        self.link.send(Kind::Call, self.next, &order, &[], true).unwrap();
        self.next
    }

    pub fn receive(&mut self) -> Result<Frame, SocketError> {
        loop {
            let frame = self.link.receive(0, Some(Instant::now() + PATIENCE))?;
            if frame.kind != Kind::Part {
                return Ok(frame);
            }
            self.inbox.put(frame.decode().unwrap()).unwrap();
        }
    }

    pub fn call(&mut self, call: FsHelperCall) -> FsHelperReply {
        let request = self.send(&call);
        let frame = self.receive().unwrap();
        assert_eq!((frame.kind, frame.request), (Kind::Reply, request));
        frame.decode().unwrap()
    }

    pub fn read(&mut self, path: &str) -> Result<Vec<u8>, CallError> {
        match self.call(FsCall::ReadFile { target: at(path), offset: 0, max_bytes: 1 << 20 })? {
            FsReply::Content { contents, .. } => Ok(self.inbox.take(contents).unwrap()),
            other => panic!("{other:?}"),
        }
    }

    pub fn write(&mut self, path: &str, contents: &[u8]) -> FsHelperReply {
        self.next += 1;
        let contents = blob::send(&mut self.link, self.next, contents.to_vec(), 8192).unwrap();
        self.call(FsCall::WriteFile { target: at(path), contents, append: false, parents: false })
    }

    pub fn open(&mut self, path: &str, flags: OpenFlags) -> Result<u32, CallError> {
        match self.call(FsCall::OpenFile { target: at(path), flags })? {
            FsReply::Opened { handle, .. } => Ok(handle),
            other => panic!("{other:?}"),
        }
    }

    pub fn status(mut self) -> ExitStatus {
        self.child.0.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn at(path: &str) -> HelperTarget {
    HelperTarget::Workspace { workspace: 0, path: Text::new(path).unwrap() }
}

pub fn inline(bytes: &[u8]) -> Body {
    Body::Inline { bytes: Bytes::new(bytes.to_vec()).unwrap() }
}

#[track_caller]
pub fn denied_by<T: std::fmt::Debug>(result: Result<T, CallError>) -> String {
    let error = result.expect_err("allowed");
    assert_eq!(error.code, ErrorCode::Denied, "{error:?}");
    error.rule.as_str().to_owned()
}
