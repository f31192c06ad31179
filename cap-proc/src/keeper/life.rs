//! The life of a keeper: scope → proof → private directory → fork the command → watch → end the tree → clean up.

use super::command;
use super::gauge::Gauge;
use super::private::PrivateDirectory;
use super::watch::{Over, Watch};
use crate::lane::Lane;
use crate::orders::{Launch, Report, failed};
use crate::runner::{Bench, end_everything, watch_children};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::sys::prctl;
use nix::unistd::{AccessFlags, Pid, faccessat, getppid};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process::exit;
use warden_jail::Role;
use warden_jail::descriptors::sweep_descriptors;
use warden_jail::fork::{Forked, fork_single_threaded};
use warden_jail::landlock::{Domain, Refer};
use warden_jail::witness::ScopeWitness;
use warden_proto::msg::error::{CallError, ErrorCode};

/// One command to start and to keep.
#[derive(Debug)]
pub struct Assignment<'a> {
    /// What the runner holds.
    pub bench: &'a Bench,
    /// What the front asked for, checked against the bench.
    pub launch: Launch,
    /// The command's ends of its pipes.
    pub stdio: [Option<OwnedFd>; 3],
    /// The lane to the front.
    pub control: OwnedFd,
    /// The parent.
    pub runner: Pid,
}

/// The whole life, in the child of the runner's fork. Status 0 says to the runner that no process is left.
pub fn live(assignment: Assignment<'_>) -> ! {
    let Assignment { bench, launch, stdio, control, runner } = assignment;
    let control = Lane::new(control);
    if let Err(error) = settle(bench, &stdio, &control, runner) {
        // Nothing has been forked; and the scope is not proved, so nothing may be ended.
        report(&control, &Report::Failed { error });
        exit(0)
    }
    let private = match PrivateDirectory::make(bench) {
        Ok(private) => private,
        Err(errno) => {
            report(&control, &Report::Failed { error: failed("make its private directory", errno) });
            exit(0)
        }
    };
    let over = start(bench, &launch, stdio, private.as_ref())
        .and_then(|mut watch| watch.until_over(&control, bench.alive.0.as_fd(), &writable(bench, private.as_ref())));
    // T-07, T-12: whatever the command left behind, in whatever session, ends here, before its end is reported.
    end_everything();
    let last = match over {
        Ok(Over::Ended { code, signal }) => Some(Report::Ended { code, signal }),
        Ok(Over::Unwanted) => None,
        Err(error) => Some(Report::Failed { error }),
    };
    if let Some(last) = last {
        report(&control, &last);
    }
    if let (Some(private), Some((scratch, _))) = (private, &bench.scratch) {
        private.remove(scratch);
    }
    exit(0)
}

/// Gives up what is the runner's, and enters a signal scope of its own, proved by what it forbids.
fn settle(bench: &Bench, stdio: &[Option<OwnedFd>; 3], control: &Lane, runner: Pid) -> Result<(), CallError> {
    let (workspaces, programs) = (bench.workspaces.iter(), bench.programs.iter().map(|(program, _)| program));
    let scratch = bench.scratch.iter().map(|(directory, _)| directory);
    let rest = [&bench.null, &bench.alive.0];
    let owned = workspaces.chain(programs).chain(scratch).chain(rest).chain(stdio.iter().flatten());
    let mut keep: Vec<i32> = owned.map(AsRawFd::as_raw_fd).collect();
    keep.extend([0, 1, 2, control.as_fd().as_raw_fd()]);
    // The runner's lane, the write end that says it lives, and the front's end of our own lane must not stay open here.
    sweep_descriptors(&keep).map_err(|e| failed("close the runner's descriptors", e))?;
    let witness = ScopeWitness::prepare();
    let Some(witness) = witness.filter(|_| getppid() == runner) else {
        return Err(failed("find its runner", Errno::ESRCH));
    };
    let domain = Domain::scope_only(Role::CapProcRunner, Refer::Kept).and_then(Domain::enter);
    let entered =
        domain.map_err(|e| CallError::new(ErrorCode::Unavailable, &format!("no command can be kept here: {e}")))?;
    if entered.abi < 6 || !witness.in_force() {
        let message = "this kernel does not confine signals (Landlock ABI 6), so a command's processes could not be ended together";
        return Err(CallError::new(ErrorCode::Unavailable, message));
    }
    prctl::set_child_subreaper(true).map_err(|e| failed("adopt its orphans", e))
}

/// Forks the command; its ends of the pipes are closed here.
fn start(
    bench: &Bench,
    launch: &Launch,
    stdio: [Option<OwnedFd>; 3],
    private: Option<&PrivateDirectory>,
) -> Result<Watch, CallError> {
    let signals = watch_children().map_err(|e| failed("watch its children", e))?;
    let (birth, theirs) = Lane::pair().map_err(|e| failed("make a socket", e))?;
    let keeper = Pid::this();
    let gauge = Gauge::new(&bench.setup.bounds, private, unreadable(bench, launch));
    let gauge = gauge.map_err(|e| failed("prepare to count its memory", e))?;
    match fork_single_threaded().map_err(|e| failed("fork", e))? {
        Forked::Parent { child } => Watch::new(child, signals, Lane::new(birth), launch.processes_max, gauge),
        Forked::Child => {
            let plan = command::Plan { bench, launch, stdio: &stdio, private, keeper };
            command::become_program(&plan, Lane::new(theirs))
        }
    }
}

/// Whether the command's program may be executed but not read: the kernel then hides its process from everybody.
fn unreadable(bench: &Bench, launch: &Launch) -> bool {
    let program = bench.programs.get(usize::from(launch.command));
    program.is_some_and(|(program, _)| {
        let path = format!("/proc/self/fd/{}", program.as_raw_fd());
        faccessat(AT_FDCWD, path.as_str(), AccessFlags::R_OK, AtFlags::AT_EACCESS).is_err()
    })
}

/// Where the command may change modes and times.
fn writable<'a>(bench: &'a Bench, private: Option<&'a PrivateDirectory>) -> Vec<BorrowedFd<'a>> {
    let pairs = bench.workspaces.iter().zip(bench.setup.workspaces.iter());
    let workspaces = pairs.filter(|(_, writable)| **writable).map(|(directory, _)| directory.as_fd());
    workspaces.chain(private.map(|private| private.directory.as_fd())).collect()
}

/// A front that is gone hears nothing, and nothing follows from that.
fn report(control: &Lane, report: &Report) {
    let _ = control.send(report, &[], true);
}
