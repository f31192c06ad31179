//! A bounded walk of a directory and all beneath it, on one file system, following no link.
//!
//! Runs in the process that acts. Used to find denied inodes, to look before a recursive removal or a move, and to remove. Each level is
//! opened from the one above it by one name, so nothing that is swapped in meanwhile can lead the walk elsewhere (T-02);
//! depth, names held and entries seen are bounded (T-06).

use crate::errors::{OpError, shown};
use crate::paths::{self, OwnPaths, RelPath};
use crate::pulse::Pulse;
use crate::rules::Standing;
use crate::tree::Tree;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{SFlag, fstatat};
use nix::unistd::geteuid;
use rustix::fs::{FileType, RawDir};
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// Deepest level; each holds a descriptor.
const DEPTH_MAX: usize = 128;
/// Names held at once, over all levels.
const NAMES_HELD_MAX: usize = 200_000;
/// Entries that a walk sees.
const ENTRIES_MAX: usize = 1_000_000;

/// What one `getdents64` fills; room for many of the longest names.
const DIRECTORY_BUFFER_BYTES: usize = 32 * 1024;

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Whether the directory says that it is a directory; `None` where it does not say.
    pub is_dir: Option<bool>,
}

/// One level of a walk.
#[derive(Debug)]
pub struct Level {
    fd: OwnedFd,
    names: std::vec::IntoIter<Name>,
    /// Where it lies.
    pub path: RelPath,
    /// What the rules say there.
    pub standing: Standing,
    name: Vec<u8>,
}

/// What a walk came upon.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Something that is no directory, in the current level.
    Found {
        /// Its name.
        name: Vec<u8>,
    },
    /// A directory, which is the current level now.
    Entered,
    /// The end of a directory of this name; the one above is the current level again.
    Left {
        /// Its name.
        name: Vec<u8>,
    },
}

/// A walk.
#[derive(Debug)]
pub struct Walk<'w> {
    tree: &'w Tree,
    /// Where a place is checked again at every level.
    own: Option<&'w OwnPaths>,
    levels: Vec<Level>,
    seen: usize,
    held: usize,
    /// A directory was not entered that nobody but us, or whom we act for, can have shut.
    shut: bool,
}

impl<'w> Walk<'w> {
    /// Begins at a directory that was opened for reading and judged. With `own`, every level must lie where the walk
    /// thinks it does.
    pub fn new(tree: &'w Tree, own: Option<&'w OwnPaths>, fd: OwnedFd, path: RelPath) -> Result<Self, OpError> {
        let mut walk = Self { tree, own, levels: Vec::new(), seen: 0, held: 0, shut: false };
        let standing = tree.rules.at(&path);
        walk.push(fd, path, standing, Vec::new())?;
        Ok(walk)
    }

    /// The directory where the walk is.
    pub fn here(&self) -> Option<&Level> {
        self.levels.last()
    }

    /// Whether a directory of our own user's was shut to the walk, by its mode: what lies in it may be anything.
    pub fn met_shut(&self) -> bool {
        self.shut
    }

    /// The next step, or the end. After an error the walk may go on with what follows.
    pub fn next(&mut self, pulse: &mut dyn Pulse) -> Result<Option<Step>, OpError> {
        pulse.beat()?;
        let Some(level) = self.levels.last_mut() else { return Ok(None) };
        let Some(name) = level.names.next() else {
            let left = self.levels.pop().map(|level| level.name).unwrap_or_default();
            return Ok(if self.levels.is_empty() { None } else { Some(Step::Left { name: left }) });
        };
        self.held = self.held.saturating_sub(1);
        if name.is_dir != Some(false) {
            let is_dir = match name.is_dir {
                Some(known) => known,
                None => is_directory(level.fd.as_fd(), &name.bytes, &shown(&self.tree.label, level.path.as_bytes()))?,
            };
            if is_dir {
                self.enter(name.bytes)?;
                return Ok(Some(Step::Entered));
            }
        }
        Ok(Some(Step::Found { name: name.bytes }))
    }

