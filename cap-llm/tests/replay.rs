//! The real `cap-llm` in its real jail, driven over its link as the broker drives it.
#![forbid(unsafe_code)]

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use warden_proto::blob::{self, Inbox};
use warden_proto::msg::error::ErrorCode;
use warden_proto::msg::life::{Hello, Locked, Role, Setup};
use warden_proto::msg::llm::*;
use warden_proto::{FrameSocket, Kind, List, Text, build_id, codec, socket};

/// A running helper and the broker's end of its link.
struct Helper {
    child: Child,
    link: FrameSocket,
    inbox: Inbox,
    locked: Locked,
    calls: u32,
}

fn sealed(bytes: &[u8]) -> OwnedFd {
    let mut file = File::from(memfd_create("test", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap());
    file.write_all(bytes).unwrap();
    fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK)).unwrap();
    file.into()
}

/// Starts the program with its end of the link as descriptor 3; the shell only moves it there.
fn start() -> (Child, FrameSocket) {
    let (ours, theirs) = socket::pair().unwrap();
    let child = Command::new("/bin/sh")
        .args(["-c", "exec \"$0\" 3<&0 0</dev/null", env!("CARGO_BIN_EXE_cap-llm")])
        .env_clear()
        .stdin(Stdio::from(theirs))
        .spawn()
        .unwrap();
    (child, FrameSocket::new(ours))
}

fn deadline() -> Option<Instant> {
    Some(Instant::now() + Duration::from_secs(5))
}

fn send_setup(link: &mut FrameSocket, build_id: [u8; 32], recording: &[u8]) {
    let setup = LlmSetup { task: [7; 16], provider: Provider::Replay, model: Text::cut("replay"), calls_before: 0 };
    let document = codec::encode(&setup).unwrap();
    let (file, recording) = (sealed(&document), sealed(recording));
    let frame = Setup { build_id, document_len: document.len().try_into().unwrap(), descriptors: 1 };
    link.send(Kind::Setup, 0, &frame, &[file.as_fd(), recording.as_fd()], true).unwrap();
}

impl Helper {
    fn with(recording: &str) -> Self {
        let (child, mut link) = start();
        send_setup(&mut link, build_id(), recording.as_bytes());
        let hello: Hello = link.receive(0, deadline()).unwrap().decode().unwrap();
        assert_eq!((hello.build_id, hello.role), (build_id(), Role::CapLlm));
        let frame = link.receive(0, deadline()).unwrap();
        assert_eq!(frame.kind, Kind::Locked);
        let locked = frame.decode().unwrap();
        Self { child, link, inbox: Inbox::default(), locked, calls: 0 }
    }

    fn ask(&mut self, last: &str, tools: bool) -> LlmHelperReply {
        self.calls += 1;
        let message = Message { role: MessageRole::User, content: Text::new(last).unwrap(), name: None };
        let conversation = Conversation { messages: List::new(vec![message]).unwrap(), tools: List::default() };
        let bytes = codec::encode(&conversation).unwrap();
        let conversation = blob::send(&mut self.link, self.calls, bytes, 1024).unwrap();
        let call = LlmCall { conversation, tools, options: LlmOptions::default() };
        self.link.send(Kind::Call, self.calls, &call, &[], true).unwrap();
        loop {
            let frame = self.link.receive(0, deadline()).unwrap();
            if frame.kind == Kind::Part {
                self.inbox.put(frame.decode().unwrap()).unwrap();
                continue;
            }
            assert_eq!((frame.kind, frame.request), (Kind::Reply, self.calls));
            return frame.decode().unwrap();
        }
    }

    fn text(&mut self, last: &str) -> String {
        let reply = self.ask(last, false).unwrap();
        assert_eq!(reply.mismatch, None);
        String::from_utf8(self.inbox.take(reply.content).unwrap()).unwrap()
    }

    fn ends(mut self) -> ExitStatus {
        ended(&mut self.child)
    }
}

fn ended(child: &mut Child) -> ExitStatus {
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    panic!("cap-llm did not end");
}

