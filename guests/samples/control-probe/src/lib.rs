//! `control-probe`: a brain of the world `osagent:agent/control` that does what a script tells it, for the tests of the host.
//!
//! Where `agent-core` only plans, the probe calls the typed imports itself, keeps handles over steps, misuses them, and misbehaves on demand. It
//! is the guest of boundary tests: what it reports is what a hostile guest would have been given. The script's form is in [`script`].
#![deny(unsafe_code)]

pub mod script;

#[cfg(target_arch = "wasm32")]
mod component;
#[cfg(target_arch = "wasm32")]
mod hands;
#[cfg(target_arch = "wasm32")]
mod misbehaviour;
