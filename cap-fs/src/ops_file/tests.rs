use crate::files::Done;
use crate::fixture::*;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use warden_proto::blob::Body;
use warden_proto::msg::error::ErrorCode;
use warden_proto::msg::fs::*;

const WRITE: OpenFlags =
    OpenFlags { read: false, write: true, append: false, create: false, truncate: false, exclusive: false };
const READ: OpenFlags = OpenFlags { read: true, write: false, ..WRITE };

#[test]
fn a_file_is_written_grows_and_is_read_back() {
    let mut fx = Fixture::new(&[], |_| {});
    assert_eq!(fx.write("a.txt", b"hello").unwrap(), FsReply::Written { bytes: 5, grown: 5 });
    assert_eq!(fx.write("a.txt", b"ab").unwrap(), FsReply::Written { bytes: 2, grown: 0 });
    assert_eq!(fx.write_with("a.txt", b"cde", true, false).unwrap(), FsReply::Written { bytes: 3, grown: 3 });
    assert_eq!(fx.read("a.txt").unwrap(), b"abcde");
    assert_eq!(fs::metadata(fx.host("a.txt")).unwrap().permissions().mode() & 0o777, 0o644);
    let part = fx.call(FsCall::ReadFile { target: at("a.txt"), offset: 1, max_bytes: 2 }, &[]).unwrap();
    assert_eq!(part, Done::Content { bytes: b"bc".to_vec(), truncated: true });
    let end = fx.call(FsCall::ReadFile { target: at("a.txt"), offset: 9, max_bytes: 2 }, &[]).unwrap();
    assert_eq!(end, Done::Content { bytes: Vec::new(), truncated: false });
}

#[test]
fn parents_are_made_only_when_asked() {
    let mut fx = Fixture::new(&[("x/deny", DENY)], |_| {});
    assert_eq!(code(fx.write("a/b/c", b"x")), ErrorCode::NotFound);
    fx.write_with("a/b/c", b"x", false, true).unwrap();
    assert_eq!(fx.read("a/b/c").unwrap(), b"x");
    assert_eq!(denied_by(fx.write_with("x/deny/c", b"x", false, true)), "rule[0]");
    assert!(!fx.host("x").exists(), "nothing is made on the way to a denial");
}

#[test]
fn a_denied_file_is_neither_read_nor_written_nor_made_by_any_way() {
    let mut fx = Fixture::new(&[("**/.env", DENY), ("Makefile", DENY_WRITE)], |dir| {
        fs::create_dir(dir.join("sub")).unwrap();
        fs::write(dir.join("sub/.env"), "secret").unwrap();
        fs::write(dir.join("Makefile"), "all:").unwrap();
        fs::write(dir.join("open.txt"), "fine").unwrap();
        symlink("sub/.env", dir.join("link")).unwrap();
        symlink("sub", dir.join("dir")).unwrap();
        symlink("Makefile", dir.join("make")).unwrap();
        symlink("open.txt", dir.join("inside")).unwrap();
    });
    for path in ["sub/.env", "link", "dir/.env", ".env", "dir/../sub/.env"] {
        let rule = if path.contains("..") { "grant[0]" } else { "rule[0]" };
        assert_eq!(denied_by(fx.read(path)), rule, "{path}");
        assert_eq!(denied_by(fx.write(path, b"x")), rule, "{path}");
        assert_eq!(denied_by(fx.open(path, READ)), rule, "{path}");
    }
    assert_eq!(fx.read("Makefile").unwrap(), b"all:");
    assert_eq!(fx.read("make").unwrap(), b"all:");
    for path in ["Makefile", "make"] {
        assert_eq!(denied_by(fx.write(path, b"x")), "rule[1]");
        assert_eq!(denied_by(fx.open(path, WRITE)), "rule[1]");
        assert_eq!(denied_by(fx.open(path, OpenFlags { truncate: true, ..READ })), "rule[1]");
    }
    assert_eq!(fs::read(fx.host("sub/.env")).unwrap(), b"secret");
    assert_eq!(fs::read(fx.host("Makefile")).unwrap(), b"all:");
    // The control: a link to what is allowed.
    assert_eq!(fx.read("inside").unwrap(), b"fine");
    fx.write("inside", b"new").unwrap();
    assert_eq!(fs::read(fx.host("open.txt")).unwrap(), b"new");
}

