//! Extended attributes, by the keeper: those of users, where the command may read or write and nowhere else.

use crate::door::{lines, tried};
use crate::metadata::{apart, bind};
use crate::support::*;
use rustix::fs::{XattrFlags, getxattr, setxattr};
use std::fs;
use std::path::Path;
use std::process::Command;
use warden_proto::msg::fs::RuleKind::{Deny, DenyWrite};
use warden_proto::msg::proc::Wish;

fn set(path: &Path, name: &str, value: &[u8]) -> bool {
    setxattr(path, name, value, XattrFlags::empty()).is_ok()
}

fn get(path: &Path, name: &str) -> Option<String> {
    let mut room = [0; 256];
    let length = getxattr(path, name, room.as_mut_slice()).ok()?;
    Some(String::from_utf8_lossy(&room[..length]).into_owned())
}

/// `w0` writable, with `inside`, `fixed`, `.env` and `link`, which leads to `beside`, which lies in no workspace; `w1`
/// read-only, with `seen`. All have a `user.tag` that says their name. `None` where the file system has no attributes.
fn tagged(options: Options, ruled: bool) -> Option<Helper> {
    let rules: &[_] = if ruled { &[("fixed", DenyWrite), (".env", Deny)] } else { &[] };
    let workspaces = vec![workspace(0, true, rules), workspace(1, false, &[])];
    let helper = Helper::with(Options { workspaces, ..options });
    for name in ["w0/inside", "w0/fixed", "w0/.env", "w1/seen", "beside"] {
        let path = helper.root.path().join(name);
        fs::write(&path, "x").unwrap();
        if !set(&path, "user.tag", name.as_bytes()) {
            crate::skip::skipped("attributes of files: this file system has none");
            return None;
        }
    }
    std::os::unix::fs::symlink("../beside", helper.workspace().join("link")).unwrap();
    Some(helper)
}

fn both(test: impl Fn(Helper, bool)) {
    for ruled in [false, true] {
        if let Some(helper) = tagged(Options::default(), ruled) {
            test(helper, ruled);
        }
    }
}

const LEAD: &str = "def put(p, **k): t(os.setxattr, p, 'user.new', b'new', **k)\n\
                    def see(p, **k): t(lambda: os.getxattr(p, 'user.tag', **k).decode())\n\
                    def names(p, **k): t(lambda: ','.join(sorted(os.listxattr(p, **k))))\n\
                    def drop(p, **k): t(os.removexattr, p, 'user.tag', **k)\n\
                    def all(p, **k): put(p, **k); see(p, **k); names(p, **k); drop(p, **k)\n";

#[track_caller]
fn answers(helper: &mut Helper, code: &str, expected: &[&str]) {
    lines(helper, &format!("{LEAD}{code}"), expected);
}

/// T-01, T-08
#[test]
fn attributes_are_set_and_read_in_a_workspace_and_nowhere_else() {
    both(|mut helper, _| {
        let root = helper.root.path().display().to_string();
        answers(
            &mut helper,
            "all('inside')\nsee('inside')\n",
            &["ok", "w0/inside", "user.new,user.tag", "ok", "ENODATA"],
        );
        let inside = helper.workspace().join("inside");
        assert_eq!((get(&inside, "user.new"), get(&inside, "user.tag")), (Some("new".into()), None));
        // A folder's too, and a file's in the command's own directory.
        let code = "put('.')\nnames('.')\np = os.environ['TMPDIR'] + '/f'\nwrite(p)\nput(p)\nnames(p)\n\
                    t(lambda: os.getxattr(p, 'user.new').decode())\nt(os.removexattr, p, 'user.new')\n";
        answers(&mut helper, code, &["ok", "user.new", "ok", "user.new", "new", "ok"]);
        let code = format!("for p in ['{root}/beside', '../beside', 'link']: all(p)\n");
        let outside =
            ["EPERM", "ENOTSUP", "ENOTSUP", "EPERM"].map(|errno| if helper.inside() { "ENOENT" } else { errno });
        answers(&mut helper, &code, &[outside; 3].concat());
        answers(&mut helper, "all('/etc/passwd')\n", &["EPERM", "ENOTSUP", "ENOTSUP", "EPERM"]);
        let beside = helper.root.path().join("beside");
        assert_eq!((get(&beside, "user.new"), get(&beside, "user.tag")), (None, Some("beside".into())));
        // The link itself has none, as for everybody.
        answers(&mut helper, "all('link', follow_symlinks=False)\n", &["EPERM", "ENODATA", "", "EPERM"]);
    });
}

