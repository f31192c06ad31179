//! From fork to exec: what a new process is given, and that it is given nothing else.
//!
//! Descriptors 0–2 are /dev/null, 3 and up what the caller lists, everything else closes at exec. Environment empty,
//! working directory `/`, signals as at birth, a death signal from the spawner. The jail itself is the child's own first
//! work (its `life.rs`): it is of our build, opened and checked before.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sched::{CloneFlags, clone};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, chdir, dup2_raw, getppid};
use std::ffi::CString;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Numbers between the last fixed one and the private copies that are made before the fixed ones are filled.
const STAGING_GAP: usize = 8;

/// A process could not be started: the step, and why.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("{step}: {errno}")]
pub struct StartError {
    /// What was being done.
    pub step: &'static str,
    /// What the system said.
    pub errno: Errno,
}

/// What the child of a start stands on until it has executed something. A few system calls, each with a path of at most
/// 1 KiB on the stack, take a fifth of it.
const STACK_BYTES: usize = 32 * 1024;

/// Starts `program` with `arguments` and `descriptors` at 3 and up; returns once it has been executed.
///
/// The child works in the spawner's own memory while the spawner stands still: a copy of its page tables, made for a few
/// system calls and thrown away, costs more than those.
pub fn execute(program: &OwnedFd, arguments: &[&str], descriptors: Vec<OwnedFd>) -> Result<Pid, StartError> {
    let arguments: Vec<CString> = arguments
        .iter()
        .map(|a| CString::new(*a).map_err(|_| StartError { step: "take its arguments", errno: Errno::EINVAL }))
        .collect::<Result<_, _>>()?;
    let spawner = Pid::this();
    let above = RawFd::try_from(descriptors.len().saturating_add(3).saturating_add(STAGING_GAP))
        .map_err(|_| StartError { step: "count its descriptors", errno: Errno::EMFILE })?;
    let mut failed = None;
    let mut stack = vec![0_u8; STACK_BYTES];
    let become_it = Box::new(|| {
        failed = Some(become_program(program, &arguments, &descriptors, above, spawner));
        125
    });
    let flags = CloneFlags::CLONE_VM | CloneFlags::CLONE_VFORK;
    // SAFETY: the spawner has one thread, and the kernel lets it stand still until the child has executed a program or has
    // ended, so that memory has one user at any time. Descriptors, signals and directory are copies. The child runs this
    // module's own few calls, far from the end of its stack, returns from them only to `_exit`, and what it allocates and
    // does not give back is lost, not broken. The one handler that its signals have touches nothing (`signals.rs`).
    let child = unsafe { clone(become_it, &mut stack, flags, Some(libc::SIGCHLD)) };
    let child = child.map_err(|errno| StartError { step: "fork", errno })?;
    match failed {
        None => Ok(child),
        Some((step, errno)) => {
            while nix::sys::wait::waitpid(child, None) == Err(Errno::EINTR) {}
            Err(StartError { step, errno })
        }
    }
}

/// Lets this process have as many descriptors as it may, whatever it was started under: the spawner holds some for each task.
pub fn raise_descriptor_limit() -> nix::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
}

/// In the child: never returns but with the step that failed.
fn become_program(
    program: &OwnedFd,
    arguments: &[CString],
    descriptors: &[OwnedFd],
    above: RawFd,
    spawner: Pid,
) -> (&'static str, Errno) {
    if let Err(errno) = prctl::set_pdeathsig(Signal::SIGKILL) {
        return ("set the death signal", errno);
    }
    // The spawner may have died before the death signal was set.
    if getppid() != spawner {
        return ("lose its parent", Errno::ESRCH);
    }
    if let Err(errno) = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None) {
        return ("restore signals", errno);
    }
    if let Err(errno) = chdir("/") {
        return ("change directory", errno);
    }
    match place(program, descriptors, above) {
        Err(errno) => ("place descriptors", errno),
        Ok((program, next)) => {
            if let Err(errno) = close_on_exec_from(next) {
                return ("shut the rest", errno);
            }
            // Empty, but for what a test asks of a debug build.
            let environment: Vec<CString> = warden_jail::abi::inherited().into_iter().collect();
            let flags = nix::fcntl::AtFlags::AT_EMPTY_PATH;
            match nix::unistd::execveat(&program, c"", arguments, &environment, flags) {
                Err(errno) => ("execute", errno),
                Ok(never) => match never {},
            }
        }
    }
}

/// Moves every descriptor out of the way, then to its number. The program's moves too, and stays until exec.
fn place(program: &OwnedFd, descriptors: &[OwnedFd], above: RawFd) -> nix::Result<(OwnedFd, RawFd)> {
    let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
    let null = staged(&null, above)?;
    let program = staged(program, above)?;
    let staged_all: Vec<OwnedFd> = descriptors.iter().map(|fd| staged(fd, above)).collect::<nix::Result<_>>()?;
    for number in 0..=2 {
        put(&null, number)?;
    }
    let mut next: RawFd = 3;
    for fd in &staged_all {
        put(fd, next)?;
        next = next.checked_add(1).ok_or(Errno::EMFILE)?;
    }
    Ok((program, next))
}

/// A private copy at a number that no fixed one reaches.
fn staged(fd: &OwnedFd, above: RawFd) -> nix::Result<OwnedFd> {
    let number = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(above))?;
    // SAFETY: fcntl has just made this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn put(fd: &OwnedFd, number: RawFd) -> nix::Result<()> {
    // SAFETY: whatever is open at `number` belongs to the parent's copy of the table and is meant to be replaced.
    let placed = unsafe { dup2_raw(fd, number) }?;
    // It stays open over exec: forgetting the owner is what keeps it.
    std::mem::forget(placed);
    Ok(())
}

/// T-03: no descriptor of the spawner's reaches a program of a jail but those it was meant to get.
fn close_on_exec_from(first: RawFd) -> nix::Result<()> {
    let first = u32::try_from(first).map_err(|_| Errno::EBADF)?;
    // SAFETY: close_range with CLOSE_RANGE_CLOEXEC only sets flags on numbers of this process.
    let result = unsafe { libc::close_range(first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC as i32) };
    Errno::result(result).map(drop)
}

#[cfg(test)]
mod tests;
