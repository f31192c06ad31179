//! A root directory that shows a command its grants and the system, and nothing else: what is not granted has no name,
//! so that its name, size and times are no longer to be seen either (T-01, T-11).
//!
//! Built by cap-proc's runner in its own mount namespace, before its jail is shut, from the paths of its Landlock rule file
//! and from descriptors that the spawner opened. A bind mount needs a name, since the kernel clones no mount of another
//! namespace; so each name is resolved here without following a link, what is found is compared with the descriptor by
//! device and inode, and what was compared is what is mounted, by its descriptor (T-02). Landlock and the filter stand
//! behind all of it as they do without it: this takes away, it grants nothing.

mod places;

use crate::mounts::{self, Without};
use crate::role::Role;
use crate::rooms::HOME;
use crate::rules;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, open, openat2, readlink};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, umask};
use nix::unistd::{chdir, fchdir, pivot_root};
use places::Places;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// What programs expect beside the nodes that are granted; the first one a script's interpreter is given its script by.
const DEVICE_LINKS: [(&str, &str); 4] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];
/// Empty, and a command's own where it can be given one (`rooms.rs`); a program that finds no such directory at all would
/// complain of something else than of its missing right.
const EMPTY_DIRECTORIES: [&str; 3] = ["/tmp", "/dev/shm", HOME];
/// Its files are names to mount on, and the directories that lead to them.
const ROOT_SETTINGS: [(&std::ffi::CStr, &std::ffi::CStr); 3] =
    [(c"size", c"1m"), (c"nr_inodes", c"16k"), (c"mode", c"0755")];
/// Mounted anew, and not from outside.
const PROCESSES: &str = "/proc";
/// Directories of which nothing may be granted by name: what is in them is the kernel's.
const KERNELS: [&str; 2] = [PROCESSES, "/sys"];

pub(crate) const HANDLE: OFlag = OFlag::O_PATH.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

#[derive(Debug, Error)]
pub enum RootError {
    #[error("{path} cannot be shown in a root of its own: {why}")]
    Unsuited { path: PathBuf, why: &'static str },
    /// T-02: somebody moved it, or put something else in its place.
    #[error("{path} is not any more what was opened there; start again when nothing moves or replaces it")]
    Replaced { path: PathBuf },
    #[error("cannot {step} {path}: {source}")]
    Step { step: &'static str, path: PathBuf, source: io::Error },
}

/// How something is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// A directory that may be written.
    ReadWrite,
    /// A directory that may not.
    ReadOnly,
    /// A file; one that is not at its name any more is left out, since it is executed by its descriptor.
    Program,
}

/// Something that was opened outside and is to be shown at its own path.
#[derive(Debug)]
pub struct Shown<'fd> {
    object: BorrowedFd<'fd>,
    path: PathBuf,
    view: View,
}

