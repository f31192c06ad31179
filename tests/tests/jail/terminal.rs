//! A person's terminal: the command never has it, and what is shown on it steers nothing (T-07, T-14).

use crate::place;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::openpty;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use warden_tests::{Place, skipped};

/// Starts a command line as a session of its own on a terminal of its own: all three streams and `/dev/tty`.
fn on_terminal(place: &Place, words: &[&str]) -> (Child, File) {
    let pty = openpty(None, None).unwrap();
    // The terminal ends when the test lets go of it.
    fcntl(&pty.master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
    let copy = |fd: &OwnedFd| Stdio::from(fd.try_clone().unwrap());
    let mut command = Command::new("/usr/bin/setsid");
    command.args(["--ctty", "--wait"]).args(words).current_dir(place.path(".")).env_clear();
    for (name, value) in place.command(&[]).get_envs() {
        value.map(|value| command.env(name, value));
    }
    command.stdin(copy(&pty.slave)).stdout(copy(&pty.slave)).stderr(copy(&pty.slave));
    let child = command.spawn().unwrap();
    (child, File::from(pty.master))
}

fn shown(mut child: Child, mut master: File) -> String {
    let mut bytes = Vec::new();
    // A terminal that nobody holds any more ends with EIO.
    let _ = master.read_to_end(&mut bytes);
    child.wait().unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn jailed(place: &Place, script: &str) -> (Child, File) {
    let warden = place.command(&[]).get_program().to_owned();
    on_terminal(place, &[warden.to_str().unwrap(), "jail", "--policy", "warden.toml", "--", "sh", "-c", script])
}

#[test]
fn a_command_has_no_terminal_where_the_person_has_one() {
    let place = place("");
    let look = "tty; test -t 0 || echo no-0; test -t 1 || echo no-1; test -t 2 || echo no-2; (: < /dev/tty) && echo has-tty; ps -o tty= -p $$";
    let (child, master) = jailed(&place, look);
    let inside = shown(child, master);
    for said in ["not a tty", "no-0", "no-1", "no-2"] {
        assert!(inside.contains(said), "{said}: {inside}");
    }
    assert!(!inside.contains("has-tty") && !inside.contains("/dev/pts") && !inside.contains("pts/"), "{inside}");
    // The control: the same line outside.
    let (child, master) = on_terminal(&place, &["/bin/sh", "-c", look]);
    let outside = shown(child, master);
    assert!(outside.contains("/dev/pts/") && outside.contains("has-tty") && !outside.contains("no-0"), "{outside}");
}

#[test]
fn nothing_can_be_typed_into_the_terminal_and_its_size_is_not_told() {
    if !std::path::Path::new("/usr/bin/python3").exists() {
        return skipped("python3 is not installed");
    }
    let place = Place::new();
    place.work_policy("[[proc.command]]\nname = \"python3\"\npath = \"/usr/bin/python3\"\nargs = [[\"**\"]]\n");
    let script = "import fcntl,os\n\
def tried(name,act):\n  try: act(); print(name,'worked')\n  except OSError as e: print(name,e.errno)\n\
for fd in (0,1,2):\n  tried('type',lambda: fcntl.ioctl(fd,0x5412,b'x'))\n  tried('size',lambda: fcntl.ioctl(fd,0x5413,bytes(8)))\n\
for path in ['/dev/tty','/dev/ptmx']+['/dev/pts/%d'%n for n in range(64)]:\n  if path[5:] in ('tty','ptmx') or os.path.exists(path): tried('open',lambda: os.open(path,os.O_RDWR|os.O_NOCTTY))\n";
    let warden = place.command(&[]).get_program().to_owned();
    let words = [warden.to_str().unwrap(), "jail", "--policy", "warden.toml", "--", "python3", "-c", script];
    let (child, master) = on_terminal(&place, &words);
    let inside = shown(child, master);
    assert_eq!(inside.matches("type ").count(), 3, "{inside}");
    assert!(!inside.contains("worked") && inside.contains("open "), "{inside}");
    // The control: outside the terminal answers.
    let (child, master) = on_terminal(&place, &["/usr/bin/python3", "-c", script]);
    let outside = shown(child, master);
    assert!(outside.contains("size worked") && outside.contains("open worked"), "{outside}");
}

#[test]
fn what_is_typed_arrives_and_what_is_shown_steers_nothing() {
    let place = place("");
    let (child, mut master) =
        jailed(&place, "read line; printf 'got %s \\033[31mred\\033]0;title\\007\\n' \"$line\"; cat; echo over");
    // A line, and the end of the input as a person types it.
    master.write_all(b"words\nmore\n\x04").unwrap();
    let text = shown(child, master);
    assert!(text.contains("got words \u{1b}[31mred\\u{1b}]0;title\\u{7}"), "{text:?}");
    assert!(text.contains("more\r\n") && text.contains("over\r\n"), "{text:?}");
    // The colour is taken back before anybody else speaks.
    assert!(text.trim_end().ends_with("\u{1b}[0m") || text.contains("\u{1b}[0mwarden"), "{text:?}");
}

#[test]
fn a_person_at_the_terminal_ends_it_with_one_key() {
    let place = place("");
    let (mut child, mut master) = jailed(&place, "trap 'echo bye; exit 1' INT; touch up; while :; do sleep 0.02; done");
    warden_tests::processes::wait("the command", || place.path("work/up").exists().then_some(()));
    master.write_all(b"\x03").unwrap();
    let mut bytes = Vec::new();
    let _ = master.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(130), "{text}");
    assert!(text.contains("bye"), "{text}");
}

/// A job in the background that read from the terminal would be stopped by a line that was typed for the shell.
#[test]
fn a_command_in_the_background_takes_no_line_from_the_shell_and_goes_on() {
    let place = place("");
    let warden = place.command(&[]).get_program().to_owned();
    let job = format!("{} jail --policy warden.toml -- sh -c 'touch up; sleep 1; echo ran'", warden.to_str().unwrap());
    let script = format!("set -m; {job} & read line; echo shell got $line; wait $!; echo status $?");
    let (child, mut master) = on_terminal(&place, &["/bin/bash", "-c", &script]);
    warden_tests::processes::wait("the command", || place.path("work/up").exists().then_some(()));
    master.write_all(b"words\n").unwrap();
    let text = shown(child, master);
    for said in ["shell got words", "ran", "status 0"] {
        assert!(text.contains(said), "{said}: {text}");
    }
    // The control: a program that reads there is stopped, which is 128 and SIGTTIN.
    let script = "set -m; cat & read line; wait $!; echo status $?; kill -9 %1";
    let (child, mut master) = on_terminal(&place, &["/bin/bash", "-c", script]);
    std::thread::sleep(std::time::Duration::from_millis(300));
    master.write_all(b"words\n").unwrap();
    let text = shown(child, master);
    assert!(text.contains("status 149"), "{text}");
}

/// The window is closed, the connection is lost: the command hears of it first, and what does not listen is ended (T-12).
#[test]
fn the_end_of_the_terminal_is_the_end_of_the_command() {
    let place = place("");
    let mark = format!("sleep 9{}", std::process::id());
    let script = format!(
        "trap 'echo told > told' HUP; trap '' TERM INT; (trap '' HUP; setsid {mark}) & touch up; while :; do sleep 0.02; done"
    );
    let (mut child, master) = jailed(&place, &script);
    warden_tests::processes::wait("the command", || place.path("work/up").exists().then_some(()));
    warden_tests::processes::wait("both", || (!warden_tests::processes::marked(&mark).is_empty()).then_some(()));
    let began = std::time::Instant::now();
    drop(master);
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(129));
    assert!(began.elapsed() < std::time::Duration::from_secs(6), "{:?}", began.elapsed());
    assert_eq!(place.read("work/told"), "told\n");
    assert_eq!(warden_tests::processes::marked(&mark), []);
    warden_tests::log::verify_complete(&place);
}
