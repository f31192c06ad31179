//! The runner's loop: launches of the front, ends of keepers, nothing else.
//!
//! A keeper that ends otherwise than by its own will may have left processes behind; they are the runner's to end, and
//! it cannot tell them from those of other keepers, so everything ends and the broker starts a new helper (T-12). What
//! ended keepers did not come to remove of their commands' files, the runner removes before it ends itself (T-06).

use super::life::{Bench, RunnerError};
use crate::keeper::{self, Assignment, PrivateDirectory, end_children, remove_group, remove_left};
use crate::lane::{Lane, LaneError};
use crate::orders::{DoorState, Launch, Launched, NO_WORKSPACE, failed};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::TimeSpec;
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};
use warden_jail::fork::{Forked, fork_single_threaded, reap as reap_child};
use warden_proto::msg::connect::ConnectLane;
use warden_proto::msg::error::{CallError, ErrorCode};

/// What keepers get to end their trees when the front is gone, before the runner ends all of them.
const KEEPER_GRACE: Duration = Duration::from_millis(400);
/// Between two looks at processes that are being ended.
const END_STEP: Duration = Duration::from_millis(1);

/// Serves until the front is gone; no process of the task is left when this returns.
pub fn serve(front: Lane, mut bench: Bench) -> Result<(), RunnerError> {
    let signals = watch_children().map_err(|e| RunnerError::System("watch its children", e))?;
    let mut keepers = BTreeSet::new();
    let result = wait_and_launch(&front, &bench, &signals, &mut keepers);
    // Keepers see the end of the front by themselves and clean up; what is slow is ended here.
    let grace = Instant::now() + if result.is_ok() { KEEPER_GRACE } else { Duration::ZERO };
    while reap(&mut keepers, &bench).is_ok() && !keepers.is_empty() {
        let left = grace.saturating_duration_since(Instant::now());
        if left.is_zero() || !child_ended(&signals, left) {
            break;
        }
    }
    // Process 1 reaches nobody outside of its namespace, with a scope or without. Keepers that its usher had born are not in its
    // scope; where the usher is gone, the end of process 1 is theirs, and the guard removes what is left.
    if let Some(usher) = bench.usher.take() {
        let lost = matches!(result, Err(RunnerError::UsherGone));
        drop(usher);
        if lost {
            return result;
        }
    }
    if bench.scoped || bench.enclosure.is_inside() {
        end_everything()
    } else {
        end_children()
    }
    if let Some((scratch, _)) = &bench.scratch {
        remove_left_files(scratch, &bench, &keepers);
    }
    result
}

/// Waits until a child has ended; not longer than `patience`.
fn child_ended(signals: &SignalFd, patience: Duration) -> bool {
    let mut ready = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
    let ended = match ppoll(&mut ready, Some(TimeSpec::from_duration(patience)), None) {
        Ok(ready) => ready > 0,
        Err(errno) => errno == Errno::EINTR,
    };
    while let Ok(Some(_)) = signals.read_signal() {}
    ended
}

/// Nothing is left that could change these. The broker waits so long for the runner's end, and says what stays.
fn remove_left_files(scratch: &OwnedFd, bench: &Bench, keepers: &BTreeSet<Pid>) {
    for keeper in keepers {
        if let Ok(name) = PrivateDirectory::name_of(bench, *keeper) {
            let _ = remove_left(scratch, &name);
        }
    }
}

fn wait_and_launch(
    front: &Lane,
    bench: &Bench,
    signals: &SignalFd,
    keepers: &mut BTreeSet<Pid>,
) -> Result<(), RunnerError> {
    loop {
        if !wait(front, bench, signals).map_err(|errno| RunnerError::System("wait", errno))? {
            return Err(RunnerError::GuardGone);
        }
        while let Ok(Some(_)) = signals.read_signal() {}
        reap(keepers, bench)?;
        match front.try_receive::<Launch>() {
            Ok(None) => {}
            Ok(Some((launch, descriptors))) => {
                let process = launch.process;
                match start(bench, launch, descriptors, keepers) {
                    Ok(control) => front.send(&Launched { process, result: Ok(()) }, &[control.as_fd()], true)?,
                    Err(error) => front.send(&Launched { process, result: Err(error) }, &[], true)?,
                }
            }
            Err(LaneError::Closed) => return Ok(()),
            Err(other) => return Err(other.into()),
        }
    }
}

