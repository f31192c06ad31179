//! What a helper is set up with, and what it is asked to run.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use warden_proto::msg::fs::{HelperTarget, PathRuleSetup, RuleKind, WorkspaceSetup};
use warden_proto::msg::proc::*;
use warden_proto::{List, Text};

/// What a helper is set up with.
pub struct Options {
    pub commands: Vec<(CommandSetup, PathBuf)>,
    pub bounds: ProcBounds,
    pub workspaces: Vec<WorkspaceSetup>,
    pub scratch: bool,
    /// Workspaces and scratch lie in memory.
    pub in_memory: bool,
    /// They lie neither there nor in `/tmp`, which both can then be a command's own.
    pub apart: bool,
    /// As on a host where nobody may look into another process: the call that does answers EPERM.
    pub no_tracing: bool,
    /// Commands whose rules name hosts, by index, and the runner's end of the lane to whoever connects them.
    pub network: Vec<u16>,
    pub provider: Option<OwnedFd>,
    /// As nobody, under a parent of the same uid, as an unprivileged broker would.
    pub as_nobody: bool,
    pub namespaces: Wish,
    /// As on a kernel with this Landlock, which debug builds can be told.
    pub landlock_abi: Option<u8>,
    /// The runner is started where no further user namespace may be made.
    pub hardened: bool,
    /// The task's control group.
    pub group: Option<(GroupSetup, PathBuf)>,
}

/// Namespaces are required in tests that are run again in a module of that name, and off in all others.
fn wish() -> Wish {
    let inside = |name: &str| name.starts_with("inside::");
    let named = std::thread::current().name().is_some_and(inside);
    if named || std::env::args().any(|argument| inside(&argument)) { Wish::Require } else { Wish::Off }
}

/// A command of this name that may be given anything.
pub fn any(name: &str, program: &str) -> (CommandSetup, PathBuf) {
    let setup = CommandSetup {
        name: Text::cut(name),
        shapes: List::default(),
        any_args: true,
        env: List::default(),
        exec_workspace: false,
        unchecked: true,
        rule: Text::cut(&format!("proc.command.{name}")),
    };
    (setup, PathBuf::from(program))
}

/// Workspace `wN`; its rules are `wN.0`, `wN.1` and so on.
pub fn workspace(number: usize, writable: bool, rules: &[(&str, RuleKind)]) -> WorkspaceSetup {
    let rules = rules.iter().enumerate().map(|(n, (glob, kind))| PathRuleSetup {
        glob: Text::cut(glob),
        kind: *kind,
        rule: Text::cut(&format!("w{number}.{n}")),
    });
    WorkspaceSetup {
        label: Text::cut(&format!("w{number}")),
        writable,
        symlinks: true,
        max_file_bytes: 1 << 26,
        max_file_rule: Text::cut(&format!("w{number}.max_file")),
        rules: List::new(rules.collect()).unwrap(),
        rule: Text::cut(&format!("w{number}")),
    }
}

pub const PYTHON: u16 = 0;
pub const SH: u16 = 1;
pub const ECHO: u16 = 2;

impl Default for Options {
    fn default() -> Self {
        let bounds = ProcBounds {
            memory_bytes: 1 << 30,
            file_bytes: 1 << 26,
            private_bytes: 1 << 26,
            processes: 64,
            output_bytes: 1 << 20,
            file_rule: Text::cut("user:fs.workspace.w.max_file"),
            umask: 0o022,
        };
        let commands = vec![any("python3", "/usr/bin/python3"), any("sh", "/bin/sh"), any("echo", "/bin/echo")];
        Self {
            commands,
            bounds,
            workspaces: vec![workspace(0, true, &[])],
            scratch: true,
            in_memory: false,
            apart: false,
            no_tracing: false,
            as_nobody: false,
            namespaces: wish(),
            landlock_abi: None,
            hardened: false,
            group: None,
            network: Vec::new(),
            provider: None,
        }
    }
}

/// A command in the first workspace with room for everything.
pub fn command(index: u16, args: &[&str]) -> HelperCommand {
    HelperCommand {
        command: index,
        args: List::new(args.iter().map(|arg| Text::new(*arg).unwrap()).collect()).unwrap(),
        cwd: HelperTarget::Workspace { workspace: 0, path: Text::default() },
        env: List::default(),
        timeout_ms: 60_000,
        processes_max: 64,
        growth_max: 1 << 30,
    }
}

pub fn variable(key: &str, value: &str) -> EnvVar {
    EnvVar { key: Text::cut(key), value: Text::cut(value) }
}
