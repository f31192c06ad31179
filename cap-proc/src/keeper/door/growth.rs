//! How much a command makes files of its workspaces grow, against what its task may (`limits.fs_written`, T-06).
//!
//! Runs in the keeper. The command writes by itself, through descriptors that the door opened, so growth is not seen as it
//! happens: every file that was opened for writing is kept until nobody has it open for writing any more, and its size is
//! looked at every [`LOOK_STEP`], sooner where little is left, and after every eighth that is newly kept. What was there before
//! is no growth. A file that has lost its name is kept like any other, so what is written into deleted files counts. Between two
//! looks each process writes what memory and disk take, and no file becomes longer than RLIMIT_FSIZE; what takes space without
//! writing it (fallocate) is the keeper's to do and is counted as it is done.
//!
//! What is made has a cost without contents: a file system has room for so many files, folders and links, and no more. Each
//! counts [`MADE_BYTES`], as in a private directory, whether it is there at the end or not.
//!
//! That nobody writes any more is asked of the kernel by a read lease, which it grants only then, and which is given back at
//! once. Where there are no leases, or a file may not be read, it is kept to the end.

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{FileStat, Mode};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};
use warden_beneath::paths;
use warden_jail::lease;

/// Between two looks.
pub const LOOK_STEP: Duration = Duration::from_millis(100);
/// The same where hardly anything is left.
const LOOK_STEP_MIN: Duration = Duration::from_millis(5);
/// A look is followed by so many times what it took, so that no more than a twentieth of the time goes into looks.
const REST_FACTOR: u32 = 20;
/// Of each file, folder or link that is made, besides what it holds.
const MADE_BYTES: u64 = 1024;
/// Files kept at once, each by a descriptor of the keeper's.
const KEPT_MAX: usize = 2048;
/// Files of the greatest length that are kept to be told of.
const FULL_MAX: usize = 16;
/// Files taken in until the next look: between two looks as many become as long as a file may be.
const NEW_MAX: usize = 8;

/// A file that is, or was, open for writing.
#[derive(Debug)]
struct Kept {
    fd: OwnedFd,
    /// Whether a lease can be asked for.
    leasable: bool,
    /// Its size when it was first opened for writing.
    before: u64,
    /// What it has grown by, when it was last looked at.
    grown: u64,
}

impl Kept {
    /// Its size now.
    fn look(&mut self) -> Option<u64> {
        let size = paths::size(&paths::facts(&self.fd).ok()?);
        self.grown = size.saturating_sub(self.before);
        Some(size)
    }
}

/// The count.
#[derive(Debug)]
pub struct Growth {
    max: u64,
    /// Longest file, bytes.
    longest: u64,
    /// Files that have been seen to be that long, the first few.
    full: BTreeMap<(u64, u64), OwnedFd>,
    /// Of files that nobody has open for writing any more.
    settled: u64,
    /// Of what was made, besides what it holds.
    made: u64,
    kept: BTreeMap<(u64, u64), Kept>,
    looked: Instant,
    /// What the last look at sizes took.
    took: Duration,
    /// When it was last asked who is still written.
    asked: Instant,
    /// Files taken in since.
    new: usize,
}

impl Growth {
    /// `max` bytes in all, `longest` of one file.
    pub fn new(max: u64, longest: u64) -> Self {
        Self {
            max,
            longest,
            full: BTreeMap::new(),
            settled: 0,
            made: 0,
            kept: BTreeMap::new(),
            looked: Instant::now(),
            took: Duration::ZERO,
            asked: Instant::now(),
            new: 0,
        }
    }

    /// All growth so far, as of the last look.
    pub fn total(&self) -> u64 {
        self.contents().saturating_add(self.made)
    }

    fn contents(&self) -> u64 {
        self.kept.values().fold(self.settled, |sum, kept| sum.saturating_add(kept.grown))
    }

    /// Whether the tree has written more than it may. What it made leaves less to be opened and made, and ends nobody: one file
    /// may be as long as the limit.
    pub fn is_over(&self) -> bool {
        self.contents() > self.max
    }

    /// Bytes left, as of the last look.
    pub fn left(&self) -> u64 {
        self.max.saturating_sub(self.total())
    }

    /// When the next look is due, counted from the last: a command is taken to write a byte in a nanosecond.
    fn step(&self) -> Duration {
        let soon = Duration::from_nanos(self.left()).max(LOOK_STEP_MIN);
        soon.max(self.took.saturating_mul(REST_FACTOR)).min(LOOK_STEP)
    }

