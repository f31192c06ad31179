//! T-12: process 1 of a container often reaps nothing. What a run leaves to it stays for ever, so a run leaves nothing.

use nix::sys::prctl::set_child_subreaper;
use serde_json::json;
use std::fs;
use std::time::{Duration, Instant};
use warden_tests::{Place, Task, sample};

/// Processes, ended ones included, that have become this process's own: their numbers, names and states.
fn adopted() -> Vec<String> {
    let own = std::process::id().to_string();
    let entries = fs::read_dir("/proc").expect("processes");
    let stats = entries.filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("stat")).ok());
    // `pid (comm) state ppid …`
    stats
        .filter(|stat| stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)) == Some(&own))
        .collect()
}

/// The one test of this file: to be the subreaper is the whole process's business.
#[test]
fn a_run_leaves_no_process_to_one_that_reaps_nothing() {
    set_child_subreaper(true).expect("a subreaper");
    // The control: what is orphaned comes here and is seen.
    let shell = std::process::Command::new("/bin/sh").args(["-c", "sleep 0 & exit 0"]).status().expect("a shell");
    assert!(shell.success());
    let until = Instant::now() + Duration::from_secs(5);
    let mut seen = adopted();
    while seen.is_empty() && Instant::now() < until {
        seen = adopted();
    }
    assert!(!seen.is_empty(), "an orphan comes here");
    while nix::sys::wait::wait().is_ok() {}
    let place = Place::new();
    place
        .work_policy("[[proc.command]]\nname = \"sh\"\npath = \"/bin/sh\"\nargs = [[\"-c\", \"*\"]]\ncwd = \"work\"\n");
    place.module(&sample("run42.wat"), &[]).object();
    assert_eq!(adopted(), Vec::<String>::new(), "after `warden run`");
    let steps =
        [("fs.list_dir", json!({})), ("proc.spawn", json!({"command": "sh", "args": ["-c", "sleep 60 & exit 0"]}))];
    Task::runbook(&steps).run(&place).outcome("unverified");
    assert_eq!(adopted(), Vec::<String>::new(), "after `warden task run`");
    place.json(&["run", "--config", "warden.toml", "warden.toml"]).object();
    assert_eq!(adopted(), Vec::<String>::new(), "after a module that is none");
}
