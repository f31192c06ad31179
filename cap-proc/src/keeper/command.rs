//! From fork to exec: the child of a keeper becomes the command's program, and nothing else comes with it.
//!
//! Order: session, death signal, directory, standard descriptors, signals, limits; then the listener for its forks, the
//! nested Landlock domain and the command's filter; then every descriptor but 0, 1, 2 and the program closes.

use super::private::PrivateDirectory;
use crate::lane::Lane;
use crate::orders::{Birth, Launch, NO_WORKSPACE, failed};
use crate::runner::Bench;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, FcntlArg, FdFlag, OFlag, OpenHow, ResolveFlag, fcntl, open, openat2};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, execveat, fchdir, getppid, getuid, setsid};
use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::process::exit;
use warden_jail::Limits;
use warden_jail::descriptors::sweep_descriptors;
use warden_jail::fork::default_signals;
use warden_jail::life::{enter_command_domain, lock_down_command_supervised};
use warden_jail::notify::{Mediated, Waiting, install_supervised};
use warden_proto::msg::error::{CallError, ErrorCode};

/// RLIMIT_NOFILE of a command.
const OPEN_FILES: u64 = 4096;
/// RLIMIT_NPROC of a command, which counts threads of the whole uid: nothing for uid 0, whose threads the
/// gauge counts.
const USER_THREADS: u64 = 4096;
/// Where a command looks for programs unless its rule says otherwise.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// What a command is made of.
#[derive(Debug)]
pub struct Plan<'a> {
    /// What the runner holds.
    pub bench: &'a Bench,
    /// What the front asked for.
    pub launch: &'a Launch,
    /// Its ends of its pipes.
    pub stdio: &'a [Option<OwnedFd>; 3],
    /// Its private directory.
    pub private: Option<&'a PrivateDirectory>,
    /// Which of its calls its keeper performs.
    pub waiting: Waiting,
    /// What it has by its keeper, or not at all.
    pub mediated: Mediated,
    /// Its parent.
    pub keeper: Pid,
}

/// In the child of a keeper: becomes the program, or tells the keeper why not.
pub fn become_program(plan: &Plan<'_>, birth: Lane) -> ! {
    let Err(error) = try_become(plan, &birth);
    let _ = birth.tell(&Birth::Failed { error });
    exit(125)
}

fn try_become(plan: &Plan<'_>, birth: &Lane) -> Result<std::convert::Infallible, CallError> {
    let index = usize::from(plan.launch.command);
    let missing = || failed("find it", Errno::EBADF);
    let (program, script) = plan.bench.programs.get(index).ok_or_else(missing)?;
    let known = plan.bench.setup.commands.get(index).ok_or_else(missing)?;
    // Built before the jail is shut, where running out of memory is still an ordinary failure.
    let arguments = arguments(known.name.as_str(), plan.launch)?;
    let environment = environment(plan)?;
    settle(plan)?;
    lock_down(plan, birth)?;
    if *script {
        // The interpreter opens the script as /dev/fd/N, so N must survive the exec; of a binary it must not.
        fcntl(program, FcntlArg::F_SETFD(FdFlag::empty())).map_err(|e| failed("keep its script open", e))?;
    }
    sweep_descriptors(&[0, 1, 2, program.as_raw_fd(), birth.as_fd().as_raw_fd()])
        .map_err(|e| failed("close other descriptors", e))?;
    execveat(program, c"", &arguments, &environment, AtFlags::AT_EMPTY_PATH).map_err(|errno| match errno {
        Errno::ENOENT => {
            CallError::new(ErrorCode::NotFound, "the command's interpreter is not there, or no command may use it")
        }
        Errno::EACCES => CallError::new(ErrorCode::Unavailable, "the command's program may not be executed"),
        other => failed("execute it", other),
    })
}

/// What it is, where it stands, what it holds.
fn settle(plan: &Plan<'_>) -> Result<(), CallError> {
    setsid().map_err(|e| failed("lead a session", e))?;
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(|e| failed("set its death signal", e))?;
    if getppid() != plan.keeper {
        return Err(failed("find its keeper", Errno::ESRCH));
    }
    umask(Mode::from_bits_truncate(plan.bench.setup.bounds.umask & 0o777));
    enter_directory(plan)?;
    let null = &plan.bench.null;
    let [stdin, stdout, stderr] = plan.stdio;
    dup2_stdin(stdin.as_ref().unwrap_or(null))
        .and_then(|()| dup2_stdout(stdout.as_ref().unwrap_or(null)))
        .and_then(|()| dup2_stderr(stderr.as_ref().unwrap_or(null)))
        .map_err(|e| failed("place its standard descriptors", e))?;
    default_signals().map_err(|e| failed("restore signals", e))?;
    let bounds = &plan.bench.setup.bounds;
    let (_, threads) = getrlimit(Resource::RLIMIT_NPROC).map_err(|e| failed("read a limit", e))?;
    let limits = Limits {
        data_bytes: Some(bounds.memory_bytes),
        file_size_bytes: Some(bounds.file_bytes),
        open_files: Some(OPEN_FILES),
        processes: (!getuid().is_root()).then_some(threads.min(USER_THREADS)),
        ..Limits::default()
    };
    limits.apply().map_err(|e| failed("set its limits", e))
}

