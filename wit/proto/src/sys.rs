//! The system calls of a link that need `unsafe`: taking ownership of descriptors that a packet carried, and of those
//! that were inherited over exec.

use crate::limits::FRAME_MAX_BYTES;
use nix::cmsg_space;
use nix::libc;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use std::collections::BTreeSet;
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError, TryLockError};

/// One more than the highest number that [`note_inherited`] looks at.
const NOTED_END: RawFd = 1024;
/// What the process was started with, beyond the standard three, and has not been adopted.
static NOTED: Mutex<BTreeSet<RawFd>> = Mutex::new(BTreeSet::new());

/// Where packets of this process are received. Pages of it that no packet has come to were never given to the process: one of
/// its own for every socket costs a start more than all else that a socket does.
static RECEIVED: Mutex<[u8; FRAME_MAX_BYTES]> = Mutex::new([0; FRAME_MAX_BYTES]);

/// Lends a buffer that takes any packet. What `take` returns is its own: the next packet overwrites the buffer.
pub fn with_buffer<T>(take: impl FnOnce(&mut [u8]) -> T) -> T {
    match RECEIVED.try_lock() {
        Ok(mut buffer) => take(buffer.as_mut_slice()),
        Err(TryLockError::Poisoned(broken)) => take(broken.into_inner().as_mut_slice()),
        // Another thread waits in it; no process of ours but a test has one.
        Err(TryLockError::WouldBlock) => take(&mut vec![0; FRAME_MAX_BYTES]),
    }
}

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

/// Notes which numbers from 3 on are open, and sets them close-on-exec, so that none reaches a program that is started.
///
/// Called first thing in `warden`, before anything is opened: what is noted here is nobody's, and [`adopt`] gives it out.
pub fn note_inherited() {
    let mut noted = NOTED.lock().unwrap_or_else(PoisonError::into_inner);
    let open = open_among(3..NOTED_END).unwrap_or_else(|| (3..NOTED_END).collect());
    noted.extend(open.into_iter().filter(|number| {
        // SAFETY: fcntl on a number that is not open only fails.
        let borrowed = unsafe { BorrowedFd::borrow_raw(*number) };
        nix::fcntl::fcntl(borrowed, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC)).is_ok()
    }));
}

/// Which of these numbers are open, by one call; `None` where the kernel does not take so many at once.
fn open_among(numbers: std::ops::Range<RawFd>) -> Option<Vec<RawFd>> {
    let mut asked: Vec<libc::pollfd> = numbers.map(|fd| libc::pollfd { fd, events: 0, revents: 0 }).collect();
    let count = libc::nfds_t::try_from(asked.len()).ok()?;
    // SAFETY: the kernel reads and writes `count` entries, which is how many there are; numbers that are not open are marked.
    let answer = unsafe { libc::poll(asked.as_mut_ptr(), count, 0) };
    let open = asked.iter().filter(|each| each.revents & libc::POLLNVAL == 0).map(|each| each.fd).collect();
    (answer >= 0).then_some(open)
}

/// Takes ownership of a descriptor that [`note_inherited`] noted, once. Any other number is one of ours, or not open:
/// EBADF.
pub fn adopt(number: RawFd) -> nix::Result<OwnedFd> {
    let noted = NOTED.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
    if !noted {
        return Err(nix::errno::Errno::EBADF);
    }
    // SAFETY: it was open before this process opened anything, nothing else closes a noted number, and it was taken from
    // the list just now, so that nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;
    use nix::fcntl::{FcntlArg, FdFlag, fcntl};
    use std::os::fd::IntoRawFd;

    #[test]
    fn what_was_noted_is_adopted_once_and_what_is_ours_never() {
        let (read, write) = nix::unistd::pipe().unwrap();
        let passed = write.into_raw_fd();
        note_inherited();
        let (_other, ours) = nix::unistd::pipe().unwrap();
        assert_eq!(adopt(ours.as_raw_fd()).map(drop), Err(Errno::EBADF));
        let flags = fcntl(&read, FcntlArg::F_GETFD).unwrap();
        assert!(FdFlag::from_bits_retain(flags).contains(FdFlag::FD_CLOEXEC), "no program we start gets it");
        let adopted = adopt(passed).unwrap();
        assert_eq!(nix::unistd::write(&adopted, b"x"), Ok(1));
        assert_eq!(adopt(passed).map(drop), Err(Errno::EBADF));
        assert_eq!(adopt(1).map(drop), Err(Errno::EBADF));
    }
}
