//! The door: what a command does by path, done by its keeper.
//!
//! Landlock can grant and cannot subtract, so it knows no deny rule, no `max_file` and no limit on growth. Where a workspace has
//! any of these, the command's own Landlock domain has no right in it, every call of the command that opens, makes, moves, cuts
//! or removes by a path waits at the keeper's listener, and the keeper does it instead: on its own copy of the arguments, judged
//! by cap-fs's rules (`warden_beneath`), with the descriptor put into the command's table. No such call is ever let go on, so
//! there is nothing to win by changing a path while it is looked at (T-02). Changes of mode, times and owner ([`metadata`]) and
//! extended attributes ([`attributes`]) go this way for every command, since Landlock governs none of them. Behind the door Landlock is the fence: the
//! command's domain without the workspaces, the keeper's with them and without the rest of the host (T-01, T-07).
//!
//! Runs in the keeper, which is outside of the command's domain and above it, and so may read its memory. It trusts the rules
//! it was set up with and the kernel; nothing that the command says.
//!
//! What it does not do: stat, readlink, access, chdir and reading the names in a directory that may be opened go past it, as
//! Landlock does not govern them either; they show names, sizes and times, never contents.

mod aliases;
mod ask;
mod attributes;
mod caller;
mod change;
mod denials;
mod growth;
mod judge;
mod links;
mod metadata;
mod open;
mod place;
mod probe;
mod straight;
mod threads;
mod waiters;

pub use probe::is_possible;

use aliases::Aliases;
use ask::Ask;
use caller::Caller;
use denials::Denials;
use growth::Growth;
use nix::fcntl::{OFlag, ResolveFlag};
use nix::sys::stat::FileStat;
use nix::unistd::Pid;
use open::How;
use std::cell::RefCell;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use threads::Threads;
use waiters::Waiters;
use warden_beneath::errors::shown;
use warden_beneath::links::DeniedInodes;
use warden_beneath::paths::{self, Facts};
use warden_beneath::tree::Tree;
use warden_beneath::world::World;
use warden_jail::notify::{Listener, Notice, NotifyError};
use warden_proto::Text;
use warden_proto::msg::error::{CallError, ErrorCode};
use warden_proto::msg::proc::Toll;

/// What a waiting call is answered.
enum Answer {
    /// A descriptor.
    Opened { opened: OwnedFd, close_on_exec: bool, at_once: bool },
    /// It was done.
    Done,
    /// So many bytes there are.
    Length(u32),
    /// A descriptor, once somebody else opens the other end.
    Waits { path: OwnedFd, flags: OFlag, close_on_exec: bool },
}

/// What a door is made of.
#[derive(Debug)]
pub struct Frame {
    /// The task's workspaces.
    pub world: World,
    /// The command's own directories.
    pub private: Vec<OwnedFd>,
    /// Bytes that files of the workspaces may grow by.
    pub growth_max: u64,
    /// Longest file that the command may make, bytes: what the kernel holds each of its processes to.
    pub file_bytes: u64,
    /// The rule of that.
    pub file_rule: String,
    /// Whether the workspaces lie where they lie for as long as the task lives: by mounts of its own namespace, which nobody
    /// can move.
    pub held: bool,
}

/// The door of one command.
#[derive(Debug)]
pub struct Door {
    world: World,
    /// The mount that each workspace lies on.
    mounts: Vec<u64>,
    /// Where each workspace lay at first, which is where it lies if it is `held` there.
    roots: Vec<Vec<u8>>,
    held: bool,
    /// Whether every workspace lets its links be followed.
    follows: bool,
    threads: Threads,
    /// See [`Facts::of`].
    blank: FileStat,
    /// Other mounts that show a workspace; asked, and read again, while a path is looked at.
    aliases: RefCell<Aliases>,
    links: DeniedInodes,
    growth: Growth,
    denials: Denials,
    waiters: Waiters,
    private: Vec<OwnedFd>,
    file_bytes: u64,
    file_rule: String,
    keeper: i32,
}

impl Door {
    /// In the keeper, once that is who it will be: `/proc` is asked as the process that asks here.
    pub fn new(frame: Frame) -> nix::Result<Self> {
        let Frame { world, private, growth_max, file_bytes, file_rule, held } = frame;
        let blank = paths::facts(world.own.as_fd())?;
        let mount = |tree: &Tree| Facts::of(tree.root.as_fd(), &blank).map(|facts| facts.mount);
        let mounts = world.trees.iter().map(mount).collect::<Result<_, _>>()?;
        let aliases = RefCell::new(Aliases::find(&world, held)?);
        let roots = place::roots(&world)?;
        let follows = world.trees.iter().all(|tree| tree.symlinks);
        Ok(Self {
            world,
            mounts,
            roots,
            held,
            follows,
            threads: Threads::open()?,
            aliases,
            blank,
            links: DeniedInodes::unasked(),
            growth: Growth::new(growth_max, file_bytes),
            denials: Denials::default(),
            waiters: Waiters::default(),
            private,
            file_bytes,
            file_rule,
            keeper: Pid::this().as_raw(),
        })
    }

