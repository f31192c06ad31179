//! `proc.*`: every action done, denied by its rule, stopped by its limit, and its helper killed under it; streams through
//! the imports; and what a command cannot reach, each beside what it can.

mod actions;
mod groups;
mod jail;
mod killed;
mod limits;
mod rules;

use serde_json::{Value, json};
use warden_tests::manifest::succeeded;
use warden_tests::{Place, Task};

/// A shell and `cat` in the workspace; `fixed` takes two shapes of arguments and no other.
const COMMANDS: &str = r#"
[[proc.command]]
name = "sh"
path = "/bin/sh"
args = [["-c", "*"]]
cwd = "work"
env = { FIXED = "of the policy" }
env_from_guest = ["GIVEN"]
timeout = "20s"
[[proc.command]]
name = "cat"
path = "/usr/bin/cat"
cwd = "work"
[[proc.command]]
name = "fixed"
path = "/usr/bin/echo"
args = [["one"], ["two", "*"]]
cwd = "work"
"#;

fn place(rest: &str) -> Place {
    let place = Place::new();
    place.folder_of_task("other", 0o755);
    let other = "[[fs.workspace]]\nlabel = \"other\"\npath = \"other\"\n";
    place.work_policy(&format!("{other}{COMMANDS}{rest}"));
    place
}

fn sh(script: &str) -> (&'static str, Value) {
    ("proc.spawn", json!({"command": "sh", "args": ["-c", script]}))
}

fn start(alias: &str, script: &str) -> (&'static str, Value) {
    ("proc.start", json!({"command": "sh", "args": ["-c", script], "alias": alias}))
}

fn wait(alias: &str) -> (&'static str, Value) {
    ("proc.wait", json!({"process": alias}))
}

fn signal(alias: &str, name: &str) -> (&'static str, Value) {
    ("proc.signal", json!({"process": alias, "signal": name}))
}

fn write(alias: &str, data: &str, eof: bool) -> (&'static str, Value) {
    ("proc.write_stdin", json!({"process": alias, "data": data, "eof": eof}))
}

fn read(alias: &str) -> (&'static str, Value) {
    ("proc.read", json!({"process": alias, "stream": "stdout"}))
}

/// What `sh -c script` printed, in a task of its own.
#[track_caller]
fn printed(place: &Place, script: &str) -> String {
    let actions = Task::runbook(&[sh(script)]).actions(place);
    succeeded(&actions[0])["stdout"].as_str().unwrap().to_owned()
}
