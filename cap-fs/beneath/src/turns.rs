//! Moves and walks take turns, among all processes that act in one task.
//!
//! Runs in the process that acts: cap-fs for guests, a keeper for each command. A walk finds what lies beneath a workspace at
//! different times; a folder that somebody moves meanwhile, from where the walk has not been to where it has been, it does not
//! find, and with it not the denied names in that folder. So whoever moves a name waits until nobody walks, and whoever walks
//! until nobody moves (T-02). A move is judged in its turn too: what is a file when it is looked at is no folder when it is
//! moved.
//!
//! The lock is one on a memory file that the broker makes for the task. No command has it, so none can hold it. Each process
//! opens the file anew, because a lock belongs to an opening, and what is inherited is the same one. Outside of the task nobody
//! takes part: another program, or another task, may move what it may move.

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use rustix::fs::{FlockOperation, flock};
use std::cell::Cell;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Longest wait for a turn: longer than a walk may take.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// Between two tries.
const WAIT_STEP: Duration = Duration::from_micros(200);

/// This process's part in it.
#[derive(Debug)]
pub struct Turns {
    lock: Rc<Lock>,
}

/// Moves or walks may be done until it is dropped.
#[derive(Debug)]
pub struct Turn {
    lock: Rc<Lock>,
}

#[derive(Debug)]
struct Lock {
    file: OwnedFd,
    /// What it is held for, and how often: a move that has to look at other names walks in its own turn.
    held: Cell<Option<(For, usize)>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum For {
    Walks,
    Moves,
}

impl Turns {
    /// With the task's file, as it was inherited.
    pub fn open(inherited: BorrowedFd<'_>) -> nix::Result<Self> {
        let name = format!("/proc/self/fd/{}", inherited.as_raw_fd());
        let file = open(name.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        Ok(Self { lock: Rc::new(Lock { file, held: Cell::new(None) }) })
    }

    /// The descriptor that it keeps.
    pub fn number(&self) -> i32 {
        self.lock.file.as_raw_fd()
    }

    /// To look through directories. EBUSY where somebody moves and does not stop.
    pub fn to_walk(&self) -> nix::Result<Turn> {
        self.take(For::Walks)
    }

    /// To move one name, from before it is judged. EBUSY where somebody walks and does not stop.
    pub fn to_move(&self) -> nix::Result<Turn> {
        self.take(For::Moves)
    }

    fn take(&self, what: For) -> nix::Result<Turn> {
        let held = match self.lock.held.get() {
            // A walk in which something is moved is none.
            Some((For::Walks, _)) if what == For::Moves => return Err(Errno::EDEADLK),
            Some((held, times)) => (held, times.saturating_add(1)),
            None => {
                wait_for(&self.lock.file, what)?;
                (what, 1)
            }
        };
        self.lock.held.set(Some(held));
        Ok(Turn { lock: Rc::clone(&self.lock) })
    }
}

fn wait_for(file: &OwnedFd, what: For) -> nix::Result<()> {
    let how = match what {
        For::Walks => FlockOperation::NonBlockingLockShared,
        For::Moves => FlockOperation::NonBlockingLockExclusive,
    };
    let began = Instant::now();
    loop {
        match flock(file, how).map_err(|e| Errno::from_raw(e.raw_os_error())) {
            Ok(()) => return Ok(()),
            Err(Errno::EAGAIN) if began.elapsed() < WAIT_MAX => sleep(WAIT_STEP),
            Err(Errno::EAGAIN) => return Err(Errno::EBUSY),
            Err(Errno::EINTR) => {}
            Err(other) => return Err(other),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let left =
            self.lock.held.get().and_then(|(what, times)| Some((what, times.checked_sub(1).filter(|n| *n > 0)?)));
        self.lock.held.set(left);
        if left.is_none() {
            // A failure would leave it held, and whoever waits is told so after WAIT_MAX.
            let _ = flock(&self.lock.file, FlockOperation::Unlock);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    fn two() -> (Turns, Turns) {
        let file = tempfile::tempfile().unwrap();
        (Turns::open(file.as_fd()).unwrap(), Turns::open(file.as_fd()).unwrap())
    }

    /// Whether somebody else could take a turn at once.
    fn free(other: &Turns, what: For) -> bool {
        let how = match what {
            For::Walks => FlockOperation::NonBlockingLockShared,
            For::Moves => FlockOperation::NonBlockingLockExclusive,
        };
        let free = flock(&other.lock.file, how).is_ok();
        let _ = flock(&other.lock.file, FlockOperation::Unlock);
        free
    }

    #[test]
    fn nobody_moves_while_another_walks_and_nobody_walks_while_another_moves() {
        let (one, other) = two();
        let walk = one.to_walk().unwrap();
        assert!(free(&other, For::Walks), "control: walks disturb no walk");
        let began = Instant::now();
        assert_eq!(other.to_move().err(), Some(Errno::EBUSY));
        assert!(began.elapsed() >= WAIT_MAX);
        drop(walk);
        let moving = other.to_move().unwrap();
        assert_eq!(one.to_walk().err(), Some(Errno::EBUSY));
        assert_eq!(one.to_move().err(), Some(Errno::EBUSY));
        drop(moving);
        assert!(one.to_move().is_ok() && one.to_walk().is_ok(), "control: a turn ends");
    }

    #[test]
    fn a_walk_within_a_move_ends_no_turn_but_its_own() {
        let (one, other) = two();
        let moving = one.to_move().unwrap();
        drop(one.to_walk().unwrap());
        assert!(!free(&other, For::Walks));
        drop(moving);
        assert!(free(&other, For::Moves));
        let walk = one.to_walk().unwrap();
        assert_eq!(one.to_move().err(), Some(Errno::EDEADLK));
        drop(walk);
        assert!(free(&other, For::Moves));
    }
}
