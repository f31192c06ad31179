//! What a waiting call asks for, read from its registers alone.

use nix::errno::Errno;
use nix::fcntl::OFlag;
use warden_jail::notify::{Notice, SYS_FCHMODAT2};

/// A path in the caller's memory, and where it begins if it is relative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathAt {
    /// A descriptor of the caller's, or `AT_FDCWD`.
    pub directory: i32,
    /// Where the text lies.
    pub address: u64,
}

/// One call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// open, openat, creat.
    Open { at: PathAt, flags: OFlag, mode: u32 },
    /// openat2: the rest lies in memory, so many bytes long.
    OpenHow { at: PathAt, how: u64, size: u64 },
    /// unlink, rmdir, unlinkat.
    Remove { at: PathAt, directory: bool },
    /// rename and its kin.
    Rename { from: PathAt, to: PathAt, flags: u32 },
    /// link, linkat.
    Link { from: PathAt, to: PathAt, flags: i32 },
    /// symlink, symlinkat; `text` is where the link's text lies.
    Symlink { text: u64, at: PathAt },
    /// mkdir, mkdirat.
    MakeDirectory { at: PathAt, mode: u32 },
    /// mknod, mknodat.
    MakeNode { at: PathAt, mode: u32 },
    /// truncate.
    Truncate { at: PathAt, length: i64 },
    /// chmod, utimensat, chown and their kin.
    Change { of: Subject, change: Change },
    /// fallocate.
    Allocate(Space),
    /// setxattr and its kin.
    Attribute { of: Subject, act: Attribute },
}

/// What is asked of a file's extended attributes. Names and values lie in the caller's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attribute {
    /// The value of one.
    Get { name: u64, to: Room },
    /// The names of all.
    List { to: Room },
    /// A value for one.
    Set { name: u64, value: Room, flags: u32 },
    /// The end of one.
    Remove { name: u64 },
}

/// A part of the caller's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Where it begins.
    pub address: u64,
    /// How long it is.
    pub bytes: u64,
}

/// Space that a file is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// The file, by a descriptor of the caller's.
    pub descriptor: i32,
    /// 0 for a file that becomes as long as that.
    pub mode: u32,
    /// Where it begins.
    pub offset: i64,
    /// How long it is.
    pub length: i64,
}

/// What a change of mode, times or owner is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// What a path leads to; a link of the last name itself, unless `follow`. Where the path is empty and `or_descriptor`, what
    /// its directory is.
    Path { at: PathAt, follow: bool, or_descriptor: bool },
    /// A descriptor of the caller's, not `AT_FDCWD`.
    Descriptor(i32),
}

/// What is to be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Its mode, without set-id bits.
    Mode(u32),
    /// Where the two times lie; 0 for now.
    Times { address: u64, clock: Clock },
    /// Its user and group.
    Owner(u32, u32),
}

/// How two times are written: `utimensat`'s nanoseconds, `utimes`'s microseconds, `utime`'s whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// Two `timespec`.
    Nanoseconds,
    /// Two `timeval`.
    Microseconds,
    /// Two `time_t`.
    Seconds,
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

fn here(address: u64) -> PathAt {
    PathAt { directory: libc::AT_FDCWD, address }
}

fn at(directory: u64, address: u64) -> PathAt {
    PathAt { directory: int(directory), address }
}

fn flags(argument: u64) -> OFlag {
    OFlag::from_bits_retain(int(argument))
}

/// T-07, T-13: the filter refuses set-id bits before, and this does where another listens.
fn mode(argument: u64) -> nix::Result<Change> {
    let mode = low(argument) & 0o7777;
    if mode & (libc::S_ISUID | libc::S_ISGID) == 0 { Ok(Change::Mode(mode)) } else { Err(Errno::EPERM) }
}

/// A descriptor and nothing else: `AT_FDCWD` would be taken for the caller's directory.
fn descriptor(argument: u64) -> nix::Result<Subject> {
    let number = int(argument);
    if number >= 0 { Ok(Subject::Descriptor(number)) } else { Err(Errno::EBADF) }
}

