//! Where a guest's output goes: kept up to a bound, or passed through.
//!
//! Kept output past its bound is dropped and counted, and the guest goes on. Output that is passed through is bounded by
//! nothing but the reader: it is written in pieces that a pipe takes without blocking, so that a reader who stops reading
//! stops the guest and not the broker's clock (T-06).

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{stderr, stdout};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};
use warden_proto::msg::proc::Stream;
use warden_proto::msg::worker::Output;

/// A write of so many bytes to a writable pipe does not block (PIPE_BUF).
const PIECE_BYTES: usize = 4096;

/// One output that is kept.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    /// What was kept.
    pub bytes: Vec<u8>,
    /// Bytes that were dropped.
    pub dropped: u64,
}

/// Both outputs of a guest.
#[derive(Debug, Clone)]
pub struct Sinks {
    keep_max_bytes: Option<usize>,
    /// Standard output, if it is kept.
    pub stdout: Kept,
    /// Standard error, if it is kept.
    pub stderr: Kept,
    /// The reader has gone away: the rest is dropped.
    pub reader_gone: bool,
}

impl Sinks {
    /// Keeps each output up to `max_bytes`.
    pub fn keep(max_bytes: u64) -> Self {
        let max = usize::try_from(max_bytes).unwrap_or(usize::MAX);
        Self { keep_max_bytes: Some(max), stdout: Kept::default(), stderr: Kept::default(), reader_gone: false }
    }

    /// Passes both outputs through to our own.
    pub fn pass() -> Self {
        Self { keep_max_bytes: None, stdout: Kept::default(), stderr: Kept::default(), reader_gone: false }
    }

    /// Takes a piece of output; waits for a slow reader until `deadline`.
    pub fn take(&mut self, output: Output, deadline: Instant) {
        let Output { stream, bytes } = output;
        let Some(max) = self.keep_max_bytes else {
            if !self.reader_gone {
                self.reader_gone = match stream {
                    Stream::Stdout => write_patiently(stdout().as_fd(), &bytes, deadline),
                    Stream::Stderr => write_patiently(stderr().as_fd(), &bytes, deadline),
                }
                .is_err();
            }
            return;
        };
        let kept = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let room = max.saturating_sub(kept.bytes.len()).min(bytes.len());
        let (now, over) = bytes.split_at_checked(room).unwrap_or((&bytes, &[]));
        kept.bytes.extend_from_slice(now);
        kept.dropped = kept.dropped.saturating_add(u64::try_from(over.len()).unwrap_or(u64::MAX));
    }

    /// Nothing is held back.
    pub fn flush(&mut self) {}

    /// Whether anything was dropped.
    pub fn truncated(&self) -> bool {
        self.stdout.dropped > 0 || self.stderr.dropped > 0
    }
}

fn write_patiently(fd: BorrowedFd<'_>, bytes: &[u8], deadline: Instant) -> nix::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Errno::ETIMEDOUT);
        }
        let timeout = PollTimeout::try_from(left.min(Duration::from_secs(3600))).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(fd, PollFlags::POLLOUT)], timeout) {
            Ok(0) | Err(Errno::EINTR) => continue,
            Err(other) => return Err(other),
            Ok(_) => {}
        }
        let (piece, _) = rest.split_at_checked(PIECE_BYTES).unwrap_or((rest, &[]));
        match nix::unistd::write(fd, piece) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(Errno::EINTR | Errno::EAGAIN) => continue,
            Err(other) => return Err(other),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use warden_proto::Bytes;

    #[test]
    fn kept_output_is_cut_at_its_bound_and_counted() {
        let mut sinks = Sinks::keep(5);
        let soon = Instant::now() + Duration::from_secs(1);
        for piece in ["abc", "defg"] {
            let bytes = Bytes::new(piece.as_bytes()).unwrap();
            sinks.take(Output { stream: Stream::Stdout, bytes }, soon);
        }
        assert_eq!(sinks.stdout.bytes, b"abcde");
        assert_eq!(sinks.stdout.dropped, 2);
        assert!(sinks.truncated());
        assert_eq!(sinks.stderr.dropped, 0);
    }

    #[test]
    fn a_reader_who_does_not_read_costs_no_more_than_the_deadline() {
        let (_reader, writer) = nix::unistd::pipe().unwrap();
        let begin = Instant::now();
        let result = write_patiently(writer.as_fd(), &vec![0; 1 << 20], begin + Duration::from_millis(50));
        assert_eq!(result, Err(Errno::ETIMEDOUT));
    }
}
