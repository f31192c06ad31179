//! Nothing that decides about this run or the next lies where the task can write (T-10).
//!
//! Runs in the broker once the workspaces are open, and compares devices and inodes, not names.

use super::Request;
use crate::deciding;
use crate::failure::Failure;
use crate::places::{CEILING, Places};
use crate::runtime::OpenedWorkspace;
use std::path::{Path, PathBuf};
use warden_policy::Access;
use warden_spawner::trusted::FileIdentity;

/// Where a program of ours is, and the identities of it and of every directory passed on the way.
pub(super) type OurProgram = (PathBuf, Vec<FileIdentity>);

/// T-10: nothing that decides about this run or the next lies where the task can write.
pub(super) fn check_deciding(
    request: &Request,
    opened: &[OpenedWorkspace],
    places: &Places,
    ours: &[OurProgram],
) -> Result<(), Failure> {
    let writable: Vec<(String, FileIdentity)> = request
        .policy
        .workspaces()
        .iter()
        .zip(opened)
        .filter(|(workspace, _)| workspace.access == Access::ReadWrite)
        .map(|(workspace, opened)| (workspace.label.clone(), opened.identity))
        .collect();
    if writable.is_empty() {
        return Ok(());
    }
    for file in request.deciding.iter().chain(&request.programs) {
        file.outside(&writable)?;
    }
    for (path, passed) in ours {
        deciding::outside("warden's program", path, passed, &writable)?;
    }
    // A policy that does not exist yet decides too, from the moment that a task has written it.
    let (own, ceiling) = (&places.policy, Path::new(CEILING));
    for (what, place) in [
        ("audit directory", places.audit.as_path()),
        ("cache", &places.cache),
        ("run directory", &places.run),
        ("place of your own policy", own.parent().unwrap_or(own)),
        ("place of the system's policy", ceiling.parent().unwrap_or(ceiling)),
    ] {
        deciding::place_outside(what, place, &writable)?;
    }
    Ok(())
}

/// What the next run would execute: the spawner's programs and this one. Each with what was passed on the way to it.
pub(super) fn ours(binaries: &warden_spawner::Binaries) -> Result<Vec<OurProgram>, Failure> {
    let own =
        std::env::current_exe().map_err(|e| Failure::internal(format!("warden does not know where it is: {e}")))?;
    let passed = warden_spawner::trusted::passed(&own);
    Ok(binaries.passed.iter().cloned().chain(std::iter::once((own, passed))).collect())
}