/// What a path names, by the flags of the `*at` calls.
fn subject(at: PathAt, flags: i32) -> nix::Result<Subject> {
    if flags & !(libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let (follow, or_descriptor) = (flags & libc::AT_SYMLINK_NOFOLLOW == 0, flags & libc::AT_EMPTY_PATH != 0);
    Ok(Subject::Path { at, follow, or_descriptor })
}

impl Ask {
    /// An error is what a call that asks for nothing possible, or is none of the door's, is answered.
    pub fn of(notice: &Notice) -> nix::Result<Self> {
        let [a, b, c, d, e, _] = notice.args;
        Ok(match i64::from(notice.number) {
            libc::SYS_open => Self::Open { at: here(a), flags: flags(b), mode: low(c) },
            libc::SYS_openat => Self::Open { at: at(a, b), flags: flags(c), mode: low(d) },
            libc::SYS_creat => {
                Self::Open { at: here(a), flags: OFlag::O_CREAT | OFlag::O_WRONLY | OFlag::O_TRUNC, mode: low(b) }
            }
            libc::SYS_openat2 => Self::OpenHow { at: at(a, b), how: c, size: d },
            libc::SYS_unlink => Self::Remove { at: here(a), directory: false },
            libc::SYS_rmdir => Self::Remove { at: here(a), directory: true },
            libc::SYS_unlinkat => Self::Remove { at: at(a, b), directory: int(c) & libc::AT_REMOVEDIR != 0 },
            libc::SYS_rename => Self::Rename { from: here(a), to: here(b), flags: 0 },
            libc::SYS_renameat => Self::Rename { from: at(a, b), to: at(c, d), flags: 0 },
            libc::SYS_renameat2 => Self::Rename { from: at(a, b), to: at(c, d), flags: low(e) },
            libc::SYS_link => Self::Link { from: here(a), to: here(b), flags: 0 },
            libc::SYS_linkat => Self::Link { from: at(a, b), to: at(c, d), flags: int(e) },
            libc::SYS_symlink => Self::Symlink { text: a, at: here(b) },
            libc::SYS_symlinkat => Self::Symlink { text: a, at: at(b, c) },
            libc::SYS_mkdir => Self::MakeDirectory { at: here(a), mode: low(b) },
            libc::SYS_mkdirat => Self::MakeDirectory { at: at(a, b), mode: low(c) },
            libc::SYS_mknod => Self::MakeNode { at: here(a), mode: low(b) },
            libc::SYS_mknodat => Self::MakeNode { at: at(a, b), mode: low(c) },
            libc::SYS_truncate => Self::Truncate { at: here(a), length: i64::from_ne_bytes(b.to_ne_bytes()) },
            libc::SYS_fallocate => {
                let (offset, length) = (i64::from_ne_bytes(c.to_ne_bytes()), i64::from_ne_bytes(d.to_ne_bytes()));
                Self::Allocate(Space { descriptor: int(a), mode: low(b), offset, length })
            }
            _ => Self::change(notice)?,
        })
    }

    fn change(notice: &Notice) -> nix::Result<Self> {
        let [a, b, c, d, e, _] = notice.args;
        let times = |address, clock| Change::Times { address, clock };
        let owner = |user, group| Change::Owner(low(user), low(group));
        let (of, change) = match i64::from(notice.number) {
            libc::SYS_chmod => (subject(here(a), 0), mode(b)?),
            libc::SYS_fchmodat => (subject(at(a, b), 0), mode(c)?),
            SYS_FCHMODAT2 => (subject(at(a, b), int(d)), mode(c)?),
            libc::SYS_fchmod => (descriptor(a), mode(b)?),
            // With a null path it means the descriptor, which must then be one, and takes no flag.
            libc::SYS_utimensat if b == 0 && int(a) == libc::AT_FDCWD => return Err(Errno::EFAULT),
            libc::SYS_utimensat if b == 0 && int(d) != 0 => return Err(Errno::EINVAL),
            libc::SYS_utimensat if b == 0 => (descriptor(a), times(c, Clock::Nanoseconds)),
            libc::SYS_utimensat => (subject(at(a, b), int(d)), times(c, Clock::Nanoseconds)),
            libc::SYS_utime => (subject(here(a), 0), times(b, Clock::Seconds)),
            libc::SYS_utimes => (subject(here(a), 0), times(b, Clock::Microseconds)),
            libc::SYS_futimesat => (subject(at(a, b), 0), times(c, Clock::Microseconds)),
            libc::SYS_fchown => (descriptor(a), owner(b, c)),
            libc::SYS_chown => (subject(here(a), 0), owner(b, c)),
            libc::SYS_lchown => (subject(here(a), libc::AT_SYMLINK_NOFOLLOW), owner(b, c)),
            libc::SYS_fchownat => (subject(at(a, b), int(e)), owner(c, d)),
            _ => return Self::attribute(notice),
        };
        Ok(Self::Change { of: of?, change })
    }

    fn attribute(notice: &Notice) -> nix::Result<Self> {
        let [a, b, c, d, e, _] = notice.args;
        let path = |follow| Subject::Path { at: here(a), follow, or_descriptor: false };
        let room = |address, bytes| Room { address, bytes };
        let set = Attribute::Set { name: b, value: room(c, d), flags: low(e) };
        let (of, act) = match i64::from(notice.number) {
            libc::SYS_getxattr => (path(true), Attribute::Get { name: b, to: room(c, d) }),
            libc::SYS_lgetxattr => (path(false), Attribute::Get { name: b, to: room(c, d) }),
            libc::SYS_listxattr => (path(true), Attribute::List { to: room(b, c) }),
            libc::SYS_llistxattr => (path(false), Attribute::List { to: room(b, c) }),
            libc::SYS_setxattr => (path(true), set),
            libc::SYS_lsetxattr => (path(false), set),
            libc::SYS_fsetxattr => (descriptor(a)?, set),
            libc::SYS_removexattr => (path(true), Attribute::Remove { name: b }),
            libc::SYS_lremovexattr => (path(false), Attribute::Remove { name: b }),
            libc::SYS_fremovexattr => (descriptor(a)?, Attribute::Remove { name: b }),
            _ => return Err(Errno::EPERM),
        };
        Ok(Self::Attribute { of, act })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_id_bits_are_no_mode() {
        for refused in [0o4755, 0o2755, 0o6777, 0o4000 | 1 << 40] {
            assert_eq!(mode(refused), Err(Errno::EPERM), "{refused:o}");
        }
        for (asked, set) in [(0o755, 0o755), (0o1777, 0o1777), (0o10_0644, 0o644)] {
            assert_eq!(mode(asked), Ok(Change::Mode(set)), "{asked:o}");
        }
    }
}
