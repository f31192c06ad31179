//! A keeper: one per command, forked by the runner; ends the command's whole tree, counts its processes and their memory,
//! performs for it what it does by path (the door) and its changes of mode and times.
//!
//! It reads one-word orders of the front and the notices of the kernel. It trusts both, and nothing of the command: a
//! notice's path is read once and judged by what it opens (`warden_jail::metadata`). It ends, tree first, when the
//! front's end of its control lane closes or the runner is gone (T-12).

mod believed;
mod command;
mod connections;
mod contents;
mod door;
mod footprint;
mod gauge;
mod group;
mod held;
mod kin;
mod life;
mod places;
mod private;
mod watch;

pub use door::is_possible as door_is_possible;
pub use group::{held, remove_group};
pub use kin::end_children;
pub use life::{Assignment, live};
pub use private::{PrivateDirectory, Room, remove_left};
