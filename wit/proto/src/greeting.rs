//! The first frames of a link B, from the jailed end: hello, setup, locked.
//!
//! Runs in every jailed process whose link leads to the broker. It trusts the broker, and takes only what is of its own
//! build and of the length that was said. [`connect`], [`receive_setup`] and [`say_locked`] are the beginning, the middle
//! and the end of a life that shuts its jail in between.

use crate::codec::{self, CodecError};
use crate::document::{self, DocumentError};
use crate::limits::{HELLO_DEADLINE, SETUP_MAX_BYTES};
use crate::msg::life::{Hello, LINK_FD, Locked, Role, Setup};
use crate::{FrameSocket, Kind, SocketError, build_id, sys};
use bincode::Decode;
use nix::errno::Errno;
use std::os::fd::OwnedFd;
use std::time::Instant;

/// The broker and a process that it had started do not get to know each other.
#[derive(Debug, thiserror::Error)]
pub enum GreetingError {
    /// The link is not where the spawner puts it.
    #[error("started by wasi-warden's spawner, never by hand: no link at descriptor {LINK_FD} ({0})")]
    Link(Errno),
    /// The link broke.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The broker's first frame is not what is due.
    #[error("the broker's first frame is no setup of this build with a document and {0} descriptors more")]
    Setup(usize),
    /// The document cannot be read, or is not as long as was said.
    #[error("the setup document: {0}")]
    Document(#[from] DocumentError),
    /// It does not decode.
    #[error("the setup document: {0}")]
    Codec(#[from] CodecError),
}

/// Takes the link that came over exec and says hello, before anything is read.
pub fn connect(role: Role) -> Result<FrameSocket, GreetingError> {
    say_hello(sys::inherited(LINK_FD).map_err(GreetingError::Link)?, role)
}

/// Says hello on a link that came in another way.
pub fn say_hello(link: OwnedFd, role: Role) -> Result<FrameSocket, GreetingError> {
    let mut link = FrameSocket::new(link);
    link.send(Kind::Hello, 0, &Hello { build_id: build_id(), role }, &[], true)?;
    Ok(link)
}

/// The broker's setup document and the descriptors that follow it.
pub fn receive_setup<T: Decode<()>, const MORE: usize>(
    link: &mut FrameSocket,
) -> Result<(T, [OwnedFd; MORE]), GreetingError> {
    let wrong = || GreetingError::Setup(MORE);
    let frame = link.receive(MORE.saturating_add(1), Instant::now().checked_add(HELLO_DEADLINE))?;
    if frame.kind != Kind::Setup {
        return Err(wrong());
    }
    let setup: Setup = frame.decode()?;
    if setup.build_id != build_id() || usize::try_from(setup.descriptors) != Ok(MORE) {
        return Err(wrong());
    }
    let mut descriptors = frame.descriptors.into_iter();
    let document = descriptors.next().ok_or_else(wrong)?;
    let more = <[OwnedFd; MORE]>::try_from(descriptors.collect::<Vec<_>>()).map_err(|_| wrong())?;
    // T-05: its size is asked of the descriptor before anything is allocated, and must be what was said.
    let bytes = document::read(&document, SETUP_MAX_BYTES)?;
    if u32::try_from(bytes.len()) != Ok(setup.document_len) {
        return Err(wrong());
    }
    Ok((codec::decode_document(&bytes)?, more))
}

/// Says that the jail is shut: from here on the broker sends calls.
pub fn say_locked(link: &mut FrameSocket, locked: &Locked) -> Result<(), GreetingError> {
    Ok(link.send(Kind::Locked, 0, locked, &[], true)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket;
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::{AsFd, BorrowedFd};

    fn document(bytes: &[u8]) -> File {
        let fd = nix::sys::memfd::memfd_create(c"setup", nix::sys::memfd::MFdFlags::empty()).unwrap();
        let mut file = File::from(fd);
        file.write_all(bytes).unwrap();
        file
    }

    fn setup_of(len: usize, descriptors: u32) -> Setup {
        Setup { build_id: build_id(), document_len: u32::try_from(len).unwrap(), descriptors }
    }

    fn told<const MORE: usize>(
        setup: &Setup,
        files: &[BorrowedFd<'_>],
    ) -> Result<(u64, [OwnedFd; MORE]), GreetingError> {
        let (ours, theirs) = socket::pair().unwrap();
        let mut broker = FrameSocket::new(ours);
        broker.send(Kind::Setup, 0, setup, files, true).unwrap();
        receive_setup(&mut FrameSocket::new(theirs))
    }

    #[test]
    fn what_is_sent_arrives_with_its_descriptors() {
        let (first, second) = (document(&7_u64.to_le_bytes()), document(b"more"));
        let (value, [more]) = told::<1>(&setup_of(8, 1), &[first.as_fd(), second.as_fd()]).unwrap();
        assert_eq!(value, 7);
        assert_eq!(document::read(&more, 16).unwrap(), b"more");
        assert!(matches!(told::<0>(&setup_of(8, 0), &[first.as_fd()]), Ok((7, []))));
    }

    #[test]
    fn another_build_length_or_count_is_refused() {
        let file = document(&7_u64.to_le_bytes());
        let foreign = Setup { build_id: [1; 32], ..setup_of(8, 0) };
        for setup in [foreign, setup_of(9, 0), setup_of(8, 1)] {
            assert!(matches!(told::<0>(&setup, &[file.as_fd()]), Err(GreetingError::Setup(0))), "{setup:?}");
        }
        assert!(matches!(told::<0>(&setup_of(8, 0), &[]), Err(GreetingError::Setup(0))));
        let long = document(&[0; 9]);
        assert!(matches!(told::<0>(&setup_of(9, 0), &[long.as_fd()]), Err(GreetingError::Codec(_))));
        assert!(matches!(told::<1>(&setup_of(8, 1), &[file.as_fd()]), Err(GreetingError::Setup(1))));
    }

    #[test]
    fn another_first_frame_is_refused() {
        let (ours, theirs) = socket::pair().unwrap();
        FrameSocket::new(ours).send(Kind::Goodbye, 0, &(), &[], true).unwrap();
        let told = receive_setup::<u64, 0>(&mut FrameSocket::new(theirs));
        assert!(matches!(told, Err(GreetingError::Setup(0))));
    }
}
