//! `show` and `tail` over a directory, and the mirror.

use super::*;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::time::Instant;

fn inputs(entries: impl IntoIterator<Item = Entry>) -> Vec<String> {
    entries.into_iter().filter_map(|e| e.row.input.as_str().map(str::to_owned)).collect()
}

#[test]
fn a_directory_is_read_in_the_order_of_time() {
    let place = Place::new();
    written(&place, 3);
    let (mut a, mut b) = (place.log(), place.log());
    for n in 0..20 {
        call(if n % 3 == 0 { &mut a } else { &mut b }, &format!("{n}"));
    }
    a.close().unwrap();
    drop(b);
    let all: Vec<Entry> = Reading::directory(place.fd(), Filter::default()).unwrap().map(Result::unwrap).collect();
    assert_eq!(all.len(), 8 + 2 + 40 + 1);
    assert!(all.is_sorted_by(|x, y| x.row.time <= y.row.time));
    let numbers: Vec<String> = inputs(all).split_off(3);
    assert_eq!(numbers, (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[test]
fn filters_let_through_what_they_name() {
    let place = Place::new();
    let mut log = place.log();
    call(&mut log, "mine");
    let other = BeginRecord {
        task: Some("task-2"),
        decision: Some(Decision::Deny),
        capability: "net.fetch",
        ..act("", Value::Text("other"))
    };
    log.single(&Record { act: other, ..Record::default() }).unwrap();
    log.close().unwrap();
    let count = |filter: Filter| Reading::directory(place.fd(), filter).unwrap().count();
    assert_eq!(count(Filter::default()), 5);
    assert_eq!(count(Filter { task: Some("task-1".into()), ..Filter::default() }), 2);
    assert_eq!(count(Filter { task: Some("ask".into()), ..Filter::default() }), 0);
    assert_eq!(count(Filter { capability: Some("net.*".into()), ..Filter::default() }), 1);
    assert_eq!(count(Filter { denials_only: true, ..Filter::default() }), 1);
    assert_eq!(count(Filter { since: Some("2999".into()), ..Filter::default() }), 0);
}

#[test]
fn tail_shows_the_last_and_follows() {
    let place = Place::new();
    written(&place, 2);
    let mut log = place.log();
    call(&mut log, "before");
    let (last, mut follower) = last_entries(place.fd(), Filter::default(), 2).unwrap();
    assert_eq!(last.len(), 2);
    assert_eq!(last[0].row.input, "before");
    assert!(follower.poll().unwrap().is_empty());
    call(&mut log, "after");
    let mut second = place.log();
    call(&mut second, "elsewhere");
    assert_eq!(inputs(follower.poll().unwrap()), ["after", "elsewhere"]);
    assert!(follower.poll().unwrap().is_empty());
    log.rotate().unwrap();
    call(&mut log, "rotated");
    assert_eq!(inputs(follower.poll().unwrap()), ["rotated"]);
}

#[test]
fn json_is_passed_through_and_human_is_one_line() {
    let place = Place::new();
    let head = written(&place, 1);
    let lines = place.lines(&head.segment);
    for (entry, line) in Reading::segment(place.fd(), &head.segment, Filter::default()).unwrap().zip(lines) {
        let entry = entry.unwrap();
        assert_eq!(entry.json(), line);
        assert!(!entry.human().contains('\n') && entry.human().contains(&format!("#{} ", entry.row.seq)));
    }
}

#[test]
fn an_inherited_descriptor_gets_the_same_lines() {
    let place = Place::new();
    let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let mirror = Mirror::descriptor(OwnedFd::from(theirs), "fd:3").unwrap();
    let mut log = place.log_with(|config| config.mirror = Some(mirror));
    call(&mut log, "twice");
    let head = log.close().unwrap();
    let mut copy = String::new();
    ours.read_to_string(&mut copy).unwrap();
    assert_eq!(copy, fs::read_to_string(place.0.join(&head.segment)).unwrap());
}

#[test]
fn a_mirror_that_is_gone_or_full_ends_the_calls_in_bounded_time() {
    let place = Place::new();
    let (reader, writer) = nix::unistd::pipe().unwrap();
    let mirror = Mirror::descriptor(writer, "fd:3").unwrap();
    let mut log = place.log_with(|config| config.mirror = Some(mirror));
    let ticket = log.begin(&act("t", Value::Null)).unwrap();
    drop(reader);
    assert!(matches!(log.end(ticket, &EndRecord::default()), Err(AuditError::Sink { .. })));
    assert!(log.poisoned().is_some());
    assert!(matches!(log.begin(&act("t", Value::Null)), Err(AuditError::Poisoned { .. })));

    let (_held, writer) = nix::unistd::pipe().unwrap();
    let mirror = Mirror::descriptor(writer, "fd:3").unwrap();
    let mut log = place.log_with(|config| config.mirror = Some(mirror));
    let start = Instant::now();
    let failed = (0..1000).find_map(|n| log.begin(&act("t", Value::Number(n))).err());
    assert!(matches!(failed, Some(AuditError::Sink { .. })), "{failed:?}");
    assert!(start.elapsed().as_secs() < 5);
    // What is in the files is sound all the same.
    drop(log);
    assert!(place.verify().is_intact());
}

#[test]
fn journald_gets_one_datagram_per_record() {
    let place = Place::new();
    let socket = Place::new();
    let path = socket.0.join("socket");
    let journal = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    let mut log = place.log_with(|config| config.mirror = Some(Mirror::journald(&path).unwrap()));
    call(&mut log, "line\nMESSAGE=forged");
    let head = log.close().unwrap();
    let mut buffer = [0u8; 65_536];
    for line in place.lines(&head.segment) {
        let count = journal.recv(&mut buffer).unwrap();
        let text = std::str::from_utf8(&buffer[..count]).unwrap();
        assert_eq!(text, format!("SYSLOG_IDENTIFIER=wasi-warden\nPRIORITY=6\nMESSAGE={line}\n"));
    }
    assert!(Mirror::journald(&socket.0.join("none")).is_err());
}
