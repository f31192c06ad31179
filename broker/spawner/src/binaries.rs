//! The programs that the spawner executes: found beside `warden`, opened once, checked, and executed by descriptor.
//!
//! T-10: a program that somebody else can replace would be everything the policy is not. Each file and each of its parent
//! directories belongs to root or the caller and is writable by nobody else (sticky directories excepted).

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag, fstat, stat};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use warden_proto::msg::life::Role;

/// What the spawner executes, as descriptors.
#[derive(Debug)]
pub struct Binaries {
    /// `warden-sandbox`: template and compiler.
    pub sandbox: OwnedFd,
    /// `cap-fs`.
    pub cap_fs: OwnedFd,
    /// `cap-proc`: front and runner.
    pub cap_proc: OwnedFd,
    /// `cap-llm`.
    pub cap_llm: OwnedFd,
}

/// A program is missing or not to be trusted.
#[derive(Debug, thiserror::Error)]
pub enum BinaryError {
    /// Not in any of the places.
    #[error("{name} was not found in {places}; build it with `cargo build --release`, or set WARDEN_LIBEXEC")]
    Missing {
        /// Its name.
        name: String,
        /// Where it was looked for.
        places: String,
    },
    /// Somebody else could replace it.
    #[error("{path} is refused: {why}; `warden` runs only programs that nobody but root or you can replace")]
    Untrusted {
        /// Which file or directory.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// It cannot be opened.
    #[error("{path} could not be opened: {source}")]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        source: Errno,
    },
}

impl Binaries {
    /// Finds, checks and opens every program in `folders`, in order.
    pub fn open(folders: &[PathBuf]) -> Result<Self, BinaryError> {
        Ok(Self {
            sandbox: open_program("warden-sandbox", folders)?,
            cap_fs: open_program("cap-fs", folders)?,
            cap_proc: open_program("cap-proc", folders)?,
            cap_llm: open_program("cap-llm", folders)?,
        })
    }

    /// The program of `role` and its arguments.
    pub fn of(&self, role: Role) -> (&OwnedFd, &'static [&'static str]) {
        match role {
            Role::Template | Role::Worker => (&self.sandbox, &["warden-sandbox", "--template"]),
            Role::Compiler => (&self.sandbox, &["warden-sandbox", "--compiler"]),
            Role::CapFs => (&self.cap_fs, &["cap-fs"]),
            Role::CapProcFront => (&self.cap_proc, &["cap-proc", "--front"]),
            Role::CapProcRunner => (&self.cap_proc, &["cap-proc", "--runner"]),
            Role::CapLlm => (&self.cap_llm, &["cap-llm"]),
        }
    }
}

fn open_program(name: &str, folders: &[PathBuf]) -> Result<OwnedFd, BinaryError> {
    for folder in folders {
        let path = folder.join(name);
        match open(&path, OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW, Mode::empty()) {
            Ok(fd) => {
                check(&fd, &path)?;
                return Ok(fd);
            }
            Err(Errno::ENOENT | Errno::ENOTDIR) => continue,
            Err(source) => return Err(BinaryError::Open { path, source }),
        }
    }
    let places = folders.iter().map(|f| f.display().to_string()).collect::<Vec<_>>().join(", ");
    Err(BinaryError::Missing { name: name.to_owned(), places })
}

fn check(fd: &OwnedFd, path: &Path) -> Result<(), BinaryError> {
    let open_error = |source| BinaryError::Open { path: path.to_owned(), source };
    let untrusted = |path: &Path, why: &str| BinaryError::Untrusted { path: path.to_owned(), why: why.to_owned() };
    let facts = fstat(fd).map_err(open_error)?;
    if facts.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFREG.bits() {
        return Err(untrusted(path, "it is no regular file"));
    }
    if let Some(why) = writable_by_others(facts.st_uid, facts.st_mode, false) {
        return Err(untrusted(path, why));
    }
    let real = path.canonicalize().map_err(|e| open_error(Errno::from_raw(e.raw_os_error().unwrap_or(0))))?;
    for parent in real.ancestors().skip(1) {
        let facts = stat(parent).map_err(open_error)?;
        if let Some(why) = writable_by_others(facts.st_uid, facts.st_mode, true) {
            return Err(untrusted(parent, why));
        }
    }
    Ok(())
}

/// Why somebody other than root and the caller could change a file or directory, if somebody could.
pub fn writable_by_others(uid: u32, mode: u32, directory: bool) -> Option<&'static str> {
    let ours = nix::unistd::getuid().as_raw();
    if uid != 0 && uid != ours {
        return Some("it belongs to another user");
    }
    let sticky = directory && mode & 0o1000 != 0;
    if mode & 0o022 != 0 && !sticky {
        return Some("its group or everybody may write to it");
    }
    None
}
