//! WASI 0.2 for programs without files, over our own link: no runtime, no thread, no descriptor.
//!
//! Standard input is empty, the two outputs go to the broker, clocks and random bytes are the host's, no directory is
//! preopened and no socket exists. An interface that is not here is not linked: a component that imports it is refused by
//! name before it runs.

#[allow(unsafe_code)] // `bindgen!` derives lifting and lowering, which are unsafe traits; nothing else is in there
mod bindings;
mod cli;
mod clocks;
mod files;
mod io;
mod random;

use crate::worker::ending;
use crate::worker::guest::Guest;
use bindings::{Program, ProgramPre};
use warden_proto::msg::worker::End;
use wasmtime::Store;
use wasmtime::component::{HasSelf, InstancePre, Linker};

/// Defines everything once, in the template.
pub fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    Program::add_to_linker::<_, HasSelf<_>>(linker, |guest| guest)?;
    files::add_to_linker(linker)
}

/// Runs a component that exports `wasi:cli/run`.
pub fn command(store: &mut Store<Guest>, ready: InstancePre<Guest>) -> Option<End> {
    let ready = match ProgramPre::new(ready) {
        Ok(ready) => ready,
        Err(error) => {
            return Some(ending::invalid(&format!("the component's wasi:cli/run is not the standard's: {error:#}")));
        }
    };
    let program = match ready.instantiate(&mut *store) {
        Ok(program) => program,
        Err(error) => return ending::of_instantiation(&error, &store.data().bounds),
    };
    match program.wasi_cli_run().call_run(&mut *store) {
        Ok(Ok(())) => Some(End::Returned),
        Ok(Err(())) => Some(End::Exited { code: 1 }),
        Err(error) => ending::of_run(&error, &store.data().bounds),
    }
}