#[test]
fn links_out_are_denied_and_links_inside_followed() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("f"), "out").unwrap();
    let target = outside.path().to_path_buf();
    let mut fx = Fixture::new(&[], |dir| {
        symlink(&target, dir.join("absolute")).unwrap();
        symlink("../..", dir.join("up")).unwrap();
        symlink("/proc/self/root", dir.join("magic")).unwrap();
        symlink("loop", dir.join("loop")).unwrap();
        fs::write(dir.join("f"), "in").unwrap();
        fs::create_dir(dir.join("d")).unwrap();
        symlink("../f", dir.join("d/back")).unwrap();
        symlink("nothing", dir.join("dangling")).unwrap();
    });
    for path in ["absolute/f", "absolute", "up/x", "up", "magic/etc/passwd", "loop", "../x", "/etc/passwd"] {
        let denied = fx.read(path);
        assert_eq!(denied_by(denied.clone()), "grant[0]", "{path}");
        let message = denied.unwrap_err().message;
        assert!(!message.contains(target.to_str().unwrap()), "no host path: {message}");
        assert_eq!(denied_by(fx.write(path, b"x")), "grant[0]", "{path}");
    }
    assert_eq!(fx.read("d/back").unwrap(), b"in");
    // Creating never follows the last component.
    assert_eq!(code(fx.write("dangling", b"x")), ErrorCode::Conflict);
    assert!(!fx.host("nothing").exists());
}

#[test]
fn a_workspace_without_links_follows_none() {
    let fill = |dir: &std::path::Path| {
        fs::write(dir.join("w0/f"), "in").unwrap();
        symlink("f", dir.join("w0/l")).unwrap();
    };
    let mut fx = Fixture::several(&[&[]], fill, |tree| tree.symlinks = false);
    assert_eq!(denied_by(fx.read("l")), "grant[0]");
    assert_eq!(fx.read("f").unwrap(), b"in");
    let mut fx = Fixture::several(&[&[]], fill, |_| {});
    assert_eq!(fx.read("l").unwrap(), b"in");
}

#[test]
fn a_read_only_workspace_is_read_only() {
    let fill = |dir: &std::path::Path| fs::write(dir.join("w0/f"), "in").unwrap();
    let mut fx = Fixture::several(&[&[]], fill, |tree| tree.writable = false);
    assert_eq!(fx.read("f").unwrap(), b"in");
    fx.open("f", READ).unwrap();
    assert_eq!(denied_by(fx.write("f", b"x")), "grant[0]");
    assert_eq!(denied_by(fx.open("f", WRITE)), "grant[0]");
    assert_eq!(denied_by(fx.open("new", OpenFlags { create: true, ..READ })), "grant[0]");
    assert_eq!(denied_by(fx.rename("f", "g")), "grant[0]");
    assert_eq!(denied_by(fx.ask(FsCall::RemoveFile { target: at("f") })), "grant[0]");
    assert_eq!(denied_by(fx.ask(FsCall::EnsureDir { target: at("d") })), "grant[0]");
    fx.ask(FsCall::EnsureDir { target: at("") }).unwrap();
}

#[test]
fn no_file_grows_past_the_workspace_limit() {
    let mut fx = Fixture::several(&[&[]], |_| {}, |tree| tree.max_file.max_bytes = 10);
    fx.write("f", &[0; 10]).unwrap();
    let long = fx.write("f", &[0; 11]).unwrap_err();
    assert_eq!((long.code, long.rule.as_str()), (ErrorCode::Limit, "max_file[0]"));
    assert_eq!(code(fx.write_with("f", b"x", true, false)), ErrorCode::Limit);
    assert_eq!(fs::metadata(fx.host("f")).unwrap().len(), 10);
    let handle = fx.open("f", OpenFlags { append: true, ..WRITE }).unwrap();
    let bytes = warden_proto::Bytes::new(b"x".to_vec()).unwrap();
    assert_eq!(code(fx.ask(FsCall::Write { file: handle, bytes })), ErrorCode::Limit);
    assert_eq!(code(fx.ask(FsCall::SetLen { file: handle, len: 11 })), ErrorCode::Limit);
    fx.ask(FsCall::SetLen { file: handle, len: 9 }).unwrap();
    assert_eq!(fs::metadata(fx.host("f")).unwrap().len(), 9);
}

