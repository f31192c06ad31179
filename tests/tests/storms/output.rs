//! Floods of output (T-06).

use crate::{mark, marked, place, python, sh};
use serde_json::json;
use std::time::{Duration, Instant};
use warden_tests::manifest::{self, succeeded};
use warden_tests::{Family, Task, is_root, processes, skipped};

/// Both streams as fast as they go.
const FLOOD: &str = "import os, threading\ndata = b'y' * 65536\ndef pour(fd):\n  while True: os.write(fd, data)\n\
                     threading.Thread(target=pour, args=(2,)).start(); pour(1)";

#[test]
fn a_flood_is_drained_kept_in_bounds_and_ended_by_its_time() {
    if !is_root() {
        return skipped("only root sees how much memory warden's processes have");
    }
    let place = place();
    let mark = mark("flood");
    let running = Task::runbook(&[python(&format!("{FLOOD} # {mark}"), 4), sh("echo again")]).start(&place);
    let began = Instant::now();
    processes::wait("the flood", || (marked(&mark) > 0).then_some(()));
    let mut most_kib = 0;
    while marked(&mark) > 0 {
        for member in Family::of(running.pid()).members.iter().filter(|member| !member.line.contains(&mark)) {
            let size = member.status().get("RssAnon").and_then(|size| size.trim_end_matches(" kB").parse::<u64>().ok());
            most_kib = most_kib.max(size.unwrap_or(0));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let actions = manifest::actions(&running.end().object());
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    let flooded = &actions[0];
    assert!(flooded["output"]["timed_out"] == true || flooded["error"]["code"] == "timeout", "{flooded}");
    let kept = flooded["output"]["stdout"].as_str().map_or(0, str::len);
    assert!(kept <= 64 * 1024, "{kept} bytes were kept");
    assert!((1..100 << 10).contains(&most_kib), "{most_kib} KiB in one of warden's processes");
    assert_eq!(succeeded(&actions[1])["stdout"], "again\n");
}

/// Nobody reads: the command stands still, and neither its time nor the next command does.
#[test]
fn a_flood_that_nobody_reads_stands_still() {
    let place = place();
    let mark = mark("unread");
    let flood = format!("{FLOOD} # {mark}");
    let steps = [
        ("proc.start", json!({"command": "python3", "args": ["-c", flood], "alias": "flood", "timeout_ms": 3000})),
        sh("echo beside"),
        ("proc.wait", json!({"process": "flood", "timeout_ms": 10_000})),
        sh("echo again"),
    ];
    let began = Instant::now();
    let actions = Task::runbook(&steps).actions(&place);
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
    succeeded(&actions[0]);
    assert_eq!(succeeded(&actions[1])["stdout"], "beside\n");
    let ended = &actions[2];
    assert!(ended["output"]["timed_out"] == true || ended["error"]["code"] == "timeout", "{ended}");
    assert_eq!(succeeded(&actions[3])["stdout"], "again\n");
    crate::gone(&mark);
}
