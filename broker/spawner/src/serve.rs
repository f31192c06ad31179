//! The spawner's loop: commands of the broker, ends of children, nothing else.

use crate::SpawnerError;
use crate::binaries::Binaries;
use crate::birth;
use crate::child::{StartError, execute, raise_descriptor_limit};
use crate::children::{self, Children};
use crate::groups::Groups;
use crate::signals;
use crate::template::{Template, TemplateBounds};
use crate::workspaces::Workspaces;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Pid, getppid, setsid};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};
use warden_jail::process::{self, abort_on_panic};
use warden_proto::Text;
use warden_proto::link_a::{Command, Event, Inherit, LinkA, LinkAError, Report, TAKEN_UNSAID_MAX};
use warden_proto::msg::life::Role;

struct Spawner {
    link: LinkA,
    binaries: Binaries,
    template: Option<Template>,
    children: Children,
    workspaces: Workspaces,
    groups: Groups,
    bounds: TemplateBounds,
    /// Commands taken since the last report.
    taken: u32,
}

/// Runs until the broker is gone; then everything the spawner made is gone too.
pub fn run(
    link: LinkA,
    binaries: Binaries,
    groups: Groups,
    bounds: TemplateBounds,
    broker: Pid,
) -> Result<(), SpawnerError> {
    let signals = settle(broker)?;
    let (children, workspaces) = (Children::default(), Workspaces::default());
    let mut spawner = Spawner { link, binaries, template: None, children, workspaces, groups, bounds, taken: 0 };
    // Warm before it is asked for: a template that cannot start is reported with the first worker.
    if bounds.warm {
        spawner.template = Template::start(&spawner.binaries).ok();
    }
    let result = spawner.serve(&signals);
    spawner.end_all(&signals);
    match result {
        // A channel that fails is one whose broker has just gone: there is nobody to tell, and the terminal is not ours.
        Err(SpawnerError::Link(LinkAError::Closed | LinkAError::Channel(_))) | Ok(()) => Ok(()),
        other => other,
    }
}

/// First acts after the fork: unreadable, a session of its own, and no life after the broker's.
fn settle(broker: Pid) -> Result<SignalFd, SpawnerError> {
    let step = |what| move |errno| SpawnerError::System(what, errno);
    birth::harden().map_err(step("make itself unreadable"))?;
    abort_on_panic();
    // Never let through again: what ends the spawner is the end of its broker.
    signals::hold().map_err(step("hold signals"))?;
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(step("set its death signal"))?;
    if getppid() != broker {
        return Err(SpawnerError::BrokerGone);
    }
    // T-12: a keeper, worker or command that is orphaned comes here to be ended and reaped, not to init.
    prctl::set_child_subreaper(true).map_err(step("adopt orphans"))?;
    setsid().map_err(step("lead a session"))?;
    raise_descriptor_limit().map_err(step("raise its limit of descriptors"))?;
    give_up()?;
    std::env::set_current_dir("/").map_err(|_| SpawnerError::System("change to /", Errno::EIO))?;
    let mut set = SigSet::empty();
    set.add(Signal::SIGCHLD);
    set.thread_block().map_err(step("block SIGCHLD"))?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(step("watch its children"))
}

/// T-03: what the spawner can do without. It gives up every capability, in every set, and what exec could give it.
///
/// What it keeps, and why:
/// - its uid, which is all that it needs to kill what it made: every process of ours has it, and none changes it;
/// - no Landlock domain and no signal scope: its children's could only narrow from its own, and it alone signals them;
/// - no seccomp filter: children inherit it, and theirs are allowlists that deny more; it would cost each of their calls;
/// - fork, exec, and the descriptors of the programs and workspaces: they are its work.
///
/// A workspace beneath a folder that only another user can pass is not opened, as root neither: the helper that would work
/// in it has no capability either.
fn give_up() -> Result<(), SpawnerError> {
    process::no_new_privs()?;
    process::drop_capabilities()?;
    Ok(())
}

/// What everything that was killed gets to be gone; less than the broker waits for the spawner.
const LAST_ENDS: Duration = Duration::from_millis(1500);

impl Spawner {
    /// T-12: kills everything, and reaps it: what is left would be process 1's to reap, and in a container that is often one
    /// that reaps nothing. A keeper that still clears away what its command made is not waited for past the bound.
    fn end_all(&mut self, signals: &SignalFd) {
        self.children.kill_all();
        self.groups.remove_all();
        if let Some(template) = self.template.take() {
            template.end();
        }
        let until = Instant::now() + LAST_ENDS;
        loop {
            let _ = self.children.reap();
            let _ = self.children.end_orphans(None);
            let left = until.saturating_duration_since(Instant::now());
            if children::none_left() || left.is_zero() {
                return;
            }
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let _ = poll(&mut [PollFd::new(signals.as_fd(), PollFlags::POLLIN)], timeout);
            while let Ok(Some(_)) = signals.read_signal() {}
        }
    }

