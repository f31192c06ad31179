//! The broker's side of the spawner: processes by name, their start and their end, and the workspaces they inherit.

mod outbox;
#[cfg(test)]
mod tests;

use outbox::Outbox;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{timeout, timeout_at};
use warden_proto::limits::{SPAWN_DEADLINE, SPAWNER_STALL};
use warden_proto::link_a::{Command, Event, Inherit, LinkA, LinkAError, Report};
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
    /// It takes no commands, or too many wait for it.
    #[error("the spawner took no command within {} s; nothing was started, try again with fewer starts at once", SPAWNER_STALL.as_secs())]
    Busy,
    /// It took a command and did not say what came of it.
    #[error("the spawner did not answer within {} s", SPAWN_DEADLINE.as_secs())]
    Silent,
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
    outbox: RefCell<Outbox>,
    /// Something has gone out of the outbox, or nothing ever will.
    moved: Notify,
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
    /// Its command's number in the outbox.
    command: u64,
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
            outbox: RefCell::new(Outbox::new()),
            moved: Notify::new(),
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
            match self.0.link.get_ref().receive::<Report>(false) {
                Ok(Some((report, _))) => {
                    self.0.outbox.borrow_mut().taken(report.taken);
                    report.event.into_iter().for_each(|event| self.dispatch(event));
                    if self.flush().is_err() {
                        break;
                    }
                }
                Ok(None) => match self.0.link.readable().await {
                    Ok(mut ready) => ready.clear_ready(),
                    Err(_) => break,
                },
                Err(_) => break,
            }
        }
        self.lost();
    }

    /// The spawner is gone, and with it everything it made.
    fn lost(&self) {
        self.0.gone.set(true);
        self.0.outbox.borrow_mut().clear();
        self.0.workspaces.borrow_mut().clear();
        for (_, slot) in self.0.children.borrow_mut().drain() {
            let _ = slot.exit.send(Some(ChildExit { code: None, signal: None }));
        }
        self.0.moved.notify_waiters();
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

    /// Sends what the link has room for.
    fn flush(&self) -> Result<(), RuntimeError> {
        let sent = self.0.outbox.borrow_mut().flush(self.0.link.get_ref());
        match sent {
            Ok(true) => self.0.moved.notify_waiters(),
            Ok(false) => {}
            Err(error) => {
                self.lost();
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// Queues a command and sends it if the link has room; never waits.
    fn tell(&self, command: &Command, descriptors: Vec<OwnedFd>) -> Result<u64, RuntimeError> {
        if self.0.gone.get() {
            return Err(RuntimeError::SpawnerGone);
        }
        let number = match command {
            Command::Kill { .. } | Command::Release { .. } => {
                self.0.outbox.borrow_mut().put_always(command, descriptors)?
            }
            _ => self.0.outbox.borrow_mut().put(command, descriptors)?,
        };
        self.flush()?;
        Ok(number)
    }

    /// Waits until a queued command is on its way. T-06: behind a spawner that takes nothing, not for long.
    async fn sent(&self, number: u64) -> Result<(), RuntimeError> {
        loop {
            let moved = self.0.moved.notified();
            if self.0.gone.get() {
                return Err(RuntimeError::SpawnerGone);
            }
            let patience = self.0.outbox.borrow().patience(number);
            let Some(until) = patience else { return Ok(()) };
            if timeout_at(until, moved).await.is_err() && self.0.outbox.borrow().patience(number) == Some(until) {
                self.0.outbox.borrow_mut().withdraw(number);
                return Err(RuntimeError::Busy);
            }
        }
    }

    /// What the spawner says to a command that it was sent.
    async fn heard<T>(
        &self,
        number: u64,
        answer: impl Future<Output = Result<T, oneshot::error::RecvError>>,
    ) -> Result<T, RuntimeError> {
        self.sent(number).await?;
        match timeout(SPAWN_DEADLINE, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(RuntimeError::SpawnerGone),
            Err(_) => Err(RuntimeError::Silent),
        }
    }

    /// Has the spawner open a directory and keep it.
    pub async fn open_workspace(&self, path: &str) -> Result<OpenedWorkspace, RuntimeError> {
        let text = Text::new(path).map_err(|e| RuntimeError::TooMuch(format!("a workspace's path: {e}")))?;
        let id = self.name();
        let (send, receive) = oneshot::channel();
        self.0.workspaces.borrow_mut().insert(id, send);
        let number = self.tell(&Command::OpenWorkspace { id, path: text }, Vec::new())?;
        match self.heard(number, receive).await {
            Ok(Ok(opened)) => Ok(opened),
            Ok(Err(errno)) => {
                Err(RuntimeError::Workspace { path: path.to_owned(), errno: nix::errno::Errno::from_raw(errno) })
            }
            Err(error) => {
                self.0.workspaces.borrow_mut().remove(&id);
                self.release(id);
                Err(error)
            }
        }
    }

    /// Gives the spawner a descriptor for a process to come.
    pub fn hold(&self, fd: OwnedFd) -> Result<Inherit, RuntimeError> {
        let id = self.name();
        self.tell(&Command::Hold { id }, vec![fd])?;
        Ok(Inherit::Held { id })
    }

    /// Forgets a workspace.
    pub fn release(&self, id: u32) {
        let _ = self.tell(&Command::Release { id }, Vec::new());
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
        let command = match self.tell(command, vec![link]) {
            Ok(number) => number,
            Err(error) => {
                self.0.children.borrow_mut().remove(&id);
                return Err(error);
            }
        };
        // From here on a dropped future must end what it asked for.
        let mut child = Child { runtime: self.clone(), id, command, role, pid: 0, exit: exit_seen };
        match self.heard(command, wait).await? {
            Ok(pid) => {
                child.pid = pid;
                Ok(child)
            }
            Err((step, errno)) => {
                Err(RuntimeError::Start { role: role.name(), step, errno: nix::errno::Errno::from_raw(errno) })
            }
        }
    }
}

impl Child {
    /// Kills it; [`Child::exited`] tells when it is gone.
    pub fn kill(&self) {
        let _ = self.runtime.tell(&Command::Kill { child: self.id }, Vec::new());
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
        if self.exit.borrow().is_some() {
            return;
        }
        // What is still queued is never started.
        let withdrawn = self.runtime.0.outbox.borrow_mut().withdraw(self.command);
        if withdrawn {
            self.runtime.0.children.borrow_mut().remove(&self.id);
        } else {
            self.kill();
        }
    }
}
