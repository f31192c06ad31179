//! The runner: forks a keeper for each command that the front names by index.
//!
//! Executed by the spawner; single-threaded; holds no frame parser and runs no byte of the guest's beyond copying
//! arguments. It has what commands may have, because a filter and a domain are inherited.

mod enclosure;
mod life;
mod serve;
mod usher;

pub use life::{Bench, SCOPES_FROM_ABI, live};
pub use serve::{end_everything, watch_children};
