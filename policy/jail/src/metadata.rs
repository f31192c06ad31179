//! Performs a command's changes of mode and times, in its keeper, where the keeper's judgement allows them.
//!
//! Landlock does not govern chmod and utimensat, so a command may not make them itself: they would reach every
//! file of the uid. Its calls wait at the listener; this reads the path once into memory of the keeper, opens what
//! it names without acting, looks where that lies, and acts on what was opened (T-01, T-02). A descriptor is judged
//! like a path: one opened to read is enough for fchmod and futimens, which would change a file of a read-only
//! workspace (T-01). The command's words are a path and numbers; nothing else of it is parsed. Runs in the keeper,
//! outside the command's domain.
//! No mode with a set-id bit is ever set: the program would run as the task's user for any other user of the host,
//! with no jail around it (T-07, T-13).

use crate::notify::{Listener, Notice, NotifyError, SYS_FCHMODAT2};
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

const PATH_MAX_BYTES: usize = 4096;
const PAGE_BYTES: u64 = 4096;

/// What a notice asks for, read from registers only.
struct Request {
    directory: i32,
    /// Where the path lies in the command's memory; `None` where the descriptor itself is meant.
    path: Option<u64>,
    change: Change,
    follow: bool,
    empty_path: bool,
}

#[derive(Clone, Copy)]
enum Change {
    Mode(u32),
    /// Where the times lie in the command's memory, and how they are written; 0 for now.
    Times(u64, Clock),
    /// Never done. `cp -p` and `sed -i` ask for the user and group that a file has, and are told that it has them.
    Owner(u32, u32),
}

/// How two times are written: `utimensat`'s nanoseconds, `utimes`'s microseconds, `utime`'s whole seconds.
#[derive(Clone, Copy)]
enum Clock {
    Nanoseconds,
    Microseconds,
    Seconds,
}

