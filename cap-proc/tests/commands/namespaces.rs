//! What namespaces take away from commands besides, each beside the same without them; and what is said where they cannot
//! be had.

use crate::support::*;
use nix::sys::signal::{Signal, kill};
use std::process::Command;
use warden_proto::msg::error::ErrorCode;
use warden_proto::msg::proc::*;

fn with(namespaces: Wish) -> Helper {
    Helper::with(Options { namespaces, ..Options::default() })
}

/// Python that prints whether each path has a name.
fn names(paths: &[String]) -> String {
    format!("import os\nfor p in {paths:?}: print(os.path.lexists(p))")
}

/// T-01, T-11
#[test]
fn what_is_outside_has_no_name_and_the_workspace_has_its_own() {
    for (wish, seen) in [(Wish::Require, "False"), (Wish::Off, "True")] {
        let mut helper = with(wish);
        let root = helper.root.path().display().to_string();
        std::fs::write(helper.root.path().join("outside"), "secret").unwrap();
        std::fs::write(helper.workspace().join("inside"), "i").unwrap();
        let here = std::env::current_dir().unwrap().display().to_string();
        let outside = [format!("{root}/outside"), "/etc/shadow".into(), "/root".into(), "/var".into(), here];
        assert_eq!(helper.python(&names(&outside)), [seen; 5].join("\n"), "{wish:?}");
        let own = [format!("{root}/w0/inside"), "/etc/passwd".into(), "/usr/bin/env".into(), "/dev/null".into()];
        assert_eq!(helper.python(&names(&own)), ["True"; 4].join("\n"), "{wish:?}");
        let written = format!("open('{root}/w0/made', 'w').write('by its path'); print(open('made').read())");
        assert_eq!(helper.python(&written), "by its path", "{wish:?}");
        assert_eq!(std::fs::read_to_string(helper.workspace().join("made")).unwrap(), "by its path");
    }
}

/// T-13
#[test]
fn a_process_outside_cannot_be_seen_and_its_own_can() {
    let mut bystander = Command::new("/bin/sleep").arg("300").spawn().unwrap();
    for (wish, seen) in [(Wish::Require, "False"), (Wish::Off, "True")] {
        let mut helper = with(wish);
        let outside = [format!("/proc/{}", bystander.id()), format!("/proc/{}", helper.front_pid)];
        assert_eq!(helper.python(&names(&outside)), [seen; 2].join("\n"), "{wish:?}");
        let code = "import os, subprocess\nchild = subprocess.Popen(['/bin/sleep', '300'])\n\
            line = lambda: open(f'/proc/{child.pid}/cmdline').read().split('\\0')[0]\n\
            while not line(): pass\nprint(os.path.exists(f'/proc/{child.pid}'), line())\n\
            child.kill(); print(child.wait())";
        assert_eq!(helper.python(code), "True /bin/sleep\n-9", "{wish:?}");
    }
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

/// T-11: `/proc/net` lists the sockets of a network, with the paths of those that have one.
#[test]
fn sockets_of_others_are_not_listed() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("PRIVATE-NAME.sock");
    let _unix = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!(":{:04X} ", tcp.local_addr().unwrap().port());
    let code = format!(
        "unix, tcp = (open(f'/proc/net/{{n}}').read() for n in ['unix', 'tcp'])\n\
         print('PRIVATE-NAME' in unix, {port:?} in tcp, 'local_address' in tcp)"
    );
    for (wish, seen) in [(Wish::Require, "False False True"), (Wish::Off, "True True True")] {
        assert_eq!(with(wish).python(&code), seen, "{wish:?}");
    }
}

fn in_namespaces(helper: &Helper) -> Vec<&str> {
    helper
        .locked
        .held
        .iter()
        .map(|text| text.as_str())
        .filter(|text| text.ends_with("namespace") || text.starts_with("own "))
        .collect()
}

#[test]
fn what_held_is_said() {
    assert_eq!(in_namespaces(&with(Wish::Off)), [""; 0]);
    let helper = with(Wish::Require);
    let spaces = ["user namespace", "pid namespace", "mount namespace", "network namespace", "ipc namespace"];
    assert_eq!(in_namespaces(&helper), [&spaces[..], &["own /dev/shm"]].concat());
    let kinds = ["user", "pid", "mnt", "net", "ipc"];
    let of = |pid: String| kinds.map(|kind| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap());
    let (ours, theirs, guards) =
        (of("self".into()), of(helper.runner_pid.to_string()), of(helper.guard_pid.to_string()));
    assert!(ours.iter().zip(&theirs).all(|(ours, theirs)| ours != theirs), "{theirs:?}");
    assert_eq!(ours, guards, "the guard stays outside");
    assert!(helper.locked.degraded.is_empty(), "{:?}", helper.locked.degraded);
}

