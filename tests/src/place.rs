//! A folder of one test: workspaces, policy, manifests, recordings, audit log, and for a normal user all other places.

use crate::ran::{Ran, Running};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// Whom a task runs as when the tests run as root.
pub const NOBODY: u32 = 65_534;

/// The folder that holds `warden` and its guests: the one of the running test's profile.
pub(crate) fn profile() -> PathBuf {
    let own = std::env::current_exe().expect("the test knows where it is");
    let folder = own.ancestors().find(|folder| folder.join("warden").is_file());
    folder.expect("`cargo build --workspace` has built warden beside the tests").to_owned()
}

/// The program itself.
pub fn warden() -> PathBuf {
    present(profile().join("warden"))
}

/// A program of the tests, built beside warden.
pub fn program(name: &str) -> PathBuf {
    present(profile().join(name))
}

/// A guest of the project.
pub fn guest(name: &str) -> PathBuf {
    present(profile().join("guests").join(name))
}

/// A sample or hand-written module.
pub fn sample(name: &str) -> PathBuf {
    present(profile().join("guests/samples").join(name))
}

fn present(path: PathBuf) -> PathBuf {
    assert!(path.is_file(), "{} is missing; run `cargo build --workspace`", path.display());
    path
}

/// A folder of one test.
pub struct Place {
    folder: TempDir,
    /// Warden itself is started as `nobody`, with all of its places in the folder, as a normal user has them.
    as_user: bool,
}

impl Place {
    /// A place with a workspace `work` and an audit folder; warden runs as whoever runs the tests.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder for the test");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("mode of the folder");
        let place = Self { folder, as_user: false };
        place.folder_of_task("work", 0o755);
        place.folder_of_task("audit", 0o700);
        for name in ["config", "state", "cache", "run"] {
            place.folder_of_task(name, 0o700);
        }
        place
    }

    /// The same, and warden is started by a normal user, whose cache and run files lie in the folder.
    pub fn of_user() -> Self {
        Self { as_user: true, ..Self::new() }
    }

    /// Whether warden is started by a normal user.
    pub(crate) fn is_of_user(&self) -> bool {
        self.as_user
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes a folder that belongs to the user of the task.
    pub fn folder_of_task(&self, name: &str, mode: u32) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).expect("a folder");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its mode");
        self.give(&path);
        path
    }

    fn give(&self, path: &Path) {
        if crate::is_root() {
            chown(path, Some(NOBODY), Some(NOBODY)).expect("its owner");
        }
    }

    /// Writes a file that decides: whoever runs the tests owns it and nobody else can write it.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("its mode");
        path
    }

    /// Writes a file of the task's user, such as `work/a.txt`.
    pub fn put(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        let parent = path.parent().expect("a parent");
        if !parent.is_dir() {
            self.folder_of_task(parent.strip_prefix(self.folder.path()).unwrap().to_str().unwrap(), 0o755);
        }
        fs::write(&path, bytes).expect("a file");
        self.give(&path);
        path
    }

    /// The text of a file.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// Writes `warden.toml`: the audit folder of this place and what is given.
    pub fn policy(&self, rest: &str) -> PathBuf {
        self.write("warden.toml", &format!("version = 1\n[audit]\ndir = \"audit\"\n{rest}"))
    }

    /// Writes `warden.toml` with workspace `work`, read-write, and what is given.
    pub fn work_policy(&self, rest: &str) -> PathBuf {
        self.policy(&format!("{WORK}{rest}"))
    }

    /// The command `warden`, nothing inherited.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(warden());
        command.args(args).current_dir(self.folder.path()).env_clear();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for (name, folder) in [
            ("HOME", "."),
            ("XDG_CONFIG_HOME", "config"),
            ("XDG_STATE_HOME", "state"),
            ("XDG_CACHE_HOME", "cache"),
            ("XDG_RUNTIME_DIR", "run"),
        ] {
            command.env(name, self.path(folder));
        }
        if self.as_user && crate::is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    /// The command `embedder`, a program that embeds the broker.
    pub fn embedder(&self, what: &str) -> Command {
        let mut command = self.command(&[]);
        let mut own = Command::new(present(profile().join("examples/embedder")));
        own.arg(what).arg(self.folder.path()).current_dir(self.folder.path()).env_clear();
        own.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        own.envs(command.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))));
        own.env("WARDEN_LIBEXEC", profile());
        if self.as_user && crate::is_root() {
            own.uid(NOBODY).gid(NOBODY);
        }
        command.stdin(Stdio::null());
        own
    }

    /// Starts `warden` with `args`.
    pub fn start(&self, args: &[&str]) -> Running {
        Running::of(self.command(args))
    }

    /// Runs `warden` with `args` to its end.
    pub fn run(&self, args: &[&str]) -> Ran {
        self.start(args).end()
    }

    /// Runs `warden --json` with `args`.
    pub fn json(&self, args: &[&str]) -> Ran {
        self.run(&[&["--json"], args].concat())
    }

    /// Runs a module under this place's `warden.toml`.
    pub fn module(&self, file: &Path, more: &[&str]) -> Ran {
        let config = self.path("warden.toml");
        if !config.exists() {
            self.policy("");
        }
        let file = file.to_str().expect("a path of text");
        self.json(&[&["run", "--config", config.to_str().unwrap(), file], more].concat())
    }
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

/// Workspace `work`.
pub const WORK: &str = "[[fs.workspace]]\nlabel = \"work\"\npath = \"work\"\naccess = \"read-write\"\n";

/// A module that takes a compiler a while; its `run` returns 7.
pub fn long_module() -> String {
    let mut text = String::from("(module\n");
    for number in 0..2500 {
        text.push_str("(func (param i64) (result i64) (local i64) (local.get 0)");
        for step in 0..24 {
            text.push_str(&format!(
                "(i64.const {}) (i64.mul) (local.tee 1) (local.get 0) (i64.xor) (i64.const {}) (i64.rotl)",
                number * 31 + step,
                step + 1
            ));
        }
        text.push_str(")\n");
    }
    text.push_str("(func (export \"run\") (result i32) (i32.const 7)))");
    text
}
