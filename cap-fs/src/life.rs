//! The life of cap-fs, its order held by types.

use crate::files::Files;
use crate::serve;
use crate::wire::Wire;
use nix::errno::Errno;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use warden_beneath::paths::OwnPaths;
use warden_beneath::tree::Tree;
use warden_beneath::turns::Turns;
use warden_beneath::world::{TreeError, World};
use warden_jail::descriptors::{self, DescriptorError};
use warden_jail::{GrantKind, Grants, Life, LifeError, Limits, Privileges, Role};
use warden_proto::calls::CallsError;
use warden_proto::greeting::{self, GreetingError};
use warden_proto::msg::fs::FsSetup;
use warden_proto::msg::life::{INHERITED_FD, Locked, Role as ProtoRole};
use warden_proto::{FrameSocket, SocketError, sys};

/// RLIMIT_DATA: names of a walk, denied inodes, a file that a predicate looks at (T-06).
const DATA_BYTES: u64 = 768 * 1024 * 1024;
/// RLIMIT_NOFILE: 256 handles, 64 workspaces, two walks at once, and what one operation opens.
const OPEN_FILES: u64 = 768;

/// cap-fs could not get ready, or its link broke.
#[derive(Debug, thiserror::Error)]
pub enum FsLifeError {
    /// The link, or the broker's first frame, is not what is due.
    #[error(transparent)]
    Greeting(#[from] GreetingError),
    /// A workspace's descriptor did not come.
    #[error("the workspace at descriptor {number}: {errno}")]
    Inherited {
        /// Which.
        number: RawFd,
        /// Why.
        errno: Errno,
    },
    /// A workspace cannot be used as the setup document says.
    #[error("the workspace at descriptor {number}: {source}")]
    Workspace {
        /// Which.
        number: RawFd,
        /// Why.
        source: TreeError,
    },
    /// The file by which the task's moves and walks take turns did not come.
    #[error("the file for turns at descriptor {number}: {errno}")]
    Turns {
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
    Serve(#[from] CallsError),
}

impl FsLifeError {
    /// The status to exit with, one for each way to fail, for who has only that.
    pub fn status(&self) -> u8 {
        match self {
            Self::Greeting(GreetingError::Link(_) | GreetingError::Socket(_)) => 10,
            Self::Greeting(_) | Self::Workspace { source: TreeError::Rule(_), .. } => 11,
            Self::Inherited { .. }
            | Self::Workspace { .. }
            | Self::Turns { .. }
            | Self::OwnPaths(_)
            | Self::Descriptors(_) => 12,
            // `prepare` and `connect` hand their own errors through the jail's.
            Self::Jail(LifeError::Connect { source, .. } | LifeError::Prepare { source, .. }) => {
                source.downcast_ref::<Self>().map_or(13, Self::status)
            }
            Self::Jail(_) => 13,
            Self::Serve(CallsError::Socket(SocketError::System(_))) => 14,
            Self::Serve(_) => 15,
        }
    }
}

/// The whole life.
pub fn live() -> Result<(), FsLifeError> {
    let limits = Limits { data_bytes: Some(DATA_BYTES), open_files: Some(OPEN_FILES), ..Limits::default() };
    let parent = Some(nix::unistd::getppid().as_raw());
    let privileges = Privileges { limits, parent, ..Privileges::default() };
    let life = Life::connect(Role::CapFs, connect)?.prepare(prepare)?.drop_privileges(&privileges)?;
    let open = descriptors::list_descriptors();
    let life = life.lock_down(|_, world| grants(world))?;
    let isolation = life.isolation().clone();
    life.serve(|mut link, world| {
        // Names from the disk are read from here on. The broker hears of the lock once denied files are known.
        let files = Files::new(world);
        let degraded = isolation.degraded.iter().map(String::as_str);
        let locked = Locked::new(isolation.landlock_abi, isolation.seccomp_filters, degraded, &open);
        greeting::say_locked(&mut link, &locked)?;
        Ok(serve::serve(Wire::new(link), files)?)
    })
}

fn connect() -> Result<FrameSocket, FsLifeError> {
    Ok(greeting::connect(ProtoRole::CapFs)?)
}

fn prepare(link: &mut FrameSocket) -> Result<World, FsLifeError> {
    let (setup, []): (FsSetup, _) = greeting::receive_setup(link)?;
    let mut trees = Vec::new();
    let mut numbers = INHERITED_FD..;
    for (workspace, number) in setup.workspaces.into_vec().into_iter().zip(&mut numbers) {
        let root = sys::inherited(number).map_err(|errno| FsLifeError::Inherited { number, errno })?;
        trees.push(Tree::new(workspace, root).map_err(|source| FsLifeError::Workspace { number, source })?);
    }
    let number = numbers.start;
    let failed = |errno| FsLifeError::Turns { number, errno };
    let shared = sys::inherited(number).map_err(failed)?;
    let turns = Turns::open(shared.as_fd()).map_err(failed)?;
    drop(shared);
    crate::check::settle_regex();
    let own = OwnPaths::open().map_err(FsLifeError::OwnPaths)?;
    // T-11: whatever else was inherited is closed; nobody in this process owns it.
    let mut keep = vec![0, 1, 2, link.as_raw_fd(), own.as_fd().as_raw_fd(), turns.number()];
    keep.extend(trees.iter().map(|tree| tree.root.as_raw_fd()));
    descriptors::sweep_descriptors(&keep)?;
    Ok(World { trees, own, growth_rule: setup.growth_rule.into_string(), turns })
}

/// The task's workspaces with their modes: the fence behind the rules (T-01).
fn grants(world: &World) -> Grants<'_> {
    world.trees.iter().fold(Grants::none(), |grants, tree| {
        let kind = if tree.writable { GrantKind::WorkspaceReadWrite } else { GrantKind::WorkspaceReadOnly };
        grants.with(kind, tree.root.as_fd())
    })
}
