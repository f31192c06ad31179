//! What a command cannot reach, each beside what it can.

use crate::support::*;
use std::os::unix::fs::PermissionsExt;
use warden_proto::msg::error::ErrorCode;
use warden_proto::msg::proc::*;

/// Python that tries each line and prints what came of it: `ok`, or the name of the errno.
fn tries(lines: &[String]) -> String {
    let mut code = "import os, socket, errno, ctypes, signal, sys\nlibc = ctypes.CDLL(None, use_errno=True)\n\
        def raw(*a):\n  r = libc.syscall(*a)\n  if r < 0: raise OSError(ctypes.get_errno(), '')\n  return r\n\
        def t(f):\n  try:\n    f(); print('ok')\n  except OSError as e: print(errno.errorcode[e.errno])\n"
        .to_owned();
    lines.iter().for_each(|line| code.push_str(&format!("t(lambda: {line})\n")));
    code
}

/// Pairs of an attempt and its answer, run in one command.
#[track_caller]
fn expect(helper: &mut Helper, pairs: &[(&str, &str)]) {
    let lines: Vec<String> = pairs.iter().map(|(line, _)| (*line).to_owned()).collect();
    let printed = helper.python(&tries(&lines));
    let answers: Vec<&str> = printed.lines().collect();
    assert_eq!(answers.len(), pairs.len(), "{printed}");
    for ((line, expected), answer) in pairs.iter().zip(answers) {
        assert!(expected.split('|').any(|one| one == answer), "{line}: {answer}, not {expected}");
    }
}

