//! The log against real files: written, damaged, and verified. Tests come in pairs with an untouched control.

mod chain;
mod durability;
mod forge;
mod reading;
mod tamper;

use super::*;
use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory of our own, 0700, gone with the test.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("warden-audit-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        Self(path)
    }

    fn fd(&self) -> File {
        File::open(&self.0).unwrap()
    }

    fn log(&self) -> AuditLog {
        self.log_with(|_| {})
    }

    fn log_with(&self, change: impl FnOnce(&mut AuditConfig)) -> AuditLog {
        open_log(&self.0, change).unwrap()
    }

    fn verify(&self) -> Report {
        verify_directory(self.fd(), None).unwrap()
    }

    fn segments(&self) -> Vec<PathBuf> {
        let mut all: Vec<_> = fs::read_dir(&self.0).unwrap().map(|e| e.unwrap().path()).collect();
        all.sort();
        all
    }

    fn lines(&self, segment: &str) -> Vec<String> {
        fs::read_to_string(self.0.join(segment)).unwrap().lines().map(str::to_owned).collect()
    }

    fn write_lines(&self, segment: &str, lines: &[String]) {
        fs::write(self.0.join(segment), lines.iter().map(|l| format!("{l}\n")).collect::<String>()).unwrap();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn open_log(dir: &Path, change: impl FnOnce(&mut AuditConfig)) -> Result<AuditLog, AuditError> {
    let mut config = AuditConfig::new(dir.display().to_string());
    change(&mut config);
    let facts = HeaderFacts {
        build: "test".into(),
        versions: vec![("warden".into(), "0.1.0".into())],
        policy_hash: HexDigest::of(b"policy"),
        rules_hash: HexDigest::of(b"rules"),
        degraded: vec!["namespaces".into()],
    };
    AuditLog::open(File::open(dir).unwrap(), config, facts)
}

fn act<'a>(task: &'a str, input: Value<'a>) -> BeginRecord<'a> {
    BeginRecord {
        task: Some(task),
        role: "worker",
        capability: "fs.write_file",
        op: "write",
        input,
        decision: Some(Decision::Allow),
        rule: Some("user:fs.workspace.repo"),
        policy_hash: None,
    }
}

fn call(log: &mut AuditLog, text: &str) {
    let ticket = log.begin(&act("task-1", Value::Text(text))).unwrap();
    log.end(ticket, &EndRecord { result: Outcome::Done(Value::Null), bytes: Some(1) }).unwrap();
}

/// A closed segment with an opening record, `calls` calls and a closing record.
fn written(place: &Place, calls: usize) -> Head {
    let mut log = place.log();
    for n in 0..calls {
        call(&mut log, &format!("call {n}"));
    }
    log.close().unwrap()
}

#[test]
fn records_have_exactly_the_fields_of_the_design_in_order() {
    let place = Place::new();
    let segment = written(&place, 1).segment;
    for line in place.lines(&segment) {
        let mut from = 0;
        for name in [
            "seq",
            "time",
            "mono_us",
            "task",
            "uid",
            "role",
            "capability",
            "op",
            "phase",
            "input",
            "decision",
            "rule",
            "policy_hash",
            "result",
            "bytes",
            "duration_us",
            "prev",
            "hash",
        ] {
            let at = line[from..].find(&format!("\"{name}\":")).unwrap_or_else(|| panic!("{name} in {line}"));
            from += at;
        }
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&line).unwrap();
        assert_eq!(object.len(), 18);
    }
}

#[test]
fn a_hash_can_be_recomputed_by_the_documented_rule() {
    let place = Place::new();
    let head = written(&place, 2);
    let mut prev = HexDigest::ZERO.to_string();
    for line in place.lines(&head.segment) {
        let cut = line.rfind(",\"hash\":\"").unwrap();
        let hash = HexDigest::of(format!("{}}}", &line[..cut]).as_bytes()).to_string();
        assert_eq!(line[cut..], format!(",\"hash\":\"{hash}\"}}"));
        assert!(line[..cut].ends_with(&format!("\"prev\":\"{prev}\"")));
        prev = hash;
    }
    assert_eq!(prev, head.head.to_string());
}

#[test]
fn an_end_record_names_its_begin_and_repeats_whose_it_is() {
    let place = Place::new();
    let mut log = place.log();
    let first = log.begin(&act("task-1", Value::Text("first"))).unwrap();
    let second = log.begin(&BeginRecord { role: "brain", ..act("task-2", Value::Text("second")) }).unwrap();
    log.end(first, &EndRecord { result: Outcome::Failed { code: "not-found", message: "gone" }, bytes: None }).unwrap();
    log.end(second, &EndRecord::default()).unwrap();
    assert_eq!(log.in_flight(), 0);
    let head = log.close().unwrap();
    let rows: Vec<Row> = place.lines(&head.segment).iter().map(|l| Row::parse(l.as_bytes()).unwrap()).collect();
    assert_eq!((rows[3].task.as_deref(), rows[3].input["begin"].as_u64()), (Some("task-1"), Some(1)));
    assert_eq!(rows[3].result["error"], "not-found");
    assert_eq!((rows[4].task.as_deref(), rows[4].role.as_str()), (Some("task-2"), "brain"));
    assert!(rows[4].duration_us.is_some() && rows[4].phase == "end");
    assert!(place.verify().is_intact());
}

#[test]
fn segments_are_private_and_the_directory_must_be() {
    let place = Place::new();
    let head = written(&place, 0);
    let mode = fs::metadata(place.0.join(&head.segment)).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    fs::set_permissions(&place.0, fs::Permissions::from_mode(0o750)).unwrap();
    let refused = open_log(&place.0, |_| {}).unwrap_err();
    assert!(refused.to_string().contains("chmod 700"), "{refused}");
    fs::set_permissions(&place.0, fs::Permissions::from_mode(0o700)).unwrap();
    open_log(&place.0, |_| {}).unwrap().close().unwrap();
}

#[test]
fn a_directory_of_somebody_else_is_refused() {
    let place = Place::new();
    if std::os::unix::fs::chown(&place.0, Some(65_534), None).is_err() {
        crate::skip::skipped("only root can give a directory away");
        return;
    }
    let refused = open_log(&place.0, |_| {}).unwrap_err();
    assert!(matches!(refused, AuditError::Foreign { owner: 65_534, .. }), "{refused}");
}

#[test]
fn the_head_moves_with_each_record_and_is_in_the_log() {
    let place = Place::new();
    let mut log = place.log();
    call(&mut log, "one");
    let middle = log.head();
    assert_eq!(middle.seq, 2);
    call(&mut log, "two");
    assert_ne!(log.head().head, middle.head);
    log.close().unwrap();
    assert!(verify_directory(place.fd(), Some(&middle.head)).unwrap().is_intact());
    let other = HexDigest::of(b"another log");
    let report = verify_directory(place.fd(), Some(&other)).unwrap();
    assert_eq!(report.first_bad().map(|f| &f.kind), Some(&FaultKind::HeadMissing { head: other }));
}

#[test]
fn the_directory_is_made_private() {
    let place = Place::new();
    let path = place.0.join("a/b");
    let fd = open_directory(&path).unwrap();
    drop(fd);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    open_log(&path, |_| {}).unwrap().close().unwrap();
}

#[test]
fn a_pair_of_records_is_cheap() {
    // Not a benchmark: this finds an accidental sync or a quadratic loop, not a slow machine.
    let place = Place::new();
    let mut log = place.log();
    let took = measure_pairs(&mut log, 2000).unwrap();
    assert!(took.as_millis() < 4000, "{took:?}");
    assert_eq!(log.head().seq, 4000);
}
