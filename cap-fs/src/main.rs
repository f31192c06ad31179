//! `cap-fs`: the helper that opens what lies beneath a task's workspaces, and nothing else.
//!
//! Executed by the spawner with its link as descriptor 3 and the workspaces, opened O_PATH, from 4 on; a process of its own
//! per task. It trusts the broker and the spawner; not the names, links and files it finds, nor what a call asks for.
//!
//! Its life, top to bottom (`life.rs`): connect (link, hello) → prepare (setup, workspaces, the table of descriptors) →
//! drop_privileges → lock_down (the workspaces, no other path, no socket, no exec) → serve (open, judge, act).

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

mod check;
mod content;
mod files;
#[cfg(test)]
mod fixture;
mod handles;
#[cfg(test)]
mod judgement;
mod life;
mod ops_dir;
mod ops_file;
mod ops_handle;
mod ops_list;
mod ops_remove;
mod ops_rename;
mod serve;
mod spot;
mod wire;

use std::process::ExitCode;

fn main() -> ExitCode {
    match life::live() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cap-fs: {error}");
            ExitCode::from(error.status())
        }
    }
}
