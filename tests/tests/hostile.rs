//! Hostile peers: every frame that a jailed process could send and must not ends that process and no other (T-05).
//!
//! Twice: the broker's end of a link driven by a raw socket, and a live task whose own link is taken from its worker and
//! its helper and used against the broker, as a worker whose guest has escaped would.

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde_json::json;
use std::io::IoSlice;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};
use tokio::time::Instant as Moment;
use warden_proto::blob::{Body, Part};
use warden_proto::limits::{BODY_MAX_BYTES, FRAME_MAX_BYTES, INLINE_MAX_BYTES};
use warden_proto::msg::error::ErrorCode;
use warden_proto::msg::fs::{FileCheck, FsCall, FsGuestCall, FsReply, GuestTarget, OpenFlags};
use warden_proto::msg::loops::LoopCall;
use warden_proto::msg::policy::PolicyCall;
use warden_proto::msg::worker::{Origin, WorkerCall, WorkerReply};
use warden_proto::{Bytes, FrameSocket, Kind, Text, codec, socket};
use warden_tests::{Family, Place, Process, Task, gate, is_root, log, manifest, processes, sample, skipped};
use wasi_warden::peer::{Peer, PeerError};

fn packet(version: u16, kind: u16, request: u32, body: &[u8]) -> Vec<u8> {
    [&version.to_le_bytes()[..], &kind.to_le_bytes(), &request.to_le_bytes(), body].concat()
}

fn frame(kind: Kind, request: u32, body: &[u8]) -> Vec<u8> {
    packet(1, kind.to_wire(), request, body)
}

fn part(blob: u32, len: usize) -> Vec<u8> {
    let part = Part { blob, bytes: Bytes::new(vec![7; len]).expect("it fits") };
    frame(Kind::Part, 0, &codec::encode(&part).expect("it encodes"))
}

/// Sends a packet as it is, with descriptors, waiting for room; a link that is closed takes nothing more.
fn hurl(fd: &OwnedFd, bytes: &[u8], descriptors: &[i32]) {
    let rights = [ControlMessage::ScmRights(descriptors)];
    let control: &[ControlMessage<'_>] = if descriptors.is_empty() { &[] } else { &rights };
    let _ = sendmsg::<()>(fd.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None);
}

/// Packets of a peer that waits for its first call, each with why it is none of a well-behaved one.
fn hostile() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let reply = |body: &[u8]| frame(Kind::Reply, 1, body);
    let mut all: Vec<(&'static str, Vec<Vec<u8>>)> = vec![
        ("one byte", vec![vec![0]]),
        ("seven bytes", vec![vec![1, 0, 5, 0, 0, 0, 0]]),
        ("garbage", vec![vec![0xff; 64]]),
        ("text", vec![b"GET / HTTP/1.1\r\n\r\n".to_vec()]),
        ("version 0", vec![packet(0, 6, 1, &[0])]),
        ("version 2", vec![packet(2, 6, 1, &[0])]),
        ("version 65535", vec![packet(u16::MAX, 6, 1, &[0])]),
        ("kind 0", vec![packet(1, 0, 1, &[0])]),
        ("kind 11", vec![packet(1, 11, 1, &[0])]),
        ("kind 65535", vec![packet(1, u16::MAX, 1, &[0])]),
        ("a packet longer than a frame", vec![vec![1; FRAME_MAX_BYTES + 1]]),
        ("a hello after the start", vec![frame(Kind::Hello, 0, &[0; 36])]),
        ("a setup", vec![frame(Kind::Setup, 0, &[0; 40])]),
        ("a second locked", vec![frame(Kind::Locked, 0, &[0; 16])]),
        ("a cancel", vec![frame(Kind::Cancel, 1, &[])]),
        ("a call of a helper's", vec![frame(Kind::Call, 1, &[0; 4])]),
        ("output of a helper's", vec![frame(Kind::Output, 0, &[0; 4])]),
        ("a finish of a helper's", vec![frame(Kind::Finish, 0, &[0; 4])]),
        ("a goodbye", vec![frame(Kind::Goodbye, 0, &[])]),
        ("a reply to nobody", vec![frame(Kind::Reply, 2, &[0; 4])]),
        ("a reply to request 0", vec![frame(Kind::Reply, 0, &[0; 4])]),
        ("a reply to the last request there can be", vec![frame(Kind::Reply, u32::MAX, &[0; 4])]),
        ("an empty reply", vec![reply(&[])]),
        ("a reply cut short", vec![reply(&[3, 0, 0])]),
        ("a reply with bytes behind it", vec![reply(&[4, 0, 0, 0, 0, 0, 0, 0, b'a', b'b', b'c', b'd', b'e'])]),
        ("a length of 2^64 - 1", vec![reply(&[0xff; 8])]),
        ("a length of 2^40", vec![reply(&(1_u64 << 40).to_le_bytes())]),
        ("a length beyond the bound", vec![reply(&[&65_u64.to_le_bytes()[..], &[b'a'; 65]].concat())]),
        ("text that is no UTF-8", vec![reply(&[&2_u64.to_le_bytes()[..], &[0xc3, 0x28]].concat())]),
        ("a part that is none", vec![frame(Kind::Part, 0, &[1, 2, 3])]),
        (
            "a part with a length of its own",
            vec![frame(Kind::Part, 0, &[&1_u32.to_le_bytes()[..], &[0xff; 8]].concat())],
        ),
        ("five payloads at once", (0..5).map(|blob| part(blob, 1)).collect()),
    ];
    let too_much = (1 << 20) / INLINE_MAX_BYTES + 1;
    all.push(("more than a mebibyte in parts", (0..too_much).map(|_| part(1, INLINE_MAX_BYTES)).collect()));
    all
}

