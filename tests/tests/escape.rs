//! Escapes from the worker's jail, tried from inside of it by a probe that has taken the process over (T-03, T-04). Each is
//! refused there and works outside of it, so that a broken probe is not taken for a jail.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

#[derive(Debug, PartialEq, Eq)]
enum Ended {
    Worked,
    Errno(i32),
    /// The filter's answer.
    Killed,
}

fn probe(jail: &str, act: &str) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_worker-probe"));
    let output = command.args([jail, act]).env_clear().output().expect("the probe starts");
    let said = String::from_utf8_lossy(&output.stderr);
    match (output.status.code(), output.status.signal()) {
        (Some(0), _) => Ended::Worked,
        (Some(errno @ 1..200), _) => Ended::Errno(errno),
        (_, Some(libc::SIGSYS)) => Ended::Killed,
        other => panic!("{jail} {act}: {other:?} {said}"),
    }
}

#[test]
fn what_a_worker_never_does_kills_it() {
    for act in [
        "open",
        "openat2",
        "stat",
        "write-open",
        "readlink",
        "chdir",
        "unix-socket",
        "inet-socket",
        "udp-socket",
        "socketpair",
        "exec",
        "fork",
        "vfork",
        "ptrace",
        "kill-parent",
        "pidfd",
        "map-executable",
        "map-writable-executable",
        "memfd",
        "unshare",
        "uid",
        "dumpable",
        "io-uring",
    ] {
        let jailed = probe("jailed", act);
        // `ptrace` is one of the acts that a process tries on itself when it has locked down: it is answered, not killed.
        let answered = act == "ptrace" && matches!(jailed, Ended::Errno(_));
        assert!(answered || jailed == Ended::Killed, "{act}: {jailed:?}");
        // Outside it works, or is refused by what has nothing to do with our jail (root's rights, the host's own limits).
        let free = probe("free", act);
        let hosts_own = ["uid", "unshare", "io-uring"].contains(&act);
        assert!(free == Ended::Worked || (hosts_own && matches!(free, Ended::Errno(_))), "{act}: {free:?}");
    }
}

#[test]
fn what_a_worker_needs_works_in_its_jail() {
    for act in ["map", "random"] {
        assert_eq!((probe("jailed", act), probe("free", act)), (Ended::Worked, Ended::Worked), "{act}");
    }
}
