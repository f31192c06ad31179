//! Changes of mode, times and owner, by the keeper: where the command may write and nowhere else, with rules of workspaces and
//! without.

use crate::support::*;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use warden_proto::msg::fs::RuleKind::{Deny, DenyWrite};

/// `w0` writable, with `inside`, `fixed` and `link`, which leads to `beside`, which lies in no workspace; `w1` read-only, with
/// `seen`. All files of mode 0600.
fn helper(ruled: bool) -> Helper {
    let rules: &[_] = if ruled { &[("fixed", DenyWrite), (".env", Deny)] } else { &[] };
    let workspaces = vec![workspace(0, true, rules), workspace(1, false, &[])];
    let helper = Helper::with(Options { workspaces, ..Options::default() });
    for name in ["w0/inside", "w0/fixed", "w0/.env", "w1/seen", "beside"] {
        let path = helper.root.path().join(name);
        fs::write(&path, "x").unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    }
    std::os::unix::fs::symlink("../beside", helper.workspace().join("link")).unwrap();
    helper
}

fn both(test: impl Fn(Helper, bool)) {
    for ruled in [false, true] {
        test(helper(ruled), ruled);
    }
}

fn mode(helper: &Helper, name: &str) -> u32 {
    fs::metadata(helper.root.path().join(name)).unwrap().mode() & 0o7777
}

fn modified(helper: &Helper, name: &str) -> i64 {
    fs::metadata(helper.root.path().join(name)).unwrap().mtime()
}

/// Runs Python in which `s(number, …)` prints what a bare system call answers.
#[track_caller]
fn answers(helper: &mut Helper, code: &str, expected: &[&str]) {
    let lead = "import ctypes, errno, os, struct, tempfile\nc = ctypes.CDLL(None, use_errno=True)\n\
                CHMOD, FCHMOD, CHOWN, FCHOWN, UTIME, UTIMES, FUTIMESAT, FCHMODAT, FCHMODAT2, UTIMENSAT = \
                90, 91, 92, 93, 132, 235, 261, 268, 452, 280\n\
                AT, NOFOLLOW, EMPTY = -100, 0x100, 0x1000\nTIMES = struct.pack('4q', 1000, 0, 2000, 0)\n\
                def s(*a):\n\
                \x20   a = [x.encode() if isinstance(x, str) else x if isinstance(x, bytes) else ctypes.c_long(x) for x in a]\n\
                \x20   print(errno.errorcode[ctypes.get_errno()] if c.syscall(*a) < 0 else 'ok')\n";
    assert_eq!(helper.python(&format!("{lead}{code}")).lines().collect::<Vec<_>>(), expected, "{code}");
}

