//! From a path of the command's to what it leads to, opened as a path only, and to where that lies.
//!
//! Runs in the keeper. Nothing happens by being looked at: an O_PATH open reads nothing, waits for nobody and makes nothing.
//! Links are followed by the kernel, wherever they lead; what counts is what they led to. Magic links of `/proc` are not
//! followed, because the keeper's are not the command's: the few that programs use are taken apart by name (T-02, T-13).

use super::Door;
use super::ask::PathAt;
use super::caller::Caller;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, SFlag};
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use warden_beneath::paths::{self, Facts, RelPath};
use warden_beneath::world::World;

/// How often something is looked at again when it moves meanwhile.
const ATTEMPTS: usize = 16;

/// A path of the command's, read, and the directory where it begins.
#[derive(Debug)]
pub struct Start {
    /// `None` for an absolute path.
    pub base: Option<OwnedFd>,
    /// Empty where the base itself is meant.
    pub path: Vec<u8>,
    /// What the caller asked of the walk, by openat2.
    pub resolve: ResolveFlag,
}

/// Something beneath a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inside {
    /// The workspace's number.
    pub tree: usize,
    /// Where in it.
    pub path: RelPath,
}

/// Where something lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Beneath these workspaces: more than one where they lie in each other, the innermost first.
    Beneath(Vec<Inside>),
    /// Beneath none. What may be done there the keeper's own Landlock domain says, which outside of the workspaces is the
    /// command's.
    Elsewhere(Vec<u8>),
}

/// What a path leads to.
#[derive(Debug)]
pub struct Found {
    /// It, as a path only.
    pub fd: OwnedFd,
    /// What it is.
    pub stat: FileStat,
    /// Where it lies.
    pub place: Place,
}

/// The directory that holds the last name of a path.
#[derive(Debug)]
pub struct Above {
    /// It, as a path only.
    pub fd: OwnedFd,
    /// Where it lies.
    pub place: Place,
    /// The last name.
    pub name: Vec<u8>,
    /// The path ended with a slash, so that it can mean a directory only.
    pub slash: bool,
}

impl Above {
    /// The last name, for a system call.
    pub fn os_name(&self) -> &OsStr {
        OsStr::from_bytes(&self.name)
    }

    /// `.` and `..` name no entry that could be made, moved or removed.
    pub fn is_dots(&self) -> bool {
        matches!(self.name.as_slice(), b"." | b"..")
    }

    /// Where the last name lies in each workspace.
    pub fn inside(&self) -> Option<Vec<Inside>> {
        match &self.place {
            Place::Elsewhere(_) => None,
            Place::Beneath(all) => {
                Some(all.iter().map(|i| Inside { tree: i.tree, path: i.path.join(&self.name) }).collect())
            }
        }
    }
}

impl Found {
    /// Its kind.
    pub fn kind(&self) -> SFlag {
        paths::kind(&self.stat)
    }
}

/// A descriptor of the caller's own that a path names, or its directory, and the rest of the path.
fn own_descriptor(path: &[u8]) -> Option<(i32, &[u8])> {
    match path {
        b"/dev/stdin" => return Some((0, b"")),
        b"/dev/stdout" => return Some((1, b"")),
        b"/dev/stderr" => return Some((2, b"")),
        _ => {}
    }
    if let Some(rest) = path.strip_prefix(b"/proc/self/cwd") {
        return (rest.is_empty() || rest.starts_with(b"/")).then_some((libc::AT_FDCWD, rest));
    }
    let starts: [&[u8]; 3] = [b"/proc/self/fd/", b"/dev/fd/", b"/proc/thread-self/fd/"];
    let rest = starts.iter().find_map(|start| path.strip_prefix(*start))?;
    let end = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
    let (number, rest) = rest.split_at_checked(end)?;
    let number = std::str::from_utf8(number).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    Some((number.parse().ok()?, rest))
}

