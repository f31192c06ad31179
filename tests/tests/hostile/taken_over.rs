//! A live task whose own link is taken from its worker or its helper and used against the broker.

use crate::{frame, hostile, hurl};
use serde_json::{Value, json};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};
use warden_proto::blob::Body;
use warden_proto::msg::error::ErrorCode;
use warden_proto::msg::fs::{FileCheck, FsCall, FsGuestCall, FsHelperReply, FsReply, GuestTarget, OpenFlags};
use warden_proto::msg::loops::LoopCall;
use warden_proto::msg::policy::PolicyCall;
use warden_proto::msg::proc::{GuestCommand, ProcCall, ProcReply};
use warden_proto::msg::worker::{Origin, WorkerCall, WorkerReply};
use warden_proto::{Bytes, FrameSocket, Kind, List, Text, codec};
use warden_tests::{Family, Place, Process, Running, Task, gate, is_root, log, manifest, processes, sample, skipped};

/// Takes descriptor `number` out of a process, as whoever has taken the process over could use it.
fn taken(process: &Process, number: u32) -> OwnedFd {
    // SAFETY: plain numbers; the answer is a new descriptor or -1.
    let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, process.pid, 0) };
    assert!(pidfd >= 0, "pidfd_open: {}", std::io::Error::last_os_error());
    // SAFETY: pidfd_open has just made this descriptor; nobody else owns it.
    let pidfd = unsafe { OwnedFd::from_raw_fd(i32::try_from(pidfd).unwrap()) };
    // SAFETY: plain numbers; the answer is a new descriptor or -1.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0) };
    assert!(fd >= 0, "pidfd_getfd: {}", std::io::Error::last_os_error());
    // SAFETY: pidfd_getfd has just made this descriptor; nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap()) }
}

fn link_of(process: &Process) -> OwnedFd {
    let held = process.descriptors();
    let (number, _) = held.iter().find(|(_, what)| what.starts_with("socket:")).expect("it has a link");
    taken(process, *number)
}

/// A worker that speaks out of turn is ended with `refused`, and a second `warden` beside it goes on.
#[test]
fn a_live_worker_that_breaks_the_protocol_is_ended_alone() {
    if !is_root() {
        return skipped("only root can take a process's link");
    }
    let beside = Place::new();
    beside.work_policy(gate::COMMAND);
    let other = Task::runbook(&[gate::step(1), ("fs.list_dir", json!({"path": "work:"}))]).start(&beside);
    gate::reached(&beside, 1);
    let mut cases = hostile();
    // What a helper may and a worker may not, and the other way round.
    cases.retain(|(what, _)| !what.starts_with("output") && !what.starts_with("a finish"));
    let place = Place::new();
    let config = place.policy("").display().to_string();
    let file = sample("loop.wat").display().to_string();
    for (at, (what, packets)) in cases.iter().enumerate() {
        let running = place.start(&["--json", "run", "--timeout", "40s", "--config", &config, &file]);
        let broker = running.pid();
        let worker = processes::wait("a worker at work", || {
            let locked = log::processes(&place, "worker", "locked").len() > at;
            locked.then(|| Family::of(broker).worker()).flatten()
        });
        let link = link_of(&worker);
        let began = Instant::now();
        for packet in packets {
            hurl(&link, packet, &[]);
        }
        drop(link);
        let ran = running.end();
        // Parts are a worker's right up to their bound; all else is none of its frames while a program runs.
        eprintln!("{what}");
        let object = ran.fails("refused", 125);
        assert!(began.elapsed() < Duration::from_secs(3), "{what}: {:?}", began.elapsed());
        assert!(!worker.lives(), "{what}: {object}");
    }
    gate::open(&beside, 1);
    other.end().outcome("unverified");
    log::verify_complete(&place);
}

/// Speaks for the worker of a guest that never ends: the calls are right in form.
struct Impostor {
    running: warden_tests::Running,
    link: FrameSocket,
    request: u32,
}

