//! `warden doctor`.

use crate::{Place, Ran};
use std::path::Path;
use std::process::Command;

#[test]
fn doctor_answers_for_every_jail_with_a_consequence_for_what_is_lost() {
    let place = Place::new();
    let ran = place.run(&["doctor", "--json"]);
    let object = ran.object();
    assert_eq!(object["schema"], "warden.doctor/1");
    let checks = object["checks"].as_array().unwrap();
    let missing = checks.iter().any(|check| check["state"] == "missing");
    assert_eq!((object["ok"].as_bool(), ran.status()), (Some(!missing), i32::from(missing)), "{object}");
    for check in checks {
        let (state, consequence) = (check["state"].as_str().unwrap(), check["consequence"].as_str().unwrap());
        assert!(matches!(state, "ok" | "degraded" | "missing"), "{check}");
        assert_eq!(consequence.is_empty(), state == "ok", "{check}");
    }
    for name in
        ["kernel", "landlock", "seccomp", "user", "programs", "audit folder", "jail worker", "jail cap-fs", "memfd"]
    {
        assert!(checks.iter().any(|check| check["name"] == name), "{name}");
    }
    let text = place.run(&["doctor"]);
    assert_eq!(text.status(), ran.status());
    let namespaces = checks.iter().find(|check| check["name"] == "commands: namespaces").unwrap();
    let closed = namespaces["state"] == "ok";
    for (name, word) in [("commands: names outside", "/etc/passwd"), ("commands: arguments of others", "of its task")] {
        let check = checks.iter().find(|check| check["name"] == name).unwrap();
        let said = check["state"] == "ok" && check["detail"].as_str().unwrap().contains(word);
        assert_eq!(said, closed, "{check}");
    }
    for (name, word) in [
        ("commands: names outside", "names, sizes and times"),
        ("commands: arguments of others", "/proc"),
        ("commands: exec_workspace", "no boundary"),
        ("commands: rules of files", "at the door"),
        ("commands: memory", "every 100 ms"),
    ] {
        if closed && (name.ends_with("outside") || name.ends_with("others")) {
            continue;
        }
        let check = checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("{name}: {object}"));
        assert!(check["state"] == "degraded" && check["detail"].as_str().unwrap().contains(word), "{check}");
        let lines = text.out().lines().filter(|line| line.contains(name) && line.contains(word)).count();
        assert_eq!(lines, 1, "{name}: {}", text.out());
    }
    assert!(text.out().lines().count() >= checks.len(), "{}", text.out());
}

/// The host's kernel is not the tests' to choose; what lies beside the program is.
#[test]
fn doctor_does_not_believe_in_programs_that_are_not_there() {
    let place = Place::new();
    let copy = place.path("warden");
    // By another process: a descriptor of ours for writing could be held by another test's child, and nobody executes then.
    assert!(Command::new("cp").args([Path::new(env!("CARGO_BIN_EXE_warden")), &copy]).status().unwrap().success());
    let output =
        Command::new(&copy).args(["doctor", "--json"]).env_clear().env("HOME", place.0.path()).output().unwrap();
    let ran = Ran(output);
    let object = ran.object();
    assert_eq!((ran.status(), object["ok"].as_bool()), (1, Some(false)));
    let programs = object["checks"].as_array().unwrap().iter().find(|check| check["name"] == "programs").unwrap();
    assert_eq!(programs["state"], "missing");
}
