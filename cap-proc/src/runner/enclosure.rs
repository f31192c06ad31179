//! The runner in namespaces of its own, with the process that stays outside: the guard.
//!
//! The runner forks into them as soon as it has what it was given (why a fork: `warden_jail::namespaces`). The child goes on
//! as the runner, process 1 of its pid namespace, so that its end is the end of every process of the task, whatever they
//! are (T-12). What was executed becomes the guard: it holds the number that the spawner knows, reads nothing from anybody,
//! waits for the runner's end and ends the same way. When the guard is gone the runner sees it, ends everything at once
//! and removes what commands left; when the runner was killed, the guard removes that. It is in a jail like the runner's,
//! with the scratch directory alone (T-03, T-06).

use super::life::{Bench, RunnerError};
use crate::keeper::remove_left;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, pipe2};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::exit;
use warden_jail::descriptors::sweep_descriptors;
use warden_jail::fork::Forked;
use warden_jail::namespaces::{self, NamespaceError, OwnIds};
use warden_jail::root::{self, RootError, Shown, View};
use warden_jail::{GrantKind, Grants, Role, life, process};
use warden_proto::msg::fs::WorkspaceSetup;
use warden_proto::msg::proc::Wish;

/// The runner's first words from inside, before any text.
const IS_IN: u8 = b'+';
const NOT_HERE: u8 = b'-';
const REFUSED: u8 = b'!';
/// Longest text that follows.
const WHY_MAX_BYTES: u64 = 512;

/// Where the runner works.
#[derive(Debug, Default)]
pub struct Enclosure {
    /// End-of-file when the guard is gone; only inside.
    pub guard: Option<OwnedFd>,
    /// Why it is not inside, where that was wanted.
    pub lost: Option<String>,
}

impl Enclosure {
    /// Whether the runner is process 1 of namespaces of its own.
    pub fn is_inside(&self) -> bool {
        self.guard.is_some()
    }

    /// What holds commands besides the jail that each has on every host.
    pub fn held(&self) -> &'static [&'static str] {
        if self.is_inside() { &namespaces::HELD } else { &[] }
    }
}

