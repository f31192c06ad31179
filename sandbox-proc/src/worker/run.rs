//! A guest's run: its store with every bound set, then its program or its planner, then its end.

#![forbid(unsafe_code)]

use super::call::Link;
use super::guest::Guest;
use super::{ending, program};
use crate::Failure;
use crate::planner;
use crate::template::Runtime;
use crate::template::code::Code;
use warden_proto::msg::proc::EnvVar;
use warden_proto::msg::worker::{End, Finish, GuestKind, WorkerSetup};
use wasmtime::Store;

/// Bytes that one call of a component may make the host copy (strings and lists; T-06).
const CALL_COPY_MAX_BYTES: usize = 64 << 20;

/// Runs the guest. The end is none when the broker is gone.
pub fn guest(
    runtime: &Runtime,
    link: Link,
    setup: WorkerSetup,
    code: &Code,
) -> Result<(Option<Finish>, Guest), Failure> {
    let (args, env) = match &setup.guest {
        GuestKind::Program { args, env } => (args.iter().map(|arg| arg.to_string()).collect(), environment(env)),
        GuestKind::Planner { .. } => (vec!["planner".to_owned()], Vec::new()),
    };
    let mut store = Store::new(&runtime.engine, Guest::new(link, setup.memory_bytes, args, env));
    store.limiter(|guest| &mut guest.bounds);
    store.set_hostcall_fuel(CALL_COPY_MAX_BYTES);
    // The alarm raises the epoch by one when the wall time is over; it may have rung already, hence the check below.
    store.set_epoch_deadline(1);
    if let Some(fuel) = setup.fuel {
        store.set_fuel(fuel)?;
    }
    let end = if store.data().link.is_over() { Some(End::OutOfTime) } else { start(runtime, &mut store, &setup, code) };
    let fuel = match setup.fuel {
        Some(fuel) => fuel.saturating_sub(store.get_fuel()?),
        None => 0,
    };
    let memory_peak_bytes = store.data().bounds.memory_peak_bytes();
    let finish = end.map(|end| Finish { end, fuel, memory_peak_bytes, output_len: 0 });
    Ok((finish, store.into_data()))
}

fn environment(env: &[EnvVar]) -> Vec<(String, String)> {
    env.iter().map(|variable| (variable.key.to_string(), variable.value.to_string())).collect()
}

fn start(runtime: &Runtime, store: &mut Store<Guest>, setup: &WorkerSetup, code: &Code) -> Option<End> {
    match (&setup.guest, code) {
        (GuestKind::Program { .. }, Code::Module(module)) => program::module(runtime, store, module),
        (GuestKind::Program { .. }, Code::Component(component)) => program::component(runtime, store, component),
        (GuestKind::Planner { task, observation, first_step }, Code::Component(component)) => {
            let task = planner::Task { task, observation, first_step: *first_step, home: &setup.home };
            planner::run(runtime, store, component, &task)
        }
        (GuestKind::Planner { .. }, Code::Module(_)) => Some(ending::invalid(
            "a core module cannot plan: a brain is a component of the world osagent:agent/control",
        )),
    }
}
