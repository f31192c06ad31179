//! An answer that could not be written is no answer: the exit status says so. What cannot be said on standard error changes
//! nothing, and a reader that goes away ends it quietly.

use serde_json::json;
use std::fs::File;
use std::process::Stdio;
use warden_tests::{Place, Ran, Running, Task, sample};

fn full() -> Stdio {
    File::options().write(true).open("/dev/full").expect("/dev/full").into()
}

fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

fn run(place: &Place, args: &[&str], out: Option<Stdio>, err: Option<Stdio>) -> Ran {
    let mut command = place.command(args);
    out.map(|out| command.stdout(out));
    err.map(|err| command.stderr(err));
    Running::of(command).end()
}

#[test]
fn lost_output_is_a_failure_of_its_own() {
    let place = Place::new();
    place.work_policy("");
    Task::runbook(&[("fs.list_dir", json!({}))])
        .success(json!({"file": "work:none", "absent": true}))
        .run(&place)
        .outcome("done");
    let hello = sample("hello.wat");
    let hello = hello.to_str().unwrap();
    for args in [
        &["policy", "show", "--config", "warden.toml"][..],
        &["--json", "policy", "show", "--config", "warden.toml"],
        &["--json", "task", "run", "task.json"],
        &["task", "run", "task.json"],
        &["audit", "verify", "audit"],
        &["audit", "show", "audit"],
        &["run", "--config", "warden.toml", hello],
        &["--json", "run", "--config", "warden.toml", hello],
        &["--help"],
    ] {
        let lost = run(&place, args, Some(full()), None);
        assert_eq!((lost.status, lost.signal), (125, None), "{args:?}: {}", lost.err);
        assert!(lost.err.contains("standard output"), "{args:?}: {}", lost.err);
        // The controls: what is said beside the answer may be lost, and the answer's reader may go away.
        let alone = run(&place, args, None, Some(full()));
        assert_eq!((alone.status, alone.signal), (0, None), "{args:?}: {}", alone.out);
        let unread = run(&place, args, Some(closed()), None);
        assert!(
            !unread.err.contains("standard output") && [0, 141].contains(&unread.status),
            "{args:?}: {}",
            unread.err
        );
    }
}

#[test]
fn a_full_standard_error_changes_no_status() {
    let place = Place::new();
    place.work_policy("");
    for (args, status) in [
        (&["policy", "show", "--config", "none.toml"][..], 2),
        (&["fly"], 2),
        (&["run", "--config", "warden.toml", "none.wasm"], 127),
    ] {
        for level in ["error", "trace"] {
            let mut command = place.command(args);
            command.env("WARDEN_LOG", level).stderr(full());
            let ran = Running::of(command).end();
            assert_eq!((ran.status, ran.signal), (status, None), "{args:?}");
        }
    }
}
