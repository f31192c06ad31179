//! From a module's bytes to machine code that a worker may map: the cache, else a compiler in a jail of its own.

use crate::audit::{AuditError, ProcessRecord};
use crate::cache::{self, Cache, ENTRY_MAX_BYTES};
use crate::cancel::unless_cancelled;
use crate::jailed::{Birth, Jailed, JailedError};
use crate::peer::PeerError;
use crate::sealed;
use crate::task::Surroundings;
use sha2::{Digest, Sha256};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use warden_proto::Kind;
use warden_proto::limits::CANCEL_GRACE;
use warden_proto::msg::life::Role;
use warden_proto::msg::worker::{CompilerSetup, End, Finish};

/// How long one compilation may take. The jail's own RLIMIT_CPU is the second fence.
pub const COMPILE_DEADLINE: Duration = Duration::from_secs(120);
/// From the kill of a compiler to its end.
const END_DEADLINE: Duration = Duration::from_secs(5);

/// A module could not be compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The bytes are no module.
    #[error("{0}")]
    Invalid(String),
    /// The compiler could not be started.
    #[error(transparent)]
    Jailed(#[from] JailedError),
    /// The compiler died or broke the protocol: hostile bytes may have killed it, and only it.
    #[error("the compiler did not finish: {0}")]
    Ended(#[from] PeerError),
    /// It took too long or too much.
    #[error("compiling took longer than {} s and was stopped", COMPILE_DEADLINE.as_secs())]
    Deadline,
    /// It was killed and is still there, so what it wrote may still change.
    #[error("the compiler did not end within {} s of being killed", END_DEADLINE.as_secs())]
    Lingers,
    /// Our side failed.
    #[error("compiled code could not be kept: {0}")]
    System(nix::errno::Errno),
    /// A person asked for the end.
    #[error("ended by signal {signal}")]
    Cancelled {
        /// The signal's number.
        signal: i32,
    },
    /// The compiler's start or end could not be put on the record: nothing goes on (T-09).
    #[error("the audit log could not be written: {0}")]
    Unrecorded(#[from] AuditError),
}

/// Code ready to be mapped.
#[derive(Debug)]
pub struct Compiled {
    /// A sealed memory file.
    pub code: OwnedFd,
    /// SHA-256 of the module.
    pub module_sha256: [u8; 32],
    /// It came from the cache.
    pub cached: bool,
    /// What went wrong with the cache, if anything did; the run goes on.
    pub warning: Option<String>,
}

/// Finds or makes the code of `module`.
pub async fn compile(
    around: &Surroundings,
    cache: Option<&Cache>,
    module: &[u8],
    metered: bool,
) -> Result<Compiled, CompileError> {
    let module_sha256: [u8; 32] = Sha256::digest(module).into();
    let keyed = cache.map(|cache| (cache, cache.key(&module_sha256, metered)));
    let mut warning = None;
    match keyed.as_ref().map(|(cache, key)| cache.get(key)).transpose() {
        Ok(Some(Some(code))) => return Ok(Compiled { code, module_sha256, cached: true, warning }),
        Ok(_) => {}
        Err(error) => warning = Some(error.to_string()),
    }
    let code = run_compiler(around, module, metered).await?;
    if let Some((cache, key)) = &keyed
        && let Err(error) = cache.put(key, &code)
    {
        warning = Some(error.to_string());
    }
    let code = sealed::holding("code", &code).map_err(CompileError::System)?;
    Ok(Compiled { code, module_sha256, cached: false, warning })
}

async fn run_compiler(around: &Surroundings, module: &[u8], metered: bool) -> Result<Vec<u8>, CompileError> {
    let input = sealed::holding("module", module).map_err(CompileError::System)?;
    let output = sealed::writable("code").map_err(CompileError::System)?;
    let setup = CompilerSetup {
        module_len: u64::try_from(module.len()).map_err(|_| CompileError::System(nix::errno::Errno::EFBIG))?,
        metered,
        output_max_bytes: ENTRY_MAX_BYTES,
    };
    let descriptors = [input.as_fd(), output.as_fd()];
    let birth = Birth { role: Role::Compiler, descriptors: &descriptors, inherit: Vec::new() };
    let cancelled = |signal| CompileError::Cancelled { signal };
    let started = unless_cancelled(&around.cancel, Jailed::start(&around.runtime, birth, &setup)).await;
    let mut compiler = started.map_err(cancelled)??;
    let record = ProcessRecord { task: None, policy_hash: None, role: Role::Compiler, pid: compiler.child.pid };
    record.locked(&mut around.audit.borrow_mut(), &compiler.locked)?;
    let finish = unless_cancelled(&around.cancel, finish_of(&mut compiler)).await.map_err(cancelled);
    compiler.child.kill();
    // Its mappings end with it; only then can the output be sealed. A person who wants the end waits no longer than for a
    // helper's.
    let patience = if finish.is_err() { CANCEL_GRACE } else { END_DEADLINE };
    let exit = timeout_at(Instant::now() + patience, compiler.child.exited()).await.ok();
    record.ended(&mut around.audit.borrow_mut(), exit)?;
    let finish = finish??;
    if exit.is_none() {
        return Err(CompileError::Lingers);
    }
    match finish.end {
        End::Returned if finish.output_len <= ENTRY_MAX_BYTES => {
            sealed::seal(&output).map_err(CompileError::System)?;
            cache::contents(&output, finish.output_len).map_err(CompileError::System)
        }
        End::Invalid { message } => Err(CompileError::Invalid(message.into_string())),
        other => Err(PeerError::Refused(format!("it ended with {other:?}")).into()),
    }
}

/// The compiler's last frame, which is its only one.
async fn finish_of(compiler: &mut Jailed) -> Result<Finish, CompileError> {
    let deadline = Instant::now() + COMPILE_DEADLINE;
    let frame = timeout_at(deadline, compiler.peer.next()).await.map_err(|_| CompileError::Deadline)??;
    if frame.kind != Kind::Finish {
        return Err(PeerError::Refused(format!("it sent {:?}", frame.kind)).into());
    }
    Ok(frame.decode().map_err(PeerError::from)?)
}
