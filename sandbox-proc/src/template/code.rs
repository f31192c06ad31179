//! Mapping of compiled code from a sealed memfd, shared between all workers that run the same guest.
//!
//! The bytes are the compiler's and count as hostile (T-04): they are mapped inside the worker's jail, and whatever
//! they do there, the jail holds. Nobody can change them while they are mapped: the broker has sealed the memfd.

use nix::sys::mman::{MapFlags, ProtFlags, mmap, mprotect};
use nix::unistd::{Whence, lseek};
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use wasmtime::component::Component;
use wasmtime::{CustomCodeMemory, Engine, Module, Precompiled};

const PAGE_BYTES: usize = 4096;

/// What a worker runs.
pub enum Code {
    /// A core module.
    Module(Module),
    /// A component.
    Component(Component),
}

/// Why code could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum CodeError {
    /// The memfd could not be looked at or mapped.
    #[error("the compiled code could not be mapped: {0}")]
    Map(#[from] nix::errno::Errno),
    /// It is empty.
    #[error("the compiled code is empty")]
    Empty,
    /// It is no artifact of this engine, or one of another version, setting or CPU.
    #[error("the compiled code is none of this engine's: {0}")]
    Foreign(String),
}

/// Makes mapped code executable: readable and executable, never writable.
#[derive(Debug)]
pub struct MappedCode;

impl CustomCodeMemory for MappedCode {
    fn required_alignment(&self) -> usize {
        PAGE_BYTES
    }

    fn publish_executable(&self, ptr: *const u8, len: usize) -> wasmtime::Result<()> {
        protect(ptr, len, ProtFlags::PROT_READ | ProtFlags::PROT_EXEC)
    }

    fn unpublish_executable(&self, ptr: *const u8, len: usize) -> wasmtime::Result<()> {
        protect(ptr, len, ProtFlags::PROT_READ)
    }
}

fn protect(ptr: *const u8, len: usize, protection: ProtFlags) -> wasmtime::Result<()> {
    let start = NonNull::new(ptr.cast_mut().cast()).ok_or_else(|| wasmtime::format_err!("code at address 0"))?;
    // SAFETY: Wasmtime passes a range inside an artifact that it holds; the range is only ever read or executed.
    unsafe { mprotect(start, len, protection) }.map_err(|e| wasmtime::format_err!("code could not be published: {e}"))
}

/// Maps and loads the artifact behind `fd`. The descriptor may be closed afterwards; the mapping stays for the life of
/// the process.
pub fn load(engine: &Engine, fd: BorrowedFd<'_>) -> Result<Code, CodeError> {
    // By seeking: the C library's fstat is a path call here (newfstatat), which the jail does not know.
    let len = lseek(fd, 0, Whence::SeekEnd)?;
    let len = usize::try_from(len).ok().and_then(NonZeroUsize::new).ok_or(CodeError::Empty)?;
    // SAFETY: a fresh private mapping at an address of the kernel's choice touches no memory of ours.
    let start = unsafe { mmap(None, len, ProtFlags::PROT_READ, MapFlags::MAP_PRIVATE, fd, 0) }?;
    let memory = NonNull::slice_from_raw_parts(start.cast::<u8>(), len.get());
    // SAFETY: the mapping is readable, `len` bytes long, never unmapped, and its file is sealed against change.
    let bytes = unsafe { memory.as_ref() };
    let foreign = |error: wasmtime::Error| CodeError::Foreign(error.to_string());
    match Engine::detect_precompiled(bytes) {
        Some(Precompiled::Module) => {
            // SAFETY: the memory lives as long as the process and does not change. That the bytes are what Cranelift
            // wrote nobody can prove (T-04): this is why they are loaded only inside the worker's jail.
            unsafe { Module::deserialize_raw(engine, memory) }.map(Code::Module).map_err(foreign)
        }
        Some(Precompiled::Component) => {
            // SAFETY: as above.
            unsafe { Component::deserialize_raw(engine, memory) }.map(Code::Component).map_err(foreign)
        }
        None => Err(CodeError::Foreign("its header says neither module nor component".to_owned())),
    }
}
