//! What a command's tree holds by its descriptors, mapped or not: memory files, files without a name, sockets, pipes.
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
/// Descriptors of a tree, in all its tables, that are looked at: some 100 ms on a slow machine.
pub const DESCRIPTORS_MAX: usize = 16_384;
/// `st_blocks` counts in these, whatever the file system.
const BLOCK_BYTES: u64 = 512;

/// What the descriptors of a tree hold.
#[derive(Debug, Default)]
pub struct Held {
    /// Memory files, by their size in memory.
    memory: BTreeMap<FileId, u64>,
    /// Files that had their names in the private directory, whatever the command calls that, by their size on its device.
    nameless: BTreeMap<FileId, u64>,
    /// How such a name begins.
    private: Vec<Vec<u8>>,
    sockets: BTreeSet<u64>,
    pipes: BTreeSet<u64>,
    looked_at: usize,
    /// There are more descriptors than are looked at.
    pub too_many: bool,
    /// Processes whose descriptors may not be seen: who makes itself undumpable, or runs an unreadable program.
    pub hidden: Vec<Pid>,
}

impl Held {
    /// Nothing yet; `private` are the paths by which the command names what is in its private directory.
    pub fn new<'p>(private: impl Iterator<Item = &'p OsStr>) -> Self {
        Self { private: private.map(|path| [path.as_bytes(), b"/"].concat()).collect(), ..Self::default() }
    }

    /// Adds what a process holds, by the tables of all its threads.
    pub fn add(&mut self, process: &Process) {
        match self.add_table(process.pid, process.shown_by) {
            Err(Errno::EACCES | Errno::EPERM) => self.hidden.push(process.pid),
            // Gone.
            Err(_) => return,
            Ok(()) => {}
        }
        if process.threads <= 1 || self.too_many {
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
            self.looked_at = self.looked_at.saturating_add(1);
            self.too_many |= self.looked_at > DESCRIPTORS_MAX;
            if self.too_many {
                return Ok(());
            }
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
            } else if link.as_bytes().ends_with(b" (deleted)") {
                let in_private = self.private.iter().any(|path| link.as_bytes().starts_with(path));
                let files = match link.as_bytes().starts_with(b"/memfd:") {
                    true => &mut self.memory,
                    false if in_private => &mut self.nameless,
                    false => continue,
                };
                let Ok(status) = fstatat(&table, entry.file_name(), AtFlags::empty()) else { continue };
                if status.st_nlink == 0 {
                    let blocks = u64::try_from(status.st_blocks).unwrap_or(0);
                    files.insert((status.st_dev, status.st_ino), blocks.saturating_mul(BLOCK_BYTES));
                }
            }
        }
        Ok(())
    }

    /// The files that are counted here, for whom maps them too.
    pub fn files(&self) -> impl Iterator<Item = FileId> {
        self.memory.keys().copied()
    }

    /// Bytes of memory that are held.
    pub fn memory_bytes(&self) -> u64 {
        let count = |set: &BTreeSet<u64>| u64::try_from(set.len()).unwrap_or(u64::MAX);
        let sockets = count(&self.sockets).saturating_mul(SOCKET_BYTES);
        let pipes = count(&self.pipes).saturating_mul(PIPE_BYTES);
        self.memory.values().copied().fold(sockets.saturating_add(pipes), u64::saturating_add)
    }

    /// Bytes on the private directory's device that no name leads to any more.
    pub fn nameless_bytes(&self) -> u64 {
        self.nameless.values().copied().fold(0, u64::saturating_add)
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
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn memory_files_and_files_without_a_name_count_once_and_named_ones_not() {
        let place = tempfile::tempdir().unwrap();
        let look = || {
            let mut held = Held::new([place.path().as_os_str()].into_iter());
            held.add(&Process::look(Pid::this()).unwrap());
            held
        };
        let mut memory = std::fs::File::from(memfd_create("a b (deleted)", MFdFlags::MFD_CLOEXEC).unwrap());
        memory.write_all(&[1; 3 << 20]).unwrap();
        let _again = memory.try_clone().unwrap();
        let path = place.path().join("file");
        std::fs::write(&path, vec![1; 1 << 20]).unwrap();
        let file = std::fs::File::open(&path).unwrap();
        let facts = memory.metadata().unwrap();
        let named = look();
        assert_eq!(named.memory.get(&(facts.dev(), facts.ino())), Some(&(3 << 20)));
        assert_eq!((named.nameless_bytes(), named.hidden.len()), (0, 0));
        std::fs::remove_file(&path).unwrap();
        assert!(look().nameless_bytes() >= 1 << 20);
        drop(file);
    }

    #[test]
    fn only_the_kernels_own_words_are_numbers() {
        assert_eq!(numbered(OsStr::new("socket:[77]"), b"socket:["), Some(77));
        for other in ["socket:[7", "/socket:[7]", "socket:[-7]", "socket:[x]"] {
            assert_eq!(numbered(OsStr::new(other), b"socket:["), None, "{other}");
        }
    }
}
