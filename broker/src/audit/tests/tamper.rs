//! Every way to change a written log, each found and named; the untouched log verifies.

use super::*;

/// Damages a closed segment of 4 calls (records 0 to 9) and gives the first fault.
fn after(damage: impl FnOnce(&mut Vec<String>)) -> Option<Fault> {
    let place = Place::new();
    let segment = written(&place, 4).segment;
    let control = place.verify();
    assert!(control.is_intact(), "{:?}", control.faults);
    assert_eq!(control.segments[0].records, 10);
    let mut lines = place.lines(&segment);
    damage(&mut lines);
    place.write_lines(&segment, &lines);
    let report = place.verify();
    let alone = verify_segment(place.fd(), &segment, None).unwrap();
    assert_eq!(report.first_bad(), alone.first_bad());
    report.first_bad().cloned()
}

fn kind_at(fault: Option<Fault>) -> (u64, FaultKind) {
    let fault = fault.expect("the damage was not found");
    (fault.line.unwrap(), fault.kind)
}

/// A record changed by somebody who knows how hashes are made.
fn rehashed(line: &str, from: &str, to: &str) -> String {
    assert!(line.contains(from), "{line}");
    let line = line.replacen(from, to, 1);
    let cut = line.rfind(",\"hash\":\"").unwrap();
    let hash = HexDigest::of(format!("{}}}", &line[..cut]).as_bytes());
    format!("{},\"hash\":\"{hash}\"}}", &line[..cut])
}

#[test]
fn nothing_is_found_in_an_untouched_log() {
    assert_eq!(after(|_| {}), None);
}

#[test]
fn an_edit_of_any_record_is_found_at_it() {
    for at in 0..10 {
        let fault = after(|lines| lines[at] = lines[at].replacen("\"uid\":", "\"uid\":1", 1));
        assert_eq!(kind_at(fault), (at as u64 + 1, FaultKind::Edited));
    }
}

#[test]
fn an_edit_of_any_byte_is_found() {
    let place = Place::new();
    let segment = written(&place, 1).segment;
    let whole = fs::read(place.0.join(&segment)).unwrap();
    for at in (0..whole.len()).step_by(7).chain(whole.len() - 80..whole.len()) {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        fs::write(place.0.join(&segment), &changed).unwrap();
        assert!(!place.verify().is_intact(), "byte {at}");
    }
    fs::write(place.0.join(&segment), &whole).unwrap();
    assert!(place.verify().is_intact());
}

#[test]
fn an_edit_that_is_no_record_any_more_is_found() {
    assert_eq!(kind_at(after(|lines| lines[3] = "{}".into())), (4, FaultKind::NotARecord));
    assert_eq!(kind_at(after(|lines| lines[3] = "x".repeat(100_000))), (4, FaultKind::TooLong));
}

#[test]
fn an_edit_with_a_new_hash_breaks_the_chain_at_the_next() {
    let fault = after(|lines| lines[3] = rehashed(&lines[3], "call 1", "call 9"));
    assert_eq!(kind_at(fault), (5, FaultKind::Replaced));
}

#[test]
fn removal_is_found_where_the_record_was() {
    for at in 1..9 {
        let fault = after(|lines| drop(lines.remove(at)));
        assert_eq!(kind_at(fault), (at as u64 + 1, FaultKind::Removed { first: at as u64, last: at as u64 }));
    }
    let fault = after(|lines| drop(lines.drain(2..5)));
    assert_eq!(kind_at(fault), (3, FaultKind::Removed { first: 2, last: 4 }));
    assert_eq!(kind_at(after(|lines| drop(lines.remove(0)))), (1, FaultKind::Removed { first: 0, last: 0 }));
}

#[test]
fn removal_hidden_by_renumbering_is_found() {
    let fault = after(|lines| {
        lines.remove(3);
        for (seq, line) in lines.iter_mut().enumerate().skip(3) {
            *line = rehashed(line, &format!("{{\"seq\":{},", seq + 1), &format!("{{\"seq\":{seq},"));
        }
    });
    assert_eq!(kind_at(fault), (4, FaultKind::Replaced));
}

