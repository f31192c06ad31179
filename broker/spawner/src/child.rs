//! From fork to exec: what a new process is given, and that it is given nothing else.
//!
//! Descriptors 0–2 are /dev/null, 3 and up what the caller lists, everything else closes at exec. Environment empty,
//! working directory `/`, signals as at birth, a death signal from the spawner. The jail itself is the child's own first
//! work (its `life.rs`): it is of our build, opened and checked before.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::stat::Mode;
use nix::unistd::{ForkResult, Pid, chdir, dup2_raw, fork, getppid, pipe2, read, write};
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

/// Steps of a new process, by the number that it reports.
const STEPS: [&str; 8] = [
    "set the death signal",
    "lose its parent",
    "restore signals",
    "change directory",
    "place descriptors",
    "shut the rest",
    "execute",
    "stage its report",
];

/// Starts `program` with `arguments` and `descriptors` at 3 and up; returns once it has been executed.
pub fn execute(program: &OwnedFd, arguments: &[&str], descriptors: Vec<OwnedFd>) -> Result<Pid, StartError> {
    let arguments: Vec<CString> = arguments
        .iter()
        .map(|a| CString::new(*a).map_err(|_| StartError { step: "take its arguments", errno: Errno::EINVAL }))
        .collect::<Result<_, _>>()?;
    let (mut report, tell) = pipe2(OFlag::O_CLOEXEC).map_err(|errno| StartError { step: "make a pipe", errno })?;
    let spawner = Pid::this();
    let above = RawFd::try_from(descriptors.len().saturating_add(3).saturating_add(STAGING_GAP))
        .map_err(|_| StartError { step: "count its descriptors", errno: Errno::EMFILE })?;
    // SAFETY: the spawner has one thread, so the child may run any code.
    match unsafe { fork() }.map_err(|errno| StartError { step: "fork", errno })? {
        ForkResult::Child => {
            // Staged first: the fixed numbers may run over where it stands now. Until then it stands where it was made.
            let (tell, (step, errno)) = match staged(&tell, above) {
                Ok(staged) => (staged, become_program(program, &arguments, &descriptors, above, spawner)),
                Err(errno) => (tell, (7, errno)),
            };
            let [low, high, ..] = (errno as i32).to_le_bytes();
            let _ = write(&tell, &[step, low, high]);
            std::process::exit(125)
        }
        ForkResult::Parent { child } => {
            drop(tell);
            heard(&mut report, child)
        }
    }
}

/// In the parent: only end-of-file says that the pipe was closed by the exec. Whatever else is said, the child is reaped.
fn heard(report: &mut OwnedFd, child: Pid) -> Result<Pid, StartError> {
    let mut said = [0_u8; 3];
    let error = loop {
        match read(&mut *report, &mut said) {
            Ok(0) => return Ok(child),
            Ok(3) => {
                let step = STEPS.get(usize::from(said[0])).copied().unwrap_or("start");
                let errno = Errno::from_raw(i32::from(u16::from_le_bytes([said[1], said[2]])));
                break StartError { step, errno };
            }
            Err(Errno::EINTR) => continue,
            Ok(_) => break StartError { step: "hear how its start went", errno: Errno::EPROTO },
            Err(errno) => break StartError { step: "hear how its start went", errno },
        }
    };
    let _ = kill(child, Signal::SIGKILL);
    while nix::sys::wait::waitpid(child, None) == Err(Errno::EINTR) {}
    Err(error)
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
) -> (u8, Errno) {
    if let Err(errno) = prctl::set_pdeathsig(Signal::SIGKILL) {
        return (0, errno);
    }
    // The spawner may have died before the death signal was set.
    if getppid() != spawner {
        return (1, Errno::ESRCH);
    }
    if let Err(errno) = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None) {
        return (2, errno);
    }
    if let Err(errno) = chdir("/") {
        return (3, errno);
    }
    match place(program, descriptors, above) {
        Err(errno) => (4, errno),
        Ok((program, next)) => {
            if let Err(errno) = close_on_exec_from(next) {
                return (5, errno);
            }
            // Empty, but for what a test asks of a debug build.
            let environment: Vec<CString> = warden_jail::abi::inherited().into_iter().collect();
            let flags = nix::fcntl::AtFlags::AT_EMPTY_PATH;
            match nix::unistd::execveat(&program, c"", arguments, &environment, flags) {
                Err(errno) => (6, errno),
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
