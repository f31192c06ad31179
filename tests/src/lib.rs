//! What the end-to-end tests share: a place to run the real programs in, and a look at the processes they make.
//!
//! Runs in the tests only. Nothing of the product is replaced: every test starts the `warden` of its own build and reads
//! what a user, a script or an auditor would read. As root, warden runs tasks as the workspace's owner, who is `nobody`
//! here; as a normal user it runs as that user, and what needs root says that it was skipped.

#![forbid(unsafe_code)]

pub mod gate;
pub mod held;
pub mod installed;
pub mod log;
pub mod manifest;
pub mod place;
pub mod processes;
pub mod ran;
mod skip;

pub use held::Held;
pub use installed::Installed;
pub use manifest::{Task, probe};
pub use place::{NOBODY, Place, guest, sample};
pub use processes::{Family, Process};
pub use ran::{Ran, Running};
pub use skip::skipped;

/// Whether the tests run as root. What only root can see or do is skipped aloud elsewhere.
pub fn is_root() -> bool {
    nix::unistd::getuid().is_root()
}
