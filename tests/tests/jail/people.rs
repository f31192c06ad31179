//! A person's signals, and the death of warden: the command hears of the first, and nothing outlives either (T-12).

use crate::{place, sh};
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};
use warden_tests::{Place, Running, log, processes};

#[track_caller]
fn up(place: &Place) {
    processes::wait("the command", || place.path("work/up").exists().then_some(()));
}

#[test]
fn a_signal_reaches_the_command_first_and_its_last_words_come_out() {
    for (signal, name, status) in
        [(Signal::SIGINT, "INT", 130), (Signal::SIGTERM, "TERM", 143), (Signal::SIGHUP, "HUP", 129)]
    {
        let place = place("");
        let script = format!("trap 'echo told {name}; exit 9' {name}; touch up; while :; do sleep 0.02; done");
        let running = Running::of(sh(&place, &script));
        up(&place);
        let began = Instant::now();
        running.signal(signal);
        let ran = running.end();
        assert_eq!((ran.status, ran.out.as_str()), (status, format!("told {name}\n").as_str()), "{ran:?}");
        assert!(began.elapsed() < Duration::from_secs(5));
        log::verify_complete(&place);
    }
}

#[test]
fn a_command_that_does_not_listen_is_ended_with_everything_it_started() {
    let place = place("");
    let mark = format!("sleep 8{}", std::process::id());
    let script = format!("trap '' INT TERM HUP; (setsid {mark} &); touch up; while :; do {mark}; done");
    let running = Running::of(sh(&place, &script));
    up(&place);
    processes::wait("both", || (processes::marked(&mark).len() == 2).then_some(()));
    let began = Instant::now();
    running.signal(Signal::SIGINT);
    let ran = running.end();
    assert_eq!(ran.status, 130, "{ran:?}");
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    assert_eq!(processes::marked(&mark), []);
    log::verify_complete(&place);
}

#[test]
fn what_a_command_leaves_running_ends_with_it() {
    let place = place("");
    let mark = format!("sleep 6{}", std::process::id());
    let began = Instant::now();
    let ran = Running::of(sh(&place, &format!("(setsid {mark} &); ({mark} &); exit 3"))).end();
    assert_eq!(ran.status, 3, "{ran:?}");
    assert!(began.elapsed() < Duration::from_secs(20) && processes::marked(&mark).is_empty());
}

#[test]
fn the_tree_ends_when_warden_is_killed() {
    let place = place("");
    let mark = format!("sleep 5{}", std::process::id());
    let running = Running::of(sh(&place, &format!("(setsid {mark} &); touch up; exec {mark}")));
    up(&place);
    processes::wait("both", || (processes::marked(&mark).len() == 2).then_some(()));
    let began = Instant::now();
    running.signal(Signal::SIGKILL);
    processes::wait("the end of the tree", || processes::marked(&mark).is_empty().then_some(()));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(running.end().signal, Some(9));
    let verdict = log::verify(&place);
    assert_eq!(verdict["unknown_count"], 1, "the command's end is not on record, and the log says so: {verdict}");
}
