//! An installation with a part that is there and is not what it should be: doctor says which, and so does what needs it.

use serde_json::{Value, json};
use warden_tests::{Place, Running, Task};

fn doctor(place: &Place, installed: &warden_tests::Installed) -> (Option<bool>, Vec<String>) {
    let object = Running::of(installed.command(place, &["--json", "doctor"])).end().object();
    let missing = |check: &&Value| check["state"] == "missing";
    let all =
        object["checks"].as_array().expect("checks").iter().filter(missing).map(|check| check["detail"].to_string());
    (object["ok"].as_bool(), all.collect())
}

/// A doctor who says of each host that something is missing is not listened to where something is.
#[test]
fn doctor_finds_nothing_missing_in_a_whole_installation() {
    for place in [Place::new(), Place::of_user()] {
        let installed = place.install();
        let (ok, missing) = doctor(&place, &installed);
        assert_eq!((ok, missing), (Some(true), Vec::new()));
        assert_eq!(Running::of(installed.command(&place, &["doctor"])).end().status, 0);
    }
}

#[test]
fn doctor_notices_a_program_that_cannot_be_executed() {
    let place = Place::new();
    let installed = place.install();
    // The control.
    let (_, whole) = doctor(&place, &installed);
    assert!(!whole.iter().any(|line| line.contains("cap-fs")), "{whole:?}");
    installed.empty("cap-fs");
    let (ok, broken) = doctor(&place, &installed);
    assert!(ok == Some(false) && broken.iter().any(|line| line.contains("cap-fs cannot be executed")), "{broken:?}");
    assert_eq!(Running::of(installed.command(&place, &["doctor"])).end().status, 1);
}

#[test]
fn a_guest_of_wardens_own_that_is_no_module_is_named() {
    let place = Place::new();
    place.work_policy("");
    let installed = place.install();
    Task::runbook(&[("fs.list_dir", json!({}))]).write(&place);
    let run = || Running::of(installed.command(&place, &["--json", "task", "run", "task.json"])).end();
    run().outcome("unverified");
    installed.empty("guests/runbook-player.wasm");
    let object = run().fails("invalid-argument", 125);
    assert!(object["error"].as_str().is_some_and(|text| text.contains("runbook-player.wasm")), "{object}");
    let (ok, broken) = doctor(&place, &installed);
    assert!(ok == Some(false) && broken.iter().any(|line| line.contains("runbook-player.wasm")), "{broken:?}");
}
