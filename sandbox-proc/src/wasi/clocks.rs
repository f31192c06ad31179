//! `wasi:clocks`. The monotonic clock begins with the guest: how long the host has been up is not told.

#![forbid(unsafe_code)]

use super::bindings::wasi::clocks::monotonic_clock;
use super::bindings::wasi::clocks::wall_clock::{self, Datetime};
use super::io::Pollable;
use crate::worker::guest::Guest;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use wasmtime::component::Resource;

impl Guest {
    fn pollable_at(&mut self, base: Instant, nanoseconds: u64) -> wasmtime::Result<Resource<Pollable>> {
        // A time beyond what an instant can hold lies beyond every deadline as well.
        let at = base
            .checked_add(Duration::from_nanos(nanoseconds))
            .or_else(|| base.checked_add(Duration::from_secs(1 << 32)));
        Ok(self.table.push(Pollable { at })?)
    }
}

impl monotonic_clock::Host for Guest {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(1)
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<Pollable>> {
        self.pollable_at(self.started, when)
    }

    fn subscribe_duration(&mut self, when: u64) -> wasmtime::Result<Resource<Pollable>> {
        self.pollable_at(Instant::now(), when)
    }
}

impl wall_clock::Host for Guest {
    fn now(&mut self) -> wasmtime::Result<Datetime> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Datetime { seconds: now.as_secs(), nanoseconds: now.subsec_nanos() })
    }

    fn resolution(&mut self) -> wasmtime::Result<Datetime> {
        Ok(Datetime { seconds: 0, nanoseconds: 1 })
    }
}
