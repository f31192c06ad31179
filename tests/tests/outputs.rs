//! What a command prints stands in the result as far as `limits.output` allows, and what it ended with always (T-06).

use serde_json::{Value, json};
use warden_tests::manifest::{ok, succeeded};
use warden_tests::{Place, Task, log, probe};

const MIB: usize = 1 << 20;

fn place(limits: &str) -> Place {
    let place = Place::new();
    let command = "[[proc.command]]\nname = \"sh\"\npath = \"/bin/sh\"\nargs = [[\"-c\", \"*\"]]\n";
    place.work_policy(&format!("{command}[limits]\n{limits}\n"));
    place
}

/// Prints so many bytes on each stream, then ends with status 3.
fn prints(out: usize, err: usize) -> (&'static str, Value) {
    let script = format!("head -c {out} /dev/zero | tr '\\0' o; head -c {err} /dev/zero | tr '\\0' e >&2; exit 3");
    ("proc.spawn", json!({"command": "sh", "args": ["-c", script]}))
}

#[track_caller]
fn printed(action: &Value) -> (usize, usize, bool) {
    let output = succeeded(action);
    assert_eq!((&output["status"], &output["timed_out"]), (&json!(3), &json!(false)), "how it ended is never lost");
    let len = |name: &str| output[name].as_str().unwrap().len();
    (len("stdout"), len("stderr"), output["truncated"].as_bool().unwrap())
}

#[test]
fn each_stream_is_kept_up_to_its_limit() {
    let steps = [prints(1_000_000, 1_000_000), prints(MIB, 10), prints(10, MIB + 1), prints(3 * MIB, 5 * MIB)];
    let actions = Task::runbook(&steps).actions(&place(""));
    let kept: Vec<_> = actions.iter().map(printed).collect();
    assert_eq!(kept, [(1_000_000, 1_000_000, false), (MIB, 10, false), (10, MIB, true), (MIB, MIB, true)]);
    // Another limit.
    let wide = place("output = \"4MiB\"");
    let actions = Task::runbook(&[prints(3 * MIB, 5 * MIB)]).actions(&wide);
    assert_eq!(printed(&actions[0]), (3 * MIB, 4 * MIB, true));
    log::verify_complete(&wide);
    let narrow = place("output = \"70KiB\"");
    let actions = Task::runbook(&[prints(80 * 1024, 70 * 1024)]).actions(&narrow);
    assert_eq!(printed(&actions[0]), (70 * 1024, 70 * 1024, true));
}

/// The contents of a file too, which were a note of their length before.
#[test]
fn what_is_read_stands_in_the_result() {
    let place = place("");
    place.put("work/long", "x".repeat(300_000));
    let read = ("fs.read_file", json!({"path": "work:long", "max_bytes": 1_000_000}));
    let actions = Task::runbook(&[read]).actions(&place);
    assert_eq!(succeeded(&actions[0])["contents"].as_str().map(str::len), Some(300_000));
}

/// The planner is told less, and that it is less.
#[test]
fn an_observation_is_shorter_than_the_result() {
    let (capability, input) = prints(900_000, 5);
    let script =
        json!([{"op": "plan", "actions": [{"capability": capability, "input": input}]}, {"op": "observation"}]);
    let results = probe(&place(""), script);
    let seen = &ok(&results[1])["data"]["actions"][0]["output"];
    assert_eq!((&seen["status"], &seen["truncated"], &seen["stderr"]), (&json!(3), &json!(true), &json!("eeeee")));
    let text = seen["stdout"].as_str().unwrap();
    assert!(text.len() < 40_000 && text.ends_with("bytes more]"), "{}", text.len());
}

/// T-06: many long outputs fill no memory; each says how it ended, and that it was cut.
#[test]
fn all_outputs_of_a_result_are_bounded_together() {
    let place = place("steps = 50\noutput = \"8MiB\"");
    let ran = Task::runbook(&vec![prints(8 * MIB, 4 * MIB); 8]).run(&place);
    assert!(ran.out.len() < 70 * MIB, "{}", ran.out.len());
    let actions = warden_tests::manifest::actions(&ran.outcome("unverified"));
    let kept: Vec<_> = actions.iter().map(printed).collect();
    assert_eq!(kept.len(), 8);
    assert!(kept[..5].iter().all(|one| *one == (8 * MIB, 4 * MIB, false)), "{kept:?}");
    assert!(kept[5].2 && kept[7] == (0, 0, true), "{kept:?}");
}
