//! Streams that the broker pumps itself: the command's ends come with the call, and only ends of pipes reach a command.

use crate::support::*;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use warden_proto::Kind;
use warden_proto::msg::error::ErrorCode;
use warden_proto::msg::proc::*;

fn pipe() -> (File, OwnedFd) {
    let (reader, writer) = nix::unistd::pipe().unwrap();
    (File::from(reader), writer)
}

/// Sends the call with these descriptors.
fn attach(helper: &mut Helper, script: &str, stdin: bool, descriptors: &[BorrowedFd<'_>]) -> u32 {
    static REQUESTS: AtomicU32 = AtomicU32::new(1_000_000);
    let call: ProcHelperCall = ProcCall::Attach { command: command(SH, &["-c", script]), stdin };
    let request = REQUESTS.fetch_add(1, Ordering::Relaxed);
    helper.link.send(Kind::Call, request, &call, descriptors, true).unwrap();
    request
}

#[track_caller]
fn attached(helper: &mut Helper, request: u32) -> u32 {
    match helper.answer(request) {
        Ok(ProcReply::Started { process, .. }) => process,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_command_runs_on_the_pipes_that_came_with_the_call() {
    let mut helper = Helper::new();
    let (input, feed) = pipe();
    let ((mut output, out), (mut errors, err)) = (pipe(), pipe());
    let input = OwnedFd::from(input);
    let script = "cat; echo err >&2; readlink /proc/self/fd/0 | cut -c 1-5; exit 3";
    let request = attach(&mut helper, script, true, &[input.as_fd(), out.as_fd(), err.as_fd()]);
    drop((input, out, err));
    let process = attached(&mut helper, request);
    File::from(feed).write_all(b"passed\n").unwrap();
    let waited = helper.call(&ProcCall::Wait { process, timeout_ms: None });
    let Ok(ProcReply::Exited { exit, .. }) = waited else { panic!("{waited:?}") };
    assert_eq!(exit, Exit { code: Some(3), signal: None, timed_out: false });
    let (mut said, mut complained) = (String::new(), String::new());
    // End-of-file: nobody of the helper's still holds an end.
    output.read_to_string(&mut said).unwrap();
    errors.read_to_string(&mut complained).unwrap();
    assert_eq!((said.as_str(), complained.as_str()), ("passed\npipe:\n", "err\n"));
    // No stream of it is the front's to read or write.
    for call in [
        ProcCall::Read { process, stream: Stream::Stdout, max_bytes: 1 },
        ProcCall::WriteStdin { process, bytes: warden_proto::Bytes::default(), eof: true },
    ] {
        assert_eq!(helper.call(&call).unwrap_err().code, ErrorCode::Conflict);
    }
}

#[test]
fn without_an_input_it_reads_dev_null() {
    let mut helper = Helper::new();
    let ((mut output, out), (_errors, err)) = (pipe(), pipe());
    let request = attach(&mut helper, "cat; readlink /proc/self/fd/0", false, &[out.as_fd(), err.as_fd()]);
    drop((out, err));
    attached(&mut helper, request);
    let mut said = String::new();
    output.read_to_string(&mut said).unwrap();
    assert_eq!(said, "/dev/null\n");
}

/// T-07: whatever the broker may be brought to send.
#[test]
fn what_is_no_pipe_reaches_no_command() {
    let mut helper = Helper::new();
    let ((_output, out), (_errors, err)) = (pipe(), pipe());
    let (socket, _other) = warden_proto::socket::pair().unwrap();
    let file = OwnedFd::from(tempfile::tempfile().unwrap());
    let open = |path: &str| OwnedFd::from(File::open(path).unwrap());
    for no in [open("/"), open("/dev/zero"), open("/dev/ptmx"), socket, file] {
        let request = attach(&mut helper, "echo ran", true, &[no.as_fd(), out.as_fd(), err.as_fd()]);
        assert_eq!(helper.answer(request).unwrap_err().code, ErrorCode::InvalidArgument, "{no:?}");
    }
    let (input, _feed) = pipe();
    let input = OwnedFd::from(input);
    let request = attach(&mut helper, "exit 0", true, &[input.as_fd(), out.as_fd(), err.as_fd()]);
    attached(&mut helper, request);
}

/// T-05: a frame that brings another number of descriptors than its call states ends the front.
#[test]
fn descriptors_that_no_call_states_end_the_front() {
    for (stdin, count) in [(true, 2), (false, 3), (true, 0)] {
        let mut helper = Helper::new();
        let ends: Vec<(File, OwnedFd)> = (0..count).map(|_| pipe()).collect();
        let descriptors: Vec<BorrowedFd<'_>> = ends.iter().map(|(_, end)| end.as_fd()).collect();
        attach(&mut helper, "echo ran", stdin, &descriptors);
        assert!(!ended(&mut helper.front).success());
    }
    let mut helper = Helper::new();
    let (_reader, end) = pipe();
    let call: ProcHelperCall = ProcCall::Wait { process: 1, timeout_ms: Some(0) };
    helper.link.send(Kind::Call, 1, &call, &[end.as_fd()], true).unwrap();
    assert!(!ended(&mut helper.front).success());
    // The control: the same call without.
    assert_eq!(Helper::new().call(&call).unwrap_err().code, ErrorCode::NotFound);
}