/// `/proc/self/task/N` with the caller's own number: there the keeper has other names than the caller.
fn own_entry(caller: &Caller<'_>, path: Vec<u8>) -> nix::Result<Vec<u8>> {
    // Its root is the keeper's: neither can change it.
    if let Some(rest) = path.strip_prefix(b"/proc/self/root")
        && (rest.is_empty() || rest.starts_with(b"/"))
    {
        return Ok([b"/", rest].concat());
    }
    let starts: [(&[u8], bool); 3] =
        [(b"/proc/self/task/", false), (b"/proc/self/fdinfo/", false), (b"/proc/thread-self/", true)];
    let found = starts.iter().find_map(|(start, thread)| Some((path.strip_prefix(*start)?, start, thread)));
    let Some((rest, start, thread)) = found else { return Ok(path) };
    if *thread && rest.starts_with(b"fd/") {
        return Ok(path);
    }
    let process = caller.process()?;
    let begin = match start.strip_prefix(b"/proc/self/") {
        Some(folder) => [format!("/proc/{process}/").as_bytes(), folder].concat(),
        None => format!("/proc/{process}/task/{}/", caller.thread()).into_bytes(),
    };
    Ok([begin.as_slice(), rest].concat())
}

/// The path above and the last name; `None` for `/` and for nothing.
fn split(path: &[u8]) -> Option<(Vec<u8>, Vec<u8>, bool)> {
    let end = path.iter().rposition(|byte| *byte != b'/')?;
    let trimmed = path.get(..=end)?;
    let slash = trimmed.len() < path.len();
    let (above, name) = match trimmed.iter().rposition(|byte| *byte == b'/') {
        None => (b".".as_slice(), trimmed),
        Some(at) => (trimmed.get(..=at)?, trimmed.get(at.checked_add(1)?..)?),
    };
    Some((above.to_vec(), name.to_vec(), slash))
}

impl Door {
    /// Reads a path of the caller's and finds where it begins. Asks whether the caller still waits.
    pub(super) fn start(&self, caller: &Caller<'_>, at: PathAt, resolve: ResolveFlag) -> nix::Result<Start> {
        let start = self.begin(caller, at.directory, caller.path(at.address)?, resolve)?;
        caller.waits()?;
        Ok(start)
    }

    /// The same for who may leave the path empty and so mean the descriptor itself (AT_EMPTY_PATH), if `or_descriptor`.
    pub(super) fn start_or_descriptor(
        &self,
        caller: &Caller<'_>,
        at: PathAt,
        or_descriptor: bool,
    ) -> nix::Result<Start> {
        let (path, resolve) = (caller.path(at.address)?, ResolveFlag::empty());
        let start = if path.is_empty() && or_descriptor {
            Start { base: Some(caller.descriptor(at.directory)?), path, resolve }
        } else {
            self.begin(caller, at.directory, path, resolve)?
        };
        caller.waits()?;
        Ok(start)
    }

    /// The same of a path that was read, without asking, for who does nothing but hand over what it opened: a descriptor goes to
    /// the caller of this notice or to nobody.
    pub(super) fn begin(
        &self,
        caller: &Caller<'_>,
        number: i32,
        path: Vec<u8>,
        resolve: ResolveFlag,
    ) -> nix::Result<Start> {
        if path.is_empty() {
            return Err(Errno::ENOENT);
        }
        // Who asks for a walk without links, or beneath a directory, is to be told that these are links out of it.
        let path = if resolve.is_empty() { own_entry(caller, path)? } else { path };
        if resolve.is_empty()
            && let Some((number, rest)) = own_descriptor(&path)
        {
            let rest = rest.iter().position(|byte| *byte != b'/').and_then(|from| rest.get(from..)).unwrap_or_default();
            return Ok(Start { base: Some(caller.descriptor(number)?), path: rest.to_vec(), resolve });
        }
        if resolve.is_empty() && path == b"/proc/self/exe" {
            return Ok(Start { base: Some(caller.program()?), path: Vec::new(), resolve });
        }
        let rooted = resolve.intersects(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_IN_ROOT);
        let base = if path.first() == Some(&b'/') && !rooted { None } else { Some(caller.descriptor(number)?) };
        Ok(Start { base, path, resolve })
    }

    /// Opens what `start` names, as a path only. `flags` may say O_NOFOLLOW and O_DIRECTORY.
    pub(super) fn find(&self, caller: &Caller<'_>, start: &Start, flags: OFlag) -> nix::Result<Found> {
        let fd = self.look_at(start, &start.path, flags)?;
        self.found(caller, fd, start, flags)
    }

    fn look_at(&self, start: &Start, path: &[u8], flags: OFlag) -> nix::Result<OwnedFd> {
        match &start.base {
            Some(base) if path.is_empty() => base.try_clone().map_err(|_| Errno::ENFILE),
            _ if !self.follows => self.open_past_links(start, path, flags),
            _ => Self::open_at(start, path, flags | OFlag::O_PATH),
        }
    }

