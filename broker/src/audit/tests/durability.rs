//! Death, full disks and failing writes. The parts that must die or change their limits are processes of
//! their own: this test binary again, running one ignored test.

use super::*;
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

const DIR: &str = "WARDEN_AUDIT_TEST_DIR";

fn child(name: &str, dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", &format!("audit::tests::durability::{name}")])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn given_dir() -> PathBuf {
    PathBuf::from(std::env::var_os(DIR).expect("run by its parent test only"))
}

/// Runs a child to its end; false when it says that it had to skip.
fn run_child(name: &str, dir: &Path) -> bool {
    let output = child(name, dir).wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{name}: {text}");
    let skipped = text.contains("skipped:");
    if skipped {
        eprintln!("{name}: {text}");
    }
    !skipped
}

#[test]
#[ignore = "the process that dies in every_record_answered_before_sigkill_is_in_the_log"]
fn child_writes_until_killed() {
    let mut log = open_log(&given_dir(), |_| {}).unwrap();
    let mut out = std::io::stdout().lock();
    loop {
        let ticket = log.begin(&act("task-1", Value::Text("x"))).unwrap();
        writeln!(out, "\nbegun {}", ticket.seq()).unwrap();
        if ticket.seq() % 3 != 0 {
            log.end(ticket, &EndRecord::default()).unwrap();
        }
    }
}

#[test]
fn every_record_answered_before_sigkill_is_in_the_log() {
    let place = Place::new();
    let mut child = child("child_writes_until_killed", &place.0);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let seq_of = |line: String| line.strip_prefix("begun ").and_then(|n| n.parse::<u64>().ok());
    let mut last = lines.by_ref().filter_map(seq_of).find(|seq| *seq > 500).unwrap();
    assert_eq!(place.verify().segments[0].state, SegmentState::Live);
    child.kill().unwrap();
    child.wait().unwrap();
    last = lines.filter_map(seq_of).last().unwrap_or(last);
    let report = place.verify();
    assert!(report.is_intact(), "{:?}", report.faults);
    let segment = &report.segments[0];
    assert!(matches!(segment.state, SegmentState::Crashed { .. }));
    assert!(segment.last_seq.unwrap() >= last, "{:?} {last}", segment.last_seq);
    assert!(!report.unknown.is_empty());
    // Whoever comes next is not held up, and pins what is there.
    written(&place, 1);
    assert!(place.verify().is_intact());
}

#[test]
fn a_torn_last_line_is_a_crash_and_not_a_fault() {
    let place = Place::new();
    let mut log = place.log();
    call(&mut log, "whole");
    let segment = log.head().segment;
    drop(log);
    let path = place.0.join(&segment);
    let whole = fs::read(&path).unwrap();
    let last_start = whole[..whole.len() - 1].iter().rposition(|b| *b == b'\n').unwrap() + 1;
    for cut in [last_start + 1, last_start + 40, whole.len() - 1] {
        fs::write(&path, &whole[..cut]).unwrap();
        let report = place.verify();
        assert!(report.is_intact(), "{:?}", report.faults);
        let torn_bytes = (cut - last_start) as u64;
        assert_eq!(report.segments[0].state, SegmentState::Crashed { torn_bytes });
        assert_eq!(report.unknown.len(), 1, "the call whose end is torn is unknown");
    }
    // The control: torn after a closing record is damage.
    let closed = written(&place, 1).segment;
    let mut bytes = fs::read(place.0.join(&closed)).unwrap();
    bytes.extend_from_slice(b"{\"seq\":");
    fs::write(place.0.join(&closed), bytes).unwrap();
    let report = verify_segment(place.fd(), &closed, None).unwrap();
    assert_eq!(report.first_bad().map(|f| &f.kind), Some(&FaultKind::AfterClose));
}

#[test]
fn an_empty_segment_is_a_crash_before_the_first_record() {
    let place = Place::new();
    fs::write(place.0.join("20260101T000000.000000Z-1-0123456789abcdef.jsonl"), "").unwrap();
    assert!(place.verify().is_intact());
    written(&place, 1);
    assert!(place.verify().is_intact());
}

/// Begins calls until the log refuses; all that were begun can be ended.
fn fill(log: &mut AuditLog, expected: impl Fn(&AuditError) -> bool) -> u64 {
    let text = "\u{1}".repeat(160);
    let wide = [Value::Text(&text), Value::Text(&text), Value::Text(&text), Value::Text(&text)];
    let mut flying = Vec::new();
    let refused = loop {
        match log.begin(&act("task-1", Value::List(&wide))) {
            Ok(ticket) => flying.push(ticket),
            Err(e) => break e,
        }
    };
    assert!(expected(&refused), "{refused}");
    assert!(log.poisoned().is_none());
    let count = flying.len() as u64;
    assert!(count > 8, "{count}");
    for ticket in flying {
        log.end(ticket, &EndRecord { result: Outcome::Done(Value::List(&wide)), bytes: None }).unwrap();
    }
    count
}

