//! What a waiting call asks for, read from its registers alone.

use nix::fcntl::OFlag;
use warden_jail::notify::Notice;

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

impl Ask {
    /// `None` for a call that is none of the door's.
    pub fn of(notice: &Notice) -> Option<Self> {
        let [a, b, c, d, e, _] = notice.args;
        Some(match i64::from(notice.number) {
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
            _ => return None,
        })
    }
}
