//! Bytes: all of them, in both directions at once, as fast as the reader and never more in memory than a piece (T-06); and
//! no descriptor of the person's in the command (T-07).

use crate::{end, file, jail, place, printed, sh};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::{Duration, Instant};
use warden_tests::{Running, is_root, log, processes, skipped};

/// Bytes that repeat late.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..len).map(next).collect()
}

#[test]
fn all_bytes_pass_both_ways_and_the_log_has_their_hash() {
    let place = place("");
    let bytes = noise(3_000_001);
    let mut child = jail(&place, &["cat"]).stdin(Stdio::piped()).spawn().unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let given = bytes.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&given));
    let mut got = Vec::new();
    stdout.read_to_end(&mut got).unwrap();
    writer.join().unwrap().unwrap();
    assert!(child.wait().unwrap().success());
    assert!(got == bytes, "{} of {} bytes", got.len(), bytes.len());
    let spawns = log::of(&place, "proc.spawn");
    let told = &spawns.iter().find(|record| record["phase"] == "end").expect("an end")["result"]["ok"];
    assert_eq!(told["stdin"], told["stdout"], "{told}");
    assert_eq!(told["stdin"]["len"], 3_000_001, "{told}");
    assert_eq!(told["stdin"]["sha256"].as_str().unwrap().len(), 64, "{told}");
    assert_eq!(told["stderr"]["len"], 0, "{told}");
}

#[test]
fn a_reader_who_waits_makes_the_writer_wait_and_nothing_is_held_or_lost() {
    let place = place("");
    let bytes = noise(24 << 20);
    let mut child = jail(&place, &["cat"]).stdin(Stdio::piped()).spawn().unwrap();
    let broker = i32::try_from(child.id()).unwrap();
    let (stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (tell, told) = std::sync::mpsc::channel();
    let given = bytes.clone();
    let writer = std::thread::spawn(move || {
        let mut stdin = stdin;
        for piece in given.chunks(64 << 10) {
            stdin.write_all(piece).unwrap();
            tell.send(piece.len()).unwrap();
        }
    });
    // Nobody reads: what was taken is what pipes and programs hold on the way, and then it stops.
    let mut taken = 0;
    while let Ok(len) = told.recv_timeout(Duration::from_millis(1500)) {
        taken += len;
    }
    assert!((64 << 10..2 << 20).contains(&taken), "{taken} bytes were taken while nobody read");
    let broker = processes::Family::of(broker).members[0].clone();
    let held = broker.status()["VmRSS"].clone();
    let kib: u64 = held.trim_end_matches(" kB").trim().parse().unwrap();
    assert!(kib < 64 << 10, "T-06: the broker holds {held}");
    let mut got = Vec::new();
    stdout.read_to_end(&mut got).unwrap();
    writer.join().unwrap();
    assert!(got == bytes && child.wait().unwrap().success());
}

#[test]
fn a_reader_that_goes_away_ends_the_command_as_in_any_pipeline() {
    let place = place("");
    let mut child = sh(&place, "exec yes").spawn().unwrap();
    let mut first = [0; 2];
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut first).unwrap();
    drop(stdout);
    assert_eq!((&first, child.wait().unwrap().code()), (b"y\n", Some(128 + 13)));
    // The control: who is read to the end ends by itself.
    assert_eq!(printed(sh(&place, "yes | head -3")), "y\ny\ny\n");
}

#[test]
fn a_command_that_reads_no_more_does_not_wait_for_the_writer() {
    let place = place("");
    let mut child = sh(&place, "head -1").stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let began = Instant::now();
    stdin.write_all(b"first\nsecond\n").unwrap();
    // The writer goes on until it hears that nobody reads.
    let piece = noise(64 << 10);
    let heard = loop {
        if let Err(error) = stdin.write_all(&piece) {
            break error;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "the writer never heard");
    };
    assert_eq!(heard.kind(), ErrorKind::BrokenPipe);
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert_eq!((out.as_str(), child.wait().unwrap().code()), ("first\n", Some(0)));
    // And a writer who says nothing at all keeps no command.
    let mut silent = sh(&place, "echo done").stdin(Stdio::piped()).spawn().unwrap();
    let _held = silent.stdin.take();
    assert_eq!(silent.wait().unwrap().code(), Some(0));
}