#[test]
fn reordering_is_found() {
    assert_eq!(kind_at(after(|lines| lines.swap(3, 4))), (4, FaultKind::Reordered));
    let moved_up = after(|lines| {
        let line = lines.remove(7);
        lines.insert(2, line);
    });
    assert_eq!(kind_at(moved_up), (3, FaultKind::Reordered));
    let moved_down = after(|lines| {
        let line = lines.remove(2);
        lines.insert(7, line);
    });
    assert_eq!(kind_at(moved_down), (3, FaultKind::Reordered));
}

#[test]
fn duplication_is_found() {
    assert_eq!(kind_at(after(|lines| lines.insert(4, lines[3].clone()))), (5, FaultKind::Duplicated));
    assert_eq!(kind_at(after(|lines| lines.insert(7, lines[2].clone()))), (8, FaultKind::Duplicated));
    assert_eq!(kind_at(after(|lines| lines.insert(1, lines[0].clone()))), (2, FaultKind::Duplicated));
}

#[test]
fn insertion_is_found() {
    let crude = after(|lines| lines.insert(3, lines[3].replacen("call 1", "call 7", 1)));
    assert_eq!(kind_at(crude), (4, FaultKind::Inserted));
    // It carries its own hash and follows the record before: only the next one tells.
    let careful = after(|lines| lines.insert(3, rehashed(&lines[3], "call 1", "call 7")));
    assert_eq!(kind_at(careful), (5, FaultKind::Duplicated));
    let foreign = after(|lines| lines.insert(3, "{\"decision\":\"allow\"}".into()));
    assert_eq!(kind_at(foreign), (4, FaultKind::Inserted));
    assert_eq!(kind_at(after(|lines| lines.push(lines[3].clone()))), (11, FaultKind::AfterClose));
}

#[test]
fn a_cut_before_the_closing_record_is_found_by_its_count() {
    let fault = after(|lines| drop(lines.drain(7..9)));
    assert_eq!(kind_at(fault), (8, FaultKind::Removed { first: 7, last: 8 }));
}

#[test]
fn a_renamed_segment_is_found() {
    let place = Place::new();
    let segment = written(&place, 1).segment;
    let other = format!("{}0.jsonl", segment.strip_suffix(".jsonl").and_then(|s| s.get(..s.len() - 1)).unwrap());
    let other = if other == segment { segment.replace("0.jsonl", "1.jsonl") } else { other };
    fs::rename(place.0.join(&segment), place.0.join(&other)).unwrap();
    let report = place.verify();
    assert_eq!(report.first_bad().map(|f| f.kind.clone()), Some(FaultKind::Renamed { recorded: segment }));
}

#[test]
fn a_link_or_a_pipe_in_a_segments_place_is_refused_and_does_not_hang() {
    let place = Place::new();
    let segment = written(&place, 1).segment;
    let path = place.0.join(&segment);
    let elsewhere = Place::new();
    fs::rename(&path, elsewhere.0.join("kept")).unwrap();
    std::os::unix::fs::symlink(elsewhere.0.join("kept"), &path).unwrap();
    assert!(matches!(place.verify().first_bad().map(|f| &f.kind), Some(FaultKind::Unreadable { .. })));
    fs::remove_file(&path).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(matches!(place.verify().first_bad().map(|f| &f.kind), Some(FaultKind::Unreadable { .. })));
    // The writer is not held up by it either.
    place.log().close().unwrap();
}

#[test]
fn the_message_names_segment_line_and_record() {
    let fault = after(|lines| lines[4] = lines[4].replacen("\"uid\":", "\"uid\":1", 1)).unwrap();
    let text = fault.to_string();
    assert!(text.contains(".jsonl line 5 (record 4): edited"), "{text}");
}
