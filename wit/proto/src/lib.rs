//! Messages between the processes of wasi-warden, and the two kinds of link that carry them.
//!
//! Link A joins broker and spawner, which trust each other: [`link_a`]. Link B joins the broker and one jailed
//! process, which it does not trust: [`frame`] and [`socket`], with the jailed end's [`greeting`] and [`calls`]. Everything that crosses link B is one of the types in
//! [`msg`], decoded by [`codec`] with every length bounded before anything is allocated (T-05).
//!
//! Imports nothing of ours: both sides of every boundary depend on this crate, so it depends on neither.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::as_conversions
    )
)]

pub mod blob;
pub mod bounded;
pub mod calls;
pub mod codec;
pub mod document;
pub mod frame;
pub mod greeting;
pub mod limits;
pub mod link_a;
pub mod msg;
pub mod render;
pub mod secret_name;
pub mod socket;
pub mod sys;

pub use bounded::{Bytes, List, Text};
pub use frame::{Frame, Kind};
pub use socket::{FrameSocket, SocketError};

/// Identity of this build; unequal builds refuse each other at hello (design §3).
///
/// Binaries of one build share the package version and the digest of every source file that shapes a message.
pub fn build_id() -> [u8; 32] {
    codec::digest(&[env!("CARGO_PKG_VERSION").as_bytes(), include_bytes!(concat!(env!("OUT_DIR"), "/sources.digest"))])
}