    /// Whether one more file, folder or link may be made that holds so many bytes. [`Self::made`] follows.
    pub fn room_to_make(&mut self, bytes: u64) -> nix::Result<()> {
        self.room()?;
        if self.left() >= MADE_BYTES.saturating_add(bytes) { Ok(()) } else { Err(Errno::ENOSPC) }
    }

    /// One has been made.
    pub fn made(&mut self, bytes: u64) {
        self.made = self.made.saturating_add(MADE_BYTES).saturating_add(bytes);
    }

    /// Whether anything may grow, and there is room to keep one more file.
    pub fn room(&mut self) -> nix::Result<()> {
        if self.new >= NEW_MAX || self.kept.len() >= KEPT_MAX {
            self.look();
        }
        self.look_if_due();
        if self.left() == 0 {
            return Err(Errno::ENOSPC);
        }
        if self.kept.len() >= KEPT_MAX { Err(Errno::ENFILE) } else { Ok(()) }
    }

    /// Keeps a file that is about to be opened for writing, of which `path` is an O_PATH descriptor.
    pub fn keep(&mut self, path: BorrowedFd<'_>, stat: &FileStat) -> nix::Result<()> {
        let before = paths::size(stat);
        self.keep_from(path, stat, before)
    }

    /// The same for one that has just been made.
    pub fn keep_new(&mut self, path: BorrowedFd<'_>, stat: &FileStat) -> nix::Result<()> {
        self.keep_from(path, stat, 0)
    }

    fn keep_from(&mut self, path: BorrowedFd<'_>, stat: &FileStat, before: u64) -> nix::Result<()> {
        let key = (stat.st_dev, stat.st_ino);
        if self.kept.contains_key(&key) {
            return Ok(());
        }
        let name = format!("/proc/self/fd/{}", path.as_raw_fd());
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
        let (fd, leasable) = match open(name.as_str(), flags, Mode::empty()) {
            Ok(fd) => (fd, true),
            Err(Errno::EACCES) => (path.try_clone_to_owned().map_err(|_| Errno::ENFILE)?, false),
            Err(other) => return Err(other),
        };
        self.new = self.new.saturating_add(1);
        self.kept.insert(key, Kept { fd, leasable, before, grown: 0 });
        Ok(())
    }

    /// The door itself made a file longer, which had the size that `stat` says.
    pub fn grew(&mut self, stat: &FileStat, bytes: u64) {
        match self.kept.get_mut(&(stat.st_dev, stat.st_ino)) {
            // The next look finds the same.
            Some(kept) => {
                let length = paths::size(stat).saturating_add(bytes);
                kept.grown = kept.grown.max(length.saturating_sub(kept.before));
            }
            None => self.settled = self.settled.saturating_add(bytes),
        }
    }

    /// When to look again, if there is anything to look at.
    pub fn next_look(&self) -> Option<Duration> {
        (!self.kept.is_empty()).then(|| self.step().saturating_sub(self.looked.elapsed()))
    }

    /// Files that have been seen to be as long as a file may be, each once.
    pub fn take_full(&mut self) -> impl Iterator<Item = OwnedFd> + use<> {
        std::mem::take(&mut self.full).into_values()
    }

    /// Looks if it is time.
    pub fn look_if_due(&mut self) {
        if self.kept.is_empty() || self.looked.elapsed() < self.step() {
            return;
        }
        if self.asked.elapsed() >= LOOK_STEP { self.look() } else { self.look_at_sizes() }
    }

    /// All that has to be done soon, by one question for each file.
    fn look_at_sizes(&mut self) {
        let began = Instant::now();
        self.kept.values_mut().for_each(|kept| {
            kept.look();
        });
        self.looked = Instant::now();
        self.took = self.looked.saturating_duration_since(began);
    }

    /// Looks at every kept file, and lets go of those that nobody writes any more.
    pub fn look(&mut self) {
        let (settled, full, longest) = (&mut self.settled, &mut self.full, self.longest);
        self.kept.retain(|key, kept| {
            // Asked before its size: who opens it anew waits at the door meanwhile.
            let written = !kept.leasable || lease::has_writers(kept.fd.as_fd());
            // The kernel cuts a write there, and ends who writes on.
            if kept.look() == Some(longest)
                && full.len() < FULL_MAX
                && !full.contains_key(key)
                && let Ok(file) = kept.fd.try_clone()
            {
                full.insert(*key, file);
            }
            if !written {
                *settled = settled.saturating_add(kept.grown);
            }
            written
        });
        self.looked = Instant::now();
        self.asked = self.looked;
        self.new = 0;
    }
}
