//! WASI preview 1 for programs without files: standard output and errors, arguments, environment, clocks, random bytes.
//!
//! What is not here is not linked: a module that imports it is refused before it runs, by the name of the import.

#![forbid(unsafe_code)]

mod memory;
mod stdio;
mod system;

use crate::worker::guest::Guest;
use wasmtime::Linker;

/// The import module.
pub const MODULE: &str = "wasi_snapshot_preview1";

/// Error numbers of preview 1.
mod errno {
    pub const SUCCESS: i32 = 0;
    pub const BADF: i32 = 8;
    pub const FAULT: i32 = 21;
    pub const INVAL: i32 = 28;
    pub const IO: i32 = 29;
    pub const SPIPE: i32 = 70;
}

/// Defines every function once, in the template.
pub fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    stdio::add_to_linker(linker)?;
    system::add_to_linker(linker)
}
