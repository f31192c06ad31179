//! `warden audit verify`, `show` and `tail`.

use crate::Place;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use wasi_warden::audit::{
    AuditConfig, AuditLog, BeginRecord, Decision, EndRecord, HeaderFacts, HexDigest, Outcome, Record, open_directory,
};

/// A log that was closed; its segment.
fn write_log(dir: &Path) -> PathBuf {
    let mut log = open_log(dir);
    record_calls(&mut log);
    log.finish().unwrap();
    only_segment(dir)
}

fn open_log(dir: &Path) -> AuditLog {
    let facts = HeaderFacts {
        build: "test".to_owned(),
        versions: Vec::new(),
        policy_hash: HexDigest::ZERO,
        rules_hash: HexDigest::ZERO,
        degraded: Vec::new(),
    };
    let fd = open_directory(dir).unwrap();
    AuditLog::open(fd, AuditConfig::new("test"), facts).unwrap()
}

fn only_segment(dir: &Path) -> PathBuf {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).next().unwrap()
}

fn edit(segment: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(segment).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(segment, text.replacen(from, to, 1)).unwrap();
}

/// A call with an effect, and one that was denied.
fn record_calls(log: &mut AuditLog) {
    record_calls_of(log, "00112233445566778899aabbccddeeff");
}

fn record_calls_of(log: &mut AuditLog, task: &str) {
    let act = |capability, path, decision, rule| BeginRecord {
        task: Some(task),
        role: "worker",
        capability,
        op: "call",
        input: wasi_warden::audit::Value::Text(path),
        decision: Some(decision),
        rule: Some(rule),
        policy_hash: None,
    };
    let written = act("fs.write_file", "repo:secret.txt", Decision::Allow, "user:fs.workspace.repo");
    let ticket = log.begin(&written).unwrap();
    let result = Outcome::Done(wasi_warden::audit::Value::Null);
    log.end(ticket, &EndRecord { result, bytes: Some(1) }).unwrap();
    let denied = act("fs.read_file", "repo:.env", Decision::Deny, "user:fs.workspace.repo.deny[0]");
    log.single(&Record { act: denied, ..Record::default() }).unwrap();
}

#[test]
fn a_tampered_log_is_named_by_its_record_and_an_untouched_one_is_intact() {
    let place = Place::new();
    let segment = write_log(&place.path("log"));
    let intact = place.run(&["audit", "verify", "log"]);
    assert_eq!(intact.status(), 0, "{}{}", intact.out(), intact.err());
    assert!(intact.out().starts_with("intact: "), "{}", intact.out());
    edit(&segment, "secret.txt", "public.txt");
    let bad = place.run(&["audit", "verify", "log"]);
    assert_eq!(bad.status(), 1);
    assert!(bad.out().contains("first bad: ") && bad.out().contains("edited"), "{}", bad.out());
    let ran = place.run(&["audit", "verify", segment.to_str().unwrap(), "--json"]);
    let object = ran.object();
    assert_eq!((ran.status(), object["ok"].as_bool()), (1, Some(false)));
    assert_eq!(object["schema"], "warden.audit/1");
    let seq = object["first_bad"]["seq"].as_u64().unwrap();
    let line = fs::read_to_string(&segment).unwrap().lines().nth(usize::try_from(seq).unwrap()).unwrap().to_owned();
    assert!(line.contains("public.txt"), "it names the record that was edited: {line}");
}

#[test]
fn a_head_that_is_in_the_log_is_found_and_another_is_not() {
    let place = Place::new();
    write_log(&place.path("log"));
    let head =
        place.run(&["audit", "verify", "log", "--json"]).object()["segments"][0]["head"].as_str().unwrap().to_owned();
    assert_eq!(place.run(&["audit", "verify", "log", "--head", &head]).status(), 0);
    assert_eq!(place.run(&["audit", "verify", "log", "--head", &"5".repeat(64)]).status(), 1);
    assert_eq!(place.run(&["audit", "verify", "log", "--head", "short"]).status(), 2);
}

#[test]
fn a_call_without_an_end_is_unknown_and_a_torn_line_a_crash_and_neither_is_damage() {
    let place = Place::new();
    let segment = write_log(&place.path("log"));
    // What a broker leaves that dies while it writes the end of a call.
    let text = fs::read_to_string(&segment).unwrap();
    let begun = text.lines().position(|line| line.contains("\"phase\":\"begin\"")).unwrap();
    let mut kept: String = text.lines().take(begun + 1).flat_map(|line| [line, "\n"]).collect();
    kept.push_str("{\"seq\":");
    fs::write(&segment, kept).unwrap();
    let ran = place.run(&["audit", "verify", "log", "--json"]);
    let object = ran.object();
    assert_eq!((ran.status(), object["ok"].as_bool()), (0, Some(true)), "{object}");
    assert_eq!(object["unknown"][0]["capability"], "fs.write_file");
    assert_eq!(
        (object["segments"][0]["state"].as_str(), object["segments"][0]["torn_bytes"].as_u64()),
        (Some("crashed"), Some(7))
    );
    let text = place.run(&["audit", "verify", "log"]).out();
    assert!(text.contains("unknown: ") && text.contains("crashed: "), "{text}");
}

