//! The life of the runner, its order held by types.
//!
//! Descriptors over exec: 3 the lane to the front, 4 the setup document in a sealed memfd, then a directory for each
//! workspace, a program for each command, and the scratch directory if there is one.

use super::enclosure::{self, Enclosure};
use super::serve;
use super::usher::{self, Usher};
use crate::keeper::{self, Room, door_is_possible};
use crate::lane::{Lane, LaneError};
use crate::orders::{DoorState, Jail, Ready};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, readlink};
use nix::sys::prctl;
use nix::sys::signal::kill;
use nix::sys::stat::Mode;
use nix::unistd::{Pid, getppid, pipe2};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use warden_jail::system::SystemPaths;
use warden_jail::{GrantKind, Grants, Isolation, Life, LifeError, Privileges, Role};
use warden_proto::codec::{self, CodecError};
use warden_proto::limits::SETUP_MAX_BYTES;
use warden_proto::msg::life::{INHERITED_FD, LINK_FD};
use warden_proto::msg::proc::RunnerSetup;
use warden_proto::{List, Text, build_id, sys};

/// The runner could not get ready, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    /// The lane to the front broke.
    #[error("the lane to the front: {0}")]
    Lane(#[from] LaneError),
    /// The jail could not be shut.
    #[error(transparent)]
    Jail(#[from] LifeError),
    /// The setup document does not decode.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The setup is of another build, or too long.
    #[error("the setup document at descriptor 4 is not one of this build")]
    Setup,
    /// The signal scope is not in force, so that ending a tree could end a bystander.
    #[error("the runner's signal scope could not be proved, so no command may be started")]
    Unproven,
    /// It could not go where the policy wants it, or what it should take along has been replaced.
    #[error("the runner's namespaces: {0}")]
    Enclosure(String),
    /// Whoever waits for it outside of its namespaces is gone: nobody wants it any more.
    #[error("the runner's guard is gone")]
    GuardGone,
    /// Nobody is left who could end what it had born; this process's end does.
    #[error("the runner's usher is gone; everything was ended with it")]
    UsherGone,
    /// T-01: a file that may be read could be cut.
    #[error(
        "this kernel's Landlock (below ABI 3) does not govern truncation, and this host allows no supervisor that would"
    )]
    Truncation,
    /// A keeper has died without ending its tree first.
    #[error("keeper {0} died before its command's processes were ended; everything was ended with it")]
    KeeperLost(i32),
    /// A system call failed.
    #[error("the runner could not {0}: {1}")]
    System(&'static str, #[source] Errno),
}

/// What every command is made from, opened before the jail is shut.
#[derive(Debug)]
pub struct Bench {
    /// The broker's word.
    pub setup: RunnerSetup,
    /// Directories, in the order of the setup.
    pub workspaces: Vec<OwnedFd>,
    /// Programs, in the order of the setup; whether each is a script.
    pub programs: Vec<(OwnedFd, bool)>,
    /// The scratch directory and the path by which commands name it.
    pub scratch: Option<(OwnedFd, Vec<u8>)>,
    /// Whom commands with a network are connected by.
    pub provider: Option<Lane>,
    /// For what is no pipe.
    pub null: OwnedFd,
    /// End-of-file on the first when the runner is gone, because only it holds the second.
    pub alive: (OwnedFd, OwnedFd),
    /// Whether `/proc` hides what this process may not trace.
    pub proc_hides: bool,
    /// Whether the kernel keeps signals of commands among themselves (Landlock ABI 6).
    pub scoped: bool,
    /// Where the runner works.
    pub enclosure: Enclosure,
    /// Who has keepers born in mount namespaces of their own, where that is of use.
    pub usher: Option<Usher>,
    /// The system paths that every domain of the task is over, opened where the runner works.
    pub system: Option<SystemPaths>,
    /// The task's control group, if it has one.
    pub group: Option<OwnedFd>,
    /// By which the task's moves and walks take turns.
    pub turns: OwnedFd,
    /// What the spawner knows the runner by.
    pub number: Pid,
    /// Whether commands go through the door.
    pub door: DoorState,
}

/// Landlock governs truncation from here on.
const TRUNCATION_FROM_ABI: u8 = 3;

/// Landlock confines signals from here on.
pub const SCOPES_FROM_ABI: u8 = 6;

