//! What the front answers: runs, streams, signals, shapes, environment, and calls that make no sense.

use crate::support::*;
use std::time::{Duration, Instant};
use warden_proto::limits::OUTPUT_MAX_BYTES;
use warden_proto::msg::error::ErrorCode;
use warden_proto::msg::fs::HelperTarget;
use warden_proto::msg::proc::*;
use warden_proto::{Kind, List, Text};

#[test]
fn a_command_runs_to_its_end() {
    let mut helper = Helper::new();
    let ran = helper.run(command(ECHO, &["hello", "world"])).unwrap();
    assert_eq!(ran.exit, Exit { code: Some(0), signal: None, timed_out: false });
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str(), ran.truncated), ("hello world\n", "", false));
    assert!(ran.degraded.is_empty(), "{:?}", ran.degraded);
    let ran = helper.run(command(SH, &["-c", "echo no >&2; exit 3"])).unwrap();
    assert_eq!((ran.exit.code, ran.stderr.as_str()), (Some(3), "no\n"));
    let ran = helper.run(command(PYTHON, &["-c", "import os; os.kill(os.getpid(), 34)"])).unwrap();
    assert_eq!((ran.exit.code, ran.exit.signal), (None, Some(34)), "a real-time signal is a signal");
}

#[test]
fn the_same_as_an_ordinary_user() {
    let mut options = Options { as_nobody: true, ..Options::default() };
    options.commands.push(any("bash", "/bin/bash"));
    let mut helper = Helper::with(options);
    let printed = helper.python(
        "import os; open('f','w').write('x'); os.chmod('f', 0o600); print(os.getuid(), oct(os.stat('f').st_mode))",
    );
    assert_eq!(printed, "65534 0o100600");
    let ran = helper.run(command(3, &["-c", "echo a | cat | tr a b; exit 4"])).unwrap();
    assert_eq!((ran.exit.code, ran.stdout.as_str()), (Some(4), "b\n"));
    let mark = marker();
    let process = helper.start(command(SH, &["-c", &format!("setsid sh -c 'sleep 300; : {mark}' & echo up; wait")]));
    assert_eq!(helper.line(process), "up");
    assert!(matches!(helper.call(&ProcCall::Close { process }), Ok(ProcReply::Closed { .. })));
    gone_within_a_second(&mark);
}

#[test]
fn input_goes_in_and_long_output_comes_out() {
    let mut helper = Helper::new();
    let request = helper.run_call(
        command(PYTHON, &["-c", "import sys; sys.stdout.write(sys.stdin.read().upper())"]),
        &vec![b'a'; 300_000],
        1 << 20,
    );
    let ran = helper.ran(request).unwrap();
    assert_eq!(ran.stdout, "A".repeat(300_000));
    let request = helper.run_call(command(SH, &["-c", "cat; echo end"]), b"", 100);
    assert_eq!(helper.ran(request).unwrap().stdout, "end\n", "no input is /dev/null");
}

#[test]
fn output_over_the_cap_is_dropped_and_said() {
    let mut helper = Helper::new();
    let code =
        "import sys; sys.stdout.write('x' * 5_000_000); sys.stderr.write('y' * 10); print('done', file=sys.stderr)";
    let request = helper.run_call(command(PYTHON, &["-c", code]), b"", 1000);
    let ran = helper.ran(request).unwrap();
    assert_eq!((ran.exit.code, ran.stdout.len(), ran.truncated), (Some(0), 1000, true));
    assert!(ran.stderr.ends_with("done\n"));
    let request = helper.run_call(command(PYTHON, &["-c", "print('x' * 999)"]), b"", 1000);
    assert!(!helper.ran(request).unwrap().truncated);
    // Whatever is asked for, each is cut where the front's own bound is (T-06).
    let both = "import sys; sys.stdout.write('x' * 18_000_000); sys.stderr.write('y' * 2_000_000)";
    let request = helper.run_call(command(PYTHON, &["-c", both]), b"", u32::MAX);
    let ran = helper.ran(request).unwrap();
    assert_eq!((ran.stdout.len(), ran.stderr.len(), ran.truncated), (OUTPUT_MAX_BYTES, 2_000_000, true));
}

