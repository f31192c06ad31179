//! The life of cap-fs, its order held by types.

use crate::files::Files;
use crate::glob::GlobError;
use crate::paths::{self, OwnPaths};
use crate::rules::Rules;
use crate::serve::{self, ServeError};
use crate::spot::World;
use crate::tree::Tree;
use crate::wire::Wire;
use nix::errno::Errno;
use nix::sys::stat::SFlag;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::Instant;
use warden_jail::descriptors::{self, DescriptorError};
use warden_jail::{GrantKind, Grants, Isolation, Life, LifeError, Limits, Privileges, Role};
use warden_proto::codec::{self, CodecError};
use warden_proto::limits::{HELLO_DEADLINE, SETUP_MAX_BYTES};
use warden_proto::msg::fs::{FsSetup, WorkspaceSetup};
use warden_proto::msg::life::{Hello, INHERITED_FD, LINK_FD, Locked, Role as ProtoRole, Setup};
use warden_proto::{FrameSocket, Kind, List, SocketError, Text, build_id, sys};

/// RLIMIT_DATA: names of a walk, denied inodes, a file that a predicate looks at (T-06).
const DATA_BYTES: u64 = 768 * 1024 * 1024;
/// RLIMIT_NOFILE: 256 handles, 64 workspaces, two walks at once, and what one operation opens.
const OPEN_FILES: u64 = 768;