    fn open_at(start: &Start, path: &[u8], flags: OFlag) -> nix::Result<OwnedFd> {
        let base = start.base.as_ref().map_or(AT_FDCWD, AsFd::as_fd);
        let resolve = start.resolve | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
        for _ in 1..ATTEMPTS {
            match openat2(base, OsStr::from_bytes(path), how) {
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                other => return other,
            }
        }
        Err(Errno::EAGAIN)
    }

    /// Opens what `start` names to be read, in one step: that does nothing to a file or a directory. `flags` wait for nobody.
    /// `None` where more has to be asked: what is neither, and what lies in a keeper's own `/proc`.
    pub(super) fn find_to_read(&self, start: &Start, flags: OFlag) -> nix::Result<Option<Found>> {
        // Where links count the path is walked by look_at, and what it led to opened after.
        if start.path.is_empty() || !self.follows {
            return Ok(None);
        }
        let fd = match Self::open_at(start, &start.path, flags) {
            // What a socket, a device without a driver, and a lease of somebody's answer; and the keeper's own `/proc`, by `self`.
            Err(Errno::ENXIO | Errno::ENODEV | Errno::EWOULDBLOCK | Errno::EACCES | Errno::EPERM) => return Ok(None),
            other => other?,
        };
        let place = self.place(fd.as_fd())?;
        let found = match &place {
            Place::Beneath(_) => self.inside(fd, place)?,
            Place::Elsewhere(own) if self.of_a_keeper(own).is_some() => return Ok(None),
            Place::Elsewhere(_) => self.elsewhere(fd, place)?,
        };
        Ok(matches!(found.kind(), SFlag::S_IFREG | SFlag::S_IFDIR).then_some(found))
    }

    fn found(&self, caller: &Caller<'_>, fd: OwnedFd, start: &Start, flags: OFlag) -> nix::Result<Found> {
        let place = self.place(fd.as_fd())?;
        let Place::Elsewhere(own) = &place else { return self.inside(fd, place) };
        // T-13: `/proc/self` is here the keeper's, which may look at itself as the command may not. The command meant its own.
        let Some(rest) = self.of_a_keeper(own) else { return self.elsewhere(fd, place) };
        // By a link that says `self`, that is; who names a keeper by its number is told what Landlock would say.
        if self.of_a_keeper(&start.path).is_some() {
            return Err(Errno::EACCES);
        }
        let path = [format!("/proc/{}", caller.process()?).as_bytes(), rest].concat();
        caller.waits()?;
        let again = Start { base: None, path, resolve: start.resolve };
        let fd = self.look_at(&again, &again.path, flags)?;
        let place = self.place(fd.as_fd())?;
        match &place {
            Place::Elsewhere(own) if self.of_a_keeper(own).is_none() => self.elsewhere(fd, place),
            _ => Err(Errno::EACCES),
        }
    }

    /// What is found beneath no workspace must not be one that another mount shows, which Landlock would not tell from it.
    fn elsewhere(&self, fd: OwnedFd, place: Place) -> nix::Result<Found> {
        if let Place::Elsewhere(own) = &place {
            let mut aliases = self.aliases.try_borrow_mut().map_err(|_| Errno::EACCES)?;
            if aliases.hold(&self.world, fd.as_fd(), own)? {
                return Err(Errno::EACCES);
            }
        }
        let stat = paths::facts(&fd)?;
        Ok(Found { fd, stat, place })
    }

    /// What the caller has open, whether it still has a name or not.
    pub(super) fn find_open(&self, fd: OwnedFd) -> nix::Result<Found> {
        let place = self.place(fd.as_fd())?;
        if matches!(place, Place::Beneath(_)) { self.on_its_mount(fd, place) } else { self.elsewhere(fd, place) }
    }

    /// What is found by a path beneath a workspace has not lost its name meanwhile.
    fn inside(&self, fd: OwnedFd, place: Place) -> nix::Result<Found> {
        let found = self.on_its_mount(fd, place)?;
        if let Place::Beneath(all) = &found.place {
            for inside in all {
                if !self.tree(inside.tree)?.is_still_there(&inside.path, &found.stat) {
                    return Err(Errno::ENOENT);
                }
            }
        }
        Ok(found)
    }

    /// What is found beneath a workspace must lie on the workspace's own mount, as it must for guests.
    fn on_its_mount(&self, fd: OwnedFd, place: Place) -> nix::Result<Found> {
        let Facts { stat, mount } = Facts::of(fd.as_fd(), &self.blank)?;
        if let Place::Beneath(all) = &place
            && !all.iter().any(|inside| self.mounts.get(inside.tree) == Some(&mount))
        {
            return Err(Errno::EXDEV);
        }
        Ok(Found { fd, stat, place })
    }