/// The whole life.
pub fn live() -> Result<(), RunnerError> {
    let front = Lane::new(inherited(LINK_FD)?);
    let result = shut(&front);
    if let Err(error) = &result {
        // The front turns this into `unavailable` for every command, with the reason.
        let ready = Ready { build_id: build_id(), jail: Err(Text::cut(&error.to_string())) };
        let _ = front.send(&ready, &[], true);
    }
    let (isolation, bench) = result?;
    let mut degraded = isolation.degraded;
    if bench.proc_hides && !bench.enclosure.is_inside() {
        degraded.push("/proc hides processes here: one that hides itself is not counted as the command's".to_owned());
    }
    if let Some(why) = &bench.enclosure.lost {
        degraded.push(format!(
            "commands are in no namespaces of their own here ({why}): they see names, sizes and times of files outside, and \
             arguments of other processes"
        ));
    }
    let degraded = List::first(degraded.iter().map(|text| Text::cut(text)));
    let places = bench.usher.iter().flat_map(|usher| usher.held.iter().copied());
    let held = bench.held().chain(bench.enclosure.held().iter().copied()).chain(places);
    let held = held.chain(keeper::held(bench.setup.group));
    let held = List::first(held.map(Text::cut));
    let jail = Jail { landlock_abi: isolation.landlock_abi, degraded, held, door: bench.door };
    front.send(&Ready { build_id: build_id(), jail: Ok(jail) }, &[], true)?;
    serve::serve(front, bench)
}

/// From exec to a shut and proven jail.
fn shut(front: &Lane) -> Result<(Isolation, Bench), RunnerError> {
    let mut keep = vec![0, 1, 2, front.as_fd().as_raw_fd()];
    let mut parent = None;
    let life = Life::connect(Role::CapProcRunner, || Ok::<_, RunnerError>(()))?.prepare(|()| {
        let mut bench = prepare()?;
        enclosure::enter(&mut bench)?;
        bench.system = Some(SystemPaths::open(Role::CapProcRunner).map_err(LifeError::from)?);
        if usher::is_of_use(&bench) {
            bench.usher = Some(Usher::begin(&mut bench)?);
        }
        parent = outer_parent(&bench)?;
        keep.extend(bench.numbers());
        Ok::<_, RunnerError>(bench)
    })?;
    // Inside, the guard's end is seen and not felt: what commands left is still to be removed then.
    let privileges = Privileges { parent: parent.map(Pid::as_raw), keep: Some(keep), ..Privileges::default() };
    let life = life.drop_privileges(&privileges)?.lock_down(|(), bench| bench.grants())?;
    let scoped = life.isolation().landlock_abi >= SCOPES_FROM_ABI;
    // Below that no signal is kept from anybody by the kernel: commands have their keepers send theirs, and nothing of
    // ours ends what it did not make.
    if scoped && parent.is_some_and(|parent| kill(parent, None) != Err(Errno::EPERM)) {
        return Err(RunnerError::Unproven);
    }
    // T-12: what a dead keeper leaves behind comes here, not to init.
    prctl::set_child_subreaper(true).map_err(|e| RunnerError::System("adopt orphans", e))?;
    let isolation = life.isolation().clone();
    let mut bench = life.serve(|(), bench| bench);
    // Tried in the jail that keepers will try it in.
    let cuts = isolation.landlock_abi < TRUNCATION_FROM_ABI;
    if bench.setup.needs_door() || cuts {
        bench.door = if door_is_possible() { DoorState::Open } else { DoorState::Impossible };
    }
    if cuts && bench.door != DoorState::Open {
        return Err(RunnerError::Truncation);
    }
    bench.scoped = scoped;
    Ok((isolation, bench))
}

/// T-07: before anything is ended by `kill(-1)`, that must be proved to reach nobody else. Outside, by a parent who can be
/// signalled before lock-down (EPERM alone could also come from one of another user) and not after. Process 1 of a pid
/// namespace has no parent in it: what is outside has no number here that a signal could be sent to.
fn outer_parent(bench: &Bench) -> Result<Option<Pid>, RunnerError> {
    let parent = getppid();
    if bench.enclosure.is_inside() {
        let alone = Pid::this().as_raw() == 1 && parent.as_raw() == 0;
        return if alone { Ok(None) } else { Err(RunnerError::Unproven) };
    }
    kill(parent, None).map_err(|_| RunnerError::Unproven)?;
    Ok(Some(parent))
}

