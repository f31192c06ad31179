//! First acts of a process of ours, before it does anything else: unreadable to its neighbours, without cores, and somebody
//! other than root. Used by the broker (which imports no jail of its own) and by the spawner.

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use warden_jail::process;

/// A process could not become what it is to be.
#[derive(Debug, thiserror::Error)]
pub enum BirthError {
    /// A system call failed.
    #[error(transparent)]
    System(#[from] Errno),
    /// Privileges could not be given up.
    #[error(transparent)]
    Privileges(#[from] process::ProcessError),
}

/// T-13: a neighbour of our uid opens `/proc/PID/mem` of a dumpable process read-write; and a core that is piped to a
/// collector ignores the rlimit, so both are needed.
pub fn harden() -> nix::Result<()> {
    prctl::set_dumpable(false)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)
}

/// Becomes `uid` and `gid` for good, with no supplementary group: bounding set before groups before gid before uid, since
/// each needs what the last takes away.
pub fn become_user(uid: Uid, gid: Gid) -> Result<(), BirthError> {
    // T-07: without it a set-uid program could give back what is given up here, in whatever process one were started.
    process::drop_bounding_set()?;
    setgroups(&[gid])?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    // A setuid that seems to work and did not must never go on as root.
    if nix::unistd::setuid(Uid::from_raw(0)).is_ok() {
        return Err(Errno::EPERM.into());
    }
    // Changing the uid made the process undumpable or not by the host's suid_dumpable: ours is never dumpable.
    Ok(prctl::set_dumpable(false)?)
}

/// Threads of this process, by its own task list.
pub fn thread_count() -> usize {
    std::fs::read_dir("/proc/self/task").map(|tasks| tasks.count()).unwrap_or(usize::MAX)
}