/// Does what the waiting call asks for, if `judge` says so of what it names, and answers it; else answers
/// what `judge` says, or the errno of the step that failed. What `judge` is given may be of any kind, and lie anywhere. `false` where nobody waits any more. Not for notices of new processes,
/// which it refuses.
pub fn perform(
    listener: &Listener,
    notice: &Notice,
    judge: &mut dyn FnMut(BorrowedFd<'_>) -> nix::Result<()>,
) -> Result<bool, NotifyError> {
    match attempt(listener, notice, judge) {
        Ok(()) => listener.done(notice),
        Err(errno) => listener.refuse(notice, errno as i32),
    }
}

fn attempt(
    listener: &Listener,
    notice: &Notice,
    judge: &mut dyn FnMut(BorrowedFd<'_>) -> nix::Result<()>,
) -> nix::Result<()> {
    let mut request = request(notice)?;
    let memory = File::open(format!("/proc/{}/mem", notice.pid)).map_err(errno)?;
    let mut path = request.path.map_or_else(|| Ok(CString::default()), |at| read_path(&memory, at))?;
    if let Some(number) = own_descriptor(&path) {
        (request.directory, request.empty_path, path) = (number, true, CString::default());
    }
    let times = match request.change {
        Change::Times(0, _) => Some([Timestamp::NOW; 2]),
        Change::Times(at, clock) => Some(read_times(&memory, at, clock)?),
        Change::Mode(_) | Change::Owner(..) => None,
    };
    let base = base(notice.pid, &request, &path)?;
    // Only now is it sure that memory and directory were of the process that waits, not of a later one with its pid.
    if !listener.is_waiting(notice) {
        return Err(nix::Error::ESRCH);
    }
    let target = open(&request, base, &path)?;
    judge(target.as_fd())?;
    match (request.change, times) {
        (Change::Mode(mode), _) => set_mode(&target, mode),
        (Change::Owner(user, group), _) => has_owner(&target, user, group),
        (Change::Times(..), Some(times)) => set_times(&target, &times),
        (Change::Times(..), None) => Err(nix::Error::EINVAL),
    }
}

/// The low half of a register, as the kernel takes an `unsigned int`.
fn low(argument: u64) -> u32 {
    let [a, b, c, d, ..] = argument.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// The same as an `int`.
fn int(argument: u64) -> i32 {
    i32::from_ne_bytes(low(argument).to_ne_bytes())
}

/// A mode without set-id bits; the filter refuses them before, and this does where another listens (T-07, T-13).
fn mode(argument: u64) -> nix::Result<Change> {
    let mode = low(argument) & 0o7777;
    if mode & (libc::S_ISUID | libc::S_ISGID) != 0 {
        return Err(nix::Error::EPERM);
    }
    Ok(Change::Mode(mode))
}

fn request(notice: &Notice) -> nix::Result<Request> {
    let [first, second, third, fourth, fifth, _] = notice.args;
    let times = |at| Change::Times(at, Clock::Nanoseconds);
    let (directory, path, change, flags) = match i64::from(notice.number) {
        libc::SYS_chmod => (libc::AT_FDCWD, Some(first), mode(second)?, 0),
        libc::SYS_fchmodat => (int(first), Some(second), mode(third)?, 0),
        SYS_FCHMODAT2 => (int(first), Some(second), mode(third)?, int(fourth)),
        libc::SYS_fchmod => (descriptor(first)?, None, mode(second)?, 0),
        libc::SYS_fchown => (descriptor(first)?, None, Change::Owner(low(second), low(third)), 0),
        // With a null path it means the descriptor, which must then be one, and takes no flag.
        libc::SYS_utimensat if second == 0 && int(first) == libc::AT_FDCWD => return Err(nix::Error::EFAULT),
        libc::SYS_utimensat if second == 0 && int(fourth) != 0 => return Err(nix::Error::EINVAL),
        libc::SYS_utimensat if second == 0 => (descriptor(first)?, None, times(third), 0),
        libc::SYS_utimensat => (int(first), Some(second), times(third), int(fourth)),
        libc::SYS_utime => (libc::AT_FDCWD, Some(first), Change::Times(second, Clock::Seconds), 0),
        libc::SYS_utimes => (libc::AT_FDCWD, Some(first), Change::Times(second, Clock::Microseconds), 0),
        libc::SYS_futimesat => (int(first), Some(second), Change::Times(third, Clock::Microseconds), 0),
        libc::SYS_chown => (libc::AT_FDCWD, Some(first), Change::Owner(low(second), low(third)), 0),
        libc::SYS_lchown => {
            (libc::AT_FDCWD, Some(first), Change::Owner(low(second), low(third)), libc::AT_SYMLINK_NOFOLLOW)
        }
        libc::SYS_fchownat => (int(first), Some(second), Change::Owner(low(third), low(fourth)), int(fifth)),
        _ => return Err(nix::Error::EPERM),
    };
    if flags & !(libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH) != 0 {
        return Err(nix::Error::EINVAL);
    }
    let follow = flags & libc::AT_SYMLINK_NOFOLLOW == 0;
    let empty_path = path.is_none() || flags & libc::AT_EMPTY_PATH != 0;
    Ok(Request { directory, path, change, follow, empty_path })
}

/// A descriptor and nothing else: `AT_FDCWD` would be taken for the command's directory.
fn descriptor(argument: u64) -> nix::Result<i32> {
    let number = int(argument);
    if number >= 0 { Ok(number) } else { Err(nix::Error::EBADF) }
}

fn errno(error: std::io::Error) -> nix::Error {
    nix::Error::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

/// Reads a C string, page by page, because the next page may not be there.
fn read_path(memory: &File, at: u64) -> nix::Result<CString> {
    let mut bytes = Vec::new();
    while bytes.len() < PATH_MAX_BYTES {
        let length = u64::try_from(bytes.len()).map_err(|_| nix::Error::EFAULT)?;
        let from = at.checked_add(length).ok_or(nix::Error::EFAULT)?;
        let within = usize::try_from(from % PAGE_BYTES).map_err(|_| nix::Error::EFAULT)?;
        let mut page = vec![0u8; PATH_MAX_BYTES.saturating_sub(within)];
        let read = memory.read_at(&mut page, from).map_err(|_| nix::Error::EFAULT)?;
        page.truncate(read);
        if page.is_empty() {
            return Err(nix::Error::EFAULT);
        }
        if let Ok(text) = CStr::from_bytes_until_nul(&page) {
            bytes.extend_from_slice(text.to_bytes());
            if bytes.len() >= PATH_MAX_BYTES {
                break;
            }
            return CString::new(bytes).map_err(|_| nix::Error::EINVAL);
        }
        bytes.append(&mut page);
    }
    Err(nix::Error::ENAMETOOLONG)
}

/// A `timespec`, laid out as the kernel's.
#[repr(C)]
#[derive(Clone, Copy)]
struct Timestamp {
    seconds: i64,
    nanoseconds: i64,
}

impl Timestamp {
    const NOW: Timestamp = Timestamp { seconds: 0, nanoseconds: libc::UTIME_NOW };
}

fn read_times(memory: &File, at: u64, clock: Clock) -> nix::Result<[Timestamp; 2]> {
    let mut bytes = [0u8; 32];
    let length = if matches!(clock, Clock::Seconds) { 16 } else { 32 };
    let read = bytes.get_mut(..length).ok_or(nix::Error::EFAULT)?;
    memory.read_exact_at(read, at).map_err(|_| nix::Error::EFAULT)?;
    let word = |from: usize| {
        let eight = bytes.get(from..from + 8).and_then(|eight| eight.try_into().ok());
        eight.map(i64::from_le_bytes).ok_or(nix::Error::EFAULT)
    };
    let time = |at: usize| match clock {
        Clock::Nanoseconds => Ok(Timestamp { seconds: word(at)?, nanoseconds: word(at + 8)? }),
        // As the kernel: a part that is no part of a second is no time.
        Clock::Microseconds => match word(at + 8)? {
            part @ 0..1_000_000 => Ok(Timestamp { seconds: word(at)?, nanoseconds: part * 1000 }),
            _ => Err(nix::Error::EINVAL),
        },
        Clock::Seconds => Ok(Timestamp { seconds: word(at / 2)?, nanoseconds: 0 }),
    };
    Ok([time(0)?, time(16)?])
}

/// N of `/proc/self/fd/N`: how the C library changes the mode of a descriptor it opened as a path. It means the
/// command's descriptor, while the keeper's `/proc/self` is the keeper.
fn own_descriptor(path: &CStr) -> Option<i32> {
    let number = path.to_str().ok()?.strip_prefix("/proc/self/fd/")?;
    number.parse().ok().filter(|number| *number >= 0)
}

/// The directory from which the command's path starts; `None` for an absolute one.
fn base(pid: u32, request: &Request, path: &CStr) -> nix::Result<Option<OwnedFd>> {
    let bytes = path.to_bytes();
    if bytes.first() == Some(&b'/') {
        return Ok(None);
    }
    let empty = bytes.is_empty();
    if empty && !request.empty_path {
        return Err(nix::Error::ENOENT);
    }
    let link = match request.directory {
        libc::AT_FDCWD => format!("/proc/{pid}/cwd"),
        number if number >= 0 => format!("/proc/{pid}/fd/{number}"),
        _ => return Err(nix::Error::EBADF),
    };
    let kind = if empty { OFlag::empty() } else { OFlag::O_DIRECTORY };
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC | kind;
    nix::fcntl::open(link.as_str(), flags, Mode::empty()).map(Some).map_err(|errno| match errno {
        // No such entry of `/proc` is to the command no such descriptor.
        nix::Error::ENOENT => nix::Error::EBADF,
        other => other,
    })
}

/// Opens what the path names, without acting on it; magic links would lead into the keeper's own `/proc`.
fn open(request: &Request, base: Option<OwnedFd>, path: &CStr) -> nix::Result<OwnedFd> {
    let base = match base {
        Some(base) if path.is_empty() => return Ok(base),
        Some(base) => base,
        None => nix::fcntl::open("/", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?,
    };
    let mut flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    if !request.follow {
        flags |= OFlag::O_NOFOLLOW;
    }
    let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(base.as_fd(), path, how)
}

fn own_path(descriptor: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", descriptor.as_raw_fd()))
}

fn set_mode(target: &OwnedFd, mode: u32) -> nix::Result<()> {
    // A link opened as itself has no mode: following its descriptor's entry would say ELOOP or go on to its end.
    let status = nix::sys::stat::fstat(target)?;
    if status.st_mode & libc::S_IFMT == libc::S_IFLNK {
        return Err(nix::Error::EOPNOTSUPP);
    }
    // By the descriptor's own entry, because an O_PATH descriptor has no fchmod.
    let path = own_path(target.as_fd());
    fchmodat(nix::fcntl::AT_FDCWD, &path, Mode::from_bits_truncate(mode), FchmodatFlags::FollowSymlink)
}

/// Whether the target has this user and group already; `u32::MAX` means whichever it has.
fn has_owner(target: &OwnedFd, user: u32, group: u32) -> nix::Result<()> {
    let status = nix::sys::stat::fstat(target)?;
    let same = |asked: u32, found: u32| asked == u32::MAX || asked == found;
    if same(user, status.st_uid) && same(group, status.st_gid) { Ok(()) } else { Err(nix::Error::EPERM) }
}

fn set_times(target: &OwnedFd, times: &[Timestamp; 2]) -> nix::Result<()> {
    // nix has no form with an empty path, which alone sets the times of a link itself by descriptor.
    // SAFETY: the descriptor is ours, the path a static C string, and the kernel reads two timestamps.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_utimensat,
            target.as_raw_fd(),
            c"".as_ptr(),
            times.as_ptr(),
            AtFlags::AT_EMPTY_PATH.bits(),
        )
    };
    nix::Error::result(answer).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_descriptor_is_taken_for_one() {
        assert_eq!(own_descriptor(c"/proc/self/fd/7"), Some(7));
        for other in [c"/proc/self/fd/7/x", c"/proc/self/fd/-1", c"/proc/self/fd/", c"proc/self/fd/7"] {
            assert_eq!(own_descriptor(other), None);
        }
    }

    #[test]
    fn set_id_bits_are_no_mode() {
        for refused in [0o4755, 0o2755, 0o6777, 0o4000 | 1 << 40] {
            assert_eq!(mode(refused).err(), Some(nix::Error::EPERM), "{refused:o}");
        }
        for (asked, set) in [(0o755, 0o755), (0o1777, 0o1777), (0o10_0644, 0o644)] {
            assert!(matches!(mode(asked), Ok(Change::Mode(found)) if found == set), "{asked:o}");
        }
    }
}