/// T-01, T-08
#[test]
fn rules_of_names_and_read_only_workspaces_hold_for_attributes() {
    both(|mut helper, ruled| {
        let code = "see('fixed')\nnames('fixed')\nput('fixed')\ndrop('fixed')\n";
        let refused = if ruled { "EACCES" } else { "ok" };
        answers(&mut helper, code, &["w0/fixed", "user.tag", refused, refused]);
        let hidden = if ruled { ["EACCES"; 4] } else { ["ok", "w0/.env", "user.new,user.tag", "ok"] };
        answers(&mut helper, "all('.env')\n", &hidden);
        let code = "see('../w1/seen')\nnames('../w1/seen')\nput('../w1/seen')\ndrop('../w1/seen')\nput('../w1')\n";
        answers(&mut helper, code, &["w1/seen", "user.tag", "EROFS", "EROFS", "EROFS"]);
        let seen = helper.root.path().join("w1/seen");
        assert_eq!((get(&seen, "user.new"), get(&seen, "user.tag")), (None, Some("w1/seen".into())));
    });
}

/// A descriptor opened to read is enough for the kernel.
#[test]
fn a_descriptor_is_no_way_around() {
    both(|mut helper, ruled| {
        let code = "for p in ['inside', 'fixed', '../w1/seen']:\n    f = os.open(p, os.O_RDONLY)\n    see(f)\n    put(f)\n    drop(f)\n\
                    p = os.open('.env', os.O_PATH)\nsee(f'/proc/self/fd/{p}')\nput(f'/proc/self/fd/{p}')\n\
                    q = os.open('inside', os.O_PATH)\nput(f'/proc/self/fd/{q}')\nput(os.memfd_create('m'))\nput(os.pipe()[0])\nput(900)\n";
        let (fixed, hidden) = if ruled { ("EACCES", ["EACCES"; 2]) } else { ("ok", ["w0/.env", "ok"]) };
        let expected = [
            &["w0/inside", "ok", "ok", "w0/fixed", fixed, fixed, "w1/seen", "EROFS", "EROFS"][..],
            &hidden,
            &["ok", "EPERM", "EPERM", "EBADF"],
        ];
        answers(&mut helper, code, &expected.concat());
    });
}

/// Two entries more than a mode has: for user 1, and the mask.
const ACCESS_LIST: [u8; 44] = [
    2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 1, 0, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255, 16, 0, 4, 0,
    255, 255, 255, 255, 32, 0, 4, 0, 255, 255, 255, 255,
];

/// T-07, T-13: access lists, capabilities of programs, labels.
#[test]
fn only_attributes_of_users_exist() {
    both(|mut helper, _| {
        let code = "for n in ['system.posix_acl_access', 'security.capability', 'trusted.x', 'user', 'osx.x', 'User.x']:\n\
                    \x20   t(os.setxattr, 'inside', n, b'x')\n    t(os.getxattr, 'inside', n)\n    t(os.removexattr, 'inside', n)\n\
                    f = os.open('inside', os.O_RDWR)\nt(os.setxattr, f, 'system.posix_acl_access', b'x')\n\
                    t(os.removexattr, f, 'security.capability')\n";
        answers(&mut helper, code, &["ENOTSUP"; 20]);
        let inside = helper.workspace().join("inside");
        if !set(&inside, "system.posix_acl_access", &ACCESS_LIST) {
            crate::skip::skipped("access lists: this file system has none");
            return;
        }
        let list = "import os, sys; print(os.listxattr(sys.argv[1]))";
        let listed = Command::new("/usr/bin/python3").args(["-c", list]).arg(&inside).output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        assert!(listed.contains("posix_acl_access"), "the control: {listed}");
        answers(
            &mut helper,
            "names('inside')\nt(os.getxattr, 'inside', 'system.posix_acl_access')\n",
            &["user.tag", "ENOTSUP"],
        );
    });
}

/// Bare calls, each with what the kernel says of it outside.
const BARE: &str = r#"
import ctypes, errno, os
c = ctypes.CDLL(None, use_errno=True)
SET, LSET, FSET, GET, LGET, LIST, LLIST, REMOVE, LREMOVE, FREMOVE = 188, 189, 190, 191, 192, 194, 195, 197, 198, 199
b = ctypes.create_string_buffer(70000)
def s(*a):
    a = [x.encode() if isinstance(x, str) else ctypes.c_long(x) if isinstance(x, int) else x for x in a]
    b.raw = b'\xee' * 70000
    n = c.syscall(*a)
    print(errno.errorcode[ctypes.get_errno()] if n < 0 else n, b.raw[:12])
