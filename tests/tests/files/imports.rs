//! Every import: done, denied, limited; and handles, which are worth something only while they are open (T-11).

use crate::place;
use serde_json::{Value, json};
use std::os::unix::fs::symlink;
use warden_tests::manifest::{error, ok};
use warden_tests::{Place, log, probe};

const OPEN: &str = "fs.open_file";

#[test]
fn every_import_does_what_it_says() {
    let place = place("");
    let script = json!([
        {"op": "fs.open_workspace", "as": "root"},
        {"op": "fs.open_dir", "dir": "root", "path": "old", "as": "old"},
        {"op": "fs.list", "dir": "old"},
        {"op": "fs.metadata", "dir": "root", "path": "a.txt"},
        {"op": "fs.metadata", "dir": "old", "path": null},
        {"op": "fs.ensure_dir", "dir": "root", "path": "made", "as": "made"},
        {"op": OPEN, "dir": "made", "path": "f", "options": {"read": true, "write": true, "create": true}, "as": "f"},
        {"op": "fs.write", "file": "f", "hex": "00ff"},
        {"op": "fs.write_string", "file": "f", "text": "abc", "newline": true},
        {"op": "fs.flush", "file": "f"},
        {"op": "fs.set_len", "file": "f", "len": 4},
        {"op": "fs.close_file", "file": "f"},
        {"op": OPEN, "dir": "made", "path": "f", "options": {"read": true}, "as": "g"},
        {"op": "fs.read", "file": "g", "max_bytes": 2},
        {"op": "fs.read_string", "file": "g", "max_bytes": 10},
        {"op": "fs.read", "file": "g", "max_bytes": 10},
        {"op": "fs.rename", "dir": "root", "from": "made/f", "to": "made/h"},
        {"op": "fs.remove_file", "dir": "made", "path": "h"},
        {"op": "fs.remove_dir", "dir": "root", "path": "old", "recursive": true},
        {"op": "fs.close_dir", "dir": "made"},
    ]);
    let results = probe(&place, script);
    let outputs: Vec<&Value> = results.iter().map(ok).collect();
    assert_eq!(outputs[2][0]["name"], "file");
    assert_eq!((&outputs[3]["size_bytes"], &outputs[3]["kind"]), (&json!(5), &json!("file")));
    assert_eq!(outputs[4]["kind"], "directory");
    assert_eq!((outputs[7], outputs[8]), (&json!(2), &json!(4)));
    assert_eq!(outputs[13], &json!({"len": 2, "hex": "00ff"}));
    assert_eq!(outputs[14], "ab");
    assert_eq!(outputs[15]["len"], 0, "the end of the file");
    assert!(
        place.path("work/made").is_dir() && !place.path("work/made/h").exists() && !place.path("work/old").exists()
    );
    log::verify_complete(&place);
}

#[test]
fn every_import_is_denied_by_its_rule() {
    let place = place("");
    place.write("beside.txt", "OUTSIDE");
    symlink(place.path("beside.txt"), place.path("work/out")).unwrap();
    let read = json!({"read": true});
    let write = json!({"write": true});
    let create = json!({"write": true, "create": true});
    let script = json!([
        {"op": "fs.open_workspace", "as": "root"},
        {"op": "fs.open_dir", "dir": "root", "path": "old", "as": "old"},
        {"op": OPEN, "dir": "root", "path": "locked/l.txt", "options": read, "as": "l"},
        {"op": "fs.open_dir", "dir": "root", "path": "secret", "as": "x"},
        {"op": OPEN, "dir": "root", "path": "secret/key", "options": read, "as": "x"},
        {"op": OPEN, "dir": "root", "path": "locked/l.txt", "options": write, "as": "x"},
        {"op": OPEN, "dir": "root", "path": ".env", "options": create, "as": "x"},
        {"op": OPEN, "dir": "root", "path": "out", "options": read, "as": "x"},
        {"op": OPEN, "dir": "root", "path": "../beside.txt", "options": read, "as": "x"},
        {"op": OPEN, "dir": "old", "path": "../a.txt", "options": read, "as": "x"},
        {"op": OPEN, "dir": "root", "path": "/etc/passwd", "options": read, "as": "x"},
        {"op": "fs.ensure_dir", "dir": "root", "path": "secret/d", "as": "x"},
        {"op": "fs.remove_file", "dir": "root", "path": "locked/l.txt"},
        {"op": "fs.remove_dir", "dir": "root", "path": "secret", "recursive": true},
        {"op": "fs.rename", "dir": "root", "from": "a.txt", "to": "secret/a"},
        {"op": "fs.rename", "dir": "old", "from": "file", "to": "../file"},
        {"op": "fs.metadata", "dir": "root", "path": ".env"},
        {"op": "fs.write", "file": "l", "text": "x"},
        {"op": "fs.set_len", "file": "l", "len": 0},
        {"op": "fs.read", "file": "l", "max_bytes": 100},
    ]);
    let results = probe(&place, script);
    for result in &results[..3] {
        ok(result);
    }
    for result in &results[3..19] {
        let error = error(result, "denied");
        assert!(error["detail"].as_str().is_some_and(|detail| detail.contains("\"rule\"")), "{result}");
    }
    // The control: the handle that was given for reading reads.
    assert_eq!(ok(&results[19])["text"], "locked");
    assert_eq!(place.read("work/locked/l.txt"), "locked");
    assert_eq!(place.read("work/old/file"), "x");
}

