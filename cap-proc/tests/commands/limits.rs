//! Processes, memory, file sizes and time (T-06).

use crate::support::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use warden_proto::msg::error::ErrorCode;
use warden_proto::msg::proc::*;

/// Forks as fast as it can from every process it gets, for three seconds; some children live shortly, some long.
fn storm(mark: &str) -> String {
    format!(
        "import os, time, random\nend = time.time() + 3\nrefused = 0\nwhile time.time() < end:\n  try: p = os.fork()\n  except OSError as e:\n    refused = e.errno; continue\n  if p == 0:\n    random.seed()\n    if random.random() < 0.5: os._exit(0)\n    if random.random() < 0.3: os.setsid()\n  else:\n    try: os.waitpid(-1, os.WNOHANG)\n    except OSError: pass\nprint(refused) # {mark}"
    )
}

/// Counts processes of a mark, zombies by their parents included, while `act` runs; returns the most seen.
fn most_seen<T>(mark: &str, act: impl FnOnce() -> T) -> (T, usize) {
    let (stop, most) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let watcher = std::thread::spawn({
        let (stop, most, mark) = (stop.clone(), most.clone(), mark.to_owned());
        move || {
            while !stop.load(Ordering::Relaxed) {
                most.fetch_max(marked(&mark).len(), Ordering::Relaxed);
            }
        }
    });
    let result = act();
    stop.store(true, Ordering::Relaxed);
    watcher.join().unwrap();
    (result, most.load(Ordering::Relaxed))
}

#[test]
fn a_fork_storm_stays_within_its_places() {
    for as_nobody in [false, true] {
        let mut helper = Helper::with(Options { as_nobody, ..Options::default() });
        let mark = marker();
        let mut asked = command(PYTHON, &["-c", &storm(&mark)]);
        asked.processes_max = 16;
        asked.timeout_ms = 30_000;
        let (ran, most) = most_seen(&mark, || helper.run(asked));
        let ran = ran.unwrap();
        assert!(most <= 16, "{most} processes at once");
        assert!(most >= 8, "only {most} processes at once: the places were not used");
        assert!(!ran.exit.timed_out, "{ran:?}");
        gone_within_a_second(&mark);
    }
}

#[test]
fn a_fork_waits_for_a_place_and_then_gets_eagain() {
    let mut helper = Helper::new();
    let code = |sleep: f32| {
        format!(
            "import os, time\nfor n in range(2):\n  if os.fork() == 0: time.sleep({sleep}); os._exit(0)\nt = time.time()\ntry:\n  p = os.fork()\n  if p == 0: os._exit(0)\n  print('forked')\nexcept OSError as e: print(e.errno)\nprint(round(time.time() - t, 1))"
        )
    };
    let mut asked = command(PYTHON, &["-c", &code(60.0)]);
    asked.processes_max = 3;
    let ran = helper.run(asked).unwrap();
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines.first(), Some(&"11"), "{ran:?}");
    let waited: f32 = lines[1].parse().unwrap();
    assert!((0.8..8.0).contains(&waited), "{waited}");
    // Zombies keep their place until they are reaped, as for the kernel's own limit: one is reaped here.
    let reaping = code(0.3).replace("t = time.time()\n", "os.wait()\nt = time.time()\n");
    let mut asked = command(PYTHON, &["-c", &reaping]);
    asked.processes_max = 3;
    assert!(helper.run(asked).unwrap().stdout.starts_with("forked\n"));
    let mut alone = command(SH, &["-c", "echo alone; /bin/true || echo refused"]);
    alone.processes_max = 1;
    let ran = helper.run(alone).unwrap();
    assert!(ran.stdout.starts_with("alone\n") && ran.exit.code != Some(0), "{ran:?}");
    let mut none = command(ECHO, &[]);
    none.processes_max = 0;
    assert_eq!(helper.run(none).unwrap_err().code, ErrorCode::Limit);
}

/// 300 pipelines in a shell, with room for four processes.
fn pipelines(shell: &str) {
    let mut options = Options::default();
    options.commands.push(any("shell", shell));
    let mut helper = Helper::with(options);
    let loops = "i=0; while [ $i -lt 300 ]; do /bin/true | /bin/cat; i=$((i+1)); done; echo $i";
    let mut asked = command(3, &["-c", loops]);
    asked.processes_max = 4;
    let ran = helper.run(asked).unwrap();
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("300\n", ""));
}

#[test]
fn short_lived_children_do_not_use_places_up() {
    pipelines("/bin/bash");
}

/// Dash's handler for ended children does not restart calls; the keeper sees to it that it does.
#[test]
fn short_lived_children_of_dash_too() {
    pipelines("/bin/dash");
}

