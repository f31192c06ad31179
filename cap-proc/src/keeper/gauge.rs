//! Whether a command's tree stays within its memory, and its private directory within its size, looked at every 100 ms
//! (T-06).
//!
//! RLIMIT_DATA bounds one process's private memory and nothing else: not what many processes have together, not shared
//! memory, not memory files. So the keeper adds up the tree. The first sum is cheap and too high: what each process has
//! resident or swapped out (15 µs a process, however large), and what descriptors hold. Only where that is over the limit
//! are shared pages divided among those who share them, which walks page tables (70 ms for 4 GiB); such looks are made
//! rarer, so that looking never takes more than a fifth of a processor.
//!
//! Pages of files on disk do not count, mapped or not: the kernel takes them back by itself, and a git that maps its
//! packs would be over any limit. There is no RLIMIT_AS: node, java and WebAssembly runtimes reserve a hundred times the
//! address space that they use. A private directory may hold what the task may write at all; where it lies in memory it
//! counts there too. What no sum of `/proc` shows is said in docs/threat-model.md.

use super::contents::Contents;
use super::footprint::{FileId, Process};
use super::held::Held;
use super::private::PrivateDirectory;
use crate::orders::failed;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::kill;
use nix::sys::stat::Mode;
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
/// Every so manieth look is exact on a host that swaps: swapped shared memory is in no cheap number.
const EXACT_EVERY: u32 = 10;
/// Looks in a row at which a process hides what it holds.
const HIDDEN_LOOKS_MAX: u32 = 3;
/// Threads of the tree: as many as RLIMIT_NPROC leaves an ordinary user's command.
const THREADS_MAX: u64 = 4096;
/// Processes smaller than this part of the limit are not compared with each other.
const SMALL_PART: u64 = 256;
const MIB: u64 = 1024 * 1024;

/// The measure of one command's tree.
#[derive(Debug)]
pub struct Gauge {
    memory_bytes: u64,
    private_bytes: u64,
    private: Option<(OwnedFd, OsString)>,
    may_hide: bool,
    proc: Dir,
    due: Instant,
    looks: u32,
    hidden: u32,
}

impl Gauge {
    /// For a tree of these bounds. `may_hide` where the command's own program cannot be read, so that the kernel itself hides
    /// the process; then it is measured by what anybody can see of it.
    pub fn new(bounds: &ProcBounds, private: Option<&PrivateDirectory>, may_hide: bool) -> std::io::Result<Self> {
        let private =
            private.map(|private| Ok::<_, std::io::Error>((private.directory.try_clone()?, private.path.clone())));
        Ok(Self {
            memory_bytes: bounds.memory_bytes,
            private_bytes: bounds.file_bytes,
            private: private.transpose()?,
            may_hide,
            proc: Dir::open("/proc", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?,
            due: Instant::now(),
            looks: 0,
            hidden: 0,
        })
    }

    /// How long until the next look.
    pub fn next_look(&self) -> Duration {
        self.due.saturating_duration_since(Instant::now())
    }

    /// Looks, if it is time. An error says which limit the tree is over.
    pub fn look(&mut self) -> Result<(), CallError> {
        let began = Instant::now();
        if began < self.due {
            return Ok(());
        }
        self.looks = self.looks.wrapping_add(1);
        // What is over is looked at again: a process that ends or executes between two reads of one look counts twice.
        let answer = self.measure().or_else(|_| self.measure());
        let now = Instant::now();
        let pause = LOOK_STEP.max(now.saturating_duration_since(began).saturating_mul(PAUSE_FACTOR));
        self.due = now.checked_add(pause).unwrap_or(now);
        answer
    }

    fn measure(&mut self) -> Result<(), CallError> {
        let mut processes = self.processes();
        check_threads(&processes)?;
        let mut held = Held::new(self.private.as_ref().map(|(_, path)| path.as_os_str()));
        processes.iter().for_each(|process| held.add(process));
        self.check_hidden(&held)?;
        let contents = self.contents(&held)?;
        let in_files = if contents.in_memory { contents.bytes } else { 0 };
        let fixed = held.memory_bytes().saturating_add(in_files);
        let most = processes.iter().map(|process| process.most_bytes).fold(fixed, u64::saturating_add);
        let all = self.looks.is_multiple_of(EXACT_EVERY) && host_swaps();
        if most <= self.memory_bytes && !all {
            return Ok(());
        }
        processes.sort_by_key(|process| Reverse(process.most_bytes));
        let files = held.files().chain(contents.files).collect();
        let bytes = self.share_bytes(&processes, fixed, &files, all);
        if bytes <= self.memory_bytes {
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

    /// What lies in the private directory, and what lay there and is still open.
    fn contents(&self, held: &Held) -> Result<Contents, CallError> {
        let Some((directory, _)) = &self.private else { return Ok(Contents::default()) };
        let counted = Contents::count(directory.as_fd(), self.private_bytes);
        // Without a count there is no bound: a keeper that cannot count ends its command.
        let mut contents = counted.map_err(|e| failed("count its private files", e))?;
        contents.bytes = contents.bytes.saturating_add(held.nameless_bytes());
        if !contents.too_many && contents.bytes <= self.private_bytes {
            return Ok(contents);
        }
        let message = format!(
            "the command's private directory (HOME, TMPDIR) held more than the {} KiB that it may, where each name counts as \
             1 KiB at least, or lay too deep ({} names were counted); the command was ended",
            self.private_bytes / 1024,
            contents.names
        );
        Err(over("limits.fs_written", &message))
    }

    /// The tree: exactly those in the keeper's signal scope, itself left out.
    fn processes(&mut self) -> Vec<Process> {
        let own = Pid::this();
        let numbers =
            self.proc.iter().flatten().filter_map(|entry| entry.file_name().to_str().ok()?.parse::<i32>().ok());
        let tree = numbers.map(Pid::from_raw).filter(|pid| *pid != own && kill(*pid, None).is_ok());
        tree.filter_map(Process::look).collect()
    }

    /// What the tree has, each page once; from the largest process on, and no further than needed unless `all` are due.
    /// `fixed` is what is held besides mappings, in `files` among others.
    fn share_bytes(&self, processes: &[Process], fixed: u64, files: &BTreeSet<FileId>, all: bool) -> u64 {
        let mut total = fixed;
        let mut rest = processes.iter().map(|process| process.most_bytes).fold(0, u64::saturating_add);
        let mut counted: Vec<Pid> = Vec::new();
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
            total = total.saturating_add(match process.share_bytes(files) {
                Ok(bytes) => bytes,
                Err(Errno::EACCES | Errno::EPERM) => process.most_bytes,
                // Gone.
                Err(_) => 0,
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

/// Whether anything is swapped out on this host.
fn host_swaps() -> bool {
    let Ok(text) = std::fs::read_to_string("/proc/meminfo") else { return true };
    let value = |name| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    value("SwapTotal:") != value("SwapFree:")
}

fn over(limit: &str, message: &str) -> CallError {
    CallError { code: ErrorCode::Limit, message: Text::cut(message), rule: Text::cut(limit) }
}
