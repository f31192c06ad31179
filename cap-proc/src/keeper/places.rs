//! How many processes a command may have at once, and who waits for a place (T-06).
//!
//! RLIMIT_NPROC counts the whole uid, and nothing for uid 0, so each new process is asked for. The keeper never counts too
//! low: `bound` is what a count saw, plus every fork allowed since, whether or not it has come to anything. Only when that
//! bound is at the limit does it count again. A count asks the kernel for each process on the host whether the keeper may
//! signal it, which is so exactly for those in its scope: not for a parent's word, so an orphan between two parents is not
//! missed. A fork that was allowed and may still be on its way is added on top.

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::kill;
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use warden_jail::notify::{Listener, Notice};

/// A fork waits so long for a free place before it is answered EAGAIN.
const PLACE_DEADLINE: Duration = Duration::from_secs(1);
/// Between two counts while a fork waits.
const COUNT_STEP: Duration = Duration::from_millis(2);
/// A fork that was allowed has happened or failed after so long, even where its caller is always found running.
const GRANT_SETTLED: Duration = Duration::from_millis(250);

/// A fork that was allowed.
#[derive(Debug)]
struct Grant {
    thread: u32,
    at: Instant,
}

/// The places of one command's tree.
#[derive(Debug)]
pub struct Places {
    max: usize,
    bound: usize,
    counted: Instant,
    grants: Vec<Grant>,
    waiting: VecDeque<(Notice, Instant)>,
    proc: Dir,
}

impl Places {
    /// `max` processes, the command itself included.
    pub fn new(max: u32) -> nix::Result<Self> {
        let proc = Dir::open("/proc", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        Ok(Self { max, bound: 1, counted: Instant::now(), grants: Vec::new(), waiting: VecDeque::new(), proc })
    }

    /// Takes a fork that waits for its answer.
    pub fn ask(&mut self, notice: Notice) {
        // Whoever asks again has come back from what it was allowed before.
        self.grants.retain(|grant| grant.thread != notice.pid);
        let deadline = Instant::now().checked_add(PLACE_DEADLINE).unwrap_or_else(Instant::now);
        self.waiting.push_back((notice, deadline));
    }

    /// When to call [`Self::answer`] again though nothing has come; never while nobody waits.
    pub fn next_look(&self) -> Option<Duration> {
        (!self.waiting.is_empty()).then_some(COUNT_STEP)
    }

    /// Lets go on whom there is a place for, in the order in which they came; refuses who has waited too long.
    pub fn answer(&mut self, listener: &Listener) {
        while let Some((notice, deadline)) = self.waiting.front().copied() {
            let now = Instant::now();
            if self.bound >= self.max && now.saturating_duration_since(self.counted) >= COUNT_STEP {
                self.count(now);
            }
            // An answer that finds nobody is an answer to a process that was killed meanwhile.
            if self.bound < self.max {
                if listener.proceed(&notice).unwrap_or(false) {
                    self.bound = self.bound.saturating_add(1);
                    self.grants.push(Grant { thread: notice.pid, at: now });
                }
            } else if now >= deadline || !listener.is_waiting(&notice) {
                let _ = listener.refuse(&notice, Errno::EAGAIN as i32);
            } else {
                return;
            }
            self.waiting.pop_front();
        }
    }

    /// Counts anew. Which grants are settled is decided before the count: what they made is then there to be seen.
    fn count(&mut self, now: Instant) {
        self.grants
            .retain(|grant| now.saturating_duration_since(grant.at) < GRANT_SETTLED && may_be_forking(grant.thread));
        let own = Pid::this();
        let numbers =
            self.proc.iter().flatten().filter_map(|entry| entry.file_name().to_str().ok()?.parse::<i32>().ok());
        let seen = numbers.map(Pid::from_raw).filter(|pid| *pid != own && kill(*pid, None).is_ok()).count();
        self.bound = seen.saturating_add(self.grants.len());
        self.counted = Instant::now();
    }
}

/// Whether a thread may still be inside the fork it was allowed: it runs, or waits where it cannot be disturbed. One that
/// sleeps, is stopped or has ended has come back from it; a fork interrupted by a signal is asked for again.
fn may_be_forking(thread: u32) -> bool {
    match std::fs::read_to_string(format!("/proc/{thread}/stat")) {
        // The name before the state is the program's own choice and may hold anything, so look behind its last bracket.
        Ok(stat) => match stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()) {
            Some(state) => matches!(state, 'R' | 'D'),
            None => true,
        },
        Err(error) => !matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)),
    }
}
