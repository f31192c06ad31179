//! A scene: a workspace that is built twice, once for the run outside and once for the run in the jail.
//!
//! Both runs have the same path for the workspace, the same user, umask and variables, and an empty home of their own. The
//! run outside is the control: what fails there too says nothing about the jail.

use crate::tree::{self, Leave, Tree};
use serde_json::json;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use warden_tests::manifest::succeeded;
use warden_tests::{NOBODY, Place, Task, is_root, skipped};

/// What a policy says of a command that is to run in a workspace with rules of files.
const RULED: &str = "";
/// Where both runs look for programs.
pub const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Whether the programs are here; says which is not.
pub fn present(programs: &[&str]) -> bool {
    let missing: Vec<&&str> = programs.iter().filter(|path| !Path::new(path).exists()).collect();
    if !missing.is_empty() {
        skipped(&format!("{missing:?} is not here; `tools/setup test` installs it"));
    }
    missing.is_empty()
}

/// How a run ended.
pub struct Outcome {
    /// Its exit status.
    pub status: i64,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// What was in the workspace then.
    pub tree: Tree,
}

/// Of the tree only the names: what a test that fails prints is read by people.
impl std::fmt::Debug for Outcome {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&String> = self.tree.keys().take(200).collect();
        write!(to, "status {}\n{}\n{}\n{names:?}", self.status, self.out, self.err)
    }
}

/// A workspace under construction.
pub struct Scene {
    place: Place,
    variables: Vec<(String, String)>,
    workspace: String,
    command: String,
    more: String,
    leave: fn(&str) -> Leave,
}

impl Scene {
    /// An empty workspace, read-write, with the rules that every such workspace has.
    pub fn new() -> Self {
        let place = Place::new();
        place.folder_of_task("home", 0o700);
        Self {
            place,
            variables: Vec::new(),
            workspace: String::new(),
            command: String::new(),
            more: String::new(),
            leave: |_| Leave::Nothing,
        }
    }

    /// A variable of both runs.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A line of the workspace's table in the policy.
    pub fn rule(mut self, line: &str) -> Self {
        self.workspace.push_str(&format!("{line}\n"));
        self
    }

    /// The command may execute what lies in a workspace.
    pub fn executing(mut self) -> Self {
        self.command.push_str("exec_workspace = true\n");
        self
    }

    /// A folder that the command may read, and from which it may execute if it is [`executing`](Self::executing).
    pub fn reading(mut self, label: &str, folder: &Path) -> Self {
        let folder = folder.display();
        self.more.push_str(&format!("[[fs.workspace]]\nlabel = \"{label}\"\npath = \"{folder}\"\n"));
        self
    }

    /// What of the tree is not compared.
    pub fn leaving(mut self, leave: fn(&str) -> Leave) -> Self {
        self.leave = leave;
        self
    }

    /// A folder beside the workspace.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Writes a file of the workspace.
    pub fn put(&self, name: &str, contents: &str) {
        let path = Path::new("work").join(name);
        let folders: Vec<&Path> = path.ancestors().skip(1).filter(|each| each.components().count() > 1).collect();
        for folder in folders.into_iter().rev() {
            self.place.folder_of_task(folder.to_str().expect("a path of text"), 0o755);
        }
        self.place.put(path.to_str().expect("a path of text"), contents);
    }

    /// Builds the scene twice, runs `script` by `sh` outside and inside, and expects the same; returns what came of it.
    #[track_caller]
    pub fn same(&self, build: impl Fn(&Self), script: &str) -> Outcome {
        // The home's name is chance, so each run says it first.
        let script = format!("printf '%s\\n' \"$HOME\"\n{script}");
        self.clear();
        build(self);
        let outside = self.outside(&script);
        self.clear();
        build(self);
        let inside = self.inside(&script);
        let told = format!("outside: {}\n{}\ninside: {}\n{}", outside.out, outside.err, inside.out, inside.err);
        assert_eq!(inside.status, outside.status, "status\n{told}");
        assert_eq!(inside.out, outside.out, "standard output\n{told}");
        assert_eq!(inside.err, outside.err, "standard error\n{told}");
        let differences = tree::differences(&outside.tree, &inside.tree);
        assert!(differences.is_empty(), "the workspace: {differences:#?}\n{told}");
        inside
    }