s(SET, 'bare', 'user.a', 'one', 3, 0); s(SET, 'bare', 'user.a', 'two', 3, 1); s(SET, 'bare', 'user.b', 'two', 3, 2)
s(SET, 'bare', 'user.a', 'four', 4, 2); s(SET, 'bare', 'user.b', 'two', 3, 1); s(SET, 'bare', 'user.b', 'two', 3, 4)
s(SET, 'bare', 'user.c', 0, 0, 0); s(GET, 'bare', 'user.c', b, 9)
s(GET, 'bare', 'user.a', 0, 0); s(GET, 'bare', 'user.a', b, 3); s(GET, 'bare', 'user.a', b, 4); s(GET, 'bare', 'user.a', b, 70000)
s(GET, 'bare', 'user.a', 8, 9); s(GET, 'bare', 'user.z', b, 9); s(GET, 'bare', 8, b, 9); s(GET, 8, 'user.a', b, 9)
s(GET, 'gone', 'user.a', b, 9); s(GET, '', 'user.a', b, 9); s(GET, 'bare/', 'user.a', b, 9); s(GET, 'bare', '', b, 9)
s(LIST, 'bare', 0, 0); s(LIST, 'bare', b, 5); s(LIST, 'bare', b, 21); s(LIST, 'bare', b, 70000); s(LIST, 'bare', 8, 99)
s(LIST, 'gone', b, 9); s(LLIST, 'loose', b, 9); s(LIST, 'loose', b, 9)
s(SET, 'bare', 'user.' + 'x' * 250, 'v', 1, 0); s(REMOVE, 'bare', 'user.' + 'x' * 250)
s(SET, 'bare', 'user.' + 'x' * 251, 'v', 1, 0); s(SET, 'bare', 'user.' + 'x' * 5000, 'v', 1, 0); s(SET, 'bare', 'user.', 'v', 1, 0)
s(SET, 'bare', 'user.l', b, 65537, 0); s(SET, 'bare', 'user.l', 8, 5, 0); s(SET, 'bare', 'user.l', b, 3000, 0)
s(GET, 'bare', 'user.l', b, 70000); s(REMOVE, 'bare', 'user.l'); s(REMOVE, 'bare', 'user.l'); s(LREMOVE, 'bare', 'user.a')
s(LSET, 'loose', 'user.a', 'v', 1, 0); s(LGET, 'loose', 'user.a', b, 9); s(LREMOVE, 'loose', 'user.a')
s(SET, 'fifo', 'user.a', 'v', 1, 0); s(GET, 'fifo', 'user.a', b, 9); s(REMOVE, 'fifo', 'user.a'); s(LIST, 'fifo', b, 9)
s(SET, '.', 'user.d', 'v', 1, 0); s(GET, '.', 'user.d', b, 9); s(REMOVE, '.', 'user.d')
f = os.open('bare', os.O_RDONLY)
s(FSET, f, 'user.f', 'v', 1, 0); s(FREMOVE, f, 'user.f'); s(FSET, -1, 'user.f', 'v', 1, 0); s(FREMOVE, -100, 'user.f')
os.chmod('bare', 0o400); s(GET, 'bare', 'user.b', b, 9)
"#;

