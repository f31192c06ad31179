//! How many processes a command may have at once, and who waits for a place (T-06).
//!
//! RLIMIT_NPROC counts the whole uid, and nothing for uid 0, so each new process is asked for. The keeper never counts too
//! low: `bound` is what a count saw, plus every fork allowed since, whether or not it has come to anything. Only when that
//! bound is at the limit does it count again. A count asks the kernel for each process on the host whether the keeper may
//! signal it, which is so exactly for those in its scope: not for a parent's word, so an orphan between two parents is not
//! missed. A fork that was allowed and may still be on its way is added on top, for as long as that may be: time on the
//! clock proves nothing, because a command can starve its own forks by hogging the processors or by an idle priority, and
//! would then have them all at once.

use super::kin::Kin;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::kill;
use nix::sys::stat::Mode;
use nix::unistd::{Pid, SysconfVar, sysconf};
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use warden_jail::notify::{Listener, Notice};

/// A fork waits so long for a free place before it is answered EAGAIN.
const PLACE_DEADLINE: Duration = Duration::from_secs(1);
/// Between two counts while a fork waits.
const COUNT_STEP: Duration = Duration::from_millis(2);
/// A thread that is always found running has come back from its fork once it has run so long outside of the kernel: a
/// fork is none of that, while of the kernel's time one of 3 GiB takes 120 ms. Not less, because the kernel tells the
/// one from the other by samples.
const USER_TIME_SETTLED: Duration = Duration::from_millis(250);

/// A fork that was allowed.
#[derive(Debug)]
struct Grant {
    thread: u32,
    /// Its user time where it was first looked at after that.
    user_ticks: Option<u64>,
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
    kin: Kin,
    ticks_settled: u64,
}

impl Places {
    /// `max` processes, the command itself included.
    pub fn new(max: u32, kin: Kin) -> nix::Result<Self> {
        let proc = Dir::open("/proc", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        let (grants, waiting) = (Vec::new(), VecDeque::new());
        Ok(Self { max, bound: 1, counted: Instant::now(), grants, waiting, proc, kin, ticks_settled: ticks_settled()? })
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

    /// Lets go on whom there is a place for, in the order in which they came; refuses who has waited too long. `ours` are
    /// children of the keeper's own, which take no place.
    pub fn answer(&mut self, listener: &Listener, ours: &[Pid]) {
        while let Some((notice, deadline)) = self.waiting.front().copied() {
            let now = Instant::now();
            if self.bound >= self.max && now.saturating_duration_since(self.counted) >= COUNT_STEP {
                self.count(ours);
            }
            // An answer that finds nobody is an answer to a process that was killed meanwhile.
            if self.bound < self.max {
                if listener.proceed(&notice).unwrap_or(false) {
                    self.bound = self.bound.saturating_add(1);
                    self.grants.push(Grant { thread: notice.pid, user_ticks: None });
                }
            } else if now >= deadline || !listener.is_waiting(&notice) {
                let _ = listener.refuse(&notice, libc::EAGAIN);
            } else {
                return;
            }
            self.waiting.pop_front();
        }
    }

    /// Counts anew. Which grants are settled is decided before the count: what they made is then there to be seen.
    fn count(&mut self, ours: &[Pid]) {
        let settled = self.ticks_settled;
        self.grants.retain_mut(|grant| match Sight::of(grant.thread) {
            Sight::ComeBack => false,
            Sight::Hidden => true,
            Sight::Busy { user_ticks } => {
                let since = *grant.user_ticks.get_or_insert(user_ticks);
                user_ticks.saturating_sub(since) < settled
            }
        });
        let seen = self.kin.among(&mut self.proc, ours).count();
        self.bound = seen.saturating_add(self.grants.len());
        self.counted = Instant::now();
    }
}

/// [`USER_TIME_SETTLED`] in the kernel's unit.
fn ticks_settled() -> nix::Result<u64> {
    let per_second = sysconf(SysconfVar::CLK_TCK)?.and_then(|ticks| u64::try_from(ticks).ok()).ok_or(Errno::EINVAL)?;
    let millis = u64::try_from(USER_TIME_SETTLED.as_millis()).map_err(|_| Errno::EINVAL)?;
    Ok(per_second.saturating_mul(millis).div_ceil(1_000))
}

/// How a thread is found that was allowed a fork.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
    /// It sleeps, is stopped or has ended, and so is not in the fork any more. One that is stopped before it begins,
    /// or interrupted, comes back without it and asks again.
    ComeBack,
    /// It runs, or would if it were let, or waits where nothing can disturb it.
    Busy {
        /// What it has run outside of the kernel.
        user_ticks: u64,
    },
    /// It is there and `/proc` does not show it.
    Hidden,
}

impl Sight {
    fn of(thread: u32) -> Self {
        // By way of its own folder of threads: `/proc/N/stat` has the times of the whole process.
        match std::fs::read_to_string(format!("/proc/{thread}/task/{thread}/stat")) {
            Ok(stat) => Self::parse(&stat).unwrap_or(Sight::Hidden),
            Err(_) => match i32::try_from(thread).map(|thread| kill(Pid::from_raw(thread), None)) {
                Ok(Err(Errno::ESRCH)) => Sight::ComeBack,
                _ => Sight::Hidden,
            },
        }
    }

    fn parse(stat: &str) -> Option<Self> {
        // The name before the state is the program's own choice and may hold anything, so look behind its last bracket.
        let (_, rest) = stat.rsplit_once(") ")?;
        let mut fields = rest.split_ascii_whitespace();
        if !matches!(fields.next()?, "R" | "D") {
            return Some(Sight::ComeBack);
        }
        // From the state, the third field, to the fourteenth.
        fields.nth(10)?.parse().ok().map(|user_ticks| Sight::Busy { user_ticks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_name_that_looks_like_a_state_is_none() {
        let fields = "1 1 1 0 -1 4194560 90 0 0 0 31 44 0 0 20 0 1 0 5 6 7";
        assert_eq!(Sight::parse(&format!("7 (a) R 1 (b) S {fields}")), Some(Sight::ComeBack));
        for state in ["R", "D"] {
            let found = Sight::parse(&format!("7 (a) S 1 1 (b)) {state} {fields}"));
            assert_eq!(found, Some(Sight::Busy { user_ticks: 31 }), "{state}");
        }
        assert_eq!(Sight::parse("7 (a) R 1 1"), None);
    }

    #[test]
    fn a_thread_is_told_from_the_rest_of_its_process() {
        let (tell, told) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let sleeper = std::thread::spawn(move || {
            tell.send(nix::unistd::gettid()).unwrap();
            let _ = ended.recv();
        });
        let thread = told.recv().unwrap();
        let number = |pid: Pid| u32::try_from(pid.as_raw()).unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        while Sight::of(number(thread)) != Sight::ComeBack && Instant::now() < until {
            std::thread::yield_now();
        }
        assert_eq!(Sight::of(number(thread)), Sight::ComeBack, "it sleeps");
        assert!(matches!(Sight::of(number(nix::unistd::gettid())), Sight::Busy { .. }), "who asks runs");
        drop(end);
        sleeper.join().unwrap();
        while kill(thread, None).is_ok() && Instant::now() < until {
            std::thread::yield_now();
        }
        assert_eq!(Sight::of(number(thread)), Sight::ComeBack, "it is gone");
    }
}
