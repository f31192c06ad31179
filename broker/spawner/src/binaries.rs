//! The programs that the spawner executes: found beside `warden`, opened once, checked, and executed by descriptor.
//!
//! T-10: a program that somebody else can replace would be everything the policy is not. Each is found by
//! [`crate::trusted`], and what was passed on the way is kept: a task must not be able to write there either.

use crate::child::execute;
use crate::trusted::{self, FileIdentity, TrustError, Trusted};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
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
    /// Where each was found, and the identities of the file and of every directory passed on the way.
    pub passed: Vec<(PathBuf, Vec<FileIdentity>)>,
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
    #[error("{path} is refused: {blame} {why}; `warden` runs only programs that nobody but root or you can replace")]
    Untrusted {
        /// The program.
        path: PathBuf,
        /// The file, link or directory that is not safe.
        blame: PathBuf,
        /// Why.
        why: &'static str,
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
        let mut passed = Vec::new();
        let mut take = |name: &str| {
            let Trusted { file, real, passed: way } = open_program(name, folders)?;
            passed.push((real, way));
            Ok(file)
        };
        let (sandbox, cap_fs) = (take("warden-sandbox")?, take("cap-fs")?);
        let (cap_proc, cap_llm) = (take("cap-proc")?, take("cap-llm")?);
        Ok(Self { sandbox, cap_fs, cap_proc, cap_llm, passed })
    }

    /// The first program that this system does not execute, and why; each that it does is ended before it has done anything.
    /// A file that is there and trusted may be empty, or for another machine.
    pub fn not_executable(&self) -> Option<(&'static str, Errno)> {
        [Role::Compiler, Role::CapFs, Role::CapProcFront, Role::CapLlm].into_iter().find_map(|role| {
            let (program, arguments) = self.of(role);
            match execute(program, arguments, Vec::new()) {
                Ok(pid) => {
                    let _ = kill(pid, Signal::SIGKILL);
                    while waitpid(pid, None) == Err(Errno::EINTR) {}
                    None
                }
                Err(error) => Some((arguments.first().copied().unwrap_or_default(), error.errno)),
            }
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

fn open_program(name: &str, folders: &[PathBuf]) -> Result<Trusted, BinaryError> {
    for folder in folders {
        let path = folder.join(name);
        match trusted::open_file(&path, &[0, nix::unistd::getuid().as_raw()]) {
            Ok(found) => return Ok(found),
            Err(TrustError::System(Errno::ENOENT | Errno::ENOTDIR)) => continue,
            Err(TrustError::System(source)) => return Err(BinaryError::Open { path, source }),
            Err(TrustError::Untrusted { blame, why }) => return Err(BinaryError::Untrusted { path, blame, why }),
        }
    }
    let places = folders.iter().map(|f| f.display().to_string()).collect::<Vec<_>>().join(", ");
    Err(BinaryError::Missing { name: name.to_owned(), places })
}
