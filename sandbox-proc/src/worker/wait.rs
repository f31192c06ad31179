//! Waiting for a frame inside a jail: by `ppoll`, the one waiting call that the filters of template and compiler know.
//! (`FrameSocket::receive` with a deadline calls `poll`, which is another call and ends the process here.)

#![forbid(unsafe_code)]

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use std::os::fd::AsFd;
use std::time::Instant;
use warden_proto::{Frame, FrameSocket, SocketError};

/// Receives one frame that may bring `descriptors_max` descriptors, or fails when `deadline` has passed.
pub fn frame(socket: &mut FrameSocket, descriptors_max: usize, deadline: Instant) -> Result<Frame, SocketError> {
    loop {
        match socket.try_receive(descriptors_max) {
            Err(SocketError::WouldBlock) => readable(socket, deadline)?,
            other => return other,
        }
    }
}

fn readable(socket: &FrameSocket, deadline: Instant) -> Result<(), SocketError> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(SocketError::Deadline);
        }
        let mut waited = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        match ppoll(&mut waited, Some(TimeSpec::from_duration(left)), None) {
            Ok(0) | Err(Errno::EINTR) => continue,
            Ok(_) => return Ok(()),
            Err(other) => return Err(other.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use warden_proto::{Kind, socket};

    #[test]
    fn a_frame_arrives_and_silence_ends() {
        let (ours, theirs) = socket::pair().unwrap();
        let (mut ours, mut theirs) = (FrameSocket::new(ours), FrameSocket::new(theirs));
        let soon = || Instant::now() + Duration::from_millis(20);
        assert!(matches!(frame(&mut ours, 0, soon()), Err(SocketError::Deadline)));
        theirs.send(Kind::Goodbye, 0, &(), &[], true).unwrap();
        assert_eq!(frame(&mut ours, 0, soon()).unwrap().kind, Kind::Goodbye);
        drop(theirs);
        assert!(matches!(frame(&mut ours, 0, soon()), Err(SocketError::Closed)));
    }
}
