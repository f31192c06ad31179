//! `--json`, and what the log says.

use crate::{COMMANDS, end, place, sh};
use serde_json::Value;
use std::process::Stdio;
use warden_tests::{Place, log};

const WORKSPACE: &str =
    "[[fs.workspace]]\nlabel = \"work\"\npath = \"work\"\naccess = \"read-write\"\nmax_file = \"MAX\"\n";

fn json(place: &Place, more: &[&str], script: &str) -> warden_tests::Ran {
    end(place.command(&[&["jail", "--json", "--policy", "warden.toml"], more, &["--", "sh", "-c", script]].concat()))
}

#[test]
fn the_result_is_one_object_of_the_run_schema() {
    let place = place("");
    let ran = json(&place, &[], "echo out; echo err >&2; exit 3");
    let object = ran.exits(3);
    assert_eq!(object["schema"], "warden.run/1");
    assert_eq!((object["stdout"].as_str(), object["stderr"].as_str()), (Some("out\n"), Some("err\n")), "{object}");
    assert_eq!((object["encoding"].as_str(), object["truncated"].as_bool()), (Some("utf-8"), Some(false)));
    for null in ["error", "error_code"] {
        assert!(object[null].is_null(), "{object}");
    }
    assert!(object["isolation"]["landlock_abi"].as_u64().unwrap() >= 6, "{object}");
    let degraded = object["isolation"]["degraded"].as_array().unwrap();
    assert!(!degraded.iter().any(|what| what.as_str().unwrap().contains("unchecked")), "{object}");
    assert_eq!(object["usage"]["calls"]["proc"], 1, "{object}");
    assert_eq!(object["denials"], Value::Array(Vec::new()));
    let head = object["audit"]["head"].as_str().unwrap().to_owned();
    let audit = place.path("audit");
    let verdict = place.json(&["audit", "verify", "--head", &head, audit.to_str().unwrap()]);
    assert_eq!(verdict.object()["ok"], true);
    // By the environment too, and as base64 where it is no text.
    let mut command = sh(&place, "printf '\\377\\000'");
    command.env("WARDEN_OUTPUT", "json");
    let object = end(command).exits(0);
    assert_eq!((object["encoding"].as_str(), object["stdout"].as_str()), (Some("base64"), Some("/wA=")), "{object}");
}

#[test]
fn what_is_kept_is_bounded_and_what_passes_is_not() {
    let place = place("[limits]\noutput = \"1KiB\"\n");
    let script = "head -c 200000 /dev/zero | tr '\\0' x";
    let object = json(&place, &[], script).exits(0);
    assert_eq!((object["stdout"].as_str().unwrap().len(), object["truncated"].as_bool()), (1024, Some(true)));
    assert_eq!(end(sh(&place, script)).out.len(), 200_000);
    // The log has the whole length in both.
    let ends: Vec<Value> =
        log::of(&place, "proc.spawn").into_iter().filter(|record| record["phase"] == "end").collect();
    for end in &ends {
        assert_eq!(end["result"]["ok"]["stdout"]["len"], 200_000, "{end}");
    }
    assert_eq!(ends.len(), 2);
}

#[test]
fn a_run_is_on_record_from_before_it_begins_to_after_it_ended() {
    let place = place("");
    let mut command = sh(&place, "cat; exit 4");
    command.stdin(Stdio::null());
    assert_eq!(end(command).status, 4);
    let spawns = log::of(&place, "proc.spawn");
    let phases: Vec<&str> = spawns.iter().map(|record| record["phase"].as_str().unwrap()).collect();
    assert_eq!(phases, ["begin", "end"], "{spawns:?}");
    let begin = &spawns[0];
    assert_eq!((begin["role"].as_str(), begin["decision"].as_str()), (Some("broker"), Some("allow")), "{begin}");
    assert_eq!(begin["rule"], "user:proc.command.sh.args[0]", "{begin}");
    assert_eq!(begin["input"]["command"], "sh", "{begin}");
    assert_eq!(begin["input"]["program"], "/bin/sh", "{begin}");
    assert_eq!(begin["input"]["args"], serde_json::json!(["-c", "cat; exit 4"]), "{begin}");
    let told = &spawns[1]["result"]["ok"];
    assert_eq!((told["status"].as_i64(), told["signal"].is_null()), (Some(4), true), "{told}");
    assert!(told["stdin"].is_null() && told["stdout"]["len"] == 0, "{told}");
    let runs = log::of(&place, "task.run");
    assert_eq!((runs[0]["op"].as_str(), runs[1]["op"].as_str()), (Some("begin"), Some("end")), "{runs:?}");
    assert_eq!(runs[0]["input"]["kind"], "command");
    assert_eq!(runs[1]["result"]["ok"]["exit_code"], 4, "{runs:?}");
    log::verify_complete(&place);
}

