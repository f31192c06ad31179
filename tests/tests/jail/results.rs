//! `--json`, and what the log says.

use crate::{end, place, sh};
use serde_json::Value;
use std::process::Stdio;
use warden_tests::{Place, log};

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