    /// The directory above the last name of `start`.
    pub(super) fn above(&self, caller: &Caller<'_>, start: &Start) -> nix::Result<Above> {
        let (path, name, slash) = split(&start.path).ok_or(Errno::EBUSY)?;
        let fd = self.look_at(start, &path, OFlag::O_DIRECTORY)?;
        let Found { fd, place, .. } = self.found(caller, fd, start, OFlag::O_DIRECTORY)?;
        Ok(Above { fd, place, name, slash })
    }

    /// Where an opened thing lies, by the kernel's own word. A workspace may be renamed between two questions, so whoever is
    /// found in none is asked for again before that is believed.
    ///
    /// Each is asked anew: two workspaces may have changed names since, or one may have come to lie in its old place, and what
    /// lies there would be judged by rules that are not its own (T-02).
    pub(super) fn place(&self, fd: BorrowedFd<'_>) -> nix::Result<Place> {
        let own = &self.world.own;
        let mut at = own.of(fd)?;
        if self.held {
            return Ok(within(&self.roots, &at).unwrap_or(Place::Elsewhere(at)));
        }
        for _ in 0..ATTEMPTS {
            if let Some(place) = within(&self.find_roots()?, &at) {
                return Ok(place);
            }
            let again = own.of(fd)?;
            if again == at {
                return Ok(Place::Elsewhere(at));
            }
            at = again;
        }
        Err(Errno::EAGAIN)
    }

    /// Where the workspaces lie now.
    fn find_roots(&self) -> nix::Result<Vec<Vec<u8>>> {
        roots(&self.world)
    }

    /// The rest of a path in `/proc` of this keeper, or of one of its own that opens for a command.
    fn of_a_keeper<'p>(&self, own: &'p [u8]) -> Option<&'p [u8]> {
        let rest = own.strip_prefix(b"/proc/")?;
        let end = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
        let (number, rest) = rest.split_at_checked(end)?;
        let number: i32 = std::str::from_utf8(number).ok()?.parse().ok()?;
        (number == self.keeper || self.waiters.has(number)).then_some(rest)
    }
}

/// Where the workspaces lie.
pub(super) fn roots(world: &World) -> nix::Result<Vec<Vec<u8>>> {
    world.trees.iter().map(|tree| world.own.of(tree.root.as_fd())).collect()
}

/// The workspaces, by where they lie, that `at` is beneath.
pub(super) fn within(roots: &[Vec<u8>], at: &[u8]) -> Option<Place> {
    let mut all: Vec<(usize, Inside)> = Vec::new();
    for (tree, root) in roots.iter().enumerate() {
        if let Some(path) = paths::below(root, at) {
            all.push((root.len(), Inside { tree, path }));
        }
    }
    all.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
    (!all.is_empty()).then(|| Place::Beneath(all.into_iter().map(|(_, inside)| inside).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_split_at_its_last_name() {
        let parts = |path: &str| {
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
            split(path.as_bytes()).map(|(above, name, slash)| (text(above), text(name), slash))
        };
        let some = |above: &str, name: &str, slash| Some((above.to_owned(), name.to_owned(), slash));
        assert_eq!(parts("a"), some(".", "a", false));
        assert_eq!(parts("a/b//"), some("a/", "b", true));
        assert_eq!(parts("/a"), some("/", "a", false));
        assert_eq!(parts("//a/../b"), some("//a/../", "b", false));
        assert_eq!((parts("/"), parts("")), (None, None));
    }

    #[test]
    fn only_plain_numbers_are_descriptors() {
        assert_eq!(own_descriptor(b"/proc/self/fd/7"), Some((7, &b""[..])));
        assert_eq!(own_descriptor(b"/dev/fd/12/a/b"), Some((12, &b"/a/b"[..])));
        assert_eq!(own_descriptor(b"/dev/stderr"), Some((2, &b""[..])));
        assert_eq!(own_descriptor(b"/proc/self/cwd/a"), Some((libc::AT_FDCWD, &b"/a"[..])));
        assert_eq!(own_descriptor(b"/proc/self/cwdx"), None);
        for other in [&b"/proc/self/fd/-1"[..], b"/proc/self/fd/", b"/proc/self/fd", b"/dev/fd/+1", b"proc/self/fd/1"] {
            assert_eq!(own_descriptor(other), None);
        }
    }
}