#[test]
fn bare_calls_answer_as_the_kernel_does() {
    both(|mut helper, ruled| {
        let root = helper.workspace();
        let fresh = || {
            let _ = fs::remove_file(root.join("bare"));
            fs::write(root.join("bare"), "x").unwrap();
        };
        std::os::unix::fs::symlink("nowhere", root.join("loose")).unwrap();
        nix::unistd::mkfifo(&root.join("fifo"), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        fresh();
        let outside = Command::new("/usr/bin/python3").args(["-c", BARE]).current_dir(&root).output().unwrap();
        let outside = String::from_utf8(outside.stdout).unwrap();
        fresh();
        let inside = helper.python(BARE);
        let pairs = outside.trim_end().lines().zip(inside.lines()).enumerate();
        for (n, (free, held)) in pairs {
            assert_eq!(held, free, "call {n}, ruled {ruled}");
        }
        assert!(
            outside.lines().count() > 50 && outside.trim_end().lines().count() == inside.lines().count(),
            "{inside}"
        );
    });
}

/// T-02: what a path says is read once.
#[test]
fn a_path_that_changes_while_it_is_looked_at_wins_nothing() {
    let Some(mut helper) = tagged(Options::default(), true) else { return };
    let code = "import ctypes, threading\nsys.setswitchinterval(1e-6)\nc = ctypes.CDLL(None, use_errno=True)\n\
                p, b, on = ctypes.create_string_buffer(64), ctypes.create_string_buffer(64), True\n\
                texts = [x.ljust(64, b'\\0') for x in (b'inside', b'.env', b'inside', b'../beside', b'inside', b'../w1/seen', b'inside', b'fixed')]\n\
                def flip():\n\
                \x20   while on:\n\
                \x20       for x in texts: ctypes.memmove(p, x, 64)\n\
                o = threading.Thread(target=flip)\no.start()\ndone, refused, seen = 0, 0, set()\n\
                for n in range(2000):\n\
                \x20   if c.syscall(188, p, b'user.won', b'1', ctypes.c_long(1), 0) == 0: done += 1\n\
                \x20   else: refused += 1\n\
                \x20   k = c.syscall(191, p, b'user.tag', b, ctypes.c_long(64))\n\
                \x20   if k > 0: seen.add(b.raw[:k].decode())\n\
                on = False\no.join()\nprint(done > 0, refused > 0, 'w0/inside' in seen, 'w0/.env' in seen, 'beside' in seen)\n";
    assert_eq!(tried(&mut helper, code).trim(), "True True True False False");
    let won = |name: &str| get(&helper.root.path().join(name), "user.won").is_some();
    assert!(won("w0/inside"), "the control");
    for name in ["w0/.env", "w0/fixed", "w1/seen", "beside"] {
        assert!(!won(name), "{name}");
    }
}

/// T-06: no size tells of them.
#[test]
fn what_attributes_take_is_growth() {
    let Some(mut helper) = tagged(Options::default(), false) else { return };
    let run = |helper: &mut Helper, code: &str| {
        let mut asked = command(PYTHON, &["-c", code]);
        asked.growth_max = 64 << 10;
        helper.run(asked).unwrap()
    };
    let one = "import os\nos.setxattr('inside', 'user.a', b'x' * 1000)\nos.getxattr('inside', 'user.a')\nos.removexattr('inside', 'user.a')\n";
    let ran = run(&mut helper, one);
    assert_eq!((ran.exit.code, ran.toll.grown), (Some(0), 1024 + 6 + 1000), "{ran:?}");
    for place in ["'inside'", "os.environ['TMPDIR']"] {
        let code = format!(
            "import os, errno\nn = 0\ntry:\n\
             \x20   while True: os.setxattr({place}, 'user.a', bytes(1000)); n += 1\n\
             except OSError as e: print(errno.errorcode[e.errno], n)\n"
        );
        let ran = run(&mut helper, &code);
        let most = (64 << 10) / (1024 + 6 + 1000);
        assert_eq!((ran.stdout, ran.toll.grown), (format!("ENOSPC {most}\n"), most * (1024 + 6 + 1000)), "{place}");
    }
}

/// T-01: nor on another mount.
#[test]
fn attributes_of_what_another_mount_shows_are_left() {
    if !apart() {
        return;
    }
    for ruled in [false, true] {
        let Some(mut helper) = tagged(Options { namespaces: Wish::Off, ..Options::default() }, ruled) else { return };
        let other = helper.root.path().join("other");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("f"), "x").unwrap();
        assert!(set(&other.join("f"), "user.tag", b"other"));
        bind(&other, &helper.workspace().join("mounted"));
        let code = "all('mounted/f')\nput('mounted')\nput('inside')\nsee('inside')\n";
        answers(&mut helper, code, &["EXDEV", "EXDEV", "EXDEV", "EXDEV", "EXDEV", "ok", "w0/inside"]);
        assert_eq!(get(&other.join("f"), "user.tag").as_deref(), Some("other"));
    }
}

/// Who cannot be looked into is answered as by a file system that has none.
#[test]
fn where_the_host_allows_no_door_there_are_no_attributes() {
    for no_tracing in [true, false] {
        let workspaces = vec![workspace(0, false, &[])];
        let mut helper = Helper::with(Options { workspaces, no_tracing, ..Options::default() });
        let file = helper.workspace().join("f");
        fs::write(&file, "x").unwrap();
        if !set(&file, "user.tag", b"w0/f") {
            crate::skip::skipped("attributes of files: this file system has none");
            return;
        }
        let expected = if no_tracing { ["ENOTSUP"; 4] } else { ["EROFS", "w0/f", "user.tag", "EROFS"] };
        answers(&mut helper, "all('f')\n", &expected);
        answers(&mut helper, "see(os.open('f', os.O_RDONLY))\n", &["w0/f"]);
    }
}