/// 30 threads that fork at idle priority beside threads that take every processor; then these stop, and each fork that
/// was allowed happens. Threads take no place, so a command has them for nothing.
fn starved(mark: &str) -> String {
    format!(
        "import ctypes, os, threading, time, zlib\nlibc = ctypes.CDLL(None, use_errno=True)\ndata = bytes(16 << 20)\n\
        stop = threading.Event(); gate = threading.Event(); made = []\n\
        def hog():\n  gate.wait()\n  while not stop.is_set(): zlib.crc32(data)\n\
        def fork():\n  gate.wait()\n  os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\n  end = time.time() + 4\n  \
          while time.time() < end:\n    pid = libc.syscall(57)\n    if pid == 0: time.sleep(60); os._exit(0)\n    \
            if pid > 0: made.append(pid); return\n\
        all = [threading.Thread(target=hog) for n in range(3 * os.cpu_count())] + [threading.Thread(target=fork) for n in range(30)]\n\
        [t.start() for t in all]\ngate.set(); time.sleep(3); stop.set(); time.sleep(2); print(len(made)) # {mark}"
    )
}

#[test]
fn forks_starved_of_the_processor_keep_their_places() {
    let mut helper = Helper::new();
    let mark = marker();
    let mut asked = command(PYTHON, &["-c", &starved(&mark)]);
    asked.processes_max = 4;
    let (ran, most) = most_seen(&mark, || helper.run(asked));
    let ran = ran.unwrap();
    assert!(most <= 4, "{most} processes at once: {ran:?}");
    assert!(most >= 3, "only {most} processes at once: the places were not used: {ran:?}");
    gone_within_a_second(&mark);
}

/// Forks in a loop while a sibling stops and continues whoever forks, at every moment there is.
#[test]
fn forks_stopped_on_their_way_stay_within_their_places() {
    let mut helper = Helper::new();
    let mark = marker();
    let code = format!(
        "import os, random, signal, time\ndef storm():\n  made = 0\n  while True:\n    try:\n      p = os.fork()\n      \
            if p == 0: time.sleep(0.05); os._exit(0)\n      made += 1\n    except OSError: pass\n    \
          try: os.waitpid(-1, os.WNOHANG)\n    except OSError: pass\n\
        storms = []\nfor n in range(2):\n  p = os.fork()\n  if p == 0: storm()\n  storms.append(p)\n\
        end = time.time() + 3\nwhile time.time() < end:\n  for p in storms: os.kill(p, signal.SIGSTOP); time.sleep(0.001)\n  \
          for p in storms: os.kill(p, signal.SIGCONT); time.sleep(random.random() * 0.02)\nprint('over') # {mark}"
    );
    let mut asked = command(PYTHON, &["-c", &code]);
    asked.processes_max = 6;
    let (ran, most) = most_seen(&mark, || helper.run(asked));
    assert_eq!(ran.unwrap().stdout, "over\n");
    assert!(most <= 6, "{most} processes at once");
    assert!(most >= 4, "only {most} processes at once: none was made");
    gone_within_a_second(&mark);
}

/// A process that forked and then computes without a pause does not keep the place of a fork that is over.
#[test]
fn a_busy_parent_gives_back_the_place_of_its_fork() {
    let mut helper = Helper::new();
    let code = "import os, signal, time\nif os.fork() == 0:\n  time.sleep(0.2)\n  for n in range(5):\n    try:\n      p = os.fork()\n      \
        if p == 0: os._exit(0)\n      os.waitpid(p, 0); print('forked', flush=True); os._exit(0)\n    except OSError: pass\n  print('refused', flush=True); os._exit(0)\n\
        end = time.time() + 6\nwhile time.time() < end: pass\n";
    let mut asked = command(PYTHON, &["-c", code]);
    asked.processes_max = 3;
    assert_eq!(helper.run(asked).unwrap().stdout, "forked\n");
}

#[test]
fn threads_take_no_place() {
    let mut helper = Helper::new();
    let mut asked = command(
        PYTHON,
        &[
            "-c",
            "import threading, time\nts = [threading.Thread(target=time.sleep, args=(0.2,)) for n in range(30)]\n[t.start() for t in ts]; [t.join() for t in ts]; print(len(ts))",
        ],
    );
    asked.processes_max = 1;
    assert_eq!(helper.run(asked).unwrap().stdout, "30\n");
}