/// T-02: beneath the workspace as it was opened at the start, whatever lies at its path now.
fn enter_directory(plan: &Plan<'_>) -> Result<(), CallError> {
    let path = plan.launch.cwd.as_str();
    let base = match (plan.launch.workspace, plan.private) {
        (NO_WORKSPACE, Some(private)) => {
            private.home().ok_or_else(|| failed("find its own directory", Errno::EBADF))?.directory.as_fd()
        }
        (NO_WORKSPACE, None) => {
            let root = open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty());
            return root.and_then(fchdir).map_err(|e| failed("enter /", e));
        }
        (index, _) => {
            let workspace = plan.bench.workspaces.get(usize::from(index));
            workspace.ok_or_else(|| failed("find its workspace", Errno::EBADF))?.as_fd()
        }
    };
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS | ResolveFlag::RESOLVE_NO_XDEV;
    let path = if path.is_empty() { "." } else { path };
    let directory = openat2(base, path, OpenHow::new().flags(flags).resolve(resolve)).map_err(|errno| match errno {
        Errno::ENOENT => CallError::new(ErrorCode::NotFound, "the working directory does not exist"),
        Errno::ENOTDIR => CallError::new(ErrorCode::InvalidArgument, "the working directory is no directory"),
        Errno::EXDEV | Errno::ELOOP => CallError::new(ErrorCode::Denied, "the working directory leaves its workspace"),
        other => failed("open its working directory", other),
    })?;
    fchdir(directory).map_err(|e| failed("enter its working directory", e))
}

/// The listener goes to the keeper first: after the command's filter nobody here may make one (T-06, T-07).
fn lock_down(plan: &Plan<'_>, birth: &Lane) -> Result<(), CallError> {
    let private = plan.private.map_or(&[][..], |private| &private.rooms);
    let (command, reading) = (plan.launch.command, plan.waiting == Waiting::Changes);
    let grants = match plan.waiting {
        Waiting::Paths | Waiting::Changes => plan.bench.command_grants_behind_door(command, private, reading),
        Waiting::Metadata => plan.bench.command_grants(command, private),
    };
    let grants = grants.ok_or_else(|| failed("find it", Errno::EBADF))?;
    // Paths are opened for it, so it comes before calls with paths wait for the keeper, who cannot look into us yet.
    let shut = |why: &dyn std::fmt::Display| {
        CallError::new(ErrorCode::Unavailable, &format!("its jail could not be shut: {why}"))
    };
    let domain = enter_command_domain(&grants).map_err(|e| shut(&e))?;
    let (listener, supervised) = install_supervised(plan.waiting, plan.mediated).map_err(|e| {
        CallError::new(ErrorCode::Unavailable, &format!("a command's processes cannot be counted on this host: {e}"))
    })?;
    let sent = birth.send(&Birth::Listener, &[listener.as_fd()], true);
    sent.map_err(|e| failed("hand over its listener", e))?;
    drop(listener);
    lock_down_command_supervised(domain, supervised).map(drop).map_err(|e| shut(&e))
}

fn arguments(name: &str, launch: &Launch) -> Result<Vec<CString>, CallError> {
    std::iter::once(name).chain(launch.args.iter().map(|arg| arg.as_str())).map(c_string).collect()
}

/// Clean: what is listed here, then what the rule sets, then what the guest was allowed to set (T-08).
fn environment(plan: &Plan<'_>) -> Result<Vec<CString>, CallError> {
    let mut all: BTreeMap<&OsStr, &OsStr> = BTreeMap::new();
    let mut set = |key: &'static str, value| all.insert(OsStr::new(key), value);
    set("PATH", OsStr::new(PATH));
    set("LANG", OsStr::new("C.UTF-8"));
    let home = plan.private.and_then(PrivateDirectory::home);
    set("HOME", home.map_or(OsStr::new("/nonexistent"), |room| room.path.as_os_str()));
    if let Some(room) = plan.private.and_then(PrivateDirectory::temporary) {
        set("TMPDIR", room.path.as_os_str());
    }
    let rule = plan.bench.setup.commands.get(usize::from(plan.launch.command));
    let own = rule.map(|command| command.env.iter()).into_iter().flatten();
    for variable in plan.launch.env.iter().chain(own) {
        // The rule's come last, so that a guest cannot set what the rule sets.
        all.insert(OsStr::new(variable.key.as_str()), OsStr::new(variable.value.as_str()));
    }
    let pairs = all.into_iter().map(|(key, value)| [key.as_bytes(), b"=", value.as_bytes()].concat());
    pairs.map(|pair| CString::new(pair).map_err(|_| nul())).collect()
}

fn c_string(text: &str) -> Result<CString, CallError> {
    CString::new(text).map_err(|_| nul())
}

fn nul() -> CallError {
    CallError::new(ErrorCode::InvalidArgument, "an argument or a variable holds a NUL character")
}
