use crate::fixture::*;
use sha2::{Digest, Sha256};
use std::fs;
use warden_proto::Text;
use warden_proto::msg::error::{CallError, ErrorCode};
use warden_proto::msg::fs::*;

fn check(fx: &mut Fixture, path: &str, check: FileCheck) -> Result<bool, CallError> {
    match fx.ask(FsCall::Check { target: at(path), check })? {
        FsReply::Checked { met, detail } => {
            assert_eq!(met, detail.is_empty());
            Ok(met)
        }
        other => panic!("{other:?}"),
    }
}

fn contains(regex: &str) -> FileCheck {
    FileCheck::Contains { regex: Text::new(regex).unwrap() }
}

fn json(pointer: &str, value: &str) -> FileCheck {
    FileCheck::JsonEquals { pointer: Text::new(pointer).unwrap(), value: Text::new(value).unwrap() }
}

#[test]
fn each_predicate_is_met_and_unmet() {
    let mut fx = Fixture::new(&[], |dir| {
        fs::write(dir.join("f"), "one\ntwo fixed\n").unwrap();
        fs::write(dir.join("j"), r#"{"a":{"b":[1,"x"]}}"#).unwrap();
        fs::create_dir(dir.join("d")).unwrap();
    });
    let digest = Sha256::digest(b"one\ntwo fixed\n").into();
    for (path, what, met) in [
        ("f", FileCheck::Exists, true),
        ("d", FileCheck::Exists, true),
        ("no", FileCheck::Exists, false),
        ("no", FileCheck::Absent, true),
        ("f/x", FileCheck::Absent, true),
        ("f", FileCheck::Absent, false),
        ("f", contains("(?m)^two fi.ed$"), true),
        ("f", contains("three"), false),
        ("no", contains(""), false),
        ("f", FileCheck::Sha256 { digest }, true),
        ("f", FileCheck::Sha256 { digest: [0; 32] }, false),
        ("j", json("/a/b/1", "\"x\""), true),
        ("j", json("/a/b", "[1, \"x\"]"), true),
        ("j", json("/a/b/0", "2"), false),
        ("j", json("/a/c", "null"), false),
    ] {
        assert_eq!(check(&mut fx, path, what.clone()).unwrap(), met, "{path} {what:?}");
    }
    assert_eq!(code(check(&mut fx, "d", contains("x"))), ErrorCode::Conflict);
    // T-15: what is no JSON says neither yes nor no.
    assert_eq!(code(check(&mut fx, "f", json("/a", "1"))), ErrorCode::Conflict);
}

#[test]
fn a_denied_file_answers_nothing() {
    let mut fx = Fixture::new(&[("**/.env", DENY)], |dir| fs::write(dir.join(".env"), "KEY=1").unwrap());
    for what in [FileCheck::Exists, FileCheck::Absent, contains("KEY")] {
        assert_eq!(denied_by(check(&mut fx, ".env", what.clone())), "rule[0]");
        assert_eq!(denied_by(check(&mut fx, "not-there/.env", what)), "rule[0]");
    }
}

#[test]
fn what_is_too_large_or_no_expression_is_said_so() {
    let mut fx = Fixture::new(&[], |dir| {
        fs::File::create(dir.join("big")).unwrap().set_len(17 << 20).unwrap();
        fs::write(dir.join("deep"), "[".repeat(1 << 20)).unwrap();
    });
    assert_eq!(code(check(&mut fx, "big", contains("x"))), ErrorCode::Limit);
    assert_eq!(code(check(&mut fx, "big", json("", "1"))), ErrorCode::Limit);
    assert_eq!(code(check(&mut fx, "deep", contains("("))), ErrorCode::InvalidArgument);
    assert_eq!(code(check(&mut fx, "deep", contains("(\\w{1000}){1000}"))), ErrorCode::InvalidArgument);
    assert_eq!(code(check(&mut fx, "deep", json("", "{"))), ErrorCode::InvalidArgument);
    assert_eq!(code(check(&mut fx, "deep", json("/0", "1"))), ErrorCode::Conflict);
}
