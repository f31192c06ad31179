//! Where a guest's output goes: kept up to a bound, or passed through.
//!
//! Kept output past its bound is dropped and counted, and the guest goes on. Output that is passed through is bounded by
//! nothing but the reader: it is written in pieces that a pipe takes without blocking, so that a reader who stops reading
//! stops the guest and not the broker's clock (T-06). A pipe or a file gets the guest's very bytes; a terminal gets nothing that
//! steers it (T-14).

use crate::terminal::Passing;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::borrow::Cow;
use std::io::{IsTerminal, stderr, stdout};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;
use warden_proto::msg::proc::Stream;
use warden_proto::msg::worker::Output;

/// A write of so many bytes to a writable pipe does not block (PIPE_BUF).
const PIECE_BYTES: usize = 4096;
/// Between two looks at a reader who does not read.
const READER_PAUSE: Duration = Duration::from_millis(1);
/// What a reader who has stopped reading gets for the end of it all.
const END_PATIENCE: Duration = Duration::from_millis(500);

/// One output that is kept.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    /// What was kept.
    pub bytes: Vec<u8>,
    /// Bytes that were dropped.
    pub dropped: u64,
}

impl Kept {
    /// Keeps what there is room for, and counts the rest.
    pub fn add(&mut self, bytes: &[u8], max_bytes: usize) {
        let room = max_bytes.saturating_sub(self.bytes.len()).min(bytes.len());
        let (now, over) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
        self.bytes.extend_from_slice(now);
        self.dropped = self.dropped.saturating_add(u64::try_from(over.len()).unwrap_or(u64::MAX));
    }
}

/// Both outputs of a guest.
#[derive(Debug, Clone)]
pub struct Sinks {
    keep_max_bytes: Option<usize>,
    /// Standard output, if it is kept.
    pub stdout: Kept,
    /// Standard error, if it is kept.
    pub stderr: Kept,
    /// For each stream that is passed through and is a terminal.
    watched: [Option<Passing>; 2],
}

impl Sinks {
    /// Keeps each output up to `max_bytes`.
    pub fn keep(max_bytes: u64) -> Self {
        let max = usize::try_from(max_bytes).unwrap_or(usize::MAX);
        Self { keep_max_bytes: Some(max), stdout: Kept::default(), stderr: Kept::default(), watched: [None, None] }
    }

    /// Passes both outputs through to our own.
    pub fn pass() -> Self {
        let watched = [stdout().is_terminal(), stderr().is_terminal()].map(|yes| yes.then(Passing::default));
        Self { keep_max_bytes: None, stdout: Kept::default(), stderr: Kept::default(), watched }
    }

    /// Takes a piece of output. Where it is passed through this waits as long as its reader does, without blocking; an
    /// error is a reader that has gone away, or output that is lost. Dropped before it is ready, the rest of the piece is lost.
    pub async fn take(&mut self, output: Output) -> nix::Result<()> {
        let Output { stream, bytes } = output;
        let Some(max) = self.keep_max_bytes else {
            let [out, err] = &mut self.watched;
            return match stream {
                Stream::Stdout => write_patiently(stdout().as_fd(), &passed(out, &bytes)).await,
                Stream::Stderr => match write_patiently(stderr().as_fd(), &passed(err, &bytes)).await {
                    // What cannot be said there changes nothing else.
                    Err(other) if other != Errno::EPIPE => Ok(()),
                    said => said,
                },
            };
        };
        let kept = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        kept.add(&bytes, max);
        Ok(())
    }

    /// The guest is over: what was held back of its output comes out, and its colours end before warden speaks.
    pub async fn finish(&mut self) {
        let [out, err] = &mut self.watched;
        for (fd, passing) in [(stdout().as_fd(), out), (stderr().as_fd(), err)] {
            let rest = passing.as_mut().map(Passing::end).unwrap_or_default();
            let _ = tokio::time::timeout(END_PATIENCE, write_patiently(fd, &rest)).await;
        }
    }

    /// Whether anything was dropped.
    pub fn truncated(&self) -> bool {
        self.stdout.dropped > 0 || self.stderr.dropped > 0
    }
}

/// T-14: a terminal gets nothing that steers it, anything else the very bytes.
fn passed<'a>(watched: &mut Option<Passing>, bytes: &'a [u8]) -> Cow<'a, [u8]> {
    match watched {
        Some(passing) => Cow::Owned(passing.pass(bytes)),
        None => Cow::Borrowed(bytes),
    }
}

/// Writes in pieces that a ready pipe takes whole, and sleeps while it is not ready: a file, a terminal and a pipe are all
/// asked the same way.
async fn write_patiently(fd: BorrowedFd<'_>, bytes: &[u8]) -> nix::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match poll(&mut [PollFd::new(fd, PollFlags::POLLOUT)], PollTimeout::ZERO) {
            Ok(0) | Err(Errno::EINTR) => {
                tokio::time::sleep(READER_PAUSE).await;
                continue;
            }
            Err(other) => return Err(other),
            Ok(_) => {}
        }
        let (piece, _) = rest.split_at_checked(PIECE_BYTES).unwrap_or((rest, &[]));
        match nix::unistd::write(fd, piece) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(Errno::EINTR | Errno::EAGAIN) => tokio::time::sleep(READER_PAUSE).await,
            Err(other) => return Err(other),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use warden_proto::Bytes;

    #[tokio::test(flavor = "current_thread")]
    async fn kept_output_is_cut_at_its_bound_and_counted() {
        let mut sinks = Sinks::keep(5);
        for piece in ["abc", "defg"] {
            let bytes = Bytes::new(piece.as_bytes()).unwrap();
            sinks.take(Output { stream: Stream::Stdout, bytes }).await.unwrap();
        }
        assert_eq!(sinks.stdout.bytes, b"abcde");
        assert_eq!(sinks.stdout.dropped, 2);
        assert!(sinks.truncated());
        assert_eq!(sinks.stderr.dropped, 0);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_reader_who_does_not_read_blocks_nobody_else() {
        let (_reader, writer) = nix::unistd::pipe().unwrap();
        let stuck = vec![0; 1 << 20];
        tokio::select! {
            biased;
            _ = write_patiently(writer.as_fd(), &stuck) => panic!("the pipe took more than it holds"),
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_reader_who_has_gone_is_told_of() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        write_patiently(writer.as_fd(), b"read by nobody").await.unwrap();
        drop(reader);
        assert_eq!(write_patiently(writer.as_fd(), b"x").await, Err(Errno::EPIPE));
    }
}