    fn enter(&mut self, name: Vec<u8>) -> Result<(), OpError> {
        let Some(level) = self.levels.last() else { return Ok(()) };
        let path = level.path.join(&name);
        let text = shown(&self.tree.label, path.as_bytes());
        if self.levels.len() >= DEPTH_MAX {
            return Err(OpError::Limit(format!("`{text}` lies more than {DEPTH_MAX} directories deep")));
        }
        let standing = self.tree.rules.advance(&level.standing, &name);
        let opened = open_level(level.fd.as_fd(), &name);
        if matches!(opened, Err(Errno::EACCES | Errno::EPERM)) {
            let stat = fstatat(level, OsStr::from_bytes(&name), AtFlags::AT_SYMLINK_NOFOLLOW);
            self.shut |= stat.map_or(true, |stat| stat.st_uid == geteuid().as_raw());
        }
        let fd = opened.map_err(|errno| match errno {
            Errno::EXDEV => OpError::denied(&self.tree.grant, &text, "is another file system"),
            other => OpError::system("open", &text)(other),
        })?;
        if let Some(own) = self.own {
            let stat = paths::facts(&fd).map_err(OpError::system("look at", &text))?;
            if self.tree.own_path(own, fd.as_fd(), &stat, &text)? != path {
                return Err(OpError::Conflict(format!("`{text}` was moved meanwhile")));
            }
        }
        self.push(fd, path, standing, name)
    }

    fn push(&mut self, fd: OwnedFd, path: RelPath, standing: Standing, name: Vec<u8>) -> Result<(), OpError> {
        let text = shown(&self.tree.label, path.as_bytes());
        let names = read_names(fd.as_fd(), NAMES_HELD_MAX.saturating_sub(self.held), &text)?;
        self.held = self.held.saturating_add(names.len());
        self.seen = self.seen.saturating_add(names.len());
        if self.seen > ENTRIES_MAX {
            return Err(OpError::Limit(format!("there are more than {ENTRIES_MAX} entries beneath `{text}`")));
        }
        self.levels.push(Level { fd, names: names.into_iter(), path, standing, name });
        Ok(())
    }
}

impl AsFd for Level {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A directory of this name, itself, on this file system.
fn open_level(dir: BorrowedFd<'_>, name: &[u8]) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let resolve = ResolveFlag::RESOLVE_BENEATH
        | ResolveFlag::RESOLVE_NO_SYMLINKS
        | ResolveFlag::RESOLVE_NO_MAGICLINKS
        | ResolveFlag::RESOLVE_NO_XDEV;
    openat2(dir, OsStr::from_bytes(name), OpenHow::new().flags(flags).resolve(resolve))
}

fn is_directory(dir: BorrowedFd<'_>, name: &[u8], shown: &str) -> Result<bool, OpError> {
    let stat = fstatat(dir, OsStr::from_bytes(name), AtFlags::AT_SYMLINK_NOFOLLOW);
    Ok(paths::kind(&stat.map_err(OpError::system("look at", shown))?) == SFlag::S_IFDIR)
}

/// All names of a directory but its own two, at most `max` of them. The directory was just opened: it is read from where
/// its descriptor stands.
///
/// `getdents64` alone, not libc's directory stream, which would make calls that the filter does not allow.
pub fn read_names(fd: BorrowedFd<'_>, max: usize, shown: &str) -> Result<Vec<Name>, OpError> {
    let mut buffer = Vec::with_capacity(DIRECTORY_BUFFER_BYTES);
    let mut entries = RawDir::new(fd, buffer.spare_capacity_mut());
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(|e| OpError::system("list", shown)(Errno::from_raw(e.raw_os_error())))?;
        let bytes = entry.file_name().to_bytes();
        if bytes == b"." || bytes == b".." {
            continue;
        }
        if names.len() >= max {
            return Err(OpError::Limit(format!("`{shown}` has more than {max} entries")));
        }
        let is_dir = match entry.file_type() {
            FileType::Unknown => None,
            kind => Some(kind == FileType::Directory),
        };
        names.push(Name { bytes: bytes.to_vec(), is_dir });
    }
    Ok(names)
}
