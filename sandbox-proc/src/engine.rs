//! The settings of Wasmtime, in one place: what the compiler produces is what the workers load.
//!
//! Linked into template, worker and compiler. Two engines exist, because metering is compiled into the code: *metered*
//! counts fuel, *unmetered* does not. Every setting that the artifact depends on is stated here and none is left to a
//! default of the crate, so that an upgrade changes them only where somebody looks.

#![forbid(unsafe_code)]

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use wasmtime::{Config, CustomCodeMemory, Engine, OptLevel, Strategy, WasmFeatures};

/// Native stack that a guest may use, bytes; deeper recursion traps (T-06).
const GUEST_STACK_BYTES: usize = 1024 * 1024;
/// Address space reserved for one linear memory, bytes: with the guard behind it no 32-bit access needs a bound check.
const MEMORY_RESERVATION_BYTES: u64 = 4 << 30;
/// Unmapped address space behind (and before) each memory, bytes.
const MEMORY_GUARD_BYTES: u64 = 32 << 20;

/// Which of the two engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metering {
    /// Counts fuel.
    Metered,
    /// Does not.
    Unmetered,
}

impl Metering {
    /// By whether there is a fuel limit.
    pub fn from_flag(metered: bool) -> Self {
        if metered { Self::Metered } else { Self::Unmetered }
    }
}

/// An engine that can compile; only the compiler process (and `--engine-id`) makes one.
pub fn compiling(metering: Metering) -> wasmtime::Result<Engine> {
    let mut config = settings(metering);
    config.strategy(Strategy::Cranelift);
    config.cranelift_opt_level(OptLevel::Speed);
    config.cranelift_debug_verifier(false);
    config.cranelift_nan_canonicalization(false);
    Engine::new(&config)
}

/// An engine that only loads and runs; `code_memory` makes mapped code executable.
pub fn running(metering: Metering, code_memory: Arc<dyn CustomCodeMemory>) -> wasmtime::Result<Engine> {
    let mut config = settings(metering);
    // A worker must not be able to compile: what it runs has been made in the compiler's jail (T-04).
    config.enable_compiler(false);
    config.with_custom_code_memory(Some(code_memory));
    Engine::new(&config)
}

fn settings(metering: Metering) -> Config {
    let mut config = Config::new();
    config.consume_fuel(metering == Metering::Metered);
    // The alarm's handler increments the epoch: the wall clock's interrupt needs no thread (T-06).
    config.epoch_interruption(true);
    config.max_wasm_stack(GUEST_STACK_BYTES);
    config.signals_based_traps(true);
    config.memory_reservation(MEMORY_RESERVATION_BYTES);
    config.memory_guard_size(MEMORY_GUARD_BYTES);
    config.guard_before_linear_memory(true);
    config.memory_may_move(true);
    // A copy-on-write image would be made by memfd_create, which no jail allows.
    config.memory_init_cow(false);
    config.table_lazy_init(true);
    // No thread may exist in a process that forks (template) or is confined per thread (worker, compiler).
    config.concurrency_support(false);
    // A trap is reported by its name: without backtraces nothing of the host's addresses can leak (T-08), and less
    // is registered at load.
    config.wasm_backtrace_max_frames(None);
    config.native_unwind_info(false);
    config.generate_address_map(false);
    config.wasm_features(WasmFeatures::all().difference(features()), false);
    config.wasm_features(features(), true);
    config
}

/// The proposals that a guest may use: what wasm 3.0 has, without garbage collection, exceptions and threads.
fn features() -> WasmFeatures {
    WasmFeatures::MUTABLE_GLOBAL
        | WasmFeatures::SATURATING_FLOAT_TO_INT
        | WasmFeatures::SIGN_EXTENSION
        | WasmFeatures::FLOATS
        | WasmFeatures::MULTI_VALUE
        | WasmFeatures::BULK_MEMORY
        | WasmFeatures::BULK_MEMORY_OPT
        | WasmFeatures::CALL_INDIRECT_OVERLONG
        | WasmFeatures::REFERENCE_TYPES
        | WasmFeatures::SIMD
        | WasmFeatures::TAIL_CALL
        | WasmFeatures::EXTENDED_CONST
        | WasmFeatures::MULTI_MEMORY
        | WasmFeatures::MEMORY64
        | WasmFeatures::COMPONENT_MODEL
}

/// A name for everything that an artifact depends on: engine version, settings, and what of the CPU the code uses.
pub fn id() -> wasmtime::Result<String> {
    let mut bytes = Collected(Vec::new());
    for metering in [Metering::Metered, Metering::Unmetered] {
        compiling(metering)?.precompile_compatibility_hash().hash(&mut bytes);
    }
    let digest = warden_proto::codec::digest(&[&bytes.0]);
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Collects what a `Hash` writes, so that the digest does not depend on the standard library's hasher.
struct Collected(Vec<u8>);

impl Hasher for Collected {
    fn finish(&self) -> u64 {
        0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_stable_and_metering_changes_the_artifact() {
        assert_eq!(id().unwrap(), id().unwrap());
        let module = wat::parse_str("(module (func (export \"_start\") (loop br 0)))").unwrap();
        let metered = compiling(Metering::Metered).unwrap().precompile_module(&module).unwrap();
        let unmetered = compiling(Metering::Unmetered).unwrap().precompile_module(&module).unwrap();
        assert_ne!(metered, unmetered);
    }

    #[test]
    fn threads_are_off_and_simd_is_on() {
        let engine = compiling(Metering::Unmetered).unwrap();
        let threads = wat::parse_str("(module (memory 1 1 shared))").unwrap();
        assert!(engine.precompile_module(&threads).is_err());
        let simd = wat::parse_str("(module (func (result v128) (v128.const i32x4 0 0 0 0)))").unwrap();
        assert!(engine.precompile_module(&simd).is_ok());
    }
}
