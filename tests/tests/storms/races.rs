//! Paths that change while they are judged (T-02): 10,000 rounds of each kind, and nothing won.
//!
//! The control is the same probe outside of the jail, where the denied file is an ordinary one: it wins there at once.

use crate::{mark, place_with, sh};
use serde_json::json;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};
use warden_tests::manifest::succeeded;
use warden_tests::{NOBODY, Place, Task, is_root, place::program};

const ROUNDS: &str = "10000";

/// The probe beside the workspace, where the user of the task can reach it.
fn scene() -> Place {
    let place = place_with(
        "deny = [\"**/.env\", \"shut\"]\ndeny_write = [\"Makefile\"]\n",
        "[[proc.command]]\nname = \"race\"\npath = \"race-probe\"\nargs = [[\"**\"]]\ncwd = \"work\"\ntimeout = \"40s\"\n",
    );
    let probe = place.path("race-probe");
    fs::hard_link(program("race-probe"), &probe)
        .or_else(|_| fs::copy(program("race-probe"), &probe).map(drop))
        .expect("the probe");
    place.put("work/aenv", "allowed");
    place.put("work/.env", "SECRET");
    place.put("work/Makebook", "allowed");
    place.put("work/Makefile", "all: kept");
    place.put("work/open/inner", "allowed");
    place.put("work/shut/inner", "SECRET");
    place.write("outside.txt", "SECRET");
    place
}

/// `allowed N refused N won N`.
fn counts(text: &str) -> [u64; 3] {
    let numbers: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    numbers.try_into().unwrap_or_else(|_| panic!("three counts: {text}"))
}

/// Runs the probe inside and, as a control, outside.
#[track_caller]
fn race(args: &[&str]) {
    let place = scene();
    let denied = place.path("work").join(args[3]);
    let inode = fs::metadata(&denied).expect("the denied file").ino().to_string();
    let args: Vec<&str> = args.iter().copied().chain([ROUNDS, &inode]).collect();
    let before = fs::read(&denied).expect("its contents");
    let began = Instant::now();
    let step = ("proc.spawn", json!({"command": "race", "args": args}));
    let actions = Task::runbook(&[step, sh("cat aenv; echo again")]).actions(&place);
    let inside = counts(succeeded(&actions[0])["stdout"].as_str().expect("a text"));
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
    assert_eq!(inside[2], 0, "won, of 10,000: {args:?}: {inside:?}");
    assert_eq!(fs::read(&denied).expect("it is there"), before, "{args:?}");
    assert_eq!(fs::metadata(&denied).expect("it is there").nlink(), 1, "{args:?}");
    assert!(inside[0] > 50 && inside[1] > 50, "both were met: {args:?}: {inside:?}");
    succeeded(&actions[1]);
    let mut outside = Command::new(place.path("race-probe"));
    outside.args(&args).current_dir(place.path("work"));
    if is_root() {
        outside.uid(NOBODY).gid(NOBODY);
    }
    let outside = outside.output().expect("the probe outside");
    let counted = counts(&String::from_utf8_lossy(&outside.stdout));
    let changed = fs::read(&denied).map_or(true, |now| now != before);
    assert!(counted[2] > 0 || changed, "the control wins: {args:?}: {counted:?}");
}

#[test]
fn a_path_that_changes_under_an_open_to_read() {
    race(&["flip", "read", "aenv", ".env"]);
}

#[test]
fn a_path_that_changes_under_an_open_to_write() {
    race(&["flip", "write", "Makebook", "Makefile"]);
}

#[test]
fn a_path_that_changes_under_a_truncate() {
    race(&["flip", "truncate", "Makebook", "Makefile"]);
}

#[test]
fn a_path_that_changes_under_a_rename() {
    race(&["flip", "rename", "aenv", ".env"]);
}

#[test]
fn a_path_that_changes_under_a_link() {
    race(&["flip", "link", "aenv", ".env"]);
}

#[test]
fn a_parent_that_changes_under_an_open() {
    race(&["flip", "read", "open/inner", "shut/inner"]);
}

#[test]
fn a_link_that_leads_elsewhere_meanwhile() {
    race(&["swap", "link", "aenv", ".env"]);
}

#[test]
fn a_link_to_a_file_outside_of_the_workspace() {
    race(&["swap", "link", "aenv", "../outside.txt"]);
}

#[test]
fn a_folder_that_is_a_link_and_leads_elsewhere_meanwhile() {
    race(&["swap", "link", "open/inner", "shut/inner"]);
}

/// Opens as fast as they go through the door, from as many threads as the machine has CPUs and more: time limits, other
/// commands and the end are on time (T-06).
#[test]
fn a_flood_of_opens_delays_neither_its_end_nor_others() {
    let place = scene();
    let mark = mark("opens");
    place.put(&format!("work/{mark}"), "x");
    let flood = |seconds: &str| ("proc.spawn", json!({"command": "race", "args": ["flood", &mark, seconds, "4"]}));
    let steps = [
        flood("2"),
        (
            "proc.start",
            json!({"command": "race", "args": ["flood", &mark, "30", "4"], "alias": "flood", "timeout_ms": 4000}),
        ),
        sh("cat aenv; for i in 1 2 3; do cat aenv; done"),
        ("proc.wait", json!({"process": "flood", "timeout_ms": 20_000})),
        sh("echo again"),
    ];
    let began = Instant::now();
    let actions = Task::runbook(&steps).actions(&place);
    assert!(began.elapsed() < Duration::from_secs(18), "{:?}", began.elapsed());
    let rate: u64 =
        succeeded(&actions[0])["stdout"].as_str().and_then(|text| text.trim().parse().ok()).expect("a rate");
    eprintln!("{rate} opens a second through the door");
    assert!(rate > 1_000, "{rate} opens a second");
    assert_eq!(succeeded(&actions[2])["stdout"], "allowed".repeat(4));
    let ended = &actions[3];
    assert!(ended["output"]["timed_out"] == true || ended["error"]["code"] == "timeout", "{ended}");
    assert_eq!(succeeded(&actions[4])["stdout"], "again\n");
    crate::gone(&mark);
}
