//! The front's ends of a command's pipes, and what is held for them.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{pipe2, read, write};
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Bytes of input held for a command that does not read; one whole call always fits in an empty one.
pub const INPUT_MAX_BYTES: usize = 64 * 1024;
/// Bytes taken from a pipe at once, so that one command's flood does not keep the others waiting (T-06).
const READ_BYTES: usize = 64 * 1024;

/// A new pipe: the front's end, which never waits, and the command's.
pub fn pair(ours_writes: bool) -> nix::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
    let (ours, theirs) = if ours_writes { (writer, reader) } else { (reader, writer) };
    fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((ours, theirs))
}

/// Whether this is an end of a pipe: nothing else has a size as one.
pub fn is_pipe(fd: &OwnedFd) -> bool {
    fcntl(fd, FcntlArg::F_GETPIPE_SZ).is_ok()
}

/// Standard input of a command.
#[derive(Debug, Default)]
pub struct Input {
    pipe: Option<OwnedFd>,
    pending: VecDeque<u8>,
    close_after: bool,
}

impl Input {
    /// Over our end of a pipe; `None` is /dev/null.
    pub fn new(pipe: Option<OwnedFd>) -> Self {
        Self { pipe, ..Self::default() }
    }

    /// Whether bytes could still reach the command.
    pub fn is_open(&self) -> bool {
        self.pipe.is_some() && !self.close_after
    }

    /// Whether so many bytes may be taken now.
    pub fn has_room(&self, len: usize) -> bool {
        self.pending.is_empty() || self.pending.len().saturating_add(len) <= INPUT_MAX_BYTES
    }

    /// Takes bytes; with `eof` the pipe closes after them.
    pub fn put(&mut self, bytes: &[u8], eof: bool) {
        self.pending.extend(bytes);
        self.close_after |= eof;
        self.pump();
    }

    /// What to wait for room in.
    pub fn wants(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().filter(|_| !self.pending.is_empty()).map(AsFd::as_fd)
    }

    /// Writes what the pipe has room for.
    pub fn pump(&mut self) {
        while let Some(pipe) = &self.pipe {
            let (first, _) = self.pending.as_slices();
            if first.is_empty() {
                if self.close_after {
                    self.close();
                }
                return;
            }
            match write(pipe, first) {
                Ok(written) => drop(self.pending.drain(..written.min(self.pending.len()))),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                // The command has closed its input: what it did not read is of no use to anybody.
                Err(_) => self.close(),
            }
        }
    }

    /// Closes it and forgets what was not written.
    pub fn close(&mut self) {
        self.pipe = None;
        self.pending.clear();
    }
}

/// Standard output or standard error of a command.
#[derive(Debug, Default)]
pub struct Output {
    pipe: Option<OwnedFd>,
    held: VecDeque<u8>,
    max: usize,
    /// What is over `max` is read and dropped, instead of left in the pipe.
    drops: bool,
    dropped: u64,
}

impl Output {
    /// Of a command that runs to its end: keeps `max` bytes and drops the rest, so that the command never waits.
    pub fn kept(pipe: OwnedFd, max: usize) -> Self {
        Self { pipe: Some(pipe), max, drops: true, ..Self::default() }
    }

    /// Of a command that somebody reads: holds `max` bytes; more waits in the pipe, and then the command waits.
    pub fn streamed(pipe: Option<OwnedFd>, max: usize) -> Self {
        Self { pipe, max, ..Self::default() }
    }

    /// Whether everything the command wrote has been read from its pipe.
    pub fn at_end(&self) -> bool {
        self.pipe.is_none()
    }

    /// Whether bytes wait for a reader.
    pub fn has_bytes(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether anything was dropped.
    pub fn truncated(&self) -> bool {
        self.dropped > 0
    }

    /// What to wait for bytes on. A pipe that would not be read is not waited for: its hang-up would be news for ever.
    pub fn wants(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().filter(|_| self.drops || self.held.len() < self.max).map(AsFd::as_fd)
    }

    /// Reads once.
    pub fn pump(&mut self) {
        let Some(pipe) = &self.pipe else { return };
        let room = self.max.saturating_sub(self.held.len());
        let mut buffer = vec![0; if self.drops { READ_BYTES } else { READ_BYTES.min(room) }];
        if buffer.is_empty() {
            return;
        }
        match read(pipe, &mut buffer) {
            Ok(0) => self.pipe = None,
            Ok(len) => {
                let kept = len.min(room);
                self.held.extend(buffer.iter().take(kept));
                let over = u64::try_from(len.saturating_sub(kept)).unwrap_or(u64::MAX);
                self.dropped = self.dropped.saturating_add(over);
            }
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(_) => self.pipe = None,
        }
    }

    /// Takes up to `max` bytes.
    pub fn take(&mut self, max: usize) -> Vec<u8> {
        self.held.drain(..max.min(self.held.len())).collect()
    }

    /// Takes all, cut to `max`.
    pub fn take_all(&mut self, max: usize) -> Vec<u8> {
        let bytes = self.take(max);
        let over = u64::try_from(self.held.len()).unwrap_or(u64::MAX);
        self.dropped = self.dropped.saturating_add(over);
        self.held.clear();
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_output_drops_what_is_over_and_a_streamed_one_leaves_it() {
        for drops in [true, false] {
            let (ours, theirs) = pair(false).unwrap();
            let mut output = if drops { Output::kept(ours, 10) } else { Output::streamed(Some(ours), 10) };
            assert_eq!(write(&theirs, b"0123456789abcdef"), Ok(16));
            output.pump();
            assert_eq!(output.wants().is_some(), drops);
            assert_eq!(output.truncated(), drops);
            assert_eq!(output.take(4), b"0123");
            assert!(output.wants().is_some());
            output.pump();
            let more: &[u8] = if drops { b"456789" } else { b"456789abcd" };
            assert_eq!(output.take(100), more);
        }
    }

    #[test]
    fn input_closes_after_its_last_byte_and_when_nobody_reads() {
        let (ours, theirs) = pair(true).unwrap();
        let mut input = Input::new(Some(ours));
        input.put(b"hello", true);
        assert!(!input.is_open());
        let mut buffer = [0; 10];
        assert_eq!(read(&theirs, &mut buffer), Ok(5));
        assert_eq!(read(&theirs, &mut buffer), Ok(0));
        let (ours, theirs) = pair(true).unwrap();
        let mut input = Input::new(Some(ours));
        drop(theirs);
        input.put(b"hello", false);
        assert!(!input.is_open());
    }

    #[test]
    fn only_pipes_are_handed_to_a_command() {
        let open = |path: &str| OwnedFd::from(std::fs::File::open(path).unwrap());
        let (socket, _other) = crate::lane::Lane::pair().unwrap();
        let file = OwnedFd::from(tempfile::tempfile().unwrap());
        for no in [open("/"), open("/dev/null"), open("/dev/ptmx"), socket, file] {
            assert!(!is_pipe(&no), "{no:?}");
        }
        let (ours, theirs) = pair(true).unwrap();
        assert!(is_pipe(&ours) && is_pipe(&theirs));
    }

    #[test]
    fn input_over_its_bound_waits() {
        let (ours, _theirs) = pair(true).unwrap();
        let mut input = Input::new(Some(ours));
        while input.has_room(1000) {
            input.put(&[0; 1000], false);
        }
        assert!(input.wants().is_some());
        assert!(input.pending.len() <= INPUT_MAX_BYTES);
    }
}
