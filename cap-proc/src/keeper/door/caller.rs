//! The process whose call waits: its words, its directories, its mask.
//!
//! Runs in the keeper. Everything is read once, into memory of the keeper, and acted on from there: the command's other
//! threads may change their memory and their descriptors at any time (T-02). A number of a process proves nothing by itself,
//! since it may be another's by now, so [`Caller::waits`] is asked after the last read and before the first act.

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Read};
use std::os::fd::OwnedFd;
use warden_jail::notify::{Listener, Notice};

/// PATH_MAX, the final NUL included.
const PATH_MAX_BYTES: usize = 4096;
/// Of x86-64.
const PAGE_BYTES: u64 = 4096;
/// Read first: hardly a path is longer, and a page is seldom crossed.
const FIRST_BYTES: u64 = 256;

/// A caller that waits for its answer.
#[derive(Debug)]
pub struct Caller<'c> {
    listener: &'c Listener,
    notice: &'c Notice,
    thread: Pid,
}

impl<'c> Caller<'c> {
    /// Of this notice.
    pub fn new(listener: &'c Listener, notice: &'c Notice) -> nix::Result<Self> {
        let thread = i32::try_from(notice.pid).map_err(|_| Errno::ESRCH)?;
        Ok(Self { listener, notice, thread: Pid::from_raw(thread) })
    }

    /// ESRCH where nobody waits any more: what was read may then be of another process.
    pub fn waits(&self) -> nix::Result<()> {
        if self.listener.is_waiting(self.notice) { Ok(()) } else { Err(Errno::ESRCH) }
    }

    /// A C string, without its NUL.
    pub fn path(&self, at: u64) -> nix::Result<Vec<u8>> {
        let mut text = Vec::new();
        while text.len() < PATH_MAX_BYTES {
            let read = u64::try_from(text.len()).map_err(|_| Errno::EFAULT)?;
            let from = at.checked_add(read).ok_or(Errno::EFAULT)?;
            // Never over the end of a page: the next may not be there.
            let page = PAGE_BYTES.saturating_sub(from.checked_rem(PAGE_BYTES).unwrap_or_default());
            let wanted = if text.is_empty() { page.min(FIRST_BYTES) } else { page };
            let piece = self.memory(from, wanted)?;
            match piece.iter().position(|byte| *byte == 0) {
                Some(end) => {
                    text.extend(piece.into_iter().take(end));
                    return if text.len() < PATH_MAX_BYTES { Ok(text) } else { Err(Errno::ENAMETOOLONG) };
                }
                None => text.extend(piece),
            }
        }
        Err(Errno::ENAMETOOLONG)
    }

    /// So many bytes, all of them.
    pub fn memory(&self, at: u64, length: u64) -> nix::Result<Vec<u8>> {
        let length = usize::try_from(length).map_err(|_| Errno::EFAULT)?;
        let base = usize::try_from(at).map_err(|_| Errno::EFAULT)?;
        let mut bytes = vec![0; length];
        let read =
            process_vm_readv(self.thread, &mut [IoSliceMut::new(&mut bytes)], &[RemoteIoVec { base, len: length }]);
        match read {
            Ok(count) if count == length => Ok(bytes),
            // Who made itself undumpable cannot be looked at, and so is served by nobody.
            Err(hidden @ (Errno::EPERM | Errno::ESRCH)) => Err(hidden),
            Ok(_) | Err(_) => Err(Errno::EFAULT),
        }
    }

    /// Writes into its memory, where it may write itself. Whoever waits no more gets nothing; and should its number be
    /// another's in the very next moment, then one of the same command's: Landlock lets the keeper into no other (T-11, T-13).
    pub fn write(&self, at: u64, bytes: &[u8]) -> nix::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let base = usize::try_from(at).map_err(|_| Errno::EFAULT)?;
        self.waits()?;
        let to = [RemoteIoVec { base, len: bytes.len() }];
        match process_vm_writev(self.thread, &[IoSlice::new(bytes)], &to) {
            Ok(count) if count == bytes.len() => Ok(()),
            Ok(_) | Err(_) => Err(Errno::EFAULT),
        }
    }

    /// The directory where its relative paths begin, or what one of its descriptors is, as a path only.
    pub fn descriptor(&self, number: i32) -> nix::Result<OwnedFd> {
        let link = match number {
            libc::AT_FDCWD => format!("/proc/{}/cwd", self.thread),
            number if number >= 0 => format!("/proc/{}/fd/{number}", self.thread),
            _ => return Err(Errno::EBADF),
        };
        open(link.as_str(), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).map_err(|errno| match errno {
            // No such entry of `/proc` is to the command no such descriptor.
            Errno::ENOENT if number >= 0 => Errno::EBADF,
            other => other,
        })
    }

    /// Whether one of its descriptors may be written by.
    pub fn writes(&self, number: i32) -> nix::Result<bool> {
        let facts =
            std::fs::read_to_string(format!("/proc/{}/fdinfo/{number}", self.thread)).map_err(|_| Errno::EBADF)?;
        let flags = facts.lines().find_map(|line| line.strip_prefix("flags:")).ok_or(Errno::EBADF)?;
        let flags = i32::from_str_radix(flags.trim(), 8).map_err(|_| Errno::EBADF)?;
        Ok(flags & libc::O_PATH == 0 && matches!(flags & libc::O_ACCMODE, libc::O_WRONLY | libc::O_RDWR))
    }

    /// The file that it executes, as a path only.
    pub fn program(&self) -> nix::Result<OwnedFd> {
        let link = format!("/proc/{}/exe", self.thread);
        open(link.as_str(), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
    }

    /// Its own number.
    pub fn thread(&self) -> Pid {
        self.thread
    }

    /// The number of its process, by which `/proc` lists it.
    pub fn process(&self) -> nix::Result<u32> {
        self.status("Tgid:", 10)
    }

    /// A mode for what it makes: its own mask taken away, and never a set-id bit (T-07, T-13).
    pub fn mode(&self, asked: u32) -> nix::Result<Mode> {
        let mask = self.status("Umask:", 8)?;
        Ok(Mode::from_bits_truncate(asked & 0o1777 & !mask))
    }

    fn status(&self, key: &str, radix: u32) -> nix::Result<u32> {
        // By one read, which is all that a call should cost: what is asked for stands in the first lines.
        let mut text = [0_u8; 512];
        let mut file = File::open(format!("/proc/{}/status", self.thread)).map_err(|_| Errno::ESRCH)?;
        let length = file.read(&mut text).map_err(|_| Errno::ESRCH)?;
        let status = String::from_utf8_lossy(text.get(..length).unwrap_or_default());
        // The first line holds the program's own choice of a name, in which the kernel writes no newline.
        let value = status.lines().find_map(|line| line.strip_prefix(key)).ok_or(Errno::ESRCH)?;
        u32::from_str_radix(value.trim(), radix).map_err(|_| Errno::ESRCH)
    }
}
