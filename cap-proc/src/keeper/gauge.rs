//! Whether a command's tree stays within its memory, and its private directory within its size, looked at every 100 ms
//! (T-06).
//!
//! RLIMIT_DATA bounds one process's private memory and nothing else: not what many processes have together, not shared
//! memory, not memory files. So the keeper adds up the tree. The first sum is cheap and too high: what each process has
//! resident or swapped out (15 µs a process, however large), and what descriptors hold. Only where that is over the limit
//! are shared pages divided among those who share them, which walks page tables (70 ms for 4 GiB); such looks are made
//! rarer, so that looking seldom takes more than a fifth of a processor. How long a look takes is the command's to choose,
//! by descriptors, page tables and names, and it grows meanwhile: so each part of a look has a bound, beyond which things
//! count for more than they are, or end the command.
//!
//! Pages of files on disk do not count, mapped or not: the kernel takes them back by itself, and a git that maps its
//! packs would be over any limit. There is no RLIMIT_AS: node, java and WebAssembly runtimes reserve a hundred times the
//! address space that they use. A private directory may hold what the task may write at all; where it lies in memory it
//! counts there too. What no sum of `/proc` shows is said in docs/threat-model.md.

use super::contents::{Contents, Count};
use super::footprint::{FileId, Process};
use super::held::{DESCRIPTORS_MAX, Held};
use super::kin::Kin;
use super::private::PrivateDirectory;
use crate::orders::failed;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};
use warden_jail::same::same_memory;
use warden_proto::Text;
use warden_proto::msg::error::{CallError, ErrorCode};
use warden_proto::msg::proc::ProcBounds;

/// Between two looks.
const LOOK_STEP: Duration = Duration::from_millis(100);
/// A pause is at least so many times as long as the look before it.
const PAUSE_FACTOR: u32 = 4;
/// And never longer than this, whatever the look took: in a second a tree fills gigabytes.
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// One turn of a count of the private directory.
const COUNT_TURN: Duration = Duration::from_millis(40);
/// Between two counts.
const COUNT_PAUSE_MAX: Duration = Duration::from_secs(5);
/// Of the processor, for dividing shared pages in one look, several times what a tree of 16 GiB takes on a loaded machine;
/// what is not looked at by then counts whole.
const DIVIDE_MAX: Duration = Duration::from_secs(3);
/// Of texts that list mappings, in one look: some 16,000 mappings.
const MAPPINGS_MAX_BYTES: u64 = 16 * 1024 * 1024;
/// Every so manieth look is exact on a host that swaps: swapped shared memory is in no cheap number.
const EXACT_EVERY: u32 = 10;
/// Looks in a row at which a process hides what it holds.
const HIDDEN_LOOKS_MAX: u32 = 3;
/// Threads of the tree: as many as RLIMIT_NPROC leaves an ordinary user's command.
pub const THREADS_MAX: u64 = 4096;
/// Processes smaller than this part of the limit are not compared with each other.
const SMALL_PART: u64 = 256;
/// The limit that the private directory is held to.
const FILES_RULE: &str = "limits.fs_written";
const MIB: u64 = 1024 * 1024;

/// The measure of one command's tree.
#[derive(Debug)]
pub struct Gauge {
    memory_bytes: u64,
    private_max_bytes: u64,
    private: Vec<(OwnedFd, OsString)>,
    /// What the last count saw, and the one that is under way.
    contents: Contents,
    count: Option<Count>,
    count_began: Instant,
    count_due: Instant,
    /// The last count was over: one more decides.
    suspect: bool,
    may_hide: bool,
    proc: Dir,
    kin: Kin,
    due: Instant,
    looks: u32,
    hidden: u32,
    peak_bytes: u64,
}

