//! What the kernel says of the processes while they work, and what happens when one of them dies.
//!
//! Code is compiled before a worker is forked: it waits two seconds for its setup, as a test here shows, and not longer.

mod rig;
#[path = "../../tests/src/skip.rs"]
mod skip;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use rig::{Template, compile, memfd, program, send_setup};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use warden_proto::msg::life::Hello;
use warden_proto::msg::worker::{End, WorkerSetup};
use warden_proto::{FrameSocket, Kind, SocketError, codec, socket};

const SPIN: &str = r#"(module (func (export "_start") (loop br 0)))"#;

fn status(pid: i32, field: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)).expect(field);
    line.trim_start_matches(':').trim().to_owned()
}

fn open_descriptors(pid: i32) -> Vec<(u32, PathBuf)> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("run as root: a jailed process is not dumpable");
    let mut open: Vec<_> = entries
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().to_str().unwrap().parse().unwrap(), std::fs::read_link(entry.path()).unwrap()))
        .collect();
    open.sort();
    open
}

fn skipped() -> bool {
    if nix::unistd::geteuid().is_root() {
        return false;
    }
    crate::skip::skipped("/proc of an undumpable process can be read by root only");
    true
}

#[test]
fn a_running_worker_is_jailed_and_holds_its_link_alone() {
    if skipped() {
        return;
    }
    let (template, code) = (Template::start(), compile(SPIN.as_bytes(), false).unwrap());
    let _other = template.fork();
    let mut worker = template.fork();
    let locked = worker.begin(&program(), &code);
    assert_eq!(status(worker.pid, "NoNewPrivs"), "1");
    assert_eq!(status(worker.pid, "Seccomp"), "2");
    assert_eq!(status(worker.pid, "Seccomp_filters"), "2");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(status(worker.pid, set), "0000000000000000", "{set}");
    }
    assert_eq!(status(worker.pid, "Threads"), "1");
    let open = open_descriptors(worker.pid);
    assert!(matches!(open.as_slice(), [(_, path)] if path.to_string_lossy().starts_with("socket:")), "{open:?}");
    assert_eq!(locked.descriptors.into_vec(), vec![open[0].0], "its own list says the same");
    assert_eq!(locked.seccomp_filters, 2);
    assert_eq!(i32::try_from(locked.pid), Ok(worker.pid));
    assert!(locked.degraded.is_empty(), "{:?}", locked.degraded);
}

#[test]
fn no_page_of_a_worker_is_writable_and_executable_and_it_cannot_be_read() {
    if skipped() {
        return;
    }
    let (template, code) = (Template::start(), compile(SPIN.as_bytes(), false).unwrap());
    let mut worker = template.fork();
    worker.begin(&program(), &code);
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", worker.pid)).unwrap();
    assert!(!maps.lines().any(|line| line.contains("rwx") || line.contains("-wx")), "{maps}");
    // The control: the guest's own code is there, executable, from the memfd.
    assert!(maps.lines().any(|line| line.contains("r-x") && line.contains("memfd")), "{maps}");
    // Undumpable: its files in /proc belong to root whoever runs it.
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", worker.pid)).unwrap();
    assert!(limits.lines().any(|line| line.starts_with("Max core file size") && line.contains(" 0 ")), "{limits}");
    assert!(limits.lines().any(|line| line.starts_with("Max file size") && line.contains(" 0 ")), "{limits}");
    assert!(limits.lines().any(|line| line.starts_with("Max open files") && line.contains(" 64 ")), "{limits}");
}

#[test]
fn the_template_is_jailed_before_its_first_fork() {
    if skipped() {
        return;
    }
    let template = Template::start();
    assert_eq!(status(template.pid(), "NoNewPrivs"), "1");
    assert_eq!(status(template.pid(), "Seccomp_filters"), "1");
    assert_eq!(status(template.pid(), "CapEff"), "0000000000000000");
    assert_eq!(status(template.pid(), "Threads"), "1");
    let numbers: Vec<u32> = open_descriptors(template.pid()).into_iter().map(|(number, _)| number).collect();
    assert_eq!(numbers, [0, 1, 2, 3]);
}

