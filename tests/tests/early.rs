//! A person's signal that comes before the session watches for one: the status that is told of it, and nothing left behind.

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::json;
use std::os::unix::process::CommandExt;
use std::time::{Duration, Instant};
use warden_tests::{Family, Place, Running, Task, log, processes};

/// A runbook that waits, in a process group of its own, as a shell starts it.
fn started(place: &Place) -> Running {
    let mut command = place.command(&["--json", "task", "run", "task.json"]);
    command.process_group(0);
    Running::of(command)
}

fn place() -> Place {
    let place = Place::new();
    place.work_policy("[[proc.command]]\nname = \"sleep\"\npath = \"/bin/sleep\"\nargs = [[\"*\"]]\n");
    Task::runbook(&[("proc.spawn", json!({"command": "sleep", "args": ["30"]}))]).write(&place);
    place
}

#[track_caller]
fn gone(broker: i32) {
    let until = Instant::now() + Duration::from_secs(3);
    while Family::of(broker).members.iter().any(processes::Process::lives) {
        assert!(Instant::now() < until, "left behind: {:?}", Family::of(broker).members);
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Ctrl-C reaches the whole group: the broker and, until it leads a session, the spawner.
#[test]
fn a_signal_at_the_spawners_birth_ends_with_its_status() {
    let place = place();
    for (signal, status) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143), (Signal::SIGQUIT, 131)].repeat(4) {
        let running = started(&place);
        let broker = running.pid();
        let children = format!("/proc/{broker}/task/{broker}/children");
        while std::fs::read_to_string(&children).is_ok_and(|text| text.trim().is_empty()) {}
        killpg(Pid::from_raw(broker), signal).expect("the group is there");
        let ran = running.end();
        assert_eq!((ran.status, ran.signal), (status, None), "{signal}: {}{}", ran.out, ran.err);
        assert!(!ran.err.contains("spawner"), "{}", ran.err);
        gone(broker);
    }
}

/// As soon as the first line has run, whatever comes then.
#[test]
fn a_signal_at_any_moment_ends_with_its_status() {
    let place = place();
    for delay_ms in 0..25 {
        let running = started(&place);
        let broker = running.pid();
        let caught = || {
            let text = std::fs::read_to_string(format!("/proc/{broker}/status")).unwrap_or_default();
            let value = text.lines().find_map(|line| line.strip_prefix("SigCgt:")).map(str::trim);
            value.and_then(|hex| u64::from_str_radix(hex, 16).ok()).is_some_and(|set| set & (1 << 14) != 0)
        };
        while !caught() {}
        std::thread::sleep(Duration::from_millis(delay_ms));
        killpg(Pid::from_raw(broker), Signal::SIGTERM).expect("the group is there");
        let ran = running.end();
        assert_eq!((ran.status, ran.signal), (143, None), "after {delay_ms} ms: {}{}", ran.out, ran.err);
        gone(broker);
    }
}

#[test]
fn sigquit_ends_a_task_as_sigterm_does_and_sighup_ends_nothing() {
    let place = place();
    let running = started(&place);
    processes::wait("the command", || (!log::processes(&place, "cap-proc", "locked").is_empty()).then_some(()));
    let segments = || std::fs::read_dir(place.path("audit")).expect("the log").count();
    let before = segments();
    kill(Pid::from_raw(running.pid()), Signal::SIGHUP).expect("it is there");
    processes::wait("a new segment", || (segments() > before).then_some(()));
    kill(Pid::from_raw(running.pid()), Signal::SIGQUIT).expect("it is there");
    let ran = running.end();
    assert_eq!((ran.status, ran.signal), (131, None), "{}", ran.err);
    assert_eq!(ran.object()["outcome"], "error");
    log::verify_complete(&place);
}
