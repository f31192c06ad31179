//! The guest's memory as preview 1 sees it: checked reads and writes at 32-bit addresses.

#![forbid(unsafe_code)]

use super::errno;
use crate::worker::guest::Guest;
use wasmtime::{Caller, Extern, Memory};

/// An error number for the guest.
pub type Errno = i32;

/// The module's exported memory.
pub struct View<'a, 'b> {
    caller: &'a mut Caller<'b, Guest>,
    memory: Memory,
}

impl<'a, 'b> View<'a, 'b> {
    /// Fails where the module exports no memory: it then has nothing an address could mean.
    pub fn new(caller: &'a mut Caller<'b, Guest>) -> wasmtime::Result<Self> {
        match caller.get_export("memory") {
            Some(Extern::Memory(memory)) => Ok(Self { caller, memory }),
            _ => Err(wasmtime::format_err!("the module calls WASI and exports no memory")),
        }
    }

    /// Memory and store at once.
    pub fn split(&mut self) -> (&mut [u8], &mut Guest) {
        self.memory.data_and_store_mut(&mut *self.caller)
    }

    /// `len` bytes from `at`.
    pub fn bytes(&self, at: i32, len: i32) -> Result<&[u8], Errno> {
        let range = range(at, len)?;
        self.memory.data(&*self.caller).get(range).ok_or(errno::FAULT)
    }

    /// A little-endian word.
    pub fn u32(&self, at: i32) -> Result<u32, Errno> {
        let bytes = self.bytes(at, 4)?;
        Ok(u32::from_le_bytes(bytes.try_into().map_err(|_| errno::FAULT)?))
    }

    /// Copies `bytes` to `at`.
    pub fn put(&mut self, at: i32, bytes: &[u8]) -> Result<(), Errno> {
        let len = i32::try_from(bytes.len()).map_err(|_| errno::FAULT)?;
        let range = range(at, len)?;
        self.memory.data_mut(&mut *self.caller).get_mut(range).ok_or(errno::FAULT)?.copy_from_slice(bytes);
        Ok(())
    }
}

/// Addresses and lengths are unsigned, whatever wasm calls them.
fn range(at: i32, len: i32) -> Result<std::ops::Range<usize>, Errno> {
    let start = usize::try_from(at.cast_unsigned()).map_err(|_| errno::FAULT)?;
    let len = usize::try_from(len.cast_unsigned()).map_err(|_| errno::FAULT)?;
    Ok(start..start.checked_add(len).ok_or(errno::FAULT)?)
}

/// The number a function returns.
pub fn number(result: Result<(), Errno>) -> i32 {
    match result {
        Ok(()) => errno::SUCCESS,
        Err(number) => number,
    }
}