#[test]
#[ignore = "the process with a small filesystem of a_full_disk_refuses_begins_and_keeps_room_for_ends"]
fn child_fills_a_small_filesystem() {
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    let dir = given_dir();
    let none: Option<&str> = None;
    let mounted = unshare(CloneFlags::CLONE_NEWNS)
        .and_then(|()| mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none))
        .and_then(|()| mount(Some("tmpfs"), &dir, Some("tmpfs"), MsFlags::empty(), Some("size=768k,mode=0700")));
    if let Err(e) = mounted {
        crate::skip::skipped(&format!("no filesystem of our own without root: {e}"));
        return;
    }
    let ballast = dir.join("ballast");
    fs::write(&ballast, vec![1u8; 256 * 1024]).unwrap();
    let mut log = open_log(&dir, |_| {}).unwrap();
    let full = |e: &AuditError| matches!(e, AuditError::Reserve(Errno::ENOSPC));
    let first = fill(&mut log, full);
    // There may be room for a new segment or not; the log is usable either way.
    let _ = log.rotate();
    assert!(log.poisoned().is_none());
    // The control: with space again, calls go on in the same log.
    fs::remove_file(&ballast).unwrap();
    assert!(fill(&mut log, full) > 8);
    log.close().unwrap();
    let report = verify_directory(File::open(&dir).unwrap(), None).unwrap();
    assert!(report.is_intact(), "{:?}", report.faults);
    assert!(report.unknown.is_empty());
    assert!(report.segments.iter().all(|s| s.state == SegmentState::Closed), "{:?}", report.segments);
    println!("calls before the disk was full: {first}");
}

#[test]
fn a_full_disk_refuses_begins_and_keeps_room_for_ends() {
    let place = Place::new();
    run_child("child_fills_a_small_filesystem", &place.0);
}

#[test]
#[ignore = "the process with a file size limit of a_file_size_limit_refuses_begins_without_a_signal"]
fn child_meets_its_file_size_limit() {
    let mut log = open_log(&given_dir(), |_| {}).unwrap();
    let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
    setrlimit(Resource::RLIMIT_FSIZE, 512 * 1024, hard).unwrap();
    fill(&mut log, |e| matches!(e, AuditError::FileSizeLimit { limit_bytes: 524_288 }));
    setrlimit(Resource::RLIMIT_FSIZE, hard, hard).unwrap();
    call(&mut log, "after");
    log.close().unwrap();
}

#[test]
fn a_file_size_limit_refuses_begins_without_a_signal() {
    let place = Place::new();
    assert!(run_child("child_meets_its_file_size_limit", &place.0));
    assert!(place.verify().is_intact());
}

#[test]
#[ignore = "the process whose write fails of a_failed_end_record_poisons_the_log"]
fn child_fails_to_end_a_call() {
    let dir = given_dir();
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGXFSZ);
    mask.thread_block().unwrap();
    let mut log = open_log(&dir, |_| {}).unwrap();
    let first = log.begin(&act("task-1", Value::Text("first"))).unwrap();
    let second = log.begin(&act("task-1", Value::Text("second"))).unwrap();
    let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
    let length = fs::metadata(dir.join(log.head().segment)).unwrap().len();
    // The kernel takes ten bytes of the record and no more: a short write.
    setrlimit(Resource::RLIMIT_FSIZE, length + 10, hard).unwrap();
    let failed = log.end(first, &EndRecord::default());
    assert!(matches!(failed, Err(AuditError::ShortWrite { written: 10, .. })), "{failed:?}");
    assert!(log.poisoned().is_some());
    setrlimit(Resource::RLIMIT_FSIZE, hard, hard).unwrap();
    assert!(matches!(log.begin(&act("task-1", Value::Null)), Err(AuditError::Poisoned { .. })));
    assert!(matches!(log.single(&Record::default()), Err(AuditError::Poisoned { .. })));
    // What still can be recorded is: the other call's end, and the log's.
    log.end(second, &EndRecord::default()).unwrap();
    log.close().unwrap();
}

#[test]
fn a_failed_end_record_poisons_the_log() {
    let place = Place::new();
    assert!(run_child("child_fails_to_end_a_call", &place.0));
    let report = place.verify();
    assert!(report.is_intact(), "{:?}", report.faults);
    assert_eq!(report.unknown.len(), 1);
    assert_eq!(report.unknown[0].1.seq, 1);
}

#[test]
fn space_allocated_ahead_is_given_back_and_never_shows_in_the_length() {
    use std::os::unix::fs::MetadataExt;
    let place = Place::new();
    let mut log = place.log();
    call(&mut log, "x");
    let path = place.0.join(log.head().segment);
    let live = fs::metadata(&path).unwrap();
    assert_eq!(live.len() as usize, fs::read_to_string(&path).unwrap().len());
    if log.degraded().is_none() {
        assert!(live.blocks() * 512 >= 60_000, "{}", live.blocks());
    }
    log.close().unwrap();
    assert!(fs::metadata(&path).unwrap().blocks() * 512 <= 16 * 1024);
}

#[test]
fn sync_durability_writes_the_same_log() {
    let place = Place::new();
    let mut log = place.log_with(|config| config.durability = Durability::Sync);
    call(&mut log, "synced");
    log.close().unwrap();
    assert!(place.verify().is_intact());
}
