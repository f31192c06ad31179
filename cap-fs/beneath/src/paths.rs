//! Paths relative to a workspace's root, as bytes, and the name that the kernel gives to what was opened.
//!
//! Runs in the process that acts. A [`RelPath`] never holds an empty component, `.`, `..` or a slash at either end. [`OwnPaths`] reads
//! `/proc/self/fd` through a descriptor opened before the jail was shut: the text of a link there is the kernel's own word
//! on where the opened thing lies now, whatever links and names led to it (T-02).

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use rustix::fs::StatxFlags;
use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use warden_proto::limits::NAME_MAX_BYTES;

/// A path relative to a workspace's root; empty for the root.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct RelPath(Vec<u8>);

/// Why a text is no path beneath a directory.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
pub enum PathError {
    /// `..`, or it starts at the host's root.
    #[error("leads out of its workspace")]
    Outside,
    /// A component is longer than a name can be.
    #[error("has a component longer than {NAME_MAX_BYTES} bytes")]
    Long,
    /// NUL.
    #[error("holds a NUL character")]
    Nul,
}

impl RelPath {
    /// Takes a relative path, empty components and `.` dropped. The broker normalises before; this does not rely on it.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        if text.starts_with('/') {
            return Err(PathError::Outside);
        }
        let mut path = Self::default();
        for name in text.split('/').filter(|name| !name.is_empty() && *name != ".") {
            if name == ".." {
                return Err(PathError::Outside);
            }
            if name.len() > NAME_MAX_BYTES {
                return Err(PathError::Long);
            }
            if name.contains('\0') {
                return Err(PathError::Nul);
            }
            path.push(name.as_bytes());
        }
        Ok(path)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// For a system call: the root is `.`.
    pub fn as_os(&self) -> &OsStr {
        if self.0.is_empty() { OsStr::new(".") } else { OsStr::from_bytes(&self.0) }
    }

    /// Whether it is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Its components.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/').filter(|name| !name.is_empty())
    }

    /// One name further.
    pub fn join(&self, name: &[u8]) -> Self {
        let mut path = self.clone();
        path.push(name);
        path
    }

    /// All of `below` further.
    pub fn append(&self, below: &Self) -> Self {
        let mut path = self.clone();
        below.names().for_each(|name| path.push(name));
        path
    }

    /// The parent and the last name; nothing for the root.
    pub fn split_last(&self) -> Option<(Self, &[u8])> {
        let name = self.0.rsplit(|b| *b == b'/').next().filter(|name| !name.is_empty())?;
        let rest = self.0.len().saturating_sub(name.len()).saturating_sub(1);
        Some((Self(self.0.get(..rest).unwrap_or_default().to_vec()), name))
    }

    fn push(&mut self, name: &[u8]) {
        if !self.0.is_empty() {
            self.0.push(b'/');
        }
        self.0.extend_from_slice(name);
    }
}

/// What the kernel appends to the name of something that has none any more.
pub const DELETED: &[u8] = b" (deleted)";

/// Reads where an opened thing lies.
#[derive(Debug)]
pub struct OwnPaths {
    table: OwnedFd,
}

impl OwnPaths {
    /// Opens this process's table of descriptors; before lock-down.
    pub fn open() -> nix::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Self { table: open("/proc/self/fd", flags, Mode::empty())? })
    }

    /// Where `fd` lies beneath `root`, both asked now, so that a root that was renamed is right. `None`: not beneath it.
    pub fn beneath(&self, root: BorrowedFd<'_>, fd: BorrowedFd<'_>) -> nix::Result<Option<RelPath>> {
        let root = self.of(root)?;
        let own = self.of(fd)?;
        Ok(below(&root, &own))
    }

    /// The kernel's word on where an opened thing lies. What is on no file system (`pipe:[7]`) does not begin with a slash.
    pub fn of(&self, fd: BorrowedFd<'_>) -> nix::Result<Vec<u8>> {
        readlinkat(&self.table, fd.as_raw_fd().to_string().as_str()).map(OsStringExt::into_vec)
    }
}

/// Where the place `own` lies beneath the place `root`, both as the kernel says them. `None`: not beneath it.
pub fn below(root: &[u8], own: &[u8]) -> Option<RelPath> {
    match own.strip_prefix(root)? {
        below if below.is_empty() || root == b"/" => Some(RelPath(below.to_vec())),
        [b'/', below @ ..] => Some(RelPath(below.to_vec())),
        _ => None,
    }
}

