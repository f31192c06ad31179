//! `agent-core`: the planner that ships with the project, a brain of the world `osagent:agent/control`.
//!
//! Runs as WebAssembly inside a worker's jail. It trusts nobody and nobody trusts it: what a model answers is checked here so that the model
//! can be told what was wrong with it, and is judged again by the broker, whose word alone counts (T-15, T-16).
//!
//! A step: take the observation → ask the model → read its turn → check every action → hand the plan to the host. The instance lives as
//! long as the task and remembers the conversation. The logic is plain Rust, tested natively; only `component` touches the bindings.
#![deny(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)
)]

pub mod brain;
pub mod catalogue;
pub mod clip;
pub mod history;
pub mod host;
pub mod observation;
pub mod prompt;
pub mod turn;
pub mod validate;

#[cfg(target_arch = "wasm32")]
mod component;
