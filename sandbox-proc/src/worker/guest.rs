//! What belongs to the one guest of a worker: the data of its Wasmtime store.

#![forbid(unsafe_code)]

use super::bounds::Bounds;
use super::call::Link;
use std::time::Instant;
use wasmtime::component::ResourceTable;

/// Resources (handles, streams, pollables) that a guest may hold at once (T-06).
const RESOURCES_MAX: usize = 2048;

/// One guest.
pub struct Guest {
    /// To the broker.
    pub link: Link,
    /// Memory and tables.
    pub bounds: Bounds,
    /// Resources of components.
    pub table: ResourceTable,
    /// Arguments, the program's name first.
    pub args: Vec<String>,
    /// The environment, all of it.
    pub env: Vec<(String, String)>,
    /// Preview-1 descriptors 0–2 that the guest has closed.
    pub closed: [bool; 3],
    /// Zero of the guest's monotonic clock: it does not learn how long the host has been up.
    pub started: Instant,
}

impl Guest {
    /// A guest with nothing of its own yet.
    pub fn new(link: Link, memory_bytes: u64, args: Vec<String>, env: Vec<(String, String)>) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        Self { link, bounds: Bounds::new(memory_bytes), table, args, env, closed: [false; 3], started: Instant::now() }
    }
}
