//! One end of a stream: read or written without ever holding up the broker's one thread.
//!
//! A pipe, a terminal or a socket is asked whether it is ready before every call, since its description may be one that
//! others share and that waits. A regular file or a device that cannot be waited for is always ready.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{getpgrp, isatty, read, tcgetpgrp, write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A write of so many bytes to a ready pipe does not wait, whoever else writes to it (PIPE_BUF).
const SHARED_PIECE_BYTES: usize = 4096;
/// Between two looks whether a job is in the foreground again.
const BACKGROUND_LOOK: Duration = Duration::from_millis(100);

/// One end.
#[derive(Debug)]
pub(super) struct Channel {
    way: Wait,
    /// Most that one write may hold without waiting.
    piece_bytes: usize,
    terminal: bool,
}

#[derive(Debug)]
enum Wait {
    /// Waited for by the event loop.
    Polled(AsyncFd<OwnedFd>),
    /// Always ready.
    Ready(OwnedFd),
}

impl Channel {
    /// To read from. Must be called in the runtime.
    pub fn source(fd: OwnedFd) -> nix::Result<Self> {
        Self::new(fd, Interest::READABLE)
    }

    /// To write to. Must be called in the runtime.
    pub fn sink(fd: OwnedFd) -> nix::Result<Self> {
        Self::new(fd, Interest::WRITABLE)
    }

    #[allow(deprecated, reason = "the replacement is unsafe; a channel owns its descriptor and never changes it")]
    fn new(fd: OwnedFd, interest: Interest) -> nix::Result<Self> {
        let terminal = isatty(&fd).unwrap_or(false);
        let flags = nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_GETFL)?;
        let waits = flags & nix::libc::O_NONBLOCK == 0;
        let (way, ready) = match AsyncFd::try_with_interest(fd, interest) {
            Ok(polled) => (Wait::Polled(polled), false),
            // What epoll does not take is a file, or a device like /dev/full.
            Err(refused) => (Wait::Ready(refused.into_parts().0), true),
        };
        let piece_bytes = if waits && !ready { SHARED_PIECE_BYTES } else { usize::MAX };
        Ok(Self { way, piece_bytes, terminal })
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match &self.way {
            Wait::Polled(polled) => polled.get_ref().as_fd(),
            Wait::Ready(fd) => fd.as_fd(),
        }
    }

    fn is_ready(&self, flags: PollFlags) -> nix::Result<bool> {
        match poll(&mut [PollFd::new(self.fd(), flags)], PollTimeout::ZERO) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::EINTR) => Ok(false),
            Err(other) => Err(other),
        }
    }

    async fn ready(&self, flags: PollFlags) -> nix::Result<()> {
        let Wait::Polled(polled) = &self.way else {
            // It never waits by itself, and must not keep the rest of the broker waiting.
            tokio::task::yield_now().await;
            return Ok(());
        };
        loop {
            if self.is_ready(flags)? {
                return Ok(());
            }
            let writes = flags.contains(PollFlags::POLLOUT);
            let guard = if writes { polled.writable().await } else { polled.readable().await };
            let mut guard = guard.map_err(|_| Errno::EIO)?;
            // What comes between the look and this clears nothing: it is a wake-up of its own.
            if !self.is_ready(flags)? {
                guard.clear_ready();
            }
        }
    }

    /// Reads what is there, waiting for the first byte; 0 is end-of-file.
    pub async fn read(&self, buffer: &mut [u8]) -> nix::Result<usize> {
        loop {
            self.ready(PollFlags::POLLIN).await?;
            if self.terminal && self.in_background() {
                // A job in the background that read would be stopped, whoever the line was typed for.
                tokio::time::sleep(BACKGROUND_LOOK).await;
                continue;
            }
            match read(self.fd(), buffer) {
                Err(Errno::EINTR | Errno::EAGAIN) => tokio::task::yield_now().await,
                other => return other,
            }
        }
    }

    /// Whether the terminal is ours and belongs to another job now.
    fn in_background(&self) -> bool {
        tcgetpgrp(self.fd()).is_ok_and(|foreground| foreground != getpgrp())
    }

    /// Writes everything, waiting as long as the reader does.
    pub async fn write(&self, bytes: &[u8]) -> nix::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            self.ready(PollFlags::POLLOUT).await?;
            let piece = rest.get(..self.piece_bytes.min(rest.len())).unwrap_or(rest);
            match write(self.fd(), piece) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(Errno::EINTR | Errno::EAGAIN) => tokio::task::yield_now().await,
                Err(other) => return Err(other),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[tokio::test(flavor = "current_thread")]
    async fn a_shared_description_that_waits_never_holds_up_the_thread() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let (source, sink) = (Channel::source(reader).unwrap(), Channel::sink(writer).unwrap());
        let long = vec![7; 1 << 20];
        let mut got = Vec::new();
        let mut buffer = [0; 1000];
        tokio::select! {
            biased;
            result = sink.write(&long) => panic!("a pipe does not hold a megabyte: {result:?}"),
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
        // What was written before is there, and then nothing: waiting for it holds up nobody either.
        loop {
            tokio::select! {
                biased;
                read = source.read(&mut buffer) => got.extend_from_slice(&buffer[..read.unwrap()]),
                () = tokio::time::sleep(Duration::from_millis(20)) => break,
            }
        }
        assert_eq!(got.len(), 65_536);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_file_is_read_to_its_end_and_a_full_device_says_so() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"abc").unwrap();
        let source = Channel::source(std::fs::File::open(file.path()).unwrap().into()).unwrap();
        let mut buffer = [0; 10];
        assert_eq!(source.read(&mut buffer).await, Ok(3));
        assert_eq!(source.read(&mut buffer).await, Ok(0));
        let full = Channel::sink(std::fs::File::options().write(true).open("/dev/full").unwrap().into()).unwrap();
        assert_eq!(full.write(b"x").await, Err(Errno::ENOSPC));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_reader_that_has_gone_and_a_writer_that_has_gone_are_told_of() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let sink = Channel::sink(writer).unwrap();
        drop(reader);
        assert_eq!(sink.write(b"x").await, Err(Errno::EPIPE));
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let source = Channel::source(reader).unwrap();
        drop(writer);
        assert_eq!(source.read(&mut [0; 1]).await, Ok(0));
    }
}
