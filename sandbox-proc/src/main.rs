//! `warden-sandbox`: the one program that holds Wasmtime, in three roles.
//!
//! `--template` stays warm and forks workers; `--compiler` turns one module into machine code and ends. Both are
//! executed by the spawner with their socket as descriptor 3 and lock themselves into their jail before they read a
//! byte of anybody's. `--engine-id` prints what compiled code depends on.

#![deny(unsafe_code)]

mod compiler;
mod control;
mod engine;
mod planner;
mod preview1;
#[allow(unsafe_code)] // fork, signal handler, timer and executable mappings; each block says why it is sound
mod template;
mod wasi;
mod worker;

use std::process::ExitCode;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let role = std::env::args().nth(1);
    let result = match role.as_deref() {
        Some("--template") => template::life(),
        Some("--compiler") => compiler::life(),
        Some("--engine-id") => engine_id(),
        _ => Err("started by wasi-warden's spawner with --template or --compiler, never by hand".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("warden-sandbox: {error}");
            ExitCode::FAILURE
        }
    }
}

fn engine_id() -> Result<(), Failure> {
    println!("{}", engine::id()?);
    Ok(())
}
