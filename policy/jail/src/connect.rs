//! A command's connect: what it asks for, and the connection that is put in its place.
//!
//! A command whose rule names hosts makes TCP sockets and leads none of them anywhere: its connect waits at the listener,
//! the keeper asks whoever provides connections, and what that gives replaces the command's descriptor, under the number
//! it had. The call itself is never let go on: its address lies in memory that can change, and a filter or Landlock knows
//! ports at most (T-02, T-07). Runs in the keeper. Of the command it reads a number, flags that the kernel tells, and at
//! most 28 bytes of an address, which says only what was wished: where the connection leads is the provider's to decide.
//! A descriptor that is swapped after the look costs the command what it put there, and nobody else anything: what comes in
//! its place is the connection that it may have. Another name of the old socket (dup) stays an unconnected one.

use crate::notify::{Listener, Notice, NotifyError};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::fstat;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::Read;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileExt, MetadataExt};

/// `struct sockaddr_in` and `sockaddr_in6`; the kernel takes the latter without its last word too.
const V4_BYTES: usize = 16;
const V6_BYTES: usize = 28;
const V6_BYTES_LEAST: usize = 24;
/// The longest address that the kernel reads (`struct sockaddr_storage`).
const ADDRESS_BYTES_MAX: i32 = 128;
/// `flags:` stands on the second line of a descriptor's entry.
const ENTRY_BYTES_MAX: u64 = 4096;

/// What a connect asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The command's descriptor.
    number: RawFd,
    /// The socket behind it, by the kernel's number for it.
    pub socket: u64,
    /// Where the command wants to go.
    pub address: SocketAddr,
}

/// Which sockets are led anywhere at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

/// Looks what the waiting call asks for. An error is the call's answer.
pub fn look(listener: &Listener, notice: &Notice) -> nix::Result<Asked> {
    let [number, at, length, ..] = notice.args;
    // The kernel takes both as `int`.
    let (number, length) = (number as RawFd, length as i32);
    let (family, socket) = socket_of(notice.pid, number)?;
    if !(2..=ADDRESS_BYTES_MAX).contains(&length) {
        return Err(Errno::EINVAL);
    }
    let mut bytes = [0_u8; V6_BYTES];
    let length = V6_BYTES.min(length as usize);
    let read = bytes.get_mut(..length).ok_or(Errno::EINVAL)?;
    let memory = File::open(format!("/proc/{}/mem", notice.pid)).map_err(|_| Errno::EFAULT)?;
    memory.read_exact_at(read, at).map_err(|_| Errno::EFAULT)?;
    let address = address(family, read)?;
    // Only now is it sure that these were of the process that waits, not of a later one with its number.
    if listener.is_waiting(notice) { Ok(Asked { number, socket, address }) } else { Err(Errno::ESRCH) }
}

/// Puts a connection in the place of the command's descriptor, with the flags that this has now, and answers that the
/// connect is done. `false` where nobody waits any more. An error is the command's table being smaller than the number.
pub fn replace(listener: &Listener, notice: &Notice, asked: &Asked, connection: OwnedFd) -> Result<bool, NotifyError> {
    let put = put(listener, notice, asked, connection.as_fd());
    // Our own copy would keep the connection open where the command closes its.
    drop(connection);
    match put {
        Ok(true) => listener.done(notice),
        Ok(false) => Ok(false),
        Err(errno) => listener.refuse(notice, errno as i32),
    }
}

fn put(listener: &Listener, notice: &Notice, asked: &Asked, connection: BorrowedFd<'_>) -> nix::Result<bool> {
    let flags = flags_of(notice.pid, asked.number)?;
    let mut own = OFlag::from_bits_retain(fcntl(connection, FcntlArg::F_GETFL)?);
    own.set(OFlag::O_NONBLOCK, flags.contains(OFlag::O_NONBLOCK));
    fcntl(connection, FcntlArg::F_SETFL(own))?;
    listener.put(notice, connection, asked.number, flags.contains(OFlag::O_CLOEXEC))
}

/// Whether a descriptor is what may be put there: TCP, connected. Whoever provides connections is trusted to choose where
/// they lead; a mistake of theirs must not hand a command a socket of another kind (T-07).
pub fn is_connection(descriptor: BorrowedFd<'_>) -> bool {
    let family = option(descriptor, libc::SO_DOMAIN);
    let inet = family == Some(libc::AF_INET) || family == Some(libc::AF_INET6);
    inet && option(descriptor, libc::SO_TYPE) == Some(libc::SOCK_STREAM)
        && option(descriptor, libc::SO_PROTOCOL) == Some(libc::IPPROTO_TCP)
        && has_peer(descriptor)
}

