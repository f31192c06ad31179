//! Listing a directory, page by page.
//!
//! Runs in cap-fs, locked. The names are read once, sorted and kept for the pages that follow, so that paging through a
//! large directory is neither quadratic nor torn (T-06). A denied entry is not shown: neither one whose path a rule covers
//! nor one that is another name of a hidden file (T-01).

use crate::files::Files;
use crate::ops_dir::entry;
use crate::spot::Spot;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::fstatat;
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use warden_beneath::errors::{OpError, shown};
use warden_beneath::paths::RelPath;
use warden_beneath::pulse::Pulse;
use warden_beneath::rules::{Standing, Want};
use warden_beneath::tree::Opened;
use warden_beneath::walk::read_names;
use warden_proto::List;
use warden_proto::limits::{ENTRIES_PER_REPLY_MAX, INLINE_MAX_BYTES};
use warden_proto::msg::fs::{Entry, FsReply, HelperTarget};

/// Entries of a directory that can be listed.
pub const LISTED_MAX: usize = 100_000;
/// Bytes that an entry takes in a frame besides its name, at most.
const ENTRY_BYTES: usize = 32;

/// The names of the directory that was listed last, sorted.
#[derive(Debug)]
pub struct Listing {
    inode: (u64, u64),
    path: RelPath,
    names: Vec<Vec<u8>>,
}

impl Files {
    /// `fs.list_dir`.
    pub fn list_dir(&mut self, target: &HelperTarget, after: u32, pulse: &mut dyn Pulse) -> Result<FsReply, OpError> {
        let spot = Spot::of(&self.world, &self.handles, target)?;
        let opened = spot.open(OFlag::O_RDONLY | OFlag::O_DIRECTORY, Want::See)?;
        let inode = (opened.stat.st_dev, opened.stat.st_ino);
        let path = opened.path.clone();
        let kept = self.listing.take().filter(|kept| after > 0 && kept.inode == inode && kept.path == path);
        let listing = match kept {
            Some(listing) => listing,
            None => Listing { inode, path, names: visible_names(&spot, &opened, pulse)? },
        };
        let from = usize::try_from(after).unwrap_or(usize::MAX);
        let mut entries = Vec::new();
        let mut bytes = 0_usize;
        let mut next = from;
        for name in listing.names.iter().skip(from) {
            if entries.len() >= ENTRIES_PER_REPLY_MAX || bytes > INLINE_MAX_BYTES.saturating_sub(1024) {
                break;
            }
            next = next.saturating_add(1);
            let Some(entry) = self.seen(&spot, &opened.fd, &listing.path, name)? else { continue };
            bytes = bytes.saturating_add(entry.name.len()).saturating_add(ENTRY_BYTES);
            entries.push(entry);
        }
        let more = next < listing.names.len();
        let next = if more { u32::try_from(next).unwrap_or(0) } else { 0 };
        let total = u32::try_from(listing.names.len()).unwrap_or(u32::MAX);
        self.listing = more.then_some(listing);
        Ok(FsReply::Entries { entries: List::first(entries), next, total })
    }

    /// One entry; `None` for one that has gone meanwhile, or is hidden under another name.
    fn seen(&self, spot: &Spot<'_>, fd: impl AsFd, dir: &RelPath, name: &[u8]) -> Result<Option<Entry>, OpError> {
        match fstatat(fd, OsStr::from_bytes(name), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) if self.links.hidden(&self.world, &stat) => Ok(None),
            Ok(stat) => Ok(Some(entry(spot.tree, name, &dir.join(name), &stat))),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(OpError::system("look at", &spot.shown)(errno)),
        }
    }
}

fn visible_names(spot: &Spot<'_>, opened: &Opened, pulse: &mut dyn Pulse) -> Result<Vec<Vec<u8>>, OpError> {
    let standing = spot.tree.rules.at(&opened.path);
    let mut names = Vec::new();
    for name in read_names(opened.fd.as_fd(), LISTED_MAX, &spot.shown)? {
        pulse.beat()?;
        if is_visible(spot, &standing, &opened.path, &name.bytes) {
            names.push(name.bytes);
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn is_visible(spot: &Spot<'_>, standing: &Standing, dir: &RelPath, name: &[u8]) -> bool {
    if !spot.tree.rules.may_cover(standing, name) {
        return true;
    }
    let standing = spot.tree.rules.advance(standing, name);
    let path = dir.join(name);
    spot.tree.allow_at(&standing, &path, Want::See, &shown(&spot.tree.label, path.as_bytes())).is_ok()
}

#[cfg(test)]
mod tests;
