//! The sockets inside cap-proc: front to runner, front to keeper, keeper to the command it is starting.
//!
//! One SEQPACKET packet is one value of a fixed type, so there is no header and no frame to parse. A packet that does
//! not decode, or brings another number of descriptors, is a fault of our own side and ends the receiver (T-05).

use bincode::{Decode, Encode};
use nix::errno::Errno;
use nix::sys::socket::MsgFlags;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use warden_proto::codec::{self, CodecError};
use warden_proto::limits::{FRAME_MAX_BYTES, FRAME_MAX_DESCRIPTORS};
use warden_proto::{FrameSocket, SocketError, socket, sys};

/// A lane is broken.
#[derive(Debug, thiserror::Error)]
pub enum LaneError {
    /// The other end is closed.
    #[error("the other end is closed")]
    Closed,
    /// A packet was cut or brought too many descriptors.
    #[error("a packet was longer than a message may be")]
    Cut,
    /// A packet is no value of its type.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// It could not be sent.
    #[error(transparent)]
    Send(SocketError),
    /// The system refused.
    #[error("a socket failed: {0}")]
    System(#[from] Errno),
}

/// One end of a lane.
#[derive(Debug)]
pub struct Lane {
    socket: FrameSocket,
}

impl Lane {
    /// Takes one end of a SEQPACKET pair.
    pub fn new(fd: OwnedFd) -> Self {
        Self { socket: FrameSocket::new(fd) }
    }

    /// Both ends of a new lane.
    pub fn pair() -> Result<(OwnedFd, OwnedFd), LaneError> {
        Ok(socket::pair()?)
    }

    /// Sends one value. Without `wait`, a full queue is `Send(WouldBlock)`.
    pub fn send<T: Encode>(&self, value: &T, descriptors: &[BorrowedFd<'_>], wait: bool) -> Result<(), LaneError> {
        let packet = codec::encode(value)?;
        if packet.len() > FRAME_MAX_BYTES {
            return Err(LaneError::Cut);
        }
        match self.socket.send_packet(&packet, descriptors, wait) {
            Err(SocketError::Closed) => Err(LaneError::Closed),
            other => other.map_err(LaneError::Send),
        }
    }

    /// Sends one value and no descriptor, by `write`: a command's filter takes away every call that could send one.
    pub fn tell<T: Encode>(&self, value: &T) -> Result<(), LaneError> {
        let packet = codec::encode(value)?;
        if packet.len() > FRAME_MAX_BYTES {
            return Err(LaneError::Cut);
        }
        // The kernel takes a packet whole or not at all.
        nix::unistd::write(self.socket.as_fd(), &packet)?;
        Ok(())
    }

    /// Receives one value and what came with it, if one has come.
    pub fn try_receive<T: Decode<()>>(&self) -> Result<Option<(T, Vec<OwnedFd>)>, LaneError> {
        sys::with_buffer(|buffer| self.receive_in(buffer))
    }

    fn receive_in<T: Decode<()>>(&self, buffer: &mut [u8]) -> Result<Option<(T, Vec<OwnedFd>)>, LaneError> {
        let packet = loop {
            match sys::receive(self.socket.as_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::ECONNRESET) => return Err(LaneError::Closed),
                other => break other?,
            }
        };
        if packet.len == 0 {
            return Err(LaneError::Closed);
        }
        if packet.cut || packet.descriptors.len() > FRAME_MAX_DESCRIPTORS {
            return Err(LaneError::Cut);
        }
        let bytes = buffer.get(..packet.len).ok_or(LaneError::Cut)?;
        Ok(Some((codec::decode(bytes)?, packet.descriptors)))
    }
}

impl AsFd for Lane {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
