//! What a command leaves behind: nothing, whatever session it puts itself into (T-12).

use crate::mode::Mode;
use crate::scene::Scene;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Two forks, a session where that is allowed, all signals ignored, and no stream that anybody waits for.
fn script(mark: &str) -> String {
    format!(
        "import os, signal, sys, time\nr, w = os.pipe()\nif os.fork() == 0:\n  try: os.setsid()\n  except OSError: pass\n  \
         if os.fork(): os._exit(0)\n  for n in range(1, 32):\n    try: signal.signal(n, signal.SIG_IGN)\n    except OSError: pass\n  \
         null = os.open('/dev/null', os.O_RDWR)\n  for n in range(3): os.dup2(null, n)\n  \
         os.set_inheritable(w, True)\n  os.execv('/bin/sh', ['sh', '-c', f'echo up >&{{w}}; exec {{w}}>&-; sleep 300; : {mark}'])\n\
         os.close(w); print(os.read(r, 3).decode().strip())"
    )
}

fn marked(mark: &str) -> Vec<Pid> {
    let numbers = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
    let has = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.starts_with(b"sh\0-c\0") && line.windows(mark.len()).any(|window| window == mark.as_bytes())
    };
    numbers.filter(has).map(Pid::from_raw).collect()
}

#[track_caller]
pub fn none_is_left(mode: Mode) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mark = format!("survivor-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let scene = Scene::new(mode);
    let script = script(&mark);
    assert_eq!(scene.outside(mode, &script), ["up"]);
    let left = marked(&mark);
    // The shell, and for a moment what it forks, until that executes.
    assert!((1..=2).contains(&left.len()), "control: outside it lives on: {left:?}");
    left.iter().for_each(|pid| kill(*pid, Signal::SIGKILL).unwrap());
    let until = |deadline: Instant| {
        while !marked(&mark).is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    until(Instant::now() + Duration::from_secs(10));
    let (answers, _) = mode.jailed(&scene, &script);
    assert_eq!(answers, ["up"], "{mode:?}");
    until(Instant::now() + Duration::from_secs(1));
    assert_eq!(marked(&mark), [], "{mode:?}");
}
