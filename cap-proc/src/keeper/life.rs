//! The life of a keeper: private directory → domain and scope → proof → fork the command → watch → end the tree → clean up.

use super::command;
use super::connections::Connections;
use super::door::{Door, Frame};
use super::gauge::Gauge;
use super::group::CommandGroup;
use super::kin::{Kin, end_children};
use super::private::PrivateDirectory;
use super::watch::{Over, Watch};
use crate::lane::Lane;
use crate::orders::{DoorState, Launch, Report, failed};
use crate::runner::{Bench, SCOPES_FROM_ABI, end_everything, watch_children};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{AccessFlags, Pid, faccessat, getppid};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::process::exit;
use warden_beneath::paths::OwnPaths;
use warden_beneath::tree::Tree;
use warden_beneath::turns::Turns;
use warden_beneath::world::World;
use warden_jail::Role;
use warden_jail::descriptors::sweep_descriptors;
use warden_jail::fork::{Forked, fork_into, fork_single_threaded};
use warden_jail::landlock::Domain;
use warden_jail::notify::{Mediated, Network, Signals, Waiting};
use warden_jail::system::SystemPaths;
use warden_jail::witness::ScopeWitness;
use warden_proto::msg::error::{CallError, ErrorCode};
use warden_proto::msg::proc::Toll;

/// RLIMIT_NOFILE of a keeper: files that its command writes, and what it needs itself. Less where the host allows less.
const OPEN_FILES: u64 = 4096;

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
    /// Its lane to whoever provides connections, where its rule names hosts.
    pub connections: Option<OwnedFd>,
    /// Its command's private directory, which has been made, or is none; or what came of making it.
    pub private: Result<Option<PrivateDirectory>, CallError>,
    /// The parent.
    pub runner: Pid,
}

/// The whole life, in the child of the runner's fork. Status 0 says to the runner that no process is left.
pub fn live(assignment: Assignment<'_>) -> ! {
    let Assignment { bench, launch, stdio, control, connections, private, runner } = assignment;
    let control = Lane::new(control);
    // Opened while the runner's domain still lets it: the keeper's own, in which it performs path calls, must not (T-07).
    let settled = private.and_then(|private| {
        let group = CommandGroup::make(bench)?;
        let numbers = stdio.iter().flatten().chain(&connections).map(AsRawFd::as_raw_fd);
        let held: Vec<RawFd> = numbers.chain(group.iter().flat_map(CommandGroup::numbers)).collect();
        let scoped = settle(bench, &launch, private.as_ref(), (&held, &control, runner))?;
        Ok((private, group, scoped))
    });
    let (private, group, scoped) = match settled {
        Ok(settled) => settled,
        Err(error) => {
            // Nothing has been forked; and the scope is not proved, so nothing may be ended.
            report(&control, &Report::Failed { error });
            exit(0)
        }
    };
    // T-07, T-12: whatever the command left behind, in whatever session, ends before its end is reported.
    let end = if scoped { end_everything } else { end_children };
    let begun = start(bench, &launch, stdio, private.as_ref(), group.as_ref(), (connections, scoped));
    let (over, toll) = match begun {
        Ok(mut watch) => {
            let over = watch.until_over(&control, bench.alive.0.as_fd());
            end();
            let toll = watch.toll(&over);
            (over, toll)
        }
        Err(error) => {
            end();
            (Err(error), Toll::default())
        }
    };
    // The same in one act, where the kernel can: nothing is missed that it was just making.
    let ran_out = group.as_ref().and_then(CommandGroup::end);
    let over = match ran_out {
        Some(error) => over.and(Err(error)),
        None => over,
    };
    let last = match over {
        Ok(Over::Ended { code, signal }) => Some(Report::Ended { code, signal, toll }),
        Ok(Over::Unwanted) => None,
        Err(error) => Some(Report::Failed { error }),
    };
    if let Some(last) = last {
        report(&control, &last);
    }
    if let Some(private) = private {
        private.empty();
    }
    exit(0)
}

/// Gives up what is the runner's, and enters a domain of its own: a signal scope, proved by what it forbids, and no more files
/// than this one command and its door may have (T-11). `false` where this kernel has no scope.
fn settle(
    bench: &Bench,
    launch: &Launch,
    private: Option<&PrivateDirectory>,
    (held, control, runner): (&[RawFd], &Lane, Pid),
) -> Result<bool, CallError> {
    let (workspaces, programs) = (bench.workspaces.iter(), bench.programs.iter().map(|(program, _)| program));
    let scratch = bench.scratch.iter().map(|(directory, _)| directory);
    let rest = [&bench.null, &bench.alive.0, &bench.turns];
    let rest = rest.into_iter().chain(private.into_iter().flat_map(PrivateDirectory::descriptors));
    let owned = workspaces.chain(programs).chain(scratch).chain(rest);
    let mut keep: Vec<i32> = owned.map(AsRawFd::as_raw_fd).chain(held.iter().copied()).collect();
    keep.extend(bench.system.iter().flat_map(SystemPaths::numbers));
    keep.extend([0, 1, 2, control.as_fd().as_raw_fd()]);
    // The runner's lane, the write end that says it lives, and the front's end of our own lane must not stay open here.
    sweep_descriptors(&keep).map_err(|e| failed("close the runner's descriptors", e))?;
    let witness = ScopeWitness::prepare();
    let Some(witness) = witness.filter(|_| getppid() == runner) else {
        return Err(failed("find its runner", Errno::ESRCH));
    };
    let grants = bench.command_grants(launch.command, private.map_or(&[][..], |private| &private.rooms));
    let grants = grants.ok_or_else(|| failed("find it", Errno::EBADF))?;
    let domain = Domain::build(Role::CapProcRunner, &grants).and_then(Domain::enter);
    let entered =
        domain.map_err(|e| CallError::new(ErrorCode::Unavailable, &format!("no command can be kept here: {e}")))?;
    let scoped = entered.abi >= SCOPES_FROM_ABI;
    if scoped && !witness.in_force() {
        let message = "this kernel's confinement of signals could not be proved, so ending a command could end others";
        return Err(CallError::new(ErrorCode::Unavailable, message));
    }
    prctl::set_child_subreaper(true).map_err(|e| failed("adopt its orphans", e))?;
    Ok(scoped)
}