fn prepare() -> Result<Bench, RunnerError> {
    let system = |what| move |errno| RunnerError::System(what, errno);
    let mut next = INHERITED_FD;
    let mut take = || {
        let number = next;
        next = next.saturating_add(1);
        inherited(number)
    };
    let setup = read_setup(take()?)?;
    let workspaces = setup.workspaces.iter().map(|_| take()).collect::<Result<Vec<_>, _>>()?;
    let mut programs = Vec::new();
    for _ in setup.commands.iter() {
        let program = take()?;
        let script = is_script(&program).map_err(system("look at a program"))?;
        programs.push((program, script));
    }
    let scratch = if setup.scratch {
        let directory = take()?;
        let path = readlink(own_path(&directory).as_str()).map_err(system("find its scratch directory"))?;
        Some((directory, path.as_bytes().to_vec()))
    } else {
        None
    };
    let group = if setup.group.is_some() { Some(take()?) } else { None };
    let turns = take()?;
    let provider = if setup.connects { Some(Lane::new(take()?)) } else { None };
    let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()).map_err(system("open /dev/null"))?;
    let alive = pipe2(OFlag::O_CLOEXEC).map_err(system("make a pipe"))?;
    // A `/proc` that is mounted for a pid namespace of ours hides nothing of it.
    let proc_hides = !std::path::Path::new(&format!("/proc/{}", getppid())).exists();
    let (enclosure, number) = (Enclosure::default(), Pid::this());
    Ok(Bench {
        setup,
        workspaces,
        programs,
        scratch,
        provider,
        null,
        alive,
        proc_hides,
        scoped: false,
        enclosure,
        usher: None,
        system: None,
        group,
        turns,
        number,
        door: DoorState::Unneeded,
    })
}

impl Bench {
    /// Every descriptor of the bench; any other is swept.
    fn numbers(&self) -> Vec<RawFd> {
        let rest = [&self.alive.0, &self.alive.1].into_iter().chain(&self.enclosure.guard);
        let rest = rest.map(AsRawFd::as_raw_fd).chain(self.provider.iter().map(|lane| lane.as_fd().as_raw_fd()));
        let owned = rest.chain(self.usher.iter().map(Usher::number));
        self.given().into_iter().chain(owned).collect()
    }

    /// Of these, what the runner was given for commands, and no end of anybody's that tells another of its own end.
    pub fn given(&self) -> Vec<RawFd> {
        let programs = self.programs.iter().map(|(program, _)| program);
        let scratch = self.scratch.iter().map(|(directory, _)| directory);
        let rest = [&self.null, &self.turns].into_iter().chain(&self.group);
        let owned = self.workspaces.iter().chain(programs).chain(scratch).chain(rest).map(AsRawFd::as_raw_fd);
        owned.chain(self.system.iter().flat_map(SystemPaths::numbers)).collect()
    }