impl Impostor {
    fn of(place: &Place) -> Self {
        let config = place.path("warden.toml").display().to_string();
        let file = sample("loop.wat").display().to_string();
        let before = log::processes(place, "worker", "locked").len();
        let running = place.start(&["--json", "run", "--timeout", "40s", "--config", &config, &file]);
        let broker = running.pid();
        let worker = processes::wait("a worker at work", || {
            (log::processes(place, "worker", "locked").len() > before).then(|| Family::of(broker).worker()).flatten()
        });
        Self { running, link: FrameSocket::new(link_of(&worker)), request: 1000 }
    }

    fn say(&mut self, call: &WorkerCall) -> Result<WorkerReply, String> {
        self.request += 1;
        self.link.send(Kind::Call, self.request, call, &[], true).map_err(|e| e.to_string())?;
        let deadline = Some(Instant::now() + Duration::from_secs(5));
        let frame = self.link.receive(0, deadline).map_err(|e| e.to_string())?;
        frame.decode().map_err(|e| e.to_string())
    }

    fn fs(&mut self, call: FsGuestCall) -> Result<WorkerReply, String> {
        self.say(&WorkerCall::Fs { origin: Origin::Import, base64: false, call })
    }
}

fn refused_with(reply: Result<WorkerReply, String>, code: ErrorCode) {
    match reply {
        Ok(WorkerReply::Error(error)) => assert_eq!(error.code, code, "{error:?}"),
        other => panic!("{other:?}"),
    }
}

/// T-11: a number is worth something only in the task that was given it.
#[test]
fn handles_of_another_task_and_made_up_ones_name_nothing() {
    if !is_root() {
        return skipped("only root can take a process's link");
    }
    let with_files = || {
        let place = Place::new();
        place.work_policy("");
        place.put("work/a.txt", "hello");
        place
    };
    let (one, two) = (with_files(), with_files());
    let (mut first, mut second) = (Impostor::of(&one), Impostor::of(&two));
    let target = GuestTarget::Path { path: Text::new("work:a.txt").unwrap() };
    let flags = OpenFlags { read: true, ..OpenFlags::default() };
    let opened = first.fs(FsCall::OpenFile { target, flags });
    let Ok(WorkerReply::Fs(FsReply::Opened { handle, .. })) = opened else { panic!("{opened:?}") };
    // The control: it reads in the task that opened it.
    let read = first.fs(FsCall::Read { file: handle, max_bytes: 9 });
    assert!(matches!(&read, Ok(WorkerReply::Fs(FsReply::Data { bytes })) if **bytes == *b"hello"), "{read:?}");
    refused_with(second.fs(FsCall::Read { file: handle, max_bytes: 9 }), ErrorCode::NotFound);
    for number in [0, 1, 2, 3, 4, 7, 255, u32::MAX] {
        refused_with(second.fs(FsCall::Read { file: number, max_bytes: 9 }), ErrorCode::NotFound);
        refused_with(second.fs(FsCall::Close { handle: number }), ErrorCode::NotFound);
        let at = GuestTarget::At { dir: number, path: Text::new("a.txt").unwrap() };
        refused_with(second.fs(FsCall::Metadata { target: at }), ErrorCode::NotFound);
    }
    // A file that was opened for reading is not written to, whoever asks.
    let write = FsCall::Write { file: handle, bytes: Bytes::new(b"x".to_vec()).unwrap() };
    refused_with(first.fs(write), ErrorCode::Denied);
    assert_eq!(one.read("work/a.txt"), "hello");
}

