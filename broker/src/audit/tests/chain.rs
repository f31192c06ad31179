//! Segments and how they hang together.

use super::*;

#[test]
fn a_new_segment_goes_on_from_the_newest_closed_one() {
    let place = Place::new();
    let first = written(&place, 1);
    let second = written(&place, 1);
    let opening = Row::parse(place.lines(&second.segment)[0].as_bytes()).unwrap();
    assert_eq!(opening.prev, first.head.to_string());
    assert_eq!(opening.input["previous"]["segment"], first.segment.as_str());
    assert_eq!(opening.input["degraded"]["0"], serde_json::Value::Null);
    assert_eq!(opening.input["degraded"][0], "namespaces");
    for name in ["boot_id", "pid", "uid", "build", "versions", "policy_hash", "rules_hash"] {
        assert!(!opening.input[name].is_null(), "{name}");
    }
    assert!(place.verify().is_intact());
}

#[test]
fn a_removed_segment_is_found_by_the_next() {
    let place = Place::new();
    let first = written(&place, 1);
    let second = written(&place, 1);
    assert!(place.verify().is_intact());
    fs::remove_file(place.0.join(&first.segment)).unwrap();
    let report = place.verify();
    let fault = report.first_bad().unwrap();
    assert_eq!((fault.segment.as_str(), fault.line), (second.segment.as_str(), Some(1)));
    assert_eq!(fault.kind, FaultKind::SegmentMissing { named: first.segment });
}

#[test]
fn a_segment_rewritten_from_end_to_end_is_found_by_the_next() {
    let place = Place::new();
    let first = written(&place, 1);
    written(&place, 1);
    // A whole new chain that is sound in itself, under the old name.
    let other = Place::new();
    let forged = written(&other, 3);
    let mut prev = HexDigest::ZERO;
    let lines: Vec<String> = other
        .lines(&forged.segment)
        .iter()
        .map(|line| {
            let mut row: serde_json::Value =
                serde_json::from_str(&line.replace(&forged.segment, &first.segment)).unwrap();
            let old = row["prev"].as_str().unwrap().to_owned();
            if row["input"]["head"].is_string() {
                row["input"]["head"] = prev.to_string().into();
            }
            let line = line.replace(&forged.segment, &first.segment).replace(&old, prev.as_str());
            let cut = line.rfind(",\"hash\":\"").unwrap();
            let body = &line[..cut];
            prev = HexDigest::of(format!("{body}}}").as_bytes());
            format!("{body},\"hash\":\"{prev}\"}}")
        })
        .collect();
    place.write_lines(&first.segment, &lines);
    assert!(
        verify_segment(place.fd(), &first.segment, None).unwrap().is_intact(),
        "the forgery must be sound in itself"
    );
    // Alone it is found by the head that a result carried,
    let by_head = verify_segment(place.fd(), &first.segment, Some(&first.head)).unwrap();
    assert!(matches!(by_head.first_bad().map(|f| &f.kind), Some(FaultKind::HeadMissing { .. })));
    // and in the directory by its successor.
    let report = place.verify();
    assert!(
        matches!(report.first_bad().map(|f| &f.kind), Some(FaultKind::SegmentChanged { .. })),
        "{:?}",
        report.faults
    );
}

#[test]
fn two_brokers_write_two_segments_and_both_verify() {
    let place = Place::new();
    let (mut a, mut b) = (place.log(), place.log());
    for n in 0..50 {
        call(&mut a, &format!("a{n}"));
        call(&mut b, &format!("b{n}"));
    }
    assert_ne!(a.head().segment, b.head().segment);
    let report = place.verify();
    assert!(report.is_intact());
    assert!(report.segments.iter().all(|s| s.state == SegmentState::Live));
    let a = a.close().unwrap();
    let b = b.close().unwrap();
    let third = written(&place, 1);
    let opening = Row::parse(place.lines(&third.segment)[0].as_bytes()).unwrap();
    assert_eq!(opening.input["previous"]["segment"], b.segment.as_str());
    assert_eq!(opening.input["also"][0]["segment"], a.segment.as_str());
    let report = place.verify();
    assert!(report.is_intact() && report.segments.iter().all(|s| s.state == SegmentState::Closed));
    // The one that was not the newest is missed too.
    fs::remove_file(place.0.join(&a.segment)).unwrap();
    assert!(!place.verify().is_intact());
}

#[test]
fn many_threads_of_brokers_at_once() {
    let place = Place::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10 {
                    written(&place, 5);
                    assert!(place.verify().is_intact(), "{:?}", place.verify().faults);
                }
            });
        }
    });
    let report = place.verify();
    assert!(report.is_intact(), "{:?}", report.faults);
    assert_eq!(report.segments.len(), 40);
}