#[test]
fn a_tree_has_so_many_threads_and_no_more() {
    let threads = |mark: &str, count: u32| {
        format!(
            "import os, threading, time\nthreading.stack_size(65536)\nstop = threading.Event()\nos.fork()\n\
            [threading.Thread(target=stop.wait, daemon=True).start() for n in range({count} // 2)]\n\
            time.sleep(3); print('done', flush=True); os._exit(0) # {mark}"
        )
    };
    for as_nobody in [false, true] {
        let mut helper = Helper::with(Options { as_nobody, ..Options::default() });
        let mark = marker();
        let ran = helper.run(command(PYTHON, &["-c", &threads(&mark, 200)])).unwrap();
        assert_eq!((ran.exit.code, ran.stdout.lines().last()), (Some(0), Some("done")), "{ran:?}");
        let ran = helper.run(command(PYTHON, &["-c", &threads(&mark, 5_000)]));
        gone_within_a_second(&mark);
        if as_nobody {
            // The kernel refuses them before the keeper has to look.
            let failed = ran.unwrap();
            assert!(failed.stderr.contains("can't start new thread"), "{failed:?}");
        } else {
            let error = ran.expect_err("ended over its limit");
            assert_eq!((error.code, error.rule.as_str()), (ErrorCode::Limit, "limits.processes"), "{error:?}");
        }
    }
}

#[test]
fn memory_and_files_have_bounds() {
    let bounds = ProcBounds {
        memory_bytes: 128 << 20,
        file_bytes: 1 << 20,
        private_bytes: 1 << 20,
        ..Options::default().bounds
    };
    let mut helper = Helper::with(Options { bounds, ..Options::default() });
    let eats =
        |mib: u32| format!("try:\n  b = bytearray({mib} << 20); print('ok')\nexcept MemoryError: print('refused')");
    assert_eq!(helper.python(&eats(50)), "ok");
    assert_eq!(helper.python(&eats(200)), "refused");
    let writes = |len: u32| {
        format!(
            "import signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\ntry:\n  f = open('f', 'wb'); f.write(b'x' * {len}); f.close(); print('ok')\nexcept OSError as e: print(e.errno)"
        )
    };
    assert_eq!(helper.python(&writes(1 << 20)), "ok");
    assert_eq!(helper.python(&writes((1 << 20) + 1)), "27");
    let raises = "import resource\ntry: resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1)); print('ok')\nexcept (OSError, ValueError): print('refused')";
    assert_eq!(helper.python(raises), "refused");
    assert_eq!(helper.python("import resource; print(resource.getrlimit(resource.RLIMIT_CORE))"), "(0, 0)");
}

#[test]
fn the_time_limit_ends_the_whole_tree_and_a_bystander_lives() {
    let mut helper = Helper::new();
    let mark = marker();
    let mut bystander = std::process::Command::new("/bin/sleep").arg("300").spawn().unwrap();
    // Twice forked and in sessions of their own: no group, no parent, no terminal leads to them.
    let code = format!(
        "import os, signal, time\nsignal.signal(15, signal.SIG_IGN)\nfor n in range(10):\n  if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n      os.setsid(); time.sleep(300)\n    os._exit(0)\nprint('up', flush=True); time.sleep(300) # {mark}"
    );
    let mut asked = command(PYTHON, &["-c", &code]);
    asked.timeout_ms = 2_500;
    let started = Instant::now();
    let request = helper.run_call(asked, b"", 100);
    wait_for("the tree", || marked(&mark).len() >= 11);
    let ran = helper.ran(request).unwrap();
    assert_eq!(ran.exit, Exit { code: None, signal: Some(9), timed_out: true });
    assert!(started.elapsed() < Duration::from_secs(8));
    gone_within_a_second(&mark);
    assert!(bystander.try_wait().unwrap().is_none());
    bystander.kill().unwrap();
    bystander.wait().unwrap();
    let mut quick = command(SH, &["-c", "sleep 0.1"]);
    quick.timeout_ms = 10_000;
    assert_eq!(helper.run(quick).unwrap().exit, Exit { code: Some(0), signal: None, timed_out: false });
}

#[test]
fn what_a_command_leaves_behind_ends_with_it() {
    let mut helper = Helper::new();
    let mark = marker();
    let ran = helper.run(command(SH, &["-c", &format!("setsid sh -c 'sleep 300; : {mark}' & echo done")])).unwrap();
    assert_eq!((ran.exit.code, ran.stdout.as_str()), (Some(0), "done\n"));
    gone_within_a_second(&mark);
}

#[test]
fn a_task_holds_so_many_processes_and_no_more() {
    let mut helper = Helper::with(Options { scratch: false, ..Options::default() });
    let start = || ProcCall::Start {
        command: command(ECHO, &[]),
        stdin: StdioMode::Null,
        stdout: StdioMode::Null,
        stderr: StdioMode::Null,
    };
    let mut held = Vec::new();
    let error = loop {
        match helper.call(&start()) {
            Ok(ProcReply::Started { process, .. }) => held.push(process),
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert_eq!((error.code, held.len()), (ErrorCode::Limit, 64));
    helper.call(&ProcCall::Close { process: held[0] }).unwrap();
    assert!(helper.call(&start()).is_ok());
}