#[test]
fn streams_go_both_ways() {
    let mut helper = Helper::new();
    let process = helper.start(command(
        PYTHON,
        &["-uc", "import sys\nfor l in sys.stdin: print(l.strip()[::-1]); print('e', file=sys.stderr)"],
    ));
    assert_eq!(helper.write(process, b"abc\n", false), Ok(ProcReply::Accepted { bytes: 4 }));
    assert_eq!(helper.line(process), "cba");
    assert_eq!(helper.write(process, b"xyz\n", true), Ok(ProcReply::Accepted { bytes: 4 }));
    assert_eq!(helper.line(process), "zyx");
    assert_eq!(helper.wait(process).code, Some(0));
    assert_eq!(helper.read(process, Stream::Stdout, 10), (vec![], true));
    assert_eq!(helper.read(process, Stream::Stderr, 100).0, b"e\ne\n");
    assert_eq!(helper.write(process, b"x", false).unwrap_err().code, ErrorCode::Conflict);
    assert!(matches!(helper.call(&ProcCall::Close { process }), Ok(ProcReply::Closed { .. })));
    assert_eq!(helper.call(&ProcCall::Close { process }).unwrap_err().code, ErrorCode::NotFound);
}

#[test]
fn a_command_that_nobody_reads_waits_and_loses_nothing() {
    let bounds = ProcBounds { output_bytes: 4096, ..Options::default().bounds };
    let mut helper = Helper::with(Options { bounds, ..Options::default() });
    let process = helper.start(command(PYTHON, &["-c", "import sys; sys.stdout.write('x' * 1_000_000)"]));
    let error = helper.call(&ProcCall::Wait { process, timeout_ms: Some(300) }).unwrap_err();
    assert_eq!(error.code, ErrorCode::Timeout);
    let mut total = 0;
    loop {
        let (bytes, eof) = helper.read(process, Stream::Stdout, 60_000);
        total += bytes.len();
        if eof {
            break;
        }
    }
    assert_eq!((total, helper.wait(process).code), (1_000_000, Some(0)));
}

#[test]
fn calls_wait_side_by_side() {
    let mut helper = Helper::new();
    let process = helper.start(command(PYTHON, &["-uc", "input(); print('x'); input()"]));
    let read = helper.send(&ProcCall::Read { process, stream: Stream::Stdout, max_bytes: 10 });
    let wait = helper.send(&ProcCall::Wait { process, timeout_ms: None });
    let echo = helper.run(command(ECHO, &["between"])).unwrap();
    assert_eq!(echo.stdout, "between\n");
    helper.write(process, b"\n", false).unwrap();
    assert!(matches!(helper.answer(read), Ok(ProcReply::Data { .. })));
    helper.write(process, b"\n", false).unwrap();
    assert!(matches!(helper.answer(wait), Ok(ProcReply::Exited { exit: Exit { code: Some(0), .. }, .. })));
}

#[test]
fn each_signal_arrives_and_kill_takes_the_tree() {
    let mut helper = Helper::new();
    let code = "import signal, sys, time\nfor s in (1, 2, 15): signal.signal(s, lambda n, f: print(n, flush=True))\nprint('up', flush=True)\nwhile True: time.sleep(1)";
    let process = helper.start(command(PYTHON, &["-uc", code]));
    assert_eq!(helper.line(process), "up");
    for (signal, number) in [(ProcessSignal::Term, "15"), (ProcessSignal::Interrupt, "2"), (ProcessSignal::Hangup, "1")]
    {
        assert_eq!(helper.call(&ProcCall::Signal { process, signal }), Ok(ProcReply::Done));
        assert_eq!(helper.line(process), number);
    }
    assert_eq!(helper.call(&ProcCall::Signal { process, signal: ProcessSignal::Kill }), Ok(ProcReply::Done));
    assert_eq!(helper.wait(process), Exit { code: None, signal: Some(9), timed_out: false });
    let late = helper.call(&ProcCall::Signal { process, signal: ProcessSignal::Term }).unwrap_err();
    assert_eq!(late.code, ErrorCode::Conflict);
    // Without a handler the default applies: cap-proc's own signal settings are not inherited.
    let process = helper.start(command(SH, &["-c", "echo up; sleep 100"]));
    assert_eq!(helper.line(process), "up");
    helper.call(&ProcCall::Signal { process, signal: ProcessSignal::Term }).unwrap();
    assert_eq!(helper.wait(process).signal, Some(15));
    let ran = helper.run(command(
        PYTHON,
        &["-c", "import signal; print(signal.getsignal(signal.SIGPIPE).name, signal.pthread_sigmask(0, []))"],
    ));
    // Python itself ignores SIGPIPE, so ask what it found: the kernel's own word.
    drop(ran);
    let masks = helper.run(command(SH, &["-c", "grep -E 'SigBlk|SigIgn' /proc/self/status"])).unwrap().stdout;
    assert!(masks.lines().all(|line| line.ends_with("0000000000000000")), "{masks}");
}

