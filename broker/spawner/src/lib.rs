//! The spawner: the one process of wasi-warden that forks, and the only one that kills jailed processes.
//!
//! It is forked from the broker before any thread exists. It reads link A and its descriptor lane, nothing else: no byte
//! that came from a jail ever reaches it (the template's answers are process ids from a process that reads none either),
//! but for the name of an orphan in the kernel's description of it, which is skipped (`children.rs`).
//! It has no Landlock domain, because its children's could only narrow from it, so it is kept this small. It ends on
//! end-of-file of link A as well as by death signal, and everything it made ends with it (T-12).

pub mod binaries;
pub mod birth;
pub mod broker_jail;
mod child;
mod children;
mod groups;
pub mod probe;
mod serve;
pub mod signals;
#[cfg(test)]
#[path = "../../../tests/src/skip.rs"]
mod skip;
mod template;
pub mod trusted;
mod workspaces;

pub use binaries::{Binaries, BinaryError};
pub use template::TemplateBounds;
pub use warden_jail::delegation::{Delegation, DelegationError};

use groups::Groups;
use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use std::io::Write as _;
use std::time::{Duration, Instant};
use warden_proto::link_a::{self, LinkA, LinkAError};

/// The spawner could not be started, or failed and ended.
#[derive(Debug, thiserror::Error)]
pub enum SpawnerError {
    /// Link A could not be made or broke.
    #[error(transparent)]
    Link(#[from] LinkAError),
    /// A system call failed.
    #[error("the spawner could not {0}: {1}")]
    System(&'static str, #[source] nix::errno::Errno),
    /// The broker ended before the spawner had begun: there is nobody to serve, and nobody to tell.
    #[error("the broker is gone")]
    BrokerGone,
    /// It could not give up what it does not need.
    #[error("the spawner could not give up its privileges: {0}")]
    Privileges(#[from] warden_jail::process::ProcessError),
    /// Something else has already started a thread: a fork now would leave its locks held for ever.
    #[error("the spawner must be forked before any thread exists, and this process has {0}")]
    Threads(usize),
}

/// Forks the spawner and returns the broker's end of link A with the spawner's process id.
///
/// `binaries` are what it will execute, opened and checked by the caller; they are closed on the broker's side.
pub fn start_bounded(binaries: Binaries, bounds: TemplateBounds) -> Result<(LinkA, Pid), SpawnerError> {
    start(binaries, bounds, None)
}

/// The same where commands get control groups, made beneath one that the host has given to us.
pub fn start(
    binaries: Binaries,
    bounds: TemplateBounds,
    delegation: Option<Delegation>,
) -> Result<(LinkA, Pid), SpawnerError> {
    let threads = birth::thread_count();
    if threads != 1 {
        return Err(SpawnerError::Threads(threads));
    }
    let (broker, spawner) = link_a::pair()?;
    let parent = Pid::this();
    // SAFETY: this process has exactly one thread (checked above), so the child may run any code.
    match unsafe { fork() }.map_err(|e| SpawnerError::System("fork", e))? {
        ForkResult::Parent { child } => Ok((broker, child)),
        ForkResult::Child => {
            drop(broker);
            let status = match serve::run(spawner, binaries, Groups::new(delegation), bounds, parent) {
                Ok(()) => 0,
                Err(SpawnerError::BrokerGone) => 0,
                Err(error) => {
                    // Where nobody can be told, that is no reason to end in another way.
                    let _ = writeln!(std::io::stderr(), "warden: {error}");
                    125
                }
            };
            std::process::exit(status);
        }
    }
}

/// Between the first two looks at a spawner that ends, and the longest between any two.
const LOOK: Duration = Duration::from_micros(50);
const LOOK_MAX: Duration = Duration::from_micros(800);

/// Waits for the spawner's end once the broker's end of link A is closed, and reaps it (T-12): nobody else may do so where
/// process 1 of a container reaps nothing. One that has not ended after `patience` ends with the broker, by its death signal:
/// the broker's jail lets it kill nobody.
pub fn await_end(spawner: Pid, patience: Duration) {
    let until = Instant::now() + patience;
    let mut look = LOOK;
    loop {
        match waitpid(spawner, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) if Instant::now() >= until => return,
            Ok(WaitStatus::StillAlive) => {
                std::thread::sleep(look);
                look = look.saturating_mul(2).min(LOOK_MAX);
            }
            Err(Errno::EINTR) => {}
            Ok(_) | Err(_) => return,
        }
    }
}

/// SHA-256 over every compiled-in seccomp and Landlock rule file, for the first audit record.
pub fn rules_sha256() -> [u8; 32] {
    warden_jail::RULES_SHA256
}
