//! The control group that this process is in, where the host has given it to us.
//!
//! Used by the broker before it forks the spawner, and by `warden doctor`. Given means: version 2, the group's directory and
//! the files that move processes and hand controllers down belong to our user, and nobody else can write them. A group that
//! others can write is none: they could take a command out of its bounds, or end it (T-06, T-13).

use crate::fork::{Forked, fork_into};
use crate::groups::{self, Controllers, Group};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat, fstatat};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, fstatfs};
use nix::unistd::{Pid, geteuid};
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

/// Where our own processes go when a group has to be empty of them: the kernel hands controllers down from no other.
const OWN: &str = "warden.own";
/// What a group that is tried gets to be empty.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug, Error)]
pub enum DelegationError {
    #[error("{0}")]
    None(&'static str),
    #[error("{path} {why}, so it is not ours")]
    NotOurs { path: PathBuf, why: &'static str },
    #[error("cannot {step} {path}: {errno}")]
    Step { step: &'static str, path: PathBuf, errno: Errno },
}

/// A group that is ours.
#[derive(Debug)]
pub struct Delegation {
    group: Group,
    path: PathBuf,
    /// What groups beneath it, and beneath those, can be bound by.
    pub controllers: Controllers,
}

impl Delegation {
    /// Finds the group, goes out of the way in it if need be, and tries everything that will be done in it, in a group
    /// that is removed again.
    pub fn take() -> Result<Delegation, DelegationError> {
        let mut delegation = Self::find()?;
        delegation.make_room();
        delegation.group.hand_down();
        delegation.controllers = delegation.attempt()?;
        Ok(delegation)
    }

    /// Makes a group beneath it for a process to come.
    pub fn make(&self, name: &str) -> Result<Group, DelegationError> {
        let step = |step, errno| DelegationError::Step { step, path: self.path.join(name), errno };
        let text = CString::new(name).map_err(|_| step("name", Errno::EINVAL))?;
        let group = Group::make(self.group.as_fd(), &text).map_err(|errno| step("make", errno))?;
        group.hand_down();
        Ok(group)
    }

    /// Ends what is left in a group that was made, and removes it.
    pub fn remove(&self, name: &str) -> Result<(), Errno> {
        self.remove_within(name, PATIENCE)
    }

    /// The same, waiting for nothing.
    pub fn remove_at_once(&self, name: &str) -> Result<(), Errno> {
        self.remove_within(name, Duration::ZERO)
    }

    fn remove_within(&self, name: &str, patience: Duration) -> Result<(), Errno> {
        groups::remove(self.group.as_fd(), &CString::new(name).map_err(|_| Errno::EINVAL)?, patience)
    }

    fn find() -> Result<Delegation, DelegationError> {
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let path = place(&own, &mounts).map_err(DelegationError::None)?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let step = |step, errno| DelegationError::Step { step, path: path.clone(), errno };
        let directory = open(&path, flags, Mode::empty()).map_err(|errno| step("open", errno))?;
        let kind = fstatfs(&directory).map_err(|errno| step("look at", errno))?.filesystem_type();
        if kind != CGROUP2_SUPER_MAGIC {
            return Err(DelegationError::None("the directory of this process's group is none of version 2"));
        }
        check(&directory, &path)?;
        Ok(Delegation { group: Group::of(directory), path, controllers: Controllers::default() })
    }

    /// Moves this process into a group beneath, where it is the only one here and that lets controllers be handed down. It
    /// takes the kernel some milliseconds, so it is left out where it would be of no use.
    fn make_room(&self) {
        let wanted =
            |word| self.group.lists(c"cgroup.controllers", word) && !self.group.lists(c"cgroup.subtree_control", word);
        let alone = self.group.get(c"cgroup.procs").is_ok_and(|all| all.trim() == Pid::this().to_string());
        if alone && (wanted("pids") || wanted("memory")) {
            self.step_aside();
        }
    }

    fn step_aside(&self) {
        let name = CString::new(OWN).unwrap_or_default();
        let _ = Group::make(self.group.as_fd(), &name);
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        if let Ok(own) = nix::fcntl::openat(&self.group, name.as_c_str(), flags, Mode::empty()) {
            let _ = Group::of(own).set(c"cgroup.procs", "0");
        }
    }

    /// All of it by use: a group in a group, bounds, a process born in it, and its end.
    fn attempt(&self) -> Result<Controllers, DelegationError> {
        let name = format!("warden.try-{}", Pid::this());
        let path = self.path.join(&name);
        let step = |step| {
            let path = path.clone();
            move |errno| DelegationError::Step { step, path, errno }
        };
        let outer = self.make(&name)?;
        let tried = (|| {
            let inner = Group::make(outer.as_fd(), c"inner").map_err(step("make a group in"))?;
            let pids = inner.set(c"pids.max", "64").is_ok();
            let memory = inner.set(c"memory.max", "67108864").is_ok();
            match fork_into(inner.as_fd()).map_err(|_| step("put a process into")(Errno::EPERM))? {
                Forked::Child => loop {
                    nix::unistd::pause();
                },
                Forked::Parent { child } => {
                    let ended = inner.end().map_err(step("end"));
                    if ended.is_err() {
                        let _ = nix::sys::signal::kill(child, nix::sys::signal::Signal::SIGKILL);
                    }
                    let _ = crate::namespaces::await_end(child);
                    ended?;
                }
            }
            Ok(Controllers { pids, memory })
        })();
        let removed = self.remove(&name).map_err(step("remove"));
        let controllers = tried?;
        removed?;
        Ok(controllers)
    }
}

/// Where the directory of the process's group is, from the kernel's two lists.
fn place(own: &str, mounts: &str) -> Result<PathBuf, &'static str> {
    let own =
        own.lines().find_map(|line| line.strip_prefix("0::")).ok_or("this process is in no group of version 2")?;
    let own = Path::new(own);
    if own.components().any(|part| part == std::path::Component::ParentDir) {
        return Err("this process's group lies outside of its cgroup namespace");
    }
    let found = mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, at) = (fields.next()?, fields.next()?);
        // An escaped name is nothing that an init system chooses.
        let plain = kind.starts_with("cgroup2 ") && !root.contains('\\') && !at.contains('\\');
        plain.then(|| own.strip_prefix(root).ok().map(|rest| Path::new(at).join(rest))).flatten()
    });
    let path = found.ok_or("no hierarchy of version 2 that has this process's group is mounted")?;
    // Already out of the way: the group itself is the one above.
    Ok(if path.ends_with(OWN) { path.parent().unwrap_or(&path).to_owned() } else { path })
}

