use crate::fixture::*;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use warden_proto::codec;
use warden_proto::limits::{BODY_MAX_BYTES, ENTRIES_PER_REPLY_MAX};
use warden_proto::msg::error::ErrorCode;
use warden_proto::msg::fs::*;

#[test]
fn entries_are_sorted_and_denied_ones_left_out() {
    let mut fx = Fixture::new(&[("**/.env", DENY), ("b", DENY_WRITE)], |dir| {
        for name in ["c", "a", ".env", "b"] {
            fs::write(dir.join(name), name).unwrap();
        }
        fs::hard_link(dir.join(".env"), dir.join("alias")).unwrap();
        symlink("/etc", dir.join("out")).unwrap();
        fs::write(dir.join(OsStr::from_bytes(b"z\xff")), "").unwrap();
    });
    assert_eq!(fx.names(""), ["a", "b", "c", "out", "z\u{fffd}"]);
    let FsReply::Entries { entries, .. } = fx.ask(FsCall::ListDir { target: at(""), after: 0 }).unwrap() else {
        panic!()
    };
    let out = entries.iter().find(|entry| entry.name.as_str() == "out").unwrap();
    assert_eq!((out.kind, out.size_bytes), (EntryKind::Symlink, None));
    assert!(entries.iter().find(|entry| entry.name.as_str() == "b").unwrap().readonly);
    assert!(!entries.iter().find(|entry| entry.name.as_str() == "a").unwrap().readonly);
}

#[test]
fn a_denied_directory_and_a_file_are_not_listed() {
    let mut fx = Fixture::new(&[("secret", DENY)], |dir| {
        fs::create_dir(dir.join("secret")).unwrap();
        fs::write(dir.join("f"), "").unwrap();
    });
    assert_eq!(denied_by(fx.ask(FsCall::ListDir { target: at("secret"), after: 0 })), "rule[0]");
    assert_eq!(code(fx.ask(FsCall::ListDir { target: at("f"), after: 0 })), ErrorCode::Conflict);
    assert_eq!(fx.names(""), ["f"]);
}

#[test]
fn ten_thousand_entries_come_in_pages_that_fit_a_frame() {
    let mut fx = Fixture::new(&[("**/*7", DENY)], |dir| {
        for n in 0..10_000 {
            fs::write(dir.join(format!("{n:05}")), "").unwrap();
        }
    });
    let names = fx.names("");
    assert_eq!(names.len(), 9_000);
    assert!(names.is_sorted() && names.iter().all(|name| !name.ends_with('7')));
}

#[test]
fn long_names_make_shorter_pages() {
    let mut fx = Fixture::new(&[], |dir| {
        for n in 0..400 {
            fs::write(dir.join(format!("{n:0255}")), "").unwrap();
        }
    });
    let reply = fx.ask(FsCall::ListDir { target: at(""), after: 0 }).unwrap();
    let FsReply::Entries { entries, next, total: 400 } = &reply else { panic!() };
    assert!(entries.len() < ENTRIES_PER_REPLY_MAX && *next > 0);
    let framed: FsHelperReply = Ok(reply.clone());
    assert!(codec::encode(&framed).unwrap().len() <= BODY_MAX_BYTES);
    assert_eq!(fx.names("").len(), 400);
}
