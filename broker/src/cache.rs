//! Compiled code on disk, addressed by what it was made from.
//!
//! T-04: an entry's name is the hash of (module bytes, build, engine settings, processor), so a hostile module can only
//! ever poison its own entry. An entry holds its own SHA-256 first; it is copied once into a sealed memory file and the
//! copy is checked, so nobody can change what a worker maps between check and use.

use crate::sealed;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use warden_proto::codec::digest;

/// Longest entry, bytes: also the longest output of a compiler.
pub const ENTRY_MAX_BYTES: u64 = 512 * 1024 * 1024;
const HASH_BYTES: usize = 32;

/// Compiled code cannot be kept or found: the run goes on without the cache.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The system refused.
    #[error("the cache of compiled code could not be {0}: {1}")]
    System(&'static str, Errno),
    /// An entry's bytes are not those that were written.
    #[error("cache entry {0} is damaged; it is left out and made again")]
    Damaged(String),
}

/// Name of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheKey(String);

/// What code generation may depend on: the processor's features as the kernel lists them, in its order.
fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|l| l.starts_with("flags") || l.starts_with("Features"));
    format!("{} {}", std::env::consts::ARCH, line.unwrap_or_default())
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len().saturating_mul(2)), |mut text, byte| {
        use std::fmt::Write as _;
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The cache directory, held open since before the broker's own jail was shut.
#[derive(Debug)]
pub struct Cache {
    dir: OwnedFd,
    /// Read before the broker's own jail is shut.
    processor: String,
}

impl Cache {
    /// Takes the directory; the caller has checked whose it is.
    pub fn new(dir: OwnedFd) -> Self {
        Self { dir, processor: processor() }
    }

    /// The key of a module, compiled with or without metering on this processor by this build.
    pub fn key(&self, module_sha256: &[u8; 32], metered: bool) -> CacheKey {
        let settings: &[u8] = if metered { b"fuel" } else { b"plain" };
        CacheKey(hex(&digest(&[module_sha256, &warden_proto::build_id(), settings, self.processor.as_bytes()])))
    }

    /// The directory, for the broker's own jail.
    pub fn directory(&self) -> &OwnedFd {
        &self.dir
    }

    /// The code of `key` in a sealed memory file, if it is there and whole.
    pub fn get(&self, key: &CacheKey) -> Result<Option<OwnedFd>, CacheError> {
        let step = |what| move |errno| CacheError::System(what, errno);
        let name = format!("{}.cwasm", key.0);
        let fd = match openat(
            &self.dir,
            name.as_str(),
            OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY,
            Mode::empty(),
        ) {
            Ok(fd) => fd,
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(CacheError::System("opened", errno)),
        };
        let facts = fstat(&fd).map_err(step("measured"))?;
        let regular = facts.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFREG.bits();
        // A FIFO would hold us up, a device would have no end (T-06).
        if !regular || u64::try_from(facts.st_size).map_or(true, |len| len > ENTRY_MAX_BYTES) {
            return Err(CacheError::Damaged(name));
        }
        let io = |e: std::io::Error| CacheError::System("read", Errno::from_raw(e.raw_os_error().unwrap_or(0)));
        let mut bytes = Vec::new();
        File::from(fd).take(ENTRY_MAX_BYTES).read_to_end(&mut bytes).map_err(io)?;
        let Some((hash, code)) = bytes.split_at_checked(HASH_BYTES) else { return Err(CacheError::Damaged(name)) };
        if Sha256::digest(code).as_slice() != hash {
            return Err(CacheError::Damaged(name));
        }
        sealed::holding("code", code).map(Some).map_err(step("copied"))
    }

    /// Keeps `code` under `key`: written beside, then renamed, so that two writers and a crash leave a whole entry or none.
    pub fn put(&self, key: &CacheKey, code: &[u8]) -> Result<(), CacheError> {
        let step = |what| move |errno| CacheError::System(what, errno);
        let (name, beside) = (format!("{}.cwasm", key.0), format!("{}.{}.tmp", key.0, std::process::id()));
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let _ = nix::unistd::unlinkat(&self.dir, beside.as_str(), nix::unistd::UnlinkatFlags::NoRemoveDir);
        let fd = openat(&self.dir, beside.as_str(), flags, Mode::from_bits_truncate(0o600)).map_err(step("written"))?;
        let mut file = File::from(fd);
        let written = file.write_all(&Sha256::digest(code)).and_then(|()| file.write_all(code));
        let renamed = written
            .map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(0)))
            .and_then(|()| nix::fcntl::renameat(&self.dir, beside.as_str(), &self.dir, name.as_str()));
        if renamed.is_err() {
            let _ = nix::unistd::unlinkat(&self.dir, beside.as_str(), nix::unistd::UnlinkatFlags::NoRemoveDir);
        }
        renamed.map_err(step("written"))
    }
}

/// Reads a whole memory file that is sealed, from its start.
pub fn contents(fd: impl AsFd, len: u64) -> Result<Vec<u8>, Errno> {
    let copy = fd.as_fd().try_clone_to_owned().map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(0)))?;
    let mut file = File::from(copy);
    let failed = |e: std::io::Error| Errno::from_raw(e.raw_os_error().unwrap_or(0));
    std::io::Seek::rewind(&mut file).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(len).read_to_end(&mut bytes).map_err(failed)?;
    if u64::try_from(bytes.len()) == Ok(len) { Ok(bytes) } else { Err(Errno::EIO) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::open;

    fn cache(dir: &std::path::Path) -> Cache {
        Cache::new(open(dir, OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty()).unwrap())
    }

    #[test]
    fn an_entry_comes_back_and_a_damaged_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let cache = cache(dir.path());
        let key = cache.key(&[7; 32], false);
        assert!(cache.get(&key).unwrap().is_none());
        cache.put(&key, b"machine code").unwrap();
        let fd = cache.get(&key).unwrap().expect("the entry is there");
        assert_eq!(contents(&fd, 12).unwrap(), b"machine code");
        let path = dir.path().join(format!("{}.cwasm", key.0));
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(cache.get(&key), Err(CacheError::Damaged(_))));
    }

    #[test]
    fn an_entry_that_is_no_file_is_damaged_and_holds_nobody_up() {
        let dir = tempfile::tempdir().unwrap();
        let cache = cache(dir.path());
        let key = cache.key(&[7; 32], false);
        nix::unistd::mkfifo(&dir.path().join(format!("{}.cwasm", key.0)), Mode::S_IRWXU).unwrap();
        assert!(matches!(cache.get(&key), Err(CacheError::Damaged(_))));
        cache.put(&key, b"machine code").unwrap();
        assert!(cache.get(&key).unwrap().is_some(), "a whole entry takes its place");
    }

    #[test]
    fn metering_and_module_change_the_key() {
        let dir = tempfile::tempdir().unwrap();
        let cache = cache(dir.path());
        assert_ne!(cache.key(&[7; 32], false), cache.key(&[7; 32], true));
        assert_ne!(cache.key(&[7; 32], false), cache.key(&[8; 32], false));
        assert_eq!(cache.key(&[7; 32], false), cache.key(&[7; 32], false));
    }

    #[test]
    fn a_sealed_file_cannot_be_written() {
        let fd = sealed::holding("test", b"abc").unwrap();
        assert_eq!(nix::unistd::write(&fd, b"x"), Err(Errno::EPERM));
    }
}
