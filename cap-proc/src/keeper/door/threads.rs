//! Where threads of the command stand, by the kernel's word.
//!
//! Runs in the keeper. The entry of a thread in `/proc` is kept open from one question to the next: it stays that thread's
//! for as long as it lives and answers nothing afterwards, whoever has its number by then (T-02).

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, readlinkat};
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

/// Entries kept at once; a tree has seldom more threads that open files at the same time.
const KEPT_MAX: usize = 32;
const ENTRY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// The entries.
#[derive(Debug)]
pub struct Threads {
    processes: OwnedFd,
    kept: RefCell<BTreeMap<i32, OwnedFd>>,
}

impl Threads {
    /// None yet.
    pub fn open() -> nix::Result<Self> {
        Ok(Self { processes: open("/proc", ENTRY, Mode::empty())?, kept: RefCell::default() })
    }

    /// Where a thread's relative paths begin, or what its descriptor `number` is.
    pub fn place(&self, thread: Pid, number: i32) -> nix::Result<Vec<u8>> {
        let name = match number {
            libc::AT_FDCWD => "cwd".to_owned(),
            0.. => format!("fd/{number}"),
            _ => return Err(Errno::EBADF),
        };
        let read = |entry: BorrowedFd<'_>| readlinkat(entry, name.as_str()).map(OsStringExt::into_vec);
        let mut kept = self.kept.try_borrow_mut().map_err(|_| Errno::EAGAIN)?;
        if let Some(place) = kept.get(&thread.as_raw()).and_then(|entry| read(entry.as_fd()).ok()) {
            return Ok(place);
        }
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        let entry = openat(&self.processes, thread.to_string().as_str(), ENTRY, Mode::empty());
        let entry = entry.map_err(|_| Errno::ESRCH)?;
        let place = read(entry.as_fd()).map_err(|errno| match errno {
            // No such entry of `/proc` is to the command no such descriptor.
            Errno::ENOENT if number >= 0 => Errno::EBADF,
            other => other,
        });
        kept.insert(thread.as_raw(), entry);
        place
    }
}
