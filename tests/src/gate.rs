//! Gates: steps of a runbook at which a task waits for the test, so that what a test does to a process is done at a known
//! moment and not at a guessed one.
//!
//! A gate is a command that waits for a file in workspace `work`; the test learns from the audit log that it stands there.

use crate::place::Place;
use crate::ran::Running;
use crate::{log, processes};
use serde_json::{Value, json};

/// The command of a gate, for the policy.
pub const COMMAND: &str = "[[proc.command]]\nname = \"gate\"\npath = \"/bin/sh\"\nargs = [[\"-c\", \"*\"]]\ncwd = \"work\"\n\
unchecked = true\n";

/// The step that is gate `number`; gates count from 1.
pub fn step(number: usize) -> (&'static str, Value) {
    let wait = format!("until [ -e gate-{number} ]; do sleep 0.02; done");
    ("proc.spawn", json!({"command": "gate", "args": ["-c", wait]}))
}

fn spawns(place: &Place, phase: &str) -> usize {
    log::of(place, "proc.spawn").iter().filter(|record| record["phase"] == phase).count()
}

/// Waits until the task stands at gate `number`.
#[track_caller]
pub fn reached(place: &Place, number: usize) {
    processes::wait("the gate", || (spawns(place, "begin") >= number).then_some(()));
}

/// Waits until the command of gate `number` itself runs, beneath its keeper.
#[track_caller]
pub fn stands(running: &Running, number: usize) {
    let words = format!("gate-{number}");
    processes::wait("the gate's command", || {
        running.family().members.iter().any(|member| member.line.contains(&words)).then_some(())
    });
}

/// Opens gate `number`, and returns when the task is through.
#[track_caller]
pub fn open(place: &Place, number: usize) {
    place.put(&format!("work/gate-{number}"), "");
    processes::wait("the way through the gate", || (spawns(place, "end") >= number).then_some(()));
}