#[test]
fn show_filters_bounds_and_says_what_it_left_out() {
    let place = Place::new();
    write_log(&place.path("log"));
    let show = |words: &[&str]| {
        let mut args = vec!["audit", "show", "log", "--json"];
        args.extend(words);
        let object = place.run(&args).object();
        assert_eq!(object["schema"], "warden.audit-records/1");
        object
    };
    let all = show(&[]);
    let count = all["records"].as_array().unwrap().len();
    assert!(count >= 5 && all["truncated"] == false, "{all}");
    let denied = show(&["--denied"]);
    assert_eq!(denied["records"].as_array().unwrap().len(), 1);
    assert_eq!(denied["records"][0]["decision"], "deny");
    assert_eq!(show(&["--capability", "fs.*"])["records"].as_array().unwrap().len(), 3);
    assert_eq!(show(&["--capability", "net.*"])["records"].as_array().unwrap().len(), 0);
    let cut = show(&["--limit", "2"]);
    assert_eq!((cut["records"].as_array().unwrap().len(), cut["truncated"].as_bool()), (2, Some(true)));
    assert_eq!(cut["records"][1], all["records"][count - 1], "the newest are kept");
    let tail = place.run(&["audit", "tail", "log", "-n", "1"]);
    assert_eq!((tail.status(), tail.out().lines().count()), (0, 1));
}

#[test]
fn a_followed_log_goes_on_and_a_followed_json_is_refused() {
    let place = Place::new();
    write_log(&place.path("log"));
    let refused = place.run(&["audit", "tail", "-f", "log", "--json"]);
    assert_eq!((refused.status(), refused.object()["error_code"].as_str()), (2, Some("invalid-argument")));
    let mut tail = place.command(&["audit", "tail", "-f", "-n", "1", "log"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = tail.stdout.take().unwrap();
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = out.read(&mut buffer) {
            let _ = send.send(String::from_utf8_lossy(&buffer[..count]).into_owned());
        }
    });
    let wait_for = |word: &str| {
        let (end, mut seen) = (Instant::now() + Duration::from_secs(30), String::new());
        while !seen.contains(word) && Instant::now() < end {
            seen.push_str(&receive.recv_timeout(Duration::from_secs(1)).unwrap_or_default());
        }
        seen
    };
    let first = wait_for("close");
    write_log(&place.path("log"));
    let seen = wait_for("close");
    tail.kill().unwrap();
    tail.wait().unwrap();
    assert!(first.lines().count() == 1 && !first.contains("secret.txt"), "{first}");
    assert!(seen.contains("secret.txt") && seen.contains("close"), "{seen}");
}

#[test]
fn what_is_no_log_is_a_usage_error() {
    let place = Place::new();
    place.write("x.txt", "");
    for words in [
        ["audit", "verify", "gone"],
        ["audit", "verify", "x.txt"],
        ["audit", "show", "gone"],
        ["audit", "tail", "x.txt"],
    ] {
        let ran = place.run(&words);
        assert_eq!(ran.status(), 2, "{words:?}: {}", ran.err());
    }
    fs::create_dir(place.path("empty")).unwrap();
    let empty = place.run(&["audit", "verify", "empty"]);
    assert_eq!((empty.status(), empty.out().starts_with("empty: ")), (0, true), "{}", empty.out());
}

#[test]
fn a_task_is_found_by_the_digits_that_are_printed_and_two_that_begin_alike_are_named() {
    let place = Place::new();
    let mut log = open_log(&place.path("log"));
    let (one, two) = ("00112233445566778899aabbccddeeff", "0011223399999999999999999999999a");
    record_calls_of(&mut log, one);
    record_calls_of(&mut log, two);
    log.finish().unwrap();
    let show = |task: &str| place.run(&["audit", "show", "log", "--task", task, "--json"]);
    for (task, id) in [(one, one), ("0011223344", one), ("0011223399", two), ("001122339999999999999999999999", two)] {
        let ran = show(task);
        let object = ran.object();
        let records = object["records"].as_array().unwrap();
        assert_eq!((ran.status(), records.len()), (0, 3), "{task}: {object}");
        assert!(records.iter().all(|record| record["task"] == id), "{task}: {object}");
    }
    let both = show("00112233");
    assert_eq!(both.status(), 2);
    let message = both.object()["error"].as_str().unwrap().to_owned();
    assert!(message.contains(one) && message.contains(two), "{message}");
    for bad in ["001", "0011zz", &format!("{one}0"), ""] {
        assert_eq!(show(bad).status(), 2, "{bad:?}");
    }
    let none = show("beef");
    assert_eq!((none.status(), none.object()["records"].as_array().unwrap().len()), (1, 0));
    let none = place.run(&["audit", "show", "log", "--task", "beef"]);
    assert!(none.status() == 1 && none.err().contains("no record of a task beef"), "{}", none.err());
    let tail = place.run(&["audit", "tail", "log", "--task", "0011223344", "-n", "1", "--json"]);
    assert_eq!(tail.object()["records"][0]["task"], one);
}
