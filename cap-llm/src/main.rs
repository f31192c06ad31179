//! `cap-llm`: the helper that speaks to the one model endpoint of a task.
//!
//! Executed by the spawner with its link as descriptor 3; a process of its own per task. It trusts the broker and the
//! recording that the broker opened, and nothing that a message of the conversation says.
//!
//! Its life, top to bottom (`life.rs`): connect (link, hello) → prepare (setup, the recording's bytes) →
//! drop_privileges → lock_down (no path, no socket, no exec) → serve (parse and answer).

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::as_conversions,
        clippy::arithmetic_side_effects
    )
)]

mod life;
mod ops;
mod recording;

use std::process::ExitCode;

fn main() -> ExitCode {
    match life::live() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cap-llm: {error}");
            ExitCode::FAILURE
        }
    }
}