/// Forks the command; its ends of the pipes are closed here.
fn start(
    bench: &Bench,
    launch: &Launch,
    stdio: [Option<OwnedFd>; 3],
    private: Option<&PrivateDirectory>,
    group: Option<&CommandGroup>,
    (connections, scoped): (Option<OwnedFd>, bool),
) -> Result<Watch, CallError> {
    let signals = watch_children().map_err(|e| failed("watch its children", e))?;
    let (birth, theirs) = Lane::pair().map_err(|e| failed("make a socket", e))?;
    let keeper = Pid::this();
    let unreadable = unreadable(bench, launch);
    if unreadable && bench.door == DoorState::Open {
        let message = "the command's program may be executed but not read, so the kernel hides its process from the supervisor \
                       that would have to open files for it; make the program readable";
        return Err(CallError::new(ErrorCode::Unavailable, message));
    }
    let gauge = Gauge::new(&bench.setup.bounds, private, unreadable);
    let gauge = gauge.map_err(|e| failed("prepare to count its memory", e))?;
    let door = door(bench, launch, private)?;
    let waiting = waiting(bench, &door);
    let forked = group.map_or_else(fork_single_threaded, |group| fork_into(group.as_fd()));
    match forked.map_err(|e| failed("fork", e))? {
        Forked::Parent { child } => {
            // The door makes files with modes of its own reckoning, and keeps those that are being written. It asks for leases
            // on them, and a broken one is told by SIGIO, which would end it.
            umask(Mode::empty());
            mask_lease_signal().map_err(|e| failed("mask a signal", e))?;
            let most = getrlimit(Resource::RLIMIT_NOFILE).map_or(OPEN_FILES, |(_, most)| OPEN_FILES.min(most));
            let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
            let kin = if scoped { Kin::Scope } else { Kin::Group(child) };
            let watch = Watch::new(child, signals, Lane::new(birth), launch.processes_max, (gauge, door), kin)?;
            Ok(watch.behind(waiting).with_connections(connections.map(Connections::new)))
        }
        Forked::Child => {
            let network = if connections.is_some() { Network::Connected } else { Network::Refused };
            let mediated = Mediated { network, signals: if scoped { Signals::Scope } else { Signals::Keeper } };
            let plan = command::Plan { bench, launch, stdio: &stdio, private, waiting, mediated, keeper };
            command::become_program(&plan, Lane::new(theirs))
        }
    }
}

/// Which of the command's calls are its keeper's.
///
/// Outside of a mount namespace of the task's own anybody may mount something in a workspace at any time, so there all opens
/// are judged.
fn waiting(bench: &Bench, door: &Door) -> Waiting {
    match bench.door {
        DoorState::Unneeded | DoorState::Impossible => Waiting::Metadata,
        DoorState::Open if bench.enclosure.is_inside() && !door.judges_reading() => Waiting::Changes,
        DoorState::Open => Waiting::Paths,
    }
}

fn mask_lease_signal() -> nix::Result<()> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGIO);
    set.thread_block()
}

/// Whether the command's program may be executed but not read: the kernel then hides its process from everybody.
fn unreadable(bench: &Bench, launch: &Launch) -> bool {
    let program = bench.programs.get(usize::from(launch.command));
    program.is_some_and(|(program, _)| {
        let path = format!("/proc/self/fd/{}", program.as_raw_fd());
        faccessat(AT_FDCWD, path.as_str(), AccessFlags::R_OK, AtFlags::AT_EACCESS).is_err()
    })
}

/// The rules and the directories that its path calls, and its changes of mode and times, are judged by.
fn door(bench: &Bench, launch: &Launch, private: Option<&PrivateDirectory>) -> Result<Door, CallError> {
    let broken = |why: &dyn std::fmt::Display| failed("prepare to judge its paths", why);
    let copy = |fd: &OwnedFd| fd.try_clone().map_err(|e| broken(&e));
    let mut trees = Vec::new();
    for (directory, setup) in bench.workspaces.iter().zip(bench.setup.workspaces.iter()) {
        trees.push(Tree::new(setup.clone(), copy(directory)?).map_err(|e| broken(&e))?);
    }
    let own = OwnPaths::open().map_err(|e| broken(&e))?;
    let turns = Turns::open(bench.turns.as_fd()).map_err(|e| broken(&e))?;
    let world = World { trees, own, growth_rule: bench.setup.growth_rule.to_string(), turns };
    let private = private.into_iter().flat_map(|private| &private.rooms).map(|room| copy(&room.directory));
    let private = private.collect::<Result<_, _>>()?;
    let bounds = &bench.setup.bounds;
    let (file_bytes, file_rule) = (bounds.file_bytes, bounds.file_rule.to_string());
    let (growth_max, held) = (launch.growth_max, bench.enclosure.is_inside());
    Door::new(Frame { world, private, growth_max, file_bytes, file_rule, held }).map_err(|e| broken(&e))
}

/// A front that is gone hears nothing, and nothing follows from that.
fn report(control: &Lane, report: &Report) {
    let _ = control.send(report, &[], true);
}