    /// What holds every command here, in words of results and records. Without a count of processes there is none.
    fn held(&self) -> impl Iterator<Item = &'static str> + use<> {
        let signals = if self.scoped { "signal scope" } else { "signals by the keeper" };
        let door = match self.door {
            DoorState::Open => Some("door"),
            DoorState::Unneeded => Some("door: not needed"),
            // Nothing holds there, and `degraded` says so of each command.
            DoorState::Impossible => None,
        };
        ["process count", "memory samples", signals].into_iter().chain(door)
    }

    /// How the names of this runner's private directories begin; another runner may work in the same scratch directory,
    /// and the numbers of keepers begin anew in each pid namespace.
    pub fn private_prefix(&self) -> String {
        format!("command-{}-", self.number)
    }

    /// What any command of the task may have.
    pub fn grants(&self) -> Grants<'_> {
        let exec = self.setup.commands.iter().any(|command| command.exec_workspace);
        let mut grants = self.workspace_grants(exec);
        for (program, _) in &self.programs {
            grants = grants.with(GrantKind::Program, program.as_fd());
        }
        if let Some((directory, _)) = &self.scratch {
            grants = grants.with(GrantKind::PrivateDirectory, directory.as_fd());
            if exec {
                grants = grants.with(GrantKind::PrivateExecute, directory.as_fd());
            }
        }
        // The runner's alone: a keeper has opened what it needs there before it enters a domain of its own (T-07).
        match &self.group {
            Some(group) => grants.with(GrantKind::ControlGroup, group.as_fd()),
            None => grants,
        }
    }

    /// What one command may have, and therefore its keeper: the system, its program, its private directory, the workspaces.
    pub fn command_grants<'b>(&'b self, command: u16, private: &'b [Room]) -> Option<Grants<'b>> {
        let (program, _) = self.programs.get(usize::from(command))?;
        let exec = self.setup.commands.get(usize::from(command))?.exec_workspace;
        Some(with_own(self.workspace_grants(exec), program, private, exec))
    }

    /// The same for the command's own domain where it goes through the door: no workspace, or all of them to be read where
    /// `reading` needs no judge. Where programs of workspaces may run, the kernel reads them itself; every open of the
    /// command's own waits at the door, so nothing else is read by that.
    pub fn command_grants_behind_door<'b>(
        &'b self,
        command: u16,
        private: &'b [Room],
        reading: bool,
    ) -> Option<Grants<'b>> {
        let (program, _) = self.programs.get(usize::from(command))?;
        let exec = self.setup.commands.get(usize::from(command))?.exec_workspace;
        let kinds = [(GrantKind::WorkspaceReadOnly, reading), (GrantKind::WorkspaceRun, exec)];
        let kinds = kinds.into_iter().filter_map(|(kind, given)| given.then_some(kind));
        let all = kinds.flat_map(|kind| self.workspaces.iter().map(move |directory| (kind, directory.as_fd())));
        let own = with_own(self.system_grants(), program, private, exec);
        Some(all.fold(own, |grants, (kind, directory)| grants.with(kind, directory)))
    }

    /// The system, and nothing of the task's.
    fn system_grants(&self) -> Grants<'_> {
        match &self.system {
            Some(system) => Grants::none().over(system),
            None => Grants::none(),
        }
    }

    /// The workspaces with their modes, and with execution in them or not.
    pub fn workspace_grants(&self, exec: bool) -> Grants<'_> {
        let mut grants = self.system_grants();
        for (directory, workspace) in self.workspaces.iter().zip(self.setup.workspaces.iter()) {
            let kind = if workspace.writable { GrantKind::WorkspaceReadWrite } else { GrantKind::WorkspaceReadOnly };
            grants = grants.with(kind, directory.as_fd());
            if exec {
                grants = grants.with(GrantKind::WorkspaceExecute, directory.as_fd());
            }
        }
        grants
    }
}

fn with_own<'b>(grants: Grants<'b>, program: &'b OwnedFd, private: &'b [Room], exec: bool) -> Grants<'b> {
    let mut grants = grants.with(GrantKind::Program, program.as_fd());
    for room in private {
        grants = grants.with(GrantKind::PrivateDirectory, room.directory.as_fd());
        if exec {
            grants = grants.with(GrantKind::PrivateExecute, room.directory.as_fd());
        }
    }
    grants
}

fn inherited(number: RawFd) -> Result<OwnedFd, RunnerError> {
    sys::inherited(number).map_err(|e| RunnerError::System("find a descriptor that the spawner should have passed", e))
}

fn own_path(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn read_setup(document: OwnedFd) -> Result<RunnerSetup, RunnerError> {
    let mut bytes = Vec::new();
    let most = u64::try_from(SETUP_MAX_BYTES).unwrap_or(u64::MAX);
    let mut file = File::from(document);
    std::io::Seek::rewind(&mut file).map_err(|_| RunnerError::Setup)?;
    file.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(|_| RunnerError::Setup)?;
    let setup: RunnerSetup = codec::decode_document(&bytes)?;
    if setup.build_id == build_id() { Ok(setup) } else { Err(RunnerError::Setup) }
}

/// Whether a program begins with `#!`. Its descriptor may be a path only, so it is opened again.
fn is_script(program: &OwnedFd) -> nix::Result<bool> {
    let opened = open(own_path(program).as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty());
    let mut file = match opened {
        Ok(opened) => File::from(opened),
        // May be executed but not read: then it is no script that could run.
        Err(Errno::EACCES) => return Ok(false),
        Err(other) => return Err(other),
    };
    let mut first = [0_u8; 2];
    Ok(file.read_exact(&mut first).is_ok() && first == *b"#!")
}
