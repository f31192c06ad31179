//! What can go wrong with the log, each with what to do about it.

use nix::errno::Errno;

fn word(dir: &str) -> String {
    crate::failure::shell_word(std::path::Path::new(dir))
}

/// A failure of the audit log. None of these is ever shown to a guest in full.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error("cannot open the audit directory {dir}: {source}{remedy}")]
    Directory { dir: String, source: Errno, remedy: String },
    #[error("the audit directory {dir} is not a directory; choose another [audit] dir")]
    NotADirectory { dir: String },
    #[error(
        "the audit directory {dir} belongs to uid {owner}, not to uid {uid}: its owner could rewrite the log; \
         as root type: chown {uid} {typed} && chmod 700 {typed}; or choose another [audit] dir",
        typed = word(dir)
    )]
    Foreign { dir: String, owner: u32, uid: u32 },
    #[error("the audit directory {dir} has mode {mode:04o}: others could read or change the log; run: chmod 700 {typed}", typed = word(dir))]
    Open { dir: String, mode: u32 },
    #[error("cannot list the audit directory: {0}")]
    List(#[source] Errno),
    #[error("cannot create the audit segment {segment}: {source}")]
    Create { segment: String, source: Errno },
    #[error("cannot lock the audit segment {segment}: {source}")]
    Lock { segment: String, source: Errno },
    #[error("cannot read the boot id: {0}")]
    BootId(#[source] std::io::Error),
    #[error("no randomness for a segment's name: {0}")]
    Random(#[source] getrandom::Error),
    #[error("cannot read the clock: {0}")]
    Clock(#[source] Errno),
    #[error(
        "no space is left for the audit record and for the end records of calls in flight: {0}; free some in [audit] dir"
    )]
    Reserve(#[source] Errno),
    #[error("the audit record does not fit below the file size limit of {limit_bytes} bytes (RLIMIT_FSIZE); raise it")]
    FileSizeLimit { limit_bytes: u64 },
    #[error("cannot write the audit record: {0}")]
    Write(#[source] Errno),
    #[error("the kernel took only {written} of {expected} bytes of an audit record")]
    ShortWrite { written: usize, expected: usize },
    #[error("cannot bring the audit record to disk: {0}")]
    Sync(#[source] Errno),
    #[error("the audit sink {sink} does not take records: {source}")]
    Sink { sink: String, source: Errno },
    #[error("the audit log failed before and takes no more calls: {reason}")]
    Poisoned { reason: String },
    #[error("this ticket belongs to no call in flight")]
    UnknownTicket,
    #[error("cannot read the audit segment {segment}: {source}")]
    Read { segment: String, source: std::io::Error },
    #[error("{name} is not the name of an audit segment")]
    NotASegment { name: String },
}
