//! Places that are one command's own, in a mount namespace of its own: `/tmp` and `/dev/shm`, which programs name whatever
//! their environment says, and a HOME that does not lie where either would hide it.
//!
//! Used by keepers that cap-proc's usher had born (`namespaces::fork_beside`), before their jail is shut; they trust the
//! root directory that the runner made and the directories beneath the task's scratch directory. A place is a bind mount of
//! a directory that the keeper counts and removes (T-06), so nothing outlives the command but names in it, and another command
//! of the task, whose namespace is another, has its own (T-11).

use crate::mounts::{self, Without};
use crate::root::{HANDLE, RootError, resolve, step, step_io};
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2, readlink};
use nix::sys::stat::Mode;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The places, each there and empty in the root directory (`root.rs`).
pub const PLACES: [&str; 2] = ["/tmp", "/dev/shm"];

/// Where its HOME is shown.
pub const HOME: &str = "/home/command";

/// What holds a command that has them, in results and records.
pub const HELD: [&str; 2] = ["own /tmp", "own /dev/shm"];

/// How often something is looked for again that is renamed meanwhile.
const ATTEMPTS: usize = 16;

/// Where something lies now, by the kernel's own word.
pub fn path_of(object: BorrowedFd<'_>) -> Result<PathBuf, RootError> {
    let own = format!("/proc/self/fd/{}", object.as_raw_fd());
    readlink(own.as_str()).map(PathBuf::from).map_err(step("find the path of", Path::new(&own)))
}

/// Opens in this mount namespace what `object`, from before it was made, is there: by that alone its mount is one that the
/// kernel lists here, and a path that begins in it one that it shows whole. What is found is compared by device and inode (T-02).
pub fn open_here(object: BorrowedFd<'_>) -> Result<OwnedFd, RootError> {
    for _ in 1..ATTEMPTS {
        if let Some(found) = resolve(&path_of(object)?, object)? {
            return Ok(found);
        }
    }
    Err(RootError::Replaced { path: path_of(object)? })
}

/// Shows `directory`, which must have been opened in this mount namespace, at `place` too. Gives the place.
pub fn show(directory: BorrowedFd<'_>, place: &Path, execution: bool) -> Result<OwnedFd, RootError> {
    let copy = mounts::copy(directory).map_err(step_io("copy what is to be seen at", place))?;
    let without = Without::SET_ID.and(Without::DEVICES);
    let without = if execution { without } else { without.and(Without::EXECUTION) };
    mounts::restrict(copy.as_fd(), without, true).map_err(step_io("restrict", place))?;
    mounts::attach(copy.as_fd(), opened(place)?.as_fd()).map_err(step_io("mount over", place))?;
    opened(place)
}

fn opened(place: &Path) -> Result<OwnedFd, RootError> {
    let resolve = ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let how = OpenHow::new().flags(HANDLE | OFlag::O_DIRECTORY).mode(Mode::empty()).resolve(resolve);
    openat2(AT_FDCWD, place, how).map_err(step("open", place))
}
