//! `cap-proc`: the helper that runs the allowlisted commands of one task, as two processes of this one program.
//!
//! `--front` reads the broker's frames, decides argument shapes and pumps output; it can open no path and execute
//! nothing. `--runner` holds no frame parser and starts what the front names by index; it forks a keeper per command.
//! Both are executed by the spawner. Front and runner trust the broker; nobody trusts a command (T-07).
//!
//! Their lives, top to bottom: connect → prepare → drop_privileges → lock_down → serve (`front/life.rs`,
//! `runner/life.rs`); a keeper's is `keeper/mod.rs`.

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

mod front;
mod keeper;
mod lane;
mod orders;
mod runner;

use std::process::ExitCode;

fn main() -> ExitCode {
    let role = std::env::args().nth(1);
    let result: Result<(), Box<dyn std::error::Error>> = match role.as_deref() {
        Some("--front") => front::live().map_err(Into::into),
        Some("--runner") => runner::live().map_err(Into::into),
        _ => Err("started by wasi-warden's spawner with --front or --runner, never by hand".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cap-proc: {error}");
            ExitCode::FAILURE
        }
    }
}