#[test]
fn the_end_of_the_input_reaches_the_command_and_the_command_goes_on() {
    let place = place("");
    let input = place.put("input", "0123456789");
    let mut command = sh(&place, "cat; echo; echo after");
    command.stdin(file(&input));
    assert_eq!(printed(command), "0123456789\nafter\n");
    // A file is read from where the caller stands in it.
    let mut open = File::open(&input).unwrap();
    open.read_exact(&mut [0; 4]).unwrap();
    let mut command = jail(&place, &["cat"]);
    command.stdin(open);
    assert_eq!(printed(command), "456789");
    let mut command = jail(&place, &["cat"]);
    command.stdin(Stdio::null());
    assert_eq!(printed(command), "");
    let mut command = sh(&place, "head -c 3 | od -An -tx1");
    command.stdin(File::open("/dev/zero").unwrap());
    assert_eq!(printed(command).trim(), "00 00 00");
}

#[test]
fn a_socket_is_pumped_and_a_directory_or_a_wrong_way_is_refused() {
    let place = place("");
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    ours.write_all(b"by socket").unwrap();
    ours.shutdown(std::net::Shutdown::Write).unwrap();
    let mut command = sh(&place, "cat; readlink /proc/self/fd/0 | cut -c 1-5 >&2");
    command.stdin(std::os::fd::OwnedFd::from(theirs));
    let ran = end(command);
    assert_eq!((ran.out.as_str(), ran.status), ("by socket", 0), "{ran:?}");
    assert!(ran.err.lines().any(|line| line == "pipe:"), "{ran:?}");
    let writing = |name: &str| File::create(place.path(name)).unwrap();
    let mut directory = jail(&place, &["cat"]);
    directory.stdin(File::open(place.path("work")).unwrap());
    let mut wrong_way_in = jail(&place, &["cat"]);
    wrong_way_in.stdin(writing("out"));
    let mut wrong_way_out = jail(&place, &["cat"]);
    wrong_way_out.stdout(file(&place.path("out")));
    for (command, word) in [(directory, "directory"), (wrong_way_in, "writing only"), (wrong_way_out, "reading only")] {
        let ran = end(command);
        assert!(ran.status == 2 && ran.err.contains(word) && ran.err.contains("standard "), "{word}: {ran:?}");
    }
    assert_eq!(log::of(&place, "task.run").len(), 2, "what was refused was not begun");
}

/// T-07: offsets, locks, flags and what may be reopened with another mode stay the person's.
#[test]
fn the_command_holds_pipes_whatever_the_person_holds() {
    let place = place("");
    let (input, output) = (place.put("input", "x"), place.path("output"));
    let mut command = sh(&place, "for n in 0 1 2; do readlink /proc/self/fd/$n; done; ls /proc/self/fd | wc -l");
    command.stdin(file(&input)).stdout(File::create(&output).unwrap());
    assert_eq!(end(command).status, 0);
    let text = place.read("output");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() == 4 && lines[..3].iter().all(|line| line.starts_with("pipe:")), "{text}");
    // 0, 1, 2 and the listing's own.
    assert_eq!(lines[3].trim(), "4", "{text}");
    // The control: the very files, outside.
    let outside = std::process::Command::new("/bin/sh")
        .args(["-c", "readlink /proc/self/fd/0"])
        .stdin(file(&input))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&outside.stdout).trim(), input.to_str().unwrap());
}

