//! Memory files that the broker makes, fills and seals: setup documents, modules, compiled code.
//!
//! A sealed file cannot be written, grown or shrunk by anybody, its maker included, so what was hashed is what a jail
//! maps (T-04), and no mount's noexec is in the way.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

/// MFD_NOEXEC_SEAL: the file itself can never be executed.
const NOEXEC_SEAL: MFdFlags = MFdFlags::from_bits_retain(0x8);

/// An empty memory file that a jail may write; [`seal`] comes after.
pub fn writable(name: &str) -> nix::Result<OwnedFd> {
    made(|flags| memfd_create(name, flags))
}

/// Linux before 6.3 has no NOEXEC_SEAL: there the file is made without, and that no jail has an exec is what is left.
fn made(make: impl Fn(MFdFlags) -> nix::Result<OwnedFd>) -> nix::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    match make(flags | NOEXEC_SEAL) {
        Err(Errno::EINVAL) => make(flags),
        other => other,
    }
}

/// A sealed memory file that holds `bytes`.
pub fn holding(name: &str, bytes: &[u8]) -> nix::Result<OwnedFd> {
    let mut file = File::from(writable(name)?);
    file.write_all(bytes).map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(nix::libc::EIO)))?;
    let fd = OwnedFd::from(file);
    seal(&fd)?;
    Ok(fd)
}

/// Takes away every way to change a memory file. Fails while somebody has it mapped for writing.
pub fn seal(fd: impl AsFd) -> nix::Result<()> {
    let all = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
    fcntl(fd, FcntlArg::F_ADD_SEALS(all)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_noexec_seal_still_gives_files_and_another_refusal_is_one() {
        let older =
            |flags: MFdFlags| if flags.contains(NOEXEC_SEAL) { Err(Errno::EINVAL) } else { memfd_create("old", flags) };
        let file = made(older).unwrap();
        seal(&file).unwrap();
        assert_eq!(nix::unistd::write(&file, b"x"), Err(Errno::EPERM));
        assert_eq!(made(|_| Err(Errno::EMFILE)).map(drop), Err(Errno::EMFILE));
        assert!(writable("new").is_ok());
    }
}