    /// Builds the scene and runs `script` inside.
    #[track_caller]
    pub fn only_inside(&self, build: impl Fn(&Self), script: &str) -> Outcome {
        self.clear();
        build(self);
        self.inside(&format!("printf '%s\\n' \"$HOME\"\n{script}"))
    }

    /// Builds the scene and runs `script` outside: the control of a test of what is denied.
    pub fn only_outside(&self, build: impl Fn(&Self), script: &str) -> Outcome {
        self.clear();
        build(self);
        self.outside(&format!("printf '%s\\n' \"$HOME\"\n{script}"))
    }

    /// The text of a file of the workspace, if it is there.
    pub fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.place.path("work").join(name)).ok()
    }

    /// No file of the workspace but `names` holds `text`.
    #[track_caller]
    pub fn nothing_else_holds(&self, text: &str, names: &[&str]) {
        let found = tree::holding(&self.place.path("work"), text.as_bytes());
        let others: Vec<&String> = found.iter().filter(|name| !names.contains(&name.as_str())).collect();
        assert!(others.is_empty(), "{text:?} is in {others:?}");
    }

    /// Runs `script` outside, as a part of building the scene.
    #[track_caller]
    pub fn prepare(&self, script: &str) {
        let ran = self.outside(&format!("printf '%s\\n' \"$HOME\"\n{script}"));
        assert_eq!(ran.status, 0, "{ran:?}");
    }

    fn clear(&self) {
        for (folder, mode) in [("work", 0o755), ("home", 0o700)] {
            fs::remove_dir_all(self.place.path(folder)).expect("the folder of the run before");
            self.place.folder_of_task(folder, mode);
        }
    }

    fn outside(&self, script: &str) -> Outcome {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "umask 022; exec sh -c \"$0\"", script]);
        command.current_dir(self.place.path("work")).env_clear().stdin(Stdio::null());
        command.env("PATH", PATH).env("LANG", "C.UTF-8");
        command.env("HOME", self.place.path("home")).env("TMPDIR", self.place.path("home"));
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        let output = command.output().expect("a shell");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.outcome(output.status.code().map_or(-1, i64::from), &text(&output.stdout), &text(&output.stderr))
    }

    fn inside(&self, script: &str) -> Outcome {
        let variables: Vec<String> = self.variables.iter().map(|(name, value)| format!("{name} = {value:?}")).collect();
        self.place.work_policy(&format!(
            "{}{}[limits]\nprocesses = 64\nfs_written = \"1GiB\"\nmemory = \"1GiB\"\nwall = \"5m\"\n\
             [[proc.command]]\nname = \"sh\"\npath = \"/bin/sh\"\nargs = [[\"-c\", \"*\"]]\ncwd = \"work\"\n\
             {}env = {{ {} }}\n{RULED}",
            self.workspace,
            self.more,
            self.command,
            variables.join(", ")
        ));
        let actions = Task::runbook(&[("proc.spawn", json!({"command": "sh", "args": ["-c", script]}))]);
        let actions = actions.actions(&self.place);
        let output = succeeded(&actions[0]);
        assert_eq!(output["truncated"], false, "{output}");
        let text = |stream: &str| output[stream].as_str().expect("a text").to_owned();
        self.outcome(output["status"].as_i64().unwrap_or(-1), &text("stdout"), &text("stderr"))
    }

    fn outcome(&self, status: i64, out: &str, err: &str) -> Outcome {
        let (home, out) = out.split_once('\n').unwrap_or(("", out));
        let tell = [(home.to_owned(), "HOME")];
        let told = |text: &str| text.replace(if home.is_empty() { "\0" } else { home }, "HOME");
        let tree = tree::read(&self.place.path("work"), self.leave, &tell);
        Outcome { status, out: told(out), err: told(err), tree }
    }
}
