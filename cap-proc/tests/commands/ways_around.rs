//! Ways around the door that stood open once: each is tried as it was found, beside what the same calls may do.

use crate::door::{lines, ruled, tried};
use crate::support::*;
use std::path::{Path, PathBuf};
use std::process::Command;
use warden_proto::msg::fs::RuleKind::Deny;

/// A bind mount, for as long as it is held.
struct Mounted(PathBuf);

impl Mounted {
    /// `None` where this test may not mount.
    fn new(from: &Path, to: &Path) -> Option<Self> {
        std::fs::create_dir(to).unwrap();
        let done = Command::new("mount").arg("--bind").args([from, to]).status().is_ok_and(|status| status.success());
        if !done {
            crate::skip::skipped("only root with all its capabilities can mount");
        }
        done.then(|| Self(to.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// T-02: where something lies is told by its path, and Landlock goes by directories: a workspace at a second place was to the
/// rules none, and to Landlock the workspace.
#[test]
fn another_mount_of_a_workspace_is_no_way_around_its_rules() {
    let mut helper = ruled();
    let (root, top) = (helper.root.path().join("w0"), helper.root.path().join("second"));
    let above = helper.root.path().join("above");
    let Some(_mounted) = Mounted::new(&root, &top) else { return };
    let code = |top: &Path| {
        let top = top.display();
        format!(
            "t(read, '{top}/.env')\nt(read, '{top}/plain')\nt(write, '{top}/Makefile')\nt(write, '{top}/n')\n\
             t(os.rename, '{top}/plain', '{top}/p')\nt(os.unlink, '{top}/Makefile')\nt(os.truncate, '{top}/Makefile', 0)\n"
        )
    };
    let refused = helper.refused_outside();
    lines(&mut helper, &code(&top), &[refused; 7]);
    // One that comes while the command runs, and shows more than the workspace.
    let mut asked =
        command(PYTHON, &["-c", &format!("import sys\nsys.stdin.readline()\nopen('{}/w0/.env')", above.display())]);
    asked.growth_max = 1 << 20;
    let process = helper.start(asked);
    let Some(_all) = Mounted::new(helper.root.path(), &above) else { return };
    let _ = helper.write(process, b"go\n", true);
    assert_ne!(helper.wait(process).code, Some(0));
    // The control: the workspace at its own place, and what lies on the same mount beside it.
    let code = "t(read, 'plain')\nt(write, 'n')\nt(lambda: read('/etc/passwd')[:4])\n";
    lines(&mut helper, code, &["plain", "ok", "root"]);
}

/// T-13: there `self` was the keeper.
#[test]
fn another_mount_of_proc_is_no_way_to_the_keeper() {
    let mut helper = ruled();
    let top = helper.root.path().join("proc");
    let Some(_mounted) = Mounted::new(Path::new("/proc"), &top) else { return };
    let code = format!(
        "for n in ['mem', 'environ', 'maps', 'status', 'fd', 'task/' + str(os.getppid()) + '/maps']:\n\
         \x20   t(read, f'{}/self/{{n}}')\n\
         t(lambda: str('Umask' in read('/proc/self/status')))\n",
        top.display()
    );
    let answers = tried(&mut helper, &code);
    let (control, refused) = answers.trim_end().rsplit_once('\n').map(|(refused, last)| (last, refused)).unwrap();
    assert_eq!(control, "True", "{answers}");
    assert!(refused.lines().all(|line| line == helper.refused_outside()), "{answers}");
}

/// T-02: a file with a denied name and another is known by its inode, which a walk finds; a command shut the walk out.
#[test]
fn a_folder_that_is_shut_hides_no_denied_name() {
    let mut helper = ruled();
    let root = helper.root.path().join("w0");
    for (old, new) in [("a/.env", "e"), ("plain", "p")] {
        std::fs::write(root.join(old), "KEY").unwrap();
        std::fs::hard_link(root.join(old), root.join(new)).unwrap();
    }
    let code = "import time\nt(read, 'e')\nfor mode in [0, 0o300, 0o400]:\n\
                \x20   os.chmod('a', mode)\n    time.sleep(1.5)\n    t(read, 'e')\n    t(write, 'e')\n\
                \x20   os.chmod('a', 0o755)\nos.mkdir('dark')\nos.chmod('dark', 0o300)\nos.rename('a', 'dark/a')\n\
                time.sleep(1.5)\nt(read, 'e')\nos.rename('dark/a', 'a')\nos.chmod('dark', 0o700)\ntime.sleep(1.5)\n\
                t(read, 'e')\nt(read, 'p')\nt(write, 'p')\n";
    let expected = ["EACCES"; 9].into_iter().chain(["KEY", "ok"]);
    lines(&mut helper, code, &expected.collect::<Vec<_>>());
}

/// T-06: no size grows by it, so neither `max_file` nor `fs_written` held it.
#[test]
fn space_beyond_the_end_of_a_file_is_not_taken() {
    let mut helper = ruled();
    let code = "import ctypes\nc = ctypes.CDLL(None, use_errno=True)\n\
                f = os.open('f', os.O_RDWR | os.O_CREAT)\n\
                def allocate(mode, size):\n\
                \x20   if c.fallocate(f, mode, ctypes.c_long(0), ctypes.c_long(size)): return errno.errorcode[ctypes.get_errno()]\n\
                t(allocate, 1, 1 << 28)\nt(allocate, 0x11, 1 << 28)\nt(allocate, 0, 4096)\nt(allocate, 3, 4096)\n\
                print(os.fstat(f).st_size, os.fstat(f).st_blocks)\n";
    lines(&mut helper, code, &["ENOTSUP", "ENOTSUP", "ok", "ok", "4096 0"]);
}

/// `/proc/self` of the one who opens is the keeper's, where neither the caller's threads nor its descriptors have an entry.
#[test]
fn a_program_finds_its_own_threads_and_descriptors_in_proc() {
    let mut helper = ruled();
    let code = "import threading\nn = threading.get_native_id()\nos.dup2(0, 333)\n\
                for p in [f'self/task/{n}/stat', 'thread-self/stat', 'self/fdinfo/333', 'self/stat']:\n\
                \x20   t(lambda: str(len(read('/proc/' + p)) > 10))\n\
                r = []\ndef other(): r.append(read('/proc/thread-self/stat').split()[0] == str(threading.get_native_id()))\n\
                o = threading.Thread(target=other)\no.start()\no.join()\nprint(r)\nt(read, '/proc/self/task/1/stat')\n";
    lines(&mut helper, code, &["True", "True", "True", "True", "[True]", "ENOENT"]);
}

/// A program that unpacks what it does not trust asks for a walk that stays beneath a directory; the door stays there too.
#[test]
fn a_walk_that_was_to_stay_beneath_a_directory_does() {
    let mut helper = ruled();
    let code = "import ctypes, struct\nc = ctypes.CDLL(None, use_errno=True)\n\
                def open2(d, p, flags, resolve):\n\
                \x20   how = struct.pack('QQQ', flags, 0o600 if flags & os.O_CREAT else 0, resolve)\n\
                \x20   n = c.syscall(437, d, p.encode(), how, ctypes.c_size_t(24))\n\
                \x20   return errno.errorcode[ctypes.get_errno()] if n < 0 else 'opened'\n\
                top = os.getcwd()\nos.symlink(top + '/made', 'a/out')\nos.symlink('../made', 'a/up')\n\
                d = os.open('a', os.O_RDONLY)\nw = os.open('.', os.O_RDONLY)\nmake = os.O_CREAT | os.O_WRONLY\n\
                for p in ['out', 'up']:\n\
                \x20   for resolve in [8, 16]: print(open2(d, p, make, resolve))\n\
                print(open2(d, f'/proc/self/fd/{w}/plain', os.O_RDONLY, 8))\n\
                print(open2(d, f'/proc/self/fd/{w}/plain', os.O_RDONLY, 4))\nprint(os.path.exists('made'))\n\
                print(open2(d, 'b/f', os.O_RDONLY, 8), open2(d, 'in', make, 16), open2(w, 'a/up', make, 0), os.path.exists('made'))\n";
    let answers = tried(&mut helper, code);
    let (refused, controls) = answers.split_once("False\n").unwrap_or((&answers, ""));
    assert_eq!(refused.lines().count(), 6, "{answers}");
    assert!(refused.lines().all(|line| ["EXDEV", "ELOOP"].contains(&line)), "{answers}");
    assert_eq!(controls.trim_end(), "opened opened opened True");
}

/// T-02: the door knew where its workspaces had lain, and judged by that.
#[test]
fn workspaces_that_change_names_keep_their_rules() {
    let workspaces = vec![workspace(0, true, &[]), workspace(1, true, &[("**/.env", Deny)])];
    let mut helper = Helper::with(Options { workspaces, ..Options::default() });
    let at = |name: &str| helper.root.path().join(name);
    let (one, other, between) = (at("w0"), at("w1"), at("between"));
    for path in [&one, &other] {
        std::fs::write(path.join(".env"), path.display().to_string()).unwrap();
    }
    let read = "def t(p):\n    try: return open(p).read()\n    except OSError: return ''\n";
    let code = format!(
        "{read}print(t('../w0/.env'), t('../w1/.env'), flush=True)\nimport sys\nsys.stdin.readline()\n\
         print(t('../w0/.env'), t('../w1/.env'), flush=True)\n"
    );
    let process = helper.start(command(PYTHON, &["-c", &code]));
    assert_eq!(helper.line(process).trim(), one.display().to_string());
    for (old, new) in [(&one, &between), (&other, &one), (&between, &other)] {
        std::fs::rename(old, new).unwrap();
    }
    let _ = helper.write(process, b"go\n", true);
    assert_eq!(helper.line(process).trim(), one.display().to_string());
}