/// Why the runner is not inside.
#[derive(Debug, thiserror::Error)]
enum EntryError {
    #[error(transparent)]
    Namespaces(#[from] NamespaceError),
    #[error(transparent)]
    Root(#[from] RootError),
}

impl EntryError {
    /// T-02: a name that leads elsewhere by now is somebody's doing, and no reason to give commands less of a jail.
    fn word(&self) -> u8 {
        match self {
            Self::Root(RootError::Replaced { .. }) => REFUSED,
            _ => NOT_HERE,
        }
    }
}

/// Goes inside, if that is wanted and can be had. Does not return in the process that becomes the guard.
pub fn enter(bench: &mut Bench) -> Result<(), RunnerError> {
    if bench.setup.namespaces == Wish::Off {
        return Ok(());
    }
    let system = |what| move |errno| RunnerError::System(what, errno);
    let (told, tell) = pipe2(OFlag::O_CLOEXEC).map_err(system("make a pipe"))?;
    let (guard, life) = pipe2(OFlag::O_CLOEXEC).map_err(system("make a pipe"))?;
    let ids = OwnIds::read();
    let why = match namespaces::fork_apart() {
        Ok(Forked::Child) => {
            drop((told, life));
            return inside(bench, File::from(tell), guard, ids);
        }
        Ok(Forked::Parent { child }) => {
            drop((tell, guard));
            match heard(told) {
                (IS_IN, _) => stand_guard(child, bench, &life),
                (word, why) => {
                    let _ = namespaces::await_end(child);
                    if word == REFUSED {
                        return Err(RunnerError::Enclosure(why));
                    }
                    why
                }
            }
        }
        Err(error) => error.to_string(),
    };
    if bench.setup.namespaces == Wish::Require {
        return Err(RunnerError::Enclosure(why));
    }
    bench.enclosure.lost = Some(why);
    Ok(())
}

/// In the child: the rest of the way, said when it is over. A process that is half inside ends.
fn inside(bench: &mut Bench, mut tell: File, guard: OwnedFd, ids: OwnIds) -> Result<(), RunnerError> {
    if let Err(error) = settle(bench, ids) {
        let _ = tell.write_all(&[&[error.word()], error.to_string().as_bytes()].concat());
        exit(125)
    }
    bench.enclosure.guard = Some(guard);
    tell.write_all(&[IS_IN]).map_err(|e| RunnerError::System("find its guard", errno(&e)))
}

/// The maps, the root, and everything of the bench opened again in it.
fn settle(bench: &mut Bench, ids: OwnIds) -> Result<(), EntryError> {
    // By their names outside, where the descriptors are from.
    let shown = shown(bench)?;
    namespaces::settle(ids)?;
    let again = root::enter(Role::CapProcRunner, &shown)?;
    drop(shown);
    let workspaces = bench.workspaces.iter_mut();
    let programs = bench.programs.iter_mut().map(|(program, _)| program);
    let scratch = bench.scratch.iter_mut().map(|(directory, _)| directory);
    for (held, again) in workspaces.chain(programs).chain(scratch).zip(again) {
        // What has no name inside is a program, executed by the descriptor that the runner came with.
        if let Some(again) = again {
            *held = again;
        }
    }
    Ok(())
}

/// Everything with a name, in the order in which [`settle`] takes it back.
fn shown(bench: &Bench) -> Result<Vec<Shown<'_>>, RootError> {
    let view = |setup: &WorkspaceSetup| if setup.writable { View::ReadWrite } else { View::ReadOnly };
    let workspaces = bench.workspaces.iter().zip(bench.setup.workspaces.iter().map(view));
    let programs = bench.programs.iter().map(|(program, _)| (program, View::Program));
    let scratch = bench.scratch.iter().map(|(directory, _)| (directory, View::ReadWrite));
    workspaces.chain(programs).chain(scratch).map(|(object, view)| Shown::find(object.as_fd(), view)).collect()
}

/// In the parent: what the child says of its way in, or that it says nothing.
fn heard(told: OwnedFd) -> (u8, String) {
    let mut said = Vec::new();
    let read = File::from(told).take(WHY_MAX_BYTES).read_to_end(&mut said);
    match (read, said.split_first()) {
        (Ok(_), Some((word, why))) => (*word, String::from_utf8_lossy(why).into_owned()),
        _ => (NOT_HERE, "a process in new namespaces ended before it could be used".to_owned()),
    }
}

/// Waits for the runner's end, clears away what it could not, and ends as it did. `life` is what the runner sees close.
fn stand_guard(runner: Pid, bench: &Bench, life: &OwnedFd) -> ! {
    let scratch = bench.scratch.as_ref().map(|(directory, _)| directory);
    let keep: Vec<i32> =
        [0, 1, 2].into_iter().chain([life].into_iter().chain(scratch).map(AsRawFd::as_raw_fd)).collect();
    let grants =
        scratch.map_or(Grants::none(), |scratch| Grants::none().with(GrantKind::PrivateDirectory, scratch.as_fd()));
    // The front must see the runner's end by the lane's, so nobody else may hold it.
    let alone = sweep_descriptors(&keep).is_ok() && process::drop_capabilities().is_ok();
    if !alone || life::lock_down(Role::CapProcRunner, &grants).is_err() {
        // The runner cannot be jailed here either, and says why before it ends. One that could sees our end of the pipe close.
        if sweep_descriptors(&[0, 1, 2]).is_ok() {
            let _ = namespaces::await_end(runner);
        }
        exit(125)
    }
    let Ok(ended) = namespaces::await_end(runner) else { exit(125) };
    if ended.code != Some(0)
        && let Some(scratch) = scratch
    {
        clear_away(scratch, &bench.private_prefix());
    }
    if let Some(Ok(signal)) = ended.signal.map(Signal::try_from) {
        let _ = kill(Pid::this(), signal);
    }
    exit(ended.code.unwrap_or(125))
}

/// What the commands of a killed runner left: it is theirs, and not to be trusted (T-06).
fn clear_away(scratch: &OwnedFd, prefix: &str) {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let Ok(mut listing) = Dir::openat(scratch, ".", flags, Mode::empty()) else { return };
    for entry in listing.iter().flatten() {
        if entry.file_name().to_bytes().starts_with(prefix.as_bytes()) {
            let _ = remove_left(scratch, entry.file_name());
        }
    }
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}