/// What [`Asked::socket`] will be of this descriptor once a command has it.
pub fn socket_number(descriptor: BorrowedFd<'_>) -> nix::Result<u64> {
    Ok(fstat(descriptor)?.st_ino)
}

fn address(family: Family, bytes: &[u8]) -> nix::Result<SocketAddr> {
    let word = |at: usize| bytes.get(at..at + 2).and_then(|two| two.try_into().ok()).ok_or(Errno::EINVAL);
    let port = word(2).map(u16::from_be_bytes);
    match (i32::from(u16::from_ne_bytes(word(0)?)), family) {
        (libc::AF_INET, Family::V4) if bytes.len() >= V4_BYTES => {
            let octets: [u8; 4] = bytes.get(4..8).and_then(|four| four.try_into().ok()).ok_or(Errno::EINVAL)?;
            Ok(SocketAddrV4::new(Ipv4Addr::from(octets), port?).into())
        }
        (libc::AF_INET6, Family::V6) if bytes.len() >= V6_BYTES_LEAST => {
            let octets: [u8; 16] = bytes.get(8..24).and_then(|sixteen| sixteen.try_into().ok()).ok_or(Errno::EINVAL)?;
            Ok(SocketAddrV6::new(Ipv6Addr::from(octets), port?, 0, 0).into())
        }
        (libc::AF_INET, Family::V4) | (libc::AF_INET6, Family::V6) => Err(Errno::EINVAL),
        // It would take a connection back, for the socket to be led elsewhere.
        (libc::AF_UNSPEC, _) => Err(Errno::EACCES),
        _ => Err(Errno::EAFNOSUPPORT),
    }
}

/// Family and number of the TCP socket that the waiting thread has under a number, in the table that is its own.
fn socket_of(thread: u32, number: RawFd) -> nix::Result<(Family, u64)> {
    let path = entry(thread, "fd", number)?;
    let status = std::fs::metadata(&path).map_err(|_| Errno::EBADF)?;
    if status.mode() & libc::S_IFMT != libc::S_IFSOCK {
        return Err(Errno::ENOTSOCK);
    }
    let path = CString::new(path).map_err(|_| Errno::EBADF)?;
    let mut name = [0_u8; 32];
    let (at, room) = (name.as_mut_ptr().cast(), name.len());
    // SAFETY: two C strings; the kernel writes at most `room` bytes, into the array.
    let length = unsafe { libc::getxattr(path.as_ptr(), PROTOCOL.as_ptr(), at, room) };
    let length = usize::try_from(length).map_err(|_| Errno::ENOTSOCK)?;
    let family = match name.get(..length).map(|name| name.strip_suffix(b"\0").unwrap_or(name)) {
        Some(b"TCP") => Family::V4,
        Some(b"TCPv6") => Family::V6,
        // One of a pair, or a socket that the command was started with.
        _ => return Err(Errno::EACCES),
    };
    Ok((family, status.ino()))
}

/// What the kernel calls a socket's protocol; it answers this for no other file.
const PROTOCOL: &CStr = c"system.sockprotoname";

/// A descriptor's flags, O_CLOEXEC among them, as the kernel tells.
fn flags_of(thread: u32, number: RawFd) -> nix::Result<OFlag> {
    let mut text = String::new();
    let file = File::open(entry(thread, "fdinfo", number)?).map_err(|_| Errno::EBADF)?;
    file.take(ENTRY_BYTES_MAX).read_to_string(&mut text).map_err(|_| Errno::EBADF)?;
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok());
    flags.map(OFlag::from_bits_retain).ok_or(Errno::EBADF)
}

fn entry(thread: u32, folder: &str, number: RawFd) -> nix::Result<String> {
    if number < 0 {
        return Err(Errno::EBADF);
    }
    Ok(format!("/proc/{thread}/{folder}/{number}"))
}

fn option(descriptor: BorrowedFd<'_>, name: i32) -> Option<i32> {
    let (mut value, mut length) = (0_i32, size_of::<i32>() as libc::socklen_t);
    let at = (&raw mut value).cast();
    // SAFETY: the kernel writes at most `length` bytes, an int, into `value`, and the length.
    let answer = unsafe { libc::getsockopt(descriptor.as_raw_fd(), libc::SOL_SOCKET, name, at, &raw mut length) };
    (answer == 0).then_some(value)
}

fn has_peer(descriptor: BorrowedFd<'_>) -> bool {
    let mut length: libc::socklen_t = 0;
    // SAFETY: a length of 0 lets the kernel write nothing but the length, whatever the address.
    unsafe { libc::getpeername(descriptor.as_raw_fd(), std::ptr::NonNull::dangling().as_ptr(), &raw mut length) == 0 }
}

#[cfg(test)]
mod tests;
