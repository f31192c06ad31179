//! The frame of link B: `u16 version | u16 kind | u32 request id | bincode body`, one SEQPACKET packet each.

use crate::codec::{self, CodecError};
use crate::limits::{BODY_MAX_BYTES, FRAME_HEADER_BYTES};
use bincode::{Decode, Encode};
use std::os::fd::OwnedFd;

/// Version of the frame and of every message; unequal versions refuse each other.
pub const FRAME_VERSION: u16 = 1;

/// What a frame's body is. The numbers are the wire's and only ever grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Kind {
    /// Jailed process to broker, first frame: [`crate::msg::life::Hello`].
    Hello = 1,
    /// Broker to jailed process: [`crate::msg::life::Setup`]; its document is the first descriptor.
    Setup = 2,
    /// Jailed process to broker, when the jail is shut: [`crate::msg::life::Locked`].
    Locked = 3,
    /// Broker to jailed process: the request with this id is no longer wanted. Empty body.
    Cancel = 4,
    /// A request; its type is the receiver's (`WorkerCall` at the broker, `FsOrder` at cap-fs, …).
    Call = 5,
    /// The answer to the call with the same id.
    Reply = 6,
    /// A piece of a payload too long for a frame: [`crate::blob::Part`].
    Part = 7,
    /// Worker to broker: output of the guest, [`crate::msg::worker::Output`].
    Output = 8,
    /// Worker or compiler to broker: it has ended, [`crate::msg::worker::Finish`].
    Finish = 9,
    /// Broker to jailed process: end. Empty body.
    Goodbye = 10,
}

impl Kind {
    /// The kind with this number.
    pub fn from_wire(number: u16) -> Option<Self> {
        Some(match number {
            1 => Self::Hello,
            2 => Self::Setup,
            3 => Self::Locked,
            4 => Self::Cancel,
            5 => Self::Call,
            6 => Self::Reply,
            7 => Self::Part,
            8 => Self::Output,
            9 => Self::Finish,
            10 => Self::Goodbye,
            _ => return None,
        })
    }

    /// Its number on the wire.
    pub fn to_wire(self) -> u16 {
        match self {
            Self::Hello => 1,
            Self::Setup => 2,
            Self::Locked => 3,
            Self::Cancel => 4,
            Self::Call => 5,
            Self::Reply => 6,
            Self::Part => 7,
            Self::Output => 8,
            Self::Finish => 9,
            Self::Goodbye => 10,
        }
    }
}

/// One received frame. The body is still encoded: its type depends on who sent it and in which state.
#[derive(Debug)]
pub struct Frame {
    /// What the body is.
    pub kind: Kind,
    /// Which call it belongs to; 0 for frames that belong to none.
    pub request: u32,
    /// The encoded body.
    pub body: Vec<u8>,
    /// Descriptors that came with it, already owned.
    pub descriptors: Vec<OwnedFd>,
}

/// A packet is no frame: its sender has broken the protocol and dies.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Shorter than a header.
    #[error("a packet of {0} bytes is shorter than a frame header")]
    Short(usize),
    /// Longer than a frame may be.
    #[error("a packet is longer than a frame may be")]
    Long,
    /// Another version.
    #[error("frame version {0} is not {FRAME_VERSION}")]
    Version(u16),
    /// A kind that does not exist.
    #[error("frame kind {0} does not exist")]
    Kind(u16),
}

impl Frame {
    /// Decodes the body.
    pub fn decode<T: Decode<()>>(&self) -> Result<T, CodecError> {
        codec::decode(&self.body)
    }
}

/// Splits a packet into header and body.
pub fn parse(packet: &[u8]) -> Result<(Kind, u32, &[u8]), FrameError> {
    let (header, body) = packet.split_at_checked(FRAME_HEADER_BYTES).ok_or(FrameError::Short(packet.len()))?;
    let [v0, v1, k0, k1, r0, r1, r2, r3] = *header else { return Err(FrameError::Short(packet.len())) };
    let version = u16::from_le_bytes([v0, v1]);
    if version != FRAME_VERSION {
        return Err(FrameError::Version(version));
    }
    let number = u16::from_le_bytes([k0, k1]);
    let kind = Kind::from_wire(number).ok_or(FrameError::Kind(number))?;
    Ok((kind, u32::from_le_bytes([r0, r1, r2, r3]), body))
}

/// Encodes a whole packet into `out`, which is cleared first.
pub fn pack<T: Encode>(kind: Kind, request: u32, body: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
    out.clear();
    out.extend_from_slice(&FRAME_VERSION.to_le_bytes());
    out.extend_from_slice(&kind.to_wire().to_le_bytes());
    out.extend_from_slice(&request.to_le_bytes());
    codec::encode_into(body, out)?;
    if out.len() > FRAME_HEADER_BYTES + BODY_MAX_BYTES {
        return Err(CodecError::Encode(bincode::error::EncodeError::Other("a message is longer than a frame")));
    }
    Ok(())
}
