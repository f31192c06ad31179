//! What a keeper waits for while its command runs.

use super::believed::Believed;
use super::connections::Connections;
use super::door::Door;
use super::gauge::Gauge;
use super::kin::Kin;
use super::places::Places;
use crate::lane::{Lane, LaneError};
use crate::orders::{Birth, Order, Report, failed};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, killpg};
use nix::sys::signalfd::SignalFd;
use nix::sys::time::TimeSpec;
use nix::unistd::Pid;
use std::os::fd::{AsFd, BorrowedFd};
use warden_jail::fork::{hasten, reap};
use warden_jail::notify::{Listener, Waiting};
use warden_jail::restart;
use warden_jail::signals;
use warden_proto::msg::error::CallError;
use warden_proto::msg::proc::{DoorForm, ProcessSignal, Toll};

/// A shell ends with this and the number of the signal that ended its command.
const TOLD_BY_SHELLS: i32 = 128;

/// How it came to an end. The tree is the caller's to end.
#[derive(Debug)]
pub enum Over {
    /// The command has ended, or was to be killed.
    Ended {
        /// Its status.
        code: Option<i32>,
        /// The signal that ended it.
        signal: Option<i32>,
    },
    /// The front or the runner is gone: nobody is left to report to.
    Unwanted,
}

/// A command that has been forked.
#[derive(Debug)]
pub struct Watch {
    child: Pid,
    signals: SignalFd,
    /// Until the command's program runs.
    birth: Option<Lane>,
    listener: Option<Listener>,
    /// The listener has come, and may be over again: a short command ends before its birth is heard of.
    born: bool,
    places: Places,
    believed: Believed,
    gauge: Gauge,
    door: Door,
    form: DoorForm,
    /// Where its rule names hosts.
    connections: Option<Connections>,
}

/// What was ready, in the order in which it is dealt with.
struct Ready {
    control: bool,
    runner_gone: bool,
    children: bool,
    birth: bool,
    notices: bool,
    listener_over: bool,
}

impl Watch {
    /// Begins to watch `child`.
    pub fn new(
        child: Pid,
        signals: SignalFd,
        birth: Lane,
        processes_max: u32,
        (gauge, door): (Gauge, Door),
        kin: Kin,
    ) -> Result<Self, CallError> {
        let places = Places::new(processes_max, kin).map_err(|e| failed("open /proc to count its processes", e))?;
        let gauge = gauge.of(kin);
        let (birth, listener, connections) = (Some(birth), None, None);
        Ok(Self {
            child,
            signals,
            birth,
            listener,
            born: false,
            places,
            believed: Believed::new(kin),
            gauge,
            connections,
            door,
            form: DoorForm::None,
        })
    }

    /// What of it goes through the door.
    pub fn behind(self, waiting: Waiting) -> Self {
        let form = match waiting {
            Waiting::Metadata => DoorForm::None,
            Waiting::Changes => DoorForm::Changes,
            Waiting::Paths => DoorForm::Opens,
        };
        Self { form, ..self }
    }

    /// Its connects are answered by these.
    pub fn with_connections(self, connections: Option<Connections>) -> Self {
        Self { connections, ..self }
    }

    /// Serves the command until it is over.
    pub fn until_over(&mut self, control: &Lane, alive: BorrowedFd<'_>) -> Result<Over, CallError> {
        loop {
            let ready = self.wait(control, alive).map_err(|e| failed("wait", e))?;
            // First of all: a fork that has not been taken yet can still be interrupted.
            self.serve_notices(&ready);
            if ready.runner_gone {
                return Ok(Over::Unwanted);
            }
            if ready.control {
                match control.try_receive::<Order>() {
                    Ok(Some((Order { signal: ProcessSignal::Kill }, _))) => {
                        return Ok(Over::Ended { code: None, signal: Some(libc::SIGKILL) });
                    }
                    Ok(Some((Order { signal }, _))) => self.signal(signal),
                    Ok(None) => {}
                    Err(_) => return Ok(Over::Unwanted),
                }
            }
            if ready.birth {
                self.hear_birth(control)?;
            }
            if ready.children
                && let Some(over) = self.reap()
            {
                // The command's last words may still lie in the lane: an end before its program ran is a failure.
                self.hear_birth(control)?;
                return Ok(over);
            }
            if self.runs() {
                self.gauge.look(&self.door.own_processes())?;
                self.door.look(self.listener.as_ref())?;
            }
        }
    }

    /// Its program runs.
    fn runs(&self) -> bool {
        self.born && self.birth.is_none()
    }

