//! Commands in their jail beside the same commands outside, in one run: calls on paths, a build, git, and a whole process.

use crate::stats::{self, Samples};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The rules under which commands are measured, and what a workspace says for them: those that any read-write workspace
/// has, under which reading needs no judge, and one that hides files, under which every open is judged.
const RULES: [(&str, &str); 2] = [("", ""), (", a deny rule", "deny = [\"**/.env\"]\n")];
/// Files of the repository in which `git status` looks.
const FILES: usize = 10_000;
/// A file of the system that any command may read.
const SYSTEM_FILE: &str = "/usr/bin/env";

/// A folder with a workspace, and how commands run in it.
pub struct Bench {
    folder: PathBuf,
    probe: PathBuf,
    path: String,
    toolchain: Option<PathBuf>,
}

type Failed = Box<dyn std::error::Error>;

/// Measures and prints all rows.
pub fn measure(folder: &Path, rounds: usize) -> Result<(), Failed> {
    let bench = Bench::new(folder)?;
    println!(
        "\ncommands: outside of the jail, and in it with the rules that a read-write workspace has, or a deny rule besides"
    );
    for pinned in [true, false] {
        let cpus = if pinned { "one CPU" } else { "CPUs as the kernel chooses" };
        let outside = bench.calls(pinned, None)?;
        for (rules, own) in RULES {
            let inside = bench.calls(pinned, Some(own))?;
            for (name, what, goal) in [
                ("open", "open and close, to read", pinned.then_some(12.0)),
                ("append", "open and close, to append", None),
                ("stat", "stat", None),
                ("rename", "rename there and back", None),
                ("system", "open and close of a system file", None),
            ] {
                let none = || Samples::new(Vec::new());
                let of = |all: &BTreeMap<String, Samples>| all.get(name).map_or_else(none, Samples::copy);
                stats::over(&format!("{what}, {cpus}{rules}"), &of(&outside), &of(&inside), goal);
            }
        }
    }
    bench.build(rounds.clamp(1, 5))?;
    bench.status(rounds.clamp(1, 10))?;
    bench.whole(rounds.clamp(5, 40))
}

fn nobody() -> Option<(u32, u32)> {
    let user = nix::unistd::User::from_name("nobody").ok().flatten()?;
    nix::unistd::getuid().is_root().then(|| (user.uid.as_raw(), user.gid.as_raw()))
}

/// Hands a file or folder to the user of the task.
fn give(path: &Path) -> std::io::Result<()> {
    nobody().map_or(Ok(()), |(uid, gid)| chown(path, Some(uid), Some(gid)))
}

fn of_task(path: &Path, mode: u32) -> std::io::Result<()> {
    fs::create_dir_all(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    give(path)
}

fn second_name(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(drop))
}

/// A second name, or a copy, of every file of a folder.
fn second_names(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = to.join(entry.file_name());
        match entry.path() {
            path if path.is_dir() => second_names(&path, &name)?,
            path => second_name(&path, &name)?,
        }
    }
    Ok(())
}

impl Bench {
    fn new(folder: &Path) -> Result<Self, Failed> {
        let folder = folder.join("commands");
        fs::create_dir(&folder)?;
        for (name, mode) in [("work", 0o755), ("home", 0o700), ("audit", 0o700), ("run", 0o700)] {
            of_task(&folder.join(name), mode)?;
        }
        // Where the user of the task can reach it, whoever that is.
        let probe = folder.join("probe");
        second_name(&std::env::current_exe()?, &probe)?;
        let toolchain = toolchain(&folder)?;
        let first = toolchain.as_ref().map(|root| format!("{}/bin:", root.display())).unwrap_or_default();
        let path = format!("{first}/usr/local/bin:/usr/bin:/bin");
        Ok(Self { folder, probe, path, toolchain })
    }

    fn put(&self, name: &str, text: &str) -> std::io::Result<()> {
        let path = self.folder.join("work").join(name);
        for folder in path.ancestors().skip(1).take_while(|each| !each.exists()).collect::<Vec<_>>().iter().rev() {
            of_task(folder, 0o755)?;
        }
        fs::write(&path, text)?;
        give(&path)
    }

