//! A command's own `/tmp` and `/dev/shm`: that it has them, that nobody else has, what bounds them, and what is left (T-06,
//! T-11). Each beside the same without namespaces, where these are closed, or beside what is allowed.

use crate::support::*;
use nix::sys::signal::{Signal, kill};
use std::path::Path;
use warden_proto::Text;
use warden_proto::msg::error::ErrorCode;
use warden_proto::msg::fs::{HelperTarget, RuleKind};
use warden_proto::msg::proc::*;

const PLACES: [&str; 2] = ["/tmp", "/dev/shm"];

/// With its workspace and its scratch directory in neither.
fn options() -> Options {
    Options { namespaces: Wish::Require, apart: true, ..Options::default() }
}

fn both() -> [Helper; 2] {
    [Helper::with(Options { as_nobody: true, ..options() }), Helper::with(options())]
}

fn held(helper: &Helper) -> Vec<&str> {
    helper.locked.held.iter().map(|text| text.as_str()).filter(|text| text.starts_with("own")).collect()
}

/// Prints what each line of Python answers: `ok`, or the name of an error.
fn tries(lines: &[&str]) -> String {
    let head = "import errno, os, ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n\
        def call(*args):\n  if libc.syscall(*args) < 0: raise OSError(ctypes.get_errno(), '')\n";
    let each = lines
        .iter()
        .map(|line| format!("try: {line}; print('ok')\nexcept OSError as e: print(errno.errorcode[e.errno])\n"));
    std::iter::once(head.to_owned()).chain(each).collect()
}

#[test]
fn they_are_the_commands_own_and_go_with_it() {
    let code = "import os\nfor p in ('/tmp', '/dev/shm'):\n  print(os.listdir(p)); open(p + '/mine', 'w').write(p); \
                print(open(p + '/mine').read())\nprint(os.environ['TMPDIR'])";
    for mut helper in both() {
        assert_eq!(held(&helper), ["own /tmp", "own /dev/shm"]);
        // Twice: nothing is left for the next.
        for _ in 0..2 {
            assert_eq!(helper.python(code), "[]\n/tmp\n[]\n/dev/shm\n/tmp");
        }
        assert!(PLACES.iter().all(|place| !Path::new(place).join("mine").exists()));
        wait_for("the private directories to go", || std::fs::read_dir(helper.scratch()).unwrap().count() == 0);
    }
    let mut helper = Helper::with(Options { namespaces: Wish::Off, ..options() });
    assert_eq!(held(&helper), Vec::<&str>::new());
    let closed =
        tries(&["open('/tmp/mine', 'w')", "open('/dev/shm/mine', 'w')", "open(os.environ['TMPDIR'] + '/m', 'w')"]);
    assert_eq!(helper.python(&closed), "EACCES\nEACCES\nok");
}

#[test]
fn two_commands_of_a_task_do_not_see_each_others() {
    let mut helper = Helper::with(options());
    let code = "for p in /tmp /dev/shm $HOME; do echo secret > $p/x; done; echo $HOME; read line; cat /tmp/x /dev/shm/x; ls /tmp /dev/shm";
    let first = helper.start(command(SH, &["-c", code]));
    assert_eq!(helper.line(first), "/home/command");
    // Nor by where the other's really lie.
    let private = std::fs::read_dir(helper.scratch()).unwrap().next().unwrap().unwrap().path();
    let theirs = ["tmp/x", "dev-shm/x", "home-command/x"].map(|name| private.join(name).display().to_string());
    assert!(theirs.iter().all(|path| exists(Path::new(path))), "control: there it lies, for who is outside");
    let lines: Vec<String> = PLACES
        .iter()
        .map(|place| format!("open('{place}/x')"))
        .chain(theirs.iter().map(|path| format!("open('{path}')")))
        .collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    assert_eq!(helper.python(&tries(&lines)), "ENOENT\nENOENT\nEACCES\nEACCES\nEACCES");
    helper.python("open('/tmp/other', 'w'); open('/dev/shm/other', 'w')");
    helper.write(first, b"\n", true).unwrap();
    assert_eq!([helper.line(first), helper.line(first)], ["secret", "secret"]);
    let rest: Vec<String> = (0..5).map(|_| helper.line(first)).collect();
    assert_eq!(rest, ["/dev/shm:", "x", "", "/tmp:", "x"]);
    assert_eq!(helper.wait(first).code, Some(0));
}