/// A text of at most 64 bytes stands for any reply here.
type Answer = warden_proto::Text<64>;

/// One call, as a task makes it.
async fn call(peer: &mut Peer, patience: Duration) -> Result<Answer, PeerError> {
    let deadline = Moment::now() + patience;
    let request = peer.begin_call(&7_u32, deadline).await?;
    tokio::time::timeout_at(deadline, peer.reply::<Answer>(request)).await.map_err(|_| PeerError::Silent)?
}

/// Asks a peer that sends `packets` and then ends.
async fn asked(packets: &[Vec<u8>], descriptors: &[i32]) -> Result<Answer, PeerError> {
    let (ours, theirs) = socket::pair().expect("a pair");
    let mut peer = Peer::new(ours)?;
    let (packets, descriptors) = (packets.to_vec(), descriptors.to_vec());
    let sender = std::thread::spawn(move || {
        packets.iter().for_each(|packet| hurl(&theirs, packet, &descriptors));
        // The call must find somebody there, so that it is the packets that are judged.
        std::thread::sleep(Duration::from_millis(20));
    });
    let answer = call(&mut peer, Duration::from_secs(2)).await;
    drop(peer);
    sender.join().expect("the sender ends");
    answer
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(future)
}

fn good_reply() -> Vec<u8> {
    frame(Kind::Reply, 1, &codec::encode(&Answer::new("fine").unwrap()).unwrap())
}

#[test]
fn every_hostile_frame_is_refused_and_no_other_peer_suffers() {
    let table = hostile();
    assert!(table.len() >= 30);
    block_on(async {
        for (what, packets) in &table {
            let refused = asked(packets, &[]).await;
            assert!(matches!(refused, Err(PeerError::Refused(_))), "{what}: {refused:?}");
            // The control, each time: a peer that behaves is answered.
            let fine = asked(&[good_reply()], &[]).await;
            assert_eq!(fine.expect("a good reply").as_str(), "fine", "after {what}");
        }
    });
}

#[test]
fn descriptors_that_were_not_asked_for_are_refused_and_closed() {
    block_on(async {
        let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let before = open();
        for count in [1, 2, 16, 64] {
            let refused = asked(&[good_reply()], &vec![0; count]).await;
            assert!(matches!(refused, Err(PeerError::Refused(_))), "{count}: {refused:?}");
        }
        // Other tests of this program open and close theirs meanwhile; a leak of 83 would be seen.
        assert!(open() < before + 60, "{} and {before}", open());
    });
}

#[test]
fn a_silent_peer_and_one_that_is_gone_are_told_apart() {
    block_on(async {
        let gone = asked(&[], &[]).await;
        assert!(matches!(gone, Err(PeerError::Gone)), "{gone:?}");
        let (ours, theirs) = socket::pair().unwrap();
        let mut peer = Peer::new(ours).unwrap();
        let silent = call(&mut peer, Duration::from_millis(50)).await;
        assert!(matches!(silent, Err(PeerError::Silent)), "{silent:?}");
        // Parts for ever are no answer either: the bound ends them, or the clock.
        hurl(&theirs, &part(1, 1), &[]);
        let silent = call(&mut peer, Duration::from_millis(50)).await;
        assert!(matches!(silent, Err(PeerError::Silent)), "{silent:?}");
    });
}