#[test]
fn arguments_have_the_shapes_of_the_rule() {
    let mut options = Options::default();
    let shape = |items: &[&str]| ArgShape { items: List::new(items.iter().map(|i| Text::cut(i)).collect()).unwrap() };
    let (mut echo, path) = any("shaped", "/bin/echo");
    echo.any_args = false;
    echo.shapes = List::new(vec![shape(&["-n", "*"]), shape(&["say", "**"])]).unwrap();
    let mut none = any("bare", "/bin/echo");
    none.0.any_args = false;
    options.commands.extend([(echo, path), none]);
    let mut helper = Helper::with(options);
    assert_eq!(helper.run(command(3, &["-n", "x"])).unwrap().stdout, "x");
    assert_eq!(helper.run(command(3, &["say", "a", "b"])).unwrap().stdout, "say a b\n");
    assert_eq!(helper.run(command(4, &[])).unwrap().stdout, "\n");
    for denied in [command(3, &["-n"]), command(3, &["-n", "x", "y"]), command(3, &[]), command(4, &["x"])] {
        let error = helper.run(denied).unwrap_err();
        assert_eq!(error.code, ErrorCode::Denied);
        assert!(error.rule.starts_with("proc.command."), "{error:?}");
    }
    assert_eq!(helper.run(command(9, &[])).unwrap_err().code, ErrorCode::NotFound);
    assert_eq!(helper.run(command(ECHO, &["a\0b"])).unwrap_err().code, ErrorCode::InvalidArgument);
}

#[test]
fn the_environment_is_clean_and_the_guest_cannot_poison_it() {
    let mut options = Options::default();
    let mut env = any("env", "/usr/bin/env");
    env.0.env = List::new(vec![variable("FROM_RULE", "r"), variable("LANG", "C")]).unwrap();
    options.commands.push(env);
    let mut helper = Helper::with(options);
    let mut asked = command(3, &[]);
    asked.env = List::new(vec![variable("FROM_GUEST", "g")]).unwrap();
    let printed = helper.run(asked).unwrap().stdout;
    let mut names: Vec<&str> = printed.lines().map(|line| line.split('=').next().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["FROM_GUEST", "FROM_RULE", "HOME", "LANG", "PATH", "TMPDIR"], "{printed}");
    assert!(printed.contains("FROM_RULE=r\n") && printed.contains("LANG=C\n") && printed.contains("FROM_GUEST=g\n"));
    for name in ["LD_PRELOAD", "LD_LIBRARY_PATH", "GLIBC_TUNABLES", "PATH", "HOME", "FROM_RULE", "BASH_ENV"] {
        let mut poisoned = command(3, &[]);
        poisoned.env = List::new(vec![variable(name, "/tmp/x")]).unwrap();
        assert_eq!(helper.run(poisoned).unwrap_err().code, ErrorCode::Denied, "{name}");
    }
    for name in ["", "A=B", "A B", "1A"] {
        let mut malformed = command(3, &[]);
        malformed.env = List::new(vec![variable(name, "x")]).unwrap();
        assert_eq!(helper.run(malformed).unwrap_err().code, ErrorCode::InvalidArgument, "{name}");
    }
}

#[test]
fn the_working_directory_lies_in_the_workspace() {
    let mut helper = Helper::new();
    std::fs::create_dir(helper.workspace().join("sub")).unwrap();
    std::os::unix::fs::symlink("/usr", helper.workspace().join("out")).unwrap();
    std::os::unix::fs::symlink("sub", helper.workspace().join("in")).unwrap();
    let at = |path: &str| {
        let mut asked = command(PYTHON, &["-c", "import os; print(os.getcwd())"]);
        asked.cwd = HelperTarget::Workspace { workspace: 0, path: Text::cut(path) };
        asked
    };
    let sub = helper.workspace().join("sub").display().to_string();
    assert_eq!(helper.run(at("sub")).unwrap().stdout.trim_end(), sub);
    assert_eq!(helper.run(at("in")).unwrap().stdout.trim_end(), sub);
    for (path, code) in [
        ("out", ErrorCode::Denied),
        ("nowhere", ErrorCode::NotFound),
        ("../w0", ErrorCode::InvalidArgument),
        ("/usr", ErrorCode::InvalidArgument),
    ] {
        assert_eq!(helper.run(at(path)).unwrap_err().code, code, "{path}");
    }
    let mut other = command(ECHO, &[]);
    other.cwd = HelperTarget::Workspace { workspace: 7, path: Text::default() };
    assert_eq!(helper.run(other).unwrap_err().code, ErrorCode::InvalidArgument);
}