/// T-11: a handle is worth something only while it is open, and only for what it is.
#[test]
fn closed_handles_are_not_found_and_others_stay_open() {
    let place = place("");
    let script = json!([
        {"op": "fs.open_workspace", "as": "root"},
        {"op": "fs.open_workspace", "as": "again"},
        {"op": OPEN, "dir": "root", "path": "a.txt", "options": {"read": true, "write": true}, "as": "f"},
        {"op": OPEN, "dir": "root", "path": "a.txt", "options": {"read": true}, "as": "g"},
        {"op": "fs.close_file", "file": "f"},
        {"op": "fs.read", "file": "f", "max_bytes": 5},
        {"op": "fs.write", "file": "f", "text": "x"},
        {"op": "fs.set_len", "file": "f", "len": 0},
        {"op": "fs.flush", "file": "f"},
        {"op": "fs.close_dir", "dir": "root"},
        {"op": "fs.list", "dir": "root"},
        {"op": OPEN, "dir": "root", "path": "a.txt", "options": {"read": true}, "as": "x"},
        {"op": "fs.remove_file", "dir": "root", "path": "a.txt"},
        {"op": "fs.read", "file": "g", "max_bytes": 5},
        {"op": "fs.list", "dir": "again"},
    ]);
    let results = probe(&place, script);
    for at in [5, 6, 7, 8, 10, 11, 12] {
        error(&results[at], "not-found");
    }
    assert_eq!(ok(&results[13])["text"], "hello");
    ok(&results[14]);
    assert_eq!(place.read("work/a.txt"), "hello");
}

/// T-06: handles are bounded, and closing gives room again.
#[test]
fn open_handles_are_bounded() {
    let place = place("");
    let open = |name: &str| json!({"op": OPEN, "dir": "root", "path": "a.txt", "options": {"read": true}, "as": name});
    let script = json!([
        {"op": "fs.open_workspace", "as": "root"},
        {"op": "repeat", "times": 400, "each": open("f#")},
        {"op": "drop", "handle": "f0"},
        {"op": "drop", "handle": "f1"},
        open("again"),
        {"op": "fs.read", "file": "again", "max_bytes": 5},
    ]);
    let results = probe(&place, script);
    let held = ok(&results[1]);
    let opened = held["ok"].as_u64().unwrap();
    assert!((1..=256).contains(&opened), "{held}");
    assert_eq!(held["errors"]["limit"].as_u64(), Some(400 - opened), "{held}");
    assert_eq!(ok(&results[5])["text"], "hello", "{results:?}");
}

/// T-06: the limits hold for imports as for actions.
#[test]
fn imports_are_stopped_by_the_same_limits() {
    let place = Place::new();
    place.work_policy("max_file = \"1KiB\"\n[limits]\nfs_ops = 9\nfs_written = \"1500B\"\n");
    let fill = |len: usize| json!({"op": "fs.write", "file": "f", "fill": {"byte": 120, "len": len}});
    let script = json!([
        {"op": "fs.open_workspace", "as": "root"},
        {"op": OPEN, "dir": "root", "path": "f", "options": {"write": true, "create": true}, "as": "f"},
        fill(1000),
        fill(1000),
        {"op": "fs.set_len", "file": "f", "len": 5000},
        fill(24),
        {"op": "repeat", "times": 20, "each": {"op": "fs.metadata", "dir": "root", "path": "f"}},
    ]);
    let results = probe(&place, script);
    ok(&results[2]);
    error(&results[3], "limit");
    error(&results[4], "limit");
    ok(&results[5]);
    let rest = ok(&results[6]);
    assert!(rest["ok"].as_u64().unwrap() > 0 && rest["errors"]["limit"].as_u64().unwrap() >= 15, "{rest}");
    assert_eq!(place.read("work/f").len(), 1024);
}
