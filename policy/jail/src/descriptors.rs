//! Which descriptors a process holds, and the closing of all it should not (T-11).

use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use thiserror::Error;

#[derive(Debug, Error)]
pub enum DescriptorError {
    #[error("cannot close descriptors {first} to {last}: {source}")]
    Sweep { first: u32, last: u32, source: io::Error },
    #[error("a descriptor to keep has the negative number {0}")]
    Negative(RawFd),
}

/// Closes every descriptor but those in `keep`, which need not be sorted. Nothing else in the process may own
/// a descriptor that is swept: this is for the start of a process, before it holds anything of its own.
pub fn sweep_descriptors(keep: &[RawFd]) -> Result<(), DescriptorError> {
    let mut kept = Vec::with_capacity(keep.len());
    for number in keep {
        kept.push(u32::try_from(*number).map_err(|_| DescriptorError::Negative(*number))?);
    }
    kept.sort_unstable();
    let mut first = 0u32;
    for number in kept {
        if number > first {
            close_range(first, number - 1)?;
        }
        first = first.max(number.saturating_add(1));
    }
    close_range(first, u32::MAX)
}

fn close_range(first: u32, last: u32) -> Result<(), DescriptorError> {
    // SAFETY: closes numbers; the caller has said that nobody owns them.
    let answer = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0u32) };
    if answer == 0 {
        return Ok(());
    }
    Err(DescriptorError::Sweep { first, last, source: io::Error::last_os_error() })
}

/// Whether a filter is in force here, or in the process this one was forked from: then an open may kill, and asking
/// for a limit too.
static LOCKED: AtomicBool = AtomicBool::new(false);

/// From here on no list is made by opening `/proc`.
pub(crate) fn lock_down() {
    LOCKED.store(true, Ordering::Relaxed);
}

/// The numbers of all open descriptors, sorted. From `/proc/self/fd` where it can be read, which an undumpable
/// process of an ordinary user cannot; else by asking for each number up to the limit. After lock-down, where an open
/// would end the process, it asks for each of the first 65,536 numbers by `F_GETFD`, which every role allows (T-03).
pub fn list_descriptors() -> Vec<RawFd> {
    if LOCKED.load(Ordering::Relaxed) {
        return (0..PROBED_MAX).filter(|number| is_open(*number)).collect();
    }
    let mut open = listed().unwrap_or_else(probed);
    open.sort_unstable();
    open
}

fn listed() -> Option<Vec<RawFd>> {
    let entries = std::fs::read_dir("/proc/self/fd").ok()?;
    let numbers: Vec<RawFd> =
        entries.map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect::<Option<_>>()?;
    // The listing's own descriptor is among them, and closed by now.
    Some(numbers.into_iter().filter(|number| is_open(*number)).collect())
}

/// Where a limit is huge, only this many numbers are asked for.
const PROBED_MAX: RawFd = 65_536;

fn probed() -> Vec<RawFd> {
    let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)
        .map_or(PROBED_MAX, |(_, hard)| RawFd::try_from(hard).unwrap_or(PROBED_MAX));
    (0..limit.min(PROBED_MAX)).filter(|number| is_open(*number)).collect()
}

fn is_open(number: RawFd) -> bool {
    // SAFETY: asks for flags of a number, changes nothing.
    unsafe { libc::fcntl(number, libc::F_GETFD) >= 0 }
}
