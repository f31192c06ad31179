//! Mounts by descriptor: what is mounted, and where, is never named, so that nothing can be put in its place between a
//! look and a mount (T-02).
//!
//! Runs in a process that is alone in a mount namespace, before any of its jail is shut: `root.rs` is the only caller.
//! Older calls take paths and cannot bind a tree with other flags at once; the ones here are as old as Linux 5.12, and
//! commands need a younger kernel anyway.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// What a mount does not do. Linux never takes one of these off again in a namespace of a lesser user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Without(u64);

impl Without {
    /// Nothing is written.
    pub const WRITING: Without = Without(1);
    /// No program gets another's user or capabilities.
    pub const SET_ID: Without = Without(2);
    /// No device is opened.
    pub const DEVICES: Without = Without(4);
    /// No program is executed.
    pub const EXECUTION: Without = Without(8);

    /// Both.
    pub const fn and(self, other: Without) -> Without {
        Without(self.0 | other.0)
    }
}

// linux/mount.h; the C library's crate has these for some targets only.
const OPEN_TREE_CLONE: libc::c_uint = 1;
const OPEN_TREE_CLOEXEC: libc::c_uint = libc::O_CLOEXEC as libc::c_uint;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 0x04;
const MOVE_MOUNT_T_EMPTY_PATH: libc::c_uint = 0x40;
const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const AT_EMPTY_PATH: libc::c_uint = libc::AT_EMPTY_PATH as libc::c_uint;
const AT_RECURSIVE: libc::c_uint = 0x8000;
const EMPTY: &CStr = c"";

/// `struct mount_attr`.
#[repr(C)]
struct Attributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// A copy of the tree at `source`, mounts beneath it included, attached to nothing yet.
pub fn copy(source: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE;
    // SAFETY: the path is a C string; the answer is a new descriptor or -1.
    let made = unsafe { libc::syscall(libc::SYS_open_tree, source.as_raw_fd(), EMPTY.as_ptr(), flags) };
    owned(made)
}

/// Takes something from a mount, and with `beneath` from all mounts beneath it.
pub fn restrict(mount: BorrowedFd<'_>, without: Without, beneath: bool) -> io::Result<()> {
    let attributes = Attributes { set: without.0, clear: 0, propagation: 0, user_namespace: 0 };
    let flags = if beneath { AT_EMPTY_PATH | AT_RECURSIVE } else { AT_EMPTY_PATH };
    let (from, length) = (&raw const attributes, size_of::<Attributes>());
    // SAFETY: the kernel reads a C string and `length` bytes of a struct that lives past the call.
    let answer =
        unsafe { libc::syscall(libc::SYS_mount_setattr, mount.as_raw_fd(), EMPTY.as_ptr(), flags, from, length) };
    done(answer)
}

/// Attaches a mount that is attached to nothing, over `place`.
pub fn attach(mount: BorrowedFd<'_>, place: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    let (from, to) = (mount.as_raw_fd(), place.as_raw_fd());
    // SAFETY: both paths are C strings; the call changes this process's namespace only.
    let answer = unsafe { libc::syscall(libc::SYS_move_mount, from, EMPTY.as_ptr(), to, EMPTY.as_ptr(), flags) };
    done(answer)
}

/// The same over the file `name` in a directory that nobody else reaches: no link is followed.
pub fn attach_at(mount: BorrowedFd<'_>, directory: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    let (from, to) = (mount.as_raw_fd(), directory.as_raw_fd());
    let (empty, flags) = (EMPTY.as_ptr(), MOVE_MOUNT_F_EMPTY_PATH);
    // SAFETY: both paths are C strings; the call changes this process's namespace only.
    let answer = unsafe { libc::syscall(libc::SYS_move_mount, from, empty, to, name.as_ptr(), flags) };
    done(answer)
}

/// A new file system of a kind, attached to nothing yet.
pub fn make(kind: &CStr, settings: &[(&CStr, &CStr)], without: Without) -> io::Result<OwnedFd> {
    // SAFETY: the kind is a C string; the answer is a new descriptor or -1.
    let context = owned(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) })?;
    for (key, value) in settings {
        configure(context.as_fd(), FSCONFIG_SET_STRING, Some((key, value)))?;
    }
    configure(context.as_fd(), FSCONFIG_CMD_CREATE, None)?;
    // SAFETY: takes a descriptor and numbers; the answer is a new descriptor or -1.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, without.0) })
}

fn configure(context: BorrowedFd<'_>, command: libc::c_uint, setting: Option<(&CStr, &CStr)>) -> io::Result<()> {
    let key = setting.map_or(std::ptr::null(), |(key, _)| key.as_ptr());
    let value = setting.map_or(std::ptr::null(), |(_, value)| value.as_ptr());
    // SAFETY: key and value are C strings, or null where the command takes none.
    let answer = unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, key, value, 0) };
    done(answer)
}

fn owned(answer: libc::c_long) -> io::Result<OwnedFd> {
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    let number = i32::try_from(answer).map_err(io::Error::other)?;
    // SAFETY: the kernel has just given this descriptor to us, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn done(answer: libc::c_long) -> io::Result<()> {
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
