//! Directories and what a path is.
//!
//! Runs in cap-fs, locked.

use crate::files::Files;
use crate::handles::{Handle, OpenDir};
use crate::spot::Spot;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, Mode, SFlag, mkdirat};
use nix::unistd::{UnlinkatFlags, getegid, geteuid};
use std::os::fd::{AsFd, OwnedFd};
use warden_beneath::errors::OpError;
use warden_beneath::paths::{self, RelPath};
use warden_beneath::rules::Want;
use warden_beneath::tree::{ATTEMPTS, Tree};
use warden_proto::Text;
use warden_proto::msg::fs::{Entry, EntryKind, FsReply, HelperTarget};

/// Directories that one call makes. What is made without contents costs a guest one of its `fs_ops`, and so is not to be made by
/// the thousand in one of them (T-06).
const AT_ONCE_MAX: usize = 64;

const DIRECTORY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY);

impl Files {
    /// `fs.open_dir`.
    pub fn open_dir(&mut self, target: &HelperTarget) -> Result<FsReply, OpError> {
        self.handles.room()?;
        let spot = Spot::of(&self.world, &self.handles, target)?;
        let opened = spot.open(DIRECTORY, Want::See)?;
        let dir = OpenDir { fd: opened.fd, tree: spot.index, shown: spot.shown.clone() };
        let handle = self.handles.add(Handle::Dir(dir))?;
        Ok(FsReply::Opened { handle, size_bytes: 0 })
    }

    /// `fs.ensure_dir`.
    pub fn ensure_dir(&mut self, target: &HelperTarget) -> Result<FsReply, OpError> {
        let spot = Spot::of(&self.world, &self.handles, target)?;
        make_directories(&spot)?;
        Ok(FsReply::Done)
    }

    /// `fs.metadata`. Links inside the workspace are followed; one that leads nowhere is described itself.
    pub fn metadata(&mut self, target: &HelperTarget) -> Result<FsReply, OpError> {
        let spot = Spot::of(&self.world, &self.handles, target)?;
        let name = spot.last_name();
        let (path, stat) = match spot.open(OFlag::O_PATH, Want::See) {
            Ok(opened) => (opened.path, opened.stat),
            Err(error) if error.errno() == Some(Errno::ENOENT) => {
                let parent = spot.parent(Want::See)?;
                let link = parent.entry(&spot.shown)?.filter(|stat| paths::kind(stat) == SFlag::S_IFLNK);
                (parent.path, link.ok_or(error)?)
            }
            Err(error) => return Err(error),
        };
        self.links.allow(&self.world, spot.tree, &stat, Want::See, &spot.shown)?;
        Ok(FsReply::Metadata { entry: entry(spot.tree, &name, &path, &stat) })
    }
}

/// Makes a directory and those above it that are missing.
pub fn make_directories(spot: &Spot<'_>) -> Result<(), OpError> {
    match open_directory(spot) {
        Ok(_) => return Ok(()),
        Err(error) if error.errno() == Some(Errno::ENOENT) => {}
        Err(error) => return Err(error),
    }
    let steps = spot.steps();
    if steps.len() > AT_ONCE_MAX {
        return make_few(&steps);
    }
    steps.iter().try_for_each(make_directory)
}

/// The same for a long path, most of which must be there.
fn make_few(steps: &[Spot<'_>]) -> Result<(), OpError> {
    let there = steps.iter().take_while(|step| open_directory(step).is_ok()).count();
    let missing = steps.get(there..).unwrap_or_default();
    if missing.len() > AT_ONCE_MAX {
        return Err(OpError::Limit(format!("more than {AT_ONCE_MAX} directories would have to be made at once")));
    }
    missing.iter().try_for_each(make_directory)
}

/// Opens it as one; what is there is not changed, so reading it is all that must be allowed.
fn open_directory(spot: &Spot<'_>) -> Result<OwnedFd, OpError> {
    spot.open(DIRECTORY, Want::See).map(|opened| opened.fd)
}

fn make_directory(spot: &Spot<'_>) -> Result<(), OpError> {
    for _ in 0..ATTEMPTS {
        match open_directory(spot) {
            Ok(_) => return Ok(()),
            Err(error) if error.errno() == Some(Errno::ENOENT) => {}
            Err(error) => return Err(error),
        }
        let parent = spot.parent(Want::Change)?;
        match mkdirat(&parent.fd, parent.os_name(), Mode::from_bits_truncate(0o755)) {
            Ok(()) => {}
            Err(Errno::EEXIST) => {
                let link = parent.entry(&spot.shown)?.is_some_and(|stat| paths::kind(&stat) == SFlag::S_IFLNK);
                if link {
                    return Err(OpError::Conflict(format!("`{}` is a link that leads to nothing", spot.shown)));
                }
                continue;
            }
            Err(errno) => return Err(OpError::system("make", &spot.shown)(errno)),
        }
        // T-02: judged again by where it came to lie, which also tells a directory that folds case.
        let flags = DIRECTORY | OFlag::O_NOFOLLOW;
        let name = RelPath::default().join(&parent.name);
        let fd = spot.tree.open_beneath(parent.fd.as_fd(), &name, flags, &spot.shown)?;
        let stat = paths::facts(&fd).map_err(OpError::system("look at", &spot.shown))?;
        if let Err(error) = spot.judge_made(fd) {
            parent.undo(&stat, UnlinkatFlags::RemoveDir);
            return Err(error);
        }
        return Ok(());
    }
    Err(OpError::Conflict(format!("`{}` is made and removed by others all the time", spot.shown)))
}

/// What the guest is told about one name. Names that are not UTF-8 are shown with U+FFFD for what is not, and cannot be
/// asked for.
pub fn entry(tree: &Tree, name: &[u8], path: &RelPath, stat: &FileStat) -> Entry {
    let kind = match paths::kind(stat) {
        SFlag::S_IFREG => EntryKind::File,
        SFlag::S_IFDIR => EntryKind::Directory,
        SFlag::S_IFLNK => EntryKind::Symlink,
        _ => EntryKind::Other,
    };
    Entry {
        name: Text::cut(&String::from_utf8_lossy(name)),
        kind,
        size_bytes: (kind == EntryKind::File).then(|| paths::size(stat)),
        modified_ms: modified_ms(stat),
        readonly: !may_write(stat) || tree.allow(path, Want::Change, "").is_err(),
    }
}

fn modified_ms(stat: &FileStat) -> Option<u64> {
    let seconds = u64::try_from(stat.st_mtime).ok()?;
    let rest = u64::try_from(stat.st_mtime_nsec).ok()?.checked_div(1_000_000)?;
    seconds.checked_mul(1000)?.checked_add(rest)
}

/// By owner, group and mode. The helper has no capability, so these decide for root too.
fn may_write(stat: &FileStat) -> bool {
    let bit = if stat.st_uid == geteuid().as_raw() {
        Mode::S_IWUSR
    } else if stat.st_gid == getegid().as_raw() {
        Mode::S_IWGRP
    } else {
        Mode::S_IWOTH
    };
    stat.st_mode & bit.bits() != 0
}

#[cfg(test)]
mod tests;
