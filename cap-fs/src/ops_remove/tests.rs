use crate::fixture::*;
use std::fs;
use std::os::unix::fs::symlink;
use warden_proto::msg::error::{CallError, ErrorCode};
use warden_proto::msg::fs::*;

fn remove(fx: &mut Fixture, path: &str) -> Result<FsReply, CallError> {
    fx.ask(FsCall::RemoveFile { target: at(path) })
}

fn remove_dir(fx: &mut Fixture, path: &str, recursive: bool) -> Result<FsReply, CallError> {
    fx.ask(FsCall::RemoveDir { target: at(path), recursive })
}

#[test]
fn files_and_links_go_and_what_links_point_to_stays() {
    let mut fx = Fixture::new(&[(".env", DENY), ("Makefile", DENY_WRITE)], |dir| {
        for name in [".env", "Makefile", "f", "g"] {
            fs::write(dir.join(name), "x").unwrap();
        }
        fs::create_dir(dir.join("d")).unwrap();
        symlink("g", dir.join("l")).unwrap();
        symlink("/etc/passwd", dir.join("out")).unwrap();
    });
    for name in ["f", "l", "out"] {
        remove(&mut fx, name).unwrap();
        assert!(fx.host(name).symlink_metadata().is_err());
    }
    assert!(fx.host("g").exists());
    assert_eq!(denied_by(remove(&mut fx, ".env")), "rule[0]");
    assert_eq!(denied_by(remove(&mut fx, "Makefile")), "rule[1]");
    assert_eq!(code(remove(&mut fx, "d")), ErrorCode::Conflict);
    assert_eq!(code(remove(&mut fx, "missing")), ErrorCode::NotFound);
    assert_eq!(denied_by(remove_dir(&mut fx, "", true)), "grant[0]");
    assert!(fx.host(".env").exists() && fx.host("Makefile").exists());
}

#[test]
fn an_empty_directory_goes_unless_a_rule_hangs_on_its_name() {
    let mut fx = Fixture::new(&[("keep/secret/**", DENY), ("**/.env", DENY)], |dir| {
        fs::create_dir_all(dir.join("keep")).unwrap();
        fs::create_dir_all(dir.join("full/sub")).unwrap();
        fs::create_dir_all(dir.join("empty")).unwrap();
        symlink("empty", dir.join("link")).unwrap();
    });
    assert_eq!(denied_by(remove_dir(&mut fx, "keep", false)), "rule[0]");
    assert_eq!(code(remove_dir(&mut fx, "full", false)), ErrorCode::Conflict);
    assert_eq!(code(remove_dir(&mut fx, "link", true)), ErrorCode::Conflict);
    remove_dir(&mut fx, "empty", false).unwrap();
    remove_dir(&mut fx, "full", true).unwrap();
    assert!(fx.host("keep").exists() && !fx.host("full").exists());
}

#[test]
fn a_tree_goes_whole_or_not_at_all_and_links_are_not_followed() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("keep"), "x").unwrap();
    let mut fx = Fixture::new(&[("**/.env", DENY), ("**/.git/config*", DENY_WRITE)], |dir| {
        for top in ["clean", "env", "git"] {
            fs::create_dir_all(dir.join(top).join("a/b/c")).unwrap();
            fs::write(dir.join(top).join("a/b/f"), "x").unwrap();
        }
        symlink(outside.path(), dir.join("clean/a/out")).unwrap();
        fs::write(dir.join("env/a/b/c/.env"), "x").unwrap();
        fs::create_dir(dir.join("git/.git")).unwrap();
        fs::write(dir.join("git/.git/config"), "x").unwrap();
    });
    assert_eq!(denied_by(remove_dir(&mut fx, "env", true)), "rule[0]");
    assert_eq!(denied_by(remove_dir(&mut fx, "git", true)), "rule[1]");
    assert!(fx.host("env/a/b/f").exists() && fx.host("git/a/b/f").exists(), "nothing of it is removed");
    remove_dir(&mut fx, "clean", true).unwrap();
    assert!(!fx.host("clean").exists() && outside.path().join("keep").exists());
}

#[test]
fn a_tree_that_is_too_deep_is_refused_before_anything_goes() {
    let mut fx = Fixture::new(&[], |dir| {
        let mut deep = dir.join("t");
        (0..140).for_each(|_| deep = deep.join("d"));
        fs::create_dir_all(&deep).unwrap();
        fs::write(dir.join("t/f"), "").unwrap();
    });
    assert_eq!(code(remove_dir(&mut fx, "t", true)), ErrorCode::Limit);
    assert!(fx.host("t/f").exists());
}
