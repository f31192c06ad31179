//! Every bound and deadline of the links, in one place (design §3).

use std::time::Duration;

/// Longest packet on link B, header included, bytes.
pub const FRAME_MAX_BYTES: usize = 64 * 1024;
/// Bytes of the frame header: version, kind, request id.
pub const FRAME_HEADER_BYTES: usize = 8;
/// Longest bincode body of one frame, bytes.
pub const BODY_MAX_BYTES: usize = FRAME_MAX_BYTES - FRAME_HEADER_BYTES;
/// Longest payload carried inside a frame; the rest of the frame is its envelope.
pub const INLINE_MAX_BYTES: usize = 60 * 1024;
/// Longest payload that goes in parts; also the most a receiver holds for one peer at a time.
pub const BLOB_MAX_BYTES: usize = 1024 * 1024;
/// Most of each output of a command that runs to its end, whatever `limits.output` says. The front and the broker hold both
/// for one command at a time (T-06).
pub const OUTPUT_MAX_BYTES: usize = 16 * 1024 * 1024;
/// Longest setup document, carried in a sealed memfd that the broker made.
pub const SETUP_MAX_BYTES: usize = 4 * 1024 * 1024;
/// Most descriptors that any message kind states.
pub const FRAME_MAX_DESCRIPTORS: usize = 4;
/// Requests of one peer that may be unanswered at once.
pub const IN_FLIGHT_MAX: usize = 32;
/// Frames the broker queues for a peer that does not read.
pub const QUEUED_FRAMES_MAX: usize = 64;
/// Bytes the broker queues for a peer that does not read.
pub const QUEUED_BYTES_MAX: usize = 1024 * 1024;
/// Frames taken from one peer before another has its turn.
pub const FRAMES_PER_WAKEUP: usize = 16;
/// From start to hello.
pub const HELLO_DEADLINE: Duration = Duration::from_secs(2);
/// From hello to locked.
pub const LOCKED_DEADLINE: Duration = Duration::from_secs(5);
/// From a request to its reply, where the operation has no deadline of its own.
pub const REPLY_DEADLINE: Duration = Duration::from_secs(10);
/// How long a command waits behind a spawner that takes none.
pub const SPAWNER_STALL: Duration = Duration::from_secs(2);
/// From a command that was sent to the spawner's word on it: a template on a cold disk warms in this time, and a burst of
/// starts is served one by one.
pub const SPAWN_DEADLINE: Duration = Duration::from_secs(30);
/// What a helper gets to end cleanly after a cancel.
pub const CANCEL_GRACE: Duration = Duration::from_secs(2);
/// What cap-proc's runner gets to remove its commands' private files at the end of a task; all processes are gone by then.
pub const CLEANUP_DEADLINE: Duration = Duration::from_secs(20);

/// Longest path that crosses a link, bytes (PATH_MAX).
pub const PATH_MAX_BYTES: usize = 4096;
/// Longest file name, bytes (NAME_MAX).
pub const NAME_MAX_BYTES: usize = 255;
/// Workspaces of one task.
pub const WORKSPACES_MAX: usize = 64;
/// Commands of one task.
pub const COMMANDS_MAX: usize = 128;
/// Deny and deny_write rules of one workspace.
pub const PATH_RULES_MAX: usize = 1024;
/// Arguments of one command.
pub const ARGS_MAX: usize = 1024;
/// Open handles of one task in one helper.
pub const HANDLES_MAX: usize = 256;
/// Entries of a directory in one reply.
pub const ENTRIES_PER_REPLY_MAX: usize = 256;
