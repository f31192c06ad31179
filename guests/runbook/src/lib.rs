//! `runbook-player`: plays a fixed list of actions, one a step, with no model; a brain of the world `osagent:agent/control` like any other.
//!
//! Runs as WebAssembly inside a worker's jail and imports no capability: all it can do is name the next action, which the broker judges. The
//! steps come as the task, JSON text; see [`player`].
#![deny(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)
)]

pub mod player;

#[cfg(target_arch = "wasm32")]
mod component;