impl<'fd> Shown<'fd> {
    /// Asks the kernel for the path; that is to be done outside, where the descriptor is from.
    pub fn find(object: BorrowedFd<'fd>, view: View) -> Result<Shown<'fd>, RootError> {
        let own = format!("/proc/self/fd/{}", object.as_raw_fd());
        let path = readlink(own.as_str()).map_err(step("find the path of", Path::new(&own)))?;
        Ok(Shown { object, path: PathBuf::from(path), view })
    }

    fn is_directory(&self) -> bool {
        self.view != View::Program
    }
}

/// Enters a root with the system directories of `role` and what is `shown`, and gives everything in `shown` opened
/// again in it, in order: descriptors from outside lead to mounts that are not there any more. `None` for a program
/// that has no name in it. The caller must close the ones from outside, by which `..` leads out.
pub fn enter(role: Role, shown: &[Shown<'_>]) -> Result<Vec<Option<OwnedFd>>, RootError> {
    suited(shown)?;
    umask(Mode::from_bits_truncate(0o022));
    let top = Path::new("/");
    // What is mounted outside from now on is not to appear here.
    let none: Option<&str> = None;
    mount(none, top, none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(step("part from the mounts at", top))?;
    let without = Without::SET_ID.and(Without::DEVICES).and(Without::EXECUTION);
    let made = mounts::make(c"tmpfs", &ROOT_SETTINGS, without).map_err(step_io("make a file system for", top))?;
    let old = open(top, HANDLE.union(OFlag::O_DIRECTORY), Mode::empty()).map_err(step("open", top))?;
    mounts::attach(made.as_fd(), old.as_fd()).map_err(step_io("mount over", top))?;
    let mut root = Root::of(made)?;
    root.show(role, shown)?;
    root.finish()?;
    shown.iter().map(opened_again).collect()
}

/// What has no place in such a root.
fn suited(shown: &[Shown<'_>]) -> Result<(), RootError> {
    for Shown { path, view, .. } in shown {
        let unsuited = |why| Err(RootError::Unsuited { path: path.clone(), why });
        if *view == View::Program {
            continue;
        }
        if path == Path::new("/") {
            return unsuited("it is all there is");
        }
        if path == Path::new("/dev") || KERNELS.iter().any(|kernels| path.starts_with(kernels)) {
            return unsuited("it belongs to the kernel");
        }
    }
    Ok(())
}

/// What is to be seen.
enum Item<'a> {
    /// A path of the rule file.
    System(SystemPath),
    /// What was handed over.
    Shown(&'a Shown<'a>),
}

/// A path of the rule file, and what lies there.
struct SystemPath {
    path: &'static Path,
    found: OwnedFd,
    kind: SFlag,
}

impl SystemPath {
    /// A path that is not there is no failure.
    fn find(path: &'static Path) -> Result<Option<SystemPath>, RootError> {
        let found = if_there(open(path, HANDLE, Mode::empty())).map_err(step("open", path))?;
        let Some(found) = found else { return Ok(None) };
        let kind = kind(&fstat(&found).map_err(step("look at", path))?);
        Ok(Some(SystemPath { path, found, kind }))
    }
}

impl Item<'_> {
    /// Directories before what is in them; and what links lead into before the links; what may be written first.
    fn order(&self) -> (usize, bool, bool) {
        let depth = |path: &Path| path.components().count();
        match self {
            Item::System(system) => (depth(system.path), system.kind == SFlag::S_IFLNK, true),
            Item::Shown(shown) => (depth(&shown.path), false, shown.view != View::ReadWrite),
        }
    }
}

/// The new root while it is built.
struct Root {
    places: Places,
    /// What is mounted, and whether it may be written.
    placed: Vec<(PathBuf, bool)>,
}

impl Root {
    fn of(top: OwnedFd) -> Result<Root, RootError> {
        Ok(Root { places: Places::of(top)?, placed: Vec::new() })
    }

    /// Everything from the top down: what is mounted on a directory hides what lies in it, so that comes after.
    fn show(&mut self, role: Role, shown: &[Shown<'_>]) -> Result<(), RootError> {
        let paths = rules::role_rules(role).paths.iter().map(|rule| Path::new(OsStr::from_bytes(rule.path.to_bytes())));
        let covered = |path: &Path| shown.iter().any(|shown| shown.is_directory() && path.starts_with(&shown.path));
        let mut items: Vec<Item<'_>> = Vec::new();
        for path in paths.filter(|path| *path != Path::new(PROCESSES) && !covered(path)) {
            items.extend(SystemPath::find(path)?.map(Item::System));
        }
        items.extend(shown.iter().map(Item::Shown));
        items.sort_by_cached_key(Item::order);
        for item in items {
            match item {
                Item::System(system) => self.show_path(system)?,
                Item::Shown(shown) => self.show_object(shown)?,
            }
        }
        for path in EMPTY_DIRECTORIES.map(Path::new) {
            // In a workspace nothing is made.
            if !self.placed.iter().any(|(above, _)| path.starts_with(above)) {
                self.places.make(path)?;
            }
        }
        for (name, target) in DEVICE_LINKS {
            self.places.link(Path::new(name), OsStr::new(target))?;
        }
        self.show_processes()
    }

    /// Only those of this pid namespace (T-13).
    fn show_processes(&mut self) -> Result<(), RootError> {
        let path = Path::new(PROCESSES);
        let without = Without::SET_ID.and(Without::DEVICES).and(Without::EXECUTION);
        let processes = mounts::make(c"proc", &[], without).map_err(step_io("make a new", path))?;
        self.places.mount_directory(processes.as_fd(), path)
    }

    /// What was handed over, unless it is shown by what lies above it: as it is, or as something that may be written.
    fn show_object(&mut self, shown: &Shown<'_>) -> Result<(), RootError> {
        let Shown { object, path, view } = shown;
        let writable = *view == View::ReadWrite;
        if self.placed.iter().any(|(above, w)| path.starts_with(above) && (*w || !writable)) {
            return Ok(());
        }
        let Some(found) = resolve(path, *object)? else {
            return match view {
                View::Program => Ok(()),
                View::ReadOnly | View::ReadWrite => Err(RootError::Replaced { path: path.clone() }),
            };
        };
        let without = Without::SET_ID.and(Without::DEVICES);
        let without = if writable { without } else { without.and(Without::WRITING) };
        self.bind(found.as_fd(), path, shown.is_directory(), without)?;
        if *view != View::Program {
            self.placed.push((path.clone(), writable));
        }
        Ok(())
    }

    /// One path of the rule file: a link stays one where it leads into what is shown.
    fn show_path(&mut self, SystemPath { path, mut found, kind: lies_there }: SystemPath) -> Result<(), RootError> {
        let mut leads_to = lies_there;
        if lies_there == SFlag::S_IFLNK {
            let end = if_there(open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()));
            let Some(end) = end.map_err(step("open", path))? else { return Ok(()) };
            let own = format!("/proc/self/fd/{}", end.as_raw_fd());
            let real = readlink(own.as_str()).map_err(step("find the end of", path))?;
            if self.placed.iter().any(|(above, _)| Path::new(&real).starts_with(above)) {
                let target = readlink(path).map_err(step("read", path))?;
                return self.places.link(path, &target);
            }
            leads_to = kind(&fstat(&end).map_err(step("look at", path))?);
            found = end;
        }
        let without = Without::SET_ID.and(Without::WRITING);
        let without = without.and(if path.starts_with("/dev") { Without::EXECUTION } else { Without::DEVICES });
        self.bind(found.as_fd(), path, leads_to == SFlag::S_IFDIR, without)?;
        if lies_there == SFlag::S_IFDIR {
            self.placed.push((path.to_owned(), false));
        }
        Ok(())
    }

    fn bind(
        &mut self,
        source: BorrowedFd<'_>,
        path: &Path,
        is_directory: bool,
        without: Without,
    ) -> Result<(), RootError> {
        let copied = mounts::copy(source).map_err(step_io("copy the mounts at", path))?;
        mounts::restrict(copied.as_fd(), without, true).map_err(step_io("restrict the mounts at", path))?;
        if is_directory {
            self.places.mount_directory(copied.as_fd(), path)
        } else {
            self.places.mount_file(copied.as_fd(), path)
        }
    }

    /// Makes it the root, for good: what was there before is attached to nothing any more.
    fn finish(self) -> Result<(), RootError> {
        let path = Path::new("/");
        let top = self.places.top().ok_or_else(|| step("find", path)(Errno::ENOENT))?;
        mounts::restrict(top, Without::WRITING, false).map_err(step_io("restrict", path))?;
        fchdir(top).map_err(step("enter", path))?;
        // Both names are the same directory, so that the old root comes to lie over the new one, and needs no place in it.
        pivot_root(".", ".").map_err(step("change", path))?;
        umount2(".", MntFlags::MNT_DETACH).map_err(step("let go of the old", path))?;
        chdir(path).map_err(step("enter the new", path))
    }
}

/// What lies at `path` now, if it is `object`. No link is followed: the path is the kernel's own, and has none.
pub(crate) fn resolve(path: &Path, object: BorrowedFd<'_>) -> Result<Option<OwnedFd>, RootError> {
    let resolve = ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let found = match openat2(AT_FDCWD, path, OpenHow::new().flags(HANDLE).resolve(resolve)) {
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EXDEV) => return Ok(None),
        other => other.map_err(step("open", path))?,
    };
    let (is, was) = (fstat(&found), fstat(object));
    let (is, was) = (is.map_err(step("look at", path))?, was.map_err(step("look at", path))?);
    Ok((identity(&is) == identity(&was)).then_some(found))
}

fn opened_again(shown: &Shown<'_>) -> Result<Option<OwnedFd>, RootError> {
    match (resolve(&shown.path, shown.object)?, shown.view) {
        (None, View::ReadOnly | View::ReadWrite) => Err(RootError::Replaced { path: shown.path.clone() }),
        (found, _) => Ok(found),
    }
}

/// A name that is not there is no failure.
fn if_there<T>(found: nix::Result<T>) -> nix::Result<Option<T>> {
    match found {
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        other => other.map(Some),
    }
}

fn identity(facts: &FileStat) -> (u64, u64) {
    (facts.st_dev, facts.st_ino)
}

fn kind(facts: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(facts.st_mode & SFlag::S_IFMT.bits())
}

pub(crate) fn step(step: &'static str, path: &Path) -> impl FnOnce(Errno) -> RootError {
    let path = path.to_owned();
    move |errno| RootError::Step { step, path, source: errno.into() }
}

pub(crate) fn step_io(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RootError {
    let path = path.to_owned();
    move |source| RootError::Step { step, path, source }
}
