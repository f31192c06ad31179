//! A second place for every record, where this uid cannot rewrite it: an inherited descriptor or journald.
//!
//! The segment file stays the log that is read and verified; the mirror gets the same bytes after it. A mirror that takes no
//! more records fails the log: an operator who asked for one has asked for no unrecorded effect (T-09). Waiting for it is
//! bounded, so that a stuck reader cannot hold the broker (T-06).

use super::error::AuditError;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, send, socket};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a record waits for a mirror that is not ready.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// A pipe that polls as writable takes this much without blocking.
const PIPE_PIECE_BYTES: usize = 4096;
/// Where journald listens for its native protocol.
pub const JOURNALD_SOCKET: &str = "/run/systemd/journal/socket";

/// Where records go beside the segment file.
#[derive(Debug)]
pub struct Mirror {
    fd: OwnedFd,
    kind: Kind,
    name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Socket,
    /// A pipe, a terminal, a file.
    Stream,
    Journald,
}

impl Mirror {
    /// A descriptor inherited for this, the sink `fd:N`. Lines are written as they stand in the segment: in one `write`
    /// where it is a file or a socket, in pieces of a page where it is a pipe and the line is longer.
    pub fn descriptor(fd: OwnedFd, name: &str) -> Result<Self, AuditError> {
        let stat = fstat(&fd).map_err(|source| AuditError::Sink { sink: name.to_owned(), source })?;
        let socket = stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFSOCK.bits();
        let kind = if socket { Kind::Socket } else { Kind::Stream };
        Ok(Self { fd, kind, name: name.to_owned() })
    }

    /// Journald's native datagram socket, normally [`JOURNALD_SOCKET`]. Connected at once, for use after lock-down.
    /// Journald drops records beyond its rate limit without telling the sender: set `RateLimitIntervalSec=0` for
    /// records that must all arrive.
    pub fn journald(path: &Path) -> Result<Self, AuditError> {
        let failed = |source| AuditError::Sink { sink: "journald".to_owned(), source };
        let fd = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).map_err(failed)?;
        let address = UnixAddr::new(path).map_err(failed)?;
        connect(fd.as_raw_fd(), &address).map_err(failed)?;
        Ok(Self { fd, kind: Kind::Journald, name: "journald".to_owned() })
    }

    /// Sends one sealed line.
    pub(super) fn send(&self, line: &[u8]) -> Result<(), AuditError> {
        let sent = match self.kind {
            Kind::Journald => {
                // The line has no newline of its own but the last: the simple `NAME=value` form is exact.
                let mut datagram = b"SYSLOG_IDENTIFIER=wasi-warden\nPRIORITY=6\nMESSAGE=".to_vec();
                datagram.extend_from_slice(line);
                self.push(&datagram)
            }
            Kind::Socket | Kind::Stream => self.push(line),
        };
        sent.map_err(|source| AuditError::Sink { sink: self.name.clone(), source })
    }

    fn push(&self, bytes: &[u8]) -> Result<(), Errno> {
        let deadline = Instant::now() + WAIT_MAX;
        let mut rest = bytes;
        while !rest.is_empty() {
            let taken = match self.kind {
                Kind::Socket | Kind::Journald => {
                    send(self.fd.as_raw_fd(), rest, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL)
                }
                Kind::Stream => {
                    self.wait(deadline)?;
                    write(&self.fd, rest.get(..PIPE_PIECE_BYTES).unwrap_or(rest))
                }
            };
            match taken {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => self.wait(deadline)?,
                Err(other) => return Err(other),
            }
        }
        Ok(())
    }

    fn wait(&self, deadline: Instant) -> Result<(), Errno> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
            match poll(&mut [PollFd::new(self.fd.as_fd(), PollFlags::POLLOUT)], timeout) {
                Ok(0) => return Err(Errno::ETIMEDOUT),
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(other) => return Err(other),
            }
        }
    }
}