impl AsFd for OwnPaths {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.table.as_fd()
    }
}

/// Whether the name may be the kernel's note that there is no name any more.
pub fn may_be_deleted(path: &RelPath) -> bool {
    path.0.ends_with(DELETED)
}

/// What was opened.
pub fn facts(fd: impl AsFd) -> Result<FileStat, Errno> {
    fstat(fd)
}

/// What judging needs to know of an opened thing, by one question.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// What it is: kind, mode, owner, links, size, device and inode; the rest is not filled in.
    pub stat: FileStat,
    /// The number of the mount that it lies on (Linux 5.8).
    pub mount: u64,
}

impl Facts {
    /// Asks. `blank` is any file's, for the fields that are not filled in.
    pub fn of(fd: BorrowedFd<'_>, blank: &FileStat) -> nix::Result<Self> {
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
        let found = rustix::fs::statx(fd, c"", rustix::fs::AtFlags::EMPTY_PATH, wanted);
        let found = found.map_err(|e| Errno::from_raw(e.raw_os_error()))?;
        let mut stat = *blank;
        stat.st_mode = u32::from(found.stx_mode);
        stat.st_uid = found.stx_uid;
        stat.st_gid = found.stx_gid;
        stat.st_nlink = u64::from(found.stx_nlink);
        stat.st_ino = found.stx_ino;
        stat.st_size = i64::try_from(found.stx_size).unwrap_or(i64::MAX);
        stat.st_dev = rustix::fs::makedev(found.stx_dev_major, found.stx_dev_minor);
        Ok(Self { stat, mount: found.stx_mnt_id })
    }
}

/// The kind bits of a mode.
pub fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

/// Its size; never negative.
pub fn size(stat: &FileStat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_out_is_no_path_and_what_does_not_is_normalised() {
        assert_eq!(RelPath::parse("a/./b//c/").unwrap().as_bytes(), b"a/b/c");
        assert!(RelPath::parse("").unwrap().is_root());
        assert_eq!(RelPath::parse("a/../b"), Err(PathError::Outside));
        assert_eq!(RelPath::parse("/etc/passwd"), Err(PathError::Outside));
        assert_eq!(RelPath::parse("a\0b"), Err(PathError::Nul));
        assert_eq!(RelPath::parse(&"x".repeat(256)), Err(PathError::Long));
        assert!(RelPath::parse(&"x".repeat(255)).is_ok());
    }

    #[test]
    fn the_last_name_comes_off() {
        let path = RelPath::parse("a/b/c").unwrap();
        let (parent, name) = path.split_last().unwrap();
        assert_eq!((parent.as_bytes(), name), (&b"a/b"[..], &b"c"[..]));
        let one = RelPath::parse("a").unwrap();
        let (parent, name) = one.split_last().unwrap();
        assert_eq!((parent.is_root(), name), (true, &b"a"[..]));
        assert!(RelPath::default().split_last().is_none());
    }

    #[test]
    fn an_opened_thing_says_where_it_lies_even_when_the_root_moves() {
        let base = tempfile::tempdir().unwrap();
        let root_path = base.path().join("root");
        std::fs::create_dir_all(root_path.join("a")).unwrap();
        std::fs::write(root_path.join("a/f"), b"x").unwrap();
        std::fs::create_dir(base.path().join("root2")).unwrap();
        let own = OwnPaths::open().unwrap();
        let root = std::fs::File::open(&root_path).unwrap();
        let file = std::fs::File::open(root_path.join("a/f")).unwrap();
        let outside = std::fs::File::open(base.path().join("root2")).unwrap();
        assert_eq!(own.beneath(root.as_fd(), file.as_fd()).unwrap().unwrap().as_bytes(), b"a/f");
        assert_eq!(own.beneath(root.as_fd(), outside.as_fd()).unwrap(), None);
        std::fs::rename(&root_path, base.path().join("elsewhere")).unwrap();
        assert_eq!(own.beneath(root.as_fd(), file.as_fd()).unwrap().unwrap().as_bytes(), b"a/f");
        assert!(own.beneath(root.as_fd(), root.as_fd()).unwrap().unwrap().is_root());
    }
}
