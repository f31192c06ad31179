//! A person's standard streams, and the pipes between them and a command in the jail: `warden jail`.
//!
//! Runs in the broker, which understands none of the bytes: it counts and hashes them for the log and passes them on. The
//! command never gets a descriptor of the person's (T-07). A terminal could be steered, typed into and read later; a socket
//! sends descriptors; a file shares its offset, locks, leases and flags with everybody who has it open, and what is open to
//! write may be cut short. So each stream is a pipe of the broker's own, and `flow` pumps it: in pieces of one size, each
//! stream waiting for its own reader and for nothing else, so that memory stays bounded (T-06). What ends on one side ends
//! on the other: end-of-file and a reader that went away reach the command as they would reach it in any pipeline.

mod channel;
mod flow;

pub use flow::{Ends, Flow, Streamed};

use crate::failure::Failure;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::stat::{Mode, SFlag, fstat, major, minor};
use nix::unistd::{dup, dup2_stdin};
use std::io::{IsTerminal, stderr, stdin, stdout};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// The streams of whoever called us, taken while we are still that person.
#[derive(Debug)]
pub struct Streams {
    /// None where there is nothing to read: the command gets /dev/null.
    stdin: Option<Taken>,
    /// None where it is kept for the result.
    stdout: Option<Taken>,
    stderr: Option<Taken>,
    /// Both outputs go to one place: one pipe for both keeps what the command writes in its order.
    joined: bool,
}

/// One stream.
#[derive(Debug)]
struct Taken {
    fd: OwnedFd,
    terminal: bool,
}

/// Which way a stream goes, for messages and for what it must allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    In,
    Out,
}

impl Streams {
    /// Takes standard input, and with `pass` the two outputs too; else they are kept for the result.
    ///
    /// What is no stream of bytes is refused here, before anything is started.
    pub fn take(pass: bool) -> Result<Self, Failure> {
        let stdin = take_input()?;
        let output = |name: &str, fd: BorrowedFd<'_>, terminal: bool| -> Result<Option<Taken>, Failure> {
            if !pass {
                return Ok(None);
            }
            check(fd, Way::Out).map_err(|why| unusable(name, why))?;
            let fd = own(fd, Way::Out).map_err(|errno| unusable(name, &errno.to_string()))?;
            Ok(Some(Taken { fd, terminal }))
        };
        let stdout_taken = output("output", stdout().as_fd(), stdout().is_terminal())?;
        let stderr_taken = output("error", stderr().as_fd(), stderr().is_terminal())?;
        let joined = pass && same(stdout().as_fd(), stderr().as_fd());
        let stderr_taken = stderr_taken.filter(|_| !joined);
        Ok(Self { stdin, stdout: stdout_taken, stderr: stderr_taken, joined })
    }
}

fn unusable(name: &str, why: &str) -> Failure {
    Failure::usage(format!("standard {name} is {why}; give the command a file, a pipe, a terminal or /dev/null"))
}

/// Standard input, with /dev/null in its place from here on: whoever writes into it hears at once that the command has
/// closed its own, and no process of ours holds it open.
fn take_input() -> Result<Option<Taken>, Failure> {
    let input = stdin();
    if is_null(input.as_fd()) {
        return Ok(None);
    }
    check(input.as_fd(), Way::In).map_err(|why| unusable("input", why))?;
    let failed = |errno: Errno| unusable("input", &errno.to_string());
    let terminal = input.is_terminal();
    let fd = own(input.as_fd(), Way::In).map_err(failed)?;
    let null = open("/dev/null", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).map_err(failed)?;
    dup2_stdin(null).map_err(failed)?;
    Ok(Some(Taken { fd, terminal }))
}