#[test]
fn files_inside_the_workspace_only() {
    let mut helper = Helper::with(Options {
        workspaces: vec![workspace(0, true, &[]), workspace(1, false, &[])],
        ..Options::default()
    });
    let root = helper.root.path().display().to_string();
    std::fs::write(helper.root.path().join("outside"), "secret").unwrap();
    std::fs::write(helper.root.path().join("w1/read"), "r").unwrap();
    std::os::unix::fs::symlink("../outside", helper.workspace().join("link")).unwrap();
    let home = std::env::var("HOME").unwrap_or("/root".into());
    // In namespaces what is outside has no name, and what may not be written is mounted so.
    let (none, fixed) = if helper.inside() { ("ENOENT", "EROFS") } else { ("EACCES", "EACCES") };
    let own: [(&str, &str); 7] = [
        ("open('made', 'w').write('x')", "ok"),
        ("os.mkdir('dir')", "ok"),
        ("os.chmod('made', 0o700)", "ok"),
        ("os.utime('made', (1, 1))", "ok"),
        ("os.rename('made', 'dir/made')", "ok"),
        ("os.rename('dir/made', 'made')", "ok"),
        ("os.link('made', 'dir/linked')", "ok"),
    ];
    expect(&mut helper, &own);
    let outside = [
        (format!("open('{root}/w1/read').read()"), "ok"),
        (format!("open('{root}/w1/read', 'w')"), "EROFS"),
        (format!("open('{root}/w1/new', 'w')"), "EROFS"),
        (format!("open('{root}/outside').read()"), none),
        (format!("open('{root}/outside', 'w')"), if helper.inside() { fixed } else { none }),
        ("open('link').read()".into(), none),
        (format!("os.chmod('{root}/outside', 0o777)"), if helper.inside() { "ENOENT" } else { "EPERM" }),
        (format!("os.rename('made', '{root}/made')"), "EACCES|EXDEV"),
        (format!("os.link('{root}/outside', 'hard')"), if helper.inside() { "ENOENT" } else { "EACCES|EXDEV" }),
        (format!("os.listdir('{home}')"), none),
        ("os.listdir('/')".into(), "EACCES"),
        ("os.listdir('/usr')".into(), "ok"),
        ("open('/tmp/x', 'w')".into(), fixed),
        // Its own, in namespaces; `/tmp` not, because the workspaces of these tests lie in it.
        ("open('/dev/shm/x', 'w')".into(), if helper.inside() { "ok" } else { fixed }),
        ("open('/usr/x', 'w')".into(), fixed),
        ("open('/etc/shadow').read()".into(), none),
        ("open('/dev/null', 'w').write('x')".into(), "ok"),
        ("open(os.environ['TMPDIR'] + '/x', 'w').write('x')".into(), "ok"),
        ("os.listdir(os.environ['TMPDIR'] + '/..')".into(), "EACCES"),
        ("os.mknod('device', 0o20600, os.makedev(1, 3))".into(), "EPERM|EACCES"),
    ];
    let borrowed: Vec<(&str, &str)> = outside.iter().map(|(line, answer)| (line.as_str(), *answer)).collect();
    expect(&mut helper, &borrowed);
    assert_eq!(std::fs::metadata(helper.workspace().join("made")).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn no_socket_but_a_pair() {
    let mut helper = Helper::new();
    expect(
        &mut helper,
        &[
            ("socket.socketpair()", "ok"),
            ("socket.socket(socket.AF_UNIX)", "EACCES"),
            ("socket.socket(socket.AF_INET)", "EACCES"),
            ("socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)", "EACCES"),
            ("socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)", "EACCES"),
            ("socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)", "EACCES"),
        ],
    );
}

/// What is on its way counts for the whole user, and holds memory that nobody shows.
#[test]
fn no_descriptor_is_sent_and_bytes_are() {
    let mut helper = Helper::new();
    let code = "import array, ctypes, os, socket\na, b = socket.socketpair()\n\
        carried = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [0]))]\n\
        for what in (carried, []):\n  try: a.sendmsg([b'x'], what); print('sent')\n  except OSError as e: print(e.errno)\n\
        libc = ctypes.CDLL(None, use_errno=True)\nprint(libc.syscall(307, a.fileno(), 0, 0, 0), ctypes.get_errno())\n\
        a.send(b'one'); os.write(a.fileno(), b'two'); print(b.recv(3) + b.recv(3))";
    let ran = helper.run(command(PYTHON, &["-c", code])).unwrap();
    assert_eq!(ran.stdout, "13\n13\n-1 13\nb'onetwo'\n", "{ran:?}");
    // Who is about to become a command can still say why it does not.
    let place = tempfile::tempdir().unwrap();
    let script = place.path().join("script");
    std::fs::write(&script, "#!/nowhere/interpreter\n").unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut options = Options::default();
    options.commands.push(any("script", &script.display().to_string()));
    let error = Helper::with(options).run(command(3, &[])).unwrap_err();
    assert_eq!(error.code, warden_proto::msg::error::ErrorCode::NotFound, "{error:?}");
}

#[test]
fn no_hand_on_other_processes() {
    let mut helper = Helper::new();
    let (us, front, runner) = (std::process::id(), helper.front_pid, helper.runner_pid);
    let mut lines = vec![
        ("os.kill(os.getpid(), 0)".to_owned(), "ok"),
        // The keeper: the parent.
        ("os.kill(os.getppid(), 0)".to_owned(), "EPERM"),
        ("os.kill(os.getppid(), 9)".to_owned(), "EPERM"),
        ("open(f'/proc/{os.getpid()}/environ').read()".to_owned(), "ok"),
        ("raw(101, 16, os.getppid(), 0, 0)".to_owned(), "EPERM"),
    ];
    let (no_signal, no_file) = if helper.inside() { ("ESRCH", "ENOENT") } else { ("EPERM", "EACCES|EPERM") };
    for pid in [us.to_string(), front.to_string(), runner.to_string()] {
        lines.push((format!("os.kill({pid}, 9)"), no_signal));
        lines.push((format!("open('/proc/{pid}/mem', 'rb').read(1)"), no_file));
    }
    for name in ["environ", "mem", "maps", "auxv"] {
        lines.push((format!("open(f'/proc/{{os.getppid()}}/{name}', 'rb').read(1)"), "EACCES|EPERM"));
    }
    for name in ["cwd", "root", "exe", "fd/0"] {
        lines.push((format!("os.readlink(f'/proc/{{os.getppid()}}/{name}')"), "EACCES|EPERM"));
    }
    lines.push(("raw(310, os.getppid(), 0, 0, 0, 0, 0)".to_owned(), "EPERM"));
    lines.push(("raw(438, raw(434, os.getppid(), 0), 0, 0)".to_owned(), "EPERM|ESRCH"));
    let borrowed: Vec<(&str, &str)> = lines.iter().map(|(line, answer)| (line.as_str(), *answer)).collect();
    expect(&mut helper, &borrowed);
}

#[test]
fn a_kill_of_everything_reaches_nothing_outside() {
    let mut helper = Helper::new();
    let mut bystander = std::process::Command::new("/bin/sleep").arg("300").spawn().unwrap();
    let other = helper.start(command(SH, &["-c", "echo up; sleep 300"]));
    assert_eq!(helper.line(other), "up");
    let ran = helper.run(command(PYTHON, &["-c", "import os\nchild = os.fork()\nif child == 0:\n  import time; time.sleep(300)\nos.kill(-1, 9)\nprint(os.waitpid(child, 0)[1])"]));
    assert_eq!(ran.unwrap().stdout, "9\n", "its own child is within reach");
    assert!(bystander.try_wait().unwrap().is_none(), "a bystander of the same uid lives");
    let running = helper.call(&ProcCall::Wait { process: other, timeout_ms: Some(0) }).unwrap_err();
    assert_eq!(running.code, ErrorCode::Timeout, "another command of the task lives");
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

#[test]
fn a_command_holds_its_three_descriptors_and_its_own_session() {
    let mut helper = Helper::new();
    let code = "import os\nprint(sorted(int(f) for f in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{f}')), os.getsid(0) == os.getpid(), os.umask(0))\ntry: os.open('/dev/tty', os.O_RDWR)\nexcept OSError as e: print(e.errno)";
    let printed = helper.python(code);
    let no_terminal = if helper.inside() { libc::ENOENT } else { libc::EACCES };
    assert_eq!(printed, format!("[0, 1, 2] True 18\n{no_terminal}"));
    let limits = helper
        .run(command(SH, &["-c", "grep -E 'NoNewPrivs|Seccomp:|CapEff|CapBnd' /proc/self/status"]))
        .unwrap()
        .stdout;
    assert!(limits.contains("NoNewPrivs:\t1\n") && limits.contains("Seccomp:\t2\n"), "{limits}");
    assert!(
        limits.contains("CapEff:\t0000000000000000\n") && limits.contains("CapBnd:\t0000000000000000\n"),
        "{limits}"
    );
}

#[test]
fn helpers_are_jailed_and_hold_only_their_sockets() {
    let helper = Helper::new();
    for pid in [helper.front_pid, helper.runner_pid] {
        assert_eq!((status_line(pid, "NoNewPrivs"), status_line(pid, "Seccomp")), ("1".into(), "2".into()));
        assert_eq!(status_line(pid, "CapEff"), "0000000000000000");
    }
    assert_eq!(helper.locked.descriptors.iter().copied().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert!(helper.locked.landlock_abi >= 6);
}

#[test]
fn programs_in_the_workspace_run_only_where_the_rule_says_so() {
    let mut options = Options::default();
    let mut builder = any("builder", "/bin/sh");
    builder.0.exec_workspace = true;
    options.commands.push(builder);
    let mut helper = Helper::with(options);
    let tool = helper.workspace().join("tool");
    std::fs::copy("/bin/echo", &tool).unwrap();
    assert_eq!(helper.run(command(3, &["-c", "./tool ran"])).unwrap().stdout, "ran\n");
    let refused = helper.run(command(SH, &["-c", "./tool ran"])).unwrap();
    assert_eq!((refused.exit.code, refused.stdout.as_str()), (Some(126), ""));
    // Nor those that it has just written to its private directory.
    for own in [
        "cp /bin/echo $TMPDIR/tool && exec $TMPDIR/tool ran",
        "printf '#!/bin/sh\necho ran\n' > $HOME/script && chmod +x $HOME/script && exec $HOME/script",
        "/usr/bin/python3 -m venv --without-pip --copies $TMPDIR/v && exec $TMPDIR/v/bin/python3 -c 'print(\"ran\")'",
    ] {
        let ran = helper.run(command(3, &["-c", own])).unwrap();
        assert_eq!(ran.stdout, "ran\n", "{own}: {}", ran.stderr);
        let refused = helper.run(command(SH, &["-c", own])).unwrap();
        assert_eq!((refused.exit.code, refused.stdout.as_str()), (Some(126), ""), "{own}: {}", refused.stderr);
    }
}

#[test]
fn private_directories_are_apart_and_removed() {
    let mut helper = Helper::new();
    let process = helper.start(command(SH, &["-c", "echo secret > $TMPDIR/x; echo $TMPDIR; read line"]));
    let other = helper.line(process);
    // In namespaces it has a place of its own, and another command something else there.
    assert!(helper.inside() || exists(std::path::Path::new(&other)));
    let answer = if helper.inside() { "ENOENT" } else { "EACCES" };
    let lines = [format!("open('{other}/x').read()"), "open(os.environ['HOME'] + '/x', 'w').write('x')".into()];
    assert_eq!(helper.python(&tries(&lines)), format!("{answer}\nok"));
    // Deep, unreadable and full of links: taken apart all the same, and nothing outside is touched.
    let victim = helper.workspace().join("victim");
    std::fs::write(&victim, "v").unwrap();
    let code = format!(
        "import os\nos.chdir(os.environ['TMPDIR'])\nfor n in range(300):\n  os.mkdir('d'); open('f','w').close(); os.symlink('{}', 'l'); os.chdir('d')\nfd = os.open('.', 0); os.fchmod(fd, 0)",
        victim.display()
    );
    assert_eq!(helper.run(command(PYTHON, &["-c", &code])).unwrap().exit.code, Some(0));
    let entries = |path: &std::path::Path| std::fs::read_dir(path).unwrap().count();
    let scratch = helper.scratch();
    wait_for("the private directories to go", || entries(&scratch) == 1);
    assert!(exists(&victim));
    helper.call(&ProcCall::Close { process }).unwrap();
    wait_for("the last private directory to go", || entries(&scratch) == 0);
}

#[test]
fn without_scratch_only_the_workspace_is_writable() {
    let mut helper = Helper::with(Options { scratch: false, ..Options::default() });
    expect(&mut helper, &[("open('x', 'w').write('x')", "ok"), ("os.environ['TMPDIR']", "KEY")][..1]);
    assert_eq!(helper.python("import os; print('TMPDIR' in os.environ, os.environ['HOME'])"), "False /nonexistent");
}

#[test]
fn ordinary_tools_work() {
    let mut options = Options::default();
    options.commands.push(any("git", "/usr/bin/git"));
    options.commands.push(any("make", "/usr/bin/make"));
    let mut helper = Helper::with(options);
    let mut commit =
        command(SH, &["-c", "git init -q . && echo a > a && git add a && git commit -qm one && git log --format=%s"]);
    let vars = ["AUTHOR", "COMMITTER"]
        .iter()
        .flat_map(|who| [variable(&format!("GIT_{who}_NAME"), "A"), variable(&format!("GIT_{who}_EMAIL"), "a@b")]);
    commit.env = warden_proto::List::new(vars.collect()).unwrap();
    let ran = helper.run(commit).unwrap();
    assert_eq!((ran.exit.code, ran.stdout.as_str()), (Some(0), "one\n"), "{}", ran.stderr);
    let rules: String = (0..12).map(|n| format!("t{n}:\n\t@sleep 0.05; echo {n} | cat > out{n}\n")).collect();
    let all: Vec<String> = (0..12).map(|n| format!("t{n}")).collect();
    std::fs::write(helper.workspace().join("Makefile"), format!("SHELL = /bin/bash\nall: {}\n{rules}", all.join(" ")))
        .unwrap();
    let mut make = command(4, &["-j4", "all"]);
    make.processes_max = 16;
    let ran = helper.run(make).unwrap();
    assert_eq!(ran.exit.code, Some(0), "{}", ran.stderr);
    assert!((0..12).all(|n| exists(&helper.workspace().join(format!("out{n}")))));
    std::fs::write(
        helper.workspace().join("test_x.py"),
        "import unittest\nclass T(unittest.TestCase):\n  def test(self): self.assertEqual(1, 1)\n",
    )
    .unwrap();
    let ran = helper.run(command(PYTHON, &["-m", "unittest"])).unwrap();
    assert!(ran.stderr.contains("OK"), "{}", ran.stderr);
}
