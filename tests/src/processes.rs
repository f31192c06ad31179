//! Processes of a `warden`, as /proc shows them.
//!
//! Ours are undumpable, so only root can look at their executables and descriptors.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

/// One process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// When it started, clock ticks since boot: with the number, who it is.
    pub started: u64,
    /// Its command line, words joined by blanks.
    pub line: String,
}

/// `pid (comm) state ppid …` of /proc/PID/stat: what stands behind the last parenthesis.
fn stat(pid: i32) -> Option<(char, i32, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let rest = text.rsplit_once(')')?.1;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let state = fields.first()?.chars().next()?;
    Some((state, fields.get(1)?.parse().ok()?, fields.get(19)?.parse().ok()?))
}

impl Process {
    fn read(pid: i32) -> Option<Self> {
        let (state, parent, started) = stat(pid)?;
        if matches!(state, 'Z' | 'X') {
            return None;
        }
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ").trim().to_owned();
        Some(Self { pid, parent, started, line })
    }

    /// Whether this very process still runs.
    pub fn lives(&self) -> bool {
        Self::read(self.pid).is_some_and(|now| now.started == self.started)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        if self.lives() {
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// Kills it.
    pub fn kill(&self) {
        self.signal(Signal::SIGKILL);
    }

    /// The lines of /proc/PID/status, by name.
    pub fn status(&self) -> BTreeMap<String, String> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let pair = |line: &str| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
        text.lines().filter_map(pair).collect()
    }

    /// What its descriptors are, by number. Only root can look.
    pub fn descriptors(&self) -> BTreeMap<u32, String> {
        let Ok(entries) = fs::read_dir(format!("/proc/{}/fd", self.pid)) else { return BTreeMap::new() };
        let facts = entries.filter_map(|entry| {
            let entry = entry.ok()?;
            let number = entry.file_name().to_str()?.parse().ok()?;
            Some((number, fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned()))
        });
        facts.collect()
    }
}

/// A broker and everything it made.
#[derive(Debug, Clone)]
pub struct Family {
    broker: i32,
    /// The broker first.
    pub members: Vec<Process>,
}

fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.filter_map(Process::read).collect()
}

impl Family {
    /// The processes that descend from `broker`, now.
    pub fn of(broker: i32) -> Self {
        let everybody = all();
        let mut members: Vec<Process> = everybody.iter().filter(|p| p.pid == broker).cloned().collect();
        let mut at = 0;
        while let Some(parent) = members.get(at).map(|p| p.pid) {
            members.extend(everybody.iter().filter(|p| p.parent == parent && p.pid != broker).cloned());
            at += 1;
        }
        Self { broker, members }
    }

    /// The members whose command line begins with `line`, oldest first.
    pub fn named(&self, line: &str) -> Vec<Process> {
        let mut found: Vec<Process> = self.members.iter().filter(|p| p.line.starts_with(line)).cloned().collect();
        found.sort_by_key(|p| (p.started, p.pid));
        found
    }

    /// The spawner: the broker's one child.
    pub fn spawner(&self) -> Option<Process> {
        self.members.iter().find(|p| p.parent == self.broker).cloned()
    }

    /// The template: the one among those of its command line that holds no worker's link; the first that was made.
    pub fn template(&self) -> Option<Process> {
        self.named("warden-sandbox --template").first().cloned()
    }

    /// The newest worker. A worker is forked from the template and has its command line.
    pub fn worker(&self) -> Option<Process> {
        let all = self.named("warden-sandbox --template");
        if all.len() > 1 { all.last().cloned() } else { None }
    }

    /// A role's process, by the words of contract and log.
    pub fn role(&self, role: &str) -> Option<Process> {
        match role {
            "spawner" => self.spawner(),
            "template" => self.template(),
            "worker" => self.worker(),
            "compiler" => self.named("warden-sandbox --compiler").last().cloned(),
            "cap-proc" => self.named("cap-proc --front").last().cloned(),
            "cap-proc-runner" => self.runner(),
            "cap-proc-guard" => self.named("cap-proc --runner").first().filter(|_| self.inside().is_some()).cloned(),
            other => self.named(other).last().cloned(),
        }
    }

    /// What forks keepers; where it is in namespaces of its own, its parent has its command line and is the guard.
    fn runner(&self) -> Option<Process> {
        self.inside().or_else(|| self.named("cap-proc --runner").first().cloned())
    }

    /// The runner, if it is process 1 of a pid namespace.
    fn inside(&self) -> Option<Process> {
        let first = |p: &Process| p.status().get("NSpid").is_some_and(|numbers| numbers.ends_with("\t1"));
        self.named("cap-proc --runner").into_iter().find(first)
    }

    /// Waits until a process of `role` is there.
    #[track_caller]
    pub fn wait_for(broker: i32, role: &str) -> Process {
        wait(&format!("a process of {role}"), || Self::of(broker).role(role))
    }
}

/// Waits for something to come. The bound ends a test that hangs and measures nothing: a loaded machine may take its time.
#[track_caller]
pub fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(90);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "{what} did not come");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The processes of the whole host whose command line is `line`, told apart from others by a number in it.
pub fn marked(line: &str) -> Vec<Process> {
    all().into_iter().filter(|process| process.line == line).collect()
}

/// The processes of the whole host whose command line has `words` in it.
pub fn mentioning(words: &str) -> Vec<Process> {
    all().into_iter().filter(|process| process.line.contains(words)).collect()
}