#[test]
fn rotation_by_size_keeps_numbers_and_calls() {
    let place = Place::new();
    let mut log = place.log_with(|config| config.segment_max_bytes = 4000);
    let long = log.begin(&act("task-1", Value::Text("outlives its segment"))).unwrap();
    for n in 0..30 {
        call(&mut log, &format!("call {n}"));
    }
    let lost = log.begin(&act("task-2", Value::Text("never ends"))).unwrap();
    for n in 0..10 {
        call(&mut log, &format!("more {n}"));
    }
    log.end(long, &EndRecord::default()).unwrap();
    let seq = lost.seq();
    let head = log.close().unwrap();
    let report = place.verify();
    assert!(report.is_intact(), "{:?}", report.faults);
    assert!(report.segments.len() > 5);
    assert_eq!(report.unknown.len(), 1);
    assert_eq!((report.unknown[0].1.seq, report.unknown[0].1.task.as_deref()), (seq, Some("task-2")));
    let total: u64 = report.segments.iter().map(|s| s.records).sum();
    assert_eq!(total, head.seq + 1);
    // One segment alone does not call the long call unknown, nor its end a fault.
    for segment in &report.segments {
        assert!(verify_segment(place.fd(), &segment.segment, None).unwrap().is_intact());
    }
    fs::remove_file(place.0.join(&report.segments[2].segment)).unwrap();
    let missing = FaultKind::SegmentMissing { named: report.segments[2].segment.clone() };
    assert_eq!(place.verify().first_bad().map(|f| f.kind.clone()), Some(missing));
}

#[test]
fn rotation_by_age_and_by_hand() {
    let place = Place::new();
    let mut log = place.log_with(|config| config.segment_max_age = std::time::Duration::from_millis(700));
    call(&mut log, "young");
    let first = log.head().segment;
    std::thread::sleep(std::time::Duration::from_millis(750));
    call(&mut log, "old");
    let second = log.head().segment;
    assert_ne!(first, second);
    log.rotate().unwrap();
    assert_ne!(second, log.head().segment);
    log.close().unwrap();
    let report = place.verify();
    assert!(report.is_intact(), "{:?}", report.faults);
    assert!(report.segments[..2].iter().all(|s| s.rotated) && !report.segments[2].rotated);
}

#[test]
fn rotation_needs_the_descriptor_and_no_path() {
    let place = Place::new();
    let mut log = place.log();
    call(&mut log, "before");
    let moved = place.0.with_extension("moved");
    fs::rename(&place.0, &moved).unwrap();
    log.rotate().unwrap();
    call(&mut log, "after");
    log.close().unwrap();
    fs::rename(&moved, &place.0).unwrap();
    assert!(place.verify().is_intact());
    assert_eq!(place.segments().len(), 2);
}

#[test]
fn a_failed_rotation_leaves_the_old_segment_in_use() {
    let place = Place::new();
    let dir = open_directory(&place.0.join("short-lived")).unwrap();
    let mut log = open_log(&place.0.join("short-lived"), |_| {}).unwrap();
    let flying = log.begin(&act("task-1", Value::Null)).unwrap();
    let before = log.head();
    // In a directory that was removed nothing can be created, not even by root.
    fs::remove_dir_all(place.0.join("short-lived")).unwrap();
    assert!(matches!(log.rotate(), Err(AuditError::Create { .. })));
    drop(dir);
    assert_eq!(log.head(), before);
    assert!(log.poisoned().is_none());
    log.end(flying, &EndRecord::default()).unwrap();
    call(&mut log, "after");
    assert_eq!(log.close().unwrap().segment, before.segment);
}

#[test]
fn a_crashed_segment_is_pinned_by_the_next_one() {
    let place = Place::new();
    let mut log = place.log();
    call(&mut log, "one");
    call(&mut log, "two");
    let crashed = log.head();
    drop(log);
    assert_eq!(place.verify().segments[0].state, SegmentState::Crashed { torn_bytes: 0 });
    let next = written(&place, 0);
    assert!(place.verify().is_intact());
    let mut lines = place.lines(&crashed.segment);
    lines.truncate(3);
    place.write_lines(&crashed.segment, &lines);
    // Cut at a record's end it looks like an earlier crash, but the next segment knows better.
    assert!(verify_segment(place.fd(), &crashed.segment, None).unwrap().is_intact());
    let report = place.verify();
    let fault = report.first_bad().unwrap();
    assert_eq!(fault.segment, next.segment);
    assert!(matches!(&fault.kind, FaultKind::SegmentChanged { named, .. } if *named == crashed.segment));
}
