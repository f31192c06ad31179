//! Programs: core modules that export `_start` or `run() -> i32`, and components that export `wasi:cli/run`.

#![forbid(unsafe_code)]

use super::ending;
use super::guest::Guest;
use crate::template::Runtime;
use crate::{preview1, wasi};
use warden_proto::msg::worker::End;
use wasmtime::component::Component;
use wasmtime::{ExternType, Module, Store, ValType};

/// How a core module is entered.
enum Entry {
    /// `_start: () -> ()`.
    Start,
    /// `run: () -> i32`; the value is the status.
    Run,
}

/// Runs a core module.
pub fn module(runtime: &Runtime, store: &mut Store<Guest>, module: &Module) -> Option<End> {
    let entry = match entry(module) {
        Ok(entry) => entry,
        Err(message) => return Some(ending::invalid(&message)),
    };
    if let Some(missing) = missing_import(runtime, store, module) {
        return Some(ending::invalid(&missing));
    }
    let ready = match runtime.core.instantiate_pre(module) {
        Ok(ready) => ready,
        Err(error) => {
            return Some(ending::invalid(&format!("an import has another type than what is there: {error:#}")));
        }
    };
    let instance = match ready.instantiate(&mut *store) {
        Ok(instance) => instance,
        Err(error) => return ending::of_instantiation(&error, &store.data().bounds),
    };
    let result = match entry {
        Entry::Start => instance
            .get_typed_func::<(), ()>(&mut *store, "_start")
            .and_then(|start| start.call(&mut *store, ()))
            .map(|()| End::Returned),
        Entry::Run => instance
            .get_typed_func::<(), i32>(&mut *store, "run")
            .and_then(|run| run.call(&mut *store, ()))
            .map(|code| End::Exited { code }),
    };
    result.map_or_else(|error| ending::of_run(&error, &store.data().bounds), Some)
}

fn entry(module: &Module) -> Result<Entry, String> {
    let takes_nothing_gives = |name: &str, results: &[ValType]| match module.get_export(name) {
        Some(ExternType::Func(ty)) => {
            let same = ty.results().zip(results).all(|(found, due)| found.matches(due));
            Some(ty.params().len() == 0 && ty.results().len() == results.len() && same)
        }
        _ => None,
    };
    match (takes_nothing_gives("_start", &[]), takes_nothing_gives("run", &[ValType::I32])) {
        (Some(true), _) => Ok(Entry::Start),
        (None, Some(true)) => Ok(Entry::Run),
        (Some(false), _) => Err("the module's `_start` takes or returns values; it must do neither".to_owned()),
        (None, Some(false)) => Err("the module's `run` must take nothing and return an i32".to_owned()),
        (None, None) if module.get_export("_initialize").is_some() => {
            Err("the module is a library (it exports `_initialize`); a program exports `_start` or `run() -> i32`"
                .to_owned())
        }
        (None, None) => Err("the module exports neither `_start` nor `run() -> i32`".to_owned()),
    }
}

fn missing_import(runtime: &Runtime, store: &mut Store<Guest>, module: &Module) -> Option<String> {
    let missing = module.imports().find(|import| runtime.core.get_by_import(&mut *store, import).is_none())?;
    let why = not_there(missing.module(), missing.name());
    Some(format!("the module imports `{}` from `{}`, which is not there{why}", missing.name(), missing.module()))
}

/// What a person wants to know of an import that other runtimes have.
fn not_there(module: &str, name: &str) -> &'static str {
    match name.split_once('_') {
        Some(("path" | "fd", _)) if module == preview1::MODULE => {
            ": files of WASI programs are not there yet in this version of warden"
        }
        Some(("sock", _)) if module == preview1::MODULE => ": a WASI program gets no sockets",
        _ => "",
    }
}

/// Runs a command component.
pub fn component(runtime: &Runtime, store: &mut Store<Guest>, component: &Component) -> Option<End> {
    let ready = match runtime.component.instantiate_pre(component) {
        Ok(ready) => ready,
        Err(error) => return Some(ending::invalid(&error.to_string())),
    };
    if ready.component().get_export_index(None, "wasi:cli/run@0.2.0").is_none() {
        return Some(unknown_world(runtime, component));
    }
    wasi::command(store, ready)
}

/// Names what the component exports instead of `wasi:cli/run`.
fn unknown_world(runtime: &Runtime, component: &Component) -> End {
    let exports = exports(runtime, component);
    if exports.contains("osagent:agent/planner") {
        return ending::invalid(
            "the component is a brain (world osagent:agent/control): run it with `warden step` or a goal task",
        );
    }
    ending::invalid(&format!("the component is of an unknown world: it exports {exports}, not wasi:cli/run"))
}

/// Names what the component exports instead of a planner.
pub fn no_brain(runtime: &Runtime, component: &Component) -> End {
    let exports = exports(runtime, component);
    ending::invalid(&format!("the component is not of the world osagent:agent/control: it exports {exports}"))
}

fn exports(runtime: &Runtime, component: &Component) -> String {
    let ty = component.component_type();
    let names: Vec<&str> = ty.exports(&runtime.engine).map(|(name, _)| name).collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}