fn same(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> bool {
    let place = |fd| fstat(fd).ok().map(|facts| (facts.st_dev, facts.st_ino, facts.st_rdev));
    place(one).is_some() && place(one) == place(other)
}

fn is_null(fd: BorrowedFd<'_>) -> bool {
    fstat(fd).is_ok_and(|facts| {
        let device = SFlag::from_bits_truncate(facts.st_mode) & SFlag::S_IFMT == SFlag::S_IFCHR;
        device && (major(facts.st_rdev), minor(facts.st_rdev)) == (1, 3)
    })
}

/// Whether bytes can go this way at all.
fn check(fd: BorrowedFd<'_>, way: Way) -> Result<(), &'static str> {
    let Ok(flags) = fcntl(fd, FcntlArg::F_GETFL) else { return Err("not open") };
    let flags = OFlag::from_bits_truncate(flags);
    let facts = fstat(fd).map_err(|_| "not open")?;
    let kind = SFlag::from_bits_truncate(facts.st_mode) & SFlag::S_IFMT;
    if flags.contains(OFlag::O_PATH) {
        return Err("open as a place only, and holds no bytes");
    }
    match (kind, way, flags & OFlag::O_ACCMODE) {
        (SFlag::S_IFDIR, _, _) => Err("a directory"),
        // A disk is no stream, and nobody means it.
        (SFlag::S_IFBLK, _, _) => Err("a block device"),
        (_, Way::In, OFlag::O_WRONLY) => Err("open for writing only"),
        (_, Way::Out, OFlag::O_RDONLY) => Err("open for reading only"),
        _ => Ok(()),
    }
}

/// The same stream as a descriptor of our own. A pipe or a terminal is opened anew where that is allowed: then waiting can be
/// switched off for us alone, and not for the shell and the other programs that share the caller's description (T-06).
fn own(fd: BorrowedFd<'_>, way: Way) -> nix::Result<OwnedFd> {
    let facts = fstat(fd)?;
    let kind = SFlag::from_bits_truncate(facts.st_mode) & SFlag::S_IFMT;
    let terminal = kind == SFlag::S_IFCHR && nix::unistd::isatty(fd).unwrap_or(false);
    if kind == SFlag::S_IFIFO || terminal {
        let mode = if way == Way::In { OFlag::O_RDONLY } else { OFlag::O_WRONLY };
        let flags = mode | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        if let Ok(anew) = open(path.as_str(), flags, Mode::empty())
            && fstat(&anew).is_ok_and(|found| (found.st_dev, found.st_ino) == (facts.st_dev, facts.st_ino))
        {
            return Ok(anew);
        }
    }
    let copy = dup(fd)?;
    fcntl(&copy, FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::makedev;
    use std::fs::File;

    fn with(path: &str, flags: OFlag) -> OwnedFd {
        open(path, flags | OFlag::O_CLOEXEC, Mode::empty()).unwrap()
    }

    #[test]
    fn what_is_no_stream_of_bytes_is_refused_each_way_and_what_is_one_is_not() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let both = with("/dev/zero", OFlag::O_RDWR);
        let file = OwnedFd::from(tempfile::tempfile().unwrap());
        let root = with("/", OFlag::O_RDONLY | OFlag::O_DIRECTORY);
        let place = with("/dev/null", OFlag::O_PATH);
        for (fd, input, output) in [
            (&reader, true, false),
            (&writer, false, true),
            (&both, true, true),
            (&file, true, true),
            (&root, false, false),
            (&place, false, false),
        ] {
            assert_eq!(check(fd.as_fd(), Way::In).is_ok(), input, "{fd:?}");
            assert_eq!(check(fd.as_fd(), Way::Out).is_ok(), output, "{fd:?}");
        }
        assert!(is_null(with("/dev/null", OFlag::O_WRONLY).as_fd()) && !is_null(both.as_fd()));
        assert_eq!(makedev(1, 3), fstat(with("/dev/null", OFlag::O_RDONLY)).unwrap().st_rdev);
    }

    /// The shell's own descriptor must go on waiting; and a file keeps its place.
    #[test]
    fn waiting_is_switched_off_for_us_and_for_nobody_else() {
        let (reader, _writer) = nix::unistd::pipe().unwrap();
        let ours = own(reader.as_fd(), Way::In).unwrap();
        let flags = |fd: &OwnedFd| OFlag::from_bits_truncate(fcntl(fd, FcntlArg::F_GETFL).unwrap());
        assert!(flags(&ours).contains(OFlag::O_NONBLOCK) && !flags(&reader).contains(OFlag::O_NONBLOCK));
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, b"0123456789").unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        let mut first = [0; 4];
        std::io::Read::read_exact(&mut file, &mut first).unwrap();
        let mut copy = File::from(own(file.as_fd(), Way::In).unwrap());
        std::io::Read::read_exact(&mut copy, &mut first).unwrap();
        assert_eq!(&first, b"4567");
    }
}
