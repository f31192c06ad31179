//! Whoever dies, at whatever moment, no process of the task is left after a second, and the broker hears of it (T-12).

use crate::support::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::time::Duration;
use warden_proto::msg::error::ErrorCode;
use warden_proto::msg::proc::*;
use warden_proto::{FrameSocket, Kind, List, build_id, codec, socket};

/// A tree that hides from its parent as well as it can.
fn hiding(mark: &str) -> String {
    format!(
        "setsid sh -c 'setsid sleep 300 & sleep 300; : {mark}' & setsid sh -c 'sleep 300; : {mark}' & echo up; sleep 300; : {mark}"
    )
}

fn parent_of(pid: i32) -> i32 {
    status_line(Pid::from_raw(pid), "PPid").parse().unwrap()
}

fn with_tree() -> (Helper, String, i32) {
    let mut helper = Helper::new();
    let mark = marker();
    let process = helper.start(command(SH, &["-c", &hiding(&mark)]));
    assert_eq!(helper.line(process), "up");
    wait_for("the tree", || marked(&mark).len() >= 3);
    let of_keeper = |pid: &i32| parent_of(parent_of(*pid)) == helper.runner_pid.as_raw();
    let child = marked(&mark).into_iter().find(of_keeper).expect("the command is a child of its keeper");
    let keeper = parent_of(child);
    (helper, mark, keeper)
}

#[test]
fn the_keeper() {
    let (mut helper, mark, keeper) = with_tree();
    kill(Pid::from_raw(keeper), Signal::SIGKILL).unwrap();
    gone_within_a_second(&mark);
    assert!(helper.link_closes(), "the helper ends, so the broker has a typed error");
    assert!(!ended(&mut helper.front).success());
    // It ends by this or by the front's end, whichever it sees first.
    ended(&mut helper.runner);
}

#[test]
fn the_runner() {
    let (mut helper, mark, _) = with_tree();
    kill(helper.runner_pid, Signal::SIGKILL).unwrap();
    gone_within_a_second(&mark);
    assert!(helper.link_closes());
}

#[test]
fn the_front() {
    let (mut helper, mark, _) = with_tree();
    kill(helper.front_pid, Signal::SIGKILL).unwrap();
    gone_within_a_second(&mark);
    assert!(ended(&mut helper.runner).success());
}

#[test]
fn the_broker() {
    let (helper, mark, _) = with_tree();
    let mut helper = helper;
    let (spare, _) = socket::pair().unwrap();
    drop(std::mem::replace(&mut helper.link, FrameSocket::new(spare)));
    gone_within_a_second(&mark);
    assert!(ended(&mut helper.front).success() && ended(&mut helper.runner).success());
}

#[test]
fn goodbye_ends_everything_in_peace() {
    let (mut helper, mark, _) = with_tree();
    helper.link.send(Kind::Goodbye, 0, &(), &[], true).unwrap();
    gone_within_a_second(&mark);
    assert!(ended(&mut helper.front).success() && ended(&mut helper.runner).success());
    assert_eq!(std::fs::read_dir(helper.scratch()).unwrap().count(), 0, "and the private directories are removed");
}

#[test]
fn a_closed_handle_ends_its_tree_before_it_is_answered() {
    let (mut helper, mark, _) = with_tree();
    let wait = helper.send(&ProcCall::Wait { process: 1, timeout_ms: None });
    assert!(matches!(helper.call(&ProcCall::Close { process: 1 }), Ok(ProcReply::Closed { .. })));
    assert_eq!(marked(&mark), Vec::<i32>::new());
    assert!(matches!(helper.answer(wait), Ok(ProcReply::Exited { exit: Exit { signal: Some(9), .. }, .. })));
    assert!(helper.run(command(ECHO, &["still here"])).is_ok());
}

/// While commands come and go, at moments that nobody chose.
#[test]
fn at_any_moment() {
    for round in 0..12_u64 {
        let mut helper = Helper::new();
        let mark = marker();
        for _ in 0..4 {
            let call = ProcCall::Start {
                command: command(SH, &["-c", &hiding(&mark)]),
                stdin: StdioMode::Null,
                stdout: StdioMode::Null,
                stderr: StdioMode::Null,
            };
            helper.send(&call);
        }
        std::thread::sleep(Duration::from_millis(round * 4));
        let victim = if round % 2 == 0 { helper.front_pid } else { helper.runner_pid };
        kill(victim, Signal::SIGKILL).unwrap();
        let (mut front, mut runner) = (true, true);
        wait_for("both to end", || {
            front &= helper.front.try_wait().unwrap().is_none();
            runner &= helper.runner.try_wait().unwrap().is_none();
            !front && !runner
        });
        gone_within_a_second(&mark);
    }
}

#[test]
fn garbage_ends_the_front_and_with_it_everything() {
    let garbage: [&[u8]; 4] = [b"x", &[0xff; 64], &[1, 0, 5, 0, 1, 0, 0, 0, 9, 9, 9, 9], &[1, 0, 77, 0, 1, 0, 0, 0]];
    for packet in garbage {
        let (mut helper, mark, _) = with_tree();
        helper.link.send_packet(packet, &[], true).unwrap();
        assert!(!ended(&mut helper.front).success());
        gone_within_a_second(&mark);
    }
    let mut helper = Helper::new();
    helper.link.send(Kind::Setup, 0, &(), &[], true).unwrap();
    assert!(!ended(&mut helper.front).success(), "a setup out of its state");
    let mut helper = Helper::new();
    let stdin = warden_proto::blob::Body::Sent { blob: 9, len: 5 };
    helper.send(&ProcCall::Run { command: command(ECHO, &[]), stdin, output_max_bytes: 1 });
    assert!(!ended(&mut helper.front).success(), "a payload that was never sent");
}

#[test]
fn a_program_that_cannot_run_is_an_answer() {
    let place = tempfile::tempdir().unwrap();
    let broken = place.path().join("broken");
    std::fs::write(&broken, "#!/no/such/interpreter\n").unwrap();
    std::fs::set_permissions(&broken, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let plain = place.path().join("plain");
    std::fs::write(&plain, "not a program").unwrap();
    let mut options = Options::default();
    options.commands.extend([any("broken", broken.to_str().unwrap()), any("plain", plain.to_str().unwrap())]);
    let mut helper = Helper::with(options);
    assert_eq!(helper.run(command(3, &[])).unwrap_err().code, ErrorCode::NotFound);
    assert_eq!(helper.run(command(4, &[])).unwrap_err().code, ErrorCode::Unavailable);
    assert!(helper.run(command(ECHO, &["still here"])).is_ok());
    let setup = RunnerSetup {
        build_id: build_id(),
        workspaces: List::default(),
        growth_rule: warden_proto::Text::default(),
        commands: List::default(),
        bounds: Options::default().bounds,
        connects: false,
        scratch: false,
        namespaces: Wish::Off,
        group: None,
    };
    assert!(codec::encode(&setup).is_ok());
}