#[test]
fn two_workers_run_at_once_and_one_does_not_feel_the_others_death() {
    let template = Template::start();
    let code = compile(SPIN.as_bytes(), false).unwrap();
    let hello = compile(rig::HELLO.as_bytes(), false).unwrap();
    let (mut first, mut second) = (template.fork(), template.fork());
    assert_ne!(first.pid, second.pid);
    first.begin(&program(), &code);
    second.begin(&program(), &hello);
    kill(Pid::from_raw(first.pid), Signal::SIGKILL).unwrap();
    assert_eq!(first.reap(), WaitStatus::Signaled(Pid::from_raw(first.pid), Signal::SIGKILL, false));
    let soon = Instant::now() + Duration::from_secs(2);
    assert!(matches!(first.link.receive(0, Some(soon)), Err(SocketError::Closed)), "the broker sees the death at once");
    let ran = second.finish(&mut |call| panic!("{call:?}"));
    assert_eq!((ran.stdout.as_slice(), ran.end()), (&b"hello\n"[..], &End::Exited { code: 3 }));
    assert_eq!(template.run_wat(rig::HELLO).end(), &End::Exited { code: 3 });
}

#[test]
fn a_worker_ends_when_its_link_does() {
    let template = Template::start();
    let flood = r#"(module
      (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1) (data (i32.const 0) "\10\00\00\00\06\00\00\00")
      (func (export "_start") (loop (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32))) br 0)))"#;
    let code = compile(flood.as_bytes(), false).unwrap();
    let mut worker = template.fork();
    worker.begin(&program(), &code);
    let (spare, _) = socket::pair().unwrap();
    drop(std::mem::replace(&mut worker.link, FrameSocket::new(spare)));
    let ended = Instant::now();
    assert_eq!(worker.reap(), WaitStatus::Exited(Pid::from_raw(worker.pid), 70));
    assert!(ended.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_worker_with_a_wrong_start_ends_and_says_nothing() {
    let template = Template::start();
    let code = compile(SPIN.as_bytes(), false).unwrap();
    let document = codec::encode(&program()).unwrap();
    let cut = &document[..document.len() - 1];
    for (document, descriptors) in [(cut, 1), (&b"garbage"[..], 1), (&document[..], 0), (&document[..], 2)] {
        let mut worker = template.fork();
        let code = memfd(&code, true);
        send_setup(&mut worker.link, document, &vec![code.as_fd(); descriptors]);
        assert_eq!(worker.reap(), WaitStatus::Exited(Pid::from_raw(worker.pid), 70), "{descriptors}");
        let hello: Hello = worker.link.receive(0, None).unwrap().decode().unwrap();
        assert_eq!(hello.build_id, warden_proto::build_id());
        assert!(matches!(worker.link.receive(0, None), Err(SocketError::Closed)), "never locked, never served");
    }
    let mut worker = template.fork();
    worker.link.send(Kind::Goodbye, 0, &(), &[], true).unwrap();
    assert_eq!(worker.reap(), WaitStatus::Exited(Pid::from_raw(worker.pid), 70));
}

#[test]
fn a_worker_that_gets_no_setup_ends_by_itself() {
    let template = Template::start();
    let mut worker = template.fork();
    let forked = Instant::now();
    assert_eq!(worker.reap(), WaitStatus::Exited(Pid::from_raw(worker.pid), 70));
    assert!(forked.elapsed() > Duration::from_millis(1500), "{:?}", forked.elapsed());
}

#[test]
fn worker_and_template_die_with_the_spawner() {
    // A death signal is for the end of the thread that is the parent: here a thread plays the spawner.
    let (worker, template) = std::thread::spawn(|| {
        let (template, code) = (Template::start(), compile(SPIN.as_bytes(), false).unwrap());
        let mut worker = template.fork();
        worker.begin(&WorkerSetup { wall_ms: 60_000, ..program() }, &code);
        let pids = (worker.pid, template.pid());
        std::mem::forget(worker);
        std::mem::forget(template);
        pids
    })
    .join()
    .unwrap();
    for pid in [worker, template] {
        let died = nix::sys::wait::waitpid(Pid::from_raw(pid), None).unwrap();
        assert_eq!(died, WaitStatus::Signaled(Pid::from_raw(pid), Signal::SIGKILL, false));
    }
}

#[test]
fn many_workers_one_after_another_leave_nothing_behind() {
    let template = Template::start();
    let code = compile(rig::HELLO.as_bytes(), false).unwrap();
    for _ in 0..100 {
        assert_eq!(template.run_code(&code, program()).end(), &End::Exited { code: 3 });
    }
    if !skipped() {
        assert_eq!(open_descriptors(template.pid()).len(), 4);
    }
}

#[test]
fn started_by_hand_the_program_refuses() {
    let refused = std::process::Command::new(env!("CARGO_BIN_EXE_warden-sandbox")).output().unwrap();
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("never by hand"));
    let id = |_| std::process::Command::new(env!("CARGO_BIN_EXE_warden-sandbox")).arg("--engine-id").output().unwrap();
    let ids = [(); 2].map(|()| id(()).stdout);
    assert_eq!(ids[0], ids[1]);
    assert_eq!(ids[0].len(), 65);
}
