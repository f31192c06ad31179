//! The directories that are the broker's own: its log, its cache, its run files. Opened before its jail is shut.

use crate::audit::{AuditConfig, AuditLog, Durability, HeaderFacts, HexDigest, Mirror, open_directory};
use crate::cache::Cache;
use crate::failure::{Failure, shell_word};
use crate::places::Places;
use crate::scratch::{self, Scratch};
use crate::terminal;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use warden_policy::{AuditSink, Effective};

pub(super) fn open_audit(policy: &Effective, places: &Places) -> Result<(AuditLog, OwnedFd), Failure> {
    let dir = open_directory(&places.audit)?;
    let settings = policy.audit();
    let mut config = AuditConfig::new(places.audit.display().to_string());
    config.durability = match settings.durability {
        warden_policy::Durability::Flush => Durability::Flush,
        warden_policy::Durability::Sync => Durability::Sync,
    };
    config.mirror = match &settings.sink {
        None => None,
        Some(AuditSink::Journald) => Some(Mirror::journald(Path::new(crate::audit::JOURNALD_SOCKET))?),
        Some(AuditSink::Descriptor(number)) => {
            let fd = i32::try_from(*number).ok().and_then(|n| warden_proto::sys::adopt(n).ok()).ok_or_else(|| {
                Failure::usage(format!("[audit] sink = \"fd:{number}\": no such descriptor was passed"))
            })?;
            Some(Mirror::descriptor(fd, &format!("fd:{number}"))?)
        }
    };
    let facts = HeaderFacts {
        build: crate::cache::hex(&warden_proto::build_id()),
        versions: vec![("warden".to_owned(), env!("CARGO_PKG_VERSION").to_owned())],
        policy_hash: HexDigest::parse(policy.hash()).unwrap_or(HexDigest::ZERO),
        rules_hash: HexDigest::from_bytes(warden_spawner::rules_sha256()),
        degraded: Vec::new(),
    };
    Ok((AuditLog::open(&dir, config, facts)?, dir))
}

/// A cache that cannot be used is skipped with a warning.
pub(super) fn open_cache(path: &Path) -> (Option<Cache>, Option<String>) {
    match private_directory(path) {
        Ok(dir) => (Some(Cache::new(dir)), None),
        Err(why) => (None, Some(format!("the cache of compiled code {} is not used: {why}", path.display()))),
    }
}

/// Makes and opens a directory of ours alone.
pub(super) fn private_directory(path: &Path) -> Result<OwnedFd, String> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| e.to_string())?;
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let dir = open(path, flags, Mode::empty()).map_err(|e| e.to_string())?;
    let facts = nix::sys::stat::fstat(&dir).map_err(|e| e.to_string())?;
    if facts.st_uid != nix::unistd::geteuid().as_raw() {
        return Err("it belongs to another user".to_owned());
    }
    if facts.st_mode & 0o077 != 0 {
        return Err("others can reach into it; `chmod 700` it".to_owned());
    }
    Ok(dir)
}

/// The run directory, and a scratch folder that was made in it. What killed sessions left there is said, not walked (T-06).
pub(super) fn open_scratch(run: &Path, quiet: bool) -> Result<(OwnedFd, Scratch), Failure> {
    let failed = |why: String| Failure::internal(format!("the run directory {}: {why}", run.display()));
    let above = private_directory(run).map_err(failed)?;
    // Where nobody would read it, it is said by another run.
    let left = scratch::sweep(&above, !quiet).map_err(|errno| failed(errno.to_string()))?;
    let paths: Vec<String> = left.iter().map(|name| shell_word(&run.join(name))).collect();
    if !paths.is_empty() {
        terminal::note(&format!(
            "warden: commands of a session that was killed left files. To remove them type: rm -rf {}",
            paths.join(" ")
        ));
    }
    let scratch = Scratch::make(&above).map_err(|errno| failed(format!("no scratch folder could be made: {errno}")))?;
    Ok((above, scratch))
}
