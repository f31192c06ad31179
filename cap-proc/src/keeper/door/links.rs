//! Walking where links of some workspace may not be followed (`symlinks = false`).
//!
//! Runs in the keeper. The kernel can walk with all links or with none, and a path may well pass by links of the system on its
//! way to a workspace. So the walk is made without any first, and where one is met it is made again name by name, each name
//! opened in the directory that the last one was: what is opened in the end was reached through no link of such a workspace
//! (T-02). A directory that a command entered by a link has another way to it, by which its files are reached as well.

use super::Door;
use super::place::{Place, Start};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2, readlinkat};
use nix::sys::stat::SFlag;
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use warden_beneath::errors::shown;
use warden_beneath::paths;

/// Links on one path, as the kernel bounds them.
const LINKS_MAX: usize = 40;

impl Door {
    /// Opens a path, as a path only. A link of a workspace that follows none is refused, but for the last name where `flags`
    /// say O_NOFOLLOW.
    pub(super) fn open_past_links(&self, start: &Start, path: &[u8], flags: OFlag) -> nix::Result<OwnedFd> {
        let base = start.base.as_ref().map_or(AT_FDCWD, AsFd::as_fd);
        let none = start.resolve | ResolveFlag::RESOLVE_NO_SYMLINKS;
        match open_path(base, path, flags, none) {
            // Who asked for a walk of its own kind besides is told that there is a link.
            Err(Errno::ELOOP) if start.resolve.is_empty() => {}
            other => return other,
        }
        let mut here = match (&start.base, path.first()) {
            (Some(base), first) if first != Some(&b'/') => base.try_clone().map_err(|_| Errno::ENFILE)?,
            _ => root()?,
        };
        let mut names = split(path);
        let mut links = 0_usize;
        while let Some(name) = names.pop_front() {
            let next = open_path(here.as_fd(), &name, OFlag::O_NOFOLLOW, ResolveFlag::RESOLVE_NO_SYMLINKS)?;
            let is_link = paths::kind(&paths::facts(&next)?) == SFlag::S_IFLNK;
            if !is_link || (names.is_empty() && flags.contains(OFlag::O_NOFOLLOW)) {
                here = next;
                continue;
            }
            self.allow_link(next.as_fd())?;
            links = links.saturating_add(1);
            // A magic link of `/proc` has a text, and leads elsewhere.
            let magic = open_path(here.as_fd(), &name, OFlag::empty(), ResolveFlag::RESOLVE_NO_MAGICLINKS);
            if links > LINKS_MAX || matches!(magic, Err(Errno::ELOOP)) {
                return Err(Errno::ELOOP);
            }
            let text = readlinkat(&next, c"")?.into_vec();
            if text.first() == Some(&b'/') {
                here = root()?;
            }
            let mut further = split(&text);
            further.append(&mut names);
            names = further;
        }
        let kind = paths::kind(&paths::facts(&here)?);
        if flags.contains(OFlag::O_DIRECTORY) && kind != SFlag::S_IFDIR { Err(Errno::ENOTDIR) } else { Ok(here) }
    }

    /// Whether a link may be followed, by the workspaces that it lies in.
    pub(super) fn allow_link(&self, link: BorrowedFd<'_>) -> nix::Result<()> {
        let Place::Beneath(all) = self.place(link)? else { return Ok(()) };
        for inside in &all {
            let tree = self.tree(inside.tree)?;
            if !tree.symlinks {
                self.denials.note(&tree.grant, &shown(&tree.label, inside.path.as_bytes()));
                return Err(Errno::EACCES);
            }
        }
        Ok(())
    }
}

fn root() -> nix::Result<OwnedFd> {
    open_path(AT_FDCWD, b"/", OFlag::O_DIRECTORY, ResolveFlag::empty())
}

fn open_path(base: BorrowedFd<'_>, path: &[u8], flags: OFlag, resolve: ResolveFlag) -> nix::Result<OwnedFd> {
    let how = OpenHow::new().flags(flags | OFlag::O_PATH | OFlag::O_CLOEXEC);
    openat2(base, OsStr::from_bytes(path), how.resolve(resolve | ResolveFlag::RESOLVE_NO_MAGICLINKS))
}

/// Its names; a last `.` where it ends with a slash and so means a directory.
fn split(path: &[u8]) -> VecDeque<Vec<u8>> {
    let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).map(<[u8]>::to_vec);
    let slash = (path.last() == Some(&b'/')).then(|| b".".to_vec());
    names.chain(slash).collect()
}
