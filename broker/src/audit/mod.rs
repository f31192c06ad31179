//! The audit log: what every task asked for, what was decided, and what came of it.
//!
//! Owned and written by the broker, on the thread that decides. It trusts its caller's decisions and identifiers, and no text it
//! is given: inputs and outputs come from guests, models and helpers, and are escaped and bounded on their way in (T-08, T-14).
//! Readers ([`verify_directory`], [`Reading`]) trust nothing they read.
//!
//! **Files.** One directory of ours alone; in it one segment `<utc>-<pid>-<random>.jsonl` per broker, created new, mode 0600, held
//! under an exclusive `flock` as long as it is written, and appended to by nobody else. JSON lines, one `write` each; the
//! form of a line and its hash are in `encode.rs`.
//!
//! **Records.** A call has a `begin` record before its effect and an `end` record after it, whose `input` is `{"begin":SEQ}`; an
//! act whose only effect is its answer, and a denial, have one `single` record. `seq` counts a broker's records without a gap,
//! across its segments. A segment's first and last records are `audit.segment` `open` and `close`.
//!
//! **The promise.** No begin record, no effect; no end record, no further calls ([`AuditLog::poisoned`]). For every call in flight
//! the space of its end record is allocated before its begin record is written (T-09).
//!
//! **After lock-down** a writer needs, beneath its directory, Landlock's read-file, read-dir, write-file, make-reg, remove-file and
//! truncate (space ahead is given back by `ftruncate`, whose right is fixed when the segment is opened). Its system calls: `write`, `fallocate`, `ftruncate`, `fdatasync`, `fsync`, `flock`, `prlimit64` (reading),
//! `clock_gettime`, and for rotation `openat` beneath the directory, `newfstatat`, `fcntl`, `getdents64`, `pread64`, `unlinkat`,
//! `getrandom`; with a mirror `poll` and `sendto`.

#![forbid(unsafe_code)]

mod bench;
mod calls;
mod chain;
mod clock;
mod directory;
mod encode;
mod error;
mod escape;
mod fault;
mod log;
mod mirror;
mod process;
mod record;
mod row;
mod segment;
mod show;
mod task;
mod verify;
mod walk;

#[cfg(test)]
mod tests;

pub use bench::measure_pairs;
pub use directory::open_directory;
pub use error::AuditError;
pub use fault::{Fault, FaultKind};
pub use log::{AuditConfig, AuditLog, Durability, HeaderFacts};
pub use mirror::{JOURNALD_SOCKET, Mirror};
pub use process::ProcessRecord;
pub use record::{BeginRecord, Decision, EndRecord, Head, HexDigest, Outcome, Record, Ticket, Value};
pub use row::Row;
pub use show::{Entry, Filter, Follower, Reading, last_entries};
pub use task::{About, TaskEnd, TaskRecord};
pub use verify::{Report, verify_directory, verify_path, verify_segment};
pub use walk::{SegmentReport, SegmentState, UnknownCall};
