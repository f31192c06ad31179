//! `wasi:random`: the kernel's generator for all three, the insecure ones too.

#![forbid(unsafe_code)]

use super::bindings::wasi::random::{insecure, insecure_seed, random};
use crate::worker::guest::Guest;

/// Bytes of one call; more is the guest's mistake (T-06).
const RANDOM_MAX_BYTES: u64 = 1 << 20;

fn bytes(len: u64) -> wasmtime::Result<Vec<u8>> {
    if len > RANDOM_MAX_BYTES {
        return Err(wasmtime::format_err!("{len} random bytes at once are more than {RANDOM_MAX_BYTES}"));
    }
    let mut bytes = vec![0; usize::try_from(len)?];
    getrandom::fill(&mut bytes).map_err(|e| wasmtime::format_err!("no random bytes: {e}"))?;
    Ok(bytes)
}

fn number() -> wasmtime::Result<u64> {
    getrandom::u64().map_err(|e| wasmtime::format_err!("no random bytes: {e}"))
}

impl random::Host for Guest {
    fn get_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        bytes(len)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        number()
    }
}

impl insecure::Host for Guest {
    fn get_insecure_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        bytes(len)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        number()
    }
}

impl insecure_seed::Host for Guest {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        Ok((number()?, number()?))
    }
}
