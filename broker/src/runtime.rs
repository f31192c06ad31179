//! The broker's side of the spawner: processes by name, their start and their end, and the workspaces they inherit.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{oneshot, watch};
use warden_proto::link_a::{Command, Event, Inherit, LinkA, LinkAError};
use warden_proto::msg::life::Role;
use warden_proto::{List, Text};

/// Something the spawner was asked for did not happen.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// Link A broke: nothing can be started any more.
    #[error("the spawner is gone; nothing can be started any more")]
    SpawnerGone,
    /// Link A failed.
    #[error(transparent)]
    Link(#[from] LinkAError),
    /// A process could not be started.
    #[error("{role} could not be started: {step}: {errno}")]
    Start {
        /// Which.
        role: &'static str,
        /// The step that failed.
        step: String,
        /// Why.
        errno: nix::errno::Errno,
    },
    /// A workspace could not be opened.
    #[error("workspace {path} could not be opened: {errno}")]
    Workspace {
        /// Its path.
        path: String,
        /// Why.
        errno: nix::errno::Errno,
    },
    /// More than a message holds.
    #[error("{0}")]
    TooMuch(String),
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChildExit {
    /// Its status.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
}

/// A workspace that the spawner holds open.
#[derive(Debug, Clone)]
pub struct OpenedWorkspace {
    /// The broker's name for it.
    pub id: u32,
    /// Device and inode.
    pub identity: (u64, u64),
    /// Its owner.
    pub uid: u32,
    /// Where it is, by the kernel.
    pub path: String,
}

struct ChildSlot {
    started: Option<oneshot::Sender<Result<u32, (String, i32)>>>,
    exit: watch::Sender<Option<ChildExit>>,
}

type OpenSender = oneshot::Sender<Result<OpenedWorkspace, i32>>;

struct Inner {
    link: AsyncFd<LinkA>,
    children: RefCell<HashMap<u32, ChildSlot>>,
    workspaces: RefCell<HashMap<u32, OpenSender>>,
    next: Cell<u32>,
    gone: Cell<bool>,
}

/// The spawner, as the broker uses it. Cheap to clone; one thread.
#[derive(Clone)]
pub struct Runtime(Rc<Inner>);

/// A process that was started, by role and name. Dropping it kills it.
pub struct Child {
    runtime: Runtime,
    id: u32,
    /// What it is.
    pub role: Role,
    /// Its process id, for the log.
    pub pid: u32,
    exit: watch::Receiver<Option<ChildExit>>,
}

impl Runtime {
    /// Takes the broker's end of link A. Must be called in a `LocalSet`.
    #[allow(deprecated, reason = "the replacement is unsafe; a LinkA owns its lane and never changes it")]
    pub fn new(link: LinkA) -> Result<Self, RuntimeError> {
        let link = AsyncFd::with_interest(link, Interest::READABLE)
            .map_err(|e| RuntimeError::Link(LinkAError::Channel(e.to_string())))?;
        let runtime = Self(Rc::new(Inner {
            link,
            children: RefCell::default(),
            workspaces: RefCell::default(),
            next: Cell::new(1),
            gone: Cell::new(false),
        }));
        let events = runtime.clone();
        tokio::task::spawn_local(async move { events.pump().await });
        Ok(runtime)
    }

    async fn pump(&self) {
        loop {
            match self.0.link.get_ref().receive::<Event>(false) {
                Ok(Some((event, _))) => self.dispatch(event),
                Ok(None) => match self.0.link.readable().await {
                    Ok(mut ready) => ready.clear_ready(),
                    Err(_) => break,
                },
                Err(_) => break,
            }
        }
        self.0.gone.set(true);
        self.0.workspaces.borrow_mut().clear();
        for (_, slot) in self.0.children.borrow_mut().drain() {
            let _ = slot.exit.send(Some(ChildExit { code: None, signal: None }));
        }
    }

    fn dispatch(&self, event: Event) {
        match event {
            Event::WorkspaceOpened { id, dev, ino, uid, path } => {
                if let Some(waiting) = self.0.workspaces.borrow_mut().remove(&id) {
                    let path = path.into_string();
                    let _ = waiting.send(Ok(OpenedWorkspace { id, identity: (dev, ino), uid, path }));
                }
            }
            Event::WorkspaceFailed { id, errno } => {
                if let Some(waiting) = self.0.workspaces.borrow_mut().remove(&id) {
                    let _ = waiting.send(Err(errno));
                }
            }
            Event::Started { child, pid } => self.started(child, Ok(pid)),
            Event::StartFailed { child, step, errno } => {
                self.started(child, Err((step.into_string(), errno)));
                self.0.children.borrow_mut().remove(&child);
            }
            Event::Exited { child, code, signal } => {
                if let Some(slot) = self.0.children.borrow_mut().remove(&child) {
                    let _ = slot.exit.send(Some(ChildExit { code, signal }));
                }
            }
        }
    }

    fn started(&self, child: u32, result: Result<u32, (String, i32)>) {
        if let Some(slot) = self.0.children.borrow_mut().get_mut(&child)
            && let Some(waiting) = slot.started.take()
        {
            let _ = waiting.send(result);
        }
    }

    fn name(&self) -> u32 {
        let id = self.0.next.get();
        self.0.next.set(id.wrapping_add(1).max(1));
        id
    }

    fn tell(&self, command: &Command, descriptors: &[std::os::fd::BorrowedFd<'_>]) -> Result<(), RuntimeError> {
        if self.0.gone.get() {
            return Err(RuntimeError::SpawnerGone);
        }
        Ok(self.0.link.get_ref().send(command, descriptors)?)
    }

    /// Has the spawner open a directory and keep it.
    pub async fn open_workspace(&self, path: &str) -> Result<OpenedWorkspace, RuntimeError> {
        let id = self.name();
        let (send, receive) = oneshot::channel();
        self.0.workspaces.borrow_mut().insert(id, send);
        let text = Text::new(path).map_err(|e| RuntimeError::TooMuch(format!("a workspace's path: {e}")))?;
        self.tell(&Command::OpenWorkspace { id, path: text }, &[])?;
        match receive.await {
            Ok(Ok(opened)) => Ok(opened),
            Ok(Err(errno)) => {
                Err(RuntimeError::Workspace { path: path.to_owned(), errno: nix::errno::Errno::from_raw(errno) })
            }
            Err(_) => Err(RuntimeError::SpawnerGone),
        }
    }

    /// Gives the spawner a descriptor for a process to come.
    pub fn hold(&self, fd: OwnedFd) -> Result<Inherit, RuntimeError> {
        let id = self.name();
        self.tell(&Command::Hold { id }, &[fd.as_fd()])?;
        Ok(Inherit::Held { id })
    }

    /// Forgets a workspace.
    pub fn release(&self, id: u32) {
        let _ = self.tell(&Command::Release { id }, &[]);
    }

    /// Forks a worker whose link is `link`.
    pub async fn fork_worker(&self, link: OwnedFd) -> Result<Child, RuntimeError> {
        let child = self.name();
        self.start(Role::Worker, child, &Command::ForkWorker { child }, link).await
    }

    /// Executes a helper or compiler whose link is `link`.
    pub async fn exec(&self, role: Role, link: OwnedFd, inherit: Vec<Inherit>) -> Result<Child, RuntimeError> {
        let child = self.name();
        let inherit = List::new(inherit).map_err(|e| RuntimeError::TooMuch(format!("descriptors of a helper: {e}")))?;
        self.start(role, child, &Command::Exec { child, role, inherit }, link).await
    }

    async fn start(&self, role: Role, id: u32, command: &Command, link: OwnedFd) -> Result<Child, RuntimeError> {
        let (started, wait) = oneshot::channel();
        let (exit, exit_seen) = watch::channel(None);
        self.0.children.borrow_mut().insert(id, ChildSlot { started: Some(started), exit });
        self.tell(command, &[link.as_fd()])?;
        drop(link);
        // From here on a dropped future must kill what it asked for.
        let mut child = Child { runtime: self.clone(), id, role, pid: 0, exit: exit_seen };
        match wait.await {
            Ok(Ok(pid)) => {
                child.pid = pid;
                Ok(child)
            }
            Ok(Err((step, errno))) => {
                Err(RuntimeError::Start { role: role.name(), step, errno: nix::errno::Errno::from_raw(errno) })
            }
            Err(_) => Err(RuntimeError::SpawnerGone),
        }
    }
}

impl Child {
    /// Kills it; [`Child::exited`] tells when it is gone.
    pub fn kill(&self) {
        let _ = self.runtime.tell(&Command::Kill { child: self.id }, &[]);
    }

    /// Waits for its end.
    pub async fn exited(&mut self) -> ChildExit {
        match self.exit.wait_for(Option::is_some).await {
            Ok(exit) => exit.unwrap_or(ChildExit { code: None, signal: None }),
            Err(_) => ChildExit { code: None, signal: None },
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.exit.borrow().is_none() {
            self.kill();
        }
    }
}
