//! What a process leaves behind, in a test process of its own, since who adopts is a whole process.

use super::*;
use nix::sys::prctl;
use nix::unistd::ForkResult;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn what_a_dead_parent_left_is_ended_and_what_was_made_here_lives() {
    let test = "children::tests::orphans_are_ended";
    let arguments = ["--exact", test, "--ignored", "--test-threads=1"];
    let ran = Command::new(std::env::current_exe().unwrap()).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && said.contains("1 passed"), "{said}");
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap())
}

/// An orphan under the runner's filter, with a name that says otherwise.
fn orphaned_keeper() -> Pid {
    let (mut tell, told) = std::io::pipe().unwrap();
    // SAFETY: the child calls the kernel and nothing that another thread could have locked.
    let between = match unsafe { nix::unistd::fork() }.unwrap() {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            // SAFETY: as above.
            if unsafe { nix::unistd::fork() }.is_ok_and(|side| side.is_child()) {
                keep_on(told);
            }
            // SAFETY: ends this process without running what its copy of the test harness would.
            unsafe { libc::_exit(0) }
        }
    };
    assert_eq!(waitpid(between, None), Ok(WaitStatus::Exited(between, 0)));
    drop(told);
    let mut number = [0; 4];
    tell.read_exact(&mut number).unwrap();
    Pid::from_raw(i32::from_le_bytes(number))
}

/// Puts the filter on, says its number and waits.
fn keep_on(mut told: impl Write) -> ! {
    // Should the test fail, nobody waits for this one: it ends by itself and holds no output.
    nix::unistd::alarm::set(60);
    let quiet = nix::unistd::close(1).and_then(|()| nix::unistd::close(2)).is_ok();
    let named = prctl::set_name(c"\nSeccomp_filters:\t9").is_ok() && prctl::set_no_new_privs().is_ok();
    if quiet && named && warden_jail::seccomp::install(warden_jail::Role::CapProcRunner).is_ok() {
        let _ = told.write_all(&Pid::this().as_raw().to_le_bytes());
    }
    drop(told);
    loop {
        nix::unistd::pause();
    }
}

#[test]
#[ignore = "run by another test, in a process of its own"]
fn orphans_are_ended() {
    prctl::set_child_subreaper(true).unwrap();
    let mut children = Children::default();
    let made: Vec<Child> = (0..2).map(|_| Command::new("/bin/sleep").arg("60").spawn().unwrap()).collect();
    let (known, template) = (pid(&made[0]), pid(&made[1]));
    children.add(7, known);
    // Each generation is the parent of the next, in a session of its own; the pipe closes when none is left.
    let tree = "echo; if [ $1 -gt 0 ]; then setsid sh -c \"$0\" \"$0\" $(($1 - 1)) & fi; sleep 60";
    let mut runner = Command::new("/bin/sh").args(["-c", tree, tree, "3"]).stdout(Stdio::piped()).spawn().unwrap();
    children.add(8, pid(&runner));
    let keeper = orphaned_keeper();
    let mut held = runner.stdout.take().unwrap();
    held.read_exact(&mut [0; 4]).unwrap();
    children.end_orphans(Some(template)).unwrap();
    assert!(runner.try_wait().unwrap().is_none(), "nobody is an orphan yet");
    children.kill(8);
    let began = Instant::now();
    let (mut ended, mut orphans) = (Vec::new(), 0);
    let is_left = |pid: &Pid| ![known, template, keeper].contains(pid);
    while ended.is_empty() || of_this_process().unwrap().iter().any(is_left) {
        let (events, others) = children.reap();
        ended.extend(events);
        orphans += others.len();
        children.end_orphans(Some(template)).unwrap();
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", of_this_process());
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(ended, [Event::Exited { child: 8, code: None, signal: Some(9) }]);
    assert!(orphans >= 3, "{orphans}: the tree was not there");
    assert_eq!(held.read(&mut [0; 1]).unwrap(), 0, "nobody of the tree holds its pipe");
    assert!(filters("self") < filters(&keeper.to_string()), "its filter is on");
    assert_eq!(kill(keeper, None), Ok(()), "a keeper cleans up");
    kill(keeper, Signal::SIGKILL).unwrap();
    for mut child in made {
        assert!(child.try_wait().unwrap().is_none(), "what was made here lives");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
