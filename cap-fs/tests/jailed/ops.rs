//! Every operation under the filter and the domain: the calls it needs are allowed, and what it denies it denies here too.

use crate::rig::*;
use std::fs;
use std::os::unix::fs::symlink;
use warden_proto::Bytes;
use warden_proto::msg::error::ErrorCode;
use warden_proto::msg::fs::*;

const RW: OpenFlags =
    OpenFlags { read: true, write: true, append: false, create: true, truncate: true, exclusive: false };

#[test]
fn every_operation_works_in_the_jail() {
    let place = Place::new();
    let mut helper = place.helper(&[("**/.env", RuleKind::Deny), ("MAKEFILE", RuleKind::Deny)]);
    let long = vec![b'x'; 1 << 20];
    assert_eq!(helper.write("long", &long).unwrap(), FsReply::Written { bytes: 1 << 20, grown: 1 << 20 });
    assert_eq!(helper.read("long").unwrap(), long);
    helper.call(FsCall::EnsureDir { target: at("a/b") }).unwrap();
    helper.call(FsCall::EnsureDir { target: at("makefile") }).unwrap();
    let file = helper.open("a/b/f", RW).unwrap();
    let bytes = Bytes::new(b"hello".to_vec()).unwrap();
    helper.call(FsCall::Write { file, bytes }).unwrap();
    helper.call(FsCall::SetLen { file, len: 4 }).unwrap();
    helper.call(FsCall::Flush { file }).unwrap();
    assert!(matches!(
        helper.call(FsCall::Close { handle: file }).unwrap(),
        FsReply::Closed { size_bytes: Some(4), sha256: Some(_) }
    ));
    let append = OpenFlags { append: true, truncate: false, ..RW };
    let file = helper.open("a/b/f", append).unwrap();
    helper.call(FsCall::Write { file, bytes: Bytes::new(b"!".to_vec()).unwrap() }).unwrap();
    assert_eq!(fs::read(place.inside("a/b/f")).unwrap(), b"hell!");
    assert!(matches!(helper.call(FsCall::Read { file, max_bytes: 9 }).unwrap(), FsReply::Data { .. }));
    helper.call(FsCall::Rename { target: at("a/b/f"), to: at("a/g") }).unwrap();
    helper.call(FsCall::Metadata { target: at("a/g") }).unwrap();
    let check = FileCheck::Contains { regex: warden_proto::Text::new("^hell").unwrap() };
    assert!(matches!(
        helper.call(FsCall::Check { target: at("a/g"), check }).unwrap(),
        FsReply::Checked { met: true, .. }
    ));
    let FsReply::Opened { handle, .. } = helper.call(FsCall::OpenDir { target: at("a") }).unwrap() else { panic!() };
    let target = HelperTarget::At { dir: handle, path: warden_proto::Text::new("").unwrap() };
    let FsReply::Entries { entries, next, .. } = helper.call(FsCall::ListDir { target, after: 0 }).unwrap() else {
        panic!()
    };
    assert_eq!((entries.len(), next), (2, 0));
    helper.call(FsCall::RemoveFile { target: at("a/g") }).unwrap();
    helper.call(FsCall::RemoveDir { target: at("a"), recursive: true }).unwrap();
    helper.call(FsCall::RemoveDir { target: at("makefile"), recursive: false }).unwrap();
    assert_eq!(fs::read_dir(place.inside("")).unwrap().count(), 1);
}

