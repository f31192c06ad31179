//! The front: the broker's frames in, launches to the runner, bytes between pipes and frames.
//!
//! Executed by the spawner; one thread that waits in one place only. It trusts the broker, runner and keepers; a
//! command's output is bytes to it, never parsed.

mod calls;
mod desk;
mod life;
mod outbox;
mod pipes;
mod process;
mod rules;

pub use life::live;
