//! A SEQPACKET socket that carries frames: the raw half of link B, used by both of its ends.
//!
//! The broker drives it without blocking from its event loop; a jailed process blocks on it. Neither side ever waits
//! without a deadline of its own (the caller's). The receiver says how many descriptors a frame may bring; one too many
//! is a protocol error like any other, and the descriptors are closed.

use crate::codec::CodecError;
use crate::frame::{self, Frame, FrameError, Kind};
use crate::limits::FRAME_MAX_DESCRIPTORS;
use crate::sys;
use bincode::Encode;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair};
use nix::sys::time::TimeSpec;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Instant;

/// Why a frame could not be sent or received.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The other end is closed.
    #[error("the other end of the link is closed")]
    Closed,
    /// Nothing to read, or no room to write, right now.
    #[error("the link is not ready")]
    WouldBlock,
    /// The deadline passed.
    #[error("the link was silent past its deadline")]
    Deadline,
    /// The packet is no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The body does not encode or decode.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// More descriptors than this receiver accepts.
    #[error("{0} descriptors came with a frame that may bring {1}")]
    Descriptors(usize, usize),
    /// The system refused.
    #[error("the link failed: {0}")]
    System(#[from] Errno),
}

/// One end of a link B.
#[derive(Debug)]
pub struct FrameSocket {
    fd: OwnedFd,
    send: Vec<u8>,
}

/// A connected pair of sockets: the broker's end, and the one that a jailed process will be given.
pub fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
}

impl FrameSocket {
    /// Takes one end of [`pair`].
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd, send: Vec::new() }
    }

    /// Encodes and sends one frame. With `wait` it blocks while the peer's queue is full, else that is `WouldBlock`.
    pub fn send<T: Encode>(
        &mut self,
        kind: Kind,
        request: u32,
        body: &T,
        descriptors: &[BorrowedFd<'_>],
        wait: bool,
    ) -> Result<(), SocketError> {
        let mut packet = std::mem::take(&mut self.send);
        let result = frame::pack(kind, request, body, &mut packet)
            .map_err(SocketError::from)
            .and_then(|()| self.send_packet(&packet, descriptors, wait));
        self.send = packet;
        result
    }

    /// Sends a packet that [`frame::pack`] made.
    pub fn send_packet(&self, packet: &[u8], descriptors: &[BorrowedFd<'_>], wait: bool) -> Result<(), SocketError> {
        let numbers: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&numbers)];
        let control: &[ControlMessage<'_>] = if numbers.is_empty() { &[] } else { &rights };
        let mut flags = MsgFlags::MSG_NOSIGNAL;
        flags.set(MsgFlags::MSG_DONTWAIT, !wait);
        loop {
            return match sendmsg::<()>(self.fd.as_raw_fd(), &[IoSlice::new(packet)], control, flags, None) {
                Ok(_) => Ok(()),
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => Err(SocketError::WouldBlock),
                Err(Errno::EPIPE | Errno::ECONNRESET | Errno::ENOTCONN) => Err(SocketError::Closed),
                Err(other) => Err(other.into()),
            };
        }
    }

    /// Receives one frame without waiting. `descriptors_max` is what the peer may send with it.
    pub fn try_receive(&mut self, descriptors_max: usize) -> Result<Frame, SocketError> {
        self.receive_with(descriptors_max, MsgFlags::MSG_DONTWAIT)
    }

    /// Receives one frame, waiting for it until `deadline` (for ever when there is none: only for idle helpers, whose
    /// life the broker ends).
    pub fn receive(&mut self, descriptors_max: usize, deadline: Option<Instant>) -> Result<Frame, SocketError> {
        loop {
            let received = match deadline {
                Some(_) => self.try_receive(descriptors_max),
                None => self.receive_with(descriptors_max, MsgFlags::empty()),
            };
            match (received, deadline) {
                (Err(SocketError::WouldBlock), Some(deadline)) => self.wait_readable(deadline)?,
                (Err(SocketError::WouldBlock), None) => {}
                (other, _) => return other,
            }
        }
    }

    fn wait_readable(&self, deadline: Instant) -> Result<(), SocketError> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(SocketError::Deadline);
            }
            // ppoll: the one of the family that every jail's filter has.
            match ppoll(&mut [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)], Some(TimeSpec::from(left)), None) {
                Ok(0) | Err(Errno::EINTR) => continue,
                Ok(_) => return Ok(()),
                Err(other) => return Err(other.into()),
            }
        }
    }

    fn receive_with(&mut self, descriptors_max: usize, flags: MsgFlags) -> Result<Frame, SocketError> {
        sys::with_buffer(|buffer| self.receive_in(buffer, descriptors_max, flags))
    }

    fn receive_in(&self, buffer: &mut [u8], descriptors_max: usize, flags: MsgFlags) -> Result<Frame, SocketError> {
        let packet = loop {
            match sys::receive(self.fd.as_fd(), buffer, flags) {
                Ok(packet) => break packet,
                Err(Errno::EINTR) if flags.contains(MsgFlags::MSG_DONTWAIT) => continue,
                Err(Errno::EINTR) => return Err(SocketError::WouldBlock),
                Err(Errno::EAGAIN) => return Err(SocketError::WouldBlock),
                Err(Errno::ECONNRESET) => return Err(SocketError::Closed),
                Err(other) => return Err(other.into()),
            }
        };
        if packet.len == 0 {
            return Err(SocketError::Closed);
        }
        if packet.descriptors.len() > descriptors_max.min(FRAME_MAX_DESCRIPTORS) {
            return Err(SocketError::Descriptors(packet.descriptors.len(), descriptors_max));
        }
        if packet.cut {
            return Err(FrameError::Long.into());
        }
        let bytes = buffer.get(..packet.len).ok_or(FrameError::Long)?;
        let (kind, request, body) = frame::parse(bytes)?;
        Ok(Frame { kind, request, body: body.to_vec(), descriptors: packet.descriptors })
    }
}

impl AsFd for FrameSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for FrameSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_frame_arrives_and_silence_ends() {
        let (ours, theirs) = pair().unwrap();
        let (mut ours, mut theirs) = (FrameSocket::new(ours), FrameSocket::new(theirs));
        let soon = || Some(Instant::now() + Duration::from_millis(20));
        assert!(matches!(ours.receive(0, soon()), Err(SocketError::Deadline)));
        theirs.send(Kind::Goodbye, 0, &(), &[], true).unwrap();
        assert_eq!(ours.receive(0, soon()).unwrap().kind, Kind::Goodbye);
        drop(theirs);
        assert!(matches!(ours.receive(0, soon()), Err(SocketError::Closed)));
    }
}
