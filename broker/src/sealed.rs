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
    memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING | NOEXEC_SEAL)
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