#[test]
fn a_recording_is_answered_line_by_line_and_then_unavailable() {
    let mut helper =
        Helper::with("{\"content\":\"one\"}\n{\"content\":\"two\",\"expect\":\"^go$\"}\n{\n{\"content\":\"four\"}\n");
    assert_eq!(helper.text("anything"), "one");
    assert_eq!(helper.text("go"), "two");
    let error = helper.ask("x", false).unwrap_err();
    assert_eq!(error.code, ErrorCode::Unavailable);
    assert!(error.message.contains("line 3"), "{}", error.message);
    assert_eq!(helper.text("x"), "four");
    let error = helper.ask("x", false).unwrap_err();
    assert_eq!((error.code, error.message.as_str()), (ErrorCode::Unavailable, "recording ended"));
}

#[test]
fn a_mismatch_is_told_with_its_line_and_a_match_is_not() {
    let mut helper =
        Helper::with("{\"content\":\"a\",\"expect\":\"passed\"}\n{\"content\":\"b\",\"expect\":\"passed\"}\n");
    let reply = helper.ask("3 failed", false).unwrap();
    assert!(reply.mismatch.unwrap().contains("line 1"));
    assert_eq!(helper.text("3 passed"), "b");
}

#[test]
fn payloads_longer_than_a_frame_go_in_parts_both_ways() {
    let long = "x".repeat(300_000);
    let mut helper = Helper::with(&format!("{{\"content\":\"{long}\",\"expect\":\"end$\"}}\n"));
    assert_eq!(helper.text(&format!("{long}end")), long);
}

#[test]
fn tool_calls_come_as_a_json_array() {
    let mut helper = Helper::with("{\"tool_calls\":[{\"name\":\"fs_list_dir\",\"arguments\":{}}]}\n");
    let reply = helper.ask("x", true).unwrap();
    let content = helper.inbox.take(reply.content).unwrap();
    assert_eq!(content, b"[{\"arguments\":{},\"name\":\"fs_list_dir\"}]");
}

#[test]
fn the_jail_is_shut_before_the_first_call() {
    let helper = Helper::with("");
    let status = std::fs::read_to_string(format!("/proc/{}/status", helper.child.id())).unwrap();
    let line = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!((line("NoNewPrivs:"), line("Seccomp:")), ("1".into(), "2".into()));
    assert_eq!((line("CapEff:"), line("CapPrm:")), ("0000000000000000".into(), "0000000000000000".into()));
    assert_eq!(helper.locked.descriptors.iter().copied().max(), Some(3), "{:?}", helper.locked.descriptors);
    assert!(helper.locked.landlock_abi > 0);
}

#[test]
fn goodbye_and_a_closed_link_end_it_in_peace() {
    let mut helper = Helper::with("");
    helper.link.send(Kind::Goodbye, 0, &(), &[], true).unwrap();
    assert!(helper.ends().success());
    let Helper { mut child, link, .. } = Helper::with("");
    drop(link);
    assert!(ended(&mut child).success());
}

#[test]
fn garbage_and_frames_out_of_state_end_it() {
    let garbage: [&[u8]; 4] = [b"x", &[0xff; 64], &[1, 0, 5, 0, 1, 0, 0, 0], &[1, 0, 99, 0, 1, 0, 0, 0]];
    for packet in garbage {
        let helper = Helper::with("{\"content\":\"a\"}\n");
        helper.link.send_packet(packet, &[], true).unwrap();
        assert!(!helper.ends().success(), "{packet:?}");
    }
    let mut helper = Helper::with("");
    helper.link.send(Kind::Setup, 0, &(), &[], true).unwrap();
    assert!(!helper.ends().success());
    let mut helper = Helper::with("");
    let null = File::open("/dev/null").unwrap();
    helper.link.send(Kind::Goodbye, 0, &(), &[null.as_fd()], true).unwrap();
    assert!(!helper.ends().success(), "a descriptor that no message states");
}

#[test]
fn another_build_is_refused() {
    let (mut child, mut link) = start();
    send_setup(&mut link, [0; 32], b"");
    assert!(!ended(&mut child).success());
}