#[test]
fn where_the_host_allows_no_door_a_command_is_refused_or_says_so() {
    let run = |no_tracing, unchecked, workspaces| {
        let mut options = Options { workspaces, no_tracing, ..Options::default() };
        options.commands[usize::from(ECHO)].0.unchecked = unchecked;
        Helper::with(options).run(command(ECHO, &["x"]))
    };
    let ruled = || vec![workspace(0, true, &[])];
    let error = run(true, false, ruled()).unwrap_err();
    assert_eq!(error.code, ErrorCode::Unavailable);
    assert!(error.message.contains("unchecked = true"), "{error:?}");
    let degraded = run(true, true, ruled()).unwrap().degraded;
    assert!(degraded.len() == 1 && degraded[0].contains("unchecked"), "{degraded:?}");
    // Where nothing has to be checked, nothing is missing; and where there is a door, the policy's word changes nothing.
    for (no_tracing, unchecked, workspaces) in
        [(true, false, vec![workspace(0, false, &[])]), (false, false, ruled()), (false, true, ruled())]
    {
        let ran = run(no_tracing, unchecked, workspaces).unwrap();
        assert_eq!((ran.stdout.as_str(), ran.degraded.len()), ("x\n", 0));
    }
}

#[test]
fn a_script_runs_by_its_interpreter() {
    let place = tempfile::tempdir().unwrap();
    let script = place.path().join("greet");
    std::fs::write(&script, "#!/bin/sh\necho \"hi $1\"\n").unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut options = Options::default();
    options.commands.push(any("greet", script.to_str().unwrap()));
    let mut helper = Helper::with(options);
    assert_eq!(helper.run(command(3, &["you"])).unwrap().stdout, "hi you\n");
}

#[test]
fn without_a_workspace_a_command_starts_in_its_private_directory() {
    let mut helper = Helper::with(Options { workspaces: vec![], ..Options::default() });
    let mut asked = command(PYTHON, &["-c", "import os; print(os.getcwd() == os.environ['HOME'])"]);
    asked.cwd = HelperTarget::Workspace { workspace: u16::MAX, path: Text::default() };
    let ran = helper.run(asked).unwrap();
    assert_eq!((ran.stdout.as_str(), ran.degraded.len()), ("True\n", 0), "{}", ran.stderr);
}

#[test]
fn a_cancelled_run_ends_and_is_answered() {
    let mut helper = Helper::new();
    let mark = marker();
    let request = helper.run_call(command(SH, &["-c", &format!("sleep 300; : {mark}")]), b"", 100);
    wait_for("the command", || !marked(&mark).is_empty());
    let asked = Instant::now();
    helper.link.send(Kind::Cancel, request, &(), &[], true).unwrap();
    assert_eq!(helper.ran(request).unwrap().exit.signal, Some(9));
    assert!(asked.elapsed() < Duration::from_secs(2));
    gone_within_a_second(&mark);
    let process = helper.start(command(SH, &["-c", "sleep 300"]));
    let wait = helper.send(&ProcCall::Wait { process, timeout_ms: None });
    helper.link.send(Kind::Cancel, wait, &(), &[], true).unwrap();
    assert_eq!(helper.answer(wait).unwrap_err().code, ErrorCode::Timeout);
}

#[test]
fn input_that_nobody_reads_times_out_and_is_not_taken() {
    let mut helper = Helper::new();
    let process = helper.start(command(SH, &["-c", "sleep 300"]));
    let chunk = vec![b'x'; 60_000];
    let mut taken = 0;
    let error = loop {
        match helper.write(process, &chunk, false) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 10);
    };
    assert_eq!(error.code, ErrorCode::Timeout);
    assert!(taken >= 2);
}

#[test]
fn handles_are_only_those_that_were_given() {
    let mut helper = Helper::new();
    let mark = marker();
    helper.run_call(command(SH, &["-c", &format!("sleep 300; : {mark}")]), b"", 100);
    wait_for("the command", || !marked(&mark).is_empty());
    // The run has a number inside, but no handle.
    for process in [0, 1, 2, u32::MAX] {
        assert_eq!(helper.call(&ProcCall::Close { process }).unwrap_err().code, ErrorCode::NotFound);
    }
    let null = StdioMode::Null;
    let call =
        ProcCall::Start { command: command(SH, &["-c", "cat"]), stdin: null, stdout: StdioMode::Inherit, stderr: null };
    let Ok(ProcReply::Started { process, .. }) = helper.call(&call) else { panic!() };
    assert_eq!(helper.wait(process).code, Some(0));
    let read = helper.call(&ProcCall::Read { process, stream: Stream::Stdout, max_bytes: 1 });
    assert_eq!(read.unwrap_err().code, ErrorCode::Conflict);
    assert_eq!(helper.write(process, b"x", false).unwrap_err().code, ErrorCode::Conflict);
}