/// Waits for something to do. Says whether the guard is still there; where there is none, the death signal tells.
fn wait(front: &Lane, bench: &Bench, signals: &SignalFd) -> nix::Result<bool> {
    let mut ready =
        vec![PollFd::new(front.as_fd(), PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
    ready.extend(bench.enclosure.guard.as_ref().map(|guard| PollFd::new(guard.as_fd(), PollFlags::POLLIN)));
    match ppoll(&mut ready, None, None) {
        Ok(_) => Ok(ready.get(2).and_then(PollFd::any) != Some(true)),
        Err(Errno::EINTR) => Ok(true),
        Err(other) => Err(other),
    }
}

/// SIGCHLD as something that can be waited for beside the lane.
pub fn watch_children() -> nix::Result<SignalFd> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGCHLD);
    set.thread_block()?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

/// Reaps keepers, and orphans of keepers that are gone.
fn reap(keepers: &mut BTreeSet<Pid>, bench: &Bench) -> Result<(), RunnerError> {
    while let Ok(Some(ended)) = reap_child() {
        if ended.code == Some(0) {
            keepers.remove(&ended.child);
            remove_group(bench, ended.child);
            // Emptied by the keeper, whose own domain ends at the directory.
            if let (Some((scratch, _)), Ok(name)) = (&bench.scratch, PrivateDirectory::name_of(bench, ended.child)) {
                let _ = remove_left(scratch, &name);
            }
        } else if bench.usher.as_ref().is_some_and(|usher| usher.process == ended.child) {
            return Err(RunnerError::UsherGone);
        } else if keepers.contains(&ended.child) {
            // It stays in the set: its command's files are still there.
            return Err(RunnerError::KeeperLost(ended.child.as_raw()));
        }
    }
    Ok(())
}

/// Ends all that is in the caller's signal scope but itself, and reaps it. The scope must have been proved: outside of
/// one this would end everything the user runs (T-07).
pub fn end_everything() {
    loop {
        let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
        match reap_child() {
            Err(_) => return,
            Ok(None) => std::thread::sleep(END_STEP),
            Ok(Some(_)) => {}
        }
    }
}

/// A lane of the command's own to whoever provides connections, where its rule names hosts. Others would hear what is not
/// theirs on a lane that several held.
fn connections(bench: &Bench, launch: &Launch) -> Result<Option<OwnedFd>, CallError> {
    let command = bench.setup.commands.get(usize::from(launch.command));
    if !command.is_some_and(|command| command.network) {
        return Ok(None);
    }
    let missing =
        || CallError::new(ErrorCode::Unavailable, "nobody provides the connections that the command's rule allows");
    let provider = bench.provider.as_ref().ok_or_else(missing)?;
    let (ours, theirs) = Lane::pair().map_err(|e| failed("make a socket", e))?;
    let lane = ConnectLane { process: launch.process, command: launch.command };
    // Without waiting: a provider that does not listen must not keep the runner from ending anything (T-06).
    provider.send(&lane, &[theirs.as_fd()], false).map_err(|_| missing())?;
    Ok(Some(ours))
}

/// Forks a keeper for one launch and returns the front's end of its control lane.
fn start(
    bench: &Bench,
    launch: Launch,
    descriptors: Vec<OwnedFd>,
    keepers: &mut BTreeSet<Pid>,
) -> Result<OwnedFd, CallError> {
    let index = usize::from(launch.command);
    let known = bench.programs.get(index).is_some() && bench.setup.commands.get(index).is_some();
    let place = launch.workspace == NO_WORKSPACE || bench.workspaces.get(usize::from(launch.workspace)).is_some();
    let pipes = launch.piped.iter().filter(|piped| **piped).count();
    let unchecked = bench.setup.commands.get(index).is_some_and(|command| command.unchecked);
    if bench.door == DoorState::Impossible && !unchecked {
        // The front has said so before, in more words.
        return Err(CallError::new(ErrorCode::Unavailable, "this host allows no door, which the command needs"));
    }
    if !known || !place || pipes != descriptors.len() || launch.processes_max == 0 {
        return Err(CallError::new(ErrorCode::Internal, "the front asked for something the runner was not set up for"));
    }
    let connections = connections(bench, &launch)?;
    let (control, theirs) = Lane::pair().map_err(|e| failed("make its control socket", e))?;
    if let Some(usher) = &bench.usher {
        let stdio: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        let rest: Vec<_> = [&theirs].into_iter().chain(&connections).map(AsFd::as_fd).collect();
        keepers.insert(usher.seat(bench, &launch, &stdio, &rest)?);
        return Ok(control);
    }
    let mut pipes = descriptors.into_iter();
    let stdio = launch.piped.map(|piped| if piped { pipes.next() } else { None });
    let runner = Pid::this();
    match fork_single_threaded().map_err(|e| failed("fork its keeper", e))? {
        Forked::Parent { child } => {
            keepers.insert(child);
            Ok(control)
        }
        Forked::Child => {
            let made = PrivateDirectory::make(bench);
            let private = made.map_err(|errno| failed("make its private directory", errno));
            keeper::live(Assignment { bench, launch, stdio, control: theirs, connections, private, runner })
        }
    }
}
