//! Reading and writing an opened regular file, in bounds.
//!
//! Runs in cap-fs. Positions are ours, never the descriptor's, so that two uses of one file do not move each other.

use nix::errno::Errno;
use nix::sys::uio::{pread, pwrite};
use nix::unistd::ftruncate;
use sha2::{Digest, Sha256};
use std::os::fd::AsFd;
use warden_beneath::errors::OpError;
use warden_beneath::paths;
use warden_beneath::pulse::Pulse;

/// Read at once where a whole file passes through.
const BLOCK_BYTES: usize = 64 * 1024;

/// Bytes from `offset` on, at most `max_bytes`, fewer only at the end of the file.
pub fn read_at(
    fd: impl AsFd,
    offset: u64,
    max_bytes: usize,
    shown: &str,
    pulse: &mut dyn Pulse,
) -> Result<Vec<u8>, OpError> {
    let failed = OpError::system("read", shown);
    let size = paths::size(&paths::facts(&fd).map_err(&failed)?);
    // Allocates what the file has, not what was asked for; a file that grows meanwhile is read to where it ended.
    let there = usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX);
    let mut bytes = vec![0; there.min(max_bytes)];
    let mut done = 0_usize;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        pulse.beat()?;
        let block = rest.len().min(BLOCK_BYTES.saturating_mul(16));
        let at = position(offset, done, shown)?;
        match pread(&fd, rest.get_mut(..block).unwrap_or_default(), at) {
            Ok(0) => break,
            Ok(count) => done = done.saturating_add(count),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

/// Writes bytes at `offset`; says how many got there before an error, if any did.
pub fn write_at(fd: impl AsFd, offset: u64, bytes: &[u8], shown: &str) -> (usize, Result<(), OpError>) {
    let mut done = 0_usize;
    while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
        let at = match position(offset, done, shown) {
            Ok(at) => at,
            Err(error) => return (done, Err(error)),
        };
        match pwrite(&fd, rest, at) {
            Ok(0) => return (done, Err(OpError::system("write", shown)(Errno::ENOSPC))),
            Ok(count) => done = done.saturating_add(count),
            Err(Errno::EINTR) => {}
            Err(errno) => return (done, Err(OpError::system("write", shown)(errno))),
        }
    }
    (done, Ok(()))
}

/// Sets the length.
pub fn cut(fd: impl AsFd, len: u64, shown: &str) -> Result<(), OpError> {
    let failed = OpError::system("set the length of", shown);
    let len = i64::try_from(len).map_err(|_| failed(Errno::EFBIG))?;
    ftruncate(fd, len).map_err(failed)
}

/// Size now, bytes.
pub fn size(fd: impl AsFd, shown: &str) -> Result<u64, OpError> {
    Ok(paths::size(&paths::facts(fd).map_err(OpError::system("look at", shown))?))
}

/// SHA-256 of all of it, up to `max_bytes`; beyond that an error.
pub fn sha256(fd: impl AsFd, max_bytes: u64, shown: &str, pulse: &mut dyn Pulse) -> Result<[u8; 32], OpError> {
    let mut hash = Sha256::new();
    let mut block = vec![0; BLOCK_BYTES];
    let mut done = 0_u64;
    loop {
        pulse.beat()?;
        let at = i64::try_from(done).map_err(|_| too_long(shown, max_bytes))?;
        match pread(&fd, &mut block, at) {
            Ok(0) => return Ok(hash.finalize().into()),
            Ok(count) => {
                hash.update(block.get(..count).unwrap_or_default());
                done = done.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
            }
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(OpError::system("read", shown)(errno)),
        }
        if done > max_bytes {
            return Err(too_long(shown, max_bytes));
        }
    }
}

/// What is longer than can be looked at.
pub fn too_long(shown: &str, max_bytes: u64) -> OpError {
    OpError::Limit(format!("`{shown}` is longer than the {max_bytes} bytes that are looked at"))
}

fn position(offset: u64, done: usize, shown: &str) -> Result<i64, OpError> {
    let at = u64::try_from(done).ok().and_then(|done| offset.checked_add(done));
    at.and_then(|at| i64::try_from(at).ok()).ok_or_else(|| OpError::system("reach", shown)(Errno::EFBIG))
}