/// T-06: what is written there counts as all private files do, named or not.
#[test]
fn they_are_counted_and_bounded() {
    for place in PLACES {
        for (what, nameless) in [("named", ""), ("nameless", "os.unlink(f.name)")] {
            let bounds = ProcBounds { file_bytes: 7 << 20, private_bytes: 8 << 20, ..Options::default().bounds };
            let mut helper = Helper::with(Options { bounds, ..options() });
            let code = |files: u32| {
                format!(
                    "import os, time\nkept = []\nfor n in range({files}):\n  f = open(f'{place}/{{n}}', 'wb'); kept.append(f)\n  \
                     f.write(b'x' * (2 << 20)); f.flush(); {nameless}\ntime.sleep(1.2); print('done')"
                )
            };
            let error = helper.run(command(PYTHON, &["-c", &code(5)])).expect_err("ended over its limit");
            assert_eq!((error.code, error.rule.as_str()), (ErrorCode::Limit, "limits.fs_written"), "{place}, {what}");
            assert_eq!(helper.python(&code(3)), "done", "{place}, {what}");
            let long = format!("f = open('{place}/f', 'wb'); f.write(b'x' * (9 << 20)); f.flush()");
            assert_eq!(helper.python(&tries(&[&long])), "EFBIG", "{place}: the size of one file");
        }
    }
}

/// T-01: by the door as without it; the rules of the workspaces hold from there too.
#[test]
fn the_door_and_the_command_see_the_same() {
    let rules = [("secret", RuleKind::Deny)];
    let mut helper = Helper::with(Options { workspaces: vec![workspace(0, true, &rules)], ..options() });
    std::fs::write(helper.workspace().join("secret"), "s").unwrap();
    std::fs::write(helper.workspace().join("plain"), "p").unwrap();
    let here = helper.workspace().display().to_string();
    let to = |name: &str| format!("os.symlink('{here}/{name}', '/tmp/{name}'); open('/tmp/{name}').read()");
    let (to_secret, to_plain) = (to("secret"), to("plain"));
    let lines = [
        "open('/tmp/a', 'w').write('x'); assert open('/tmp/a').read() == 'x'",
        "assert os.stat('/tmp/a').st_size == 1",
        "os.rename('/tmp/a', '/tmp/b'); os.link('/tmp/b', '/tmp/c'); os.unlink('/tmp/b')",
        "os.mkdir('/dev/shm/d'); fd = os.open('/dev/shm/d', os.O_RDONLY); os.open('f', os.O_CREAT | os.O_WRONLY, dir_fd=fd)",
        "os.chdir('/tmp'); open('relative', 'w'); assert os.path.exists('/tmp/relative'); os.chdir('/')",
        "os.chmod('/tmp/c', 0o600); os.utime('/tmp/c', (1, 1)); os.truncate('/tmp/c', 0)",
        "os.mkfifo('/tmp/fifo')",
        "os.rename('/tmp/c', os.environ['HOME'] + '/c')",
        &to_plain,
        &to_secret,
        "os.link('/tmp/c', '/dev/shm/c')",
    ];
    let expected = "ok\nok\nok\nok\nok\nok\nok\nEXDEV\nok\nEACCES\nEXDEV";
    assert_eq!(helper.python(&tries(&lines)), expected);
}