/// T-12: the guard is what the spawner kills, and the runner what the kernel ends everything with.
#[test]
fn nothing_is_left_when_the_guard_or_the_runner_is_killed() {
    for guard in [true, false] {
        let mut helper = with(Wish::Require);
        let mark = marker();
        let code = format!(
            "setsid sh -c 'setsid sleep 300 & sleep 300; : {mark}' & echo x > $TMPDIR/x; echo up; sleep 300; : {mark}"
        );
        let process = helper.start(command(SH, &["-c", &code]));
        assert_eq!(helper.line(process), "up");
        let left = || std::fs::read_dir(helper.root.path().join("scratch")).unwrap().count();
        assert_eq!(left(), 1, "the control");
        wait_for("the tree", || marked(&mark).len() >= 2);
        kill(if guard { helper.guard_pid } else { helper.runner_pid }, Signal::SIGKILL).unwrap();
        gone_within_a_second(&mark);
        assert!(helper.link_closes());
        wait_for("its private directory to be removed", || std::fs::read_dir(helper.scratch()).unwrap().count() == 0);
    }
}

/// A host that allows no user namespaces, made of a user namespace that allows none beneath it.
#[test]
fn where_they_cannot_be_had_it_is_said_or_refused() {
    let mut helper = Helper::with(Options { namespaces: Wish::Auto, hardened: true, ..Options::default() });
    assert_eq!(in_namespaces(&helper), [""; 0]);
    let said: Vec<&str> = helper.locked.degraded.iter().map(|text| text.as_str()).collect();
    assert!(said.iter().any(|text| text.contains("no namespaces of their own here (no new namespaces")), "{said:?}");
    let ran = helper.run(command(ECHO, &["still runs"])).unwrap();
    assert_eq!(ran.stdout, "still runs\n");
    assert!(ran.degraded.iter().any(|text| text.contains("names, sizes and times")), "{:?}", ran.degraded);

    let mut helper = Helper::with(Options { namespaces: Wish::Off, hardened: true, ..Options::default() });
    assert!(helper.locked.degraded.is_empty(), "off is nobody's loss: {:?}", helper.locked.degraded);
    assert!(helper.run(command(ECHO, &["runs"])).is_ok());

    let mut helper = Helper::with(Options { namespaces: Wish::Require, hardened: true, ..Options::default() });
    let error = helper.run(command(ECHO, &["must not run"])).unwrap_err();
    assert_eq!(error.code, ErrorCode::Unavailable, "{error:?}");
    assert!(error.message.contains("no new namespaces"), "{error:?}");
}

/// T-13: a user has all capabilities over the user namespaces that it makes, so what is executed in one is open to all
/// of the user's processes.
#[test]
fn a_neighbour_of_the_same_user_reads_nothing_of_the_runner() {
    let helper = Helper::with(Options { namespaces: Wish::Require, as_nobody: true, ..Options::default() });
    let reads = |pid: i32| {
        let file = format!("/proc/{pid}/environ");
        let mut reader = Command::new("/usr/bin/setpriv");
        reader.args(["--reuid=65534", "--regid=65534", "--clear-groups", "/bin/cat", &file]);
        reader.output().unwrap().status.success()
    };
    let mut neighbour = Command::new("/usr/bin/setpriv");
    neighbour.args(["--reuid=65534", "--regid=65534", "--clear-groups", "/bin/sleep", "300"]);
    let mut neighbour = neighbour.spawn().unwrap();
    let ordinary = i32::try_from(neighbour.id()).unwrap();
    wait_for("the control: an ordinary process is open to its neighbours", || reads(ordinary));
    for pid in [helper.runner_pid, helper.guard_pid] {
        assert_eq!(status_line(pid, "Uid").split_whitespace().next(), Some("65534"));
        assert!(!reads(pid.as_raw()), "{pid}");
    }
    neighbour.kill().unwrap();
    neighbour.wait().unwrap();
}

/// Deeper ones are mounted over what lies above them, and each has its own mode; files keep their owners.
#[test]
fn workspaces_in_each_other_and_of_two_modes_are_what_they_are_without() {
    for wish in [Wish::Require, Wish::Off] {
        let mut helper = Helper::with(Options {
            namespaces: wish,
            workspaces: vec![workspace(0, true, &[]), workspace(1, false, &[])],
            ..Options::default()
        });
        let code = format!(
            "import os\nprint(os.stat('.').st_uid == os.getuid(), os.path.realpath('/proc/self/cwd') == '{}')\n\
             try: open('{}/x', 'w')\nexcept OSError: print('refused')",
            helper.workspace().display(),
            helper.root.path().join("w1").display()
        );
        assert_eq!(helper.python(&code), "True True\nrefused", "{wish:?}");
    }
}
