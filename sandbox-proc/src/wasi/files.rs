//! `wasi:filesystem` of a program without files: no preopened directory, hence no descriptor, ever (T-01).
//!
//! Standard libraries import the interface whether they use it or not, so it must be linkable; its methods cannot be
//! called, because each needs a descriptor that nobody has.

#![forbid(unsafe_code)]

use super::io::Nothing;
use crate::worker::guest::Guest;
use wasmtime::component::{Linker, Resource, ResourceType, Val};

const TYPES: &str = "wasi:filesystem/types@0.2.12";
const PREOPENS: &str = "wasi:filesystem/preopens@0.2.12";

/// Every method of the two resources.
const METHODS: [&str; 27] = [
    "[method]descriptor.read-via-stream",
    "[method]descriptor.write-via-stream",
    "[method]descriptor.append-via-stream",
    "[method]descriptor.advise",
    "[method]descriptor.sync-data",
    "[method]descriptor.get-flags",
    "[method]descriptor.get-type",
    "[method]descriptor.set-size",
    "[method]descriptor.set-times",
    "[method]descriptor.read",
    "[method]descriptor.write",
    "[method]descriptor.read-directory",
    "[method]descriptor.sync",
    "[method]descriptor.create-directory-at",
    "[method]descriptor.stat",
    "[method]descriptor.stat-at",
    "[method]descriptor.set-times-at",
    "[method]descriptor.link-at",
    "[method]descriptor.open-at",
    "[method]descriptor.readlink-at",
    "[method]descriptor.remove-directory-at",
    "[method]descriptor.rename-at",
    "[method]descriptor.symlink-at",
    "[method]descriptor.unlink-file-at",
    "[method]descriptor.is-same-object",
    "[method]descriptor.metadata-hash",
    "[method]descriptor.metadata-hash-at",
];

pub fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let mut types = linker.instance(TYPES)?;
    for resource in ["descriptor", "directory-entry-stream"] {
        types.resource(resource, ResourceType::host::<Nothing>(), |_, _| Ok(()))?;
    }
    for method in METHODS.into_iter().chain(["[method]directory-entry-stream.read-directory-entry"]) {
        types.func_new(method, |_, _, _, _| Err(wasmtime::format_err!("this program has no files")))?;
    }
    // No stream error of ours comes from a file.
    types.func_new("filesystem-error-code", |_, _, _, results| {
        if let Some(result) = results.first_mut() {
            *result = Val::Option(None);
        }
        Ok(())
    })?;
    let mut preopens = linker.instance(PREOPENS)?;
    preopens.func_wrap("get-directories", |_, (): ()| Ok((Vec::<(Resource<Nothing>, String)>::new(),)))
}