/// T-07: no program runs from there, no device is opened, and no mount is undone, made or moved.
#[test]
fn they_are_without_programs_devices_and_further_mounts() {
    let mut options = options();
    let code = "for p in /tmp /dev/shm; do cp /bin/echo $p/tool; $p/tool ran || echo $?; done; \
                grep -E ' (/tmp|/dev/shm) ' /proc/self/mountinfo | tr ' ' '\\n' | grep nosuid";
    let mut helper = Helper::with(Options { commands: options.commands.clone(), ..self::options() });
    let ran = helper.run(command(SH, &["-c", code])).unwrap();
    let flags: Vec<&str> = ran.stdout.lines().skip(2).collect();
    assert!(ran.stdout.starts_with("126\n126\n") && flags.len() == 2, "{ran:?}");
    assert!(flags.iter().all(|flags| flags.contains("nosuid,nodev,noexec")), "{flags:?}");
    // x86-64's numbers: mount 165, umount2 166, unshare 272, open_tree 428, move_mount 429, mount_setattr 442, clone 56.
    let mounts = [
        "call(165, b'none', b'/tmp', b'tmpfs', 0, None)",
        "call(166, b'/tmp', 2)",
        "call(272, 0x20000)",
        "call(428, -100, b'/tmp', 1)",
        "call(429, -100, b'/tmp', -100, b'/dev/shm', 0)",
        "call(442, -100, b'/tmp', 0, None, 0)",
        "call(56, 0x20011, None, None, None, 0)",
    ];
    assert_eq!(helper.python(&tries(&mounts)), ["EPERM"; 7].join("\n"));
    // The controls: what may run programs of its own may there, and without a jail the kernel answers otherwise.
    let mut builder = any("builder", "/bin/sh");
    builder.0.exec_workspace = true;
    options.commands.push(builder);
    let ran = Helper::with(options).run(command(3, &["-c", "cp /bin/echo /tmp/tool && /tmp/tool ran"])).unwrap();
    assert_eq!(ran.stdout, "ran\n", "{ran:?}");
    let free =
        std::process::Command::new("/usr/bin/python3").args(["-c", &tries(&["call(428, -100, b'/tmp', 0)"])]).output();
    assert_eq!(String::from_utf8_lossy(&free.unwrap().stdout), "ok\n");
}

/// What lies in such a place is not to be hidden, nor to be granted with it (T-01).
#[test]
fn a_place_in_which_a_workspace_lies_is_nobodys_own() {
    let mut helper = Helper::with(Options { apart: false, ..options() });
    assert_eq!(held(&helper), ["own /dev/shm"]);
    let lines = ["open('/tmp/x', 'w')", "open('/dev/shm/x', 'w')", "open('in-the-workspace', 'w')"];
    assert_eq!(helper.python(&tries(&lines)), "EROFS\nok\nok");
    let mut helper = Helper::with(Options { apart: false, in_memory: true, ..options() });
    assert_eq!(held(&helper), ["own /tmp"]);
    assert_eq!(
        helper.python("import os; print(os.environ['HOME'], os.listdir(os.environ['HOME']))"),
        "/home/command []"
    );
    assert_eq!(helper.python(&tries(&["open('/tmp/x', 'w')", "open('/dev/shm/x', 'w')"])), "ok\nEROFS");
}

/// T-12
#[test]
fn nothing_is_left_whoever_is_killed() {
    for victim in ["usher", "keeper", "runner"] {
        let mut helper = Helper::with(options());
        let mark = marker();
        let code = format!(
            "setsid sh -c 'setsid sleep 300 & sleep 300; : {mark}' & echo x > /tmp/x; echo up; sleep 300; : {mark}"
        );
        let process = helper.start(command(SH, &["-c", &code]));
        assert_eq!(helper.line(process), "up");
        wait_for("the tree", || marked(&mark).len() >= 2);
        assert_eq!(std::fs::read_dir(helper.scratch()).unwrap().count(), 1, "the control");
        let keeper = helper.keepers()[0];
        let usher = children(helper.runner_pid)[0];
        assert_ne!(usher, keeper);
        kill(
            match victim {
                "usher" => usher,
                "keeper" => keeper,
                _ => helper.runner_pid,
            },
            Signal::SIGKILL,
        )
        .unwrap();
        gone_within_a_second(&mark);
        assert!(helper.link_closes(), "{victim}");
        wait_for("its private directory to be removed", || std::fs::read_dir(helper.scratch()).unwrap().count() == 0);
    }
}