    fn outside(&self, args: &[&str]) -> Result<String, Failed> {
        let mut command = Command::new(&self.probe);
        command.arg("probe").args(args).current_dir(self.folder.join("work")).env_clear().stdin(Stdio::null());
        command.env("PATH", &self.path).env("LANG", "C.UTF-8").env("CARGO_INCREMENTAL", "0");
        command.env("HOME", self.folder.join("home")).env("TMPDIR", self.folder.join("home"));
        if let Some((uid, gid)) = nobody() {
            command.uid(uid).gid(gid);
        }
        let output = command.output()?;
        if !output.status.success() {
            return Err(format!("outside: {args:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// `rules` are further lines of the workspace.
    fn inside(&self, args: &[&str], rules: &str) -> Result<String, Failed> {
        let reading = self
            .toolchain
            .as_ref()
            .map(|root| format!("[[fs.workspace]]\nlabel = \"tools\"\npath = {:?}\n", root.display().to_string()));
        let policy = format!(
            "version = 1\n[audit]\ndir = \"audit\"\n[limits]\nprocesses = 64\nmemory = \"1GiB\"\nfs_written = \"4GiB\"\n\
             wall = \"10m\"\n[[fs.workspace]]\nlabel = \"work\"\npath = \"work\"\naccess = \"read-write\"\n{rules}{}\
             [[proc.command]]\nname = \"probe\"\npath = \"probe\"\nargs = [[\"probe\", \"**\"]]\ncwd = \"work\"\n\
             exec_workspace = true\nenv = {{ PATH = {:?}, CARGO_INCREMENTAL = \"0\" }}\n",
            reading.unwrap_or_default(),
            self.path
        );
        fs::write(self.folder.join("warden.toml"), policy)?;
        let args: Vec<&str> = std::iter::once("probe").chain(args.iter().copied()).collect();
        let step = serde_json::json!({"capability": "proc.spawn", "input": {"command": "probe", "args": args}});
        let task = serde_json::json!({"kind": "runbook", "policy": "warden.toml", "step": [step]});
        fs::write(self.folder.join("task.json"), task.to_string())?;
        let output = self.warden(&["--json", "task", "run", "task.json"]).output()?;
        let said: serde_json::Value = serde_json::from_slice(&output.stdout)
            .map_err(|e| format!("{e}: {}", String::from_utf8_lossy(&output.stderr)))?;
        let action = &said["steps"][0]["actions"][0];
        match (action["output"]["status"].as_i64(), action["output"]["stdout"].as_str()) {
            (Some(0), Some(text)) => Ok(text.to_owned()),
            _ => Err(format!("inside: {args:?}: {action} {}", said["reason"]).into()),
        }
    }

    /// `warden` of the same build, with all its places in the folder.
    fn warden(&self, args: &[&str]) -> Command {
        let own = std::env::current_exe().unwrap_or_default();
        let mut command = Command::new(own.with_file_name("warden"));
        command.args(args).current_dir(&self.folder).env_clear().stdin(Stdio::null());
        for name in ["XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"] {
            command.env(name, self.folder.join("run"));
        }
        command
    }

    /// Inside where there are `rules`.
    fn calls(&self, pinned: bool, rules: Option<&str>) -> Result<BTreeMap<String, Samples>, Failed> {
        let args = ["calls", ".", SYSTEM_FILE];
        let run = || rules.map_or_else(|| self.outside(&args), |rules| self.inside(&args, rules));
        let text = if pinned { crate::floors::on_one_cpu(run) } else { run() }?;
        Ok(parse(&text))
    }

    fn build(&self, rounds: usize) -> Result<(), Failed> {
        if self.toolchain.is_none() {
            println!("cargo build: not measured, `rustc --print sysroot` names no toolchain");
            return Ok(());
        }
        self.put("crate/Cargo.toml", "[package]\nname = \"small\"\nversion = \"0.1.0\"\nedition = \"2024\"\n")?;
        self.put("crate/src/main.rs", "mod part;\nfn main() {\n    println!(\"{}\", part::part(3));\n}\n")?;
        let part: String =
            (0..200).map(|n| format!("pub fn f{n}(x: u64) -> u64 {{ x.rotate_left({n} % 64) ^ {n} }}\n")).collect();
        self.put("crate/src/part.rs", &format!("{part}pub fn part(x: u64) -> u64 {{ f1(f2(x)) }}\n"))?;
        let rounds = rounds.to_string();
        let target = ["--target-dir", "target-{}"];
        let words = ["timed", &rounds, "cargo", "build", "--offline", "--quiet", "--manifest-path", "crate/Cargo.toml"];
        let args: Vec<&str> = words.iter().chain(&target).copied().collect();
        let last: u32 = rounds.parse()?;
        let anew = || {
            let targets = (0..=last).map(|round| self.folder.join(format!("work/target-{round}")));
            targets.filter(|target| target.exists()).try_for_each(fs::remove_dir_all)
        };
        self.beside("cargo build of a small crate", &args, 1.3, anew)
    }

    fn status(&self, rounds: usize) -> Result<(), Failed> {
        for number in 0..FILES {
            self.put(&format!("repo/d{}/e{}/f{number}", number % 50, number % 7), &number.to_string())?;
        }
        let git = |args: &[&str]| {
            let all = ["timed", "0", "git", "-C", "repo", "-c", "user.name=A", "-c", "user.email=a@b.c"];
            self.outside(&all.iter().chain(args).copied().collect::<Vec<_>>())
        };
        git(&["init", "-q"])?;
        git(&["add", "-A"])?;
        git(&["commit", "-q", "-m", "all"])?;
        // An index as new as its files is read with them, again and again.
        std::thread::sleep(Duration::from_millis(1100));
        git(&["status"])?;
        let rounds = rounds.to_string();
        self.beside(
            "git status on 10,000 files",
            &["timed", &rounds, "git", "-C", "repo", "status", "--porcelain"],
            2.0,
            || Ok(()),
        )
    }

    /// One program outside and under each of the rules, with `anew` before each.
    fn beside(
        &self,
        what: &str,
        args: &[&str],
        goal: f64,
        anew: impl Fn() -> std::io::Result<()>,
    ) -> Result<(), Failed> {
        let timed = |text: String| parse(&text).remove("timed").ok_or("nothing was timed");
        anew()?;
        let outside = timed(self.outside(args)?)?;
        for (rules, own) in RULES {
            anew()?;
            stats::row(&format!("{what}{rules}"), &outside, &timed(self.inside(args, own)?)?, goal);
        }
        Ok(())
    }

    /// Whole processes, from start to end: nothing, bubblewrap, warden.
    fn whole(&self, rounds: usize) -> Result<(), Failed> {
        let bare = whole(rounds, || Command::new("/bin/true"))?;
        if !Path::new("/usr/bin/bwrap").exists() {
            println!("warden jail beside bubblewrap: not measured, /usr/bin/bwrap is not here");
            return Ok(());
        }
        let bwrap = whole(rounds, || {
            let mut command = Command::new("/usr/bin/bwrap");
            command.args(["--unshare-all", "--ro-bind", "/", "/", "/bin/true"]);
            command
        })?;
        let policy = "version = 1\n[audit]\ndir = \"audit\"\n[[proc.command]]\nname = \"true\"\npath = \"/bin/true\"\n";
        fs::write(self.folder.join("jail.toml"), policy)?;
        let jail = whole(rounds, || self.warden(&["jail", "--policy", "jail.toml", "--", "/bin/true"]))?;
        stats::row("warden jail /bin/true, beside bwrap", &bwrap, &jail, 3.0);
        stats::row("the same, beside /bin/true alone", &bare, &jail, f64::INFINITY);
        Ok(())
    }
}

fn whole(rounds: usize, make: impl Fn() -> Command) -> Result<Samples, Failed> {
    let mut all = Vec::new();
    for _ in 0..rounds {
        let mut command = make();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let begin = Instant::now();
        let output = command.output()?;
        all.push(begin.elapsed());
        if !output.status.success() {
            return Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr)).into());
        }
    }
    Ok(Samples::new(all))
}

/// `NAME NANOSECONDS` lines, by name.
fn parse(text: &str) -> BTreeMap<String, Samples> {
    let mut all: BTreeMap<String, Vec<Duration>> = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, Ok(nanos))) = line.split_once(' ').map(|(name, value)| (name, value.parse())) {
            all.entry(name.to_owned()).or_default().push(Duration::from_nanos(nanos));
        }
    }
    all.into_iter().map(|(name, samples)| (name, Samples::new(samples))).collect()
}

/// The toolchain of whoever measures, reachable for the user of the task.
fn toolchain(folder: &Path) -> std::io::Result<Option<PathBuf>> {
    let Ok(said) = Command::new("rustc").args(["--print", "sysroot"]).output() else { return Ok(None) };
    let root = PathBuf::from(String::from_utf8_lossy(&said.stdout).trim());
    if !root.join("bin/cargo").is_file() {
        return Ok(None);
    }
    if nobody().is_none() || !root.starts_with("/root") {
        return Ok(Some(root));
    }
    let reachable = folder.join("toolchain");
    for name in ["bin", "lib"] {
        second_names(&root.join(name), &reachable.join(name))?;
    }
    Ok(Some(reachable))
}
