//! The broker: policy, grants, budgets and audit for jailed tasks. Also the library that embeds them.
//!
//! Runs as the process `warden`, unprivileged, one thread. It trusts the policy and the person who started it, the spawner,
//! and nothing else: not the worker, not a helper, not what they say of each other. It links no Wasm engine, no HTTP or TLS
//! stack and no parser of what guests, models or pages produce.

#![forbid(unsafe_code)]
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

pub mod audit;
pub mod cache;
pub mod cancel;
pub mod cli;
pub mod compile;
pub mod deciding;
pub mod failure;
pub mod identity;
pub mod jailed;
pub mod ledger;
pub mod output;
pub mod peer;
pub mod places;
pub mod progress;
pub mod runtime;
pub mod scratch;
pub mod sealed;
pub mod session;
#[cfg(test)]
#[path = "../../tests/src/skip.rs"]
mod skip;
pub mod streams;
pub mod task;
pub mod terminal;
