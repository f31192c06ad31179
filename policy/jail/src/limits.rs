//! Resource limits of a process (T-06). Soft and hard alike, so that a process cannot raise its own again.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use thiserror::Error;

/// Limits to set; `None` leaves one as inherited, and where the host allows less than is said here, that holds. The core size is always 0 (T-08), and so is what a process may raise its
/// priority by: who logs in may have been given that, and a task must not starve the host with it (T-06).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Private writable memory. Works with Wasmtime, where `address_space_bytes` breaks instantiation.
    pub data_bytes: Option<u64>,
    /// Size of any file written. SIGXFSZ kills unless ignored; then the write fails.
    pub file_size_bytes: Option<u64>,
    /// One more than the highest descriptor number.
    pub open_files: Option<u64>,
    pub address_space_bytes: Option<u64>,
    /// CPU time, in seconds; SIGXCPU, then SIGKILL.
    pub cpu_seconds: Option<u64>,
    /// Processes of the whole uid; nothing for uid 0.
    pub processes: Option<u64>,
}

#[derive(Debug, Error)]
#[error("cannot set {resource} to {value}: {source}")]
pub struct LimitError {
    pub resource: &'static str,
    pub value: u64,
    pub source: nix::Error,
}

impl Limits {
    /// Sets them on the calling process.
    pub fn apply(&self) -> Result<(), LimitError> {
        no_core()?;
        set("RLIMIT_RTPRIO", Resource::RLIMIT_RTPRIO, Some(0))?;
        set("RLIMIT_NICE", Resource::RLIMIT_NICE, Some(0))?;
        set("RLIMIT_DATA", Resource::RLIMIT_DATA, self.data_bytes)?;
        set("RLIMIT_FSIZE", Resource::RLIMIT_FSIZE, self.file_size_bytes)?;
        set("RLIMIT_NOFILE", Resource::RLIMIT_NOFILE, self.open_files)?;
        set("RLIMIT_AS", Resource::RLIMIT_AS, self.address_space_bytes)?;
        set("RLIMIT_CPU", Resource::RLIMIT_CPU, self.cpu_seconds)?;
        set("RLIMIT_NPROC", Resource::RLIMIT_NPROC, self.processes)
    }
}

/// No core file: it would hold what the process knew (T-08).
pub fn no_core() -> Result<(), LimitError> {
    set("RLIMIT_CORE", Resource::RLIMIT_CORE, Some(0))
}

fn set(name: &'static str, resource: Resource, value: Option<u64>) -> Result<(), LimitError> {
    match value {
        None => Ok(()),
        Some(value) => {
            // More than it was started with is nothing that a process can take.
            let (_, most) = getrlimit(resource).map_err(|source| LimitError { resource: name, value, source })?;
            let value = value.min(most);
            setrlimit(resource, value, value).map_err(|source| LimitError { resource: name, value, source })
        }
    }
}
