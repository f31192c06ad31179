//! The names of a new root while it is built: directories and empty files to mount on.
//!
//! They lie in a file system that the process has just made and attached nowhere that anybody else could see, so a name in it
//! is what it was a moment ago. What is mounted there may be written by others: nothing is made in it, and what lies in it is
//! taken by descriptor only (T-02).

use super::{HANDLE, RootError, step, step_io};
use crate::mounts;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat, mknodat};
use nix::unistd::symlinkat;
use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// Directories that have been made or passed, each once.
pub(super) struct Places {
    device: u64,
    known: BTreeMap<PathBuf, Place>,
}

/// One directory.
struct Place {
    directory: OwnedFd,
    /// It is of the new file system, and not of something that is mounted in it.
    own: bool,
}

impl Places {
    /// Of a file system without anything.
    pub fn of(top: OwnedFd) -> Result<Places, RootError> {
        let root = Path::new("/");
        let facts = fstat(&top).map_err(step("look at", root))?;
        let known = BTreeMap::from([(root.to_owned(), Place { directory: top, own: true })]);
        Ok(Places { device: facts.st_dev, known })
    }

    /// Its top.
    pub fn top(&self) -> Option<BorrowedFd<'_>> {
        self.known.get(Path::new("/")).map(|place| place.directory.as_fd())
    }

    /// Makes a directory, with those above it, where it is not there.
    pub fn make(&mut self, path: &Path) -> Result<(), RootError> {
        self.directory(path).map(drop)
    }

    /// Makes a link.
    pub fn link(&mut self, path: &Path, target: &OsStr) -> Result<(), RootError> {
        let parent = self.directory(path.parent().unwrap_or(Path::new("/")))?;
        let name = path.file_name().unwrap_or_default();
        symlinkat(target, &parent.directory, name).map_err(step("link", path))
    }

    /// Mounts over the directory at `path`, made where it is not there.
    pub fn mount_directory(&mut self, mount: BorrowedFd<'_>, path: &Path) -> Result<(), RootError> {
        let place = self.directory(path)?;
        mounts::attach(mount, place.directory.as_fd()).map_err(step_io("mount", path))?;
        // What was known of it lies beneath the mount from now on.
        self.known.retain(|known, _| !known.starts_with(path));
        Ok(())
    }

    /// Mounts over the file at `path`, made empty where it is not there.
    pub fn mount_file(&mut self, mount: BorrowedFd<'_>, path: &Path) -> Result<(), RootError> {
        let parent = self.directory(path.parent().unwrap_or(Path::new("/")))?;
        let name = path.file_name().unwrap_or_default();
        if !parent.own {
            let place = openat(&parent.directory, name, HANDLE, Mode::empty()).map_err(step("open", path))?;
            return mounts::attach(mount, place.as_fd()).map_err(step_io("mount", path));
        }
        match mknodat(&parent.directory, name, SFlag::S_IFREG, Mode::S_IRUSR, 0) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(step("make", path)(errno)),
        }
        let name = CString::new(name.as_bytes()).map_err(|_| step("name", path)(Errno::EINVAL))?;
        mounts::attach_at(mount, parent.directory.as_fd(), &name).map_err(step_io("mount", path))
    }

    /// The directory at `path`, made where it is not there and its parent is of this file system: never in a workspace.
    fn directory(&mut self, path: &Path) -> Result<&Place, RootError> {
        let mut here = PathBuf::from("/");
        for component in path.components() {
            let Component::Normal(name) = component else { continue };
            let next = here.join(name);
            if !self.known.contains_key(&next) {
                let above = self.known.get(&here).ok_or_else(|| step("find", path)(Errno::ENOENT))?;
                let place = self.enter(above, name, path)?;
                self.known.insert(next.clone(), place);
            }
            here = next;
        }
        self.known.get(&here).ok_or_else(|| step("find", path)(Errno::ENOENT))
    }

    fn enter(&self, above: &Place, name: &OsStr, path: &Path) -> Result<Place, RootError> {
        let fresh = above.own
            && match mkdirat(&above.directory, name, Mode::from_bits_truncate(0o755)) {
                Ok(()) => true,
                Err(Errno::EEXIST) => false,
                Err(errno) => return Err(step("make", path)(errno)),
            };
        let flags = HANDLE.union(OFlag::O_DIRECTORY);
        let directory = openat(&above.directory, name, flags, Mode::empty()).map_err(step("open", path))?;
        let own = fresh || fstat(&directory).map_err(step("look at", path))?.st_dev == self.device;
        Ok(Place { directory, own })
    }
}
