use crate::fixture::*;
use std::fs;
use std::os::unix::fs::symlink;
use warden_proto::Text;
use warden_proto::msg::error::ErrorCode;
use warden_proto::msg::fs::*;

fn ensure(fx: &mut Fixture, path: &str) -> Result<FsReply, warden_proto::msg::error::CallError> {
    fx.ask(FsCall::EnsureDir { target: at(path) })
}

#[test]
fn directories_are_made_with_their_parents_and_not_twice() {
    let mut fx = Fixture::new(&[("no/**", DENY), ("ro", DENY_WRITE)], |dir| fs::write(dir.join("f"), "").unwrap());
    ensure(&mut fx, "a/b/c").unwrap();
    ensure(&mut fx, "a/b/c").unwrap();
    assert!(fx.host("a/b/c").is_dir());
    assert_eq!(denied_by(ensure(&mut fx, "no/x/y")), "rule[0]");
    assert_eq!(denied_by(ensure(&mut fx, "ro")), "rule[1]");
    assert_eq!(denied_by(ensure(&mut fx, "ro/x")), "rule[1]");
    assert!(!fx.host("no").exists() && !fx.host("ro").exists());
    assert_eq!(code(ensure(&mut fx, "f")), ErrorCode::Conflict);
    assert_eq!(code(ensure(&mut fx, "f/x")), ErrorCode::Conflict);
}

/// T-06: each call costs one of `fs_ops`, and 2,000 folders are not to be had for one.
#[test]
fn one_call_makes_few_directories() {
    let mut fx = Fixture::new(&[], |_| {});
    let deep = |count: usize| vec!["d"; count].join("/");
    assert_eq!(code(ensure(&mut fx, &deep(65))), ErrorCode::Limit);
    let write = |fx: &mut Fixture, path: &str| fx.write_with(path, b"x", false, true);
    assert_eq!(code(write(&mut fx, &format!("{}/f", deep(65)))), ErrorCode::Limit);
    assert!(!fx.host("d").exists(), "nothing was made");
    // The controls: as many at once, and more in several calls.
    ensure(&mut fx, &deep(64)).unwrap();
    ensure(&mut fx, &deep(128)).unwrap();
    write(&mut fx, &format!("{}/f", deep(190))).unwrap();
    assert!(fx.host(&deep(190)).join("f").is_file());
}

#[test]
fn making_does_not_follow_a_link_out_and_not_a_dangling_one() {
    let outside = tempfile::tempdir().unwrap();
    let mut fx = Fixture::new(&[], |dir| {
        symlink(outside.path(), dir.join("out")).unwrap();
        symlink("nothing", dir.join("dangling")).unwrap();
        fs::create_dir(dir.join("real")).unwrap();
        symlink("real", dir.join("in")).unwrap();
    });
    assert_eq!(denied_by(ensure(&mut fx, "out/x")), "grant[0]");
    assert!(fs::read_dir(outside.path()).unwrap().next().is_none());
    assert_eq!(code(ensure(&mut fx, "dangling")), ErrorCode::Conflict);
    ensure(&mut fx, "in/x").unwrap();
    assert!(fx.host("real/x").is_dir());
}

#[test]
fn metadata_tells_kind_size_and_whether_it_may_be_written() {
    let mut fx = Fixture::new(&[("ro.txt", DENY_WRITE), (".env", DENY)], |dir| {
        fs::write(dir.join("f"), "12345").unwrap();
        fs::write(dir.join("ro.txt"), "1").unwrap();
        fs::write(dir.join(".env"), "1").unwrap();
        symlink("f", dir.join("l")).unwrap();
        symlink("nowhere", dir.join("dangling")).unwrap();
        symlink("/etc/passwd", dir.join("out")).unwrap();
        symlink(".env", dir.join("hidden")).unwrap();
    });
    let file = fx.metadata("f").unwrap();
    assert_eq!((file.name.as_str(), file.kind, file.size_bytes, file.readonly), ("f", EntryKind::File, Some(5), false));
    assert!(file.modified_ms.is_some());
    let link = fx.metadata("l").unwrap();
    assert_eq!((link.name.as_str(), link.kind, link.size_bytes), ("l", EntryKind::File, Some(5)));
    assert!(fx.metadata("ro.txt").unwrap().readonly);
    let root = fx.metadata("").unwrap();
    assert_eq!((root.name.as_str(), root.kind, root.size_bytes), (".", EntryKind::Directory, None));
    assert_eq!(fx.metadata("dangling").unwrap().kind, EntryKind::Symlink);
    assert_eq!(denied_by(fx.metadata("out")), "grant[0]");
    assert_eq!(denied_by(fx.metadata(".env")), "rule[1]");
    assert_eq!(denied_by(fx.metadata("hidden")), "rule[1]");
    assert_eq!(code(fx.metadata("missing")), ErrorCode::NotFound);
}

#[test]
fn an_open_directory_is_a_root_of_its_own_and_rules_follow_it() {
    let mut fx = Fixture::new(&[("b/secret", DENY), ("**/.env", DENY)], |dir| {
        fs::create_dir_all(dir.join("a/sub")).unwrap();
        for name in ["a/secret", "a/.env", "a/sub/f", "top"] {
            fs::write(dir.join(name), "x").unwrap();
        }
        symlink("../top", dir.join("a/up")).unwrap();
    });
    let FsReply::Opened { handle, .. } = fx.ask(FsCall::OpenDir { target: at("a") }).unwrap() else { panic!() };
    let read = |fx: &mut Fixture, path: &str| {
        let target = HelperTarget::At { dir: handle, path: Text::new(path).unwrap() };
        fx.call(FsCall::ReadFile { target, offset: 0, max_bytes: 9 }, &[])
    };
    read(&mut fx, "sub/f").unwrap();
    read(&mut fx, "secret").unwrap();
    assert_eq!(denied_by(read(&mut fx, ".env")), "rule[1]");
    assert_eq!(denied_by(read(&mut fx, "up")), "grant[0]");
    assert_eq!(denied_by(read(&mut fx, "../top")), "grant[0]");
    // Moved by somebody outside to where a rule denies it: the handle gives no way around.
    fs::rename(fx.host("a"), fx.host("b")).unwrap();
    assert_eq!(denied_by(read(&mut fx, "secret")), "rule[0]");
    read(&mut fx, "sub/f").unwrap();
    // And out of the workspace altogether.
    let elsewhere = fx.host("../elsewhere");
    fs::rename(fx.host("b"), elsewhere).unwrap();
    assert_eq!(denied_by(read(&mut fx, "sub/f")), "grant[0]");
}