/// A peer that does not read is not waited for without end.
#[test]
fn a_peer_that_does_not_read_is_stuck() {
    block_on(async {
        let (ours, _theirs) = socket::pair().unwrap();
        let mut peer = Peer::new(ours).unwrap();
        let body = vec![0_u8; 900_000];
        let mut outcome = Ok(());
        let began = Instant::now();
        for _ in 0..16 {
            let deadline = Moment::now() + Duration::from_millis(100);
            if let Err(error) = peer.place(body.clone(), 0, deadline).await {
                outcome = Err(error);
                break;
            }
        }
        assert!(matches!(outcome, Err(PeerError::Stuck)), "{outcome:?}");
        assert!(began.elapsed() < Duration::from_secs(5));
    });
}

/// A small generator: the same numbers in every run, so that a failure can be found again.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

/// A hundred thousand packets, random and nearly right: each is a frame or refused, and nothing panics or grows.
#[test]
fn a_hundred_thousand_random_frames_do_no_harm() {
    use warden_proto::msg::worker::{Finish, Output};
    let (ours, theirs) = socket::pair().unwrap();
    let mut link = FrameSocket::new(ours);
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let (mut frames, mut refused, mut decoded) = (0, 0, 0);
    for turn in 0..100_000_u32 {
        let len = (numbers.next() % 96) as usize;
        let body = numbers.bytes(len);
        let bytes = match turn % 4 {
            // At least one byte: an empty packet is the end of a link.
            0 => [body, vec![1]].concat(),
            1 => packet(1, (numbers.next() % 12) as u16, turn, &body),
            // Small numbers are where tags and lengths lie.
            2 => frame(Kind::Call, turn, &body.iter().map(|byte| byte % 5).collect::<Vec<u8>>()),
            _ => frame(Kind::Output, turn, &body.iter().map(|byte| byte % 3).collect::<Vec<u8>>()),
        };
        hurl(&theirs, &bytes, &[]);
        match link.try_receive(0) {
            Ok(frame) => {
                frames += 1;
                decoded += u32::from(frame.decode::<WorkerCall>().is_ok());
                decoded += u32::from(frame.decode::<Output>().is_ok());
                decoded += u32::from(frame.decode::<Finish>().is_ok());
                let _ = frame.decode::<Part>();
            }
            Err(_) => refused += 1,
        }
    }
    assert_eq!(frames + refused, 100_000);
    assert!(frames > 50_000 && refused > 10_000 && decoded > 0, "{frames} {refused} {decoded}");
    const { assert!(BODY_MAX_BYTES < FRAME_MAX_BYTES) };
}

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
            let records = log::of(&place, "task.process");
            let locked = records.iter().filter(|record| record["role"] == "worker").count() > at;
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
        let before = log::of(place, "task.process").len();
        let running = place.start(&["--json", "run", "--timeout", "40s", "--config", &config, &file]);
        let broker = running.pid();
        let worker = processes::wait("a worker at work", || {
            (log::of(place, "task.process").len() > before).then(|| Family::of(broker).worker()).flatten()
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
        self.say(&WorkerCall::Fs { origin: Origin::Import, call })
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
        WorkerCall::Fs { origin: Origin::Action, call: FsCall::Metadata { target: target() } },
        WorkerCall::Policy { origin: Origin::Action, call: PolicyCall::Describe },
        WorkerCall::Fs { origin: Origin::Import, call: FsCall::Check { target: target(), check: FileCheck::Exists } },
        WorkerCall::Fs {
            origin: Origin::Import,
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

/// A helper that answers what nobody asked is ended, its call told as lost, and the task goes on with a new one.
#[test]
fn a_live_helper_that_breaks_the_protocol_is_replaced_and_the_task_goes_on() {
    if !is_root() {
        return skipped("only root can take a process's link");
    }
    for (what, packets) in hostile().into_iter().step_by(3) {
        let place = Place::new();
        place.work_policy(gate::COMMAND);
        place.put("work/a.txt", "hello");
        let read = ("fs.read_file", json!({"path": "work:a.txt"}));
        let running = Task::runbook(&[read.clone(), gate::step(1), read.clone(), read]).start(&place);
        gate::reached(&place, 1);
        let helper = running.family().role("cap-fs").expect("cap-fs");
        let link = taken(&helper, 3);
        for packet in &packets {
            hurl(&link, packet, &[]);
        }
        drop(link);
        gate::open(&place, 1);
        let object = running.end().outcome("unverified");
        let actions = manifest::actions(&object);
        let lost = manifest::failed(&actions[2], "unavailable");
        assert!(lost["message"].as_str().unwrap().contains("broke the protocol"), "{what}: {lost}");
        assert_eq!(manifest::succeeded(&actions[3])["contents"], "hello", "{what}");
        assert!(!helper.lives(), "{what}");
        log::verify_complete(&place);
    }
}
