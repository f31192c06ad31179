//! The usher: has keepers born in mount namespaces of their own, where `/tmp` and `/dev/shm` are their command's alone (T-11).
//!
//! Forked by the runner inside its namespaces, before it shuts its jail: in a Landlock domain that rules files every mount is
//! refused, and in the runner's everything that comes after would be in it. So the usher is in none, keeps the one capability
//! that mounts take, over these namespaces alone, and has the runner's filter but for four calls. It reads one word of the
//! runner, who is of this program and under the same broker, and nothing of anybody else; a command's launch goes past it.
//! What it has born is a child of the runner's, as any keeper, gives up what the usher kept before it reads its launch, and is
//! in the keeper's domain before it forks anything (T-03, T-07).
//!
//! Keepers born so are not in the runner's signal scope, so at its end the runner lets go of the usher, who is in none and
//! ends everything in the pid namespace but process 1 (T-12).

use super::life::{Bench, RunnerError};
use crate::keeper::{self, Assignment, PrivateDirectory};
use crate::lane::{Lane, LaneError};
use crate::orders::{Launch, Seat, SeatRest, Seated, failed};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getppid};
use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::exit;
use warden_jail::descriptors::sweep_descriptors;
use warden_jail::fork::{Forked, fork_single_threaded};
use warden_jail::{life, namespaces, process, rooms};
use warden_proto::Text;
use warden_proto::msg::error::{CallError, ErrorCode};

/// The runner's end.
#[derive(Debug)]
pub struct Usher {
    lane: Lane,
    /// Its number.
    pub process: Pid,
    /// What holds commands by it.
    pub held: Vec<&'static str>,
}

/// What is a command's own: a place of [`rooms::PLACES`] in which nothing lies that is shown to commands, and a HOME. What lies in
/// one would be hidden by another, and shown on it it would be granted with it (T-01). HOME comes first.
pub fn own_places(bench: &Bench) -> Vec<&'static str> {
    let programs = bench.programs.iter().map(|(program, _)| program);
    let shown: Option<Vec<PathBuf>> =
        bench.workspaces.iter().chain(programs).map(|object| rooms::path_of(object.as_fd()).ok()).collect();
    let (Some(shown), Some((_, scratch))) = (shown, &bench.scratch) else { return Vec::new() };
    let scratch = Path::new(OsStr::from_bytes(scratch));
    let apart = |path: &PathBuf, place: &str| !path.starts_with(place) && !Path::new(place).starts_with(path);
    let free = |place: &str| Path::new(place).is_dir() && shown.iter().all(|path| apart(path, place));
    let home = Some(rooms::HOME).filter(|home| free(home));
    // Without one of its own, HOME lies in the scratch directory, which is then not to be hidden.
    let of_use = |place: &&str| free(place) && (home.is_some() || !scratch.starts_with(place));
    let places: Vec<&'static str> = rooms::PLACES.into_iter().filter(of_use).collect();
    if places.is_empty() { places } else { home.into_iter().chain(places).collect() }
}

impl Usher {
    /// Forks it; the runner is inside, and has not shut its jail.
    pub fn begin(bench: &mut Bench) -> Result<Self, RunnerError> {
        let system = |what| move |errno| RunnerError::System(what, errno);
        let (ours, theirs) = Lane::pair()?;
        let places = own_places(bench);
        let held = rooms::PLACES.into_iter().zip(rooms::HELD).filter(|(place, _)| places.contains(place));
        let held = held.map(|(_, held)| held).collect();
        match fork_single_threaded().map_err(|_| system("fork its usher")(Errno::EAGAIN))? {
            Forked::Parent { child } => Ok(Self { lane: Lane::new(ours), process: child, held }),
            Forked::Child => {
                drop(ours);
                serve(bench, Lane::new(theirs))
            }
        }
    }

    /// Its end of the lane, which must stay open.
    pub fn number(&self) -> i32 {
        self.lane.as_fd().as_raw_fd()
    }