#[test]
fn mode_and_times_change_inside_a_writable_workspace_only() {
    both(|mut helper, _| {
        let root = helper.root.path().display().to_string();
        let code = format!(
            "s(CHMOD, 'inside', 0o640)\ns(FCHMODAT, AT, '{root}/w0/inside', 0o700)\ns(CHMOD, '{root}/beside', 0o666)\n\
             s(CHMOD, '../beside', 0o666)\ns(CHMOD, 'link', 0o666)\ns(FCHMODAT2, AT, '../beside', 0o666, 0)\n\
             s(CHMOD, '/proc/self/cwd/inside', 0o700)\ns(CHMOD, '/proc/self/cwd/../beside', 0o666)\ns(CHMOD, 8, 0o666)\ns(CHMOD, 'gone', 0o666)\ns(CHMOD, '', 0o666)\n\
             s(FCHMODAT2, AT, 'link', 0o666, NOFOLLOW)\ns(FCHMODAT2, AT, 'inside', 0o666, 0x4000)\n"
        );
        let outside = if helper.inside() { "ENOENT" } else { "EPERM" };
        let expected = ["ok", "ok", outside, outside, outside, outside, "ok", outside, "EFAULT", "ENOENT", "ENOENT"];
        answers(&mut helper, &code, &[&expected[..], &["ENOTSUP", "EINVAL"]].concat());
        assert_eq!((mode(&helper, "w0/inside"), mode(&helper, "beside")), (0o700, 0o600));
        let code = "for p in ['inside', '../beside']:\n\
                    \x20   f = os.open(p, os.O_PATH)\n    s(CHMOD, f'/proc/self/fd/{f}', 0o644)\n    s(FCHMODAT2, f, '', 0o644, EMPTY)\n\
                    s(UTIMENSAT, AT, 'inside', TIMES, 0)\ns(UTIMENSAT, AT, '../beside', TIMES, 0)\ns(UTIMENSAT, AT, 'link', TIMES, 0)\n\
                    s(UTIMENSAT, AT, 'link', TIMES, NOFOLLOW)\ns(CHOWN, 'inside', 12345, 0)\ns(CHOWN, 'inside', -1, -1)\n";
        let expected = ["ok", "ok", "EPERM", "EPERM", "ok", "EPERM", "EPERM", "ok", "EPERM", "ok"];
        answers(&mut helper, code, &expected);
        assert_eq!((mode(&helper, "w0/inside"), modified(&helper, "w0/inside")), (0o644, 2000));
        assert_eq!(fs::symlink_metadata(helper.workspace().join("link")).unwrap().mtime(), 2000);
        assert_eq!(mode(&helper, "beside"), 0o600);
        // The older calls, each with its own way to write a time.
        let code = "s(UTIME, 'inside', struct.pack('2q', 5, 6))\nprint(os.stat('inside').st_mtime_ns)\n\
                    s(UTIMES, 'inside', struct.pack('4q', 5, 1, 7, 999999))\nprint(os.stat('inside').st_mtime_ns)\n\
                    s(FUTIMESAT, AT, 'inside', struct.pack('4q', 5, 0, 8, 1000000))\ns(UTIMES, 'inside', 16)\ns(UTIMES, 'inside', 0)\n\
                    print(os.stat('inside').st_mtime > 1000)\n";
        let expected = ["ok", "6000000000", "ok", "7999999000", "EINVAL", "EFAULT", "ok", "True"];
        answers(&mut helper, code, &expected);
    });
}

#[test]
fn rules_of_names_hold_for_modes_and_times_by_path_and_by_descriptor() {
    both(|mut helper, ruled| {
        let code = "f = os.open('fixed', os.O_RDONLY)\ns(CHMOD, 'fixed', 0o644)\ns(FCHMOD, f, 0o644)\ns(UTIMENSAT, f, 0, TIMES, 0)\n\
                    s(FCHOWN, f, -1, -1)\ns(CHMOD, '.env', 0o644)\ns(FCHMODAT2, os.open('.env', os.O_PATH), '', 0o644, EMPTY)\n\
                    s(CHMOD, 'inside', 0o644)\n";
        let expected = [[if ruled { "EACCES" } else { "ok" }; 6].as_slice(), &["ok"]].concat();
        answers(&mut helper, code, &expected);
        let (fixed, hidden) = (mode(&helper, "w0/fixed"), mode(&helper, "w0/.env"));
        assert_eq!((fixed, hidden), if ruled { (0o600, 0o600) } else { (0o644, 0o644) });
    });
}

#[test]
fn a_descriptor_opened_to_read_changes_no_read_only_workspace() {
    both(|mut helper, _| {
        let before = modified(&helper, "w1/seen");
        let code = "for p in ['../w1/seen', '../w1']:\n\
                    \x20   f = os.open(p, os.O_RDONLY)\n\
                    \x20   s(FCHMOD, f, 0o777)\n    s(FCHMODAT2, f, '', 0o777, EMPTY)\n    s(UTIMENSAT, f, 0, TIMES, 0)\n\
                    \x20   s(UTIMENSAT, f, 0, 0, 0)\n    s(FUTIMESAT, f, 0, 0)\n    s(FCHOWN, f, -1, -1)\n\
                    f = os.open('inside', os.O_RDONLY)\ns(FCHMOD, f, 0o777)\n";
        let one = ["EROFS", "EROFS", "EROFS", "EROFS", "EFAULT", "EROFS"];
        answers(&mut helper, code, &[&one[..], &one, &["ok"]].concat());
        assert_eq!((mode(&helper, "w1/seen"), modified(&helper, "w1/seen")), (0o600, before));
    });
}