#[test]
fn what_is_appended_is_appended_and_what_shares_a_place_keeps_its_order() {
    let place = place("");
    let path = place.put("log", "before\n");
    let append = File::options().append(true).open(&path).unwrap();
    let mut command = sh(&place, "for n in 1 2 3 4 5 6 7 8 9; do echo out $n; echo err $n >&2; done");
    command.stderr(append.try_clone().unwrap()).stdout(append);
    assert_eq!(end(command).status, 0);
    let text = place.read("log");
    let told: Vec<&str> = text.lines().filter(|line| !line.starts_with("warden: ")).collect();
    let expected = (1..10).flat_map(|n| [format!("out {n}"), format!("err {n}")]);
    assert_eq!(told, std::iter::once("before".to_owned()).chain(expected).collect::<Vec<_>>(), "{text}");
    // The control: two places are two streams.
    let ran = end(sh(&place, "echo out; echo err >&2"));
    assert!(ran.out == "out\n" && ran.err.contains("err\n"), "{ran:?}");
}

#[test]
fn a_full_disk_is_told_and_a_lost_complaint_changes_nothing() {
    let place = place("");
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let mut command = sh(&place, "echo lost");
    command.stdout(full());
    let ran = end(command);
    assert!(ran.status == 125 && ran.err.contains("standard output") && ran.err.contains("ENOSPC"), "{ran:?}");
    let mut command = sh(&place, "echo complaint >&2; echo kept; exit 4");
    command.stderr(full());
    let ran = end(command);
    assert_eq!((ran.out.as_str(), ran.status), ("kept\n", 4), "{ran:?}");
    log::verify_complete(&place);
}

#[test]
fn a_reader_who_stops_reading_keeps_nobody_from_ending_it() {
    let place = place("");
    let mut command = sh(&place, "yes | head -c 200000; echo over > over");
    command.stdin(Stdio::null());
    let mut child = command.spawn().unwrap();
    let broker = i32::try_from(child.id()).unwrap();
    // The command is stuck behind its reader.
    std::thread::sleep(Duration::from_millis(600));
    assert!(!place.path("work/over").exists() && child.try_wait().unwrap().is_none());
    let began = Instant::now();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(broker), nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    // The control: one who reads gets it all.
    assert_eq!(printed(sh(&place, "yes | head -c 200000")).len(), 200_000);
}

#[test]
fn closed_streams_are_nothing_to_read_and_nowhere_to_write() {
    let place = place("");
    let warden = place.command(&[]).get_program().to_owned();
    let shell = |redirections: &str| {
        let line = format!(
            "exec {} jail --policy warden.toml -- sh -c 'cat; echo out; exit 5' {redirections}",
            warden.to_str().unwrap()
        );
        let mut command = std::process::Command::new("/bin/sh");
        command.args(["-c", &line]).current_dir(place.path(".")).env("HOME", place.path("."));
        for (name, value) in place.command(&[]).get_envs() {
            value.map(|value| command.env(name, value));
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        end(command)
    };
    assert_eq!(shell("<&-").status, 5);
    assert_eq!(shell(">&-").status, 5);
    assert_eq!(shell("<&- >&- 2>&-").status, 5);
    let ran = shell("");
    assert_eq!((ran.out.as_str(), ran.status), ("out\n", 5), "{ran:?}");
}

/// No process that compiles or runs guests is started for a command.
#[test]
fn only_cap_proc_is_started() {
    if !is_root() {
        return skipped(
            "another user's command lines can be read by anybody, but the tests' family is looked at as root",
        );
    }
    let place = place("");
    let running = Running::of(sh(&place, "touch up; sleep 60"));
    processes::wait("the command", || place.path("work/up").exists().then_some(()));
    let family = running.family();
    let lines: Vec<&str> = family.members.iter().map(|member| member.line.as_str()).collect();
    assert!(lines.iter().any(|line| line.starts_with("cap-proc --front")), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("warden-sandbox") || line.starts_with("cap-fs")), "{lines:?}");
    running.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(running.end().status, 143);
}
