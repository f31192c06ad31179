//! What a process gives up about itself: being dumped or traced, privileges, users, life after its parent.
//!
//! Runs in every process of ours, before lock-down; `hide` is the first act after exec (T-13).

use nix::unistd::{Gid, Uid};
use std::io;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum ProcessError {
    #[error("cannot make the process undumpable: {0}")]
    Dumpable(io::Error),
    #[error("cannot set no_new_privs: {0}")]
    NoNewPrivileges(io::Error),
    #[error("cannot drop capabilities: {0}")]
    Capabilities(#[from] caps::errors::CapsError),
    #[error("capabilities are left after dropping all of them")]
    CapabilitiesLeft,
    #[error("cannot set the groups of the new user: {0}")]
    Groups(nix::Error),
    #[error("cannot become user {uid}, group {gid}: {source}")]
    User { uid: u32, gid: u32, source: nix::Error },
    #[error("user {0} could become root again")]
    Reversible(u32),
    #[error("cannot ask for a death signal: {0}")]
    DeathSignal(io::Error),
    #[error("the parent, process {expected}, has already ended")]
    Orphan { expected: i32 },
}

/// Makes `/proc/PID/mem`, tracing and core dumps of this process root's alone; exec undoes it, so it is the
/// first act after exec. An undumpable process's `/proc/self` belongs to root: list descriptors before.
pub fn set_dumpable_off() -> Result<(), ProcessError> {
    prctl(libc::PR_SET_DUMPABLE, 0).map_err(ProcessError::Dumpable)
}

/// The opposite, for as long as the process writes the maps of its own user namespace: the kernel lets only the owner of
/// its files in `/proc` do that.
pub(crate) fn set_dumpable_on() -> Result<(), ProcessError> {
    prctl(libc::PR_SET_DUMPABLE, 1).map_err(ProcessError::Dumpable)
}

/// A panic ends the process at once, in every build: no frame, drop or thread of a process whose state is in doubt goes
/// on, and none unwinds out of a forked child into the program around it (T-03). Release builds abort anyway.
pub fn abort_on_panic() {
    let said = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        said(panic);
        std::process::abort();
    }));
}

/// No exec gives privileges from here on; Landlock and seccomp without root require it.
pub fn no_new_privs() -> Result<(), ProcessError> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1).map_err(ProcessError::NoNewPrivileges)
}

/// Whether no_new_privs is set.
pub fn has_no_new_privs() -> bool {
    // SAFETY: this option takes no pointer and only returns a number.
    unsafe { libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 }
}

/// Empties the bounding set; needs CAP_SETPCAP, so it comes before a change of user. A process that lacks it
/// keeps the set, which no_new_privs makes useless.
pub fn drop_bounding_set() -> Result<(), ProcessError> {
    if caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_SETPCAP)? {
        for capability in caps::runtime::thread_all_supported() {
            caps::drop(None, caps::CapSet::Bounding, capability)?;
        }
    }
    Ok(())
}

/// Empties every capability set: bounding where possible, ambient, inheritable, permitted, effective.
pub fn drop_capabilities() -> Result<(), ProcessError> {
    drop_bounding_set()?;
    caps::clear(None, caps::CapSet::Ambient)?;
    caps::clear(None, caps::CapSet::Inheritable)?;
    caps::clear(None, caps::CapSet::Effective)?;
    caps::clear(None, caps::CapSet::Permitted)?;
    for set in [caps::CapSet::Permitted, caps::CapSet::Effective, caps::CapSet::Inheritable] {
        if !caps::read(None, set)?.is_empty() {
            return Err(ProcessError::CapabilitiesLeft);
        }
    }
    Ok(())
}

/// Empties every capability set but for what mounting takes; for a process that is alone with its children in namespaces.
pub fn keep_mounting() -> Result<(), ProcessError> {
    drop_bounding_set()?;
    let mount = caps::CapsHashSet::from([caps::Capability::CAP_SYS_ADMIN]);
    caps::clear(None, caps::CapSet::Ambient)?;
    caps::clear(None, caps::CapSet::Inheritable)?;
    caps::set(None, caps::CapSet::Effective, &mount)?;
    caps::set(None, caps::CapSet::Permitted, &mount)?;
    Ok(())
}

/// Becomes another user for good: no supplementary groups, then group, then user, then a proof. Resets the death
/// signal, so that comes after.
pub fn become_user(uid: u32, gid: u32) -> Result<(), ProcessError> {
    let failed = |source| ProcessError::User { uid, gid, source };
    nix::unistd::setgroups(&[]).map_err(ProcessError::Groups)?;
    let group = Gid::from_raw(gid);
    nix::unistd::setresgid(group, group, group).map_err(failed)?;
    let user = Uid::from_raw(uid);
    nix::unistd::setresuid(user, user, user).map_err(failed)?;
    if uid != 0 && nix::unistd::setuid(Uid::from_raw(0)).is_ok() {
        return Err(ProcessError::Reversible(uid));
    }
    Ok(())
}

/// SIGKILL when the parent thread ends (T-12). The parent may have ended before the request: `parent` is its pid
/// as read by itself before the fork, and an unequal getppid means that it is gone.
pub fn death_signal(parent: i32) -> Result<(), ProcessError> {
    prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong).map_err(ProcessError::DeathSignal)?;
    // SAFETY: getppid only returns a number.
    if unsafe { libc::getppid() } != parent {
        return Err(ProcessError::Orphan { expected: parent });
    }
    Ok(())
}

fn prctl(option: i32, value: libc::c_ulong) -> io::Result<()> {
    let zero: libc::c_ulong = 0;
    // SAFETY: the options used here take a number, no pointer.
    let answer = unsafe { libc::prctl(option, value, zero, zero, zero) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
