//! The compiler: one module in, its machine code out, and the end.
//!
//! Executed by the spawner for each compilation. The module is a stranger's, so whatever it does to the parser or the
//! code generator stays in this jail, and what comes out is stored under the hash of what went in: a hostile module can
//! poison no other's code (T-04). It trusts the broker alone, and never runs what it makes.

#![forbid(unsafe_code)]

use crate::Failure;
use crate::engine::{self, Metering};
use crate::worker::ending;
use nix::sys::uio::pwrite;
use std::os::fd::{OwnedFd, RawFd};
use warden_jail::{Grants, Isolation, Life, Limits, Privileges, Role, descriptors};
use warden_proto::msg::life::{LINK_FD, Locked, Role as ProtoRole};
use warden_proto::msg::worker::{CompilerSetup, End, Finish};
use warden_proto::{FrameSocket, Kind, document, greeting};
use wasmtime::Engine;

/// `RLIMIT_AS`: the largest modules seen need a fifth of it, bytes (T-06).
const ADDRESS_SPACE_BYTES: u64 = 4 << 30;
/// `RLIMIT_CPU`, seconds (T-06).
const CPU_SECONDS: u64 = 300;
/// `RLIMIT_FSIZE`: the longest code that the broker keeps, so that the output cannot fill the host's memory (T-06).
const OUTPUT_MAX_BYTES: u64 = 512 << 20;
/// Link, document, module, output and the standard three.
const OPEN_FILES: u64 = 16;
/// Every binary module and component begins with this.
const WASM_MAGIC: &[u8] = b"\0asm";

/// What the compiler prepares while it may still do anything.
struct Bench {
    metered: Engine,
    unmetered: Engine,
}

/// Why nothing was compiled.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("the module has another length than stated")]
    Module,
}

/// The compiler's whole life.
pub fn life() -> Result<(), Failure> {
    let limits = Limits {
        address_space_bytes: Some(ADDRESS_SPACE_BYTES),
        cpu_seconds: Some(CPU_SECONDS),
        open_files: Some(OPEN_FILES),
        file_size_bytes: Some(OUTPUT_MAX_BYTES),
        ..Limits::default()
    };
    let parent = Some(nix::unistd::getppid().as_raw());
    let privileges = Privileges { limits, parent, keep: Some(vec![0, 1, 2, LINK_FD]), ..Privileges::default() };
    let life = Life::connect(Role::Compiler, || greeting::connect(ProtoRole::Compiler))?
        .prepare(|_| bench())?
        .drop_privileges(&privileges)?;
    let open = descriptors::list_descriptors();
    let life = life.lock_down(|_, _| Grants::none())?;
    let isolation = life.isolation().clone();
    life.serve(|mut link, bench| serve(&mut link, &bench, &isolation, &open))
}

fn bench() -> Result<Bench, Failure> {
    Ok(Bench { metered: engine::compiling(Metering::Metered)?, unmetered: engine::compiling(Metering::Unmetered)? })
}

fn serve(link: &mut FrameSocket, bench: &Bench, isolation: &Isolation, open: &[RawFd]) -> Result<(), Failure> {
    let degraded = isolation.degraded.iter().map(String::as_str);
    let locked = Locked::new(isolation.landlock_abi, isolation.seccomp_filters, degraded, open);
    greeting::say_locked(link, &locked)?;
    let (setup, module, output) = receive_setup(link)?;
    let engine = if setup.metered { &bench.metered } else { &bench.unmetered };
    let (end, output_len) = match compile(engine, &module, setup.output_max_bytes) {
        Ok(code) => {
            write_all(&output, &code)?;
            (End::Returned, u64::try_from(code.len())?)
        }
        Err(message) => (ending::invalid(&message), 0),
    };
    link.send(Kind::Finish, 0, &Finish { end, fuel: 0, memory_peak_bytes: 0, output_len }, &[], true)?;
    Ok(())
}

fn receive_setup(link: &mut FrameSocket) -> Result<(CompilerSetup, Vec<u8>, OwnedFd), Failure> {
    let (setup, [module, output]): (CompilerSetup, _) = greeting::receive_setup(link)?;
    let stated = usize::try_from(setup.module_len)?;
    let module = document::read(&module, stated)?;
    if module.len() != stated {
        return Err(StartError::Module.into());
    }
    Ok((setup, module, output))
}

/// The machine code, or what is wrong with the module.
fn compile(engine: &Engine, module: &[u8], output_max_bytes: u64) -> Result<Vec<u8>, String> {
    let text;
    let binary = if module.starts_with(WASM_MAGIC) {
        module
    } else {
        let source = std::str::from_utf8(module)
            .map_err(|_| "the file is neither wasm (it does not begin with \\0asm) nor text".to_owned())?;
        text = wat::parse_str(source).map_err(|error| format!("the file is no wasm, and as WAT: {error}"))?;
        &text
    };
    let made =
        if is_component(binary) { engine.precompile_component(binary) } else { engine.precompile_module(binary) };
    let code = made.map_err(|error| format!("{error:#}"))?;
    if u64::try_from(code.len()).unwrap_or(u64::MAX) > output_max_bytes {
        return Err(format!("the compiled code of {} bytes is over the limit of {output_max_bytes} bytes", code.len()));
    }
    Ok(code)
}

/// By the layer field of the header: 0 for a core module, 1 for a component.
fn is_component(binary: &[u8]) -> bool {
    matches!(binary.get(4..8), Some([_, _, 1, 0]))
}

fn write_all(output: &OwnedFd, bytes: &[u8]) -> Result<(), Failure> {
    let mut done = 0;
    while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
        done += pwrite(output, rest, i64::try_from(done)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine() -> Engine {
        engine::compiling(Metering::Unmetered).unwrap()
    }

    #[test]
    fn text_and_binary_compile() {
        assert!(compile(&engine(), b"(module (func (export \"_start\")))", 1 << 20).is_ok());
        assert!(compile(&engine(), &wat::parse_str("(component)").unwrap(), 1 << 20).is_ok());
    }

    #[test]
    fn garbage_is_named() {
        assert!(compile(&engine(), b"\xff\xfe", 1 << 20).unwrap_err().contains("neither wasm"));
        assert!(compile(&engine(), b"(module", 1 << 20).unwrap_err().contains("WAT"));
        assert!(compile(&engine(), b"\0asm\x01\0\0\0\xff", 1 << 20).is_err());
        assert!(compile(&engine(), b"\0asm", 1 << 20).is_err());
    }

    #[test]
    fn long_output_is_refused() {
        assert!(compile(&engine(), b"(module)", 100).unwrap_err().contains("over the limit"));
    }
}
