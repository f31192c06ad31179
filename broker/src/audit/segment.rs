//! One file of records: made new, locked, appended to by one process, never by another.
//!
//! Space is allocated ahead of the write position (`fallocate` with KEEP_SIZE, so that the file's length stays true), for
//! the end records of all calls in flight and for the closing record: an effect is never let happen whose end could not
//! be recorded for want of space (T-09).

use super::directory::AuditDirectory;
use super::error::AuditError;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, Flock, FlockArg, OFlag, fallocate, openat};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, fdatasync, fsync, ftruncate, unlinkat, write};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// The first allocation; each following one is twice as large, up to the last.
const RESERVE_FIRST_BYTES: u64 = 64 * 1024;
const RESERVE_LAST_BYTES: u64 = 1024 * 1024;
/// A verifier holds a new segment's lock for an instant at most, to see whether it is live.
const LOCK_TRIES: u32 = 200;
const LOCK_PAUSE: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub(super) struct Segment {
    file: Flock<OwnedFd>,
    name: String,
    /// Length of the file: all of it complete records.
    written: u64,
    /// Bytes from the start that the filesystem has promised us.
    reserved: u64,
    step: u64,
    /// False where the filesystem cannot allocate ahead.
    can_reserve: bool,
    /// Part of a line is at the end and could not be taken out: nothing may follow it.
    torn: bool,
}

impl Segment {
    pub fn create(dir: &AuditDirectory, name: String) -> Result<Self, AuditError> {
        // O_NOFOLLOW is implied by O_EXCL; the name is random and new, so that nothing lies in wait there (T-02).
        let flags =
            OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let fd = openat(dir.fd(), name.as_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR)
            .map_err(|source| AuditError::Create { segment: name.clone(), source })?;
        let file = match lock(fd) {
            Ok(file) => file,
            Err(source) => {
                discard(dir, &name);
                return Err(AuditError::Lock { segment: name, source });
            }
        };
        Ok(Self { file, name, written: 0, reserved: 0, step: RESERVE_FIRST_BYTES, can_reserve: true, torn: false })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn written(&self) -> u64 {
        self.written
    }

    pub fn can_reserve(&self) -> bool {
        self.can_reserve
    }

    /// Makes sure that `ahead` more bytes can be written. Costs a system call once in a hundred records or so.
    pub fn reserve(&mut self, ahead: u64) -> Result<(), AuditError> {
        let wanted = self.written.saturating_add(ahead);
        if wanted <= self.reserved {
            return Ok(());
        }
        // KEEP_SIZE allocation does not look at this limit, and the write beyond it would be a signal.
        let limit_bytes = getrlimit(Resource::RLIMIT_FSIZE).map_or(u64::MAX, |(soft, _)| soft);
        if wanted > limit_bytes {
            return Err(AuditError::FileSizeLimit { limit_bytes });
        }
        if !self.can_reserve {
            self.reserved = wanted;
            return Ok(());
        }
        let generous = wanted.saturating_add(self.step).min(limit_bytes);
        match self.allocate(generous) {
            Ok(()) => {
                self.reserved = generous;
                self.step = self.step.saturating_mul(2).min(RESERVE_LAST_BYTES);
                Ok(())
            }
            // Not every filesystem can; the log then says so and relies on its end-record failure path.
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => {
                self.can_reserve = false;
                self.reserved = wanted;
                Ok(())
            }
            // Nearly full: what is needed may still be there.
            Err(Errno::ENOSPC | Errno::EDQUOT) => {
                self.allocate(wanted).map_err(AuditError::Reserve)?;
                self.reserved = wanted;
                Ok(())
            }
            Err(source) => Err(AuditError::Reserve(source)),
        }
    }

    fn allocate(&self, until: u64) -> Result<(), Errno> {
        let from = i64::try_from(self.reserved.max(self.written)).map_err(|_| Errno::EFBIG)?;
        let len = i64::try_from(until).map_err(|_| Errno::EFBIG)?.saturating_sub(from);
        loop {
            match fallocate(&*self.file, FallocateFlags::FALLOC_FL_KEEP_SIZE, from, len) {
                Err(Errno::EINTR) => {}
                other => return other,
            }
        }
    }

    /// True when the end of the file cannot be trusted to be a whole record; it then takes no more.
    pub fn torn(&self) -> bool {
        self.torn
    }

    /// Appends one line in one `write`. After an error the file ends where it ended before, or is torn.
    pub fn append(&mut self, line: &[u8]) -> Result<(), AuditError> {
        if self.torn {
            return Err(AuditError::Write(Errno::EIO));
        }
        let outcome = loop {
            match write(&*self.file, line) {
                Err(Errno::EINTR) => {}
                other => break other,
            }
        };
        let failure = match outcome {
            Ok(count) if count == line.len() => {
                self.written = self.written.saturating_add(u64::try_from(count).unwrap_or(0));
                return Ok(());
            }
            Ok(count) => AuditError::ShortWrite { written: count, expected: line.len() },
            Err(source) => AuditError::Write(source),
        };
        // Part of a line must not stay: the next record would be glued to it.
        self.torn = match i64::try_from(self.written) {
            Ok(length) => ftruncate(&*self.file, length).is_err(),
            Err(_) => true,
        };
        // Truncation gave the space ahead back as well.
        self.reserved = self.written;
        Err(failure)
    }

    pub fn sync(&self) -> Result<(), AuditError> {
        fdatasync(&*self.file).map_err(AuditError::Sync)
    }
}

impl Drop for Segment {
    /// Gives back what was allocated and not written; the lock goes with the descriptor.
    fn drop(&mut self) {
        if let (false, Ok(length)) = (self.torn, i64::try_from(self.written)) {
            // Only space is at stake here: the records are written.
            let _ = ftruncate(&*self.file, length);
        }
    }
}

fn lock(fd: OwnedFd) -> Result<Flock<OwnedFd>, Errno> {
    let mut fd = fd;
    for _ in 0..LOCK_TRIES {
        match Flock::lock(fd, FlockArg::LockExclusiveNonblock) {
            Ok(locked) => return Ok(locked),
            Err((back, Errno::EWOULDBLOCK | Errno::EINTR)) => fd = back,
            Err((_, source)) => return Err(source),
        }
        std::thread::sleep(LOCK_PAUSE);
    }
    Err(Errno::EWOULDBLOCK)
}

/// Takes away a segment in which no record was written.
pub(super) fn discard(dir: &AuditDirectory, name: &str) {
    let _ = unlinkat(dir.fd(), name, UnlinkatFlags::NoRemoveDir);
}

/// Brings the directory's entries to disk, so that a synced segment is found after a power cut.
pub(super) fn sync_directory(dir: &AuditDirectory) -> Result<(), AuditError> {
    fsync(dir.fd()).map_err(AuditError::Sync)
}
