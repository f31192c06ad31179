//! Commands as on kernels with an older Landlock, which the jail of a debug build can be told to take this one for: the
//! rulesets are then those of that ABI, and the kernel enforces no more than they say.

use crate::provider::{Provider, Reply, Server};
use crate::support::*;
use nix::sys::signal::Signal;
use std::process::{Child, Command};
use warden_jail::landlock::kernel_abi;
use warden_proto::msg::error::ErrorCode;
use warden_proto::msg::proc::{ProcCall, ProcessSignal};

/// Those without a scope of signals that commands run on.
const OLDER: [u8; 4] = [2, 3, 4, 5];

fn helper(abi: u8) -> Helper {
    Helper::with(Options { landlock_abi: Some(abi), ..Options::default() })
}

/// A process of the same user that no command has to do with.
struct Bystander(Child);

impl Bystander {
    fn new() -> Self {
        Self(Command::new("/bin/sleep").arg("300").spawn().unwrap())
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_abi_is_lowered_and_never_raised_and_the_result_says_what_is_missing() {
    let own = kernel_abi();
    for (asked, found) in [(None, own), (Some(99), own), (Some(5), 5.min(own)), (Some(3), 3.min(own))] {
        let helper = Helper::with(Options { landlock_abi: asked, ..Options::default() });
        assert_eq!(helper.locked.landlock_abi, found, "{asked:?}");
        let told =
            helper.locked.degraded.iter().any(|text| text.as_str().contains("signals are confined by the keeper"));
        assert_eq!(told, found < 6, "{asked:?}: {:?}", helper.locked.degraded);
    }
    for abi in [0, 1] {
        let mut none = helper(abi);
        let error = none.run(command(SH, &["-c", "echo ran"])).unwrap_err();
        assert_eq!(error.code, ErrorCode::Unavailable, "{abi}: {error:?}");
    }
}

/// What each line may use; `t` prints `ok` or an errno's name.
const PRELUDE: &str = "import ctypes, errno, fcntl, os, signal, socket, struct, threading, time\n\
    libc = ctypes.CDLL(None, use_errno=True)\nkept = []\n\
    def raw(n, *args):\n  a = libc.syscall(ctypes.c_long(n), *[ctypes.c_long(x) for x in args])\n\
    \x20 if a < 0: raise OSError(ctypes.get_errno(), 'refused')\n  return a\n\
    def info(number, code=-1):\n  kept.append(ctypes.create_string_buffer(struct.pack('iii', number, 0, code), 128)); return ctypes.addressof(kept[-1])\n\
    def t(f):\n  try: f(); return 'ok'\n  except OSError as e: return errno.errorcode.get(e.errno, str(e))\n";

/// Every way to signal, aimed at `{it}`.
const WAYS: [&str; 8] = [
    "os.kill({it}, 9)",
    "os.kill(-{it}, 9)",
    "raw(200, {it}, 9)",
    "raw(234, {it}, {it}, 9)",
    "raw(129, {it}, 9, info(9))",
    "raw(297, {it}, {it}, 9, info(9))",
    "raw(424, raw(434, {it}, 0), 9, 0, 0)",
    "raw(424, raw(434, {it}, 0), 9, info(9), 0)",
];

#[test]
fn signals_reach_the_tree_and_nobody_else() {
    for abi in OLDER {
        let (mut helper, mut bystander) = (helper(abi), Bystander::new());
        let others = [bystander.0.id().to_string(), "os.getppid()".into(), helper.runner_pid.to_string(), "2".into()];
        let aimed = others.iter().flat_map(|it| WAYS.map(|way| way.replace("{it}", it)));
        let lines: String = aimed.map(|line| format!("print(t(lambda: {line}))\n")).collect();
        let found = helper.python(&format!("{PRELUDE}{lines}"));
        assert!(found.lines().all(|answer| answer == "EPERM"), "{abi}: {found}");
        let rest = "print(t(os.setsid), t(lambda: os.setpgid(0, 0)), t(lambda: os.kill(-1, 9)), t(lambda: os.kill(1, 9)), t(lambda: os.kill(99999999, 9)), t(lambda: os.kill(1, 65)))\n\
            a, b = socket.socketpair()\nprint(t(lambda: fcntl.fcntl(a, fcntl.F_SETOWN, os.getppid())))\n\
            print(t(lambda: raw(424, a.fileno(), 9, 0, 0)), t(lambda: raw(129, os.getpid(), 0, 8)))";
        let found = helper.python(&format!("{PRELUDE}{rest}"));
        assert_eq!(found, "EPERM EPERM ESRCH EPERM ESRCH EINVAL\nEPERM\nEBADF EFAULT", "{abi}");
        assert!(bystander.lives(), "{abi}");
    }
}

/// The control: what a program does with signals of its own works.
#[test]
fn a_program_signals_itself_its_threads_and_its_children() {
    for abi in OLDER {
        let mut helper = helper(abi);
        let ways: String = WAYS[..1]
            .iter()
            .chain(&WAYS[2..])
            .map(|way| format!("lambda it: {},", way.replace("{it}", "it")))
            .collect();
        let children = format!(
            "{PRELUDE}for way in ({ways}):\n  it = os.fork()\n  if it == 0:\n    time.sleep(60); os._exit(0)\n  way(it)\n  print(os.waitpid(it, 0)[1], end=' ')"
        );
        assert_eq!(helper.python(&children), "9 9 9 9 9 9 9", "{abi}");
        let own = "got = []\nsignal.signal(signal.SIGUSR1, lambda number, frame: got.append(number))\n\
            os.kill(os.getpid(), 10); os.kill(0, 10); signal.raise_signal(10); signal.pthread_kill(threading.get_ident(), 10)\n\
            raw(129, os.getpid(), 10, info(10)); raw(297, os.getpid(), threading.get_native_id(), 10, info(10)); os.killpg(os.getpgrp(), 10)\n\
            time.sleep(0.1); print(len(got), t(lambda: os.kill(os.getpid(), 0)))";
        assert_eq!(helper.python(&format!("{PRELUDE}{own}")), "7 ok", "{abi}");
        let others = "children = []\nfor n in range(3):\n  child = os.fork()\n  if child == 0:\n    time.sleep(60); os._exit(0)\n  children.append(child)\n\
            os.kill(-1, 15); print(sorted(os.waitpid(child, 0)[1] for child in children))";
        assert_eq!(helper.python(&format!("{PRELUDE}{others}")), "[15, 15, 15]", "{abi}: everybody but itself");
        let ran = helper.run(command(PYTHON, &["-c", "import os; os.abort()"])).unwrap();
        assert_eq!(ran.exit.signal, Some(libc::SIGABRT), "{abi}");
        let shell = "sleep 60 & kill $!; wait $!; echo $?; (kill -KILL $$) ; echo not here";
        let ran = helper.run(command(SH, &["-c", shell])).unwrap();
        assert_eq!((ran.stdout.as_str(), ran.exit.signal), ("143\n", Some(9)), "{abi}");
    }
}

/// Who believes to have made a group reaches it, and not all of the command: as on a kernel with scopes, where groups are made.
#[test]
fn a_program_signals_the_group_that_it_believes_to_have_made() {
    let scripts = [
        ("timeout 0.3 sh -c 'sleep 60 & wait'; echo $?; echo lives", "124\nlives\n"),
        ("timeout -k 1 0.3 sh -c 'trap \"\" TERM; sleep 60; sleep 60'; echo $?", "137\n"),
        ("(timeout 0.3 sleep 60; echo $?) & sleep 1; wait; echo all", "124\nall\n"),
        (
            "/usr/bin/python3 -c 'import os, signal, time\nif os.fork() == 0:\n  try: os.setpgid(0, 0)\n  except OSError: pass\n  if os.fork() == 0: time.sleep(60)\n  os.kill(0, 15)\nprint(os.wait()[1])'; echo lives",
            "15\nlives\n",
        ),
    ];
    for abi in OLDER.into_iter().chain([kernel_abi()]) {
        let mut helper = helper(abi);
        for (script, expected) in scripts {
            let ran = helper.run(command(SH, &["-c", script])).unwrap();
            assert_eq!((ran.stdout.as_str(), ran.exit.code), (expected, Some(0)), "{abi}: {script}: {ran:?}");
        }
        // Without any such belief a group is all of the command.
        let ran = helper.run(command(SH, &["-c", "sleep 60 & kill -TERM 0; echo not here"])).unwrap();
        assert_eq!((ran.stdout.as_str(), ran.exit.signal), ("", Some(15)), "{abi}: {ran:?}");
    }
}

/// T-07: a belief widens nothing. T-06: and there is no end of beliefs to hold.
#[test]
fn no_belief_reaches_beyond_the_tree() {
    for abi in OLDER {
        let (mut helper, mut bystander) = (helper(abi), Bystander::new());
        let it = bystander.0.id();
        let code = format!(
            "{PRELUDE}for pair in (({it}, {it}), (0, {it}), ({it}, 0), (os.getppid(), 0), (0, os.getppid()), (1, 1), (-1, 5)):\n  \
             assert t(lambda: os.setpgid(*pair)) == 'EPERM'\n\
             for n in range(3000): t(lambda: os.setpgid(0, 0))\n\
             print(t(lambda: os.kill(-{it}, 9)), t(lambda: os.kill(-os.getppid(), 9)), t(lambda: os.kill(-1, 9)), flush=True)\nos.kill(0, 15)"
        );
        let ran = helper.run(command(PYTHON, &["-c", &code])).unwrap();
        assert_eq!((ran.stdout.as_str(), ran.exit.signal), ("EPERM EPERM ESRCH\n", Some(15)), "{abi}: {ran:?}");
        assert!(bystander.lives(), "{abi}");
    }
}

#[test]
fn a_tree_ends_whole_and_a_bystander_lives() {
    for abi in OLDER {
        let (mut helper, mut bystander, mark) = (helper(abi), Bystander::new(), marker());
        let hides = format!(
            "import os, sys, time\nfor n in range(12):\n  if os.fork() == 0:\n    try: os.setsid()\n    except OSError: pass\n\
             \x20   if os.fork() == 0:\n      os.execv('/bin/sh', ['sh', '-c', 'trap \"\" TERM INT HUP; while :; do sleep 0.01; done', '{mark}'])\n    os._exit(0)\n\
             print('up', flush=True); time.sleep(60)"
        );
        let process = helper.start(command(PYTHON, &["-c", &hides]));
        assert_eq!(helper.line(process), "up");
        wait_for("the tree", || marked(&mark).len() >= 12);
        helper.call(&ProcCall::Signal { process, signal: ProcessSignal::Kill }).unwrap();
        assert_eq!(helper.wait(process).signal, Some(9));
        assert_eq!(marked(&mark), Vec::<i32>::new(), "{abi}: nothing is left when its end is told");
        // And where it ends by itself.
        let leaves = hides.replace("time.sleep(60)", "os._exit(3)");
        let ran = helper.run(command(PYTHON, &["-c", &leaves])).unwrap();
        assert_eq!((ran.exit.code, marked(&mark)), (Some(3), Vec::new()), "{abi}");
        assert!(bystander.lives(), "{abi}");
    }
}

#[test]
fn a_keeper_or_a_runner_that_is_killed_leaves_nothing_and_a_bystander_lives() {
    for keeper in [true, false] {
        let (mut helper, mut bystander, mark) = (helper(5), Bystander::new(), marker());
        let code =
            format!("sh -c 'while :; do sleep 0.01; done' {mark} & (sh -c 'sleep 300' {mark} &) ; echo up; wait");
        let process = helper.start(command(SH, &["-c", &code]));
        assert_eq!(helper.line(process), "up");
        let victim = if keeper { parent_of(&helper) } else { helper.runner_pid };
        nix::sys::signal::kill(victim, Signal::SIGKILL).unwrap();
        if keeper {
            wait_for("the tree's end", || marked(&mark).is_empty());
        } else {
            // The keeper sees that the runner is gone, and ends its own.
            wait_for("the tree's end", || marked(&mark).is_empty());
            assert!(helper.link_closes());
        }
        assert!(bystander.lives());
    }
}

/// The keeper of the one command that runs: the runner's only child.
fn parent_of(helper: &Helper) -> nix::unistd::Pid {
    let runner = helper.runner_pid;
    let children = std::fs::read_to_string(format!("/proc/{runner}/task/{runner}/children")).unwrap();
    nix::unistd::Pid::from_raw(children.split_whitespace().next().unwrap().parse().unwrap())
}

#[test]
fn places_and_memory_are_counted_by_the_group() {
    for abi in OLDER {
        let mut helper = helper(abi);
        let forks = "import os, time\nmade = 0\nfor n in range(12):\n  try:\n    if os.fork() == 0:\n      time.sleep(5); os._exit(0)\n    made += 1\n  except BlockingIOError: break\nprint(made)";
        let mut few = command(PYTHON, &["-c", forks]);
        few.processes_max = 5;
        assert_eq!(helper.run(few).unwrap().stdout, "4\n", "{abi}");
        let eats = "import os, mmap, time\nfor n in range(6):\n  if os.fork() == 0:\n    m = mmap.mmap(-1, 256 << 20); m.write(b'x' * (256 << 20)); time.sleep(20)\ntime.sleep(20)";
        let error = helper.run(command(PYTHON, &["-c", eats])).unwrap_err();
        assert_eq!(error.rule.as_str(), "limits.memory", "{abi}: {error:?}");
    }
}

#[test]
fn files_and_sockets_are_as_shut_as_on_a_newer_kernel() {
    for abi in OLDER {
        let (provider, lane) = Provider::that(Reply::Connection);
        let trap = Server::echo();
        let options =
            Options { landlock_abi: Some(abi), network: vec![PYTHON], provider: Some(lane), ..Options::default() };
        let mut helper = Helper::with(options);
        std::fs::write(helper.root.path().join("outside"), "kept").unwrap();
        let outside = helper.root.path().join("outside").display().to_string();
        let code = format!(
            "{PRELUDE}print(t(lambda: open('made', 'w').write('x')), t(lambda: os.truncate('made', 0)))\n\
             for f in (lambda: open('{outside}').read(), lambda: open('{outside}', 'a'), lambda: os.truncate('{outside}', 0), lambda: os.open('{outside}', os.O_RDONLY | os.O_TRUNC), lambda: os.rename('made', '{outside}'), lambda: os.link('{outside}', 'l'), lambda: os.listdir('/'), lambda: os.chmod('{outside}', 0o777), lambda: os.setxattr('{outside}', 'user.x', b''), lambda: socket.socket(socket.AF_UNIX), lambda: socket.socket().bind(('127.0.0.1', 0))):\n\
             \x20 print(t(f), end=' ')\n\
             s = socket.socket(); s.connect(('127.0.0.1', {port})); print(s.getpeername()[1] == {own})",
            port = trap.port,
            own = provider.server.port
        );
        let found = helper.python(&code);
        let mut lines = found.lines();
        assert_eq!(lines.next(), Some("ok ok"), "{abi}");
        let answers: Vec<&str> = lines.next().unwrap().split(' ').collect();
        let (last, refused) = answers.split_last().unwrap();
        assert_eq!((*last, refused.len()), ("True", 11), "{abi}: {found}");
        let known = ["EACCES", "EXDEV", "EPERM", "ENOTSUP"];
        assert!(refused.iter().all(|answer| known.contains(answer)), "{abi}: {found}");
        assert_eq!(std::fs::read_to_string(helper.root.path().join("outside")).unwrap(), "kept", "{abi}");
        assert_eq!(trap.came(), 0, "{abi}");
    }
}
