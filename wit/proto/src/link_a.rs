//! Link A: broker and spawner, which trust each other.
//!
//! Two ipc-channel byte channels carry bincode; a SEQPACKET pair beside them (the lane) carries descriptors and is the
//! doorbell: whoever sends a message sends one packet on the lane, so that each side can wait for it with poll. Both are
//! inherited over a plain fork. ipc-channel must never face a jailed process: see docs/threat-model.md, T-05.

use crate::bounded::{List, Text};
use crate::codec::{self, CodecError};
use crate::msg::life::Role;
use crate::socket;
use crate::sys;
use bincode::{Decode, Encode};
use ipc_channel::ipc::{IpcBytesReceiver, IpcBytesSender, bytes_channel};
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// Descriptors that one message may bring.
pub const LANE_DESCRIPTORS_MAX: usize = 4;

/// How a new process gets one of its inherited descriptors, from number 4 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Inherit {
    /// A workspace opened before with [`Command::OpenWorkspace`].
    Workspace {
        /// Its id.
        id: u32,
    },
    /// A descriptor sent before with [`Command::Hold`]; it is used up.
    Held {
        /// Its id.
        id: u32,
    },
    /// The directory of a control group that is made for this process, and removed after it.
    Group,
}

/// Broker to spawner.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Command {
    /// Open a directory O_PATH and keep it → `WorkspaceOpened`.
    OpenWorkspace {
        /// The broker's name for it.
        id: u32,
        /// Absolute path.
        path: Text<4096>,
    },
    /// Keep the descriptor that comes with this message, for an `Exec` to come.
    Hold {
        /// The broker's name for it.
        id: u32,
    },
    /// Fork a worker from the template; its link comes with this message → `Started`.
    ForkWorker {
        /// The broker's name for the process.
        child: u32,
    },
    /// Execute a helper or compiler; its link comes with this message → `Started`.
    Exec {
        /// The broker's name for the process.
        child: u32,
        /// What.
        role: Role,
        /// Descriptors 4 and up.
        inherit: List<Inherit, 256>,
    },
    /// Kill a process → `Exited` follows.
    Kill {
        /// Which.
        child: u32,
    },
    /// Forget a workspace or held descriptor.
    Release {
        /// Its id.
        id: u32,
    },
}

/// Spawner to broker.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Event {
    /// A directory is open.
    WorkspaceOpened {
        /// Its id.
        id: u32,
        /// Device.
        dev: u64,
        /// Inode.
        ino: u64,
        /// Owner.
        uid: u32,
        /// The path the kernel gives for it.
        path: Text<4096>,
    },
    /// It could not be opened.
    WorkspaceFailed {
        /// Its id.
        id: u32,
        /// errno.
        errno: i32,
    },
    /// A process runs.
    Started {
        /// Which.
        child: u32,
        /// Its process id.
        pid: u32,
    },
    /// It could not be started.
    StartFailed {
        /// Which.
        child: u32,
        /// The step that failed.
        step: Text<128>,
        /// errno.
        errno: i32,
    },
    /// It has ended and is reaped.
    Exited {
        /// Which.
        child: u32,
        /// Exit status, or none.
        code: Option<i32>,
        /// Signal, or none.
        signal: Option<i32>,
    },
}

/// Commands that the spawner takes at most without saying so.
pub const TAKEN_UNSAID_MAX: u32 = 8;

/// What the spawner sends.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Report {
    /// Commands it has taken since its last report: the broker has no more of them on the way than the link holds.
    pub taken: u32,
    /// What has happened.
    pub event: Option<Event>,
}

/// Link A failed: whoever sees this ends.
#[derive(Debug, thiserror::Error)]
pub enum LinkAError {
    /// The other side is gone.
    #[error("the other side of the link between broker and spawner is gone")]
    Closed,
    /// A message does not decode: the two sides are not of one build.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The channel failed.
    #[error("the link between broker and spawner failed: {0}")]
    Channel(String),
    /// The lane failed.
    #[error("the descriptor lane failed: {0}")]
    Lane(#[from] Errno),
}

/// One end of link A.
pub struct LinkA {
    sender: IpcBytesSender,
    receiver: IpcBytesReceiver,
    lane: OwnedFd,
}

/// Both ends, made before the fork: the broker's and the spawner's.
pub fn pair() -> Result<(LinkA, LinkA), LinkAError> {
    let channel = |error: std::io::Error| LinkAError::Channel(error.to_string());
    let (to_spawner, at_spawner) = bytes_channel().map_err(channel)?;
    let (to_broker, at_broker) = bytes_channel().map_err(channel)?;
    let (broker_lane, spawner_lane) = socket::pair()?;
    Ok((
        LinkA { sender: to_spawner, receiver: at_broker, lane: broker_lane },
        LinkA { sender: to_broker, receiver: at_spawner, lane: spawner_lane },
    ))
}

impl LinkA {
    /// Sends one message and rings; `descriptors` are [`LANE_DESCRIPTORS_MAX`] at most. Blocks while the other side does
    /// not read.
    pub fn send<T: Encode>(&self, message: &T, descriptors: &[BorrowedFd<'_>]) -> Result<(), LinkAError> {
        self.send_encoded(&codec::encode(message)?, descriptors)
    }

    /// The same with a message that is encoded already.
    pub fn send_encoded(&self, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), LinkAError> {
        self.sender.send(message).map_err(|e| LinkAError::Channel(e.to_string()))?;
        let numbers: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&numbers)];
        let control: &[ControlMessage<'_>] = if numbers.is_empty() { &[] } else { &rights };
        loop {
            match sendmsg::<()>(self.lane.as_raw_fd(), &[IoSlice::new(b"!")], control, MsgFlags::MSG_NOSIGNAL, None) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => continue,
                Err(Errno::EPIPE | Errno::ECONNRESET) => return Err(LinkAError::Closed),
                Err(other) => return Err(other.into()),
            }
        }
    }

    /// Receives one message and what came with it, if the doorbell has rung; blocks with `wait`.
    pub fn receive<T: Decode<()>>(&self, wait: bool) -> Result<Option<(T, Vec<OwnedFd>)>, LinkAError> {
        let flags = if wait { MsgFlags::empty() } else { MsgFlags::MSG_DONTWAIT };
        let mut bell = [0_u8; 8];
        let packet = match sys::receive(self.lane.as_fd(), &mut bell, flags) {
            Ok(packet) => packet,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
            Err(Errno::ECONNRESET) => return Err(LinkAError::Closed),
            Err(other) => return Err(other.into()),
        };
        if packet.len == 0 {
            return Err(LinkAError::Closed);
        }
        // The message was sent before its bell, so this does not wait.
        let bytes = self.receiver.recv().map_err(|_| LinkAError::Closed)?;
        Ok(Some((codec::decode_document(&bytes)?, packet.descriptors)))
    }
}

impl AsFd for LinkA {
    /// The lane: readable when a message waits.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.lane.as_fd()
    }
}

impl AsRawFd for LinkA {
    fn as_raw_fd(&self) -> RawFd {
        self.lane.as_raw_fd()
    }
}