impl Gauge {
    /// For a tree of these bounds. `may_hide` where the command's own program cannot be read, so that the kernel itself hides
    /// the process; then it is measured by what anybody can see of it.
    pub fn new(bounds: &ProcBounds, private: Option<&PrivateDirectory>, may_hide: bool) -> std::io::Result<Self> {
        let rooms = private.into_iter().flat_map(|private| &private.rooms);
        let private = rooms.map(|room| Ok::<_, std::io::Error>((room.directory.try_clone()?, room.path.clone())));
        Ok(Self {
            memory_bytes: bounds.memory_bytes,
            private_max_bytes: bounds.private_bytes,
            private: private.collect::<Result<_, _>>()?,
            contents: Contents::default(),
            count: None,
            count_began: Instant::now(),
            count_due: Instant::now(),
            suspect: false,
            may_hide,
            proc: Dir::open("/proc", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?,
            kin: Kin::Scope,
            due: Instant::now(),
            looks: 0,
            hidden: 0,
            peak_bytes: 0,
        })
    }

    /// The same, of these processes.
    pub fn of(self, kin: Kin) -> Self {
        Self { kin, ..self }
    }

    /// How long until the next look.
    pub fn next_look(&self) -> Duration {
        self.due.saturating_duration_since(Instant::now())
    }

    /// Looks, if it is time. An error says which limit the tree is over. `ours` are children of the keeper's own.
    pub fn look(&mut self, ours: &[Pid]) -> Result<(), CallError> {
        let began = Instant::now();
        if began < self.due {
            return Ok(());
        }
        self.looks = self.looks.wrapping_add(1);
        // What is over is looked at again: a process that ends or executes between two reads of one look counts twice. Of
        // files that has been done.
        let answer = self.measure(ours).or_else(|over| match over.rule.as_str() {
            FILES_RULE => Err(over),
            _ => self.measure(ours),
        });
        // A count goes on at once, turn by turn, with a look at memory between.
        let goes_on = self.count.is_some() || self.suspect;
        self.due = if goes_on { Instant::now() } else { after_pause(began, PAUSE_MAX) };
        answer
    }

    /// Most that the tree had at a look, where it was not over its limit: as the look counted it, shared pages several times
    /// where that was not over the limit either.
    pub fn peak_bytes(&self) -> u64 {
        self.peak_bytes
    }

    fn measure(&mut self, ours: &[Pid]) -> Result<(), CallError> {
        let mut processes = self.processes(ours);
        check_threads(&processes)?;
        let mut held = Held::new(self.private.iter().map(|(_, path)| path.as_os_str()));
        processes.iter().for_each(|process| held.add(process));
        check_descriptors(&held)?;
        self.check_hidden(&held)?;
        let bytes = self.private_bytes(&held)?;
        let in_files = if self.contents.in_memory { bytes } else { 0 };
        let fixed = held.memory_bytes().saturating_add(in_files);
        let most = processes.iter().map(|process| process.most_bytes).fold(fixed, u64::saturating_add);
        let all = self.looks.is_multiple_of(EXACT_EVERY) && host_swaps();
        if most <= self.memory_bytes && !all {
            self.peak_bytes = self.peak_bytes.max(most);
            return Ok(());
        }
        processes.sort_by_key(|process| Reverse(process.most_bytes));
        let in_memory = Some(&self.contents).filter(|contents| contents.in_memory);
        let files = held.files().chain(in_memory.iter().flat_map(|contents| contents.files.iter().copied())).collect();
        let bytes = self.share_bytes(&processes, fixed, &files, all);
        if bytes <= self.memory_bytes {
            self.peak_bytes = self.peak_bytes.max(bytes);
            return Ok(());
        }
        let (has, may) = (bytes.div_ceil(MIB), self.memory_bytes / MIB);
        let message = format!(
            "the command and its processes held {has} MiB of memory together and may hold {may} MiB; they were ended"
        );
        Err(over("limits.memory", &message))
    }

    fn check_hidden(&mut self, held: &Held) -> Result<(), CallError> {
        self.hidden = if held.hidden.is_empty() || self.may_hide { 0 } else { self.hidden.saturating_add(1) };
        if self.hidden < HIDDEN_LOOKS_MAX {
            return Ok(());
        }
        let message = "a process of the command hides what it holds (it made itself undumpable, or runs a program that cannot \
                       be read), so its memory cannot be counted; the command was ended";
        Err(over("limits.memory", message))
    }

    /// What lay in the private directory at the last count. What is open there without a name is looked at each time.
    fn private_bytes(&mut self, held: &Held) -> Result<u64, CallError> {
        // Without a count there is no bound: a keeper that cannot count ends its command.
        let counted = self.go_on_counting().map_err(|e| failed("count its private files", e))?;
        let bytes = self.contents.bytes.saturating_add(held.nameless_bytes());
        if !counted {
            return Ok(bytes);
        }
        let over_again = self.suspect;
        self.suspect = self.contents.too_many || bytes > self.private_max_bytes;
        if !self.suspect {
            return Ok(bytes);
        }
        if !over_again {
            // What is removed while it is counted may be in the sum: it is counted once more.
            self.count_due = Instant::now();
            return Ok(bytes);
        }
        let message = format!(
            "the command's private files (in HOME, TMPDIR, its own /tmp and /dev/shm) held more than the {} KiB that it may, where each name counts as \
             1 KiB at least, or lay too deep ({} names were counted); the command was ended",
            self.private_max_bytes / 1024,
            self.contents.names
        );
        Err(over(FILES_RULE, &message))
    }

    /// One turn of the count, if one is due or under way. Says whether it has ended.
    fn go_on_counting(&mut self) -> nix::Result<bool> {
        if self.private.is_empty() {
            return Ok(false);
        }
        let now = Instant::now();
        let mut count = match self.count.take() {
            Some(count) => count,
            None if now < self.count_due => return Ok(false),
            None => {
                self.count_began = now;
                Count::begin(self.private.iter().map(|(directory, _)| directory.as_fd()), self.private_max_bytes)?
            }
        };
        if !count.advance(now.checked_add(COUNT_TURN).unwrap_or(now))? {
            self.count = Some(count);
            return Ok(false);
        }
        self.contents = count.into_contents();
        self.count_due = after_pause(self.count_began, COUNT_PAUSE_MAX);
        Ok(true)
    }

    /// The tree, the keeper and what is its own left out.
    fn processes(&mut self, ours: &[Pid]) -> Vec<Process> {
        self.kin.among(&mut self.proc, ours).filter_map(Process::look).collect()
    }

    /// What the tree has, each page once; from the largest process on, and no further than needed unless `all` are due.
    /// `fixed` is what is held besides mappings, in `files` among others.
    fn share_bytes(&self, processes: &[Process], fixed: u64, files: &BTreeSet<FileId>, all: bool) -> u64 {
        let mut total = fixed;
        let mut rest = processes.iter().map(|process| process.most_bytes).fold(0, u64::saturating_add);
        let mut counted: Vec<Pid> = Vec::new();
        let (began, mut mappings_left) = (own_time(), MAPPINGS_MAX_BYTES);
        for process in processes {
            let most = total.saturating_add(rest);
            if most <= self.memory_bytes && !all {
                return most;
            }
            rest = rest.saturating_sub(process.most_bytes);
            if process.most_bytes > self.memory_bytes / SMALL_PART {
                if counted.iter().any(|other| same_memory(*other, process.shown_by) == Ok(true)) {
                    continue;
                }
                counted.push(process.shown_by);
            }
            let in_time = own_time().saturating_sub(began) < DIVIDE_MAX;
            total = total.saturating_add(match in_time.then(|| process.share_bytes(files, &mut mappings_left)) {
                Some(Ok(bytes)) => bytes,
                None | Some(Err(Errno::EACCES | Errno::EPERM)) => process.most_bytes,
                // Gone.
                Some(Err(_)) => 0,
            });
        }
        total
    }
}

/// Threads ask nobody, and RLIMIT_NPROC is nothing to uid 0: 25,000 of them, a program of ten lines, have 580 MiB of kernel
/// memory and most of the numbers that the host has for its processes (T-06).
fn check_threads(processes: &[Process]) -> Result<(), CallError> {
    let threads = processes.iter().map(|process| process.threads).fold(0, u64::saturating_add);
    if threads <= THREADS_MAX {
        return Ok(());
    }
    let message = format!(
        "the command and its processes had {threads} threads together and may have {THREADS_MAX}; they were ended"
    );
    Err(over("limits.processes", &message))
}

/// Descriptors cost a look more than anything else does: 300 threads with 4,000 each, in tables of their own, made one of
/// 12 seconds, in which a tree of 1 GiB had 3 (T-06).
fn check_descriptors(held: &Held) -> Result<(), CallError> {
    if !held.too_many {
        return Ok(());
    }
    let message = format!(
        "the command and its processes had more than {DESCRIPTORS_MAX} descriptors together, which is more than are counted; \
         they were ended"
    );
    Err(over("limits.memory", &message))
}

/// When to look again, after a look that began then.
fn after_pause(began: Instant, longest: Duration) -> Instant {
    let now = Instant::now();
    let pause = now.saturating_duration_since(began).saturating_mul(PAUSE_FACTOR);
    now.checked_add(pause.clamp(LOOK_STEP, longest)).unwrap_or(now)
}

/// What this process has had of the processor: not what others have taken from it meanwhile.
fn own_time() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(Duration::MAX, Duration::from)
}

/// Whether anything is swapped out on this host.
fn host_swaps() -> bool {
    let Ok(text) = std::fs::read_to_string("/proc/meminfo") else { return true };
    let value = |name| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    value("SwapTotal:") != value("SwapFree:")
}

/// A command that is over one of its limits, and was ended for that.
pub fn over(limit: &str, message: &str) -> CallError {
    CallError { code: ErrorCode::Limit, message: Text::cut(message), rule: Text::cut(limit) }
}