    fn wait(&self, control: &Lane, alive: BorrowedFd<'_>) -> nix::Result<Ready> {
        let mut fds = vec![
            PollFd::new(control.as_fd(), PollFlags::POLLIN),
            PollFd::new(alive, PollFlags::POLLIN),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
        ];
        let birth_at = self.birth.as_ref().map(|birth| {
            fds.push(PollFd::new(birth.as_fd(), PollFlags::POLLIN));
            fds.len().saturating_sub(1)
        });
        let listener_at = self.listener.as_ref().map(|listener| {
            fds.push(PollFd::new(listener.as_fd(), PollFlags::POLLIN));
            fds.len().saturating_sub(1)
        });
        // What comes is looked for at each turn, so that its place here is not asked after.
        fds.extend(
            self.connections.as_ref().and_then(Connections::provider).map(|lane| PollFd::new(lane, PollFlags::POLLIN)),
        );
        let connect = self.connections.as_ref().and_then(Connections::next_look);
        let look = self.runs().then(|| self.gauge.next_look());
        let door = self.door.next_look();
        let timeout = self.places.next_look().into_iter().chain(look).chain(door).chain(connect).min();
        match ppoll(&mut fds, timeout.map(TimeSpec::from_duration), None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(other) => return Err(other),
        }
        let events = |at: Option<usize>| at.and_then(|at| fds.get(at)?.revents()).unwrap_or(PollFlags::empty());
        let listener = events(listener_at);
        Ok(Ready {
            control: !events(Some(0)).is_empty(),
            runner_gone: !events(Some(1)).is_empty(),
            children: !events(Some(2)).is_empty(),
            birth: !events(birth_at).is_empty(),
            notices: listener.contains(PollFlags::POLLIN),
            listener_over: !listener.contains(PollFlags::POLLIN) && !listener.is_empty(),
        })
    }

    /// To the command's process group, as a terminal or a service manager would send it.
    fn signal(&self, signal: ProcessSignal) {
        let signal = match signal {
            ProcessSignal::Term => Signal::SIGTERM,
            ProcessSignal::Interrupt => Signal::SIGINT,
            ProcessSignal::Hangup => Signal::SIGHUP,
            ProcessSignal::Kill => Signal::SIGKILL,
        };
        // The command has not been reaped, so its number is still its own; it leads its session and group.
        let _ = killpg(self.child, signal);
    }

    /// The listener; then end-of-file, because the lane closes on exec.
    fn hear_birth(&mut self, control: &Lane) -> Result<(), CallError> {
        while let Some(birth) = &self.birth {
            match birth.try_receive::<Birth>() {
                Ok(None) => return Ok(()),
                Ok(Some((Birth::Listener, descriptors))) => {
                    self.listener = descriptors.into_iter().next().map(Listener::from);
                    self.born = self.listener.is_some();
                    // Before Linux 6.6 it is not to be had, and only slower.
                    let _ = self.listener.as_ref().map(hasten);
                }
                Ok(Some((Birth::Failed { error }, _))) => return Err(error),
                Err(LaneError::Closed) if self.born => {
                    self.birth = None;
                    // A front that is gone is noticed at the next turn.
                    let _ = control.send(&Report::Begun, &[], true);
                }
                Err(other) => return Err(failed("hear from it", other)),
            }
        }
        Ok(())
    }

    /// Reaps what has ended; the command's own end is the end.
    fn reap(&mut self) -> Option<Over> {
        while let Ok(Some(_)) = self.signals.read_signal() {}
        while let Ok(Some(ended)) = reap() {
            if ended.child == self.child {
                return Some(Over::Ended { code: ended.code, signal: ended.signal });
            }
            self.door.reaped(ended.child);
        }
        None
    }

    /// What the command cost, once nothing of it is left. `over` is how it ended.
    pub fn toll(&mut self, over: &Result<Over, CallError>) -> Toll {
        if let Ok(Over::Ended { code, signal }) = over
            && (*signal == Some(libc::SIGXFSZ) || *code == Some(TOLD_BY_SHELLS.saturating_add(libc::SIGXFSZ)))
        {
            self.door.note_longest_file();
        }
        // Most commands end before the second look: the largest of those that were waited for is not missed.
        let largest =
            getrusage(UsageWho::RUSAGE_CHILDREN).map_or(0, |usage| u64::try_from(usage.max_rss()).unwrap_or(0));
        let memory_peak_bytes = self.gauge.peak_bytes().max(largest.saturating_mul(1024));
        Toll { memory_peak_bytes, door: self.form, ..self.door.toll() }
    }

    fn serve_notices(&mut self, ready: &Ready) {
        if ready.listener_over {
            self.listener = None;
        }
        let Some(listener) = &self.listener else { return };
        if ready.notices {
            // One for each turn: a storm keeps neither a kill nor an end waiting, and who asks again is heard of by the same wait.
            match listener.receive() {
                Ok(Some(notice)) if notice.is_process() => self.places.ask(notice),
                Ok(Some(notice)) if notice.is_signal() => {
                    let _ = signals::perform(listener, &notice, &self.believed);
                }
                Ok(Some(notice)) if notice.is_regroup() => {
                    if let Some(asked) = signals::regroup(listener, &notice) {
                        self.believed.note(asked);
                    }
                    let _ = listener.refuse(&notice, libc::EPERM);
                }
                Ok(Some(notice)) if notice.is_connect() => match &mut self.connections {
                    Some(connections) => connections.ask(listener, notice),
                    None => drop(listener.refuse(&notice, libc::EACCES)),
                },
                Ok(Some(notice)) if notice.is_child_handler() => {
                    let _ = restart::perform(listener, &notice);
                }
                Ok(Some(notice)) => {
                    let _ = self.door.serve(listener, &notice);
                }
                _ => {}
            }
        }
        self.places.answer(listener, &self.door.own_processes());
        if let Some(connections) = &mut self.connections {
            connections.serve(listener);
        }
    }
}
