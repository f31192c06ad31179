//! `warden jail`: any command in the jail of commands, with a person's streams. What is refused stands beside what is not.

mod flags;
mod people;
mod policies;
mod results;
mod statuses;
mod streams;
mod terminal;

use std::process::{Command, Stdio};
use warden_tests::{Place, Ran, Running};

/// A shell, `cat` and two shapes of `echo` in the workspace.
const COMMANDS: &str = r#"
[[proc.command]]
name = "sh"
path = "/bin/sh"
args = [["-c", "**"]]
cwd = "work"
env = { FIXED = "of the policy" }
[[proc.command]]
name = "cat"
path = "/usr/bin/cat"
args = [["**"]]
cwd = "work"
[[proc.command]]
name = "fixed"
path = "/usr/bin/echo"
args = [["one"], ["two", "*"]]
timeout = "2s"
"#;

/// A place whose `warden.toml` has workspace `work` and [`COMMANDS`].
fn place(rest: &str) -> Place {
    let place = Place::new();
    place.work_policy(&format!("{COMMANDS}{rest}"));
    place
}

/// `warden jail` under the place's policy.
fn jail(place: &Place, words: &[&str]) -> Command {
    place.command(&[&["jail", "--policy", "warden.toml", "--"], words].concat())
}

/// `warden jail` of a normal user without any policy.
fn bare(place: &Place, words: &[&str]) -> Command {
    place.command(&[&["jail"], words].concat())
}

/// The same with a shell's script.
fn sh(place: &Place, script: &str) -> Command {
    jail(place, &["sh", "-c", script])
}

/// Runs it to its end.
fn end(command: Command) -> Ran {
    Running::of(command).end()
}

/// What it prints; it must end with 0.
#[track_caller]
fn printed(command: Command) -> String {
    let ran = end(command);
    assert_eq!(ran.status, 0, "{ran:?}");
    ran.out
}

/// A stream that is a file, opened for reading.
fn file(path: &std::path::Path) -> Stdio {
    std::fs::File::open(path).expect("a file").into()
}