#[test]
fn a_descriptor_changes_mode_and_times_in_a_writable_workspace() {
    both(|mut helper, _| {
        let code = "f = os.open('inside', os.O_RDONLY)\ns(FCHMOD, f, 0o640)\nprint(oct(os.fstat(f).st_mode))\n\
                    s(UTIMENSAT, f, 0, TIMES, 0)\nprint(os.fstat(f).st_mtime)\ns(UTIMENSAT, f, 0, 0, 0)\nprint(os.fstat(f).st_mtime > 2000)\n\
                    u, g = os.getuid(), os.getgid()\nfor who in [(u, g), (-1, -1), (12345, -1), (-1, 12345)]: s(FCHOWN, f, *who)\n\
                    os.unlink('inside')\ns(FCHMOD, f, 0o600)\nt = tempfile.TemporaryFile()\ns(FCHMOD, t.fileno(), 0o644)\n";
        let expected = ["ok", "0o100640", "ok", "2000.0", "ok", "True", "ok", "ok", "EPERM", "EPERM", "ok", "ok"];
        answers(&mut helper, code, &expected);
    });
}

#[test]
fn a_descriptor_of_anything_else_is_no_way_in() {
    both(|mut helper, _| {
        let before = mode(&helper, "w0");
        let code = "r, w = os.pipe()\nm = os.memfd_create('m')\n\
                    for f in [r, m, -100, 900]: s(FCHMOD, f, 0o666)\ns(UTIMENSAT, -100, 0, TIMES, 0)\ns(UTIMENSAT, 900, 0, TIMES, 0)\n\
                    s(UTIMENSAT, m, 0, TIMES, NOFOLLOW)\ns(CHMOD, '/proc/self/mem', 0o666)\ns(CHMOD, f'/proc/{os.getppid()}/mem', 0o666)\n";
        let expected = ["EPERM", "EPERM", "EBADF", "EBADF", "EFAULT", "EBADF", "EINVAL", "EPERM", "EACCES"];
        answers(&mut helper, code, &expected);
        assert_eq!(mode(&helper, "w0"), before, "no number is taken for the working directory");
    });
}

#[test]
fn no_mode_with_a_set_id_bit_is_set() {
    both(|mut helper, _| {
        let code = "f = os.open('inside', os.O_RDWR)\nfor m in [0o4755, 0o2755, 0o6777]:\n\
                    \x20   s(CHMOD, 'inside', m)\n    s(FCHMODAT, AT, 'inside', m)\n    s(FCHMODAT2, AT, 'inside', m, 0)\n    s(FCHMOD, f, m)\n\
                    s(CHMOD, 'inside', 0o1755)\n";
        answers(&mut helper, code, &[&["EPERM"; 12][..], &["ok"]].concat());
        assert_eq!(mode(&helper, "w0/inside"), 0o1755);
    });
}

/// In a mount namespace of this thread's own, which what it starts is in too. `false` where that is not allowed.
pub(crate) fn apart() -> bool {
    let own = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).is_ok();
    let private = || Command::new("mount").args(["--make-rprivate", "/"]).status().is_ok_and(|status| status.success());
    let apart = own && private();
    if !apart {
        crate::skip::skipped("only root with all its capabilities can mount");
    }
    apart
}

pub(crate) fn bind(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    assert!(Command::new("mount").arg("--bind").args([from, to]).status().unwrap().success());
}