/// What is right in form and comes when it may not: a turn of a loop where there is none, an action outside of a plan, the
/// broker's own question, an output that was promised and never sent.
#[test]
fn calls_out_of_their_state_end_the_worker() {
    if !is_root() {
        return skipped("only root can take a process's link");
    }
    let target = || GuestTarget::Path { path: Text::new("work:a.txt").unwrap() };
    let unsent = Body::Sent { blob: 9, len: 5 };
    let calls = [
        WorkerCall::Loop { call: LoopCall::BeginStep },
        WorkerCall::Loop { call: LoopCall::Plan { thought: Text::default() } },
        WorkerCall::Loop { call: LoopCall::Complete { reason: Text::default(), outcome: unsent.clone() } },
        WorkerCall::Fs { origin: Origin::Action, base64: false, call: FsCall::Metadata { target: target() } },
        WorkerCall::Policy { origin: Origin::Action, call: PolicyCall::Describe },
        WorkerCall::Fs {
            origin: Origin::Import,
            base64: false,
            call: FsCall::Check { target: target(), check: FileCheck::Exists },
        },
        WorkerCall::Fs {
            origin: Origin::Import,
            base64: false,
            call: FsCall::WriteFile { target: target(), contents: unsent, append: false, parents: false },
        },
    ];
    let place = Place::new();
    place.work_policy("");
    place.put("work/a.txt", "hello");
    for call in calls {
        let mut impostor = Impostor::of(&place);
        // The control: a call in its state is answered.
        let fine = impostor.fs(FsCall::Metadata { target: target() });
        assert!(matches!(fine, Ok(WorkerReply::Fs(FsReply::Metadata { .. }))), "{fine:?}");
        let reply = impostor.say(&call);
        assert!(reply.is_err(), "{call:?}: {reply:?}");
        impostor.running.end().fails("refused", 125);
    }
    assert_eq!(place.read("work/a.txt"), "hello");
    log::verify_complete(&place);
}

/// A cap-fs between two reads of its task, and its end of the link in our hands.
struct TakenHelper {
    place: Place,
    running: Running,
    helper: Process,
    link: OwnedFd,
}

/// What became of it: the second read and a third are done.
struct After {
    place: Place,
    helper: Process,
    actions: Vec<Value>,
}

impl TakenHelper {
    fn new() -> Self {
        let place = Place::new();
        place.work_policy(gate::COMMAND);
        place.put("work/a.txt", "hello");
        let read = ("fs.read_file", json!({"path": "work:a.txt"}));
        let running = Task::runbook(&[read.clone(), gate::step(1), read.clone(), read]).start(&place);
        gate::reached(&place, 1);
        let helper = running.family().role("cap-fs").expect("cap-fs");
        let link = taken(&helper, 3);
        Self { place, running, helper, link }
    }

    fn go_on(self) -> After {
        let Self { place, running, helper, link } = self;
        drop(link);
        gate::open(&place, 1);
        let actions = manifest::actions(&running.end().outcome("unverified"));
        After { place, helper, actions }
    }
}

impl After {
    #[track_caller]
    fn replaced(&self, what: &str) {
        let lost = manifest::failed(&self.actions[2], "unavailable");
        assert!(lost["message"].as_str().unwrap().contains("broke the protocol"), "{what}: {lost}");
        assert_eq!(manifest::succeeded(&self.actions[3])["contents"], "hello", "{what}");
        assert!(!self.helper.lives(), "{what}");
        log::verify_complete(&self.place);
    }
}

/// A helper that answers what nobody asked is ended, its call told as lost, and the task goes on with a new one.
#[test]
fn a_live_helper_that_breaks_the_protocol_is_replaced_and_the_task_goes_on() {
    if !is_root() {
        return skipped("only root can take a process's link");
    }
    for (what, packets) in hostile().into_iter().step_by(3) {
        let taken = TakenHelper::new();
        for packet in &packets {
            hurl(&taken.link, packet, &[]);
        }
        taken.go_on().replaced(what);
    }
}