/// Ours, and nobody else's to write.
fn check(directory: &OwnedFd, path: &Path) -> Result<(), DelegationError> {
    let step = |errno| DelegationError::Step { step: "look at", path: path.to_owned(), errno };
    let mut all = vec![(path.to_owned(), fstat(directory).map_err(step)?)];
    for file in ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
        let facts = fstatat(directory, file, nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW).map_err(step)?;
        all.push((path.join(file), facts));
    }
    for (path, facts) in all {
        let not_ours = |why| Err(DelegationError::NotOurs { path: path.clone(), why });
        if facts.st_uid != geteuid().as_raw() {
            return not_ours("belongs to another user");
        }
        // Root with its capabilities could; the spawner has none. The kernel's root group is such a one.
        if facts.st_mode & 0o200 == 0 {
            return not_ours("cannot be written by its owner");
        }
        if facts.st_mode & 0o022 != 0 {
            return not_ours("can be written by its group or by everybody");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_groups_directory_is_found_in_either_layout() {
        let own = "8:pids:/x\n0::/user.slice/run-7.scope\n";
        assert_eq!(place(own, HYBRID), Ok("/sys/fs/cgroup/unified/user.slice/run-7.scope".into()));
        let pure = "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(place(own, pure), Ok("/sys/fs/cgroup/user.slice/run-7.scope".into()));
        assert_eq!(place("0::/run-7.scope/warden.own\n", pure), Ok("/sys/fs/cgroup/run-7.scope".into()));
        let part = "31 23 0:28 /user.slice /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(place(own, part), Ok("/sys/fs/cgroup/run-7.scope".into()));
    }

    #[test]
    fn what_is_not_there_is_not_made_up() {
        assert!(place("8:pids:/x\n", HYBRID).is_err(), "no version 2");
        assert!(place("0::/../other\n", HYBRID).is_err(), "outside of the namespace");
        let elsewhere = "31 23 0:28 /system.slice /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert!(place("0::/user.slice\n", elsewhere).is_err(), "another part of the hierarchy");
    }
}
