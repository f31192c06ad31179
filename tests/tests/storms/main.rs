//! Commands that do their worst, in a whole `warden`: storms of processes and of output, files without end or name, stopped
//! and traced processes, a supervisor that is killed. Each test bounds what the host feels of it, in time too, and ends with
//! something that is allowed and still works.

#![forbid(unsafe_code)]

mod files;
mod output;
mod processes;
mod races;
mod supervisor;

use serde_json::{Value, json};
use warden_tests::{Place, processes as alive};

/// A shell and python3 in the workspace, with limits that a storm reaches soon.
const COMMANDS: &str = r#"
[limits]
processes = 16
fs_written = "8MiB"
output = "64KiB"
wall = "50s"
[[proc.command]]
name = "sh"
path = "/bin/sh"
args = [["-c", "*"]]
cwd = "work"
timeout = "15s"
[[proc.command]]
name = "python3"
path = "/usr/bin/python3"
args = [["-c", "**"]]
cwd = "work"
timeout = "15s"
"#;

fn place() -> Place {
    place_with("", "")
}

/// With lines of the workspace's table, and more of the policy.
fn place_with(workspace: &str, more: &str) -> Place {
    let place = Place::new();
    place.work_policy(&format!("{workspace}{COMMANDS}{more}"));
    place
}

fn sh(script: &str) -> (&'static str, Value) {
    ("proc.spawn", json!({"command": "sh", "args": ["-c", script]}))
}

/// Runs for at most `seconds`.
fn python(code: &str, seconds: u32) -> (&'static str, Value) {
    ("proc.spawn", json!({"command": "python3", "args": ["-c", code], "timeout_ms": seconds * 1000}))
}

/// A word that stands in the command line of one test's processes only.
fn mark(name: &str) -> String {
    format!("storm-{name}-{}", std::process::id())
}

/// How many processes of the host have the mark in their command line.
fn marked(mark: &str) -> usize {
    alive::mentioning(mark).len()
}

/// T-12: a moment later nothing is left.
#[track_caller]
fn gone(mark: &str) {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(1);
    while marked(mark) > 0 && std::time::Instant::now() < until {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(alive::mentioning(mark), [], "processes are left");
}