    /// Whether opens to read need a judge: where something is hidden, links may not be followed, or another mount lies in a
    /// workspace, which guests do not cross. Elsewhere Landlock grants to read all that the policy does.
    pub fn judges_reading(&self) -> bool {
        let judged = |tree: &Tree| tree.rules.hide() || !tree.symlinks;
        self.world.trees.iter().any(judged) || self.aliases.borrow().has_inner()
    }

    /// Does what a waiting call asks for and answers it. `false` where nobody waits any more.
    pub fn serve(&mut self, listener: &Listener, notice: &Notice) -> Result<bool, NotifyError> {
        let answer = match Caller::new(listener, notice).and_then(|caller| self.attempt(&caller, notice)) {
            Ok(answer) => answer,
            Err(errno) => return listener.refuse_with(notice, errno),
        };
        match answer {
            Answer::Done => listener.done(notice),
            Answer::Length(bytes) => listener.done_with(notice, bytes),
            Answer::Opened { opened, close_on_exec, at_once } => {
                match listener.inject(notice, opened, close_on_exec, at_once) {
                    Ok(waited) => Ok(waited),
                    // Its table is full.
                    Err(errno) => listener.refuse_with(notice, errno),
                }
            }
            Answer::Waits { path, flags, close_on_exec } => {
                match self.waiters.wait(listener, notice, &path, flags, close_on_exec) {
                    Ok(()) => Ok(true),
                    Err(errno) => listener.refuse_with(notice, errno),
                }
            }
        }
    }

    fn attempt(&mut self, caller: &Caller<'_>, notice: &Notice) -> nix::Result<Answer> {
        match Ask::of(notice)? {
            Ask::Open { at, flags, mode } => self.open(caller, at, How { flags, mode }, ResolveFlag::empty()),
            Ask::OpenHow { at, how, size } => self.open_how(caller, at, how, size),
            Ask::Remove { at, directory } => self.remove(caller, at, directory),
            Ask::Rename { from, to, flags } => self.rename(caller, from, to, flags),
            Ask::Link { from, to, flags } => self.link(caller, from, to, flags),
            Ask::Symlink { text, at } => self.symlink(caller, text, at),
            Ask::MakeDirectory { at, mode } => self.make_directory(caller, at, mode),
            Ask::MakeNode { at, mode } => self.make_node(caller, at, mode),
            Ask::Truncate { at, length } => self.truncate(caller, at, length),
            Ask::Change { of, change } => self.change(caller, of, change),
            Ask::Allocate(space) => self.allocate(caller, space),
            Ask::Attribute { of, act } => self.attribute(caller, of, act),
        }
    }

    /// When to look again though nothing has come.
    pub fn next_look(&self) -> Option<Duration> {
        let waiting = (!self.waiters.is_empty()).then_some(growth::LOOK_STEP);
        self.growth.next_look().into_iter().chain(waiting).min()
    }

    /// Looks, if it is time. An error says which limit the tree is over.
    pub fn look(&mut self, listener: Option<&Listener>) -> Result<(), CallError> {
        if let Some(listener) = listener {
            self.waiters.look(listener);
        }
        self.growth.look_if_due();
        if !self.growth.is_over() {
            return Ok(());
        }
        let message = "the command made files of its workspaces grow by more than it may; it was ended";
        Err(CallError { rule: Text::cut(&self.world.growth_rule), ..CallError::new(ErrorCode::Limit, message) })
    }

    /// Children of the keeper's that are none of the command's.
    pub fn own_processes(&self) -> Vec<Pid> {
        self.waiters.pids()
    }

    /// A child of the keeper's has been reaped.
    pub fn reaped(&mut self, child: Pid) {
        self.waiters.ended(child);
    }

    /// Files that are as long as a file may be: the kernel ends who writes on (SIGXFSZ), and asks nobody.
    fn note_full_files(&mut self) {
        self.growth.look();
        for file in self.growth.take_full() {
            for tree in &self.world.trees {
                if let Ok(Some(path)) = self.world.own.beneath(tree.root.as_fd(), file.as_fd()) {
                    self.denials.note(&self.file_rule, &shown(&tree.label, path.as_bytes()));
                    break;
                }
            }
        }
    }

    /// The kernel has ended the command, or a shell's command, for the length of a file. Where no file of a workspace is that
    /// long it was another one.
    pub fn note_longest_file(&mut self) {
        let before = self.denials.count();
        self.note_full_files();
        if self.denials.count() == before {
            self.denials.note(&self.file_rule, "a file");
        }
    }

    /// What the command cost and was refused, once it has ended.
    pub fn toll(&mut self) -> Toll {
        self.note_full_files();
        let (grown, denied, denials) = (self.growth.total(), self.denials.list(), self.denials.count());
        Toll { grown, denied, denials, ..Toll::default() }
    }
}