/// T-01: opens did not leave a workspace's own mount, changes of mode and times did.
#[test]
fn what_another_mount_shows_beneath_a_workspace_is_not_changed() {
    if !apart() {
        return;
    }
    for ruled in [false, true] {
        let mut helper = helper(ruled);
        let (other, there): (PathBuf, PathBuf) = (helper.root.path().join("other"), helper.workspace().join("mounted"));
        fs::create_dir(&other).unwrap();
        fs::write(other.join("f"), "x").unwrap();
        fs::set_permissions(other.join("f"), Permissions::from_mode(0o600)).unwrap();
        bind(&other, &there);
        let before = modified(&helper, "other/f");
        let code = "s(CHMOD, 'mounted/f', 0o666)\ns(FCHMODAT2, os.open('mounted/f', os.O_PATH), '', 0o666, EMPTY)\n\
                    s(UTIMENSAT, AT, 'mounted/f', TIMES, 0)\ns(CHMOD, 'mounted', 0o777)\n\
                    d = os.open('mounted', os.O_PATH)\ns(FCHMODAT, d, 'f', 0o666)\ns(CHOWN, 'mounted/f', -1, -1)\n\
                    os.mkdir('plain')\nos.close(os.open('plain/f', os.O_CREAT | os.O_WRONLY, 0o600))\n\
                    s(CHMOD, 'plain/f', 0o640)\ns(CHMOD, 'plain', 0o750)\n";
        answers(&mut helper, code, &[&["EXDEV"; 6][..], &["ok", "ok"]].concat());
        assert_eq!((mode(&helper, "other/f"), modified(&helper, "other/f")), (0o600, before), "{ruled}");
        assert_eq!((mode(&helper, "w0/plain/f"), mode(&helper, "w0/plain")), (0o640, 0o750));
    }
}

#[test]
fn git_a_linker_and_what_keeps_metadata_work() {
    let lines = [
        (
            "/usr/bin/git",
            "git init -q repo && cd repo && echo a > a && git add a && git -c user.name=n -c user.email=e@e commit -qm m",
        ),
        ("/usr/bin/cc", "echo 'int main(void){return 0;}' > a.c && cc a.c -o a && test -x a"),
        (
            "/bin/tar",
            "mkdir d && echo a > d/a && tar cf d.tar d && rm -r d && tar --no-same-owner -xf d.tar && cp -r --preserve=mode,timestamps d e && chmod +x e/a",
        ),
        (
            "/bin/cp",
            "echo a > a && chmod 640 a && touch -d @1000 a && cp -p a b && test \"$(stat -c '%a %Y' b)\" = '640 1000'",
        ),
        (
            "/bin/tar",
            "echo a > a && chmod 751 a && tar cf a.tar a && rm a && tar --no-same-owner -xpf a.tar && test \"$(stat -c %a a)\" = 751",
        ),
        ("/bin/sed", "echo a > a && chmod 640 a && sed -i s/a/b/ a && grep -q b a && test \"$(stat -c %a a)\" = 640"),
        ("/bin/gzip", "echo a > a && chmod 640 a && gzip a && gunzip a.gz && test \"$(stat -c %a a)\" = 640"),
        ("/usr/bin/install", "echo a > a && install -m 755 a b && test \"$(stat -c %a b)\" = 755"),
        (
            "/usr/bin/python3",
            "python3 -c 'import os, shutil\nf = open(\"a\", \"w\"); os.fchmod(f.fileno(), 0o640); os.utime(f.fileno(), (1000, 1000))\ns = os.stat(\"a\"); assert (s.st_mode & 0o7777, s.st_mtime) == (0o640, 1000)\nshutil.copy2(\"a\", \"b\"); assert os.stat(\"b\").st_mtime == 1000'",
        ),
    ];
    for (ruled, as_nobody) in [(false, false), (true, false), (false, true), (true, true)] {
        let rules: &[_] = if ruled { &[(".env", Deny)] } else { &[] };
        for (program, line) in lines {
            if !Path::new(program).exists() {
                crate::skip::skipped(&format!("what keeps metadata: no {program}"));
                continue;
            }
            let workspaces = vec![workspace(0, true, rules)];
            let mut helper = Helper::with(Options { workspaces, as_nobody, ..Options::default() });
            let ran = helper.run(command(SH, &["-ec", line])).unwrap();
            assert_eq!(ran.exit.code, Some(0), "ruled {ruled}, nobody {as_nobody}: {line}: {ran:?}");
        }
    }
}
