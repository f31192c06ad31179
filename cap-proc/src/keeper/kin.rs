//! Who belongs to a command, and how all of that ends (T-07, T-12).
//!
//! Where the kernel confines signals (Landlock ABI 6), that is the keeper's scope: exactly those whom it can signal, and one
//! `kill(-1)` ends them. Below that the command leads one process group that nobody leaves or joins, because its filter
//! refuses setsid and setpgid, and its signals are the keeper's to send (`warden_jail::signals`). There the end comes by
//! generations: the keeper adopts every orphan, signals only its own children, whose numbers nobody else can have before
//! it has reaped them, and answers no fork any more.

use nix::dir::Dir;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::time::Duration;
use warden_jail::fork::reap;

/// Between two looks at processes that are being ended.
const END_STEP: Duration = Duration::from_millis(1);

/// How a command's processes are told from everybody else's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kin {
    /// They are in the keeper's signal scope.
    Scope,
    /// They are in the process group of this one, the command.
    Group(Pid),
}

impl Kin {
    /// Whether a process belongs to it; the keeper does not.
    pub fn has(self, pid: Pid) -> bool {
        match self {
            Kin::Scope => pid != Pid::this() && kill(pid, None).is_ok(),
            Kin::Group(leader) => group_of(pid) == Some(leader),
        }
    }

    /// All that a listing of `/proc` has of it, but for the keeper's `own` processes, which are in its scope too.
    pub fn among(self, proc: &mut Dir, own: &[Pid]) -> impl Iterator<Item = Pid> {
        let numbers = proc.iter().flatten().filter_map(|entry| entry.file_name().to_str().ok()?.parse::<i32>().ok());
        numbers.map(Pid::from_raw).filter(move |pid| !own.contains(pid) && self.has(*pid))
    }
}

impl Kin {
    /// All of them, by number.
    pub fn all(&self) -> Vec<i32> {
        let names = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let numbers = names.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        numbers.filter(|number| Kin::has(*self, Pid::from_raw(*number))).collect()
    }

    /// The process group that they all are in.
    pub fn group(&self) -> i32 {
        match self {
            Kin::Scope => 0,
            Kin::Group(leader) => leader.as_raw(),
        }
    }
}

/// Ends and reaps the caller's children, and theirs as they become its own, until there is none. It must be a subreaper.
pub fn end_children() {
    // At once what is still in the caller's hand; the rest as it comes.
    loop {
        for child in children() {
            // The number is its own until it is reaped below.
            let _ = kill(child, Signal::SIGKILL);
        }
        loop {
            match reap() {
                Err(_) => return,
                Ok(None) => break,
                Ok(Some(_)) => {}
            }
        }
        std::thread::sleep(END_STEP);
    }
}

fn children() -> Vec<Pid> {
    let own = Pid::this();
    let listed = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
    listed.split_ascii_whitespace().filter_map(|number| number.parse().ok().map(Pid::from_raw)).collect()
}

/// The process group of a process, dead ones that are not reaped included.
fn group_of(pid: Pid) -> Option<Pid> {
    nix::unistd::getpgid(Some(pid)).ok()
}
