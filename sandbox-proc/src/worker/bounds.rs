//! What a guest may take of memory, all its instances together (T-06).
//!
//! The kernel's `RLIMIT_DATA` lies above these bounds, so that a guest meets a refused growth and not a dead host.

#![forbid(unsafe_code)]

use warden_proto::msg::worker::MEMORY_LIMIT;
use wasmtime::ResourceLimiter;

/// Elements of all tables together.
const TABLE_ELEMENTS_MAX: usize = 100_000;
/// Core instances, adapters of components included.
const INSTANCES_MAX: usize = 64;
/// Linear memories.
const MEMORIES_MAX: usize = 16;
/// Tables.
const TABLES_MAX: usize = 64;

/// Counts what is taken, and remembers whether anything was refused.
#[derive(Debug, Default)]
pub struct Bounds {
    memory_max: usize,
    memory: usize,
    memory_peak: usize,
    memory_pending: usize,
    elements: usize,
    elements_pending: usize,
    refused: Option<String>,
}

impl Bounds {
    /// `memory_bytes` for all linear memories together.
    pub fn new(memory_bytes: u64) -> Self {
        Self { memory_max: usize::try_from(memory_bytes).unwrap_or(usize::MAX), ..Self::default() }
    }

    /// Highest size of the memories together, bytes.
    pub fn memory_peak_bytes(&self) -> u64 {
        u64::try_from(self.memory_peak).unwrap_or(u64::MAX)
    }

    /// What was refused last, if anything was.
    pub fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }
}

impl ResourceLimiter for Bounds {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        self.memory_pending = 0;
        if maximum.is_some_and(|maximum| desired > maximum) {
            // The guest's own bound: no affair of ours.
            return Ok(false);
        }
        let more = desired.saturating_sub(current);
        let total = self.memory.saturating_add(more);
        if total > self.memory_max {
            let max = self.memory_max;
            self.refused = Some(format!("{MEMORY_LIMIT}{total} bytes together are over the limit of {max} bytes"));
            return Ok(false);
        }
        self.memory = total;
        self.memory_pending = more;
        self.memory_peak = self.memory_peak.max(total);
        Ok(true)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.memory = self.memory.saturating_sub(std::mem::take(&mut self.memory_pending));
        self.refused = Some(format!("a memory could not grow: {error}"));
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        self.elements_pending = 0;
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let more = desired.saturating_sub(current);
        let total = self.elements.saturating_add(more);
        if total > TABLE_ELEMENTS_MAX {
            self.refused = Some(format!("{total} table elements are over the limit of {TABLE_ELEMENTS_MAX}"));
            return Ok(false);
        }
        self.elements = total;
        self.elements_pending = more;
        Ok(true)
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.elements = self.elements.saturating_sub(std::mem::take(&mut self.elements_pending));
        self.refused = Some(format!("a table could not grow: {error}"));
        Ok(())
    }

    fn instances(&self) -> usize {
        INSTANCES_MAX
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX
    }

    fn tables(&self) -> usize {
        TABLES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn memories_count_together() {
        let mut bounds = Bounds::new(3 << 20);
        assert!(bounds.memory_growing(0, 2 * MIB, None).unwrap());
        assert!(bounds.memory_growing(0, MIB, None).unwrap());
        assert!(!bounds.memory_growing(MIB, MIB + 65536, None).unwrap());
        assert!(bounds.refused().is_some());
        assert_eq!(bounds.memory_peak_bytes(), 3 << 20);
    }

    #[test]
    fn a_failed_growth_is_given_back() {
        let mut bounds = Bounds::new(2 << 20);
        assert!(bounds.memory_growing(0, 2 * MIB, None).unwrap());
        bounds.memory_grow_failed(wasmtime::format_err!("no room")).unwrap();
        assert!(bounds.memory_growing(0, 2 * MIB, None).unwrap());
    }

    #[test]
    fn the_guests_own_maximum_is_no_refusal() {
        let mut bounds = Bounds::new(u64::MAX);
        assert!(!bounds.memory_growing(0, 2 * MIB, Some(MIB)).unwrap());
        assert!(bounds.refused().is_none());
    }

    #[test]
    fn tables_are_bounded() {
        let mut bounds = Bounds::new(0);
        assert!(bounds.table_growing(0, TABLE_ELEMENTS_MAX, None).unwrap());
        assert!(!bounds.table_growing(TABLE_ELEMENTS_MAX, TABLE_ELEMENTS_MAX + 1, None).unwrap());
    }
}