/// T-05: an answer that is right in form and of another kind than was asked is out of its state, and ends the helper. One of
/// the right kind is taken: what a helper says of the thing that it holds is its own.
#[test]
fn a_live_helper_that_answers_another_question_is_replaced() {
    if !is_root() {
        return skipped("only root can take a process's link");
    }
    let forged = Body::Inline { bytes: Bytes::new(b"forged".to_vec()).unwrap() };
    let cases: [(&str, FsReply, bool); 5] = [
        ("done", FsReply::Done, false),
        ("a handle", FsReply::Opened { handle: 3, size_bytes: 5 }, false),
        ("a write", FsReply::Written { bytes: 5, grown: 5 }, false),
        ("a predicate", FsReply::Checked { met: true, detail: Text::default() }, false),
        ("contents", FsReply::Content { contents: forged, truncated: false }, true),
    ];
    for (what, answer, fits) in cases {
        let taken = TakenHelper::new();
        // The second call of this peer's is the one that comes after the gate.
        let reply: FsHelperReply = Ok(answer);
        hurl(&taken.link, &frame(Kind::Reply, 2, &codec::encode(&reply).unwrap()), &[]);
        let after = taken.go_on();
        if fits {
            assert_eq!(manifest::succeeded(&after.actions[2])["contents"], "forged", "{what}");
            continue;
        }
        after.replaced(what);
    }
}

/// `warden run` has the commands of its policy too: whoever speaks for its worker can run what the policy names, as it names
/// it, in a jail, and nothing else (T-07).
#[test]
fn a_run_has_the_commands_of_its_policy_and_no_other() {
    if !is_root() {
        return skipped("only root can take a process's link");
    }
    let place = Place::new();
    place.work_policy(gate::COMMAND);
    let mut impostor = Impostor::of(&place);
    let mut run = |command: &str, args: &[&str]| {
        let args = args.iter().map(|arg| Text::new(*arg).unwrap()).collect::<Vec<_>>();
        let command = GuestCommand {
            command: Text::new(command).unwrap(),
            args: List::new(args).unwrap(),
            cwd: None,
            env: List::default(),
            timeout_ms: None,
        };
        let stdin = Body::Inline { bytes: Bytes::default() };
        let call = ProcCall::Run { command, stdin, output_max_bytes: 1000 };
        impostor.say(&WorkerCall::Proc { origin: Origin::Import, alias: Text::default(), call })
    };
    let ran = run("gate", &["-c", "echo hi; grep NoNewPrivs /proc/self/status"]);
    let Ok(WorkerReply::Proc(ProcReply::Ran { exit, stdout: Body::Inline { bytes }, .. })) = &ran else {
        panic!("{ran:?}");
    };
    let said = String::from_utf8_lossy(bytes);
    assert!(exit.code == Some(0) && said.starts_with("hi\n") && said.contains("NoNewPrivs:\t1"), "{exit:?} {said}");
    refused_with(run("curl", &["http://x"]), ErrorCode::Denied);
    refused_with(run("gate", &["-x"]), ErrorCode::Denied);
    refused_with(run("/bin/sh", &["-c", "echo hi"]), ErrorCode::Denied);
    let begun = log::of(&place, "proc.spawn").iter().filter(|record| record["phase"] == "begin").count();
    assert_eq!(begun, 1, "only the first was begun");
}

/// T-10: a command of the policy whose program others can change stops `warden run` before anything is started.
#[test]
fn a_run_under_a_policy_whose_program_others_can_change_is_refused() {
    let place = Place::new();
    let program = place.write("program", "#!/bin/sh\n");
    place.work_policy("[[proc.command]]\nname = \"p\"\npath = \"program\"\n");
    let mode = |mode: u32| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(&program, mode).unwrap();
    };
    mode(0o777);
    place.module(&sample("hello.wat"), &[]).fails("invalid-argument", 2);
    assert!(log::records(&place).is_empty(), "nothing was started");
    mode(0o755);
    place.module(&sample("hello.wat"), &[]).exits(0);
}