    /// Has a keeper born, and gives it its launch.
    pub fn seat(
        &self,
        bench: &Bench,
        launch: &Launch,
        stdio: &[BorrowedFd<'_>],
        rest: &[BorrowedFd<'_>],
    ) -> Result<Pid, CallError> {
        let lost = |error: LaneError| failed("have its keeper born", error);
        let (ours, theirs) = Lane::pair().map_err(lost)?;
        let ours = Lane::new(ours);
        let seat = Seat { scoped: bench.scoped, door: bench.door };
        self.lane.send(&seat, &[theirs.as_fd()], true).map_err(lost)?;
        drop(theirs);
        let (Seated { keeper }, _) = receive(&self.lane).map_err(lost)?;
        let keeper = keeper.map_err(|why| CallError::new(ErrorCode::Unavailable, why.as_str()))?;
        // A keeper that has died meanwhile is reaped like any other.
        let _ =
            ours.send(launch, stdio, true).and_then(|()| ours.send(&SeatRest { connects: rest.len() > 1 }, rest, true));
        Ok(Pid::from_raw(keeper))
    }
}

fn receive<T: bincode::Decode<()>>(lane: &Lane) -> Result<(T, Vec<OwnedFd>), LaneError> {
    loop {
        let mut ready = [PollFd::new(lane.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(other) => return Err(other.into()),
        }
        if let Some(received) = lane.try_receive()? {
            return Ok(received);
        }
    }
}

/// The usher's whole life.
fn serve(bench: &mut Bench, runner: Lane) -> ! {
    let mut keep = bench.given();
    keep.extend([0, 1, 2, bench.alive.0.as_raw_fd(), runner.as_fd().as_raw_fd()]);
    // The runner's end, and the front's and the guard's, must be seen by its descriptors, so nobody else may hold these.
    let alone = sweep_descriptors(&keep).is_ok() && process::keep_mounting().is_ok();
    if !alone || getppid().as_raw() != 1 || life::lock_down_usher().is_err() {
        exit(125)
    }
    while let Ok((seat, descriptors)) = receive::<Seat>(&runner) {
        let Ok([own]) = <[OwnedFd; 1]>::try_from(descriptors) else { break };
        let keeper = match namespaces::fork_beside() {
            Ok(Forked::Parent { child }) => Ok(child.as_raw()),
            Ok(Forked::Child) => {
                drop(runner);
                be_seated(bench, seat, &Lane::new(own))
            }
            Err(error) => Err(Text::cut(&error.to_string())),
        };
        if runner.send(&Seated { keeper }, &[], true).is_err() {
            break;
        }
    }
    // T-12: the runner has let go. All but process 1 and this one, in one act; there is no number here for who is outside.
    let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
    exit(0)
}

/// In the child: places of its own, then as every keeper lives.
fn be_seated(bench: &mut Bench, seat: Seat, own: &Lane) -> ! {
    (bench.scoped, bench.door) = (seat.scoped, seat.door);
    let private = furnish(bench);
    if life::lock_down_born_keeper().is_err() {
        exit(125)
    }
    let received = receive::<Launch>(own).and_then(|launch| Ok((launch, receive::<SeatRest>(own)?)));
    // A runner that is gone has taken everything with it.
    let Ok(((launch, stdio), (SeatRest { connects }, rest))) = received else { exit(125) };
    let (mut pipes, mut rest) = (stdio.into_iter(), rest.into_iter());
    let stdio = launch.piped.map(|piped| if piped { pipes.next() } else { None });
    let (Some(control), connections) = (rest.next(), rest.next()) else { exit(125) };
    if connects != connections.is_some() {
        exit(125)
    }
    keeper::live(Assignment { bench, launch, stdio, control, connections, private, runner: Pid::from_raw(1) })
}

/// The private directory, and what of it is to be seen where.
fn furnish(bench: &mut Bench) -> Result<Option<PrivateDirectory>, CallError> {
    let places = own_places(bench);
    let moved = |error: warden_jail::root::RootError| {
        CallError::new(ErrorCode::Unavailable, &format!("the command has no place of its own: {error}"))
    };
    let workspaces = bench.workspaces.iter_mut();
    let scratch = bench.scratch.iter_mut().map(|(directory, _)| directory);
    for held in workspaces.chain(scratch) {
        *held = rooms::open_here(held.as_fd()).map_err(moved)?;
    }
    let made = PrivateDirectory::make_with_places(bench, &places);
    let Some(mut private) = made.map_err(|errno| failed("make its private directory", errno))? else {
        return Ok(None);
    };
    let execution = bench.setup.commands.iter().any(|command| command.exec_workspace);
    for room in private.rooms.iter_mut().filter(|room| places.iter().any(|place| room.path == *place)) {
        room.directory = rooms::show(room.directory.as_fd(), Path::new(&room.path), execution).map_err(moved)?;
    }
    Ok(Some(private))
}

/// Whether places can be a command's own at all.
pub fn is_of_use(bench: &Bench) -> bool {
    bench.enclosure.is_inside() && !own_places(bench).is_empty()
}