#[test]
fn denials_carry_their_rule_and_no_host_path() {
    let place = Place::new();
    fs::write(place.inside(".env"), "secret").unwrap();
    fs::write(place.inside("run.sh"), "x").unwrap();
    fs::write(place.outside("secret"), "secret").unwrap();
    symlink(place.outside("secret"), place.inside("out")).unwrap();
    fs::hard_link(place.inside(".env"), place.inside("alias")).unwrap();
    nix::unistd::mkfifo(&place.inside("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut helper = place.helper(&[("**/.env", RuleKind::Deny), ("run.sh", RuleKind::DenyWrite)]);
    for (path, rule) in
        [(".env", "rule[0]"), ("alias", "rule[0]"), ("out", "grant"), ("../outside/secret", "grant"), ("pipe", "grant")]
    {
        let denied = helper.read(path);
        let message = denied.clone().unwrap_err().message;
        assert!(!message.contains(place.path().to_str().unwrap()), "{message}");
        assert_eq!(denied_by(denied), rule, "{path}");
    }
    assert_eq!(helper.read("run.sh").unwrap(), b"x");
    assert_eq!(denied_by(helper.write("run.sh", b"y")), "rule[1]");
    let rename = FsCall::Rename { target: at("run.sh"), to: at("other") };
    assert_eq!(denied_by(helper.call(rename)), "rule[1]");
    assert_eq!(helper.write("big", &vec![0; 1 << 20]).map(|_| ()), Ok(()));
    let file = helper.open("big", OpenFlags { truncate: false, ..RW }).unwrap();
    assert_eq!(helper.call(FsCall::SetLen { file, len: 11 << 20 }).unwrap_err().code, ErrorCode::Limit);
}

#[test]
fn a_file_denied_later_made_linked_or_renamed_by_others_is_denied() {
    let place = Place::new();
    fs::write(place.inside("plain"), "x").unwrap();
    let mut helper = place.helper(&[("**/.env", RuleKind::Deny)]);
    assert_eq!(helper.read("plain").unwrap(), b"x");
    fs::write(place.inside(".env"), "secret").unwrap();
    symlink(".env", place.inside("link")).unwrap();
    assert_eq!(denied_by(helper.read("link")), "rule[0]");
    fs::rename(place.inside("plain"), place.inside("sub.env")).unwrap();
    assert_eq!(helper.read("sub.env").unwrap(), b"x");
    fs::create_dir(place.inside("d")).unwrap();
    fs::rename(place.inside("sub.env"), place.inside("d/.env")).unwrap();
    assert_eq!(denied_by(helper.read("d/.env")), "rule[0]");
    // An unjailed linker is noticed once the collection is a second old.
    fs::hard_link(place.inside(".env"), place.inside("alias")).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1200));
    assert_eq!(denied_by(helper.read("alias")), "rule[0]");
}

#[test]
fn modes_are_per_workspace_and_the_root_may_be_renamed() {
    let place = Place::new();
    let second = place.path().join("w1");
    fs::create_dir(&second).unwrap();
    fs::write(second.join("f"), "x").unwrap();
    fs::write(second.join(".env"), "x").unwrap();
    let mut read_only = workspace(&[(".env", RuleKind::Deny)]);
    read_only.writable = false;
    let mut helper = Helper::start(&[(place.inside(""), workspace(&[])), (second.clone(), read_only)], None);
    let in_second = |path: &str| HelperTarget::Workspace { workspace: 1, path: warden_proto::Text::new(path).unwrap() };
    let read = |path: &str| FsCall::ReadFile { target: in_second(path), offset: 0, max_bytes: 9 };
    let write = |path: &str| FsCall::WriteFile {
        target: in_second(path),
        contents: inline(b"y"),
        append: false,
        parents: false,
    };
    helper.call(read("f")).unwrap();
    assert_eq!(denied_by(helper.call(write("f"))), "grant");
    helper.write("f", b"y").unwrap();
    fs::rename(&second, place.path().join("renamed")).unwrap();
    helper.call(read("f")).unwrap();
    assert_eq!(denied_by(helper.call(read(".env"))), "rule[0]");
}

#[test]
fn ten_thousand_entries_are_listed() {
    let place = Place::new();
    for n in 0..10_000 {
        fs::write(place.inside(&format!("{n:05}")), "").unwrap();
    }
    let mut helper = place.helper(&[("**/*9", RuleKind::Deny)]);
    let (mut seen, mut after) = (0, 0);
    loop {
        let FsReply::Entries { entries, next, .. } = helper.call(FsCall::ListDir { target: at(""), after }).unwrap()
        else {
            panic!()
        };
        seen += entries.len();
        after = next;
        if after == 0 {
            break;
        }
    }
    assert_eq!(seen, 9_000);
}