/// cap-fs could not get ready, or its link broke.
#[derive(Debug, thiserror::Error)]
pub enum FsLifeError {
    /// The link is not descriptor 3.
    #[error("started by wasi-warden's spawner, never by hand: no link at descriptor 3 ({0})")]
    Link(Errno),
    /// The link broke before the jail was shut.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The broker's first frame is not what is due.
    #[error("the broker's first frame is no setup of this build with one document")]
    Setup,
    /// The setup document does not decode.
    #[error("the setup document: {0}")]
    Document(#[from] CodecError),
    /// A rule in it cannot be used.
    #[error("the setup document: {0}")]
    Rule(#[from] GlobError),
    /// A workspace's descriptor did not come, or is no directory.
    #[error("the workspace at descriptor {number}: {errno}")]
    Workspace {
        /// Which.
        number: RawFd,
        /// Why.
        errno: Errno,
    },
    /// The process's own table of descriptors cannot be seen.
    #[error("/proc/self/fd, where opened files say where they lie: {0}")]
    OwnPaths(Errno),
    /// What is not needed could not be closed.
    #[error(transparent)]
    Descriptors(#[from] DescriptorError),
    /// The jail could not be shut.
    #[error(transparent)]
    Jail(#[from] LifeError),
    /// Serving ended by a fault.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

impl FsLifeError {
    /// The status to exit with, one for each way to fail, for who has only that.
    pub fn status(&self) -> u8 {
        match self {
            Self::Link(_) | Self::Socket(_) => 10,
            Self::Setup | Self::Document(_) | Self::Rule(_) => 11,
            Self::Workspace { .. } | Self::OwnPaths(_) | Self::Descriptors(_) => 12,
            // `prepare` and `connect` hand their own errors through the jail's.
            Self::Jail(LifeError::Connect { source, .. } | LifeError::Prepare { source, .. }) => {
                source.downcast_ref::<Self>().map_or(13, Self::status)
            }
            Self::Jail(_) => 13,
            Self::Serve(ServeError::Socket(SocketError::System(_))) => 14,
            Self::Serve(_) => 15,
        }
    }
}

/// What is prepared before the jail is shut.
struct Prepared {
    world: World,
    open: Vec<u32>,
}

/// The whole life.
pub fn live() -> Result<(), FsLifeError> {
    let limits = Limits { data_bytes: Some(DATA_BYTES), open_files: Some(OPEN_FILES), ..Limits::default() };
    let parent = Some(nix::unistd::getppid().as_raw());
    let life = Life::connect(Role::CapFs, connect)?
        .prepare(prepare)?
        .drop_privileges(&Privileges { limits, parent, ..Privileges::default() })?
        .lock_down(|_, prepared| grants(&prepared.world))?;
    let isolation = life.isolation().clone();
    life.serve(|mut link, prepared| {
        // Names from the disk are read from here on. The broker hears of the lock once denied files are known.
        let files = Files::new(prepared.world);
        link.send(Kind::Locked, 0, &locked(&isolation, &prepared.open), &[], true)?;
        Ok(serve::serve(Wire::new(link), files)?)
    })
}

fn connect() -> Result<FrameSocket, FsLifeError> {
    let mut link = FrameSocket::new(sys::inherited(LINK_FD).map_err(FsLifeError::Link)?);
    let hello = Hello { build_id: build_id(), role: ProtoRole::CapFs };
    link.send(Kind::Hello, 0, &hello, &[], true)?;
    Ok(link)
}

fn prepare(link: &mut FrameSocket) -> Result<Prepared, FsLifeError> {
    let setup = receive_setup(link)?;
    let mut trees = Vec::new();
    for (number, workspace) in (INHERITED_FD..).zip(setup.workspaces.into_vec()) {
        trees.push(tree(number, workspace)?);
    }
    crate::check::settle_regex();
    let own = OwnPaths::open().map_err(FsLifeError::OwnPaths)?;
    // T-11: whatever else was inherited is closed; nobody in this process owns it.
    let mut keep = vec![0, 1, 2, link.as_raw_fd(), own.as_fd().as_raw_fd()];
    keep.extend(trees.iter().map(|tree| tree.root.as_raw_fd()));
    descriptors::sweep_descriptors(&keep)?;
    let open = descriptors::list_descriptors().into_iter().filter_map(|n| u32::try_from(n).ok()).collect();
    Ok(Prepared { world: World { trees, own }, open })
}

fn receive_setup(link: &mut FrameSocket) -> Result<FsSetup, FsLifeError> {
    let frame = link.receive(1, Instant::now().checked_add(HELLO_DEADLINE))?;
    if frame.kind != Kind::Setup {
        return Err(FsLifeError::Setup);
    }
    let setup: Setup = frame.decode()?;
    if setup.build_id != build_id() || setup.descriptors != 0 {
        return Err(FsLifeError::Setup);
    }
    let [document] = <[OwnedFd; 1]>::try_from(frame.descriptors).map_err(|_| FsLifeError::Setup)?;
    let stat = paths::facts(&document).map_err(|_| FsLifeError::Setup)?;
    let len = usize::try_from(setup.document_len).map_err(|_| FsLifeError::Setup)?;
    // T-05: its size is asked of the descriptor before anything is allocated, and must be what was said.
    if paths::kind(&stat) != SFlag::S_IFREG
        || paths::size(&stat) != u64::from(setup.document_len)
        || len > SETUP_MAX_BYTES
    {
        return Err(FsLifeError::Setup);
    }
    let mut timer = crate::pulse::Timer::lasting(HELLO_DEADLINE);
    let bytes = crate::content::read_at(&document, 0, len, "setup", &mut timer).map_err(|_| FsLifeError::Setup)?;
    Ok(codec::decode_document(&bytes)?)
}

fn tree(number: RawFd, setup: WorkspaceSetup) -> Result<Tree, FsLifeError> {
    let failed = |errno| FsLifeError::Workspace { number, errno };
    let root = sys::inherited(number).map_err(failed)?;
    if paths::kind(&paths::facts(&root).map_err(failed)?) != SFlag::S_IFDIR {
        return Err(failed(Errno::ENOTDIR));
    }
    Ok(Tree {
        label: setup.label.into_string(),
        writable: setup.writable,
        symlinks: setup.symlinks,
        max_file_bytes: setup.max_file_bytes,
        rules: Rules::parse(&setup.rules)?,
        grant: setup.rule.into_string(),
        root,
    })
}

/// The task's workspaces with their modes: the fence behind the rules (T-01).
fn grants(world: &World) -> Grants<'_> {
    world.trees.iter().fold(Grants::none(), |grants, tree| {
        let kind = if tree.writable { GrantKind::WorkspaceReadWrite } else { GrantKind::WorkspaceReadOnly };
        grants.with(kind, tree.root.as_fd())
    })
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