    fn serve(&mut self, signals: &SignalFd) -> Result<(), SpawnerError> {
        loop {
            let mut ready =
                [PollFd::new(self.link.as_fd(), PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
            match poll(&mut ready, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(SpawnerError::System("wait", errno)),
            }
            let children_ended = ready[1].any().unwrap_or(true);
            if children_ended {
                while let Ok(Some(_)) = signals.read_signal() {}
                self.reap()?;
            }
            while let Some((command, descriptors)) = self.link.receive::<Command>(false)? {
                self.taken = self.taken.saturating_add(1);
                self.obey(command, descriptors)?;
                if self.taken >= TAKEN_UNSAID_MAX {
                    self.say(None)?;
                }
            }
        }
    }

    /// A report; with each goes how many commands were taken.
    fn say(&mut self, event: Option<Event>) -> Result<(), LinkAError> {
        let taken = std::mem::take(&mut self.taken);
        self.link.send(&Report { taken, event }, &[])
    }

    fn reap(&mut self) -> Result<(), SpawnerError> {
        let (events, others) = self.children.reap();
        for event in events {
            if let Event::Exited { child, .. } = event {
                self.groups.remove(child);
            }
            self.say(Some(event))?;
        }
        if self.template.as_ref().is_some_and(|t| others.contains(&t.pid)) {
            self.template = None;
        }
        let template = self.template.as_ref().map(|template| template.pid);
        // Where they cannot be listed no runner was started.
        let _ = self.children.end_orphans(template);
        Ok(())
    }

    fn obey(&mut self, command: Command, mut descriptors: Vec<OwnedFd>) -> Result<(), SpawnerError> {
        match command {
            Command::OpenWorkspace { id, path } => {
                let event = self.workspaces.open(id, path.as_str());
                self.say(Some(event))?;
            }
            Command::Hold { id } => {
                if let Some(fd) = descriptors.pop() {
                    self.workspaces.hold(id, fd);
                }
            }
            Command::ForkWorker { child } => {
                let result = descriptors.pop().ok_or(StartError { step: "find the link", errno: Errno::EBADF });
                let result = result.and_then(|link| self.fork_worker(&link));
                self.report(child, result)?;
            }
            Command::Exec { child, role, inherit } => {
                let mut all = Vec::new();
                let result = descriptors.pop().ok_or(StartError { step: "find the link", errno: Errno::EBADF });
                let result = result.and_then(|link| {
                    all.push(link);
                    for item in inherit.iter() {
                        let fd = match item {
                            Inherit::Group => self.groups.make(child),
                            other => self.workspaces.take(*other),
                        };
                        all.push(fd.map_err(|errno| StartError { step: "find a descriptor", errno })?);
                    }
                    if role == Role::CapProcRunner {
                        // T-12: what commands leave behind must be found.
                        children::of_this_process()
                            .map_err(|errno| StartError { step: "list its children in /proc", errno })?;
                    }
                    let (program, arguments) = self.binaries.of(role);
                    execute(program, arguments, std::mem::take(&mut all))
                });
                if result.is_err() {
                    self.groups.remove(child);
                }
                self.report(child, result)?;
            }
            Command::Kill { child } => self.children.kill(child),
            Command::Release { id } => self.workspaces.release(id),
        }
        Ok(())
    }

    fn fork_worker(&mut self, link: &OwnedFd) -> Result<Pid, StartError> {
        if self.template.as_ref().is_some_and(|template| template.spent(&self.bounds))
            && let Some(old) = self.template.take()
        {
            old.end();
        }
        let template = match &mut self.template {
            Some(template) => template,
            none => none.insert(Template::start(&self.binaries)?),
        };
        let result = template.fork(link);
        if result.is_err()
            && let Some(broken) = self.template.take()
        {
            broken.end();
        }
        result
    }

    fn report(&mut self, child: u32, result: Result<Pid, StartError>) -> Result<(), SpawnerError> {
        let event = match result {
            Ok(pid) => {
                self.children.add(child, pid);
                Event::Started { child, pid: u32::try_from(pid.as_raw()).unwrap_or(0) }
            }
            Err(error) => Event::StartFailed { child, step: Text::cut(error.step), errno: error.errno as i32 },
        };
        self.say(Some(event))?;
        Ok(())
    }
}
