//! The system calls of a link that need `unsafe`: taking ownership of descriptors that a packet carried, and of those
//! that were inherited over exec.

use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// One received packet: its length, whether it was cut, and its descriptors.
#[derive(Debug)]
pub struct Packet {
    /// Bytes written to the buffer.
    pub len: usize,
    /// The packet or its descriptors were longer than there was room for.
    pub cut: bool,
    /// Every descriptor that arrived, owned before anything is judged, so that none leaks.
    pub descriptors: Vec<OwnedFd>,
}

/// Receives one packet into `buffer`; a length of 0 is end-of-file.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8], flags: MsgFlags) -> nix::Result<Packet> {
    let mut control = cmsg_space!([RawFd; crate::limits::FRAME_MAX_DESCRIPTORS]);
    let mut iov = [IoSliceMut::new(buffer)];
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut iov, Some(&mut control), flags | MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    let cut = message.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC);
    if let Ok(list) = message.cmsgs() {
        for item in list {
            if let ControlMessageOwned::ScmRights(numbers) = item {
                for number in numbers {
                    // SAFETY: the kernel has just installed this number in our table for this message; nobody else owns it.
                    descriptors.push(unsafe { OwnedFd::from_raw_fd(number) });
                }
            }
        }
    }
    Ok(Packet { len: message.bytes, cut, descriptors })
}

/// Takes ownership of a descriptor that the process was started with.
///
/// Called once per number, first thing in a process that the spawner has just executed; the numbers are fixed by
/// convention (see [`crate::msg::life`]). Errors when the number is not open.
pub fn inherited(number: RawFd) -> nix::Result<OwnedFd> {
    // SAFETY: fcntl on a number that is not open only fails.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    nix::fcntl::fcntl(borrowed, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
    // SAFETY: the number is open (checked above) and by convention owned by nobody in a process that has just started.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