#[test]
fn what_was_refused_is_on_record_too() {
    let place = place("");
    json(&place, &["--allow-proc", "cat"], "echo never").fails("denied", 126);
    let spawns = log::of(&place, "proc.spawn");
    assert_eq!(spawns.len(), 1, "{spawns:?}");
    assert_eq!((spawns[0]["phase"].as_str(), spawns[0]["decision"].as_str()), (Some("single"), Some("deny")));
    assert_eq!(log::processes(&place, "cap-proc", "locked").len(), 0, "nothing was started for it");
    log::verify_complete(&place);
}

/// Which rule it was, whoever was ended by it: the command itself, or a child that its shell waits for.
#[test]
fn a_file_that_may_not_become_longer_is_told_with_its_rule() {
    let place = Place::new();
    place.policy(&format!("{}{COMMANDS}", WORKSPACE.replace("MAX", "64KiB")));
    let write = "head -c 200000 /dev/zero > big";
    for (script, signal) in
        [(format!("exec {write}"), true), (format!("{write}; exit $?"), false), (format!("{write}; true"), false)]
    {
        // A shell's own redirection, and `exec` of what writes there.
        let ran = json(&place, &[], &script);
        let object = ran.object();
        assert_eq!(object["denials"][0]["target"], "work:big", "{script}: {object}");
        assert_eq!(object["denials"][0]["rule"], "user:fs.workspace.work.max_file", "{object}");
        assert!(object["denials"][0]["reason"].as_str().unwrap().contains("SIGXFSZ"), "{object}");
        let trapped =
            object["error"].as_str().is_some_and(|text| text.contains("SIGXFSZ") && text.contains("as long as"));
        assert_eq!((trapped, ran.status == 153), (signal, !script.ends_with("true")), "{script}: {object}");
        let told = end(sh(&place, &script));
        assert!(told.err.contains("work:big [user:fs.workspace.work.max_file]"), "{told:?}");
    }
    let ends = log::of(&place, "proc.spawn").into_iter().filter(|record| record["phase"] == "end");
    for end in ends {
        assert!(end["result"]["ok"]["denied"][0].as_str().unwrap().contains(".max_file: work:big"), "{end}");
    }
    // The controls: a shorter file, and a file outside of the workspace that is too long.
    assert_eq!(json(&place, &[], "head -c 60000 /dev/zero > small").exits(0)["denials"], Value::Array(Vec::new()));
    let object = json(&place, &[], "exec head -c 200000 /dev/zero > $TMPDIR/big").object();
    assert_eq!(object["denials"][0]["rule"], "user:fs.workspace.work.max_file", "{object}");
}

#[test]
fn refusals_beyond_those_that_are_listed_are_counted() {
    let place = place("");
    let script = "mkdir .git; for n in $(seq 30); do true > .git/config$n; done";
    let object = json(&place, &[], script).object();
    let listed = object["denials"].as_array().unwrap().len();
    assert_eq!((listed, object["denials_total"].as_u64()), (16, Some(30)), "{object}");
    let ran = end(sh(&place, &script.replace("mkdir .git; ", "")));
    assert_eq!(ran.err.matches("warden: denied").count(), 16, "{ran:?}");
    assert!(ran.err.contains("warden: and 14 more"), "{ran:?}");
    // The control: nothing is said of more where there is no more.
    let ran = end(sh(&place, ": > .git/config"));
    assert!(ran.err.matches("warden: denied").count() == 1 && !ran.err.contains("more"), "{ran:?}");
}

#[test]
fn the_result_says_what_held_and_how_much_memory_there_was() {
    let place = place("");
    place.put("work/a.txt", "x");
    let of = |place: &Place, flags: &[&str]| json(place, flags, "cat a.txt > /dev/null").exits(0);
    let has =
        |object: &Value, what: &str| object["isolation"]["held"].as_array().unwrap().iter().any(|held| held == what);
    let object = of(&place, &[]);
    for what in ["process count", "memory samples", "signal scope", "door"] {
        assert!(has(&object, what), "{what}: {object}");
    }
    // Where nothing is hidden reading needs no door, if nobody can mount anything there.
    let form = if has(&object, "mount namespace") { "door: changes only" } else { "door: all opens" };
    assert!(has(&object, form), "{object}");
    assert!(has(&of(&place, &["--deny", "secret"]), "door: all opens"));
    let object = of(&place, &["--workspace", "work:ro"]);
    assert!(!has(&object, "door") || has(&object, "door: changes only"), "{object}");
    let peak = |object: &Value| object["usage"]["memory_peak_bytes"].as_u64().unwrap();
    assert!((64 << 10..64 << 20).contains(&peak(&object)), "{object}");
    let large = "head -c 100000000 /dev/zero | tail -c 90000000 > /dev/null";
    let object = json(&place, &["--memory", "1GiB"], large).object();
    assert!((80 << 20..1 << 30).contains(&peak(&object)), "{object}");
}
