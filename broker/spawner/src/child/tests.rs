//! Starts under limits, each in a process of its own, since a limit is a whole process's.

use super::*;
use nix::sys::wait::{WaitStatus, waitpid};
use std::process::Command;

fn file(path: &str) -> OwnedFd {
    open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).unwrap()
}

fn start(program: &str, descriptors: usize) -> Result<Pid, StartError> {
    let given = std::iter::repeat_with(|| file("/dev/null")).take(descriptors).collect();
    execute(&file(program), &["true"], given)
}

/// Runs one of the ignored tests in a process of its own, which may have `limit` descriptors.
fn under(limit: u32, test: &str) {
    let script = format!("ulimit -n {limit} && exec \"$0\" --exact child::tests::{test} --ignored --test-threads=1");
    let ran = Command::new("/bin/sh").arg("-c").arg(script).arg(std::env::current_exe().unwrap()).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
fn a_start_under_a_small_limit_of_descriptors_works_and_one_without_room_is_reported() {
    under(512, "a_program_starts");
    under(24, "a_program_starts");
    under(14, "a_program_has_no_room");
}

#[test]
#[ignore = "run by another test, in a process of its own"]
fn a_program_starts() {
    let child = start("/bin/true", 4).unwrap();
    assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
}

#[test]
#[ignore = "run by another test, in a process of its own"]
fn a_program_has_no_room() {
    let error = start("/bin/true", 4).unwrap_err();
    assert_eq!(error.step, "place descriptors", "{error}");
    assert_eq!(waitpid(None, None), Err(Errno::ECHILD), "it is reaped");
}

#[test]
fn what_is_no_program_is_reported_with_its_step() {
    let error = start("/etc/passwd", 1).unwrap_err();
    assert_eq!((error.step, error.errno), ("execute", Errno::EACCES));
}
