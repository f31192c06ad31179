//! What a command's tree holds by its descriptors, mapped or not: memory files, sockets, pipes.
//!
//! Read by the keeper from `/proc/PID/fd`. A link's text is partly the program's own choice, so it only says what is worth
//! a look; what counts is what the kernel says of the file itself. Each thing counts once, whoever holds it (T-06).

use super::footprint::{FileId, Process};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, readlinkat};
use nix::sys::stat::{Mode, fstatat};
use nix::unistd::Pid;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use warden_jail::same::same_descriptors;

/// What a socket's queue may hold in the kernel, by its defaults.
const SOCKET_BYTES: u64 = 208 * 1024;
/// What a pipe holds at least; beyond it the kernel has a bound for the whole user.
const PIPE_BYTES: u64 = 8 * 1024;
/// `st_blocks` counts in these, whatever the file system.
const BLOCK_BYTES: u64 = 512;

/// What the descriptors of a tree hold.
#[derive(Debug, Default)]
pub struct Held {
    /// Memory files, by their size in memory.
    memory: BTreeMap<FileId, u64>,
    sockets: BTreeSet<u64>,
    pipes: BTreeSet<u64>,
    /// Processes whose descriptors may not be seen: who makes itself undumpable, or runs an unreadable program.
    pub hidden: Vec<Pid>,
}

impl Held {
    /// Adds what a process holds, by the tables of all its threads.
    pub fn add(&mut self, process: &Process) {
        match self.add_table(process.pid, process.shown_by) {
            Err(Errno::EACCES | Errno::EPERM) => self.hidden.push(process.pid),
            // Gone.
            Err(_) => return,
            Ok(()) => {}
        }
        if process.threads <= 1 {
            return;
        }
        for thread in Process::threads(process.pid) {
            // A kernel without `kcmp` says ENOSYS: then each table is read.
            if thread != process.shown_by && same_descriptors(process.shown_by, thread) != Ok(true) {
                let _ = self.add_table(process.pid, thread);
            }
        }
    }

    fn add_table(&mut self, pid: Pid, thread: Pid) -> Result<(), Errno> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let table = open(format!("/proc/{pid}/task/{thread}/fd").as_str(), flags, Mode::empty())?;
        let mut listing = Dir::openat(&table, ".", flags, Mode::empty())?;
        for entry in listing.iter() {
            let entry = entry?;
            let link = match readlinkat(&table, entry.file_name()) {
                Ok(link) => link,
                // The table itself may be open to who has the same uid, root above all.
                Err(hidden @ (Errno::EACCES | Errno::EPERM)) => return Err(hidden),
                Err(_) => continue,
            };
            if let Some(number) = numbered(&link, b"socket:[") {
                self.sockets.insert(number);
            } else if let Some(number) = numbered(&link, b"pipe:[") {
                self.pipes.insert(number);
            } else if link.as_bytes().starts_with(b"/memfd:")
                && let Ok(status) = fstatat(&table, entry.file_name(), AtFlags::empty())
                && status.st_nlink == 0
            {
                let blocks = u64::try_from(status.st_blocks).unwrap_or(0);
                self.memory.insert((status.st_dev, status.st_ino), blocks.saturating_mul(BLOCK_BYTES));
            }
        }
        Ok(())
    }

    /// The files that are counted here, for whom maps them too.
    pub fn files(&self) -> BTreeSet<FileId> {
        self.memory.keys().copied().collect()
    }

    /// Bytes of memory that are held.
    pub fn memory_bytes(&self) -> u64 {
        let count = |set: &BTreeSet<u64>| u64::try_from(set.len()).unwrap_or(u64::MAX);
        let sockets = count(&self.sockets).saturating_mul(SOCKET_BYTES);
        let pipes = count(&self.pipes).saturating_mul(PIPE_BYTES);
        self.memory.values().copied().fold(sockets.saturating_add(pipes), u64::saturating_add)
    }
}

/// The number in `socket:[123]`.
fn numbered(link: &OsStr, kind: &[u8]) -> Option<u64> {
    let number = link.as_bytes().strip_prefix(kind)?.strip_suffix(b"]")?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::memfd::{MFdFlags, memfd_create};
    use std::io::Write;

    #[test]
    fn a_memory_file_counts_once_and_a_named_file_not() {
        let own = || Process::look(Pid::this()).unwrap();
        let mut before = Held::default();
        before.add(&own());
        let mut file = std::fs::File::from(memfd_create("a b (deleted)", MFdFlags::MFD_CLOEXEC).unwrap());
        file.write_all(&[1; 3 << 20]).unwrap();
        let again = file.try_clone().unwrap();
        let named = tempfile::NamedTempFile::new().unwrap();
        named.as_file().write_all_at(&[1; 1 << 20], 0).unwrap();
        let mut after = Held::default();
        after.add(&own());
        let id = |file: &std::fs::File| {
            let facts = file.metadata().unwrap();
            (facts.dev(), facts.ino())
        };
        assert_eq!(after.memory.get(&id(&file)), Some(&(3 << 20)));
        assert!(!after.memory.contains_key(&id(named.as_file())) && after.hidden.is_empty());
        assert!(after.memory_bytes() >= before.memory_bytes().saturating_add(3 << 20));
        drop(again);
    }

    use std::os::unix::fs::{FileExt, MetadataExt};

    #[test]
    fn only_the_kernels_own_words_are_numbers() {
        assert_eq!(numbered(OsStr::new("socket:[77]"), b"socket:["), Some(77));
        for other in ["socket:[7", "/socket:[7]", "socket:[-7]", "socket:[x]"] {
            assert_eq!(numbered(OsStr::new(other), b"socket:["), None, "{other}");
        }
    }
}
