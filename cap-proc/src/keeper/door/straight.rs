//! Paths that say by their text alone where they lead: most of those that are read.
//!
//! Runs in the keeper. A path without `..`, made absolute by the kernel's word on where its caller stands, is walked from the
//! workspace's own directory through no link and onto no other mount. What is opened so lies where the text says, and nobody
//! needs to be asked where that is. Whatever else it is (a link on the way, a name that is not there any more, a special
//! file) is left to [`super::place`], which asks (T-02).

use super::Door;
use super::caller::Caller;
use super::place::{Found, Place, within};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::SFlag;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use warden_beneath::paths;

/// Directories in which a keeper finds other things than its command, or devices.
const NOT_PLAIN: [&[u8]; 2] = [b"/proc", b"/dev"];

impl Door {
    /// Opens a path to be read. `number` is where it begins, unless it is absolute; `flags` wait for nobody. `None` where its
    /// text alone does not say what it leads to.
    pub(super) fn straight(
        &self,
        caller: &Caller<'_>,
        number: i32,
        path: &[u8],
        flags: OFlag,
    ) -> nix::Result<Option<Found>> {
        let relative = path.first() != Some(&b'/');
        let stands = if relative { Some(self.threads.place(caller.thread(), number)?) } else { None };
        let Some(whole) = whole(stands.as_deref().unwrap_or_default(), path, flags.contains(OFlag::O_DIRECTORY)) else {
            return Ok(None);
        };
        let Some((place, opened)) = self.open_straight(whole, flags) else { return Ok(None) };
        match opened {
            Ok(fd) => {
                let stat = paths::facts(&fd)?;
                let found = Found { fd, stat, place };
                Ok(matches!(found.kind(), SFlag::S_IFREG | SFlag::S_IFDIR).then_some(found))
            }
            // Unless the directory where it begins was moved meanwhile, this is the last word.
            Err(none @ (Errno::ENOENT | Errno::ENOTDIR)) => match relative {
                true if self.threads.place(caller.thread(), number).ok() != stands => Ok(None),
                _ => Err(none),
            },
            Err(_) => Ok(None),
        }
    }

    /// `None` where the place cannot be told without asking.
    fn open_straight(&self, whole: Vec<u8>, flags: OFlag) -> Option<(Place, nix::Result<OwnedFd>)> {
        let resolve = ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        match within(&self.roots, &whole) {
            Some(Place::Beneath(all)) => {
                // Two workspaces may come to lie in each other where nothing holds them.
                let innermost = all.first().filter(|_| self.held || self.roots.len() == 1)?;
                let (root, path) = (self.tree(innermost.tree).ok()?.root.as_fd(), innermost.path.clone());
                let resolve = resolve | ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_XDEV;
                Some((Place::Beneath(all), open_once(root, path.as_os(), flags, resolve)))
            }
            _ => {
                let apart = NOT_PLAIN.iter().any(|other| paths::below(other, &whole).is_some());
                if apart || !self.held || self.aliases.try_borrow().ok()?.may_hold(&whole) {
                    return None;
                }
                let opened = open_once(AT_FDCWD, OsStr::from_bytes(&whole), flags, resolve);
                Some((Place::Elsewhere(whole), opened))
            }
        }
    }
}

fn open_once(base: BorrowedFd<'_>, path: &OsStr, flags: OFlag, resolve: ResolveFlag) -> nix::Result<OwnedFd> {
    openat2(base, path, OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve))
}

/// `path`, from `stands` on where it is not absolute, without empty names and `.`. `None` where `..` is in it, or what it leads to must be a directory and
/// `directory` does not say so already.
fn whole(stands: &[u8], path: &[u8], directory: bool) -> Option<Vec<u8>> {
    let absolute = path.first() == Some(&b'/');
    if path.is_empty() || (!absolute && stands.first() != Some(&b'/')) {
        return None;
    }
    // T-02: of a directory that was removed the text names another, if somebody makes it.
    if !absolute && stands.ends_with(paths::DELETED) {
        return None;
    }
    let last = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    if matches!(last, b"" | b".") && !directory {
        return None;
    }
    let mut whole = Vec::with_capacity(stands.len().saturating_add(path.len()).saturating_add(2));
    whole.extend_from_slice(if absolute || stands == b"/" { b"" } else { stands });
    for name in path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b".")) {
        if name == b".." {
            return None;
        }
        whole.push(b'/');
        whole.extend_from_slice(name);
    }
    if whole.is_empty() {
        whole.push(b'/');
    }
    Some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(stands: &str, path: &str, directory: bool) -> Option<String> {
        whole(stands.as_bytes(), path.as_bytes(), directory).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn a_path_becomes_whole_by_its_text() {
        for (stands, path, expected) in [
            ("/w", "a/b", "/w/a/b"),
            ("/w", "./a//b", "/w/a/b"),
            ("/", "a", "/a"),
            ("/w", "/usr//x", "/usr/x"),
            ("/w/..x", "..y/z..", "/w/..x/..y/z.."),
        ] {
            assert_eq!(text(stands, path, false).as_deref(), Some(expected), "{stands} {path}");
        }
        assert_eq!(text("/w", ".", true).as_deref(), Some("/w"));
        assert_eq!(text("/w", "/", true).as_deref(), Some("/"));
    }

    #[test]
    fn what_its_text_does_not_tell_is_left_alone() {
        for (stands, path) in [
            ("/w", "../a"),
            ("/w", "a/.."),
            ("pipe:[7]", "a"),
            ("", "a"),
            ("/w", "a/"),
            ("/w", "a/."),
            ("/w", ""),
            ("/w (deleted)", "a"),
        ] {
            assert_eq!(text(stands, path, false), None, "{stands} {path}");
        }
        assert_eq!(text("/w", "a/../b", true), None);
    }
}