/// T-13: the usher holds a capability, over these namespaces alone.
#[test]
fn the_usher_has_one_capability_and_its_keepers_have_none() {
    let mut helper = Helper::with(options());
    let process = helper.start(command(SH, &["-c", "echo up; read line"]));
    assert_eq!(helper.line(process), "up");
    let (usher, keeper) = (children(helper.runner_pid)[0], helper.keepers()[0]);
    let of = |pid, name| u64::from_str_radix(&status_line(pid, name), 16).unwrap();
    for name in ["CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"] {
        let sole = if matches!(name, "CapEff" | "CapPrm") { 1 << 21 } else { 0 };
        assert_eq!((of(usher, name), of(keeper, name)), (sole, 0), "{name}");
        assert_eq!(of(children(keeper)[0], name), 0, "{name}");
    }
    assert_eq!(status_line(usher, "Seccomp_filters"), "1");
    assert_eq!(status_line(keeper, "Seccomp_filters"), "2");
    let namespace = |pid| std::fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap();
    assert_ne!(namespace(usher), namespace(keeper));
    assert_eq!(namespace(usher), namespace(helper.runner_pid));
    helper.call(&ProcCall::Close { process }).unwrap();
}

const SHARED: &str = "
import multiprocessing as mp, os
from multiprocessing import shared_memory
def square(n): return n * n
def add(lock, value, queue):
    for _ in range(200):
        with lock: value.value += 1
    queue.put(os.getpid())
def fill(name):
    memory = shared_memory.SharedMemory(name)
    memory.buf[0] = 7; memory.close()
if __name__ == '__main__':
    with mp.Pool(2) as pool: print(pool.map(square, range(6)))
    lock, value, queue = mp.Lock(), mp.Value('i', 0, lock=False), mp.Queue()
    each = [mp.Process(target=add, args=(lock, value, queue)) for _ in range(3)]
    for p in each: p.start()
    said = {queue.get() for _ in each}
    for p in each: p.join()
    print(value.value, said == {p.pid for p in each}, os.listdir('/dev/shm'))
    memory = shared_memory.SharedMemory(create=True, size=4096)
    child = mp.Process(target=fill, args=(memory.name,))
    child.start(); child.join(); print(memory.buf[0]); memory.close(); memory.unlink()
";

/// With rules and without, that is with the door and without; and not at all where nothing is its own.
#[test]
fn python_shares_memory_and_locks_between_processes() {
    for rules in [&[][..], &[("secret", RuleKind::Deny)]] {
        let mut helper = Helper::with(Options { workspaces: vec![workspace(0, true, rules)], ..options() });
        let printed = helper.python(SHARED);
        assert_eq!(printed, "[0, 1, 4, 9, 16, 25]\n600 True []\n7");
    }
    let mut helper = Helper::with(Options { namespaces: Wish::Off, ..options() });
    let ran = helper.run(command(PYTHON, &["-c", SHARED])).unwrap();
    assert_ne!(ran.exit.code, Some(0), "{ran:?}");
}

#[test]
fn a_command_without_a_scratch_directory_has_none() {
    let mut helper = Helper::with(Options { scratch: false, ..options() });
    assert_eq!(held(&helper), Vec::<&str>::new());
    assert_eq!(helper.python(&tries(&["open('/tmp/x', 'w')", "open('x', 'w')"])), "EROFS\nok");
}

/// By its HOME, where it has no workspace to start in.
#[test]
fn it_starts_at_home() {
    let mut helper = Helper::with(Options { workspaces: vec![], ..options() });
    let mut asked = command(PYTHON, &["-c", "import os; print(os.getcwd() == os.environ['HOME'], os.listdir())"]);
    asked.cwd = HelperTarget::Workspace { workspace: u16::MAX, path: Text::default() };
    assert_eq!(helper.run(asked).unwrap().stdout, "True []\n");
}
