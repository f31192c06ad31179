//! Arguments, environment, clocks, random bytes, and the program's end.

#![forbid(unsafe_code)]

use super::memory::{Errno, View, number};
use super::{MODULE, errno};
use crate::worker::call::Halt;
use crate::worker::guest::Guest;
use std::time::{SystemTime, UNIX_EPOCH};
use wasmtime::{Caller, Linker};

/// Bytes filled between two looks at the clock: a guest cannot hold the host in one long call (T-06).
const RANDOM_MAX_BYTES: i32 = 1 << 20;
const CLOCK_REALTIME: i32 = 0;
const CLOCK_MONOTONIC: i32 = 1;

pub fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.func_wrap(MODULE, "proc_exit", |code: i32| -> wasmtime::Result<()> { Err(Halt::Exit(code).into()) })?;
    linker.func_wrap(MODULE, "sched_yield", || errno::SUCCESS)?;
    linker.func_wrap(MODULE, "args_sizes_get", |mut caller: Caller<'_, Guest>, count: i32, bytes: i32| {
        let strings = arguments(caller.data());
        sizes(&mut caller, &strings, count, bytes)
    })?;
    linker.func_wrap(MODULE, "args_get", |mut caller: Caller<'_, Guest>, pointers: i32, buffer: i32| {
        let strings = arguments(caller.data());
        strings_at(&mut caller, &strings, pointers, buffer)
    })?;
    linker.func_wrap(MODULE, "environ_sizes_get", |mut caller: Caller<'_, Guest>, count: i32, bytes: i32| {
        let strings = environment(caller.data());
        sizes(&mut caller, &strings, count, bytes)
    })?;
    linker.func_wrap(MODULE, "environ_get", |mut caller: Caller<'_, Guest>, pointers: i32, buffer: i32| {
        let strings = environment(caller.data());
        strings_at(&mut caller, &strings, pointers, buffer)
    })?;
    linker.func_wrap(
        MODULE,
        "clock_time_get",
        |mut caller: Caller<'_, Guest>, clock: i32, _precision: i64, out: i32| {
            let time = clock_time(caller.data(), clock);
            let mut view = View::new(&mut caller)?;
            Ok::<_, wasmtime::Error>(number(time.and_then(|time| view.put(out, &time.to_le_bytes()))))
        },
    )?;
    linker.func_wrap(MODULE, "clock_res_get", |mut caller: Caller<'_, Guest>, clock: i32, out: i32| {
        let known = clock_time(caller.data(), clock);
        let mut view = View::new(&mut caller)?;
        Ok::<_, wasmtime::Error>(number(known.and_then(|_| view.put(out, &1_u64.to_le_bytes()))))
    })?;
    linker.func_wrap(MODULE, "random_get", random_get)?;
    Ok(())
}

fn arguments(guest: &Guest) -> Vec<Vec<u8>> {
    guest.args.iter().map(|arg| terminated(arg)).collect()
}

fn environment(guest: &Guest) -> Vec<Vec<u8>> {
    guest.env.iter().map(|(key, value)| terminated(&format!("{key}={value}"))).collect()
}

fn terminated(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

fn sizes(caller: &mut Caller<'_, Guest>, strings: &[Vec<u8>], count: i32, bytes: i32) -> wasmtime::Result<i32> {
    let mut view = View::new(caller)?;
    let total: usize = strings.iter().map(Vec::len).sum();
    let put = |view: &mut View<'_, '_>, at: i32, value: usize| -> Result<(), Errno> {
        view.put(at, &u32::try_from(value).map_err(|_| errno::INVAL)?.to_le_bytes())
    };
    Ok(number(put(&mut view, count, strings.len()).and_then(|()| put(&mut view, bytes, total))))
}

fn strings_at(
    caller: &mut Caller<'_, Guest>,
    strings: &[Vec<u8>],
    pointers: i32,
    buffer: i32,
) -> wasmtime::Result<i32> {
    let mut view = View::new(caller)?;
    Ok(number(lay_out(&mut view, strings, pointers.cast_unsigned(), buffer.cast_unsigned())))
}

fn lay_out(view: &mut View<'_, '_>, strings: &[Vec<u8>], mut pointer: u32, mut at: u32) -> Result<(), Errno> {
    for text in strings {
        view.put(pointer.cast_signed(), &at.to_le_bytes())?;
        view.put(at.cast_signed(), text)?;
        pointer = pointer.checked_add(4).ok_or(errno::FAULT)?;
        at = u32::try_from(text.len()).ok().and_then(|len| at.checked_add(len)).ok_or(errno::FAULT)?;
    }
    Ok(())
}

fn clock_time(guest: &Guest, clock: i32) -> Result<u64, Errno> {
    let time = match clock {
        CLOCK_REALTIME => SystemTime::now().duration_since(UNIX_EPOCH).map_err(|_| errno::IO)?,
        CLOCK_MONOTONIC => guest.started.elapsed(),
        _ => return Err(errno::INVAL),
    };
    u64::try_from(time.as_nanos()).map_err(|_| errno::IO)
}

fn random_get(mut caller: Caller<'_, Guest>, at: i32, len: i32) -> wasmtime::Result<i32> {
    if !(0..=RANDOM_MAX_BYTES).contains(&len) {
        return Ok(errno::INVAL);
    }
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    if getrandom::fill(&mut bytes).is_err() {
        return Ok(errno::IO);
    }
    let mut view = View::new(&mut caller)?;
    Ok(number(view.put(at, &bytes)))
}