/// T-06: what takes the place of bytes that were there is no growth, and what would be too much leaves nothing behind.
#[test]
fn files_grow_by_no_more_than_is_left() {
    let mut fx = Fixture::new(&[], |dir| fs::write(dir.join("f"), [0; 8]).unwrap());
    let mut ask =
        |call: FsHelperCall, contents: &[u8], growth_max| match fx.order(FsOrder { call, growth_max }, contents) {
            Ok(Done::Reply(FsReply::Written { grown, .. })) => Ok(grown),
            Ok(Done::Reply(FsReply::Opened { handle, .. })) => Ok(u64::from(handle)),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err((error.code, error.rule.into_string())),
        };
    let write = |path: &str, append, parents| {
        let contents = Body::Inline { bytes: warden_proto::Bytes::default() };
        FsCall::WriteFile { target: at(path), contents, append, parents }
    };
    let refused = Err((ErrorCode::Limit, "fs_written".to_owned()));
    assert_eq!(ask(write("f", false, false), &[1; 8], 0), Ok(0));
    assert_eq!(ask(write("f", false, false), &[1; 9], 0), refused);
    assert_eq!(ask(write("f", false, false), &[1; 9], 1), Ok(1));
    assert_eq!(ask(write("f", true, false), b"x", 0), refused);
    assert_eq!(ask(write("new/file", false, true), b"x", 0), refused);
    assert_eq!(ask(write("empty", false, false), b"", 0), Ok(0));
    let open = FsCall::OpenFile { target: at("f"), flags: OpenFlags { write: true, ..READ } };
    let file = u32::try_from(ask(open, &[], 0).unwrap()).unwrap();
    let bytes = warden_proto::Bytes::new(vec![2; 10]).unwrap();
    assert_eq!(ask(FsCall::Write { file, bytes: bytes.clone() }, &[], 0), refused);
    assert_eq!(ask(FsCall::SetLen { file, len: 10 }, &[], 0), refused);
    assert_eq!(ask(FsCall::Write { file, bytes }, &[], 1), Ok(1));
    assert_eq!(ask(FsCall::SetLen { file, len: 4 }, &[], 0), Ok(0));
    assert_eq!(fs::metadata(fx.host("f")).unwrap().len(), 4);
    assert!(!fx.host("new").exists(), "what is refused makes no directory");
}

#[test]
fn only_regular_files_are_opened_and_nothing_blocks() {
    let mut fx = Fixture::new(&[], |dir| {
        nix::unistd::mkfifo(&dir.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        drop(std::os::unix::net::UnixListener::bind(dir.join("socket")).unwrap());
        fs::create_dir(dir.join("dir")).unwrap();
    });
    for path in ["pipe", "socket"] {
        assert_eq!(denied_by(fx.read(path)), "grant[0]", "{path}");
        assert_eq!(denied_by(fx.write(path, b"x")), "grant[0]", "{path}");
        assert_eq!(denied_by(fx.open(path, READ)), "grant[0]", "{path}");
        assert_eq!(fx.metadata(path).unwrap().kind, EntryKind::Other);
    }
    assert_eq!(code(fx.read("dir")), ErrorCode::Conflict);
    assert_eq!(code(fx.write("dir", b"x")), ErrorCode::Conflict);
}

#[test]
fn device_nodes_are_refused() {
    let mut made = false;
    let mut fx = Fixture::new(&[], |dir| {
        use nix::sys::stat::{Mode, SFlag, makedev, mknod};
        made = mknod(&dir.join("null"), SFlag::S_IFCHR, Mode::S_IRWXU, makedev(1, 3)).is_ok();
    });
    if !made {
        crate::fixture::skip::skipped("device nodes can be made by root only");
        return;
    }
    assert_eq!(denied_by(fx.read("null")), "grant[0]");
    assert_eq!(denied_by(fx.write("null", b"x")), "grant[0]");
}

#[test]
fn exclusive_and_truncating_opens() {
    let mut fx = Fixture::new(&[], |dir| fs::write(dir.join("f"), "12345").unwrap());
    let exclusive = OpenFlags { create: true, exclusive: true, ..WRITE };
    assert_eq!(code(fx.open("f", exclusive)), ErrorCode::Conflict);
    fx.open("g", exclusive).unwrap();
    assert_eq!(code(fx.open("missing", WRITE)), ErrorCode::NotFound);
    assert_eq!(code(fx.open("g", OpenFlags { exclusive: true, ..WRITE })), ErrorCode::InvalidArgument);
    fx.open("f", OpenFlags { truncate: true, ..WRITE }).unwrap();
    assert_eq!(fs::metadata(fx.host("f")).unwrap().len(), 0);
}

#[test]
fn a_write_keeps_the_inode_and_a_removed_file_is_not_found() {
    let mut fx = Fixture::new(&[], |dir| fs::write(dir.join("f"), "1").unwrap());
    let before = fs::metadata(fx.host("f")).unwrap().ino();
    fx.write("f", b"2").unwrap();
    assert_eq!(fs::metadata(fx.host("f")).unwrap().ino(), before);
    fs::remove_file(fx.host("f")).unwrap();
    assert_eq!(code(fx.read("f")), ErrorCode::NotFound);
    // A name that looks like the kernel's own note is a name like any other.
    fx.write("g (deleted)", b"x").unwrap();
    assert_eq!(fx.read("g (deleted)").unwrap(), b"x");
}

#[test]
fn paths_that_make_no_sense() {
    let mut fx = Fixture::new(&[], |_| {});
    assert_eq!(code(fx.read("a\0b")), ErrorCode::InvalidArgument);
    assert_eq!(code(fx.read(&"x".repeat(300))), ErrorCode::InvalidArgument);
    assert_eq!(code(fx.read(&"d/".repeat(2047))), ErrorCode::NotFound);
    let missing = FsCall::ReadFile { target: within(7, "x"), offset: 0, max_bytes: 1 };
    assert_eq!(code(fx.call(missing, &[])), ErrorCode::NotFound);
}
