//! Where something is made, moved or removed: an opened and judged directory, and one name in it.

use crate::errors::OpError;
use crate::paths::RelPath;
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::os::fd::OwnedFd;

/// A directory that was opened and judged, and a last name in it that was not looked at yet.
#[derive(Debug)]
pub struct Parent {
    /// The directory, O_PATH.
    pub fd: OwnedFd,
    /// The last name.
    pub name: Vec<u8>,
    /// Where a thing of that name lies, or would lie.
    pub path: RelPath,
}

impl Parent {
    /// What has the last name, itself, never what a link of that name leads to.
    pub fn entry(&self, shown: &str) -> Result<Option<FileStat>, OpError> {
        match fstatat(&self.fd, self.os_name(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(OpError::system("look at", shown)(errno)),
        }
    }

    /// The last name, for a system call.
    pub fn os_name(&self) -> &std::ffi::OsStr {
        std::os::unix::ffi::OsStrExt::from_bytes(&self.name)
    }

    /// Takes back what was made here and turned out to lie at a denied place, if it is still there.
    pub fn undo(&self, made: &FileStat, how: UnlinkatFlags) {
        let same = |found: &FileStat| (found.st_dev, found.st_ino) == (made.st_dev, made.st_ino);
        if self.entry("").ok().flatten().is_some_and(|found| same(&found)) {
            // Nothing more can be done if it fails: the caller answers with the denial either way.
            let _ = unlinkat(&self.fd, self.os_name(), how);
        }
    }
}
