//! Directories and descriptors that the broker named ahead of the processes that will inherit them.
//!
//! The spawner opens a workspace once, O_PATH; every helper of the task gets that same directory, so one that is replaced
//! later by a link or another directory changes nothing (T-02). The broker never holds it.

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, readlink};
use nix::sys::stat::{Mode, fstat};
use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};
use warden_proto::Text;
use warden_proto::link_a::{Event, Inherit};

/// What has been named, by the broker's ids.
#[derive(Debug, Default)]
pub struct Workspaces {
    directories: HashMap<u32, OwnedFd>,
    held: HashMap<u32, OwnedFd>,
}

impl Workspaces {
    /// Opens a directory and says which it is.
    pub fn open(&mut self, id: u32, path: &str) -> Event {
        match self.try_open(id, path) {
            Ok(event) => event,
            Err(errno) => Event::WorkspaceFailed { id, errno: errno as i32 },
        }
    }

    fn try_open(&mut self, id: u32, path: &str) -> nix::Result<Event> {
        let fd = open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        let facts = fstat(&fd)?;
        let name = readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()).as_str())?;
        let path = Text::new(name.to_str().ok_or(Errno::EILSEQ)?).map_err(|_| Errno::ENAMETOOLONG)?;
        self.directories.insert(id, fd);
        Ok(Event::WorkspaceOpened { id, dev: facts.st_dev, ino: facts.st_ino, uid: facts.st_uid, path })
    }

    /// Keeps a descriptor for a process to come.
    pub fn hold(&mut self, id: u32, fd: OwnedFd) {
        self.held.insert(id, fd);
    }

    /// Forgets an id.
    pub fn release(&mut self, id: u32) {
        self.directories.remove(&id);
        self.held.remove(&id);
    }

    /// The descriptor that `inherit` names; a held one is used up.
    pub fn take(&mut self, inherit: Inherit) -> nix::Result<OwnedFd> {
        match inherit {
            Inherit::Workspace { id } => {
                self.directories.get(&id).ok_or(Errno::EBADF)?.try_clone().map_err(|_| Errno::EMFILE)
            }
            Inherit::Held { id } => self.held.remove(&id).ok_or(Errno::EBADF),
            // Made with the process, and by `groups.rs`.
            Inherit::Group => Err(Errno::EBADF),
        }
    }
}
