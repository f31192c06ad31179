//! The jail of every wasi-warden process: Landlock, seccomp, capabilities, limits, descriptors.
//!
//! Linked into every process of ours and run by the process being jailed, on itself; it trusts the rule
//! files of `policy/seccomp` and `policy/landlock`, which the build compiles in and hashes
//! ([`RULES_SHA256_HEX`], in the first audit record), and the descriptors it is given. It imports nothing
//! of ours. It is the only crate that calls landlock, seccompiler and caps.
//!
//! A process goes through [`life::Life`]; workers through [`life::worker_scope`] and
//! [`life::lock_down_worker`]; the broker through [`life::lock_down`]; commands through
//! [`life::lock_down_command`]. A process must have one thread when it locks itself down: filters and
//! domains hold the calling thread and what it starts.

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
compile_error!("warden-jail has rule files for x86-64 Linux only");

pub mod abi;
#[allow(dead_code, clippy::indexing_slicing)]
// shared with build.rs, which checks programs with all of it
mod bpf;
pub mod connect;
pub mod delegation;
pub mod descriptors;
pub mod fork;
pub mod groups;
pub mod landlock;
pub mod lease;
pub mod life;
pub mod limits;
mod mounts;
pub mod namespaces;
pub mod notify;
pub mod probe;
pub mod process;
pub mod restart;
mod role;
pub mod rooms;
pub mod root;
mod rules;
pub mod same;
pub mod seccomp;
pub mod self_test;
pub mod signals;
pub mod system;
pub mod witness;

pub use landlock::{GrantKind, Grants};
pub use life::{Isolation, Life, LifeError, Privileges};
pub use limits::Limits;
pub use role::Role;
pub use rules::{RULES_SHA256, RULES_SHA256_HEX};
