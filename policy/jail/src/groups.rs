//! One control group of version 2: made, bounded, ended, removed, by its directory's descriptor.
//!
//! Used by the spawner, which makes a group for each runner, and by keepers, which make one beneath it for each command.
//! What is written is the kernel's own interface; what is read of it is the kernel's word (T-06, T-12).

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, read, unlinkat, write};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Longest file of a group that is read.
const TEXT_MAX_BYTES: usize = 4096;
/// Between two looks at a group that is being ended.
const LOOK: Duration = Duration::from_micros(200);
const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// What the kernel bounds in groups beneath one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Controllers {
    /// `pids.max` can be set.
    pub pids: bool,
    /// `memory.max` can be set.
    pub memory: bool,
}

/// A group.
#[derive(Debug)]
pub struct Group {
    directory: OwnedFd,
}

impl Group {
    /// Takes the directory of one.
    pub fn of(directory: OwnedFd) -> Group {
        Group { directory }
    }

    /// Makes one beneath another. Its files belong to who made it.
    pub fn make(above: BorrowedFd<'_>, name: &CStr) -> Result<Group, Errno> {
        mkdirat(above, name, Mode::from_bits_truncate(0o755))?;
        Ok(Group { directory: openat(above, name, DIRECTORY, Mode::empty())? })
    }

    /// The same where one that nobody uses any more may have been left with this name: that is ended and removed first.
    pub fn make_anew(above: BorrowedFd<'_>, name: &CStr, patience: Duration) -> Result<Group, Errno> {
        match Group::make(above, name) {
            Err(Errno::EEXIST) => {
                remove(above, name, patience)?;
                Group::make(above, name)
            }
            other => other,
        }
    }

    /// Removes the empty groups directly beneath it.
    fn clear(&self) -> Result<(), Errno> {
        let mut listing = nix::dir::Dir::openat(&self.directory, ".", DIRECTORY, Mode::empty())?;
        for entry in listing.iter().flatten() {
            let name = entry.file_name();
            if entry.file_type() == Some(nix::dir::Type::Directory) && !matches!(name.to_bytes(), b"." | b"..") {
                let _ = unlinkat(&self.directory, name, UnlinkatFlags::RemoveDir);
            }
        }
        Ok(())
    }

    /// Writes one of its files.
    pub fn set(&self, file: &CStr, value: &str) -> Result<(), Errno> {
        let flags = OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let opened = openat(&self.directory, file, flags, Mode::empty())?;
        // Such a file takes its whole text in one write.
        write(&opened, value.as_bytes()).map(drop)
    }

    /// Reads one of its files.
    pub fn get(&self, file: &CStr) -> Result<String, Errno> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let opened = openat(&self.directory, file, flags, Mode::empty())?;
        let mut text = vec![0; TEXT_MAX_BYTES];
        let length = read(&opened, &mut text)?;
        text.truncate(length);
        String::from_utf8(text).map_err(|_| Errno::EILSEQ)
    }

    /// Whether a word stands in one of its lists.
    pub fn lists(&self, file: &CStr, word: &str) -> bool {
        self.get(file).is_ok_and(|text| text.split_ascii_whitespace().any(|listed| listed == word))
    }

    /// A number of one of its tables: what stands behind `name`.
    pub fn number(&self, file: &CStr, name: &str) -> Option<u64> {
        let text = self.get(file).ok()?;
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        lines.find(|(key, _)| *key == name)?.1.trim().parse().ok()
    }

    /// Hands down to groups beneath it what it has itself, and says what they have then.
    pub fn hand_down(&self) -> Controllers {
        let down = |word| {
            let listed = self.lists(c"cgroup.subtree_control", word);
            listed
                || (self.lists(c"cgroup.controllers", word)
                    && self.set(c"cgroup.subtree_control", &format!("+{word}")).is_ok())
        };
        Controllers { pids: down("pids"), memory: down("memory") }
    }

    /// Ends every process in it and beneath it at once, those included that are being forked (T-12).
    pub fn end(&self) -> Result<(), Errno> {
        self.set(c"cgroup.kill", "1")
    }

    /// Waits until no process is left in it or beneath it. The dead that nobody has reaped do not count.
    pub fn await_empty(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        loop {
            match self.number(c"cgroup.events", "populated") {
                Some(0) => return true,
                _ if Instant::now() >= until => return false,
                _ => std::thread::sleep(LOOK),
            }
        }
    }
}

impl AsFd for Group {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// Ends what is left in a group beneath `above` and removes it with the groups directly beneath it.
///
/// A group can be busy for a moment after its last process has been reaped: of the time that it gets to be empty the rest is
/// for that.
pub fn remove(above: BorrowedFd<'_>, name: &CStr, patience: Duration) -> Result<(), Errno> {
    let group = match openat(above, name, DIRECTORY, Mode::empty()) {
        Err(Errno::ENOENT) => return Ok(()),
        other => Group::of(other?),
    };
    let until = Instant::now() + patience;
    group.end()?;
    group.await_empty(patience);
    loop {
        group.clear()?;
        match unlinkat(above, name, UnlinkatFlags::RemoveDir) {
            Err(Errno::ENOENT) => return Ok(()),
            Err(Errno::EBUSY) if Instant::now() < until => std::thread::sleep(LOOK),
            other => return other,
        }
    }
}
