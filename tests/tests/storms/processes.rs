//! Storms of processes, and processes that do not run (T-06, T-07, T-12).

use crate::{gone, mark, marked, place, python, sh};
use nix::sys::signal::Signal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use warden_tests::manifest::{self, succeeded};
use warden_tests::{Held, Process, Task, is_root, processes, skipped};

/// The most processes with a mark that were seen while `act` ran.
fn most_seen<T>(mark: &str, act: impl FnOnce() -> T) -> (T, usize) {
    let (stop, most) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let watcher = std::thread::spawn({
        let (stop, most, mark) = (stop.clone(), most.clone(), mark.to_owned());
        move || {
            while !stop.load(Ordering::Relaxed) {
                // The broker's own command line has the words of no command.
                most.fetch_max(marked(&mark), Ordering::Relaxed);
            }
        }
    });
    let result = act();
    stop.store(true, Ordering::Relaxed);
    watcher.join().expect("the watcher");
    (result, most.load(Ordering::Relaxed))
}

/// Every process makes daemons (forked twice, in sessions of their own, deaf to signals) as fast as it can, for ever.
fn daemons(mark: &str) -> String {
    format!(
        "import os, signal\nsignal.signal(15, signal.SIG_IGN); signal.signal(1, signal.SIG_IGN)\nwhile True:\n  try:\n    \
         if os.fork() == 0:\n      os.setsid()\n      if os.fork() != 0: os._exit(0)\n      os.setsid() if os.getsid(0) != os.getpid() else 0\n    \
         else:\n      try: os.waitpid(-1, os.WNOHANG)\n      except OSError: pass\n  except OSError: pass\n# {mark}"
    )
}

#[test]
fn a_storm_of_daemons_stays_in_its_places_and_ends_with_its_time() {
    let place = place();
    let mark = mark("daemons");
    let mut bystander = std::process::Command::new("/bin/sleep").arg("60").spawn().expect("a bystander");
    let steps = [python(&daemons(&mark), 3), sh("echo again")];
    let (actions, most) = most_seen(&mark, || Task::runbook(&steps).actions(&place));
    assert!(actions[0]["output"]["timed_out"] == true || actions[0]["error"]["code"] == "timeout", "{}", actions[0]);
    assert!((2..=16).contains(&most), "{most} processes at once");
    gone(&mark);
    assert_eq!(succeeded(&actions[1])["stdout"], "again\n", "the places were given back");
    assert!(bystander.try_wait().expect("asks").is_none(), "a bystander lives");
    bystander.kill().and_then(|()| bystander.wait()).expect("ended");
}

/// A person ends the task in the middle of a storm.
#[test]
fn a_storm_ends_with_its_task_at_any_moment() {
    for after_ms in [0, 40, 300] {
        let place = place();
        let mark = mark(&format!("task-{after_ms}"));
        let running = Task::runbook(&[python(&daemons(&mark), 15)]).start(&place);
        processes::wait("the storm", || (marked(&mark) > 0).then_some(()));
        std::thread::sleep(Duration::from_millis(after_ms));
        let began = Instant::now();
        running.signal(Signal::SIGTERM);
        running.end();
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        gone(&mark);
    }
}

/// Stops each of its children and itself; what is left is stopped orphans.
fn stopped(mark: &str) -> String {
    format!(
        "import os, signal, time\nfor n in range(6):\n  p = os.fork()\n  if p == 0:\n    if n % 2: os.setsid()\n    \
         os.kill(os.getpid(), signal.SIGSTOP); time.sleep(100)\ntime.sleep(0.3); print('over') # {mark}"
    )
}

#[test]
fn stopped_processes_end_with_their_command() {
    let place = place();
    let mark = mark("stopped");
    let itself = format!("import os, signal; os.kill(os.getpid(), signal.SIGSTOP) # {mark}");
    let began = Instant::now();
    let actions = Task::runbook(&[python(&stopped(&mark), 10), python(&itself, 1), sh("echo again")]).actions(&place);
    assert_eq!(succeeded(&actions[0])["stdout"], "over\n");
    assert!(actions[1]["output"]["timed_out"] == true || actions[1]["error"]["code"] == "timeout", "{}", actions[1]);
    assert_eq!(succeeded(&actions[2])["stdout"], "again\n");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    gone(&mark);
}

/// Its own children a command cannot trace: a tracer writes into them between a check and a use (T-02).
#[test]
fn a_command_traces_nobody() {
    let place = place();
    // PTRACE_SEIZE of a child, PTRACE_ATTACH to it, PTRACE_TRACEME.
    let tries = |requests: &str| {
        format!(
            "import ctypes, os, time\nlibc = ctypes.CDLL(None, use_errno=True)\np = os.fork()\nif p == 0: time.sleep(60); os._exit(0)\n\
             for request in {requests}:\n  print(libc.ptrace(request, p if request else 0, 0, 0), ctypes.get_errno())\n\
             os.kill(p, 9); print(os.waitpid(p, 0)[1])"
        )
    };
    let actions = Task::runbook(&[python(&tries("(0x4206, 16, 0)"), 10)]).actions(&place);
    let out = succeeded(&actions[0])["stdout"].as_str().expect("a text").to_owned();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!((lines.len(), lines.last()), (4, Some(&"9")), "{out}");
    assert!(lines[..3].iter().all(|line| matches!(*line, "-1 1" | "-1 13")), "{out}");
    // The control: outside the same line traces.
    let outside = std::process::Command::new("/usr/bin/python3").args(["-c", &tries("(0x4206,)")]).output();
    let outside = outside.expect("python3");
    assert_eq!(String::from_utf8_lossy(&outside.stdout), "0 0\n9\n", "{outside:?}");
}

/// A debugger that root has put on a process of the tree keeps it from being reaped, and so the end of the command from being
/// told; nothing of the tree runs on, and once the debugger lets go the task goes on.
#[test]
fn a_traced_process_ends_with_its_command_all_the_same() {
    if !is_root() {
        return skipped("only root traces another user's processes");
    }
    let place = place();
    let mark = mark("traced");
    let code = format!("import os, time\nif os.fork() == 0: time.sleep(100)\ntime.sleep(100) # {mark}");
    let running = Task::runbook(&[python(&code, 2), sh("echo again")]).start(&place);
    let all = processes::wait("both", || Some(processes::mentioning(&mark)).filter(|found| found.len() == 2));
    let child: &Process = all.iter().max_by_key(|process| process.pid).expect("two");
    let held = Held::take(child);
    let began = Instant::now();
    processes::wait("the end of the tree", || (marked(&mark) == 0).then_some(()));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    drop(held);
    let actions = manifest::actions(&running.end().object());
    assert!(actions[0]["output"]["timed_out"] == true || actions[0]["error"]["code"] == "timeout", "{}", actions[0]);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(succeeded(&actions[1])["stdout"], "again\n");
}
