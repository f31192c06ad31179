//! Reading the whole of a file that came as a descriptor, in bounds.
//!
//! Runs in jailed processes. What is read was opened or made by the broker; its length is still asked for before anything
//! is allocated (T-05). Only `lseek` and `pread` are used: every jail knows them, unlike the C library's `fstat`, and they
//! read the same wherever another holder has left the file's position.

use nix::errno::Errno;
use nix::sys::uio::pread;
use nix::unistd::{Whence, lseek};
use std::os::fd::AsFd;

/// A file cannot be read whole.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// Longer than it may be.
    #[error("it is longer than {0} bytes")]
    Long(usize),
    /// It ended before the length that it had.
    #[error("it became shorter while it was read")]
    Short,
    /// A system call failed; a pipe or a directory has no bytes at places.
    #[error("it could not be read: {0}")]
    System(#[from] Errno),
}

/// All bytes of a file of at most `max_bytes`.
pub fn read(file: impl AsFd, max_bytes: usize) -> Result<Vec<u8>, DocumentError> {
    let len = lseek(&file, 0, Whence::SeekEnd)?;
    let len = usize::try_from(len).ok().filter(|len| *len <= max_bytes).ok_or(DocumentError::Long(max_bytes))?;
    let mut bytes = vec![0; len];
    let mut done = 0_usize;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let at = i64::try_from(done).map_err(|_| DocumentError::Long(max_bytes))?;
        match pread(&file, rest, at) {
            Ok(0) => return Err(DocumentError::Short),
            Ok(count) => done = done.saturating_add(count),
            Err(Errno::EINTR) => {}
            Err(other) => return Err(other.into()),
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Write;

    #[test]
    fn a_file_is_read_whole_from_wherever_it_was_left() {
        let fd = nix::sys::memfd::memfd_create(c"document", nix::sys::memfd::MFdFlags::empty()).unwrap();
        let mut file = File::from(fd);
        file.write_all(b"0123456789").unwrap();
        assert_eq!(read(&file, 10).unwrap(), b"0123456789");
        assert!(matches!(read(&file, 9), Err(DocumentError::Long(9))));
    }

    #[test]
    fn what_has_no_length_is_no_document() {
        let (end, _other) = nix::unistd::pipe().unwrap();
        assert!(matches!(read(&end, 10), Err(DocumentError::System(Errno::ESPIPE))));
        assert!(read(File::open("/").unwrap(), 4096).is_err());
    }
}
