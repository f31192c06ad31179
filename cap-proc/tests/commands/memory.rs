//! What a command's whole tree may hold in memory (T-06): each way around a limit per process, beside its honest sibling.

use crate::support::*;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use warden_proto::msg::error::{CallError, ErrorCode};
use warden_proto::msg::proc::*;

/// The limit of these tests.
const LIMIT_MIB: u64 = 128;

fn helper(more: Vec<(CommandSetup, PathBuf)>) -> Helper {
    let bounds = ProcBounds {
        memory_bytes: LIMIT_MIB << 20,
        file_bytes: 1 << 30,
        private_bytes: 1 << 30,
        ..Options::default().bounds
    };
    let mut options = Options { bounds, ..Options::default() };
    options.commands.extend(more);
    Helper::with(options)
}

/// Python with what the attempts need; `rest` says that it is there and stays for longer than a look takes.
fn code(lines: &str) -> String {
    format!(
        "import ctypes, mmap, os, subprocess, threading, time\nlibc = ctypes.CDLL(None)\nMIB = 1 << 20\n\
         def touched(m):\n  for at in range(0, len(m), 4096): m[at] = 1\n  return m\n\
         def private(n): return touched(bytearray(n * MIB))\n\
         def shared(n): return touched(mmap.mmap(-1, n * MIB))\n\
         def memfd(n):\n  fd = os.memfd_create('a) R 1 (deleted)')\n  [os.write(fd, b'x' * MIB) for i in range(n)]\n  return fd\n\
         def rest():\n  time.sleep(1.2)\n  print('done', flush=True)\n{lines}"
    )
}

#[track_caller]
fn ended_over_memory(result: Result<Ran, CallError>) -> String {
    let error = result.expect_err("ended over its limit");
    assert_eq!((error.code, error.rule.as_str()), (ErrorCode::Limit, "limits.memory"), "{error:?}");
    error.message.to_string()
}

/// Runs `over`, which is to be ended, and `within`, which is not.
#[track_caller]
fn pair(over: &str, within: &str) {
    let mut helper = helper(vec![]);
    let mark = marker();
    let ran = helper.run(command(PYTHON, &["-c", &format!("{}\n# {mark}", code(over))]));
    let message = ended_over_memory(ran);
    assert!(message.contains("128 MiB"), "{message}");
    gone_within_a_second(&mark);
    let ran = helper.run(command(PYTHON, &["-c", &code(within)])).unwrap();
    assert_eq!((ran.exit.code, ran.stdout.lines().last()), (Some(0), Some("done")), "{ran:?}");
}

#[test]
fn many_processes_have_no_more_than_one() {
    let each = |count: u32, mib: u32| {
        format!("for n in range({count}):\n  if os.fork() == 0:\n    x = private({mib}); time.sleep(60)\nrest()")
    };
    pair(&each(5, 40), &each(2, 30));
}

#[test]
fn pages_that_a_tree_shares_count_once() {
    // Seven processes see 60 MiB each, and hold 60 MiB together.
    for kind in ["private", "shared"] {
        let within = format!(
            "x = {kind}(60)\nfor n in range(6):\n  if os.fork() == 0:\n    for at in range(0, len(x), 4096): x[at]\n    time.sleep(60)\nrest()"
        );
        let over = format!(
            "x = {kind}(50)\nfor n in range(2):\n  if os.fork() == 0:\n    y = {kind}(50); time.sleep(60)\nrest()"
        );
        pair(&over, &within);
    }
}

#[test]
fn shared_memory_of_one_process_counts() {
    pair("x = shared(200)\nrest()", "x = shared(80)\nrest()");
}

#[test]
fn a_memory_file_that_nobody_maps_counts_once() {
    pair(
        "x = memfd(200)\nrest()",
        "x = memfd(70)\nm = touched(mmap.mmap(x, 70 * MIB))\n\
         for n in range(4):\n  if os.fork() == 0: time.sleep(60)\nrest()",
    );
}

#[test]
fn sockets_count_by_what_the_kernel_keeps_for_them() {
    let pairs = |count: u32| {
        format!(
            "import socket\nkept = [socket.socketpair() for n in range({count})]\n[one.setblocking(False) for one, _ in kept]\nrest()"
        )
    };
    pair(&pairs(800), &pairs(50));
}

#[test]
fn a_name_that_looks_like_a_field_hides_nothing() {
    let named = |mib: u32| format!("libc.prctl(15, b'a) Z 1\\nVmRSS: 1', 0, 0, 0)\nx = shared({mib})\nrest()");
    pair(&named(200), &named(60));
}

#[test]
fn threads_whose_leader_has_ended_are_seen() {
    let led = |mib: u32| {
        format!(
            "def work():\n  time.sleep(0.2); x = shared({mib}); rest(); os._exit(0)\nthreading.Thread(target=work).start()\nlibc.syscall(60, 0)"
        )
    };
    pair(&led(200), &led(60));
}

#[test]
fn who_hides_what_it_holds_is_ended() {
    let mut helper = helper(vec![]);
    let hides = "libc.prctl(4, 0, 0, 0, 0)\nx = memfd(20)\nrest()";
    let message = ended_over_memory(helper.run(command(PYTHON, &["-c", &code(hides)])));
    assert!(message.contains("hides"), "{message}");
    let shows = "libc.prctl(4, 1, 0, 0, 0)\nx = memfd(20)\nrest()";
    assert_eq!(helper.run(command(PYTHON, &["-c", &code(shows)])).unwrap().exit.code, Some(0));
}

/// A policy may name a program that cannot be read; the kernel hides its process, and that is not the command's doing.
#[test]
fn a_program_of_the_policy_that_cannot_be_read_runs_where_no_door_is_needed() {
    let place = tempfile::Builder::new().prefix("programs").tempdir().unwrap();
    std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let program = place.path().join("sleep");
    std::fs::copy("/bin/sleep", &program).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o111)).unwrap();
    if !nix::unistd::getuid().is_root() {
        crate::skip::skipped("only root can start a helper as somebody who may not read the program");
        return;
    }
    let run = |writable| {
        let workspaces = vec![workspace(0, writable, &[])];
        let mut options = Options { as_nobody: true, workspaces, ..Options::default() };
        options.commands.push(any("sleep", &program.display().to_string()));
        Helper::with(options).run(command(3, &["1"]))
    };
    let ran = run(false).unwrap();
    assert_eq!(ran.exit.code, Some(0), "{ran:?}");
    // Who would have to open files for it cannot look into it, and says so before it starts.
    let error = run(true).unwrap_err();
    assert!(error.code == ErrorCode::Unavailable && error.message.contains("make the program readable"), "{error:?}");
}

/// The C compiler is there wherever Rust can link.
fn compiled(place: &Path, name: &str, source: &str) -> (CommandSetup, PathBuf) {
    let (file, program) = (place.join(format!("{name}.c")), place.join(name));
    std::fs::write(&file, source).unwrap();
    let built = std::process::Command::new("cc").arg("-O1").arg("-o").arg(&program).arg(&file).status().unwrap();
    assert!(built.success());
    any(name, &program.display().to_string())
}

const BARE_CLONE: &str = r#"
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
static char stack[1 << 16];
static long mib;
static int sleeps(void *x) { usleep(1200000); _exit(0); }
static int holds(void *x) {
  int fd = memfd_create("held", 0);
  char *page = malloc(1 << 20);
  memset(page, 1, 1 << 20);
  for (long n = 0; n < mib; n++) if (write(fd, page, 1 << 20) < 0) break;
  usleep(1200000);
  syscall(60, 0);
  return 0;
}
int main(int argc, char **argv) {
  mib = atol(argv[2]);
  if (!strcmp(argv[1], "vfork")) {
    // Volatile, or the compiler leaves out what nobody reads.
    volatile char *memory = malloc(mib << 20);
    for (long at = 0; at < mib << 20; at += 4096) memory[at] = 1;
    clone(sleeps, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, 0);
  } else {
    int flags = CLONE_VM | CLONE_FS | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
    clone(holds, stack + sizeof stack, flags, 0);
    usleep(4000000);
  }
  puts("done");
  return 0;
}
"#;

#[test]
fn memory_that_two_processes_run_in_counts_once_and_a_thread_cannot_hide_its_descriptors() {
    let place = tempfile::tempdir().unwrap();
    let mut helper = helper(vec![compiled(place.path(), "clones", BARE_CLONE)]);
    let mut run = |how: &str, mib: &str| helper.run(command(3, &[how, mib]));
    assert_eq!(run("vfork", "100").unwrap().stdout, "done\n");
    assert_eq!(run("thread", "60").unwrap().stdout, "done\n");
    ended_over_memory(run("thread", "200"));
}

const MANY_TABLES: &str = r#"
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
static int rests(void *x) { for (;;) pause(); }
int main(int argc, char **argv) {
  for (int n = 0; n < 400; n++) dup(0);
  for (long n = 0; n < atol(argv[1]); n++) {
    char *stack = malloc(1 << 14);
    clone(rests, stack + (1 << 14), CLONE_VM | CLONE_FS | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM, 0);
  }
  sleep(atol(argv[2]));
  puts("done");
  return 0;
}
"#;

/// Reading them made a look take as long as a command liked, and all else its keeper does wait.
#[test]
fn descriptors_in_many_tables_do_not_make_a_look_long() {
    let place = tempfile::tempdir().unwrap();
    let mut helper = helper(vec![compiled(place.path(), "tables", MANY_TABLES)]);
    let message = ended_over_memory(helper.run(command(3, &["200", "20"])));
    assert!(message.contains("16384 descriptors"), "{message}");
    assert_eq!(helper.run(command(3, &["20", "2"])).unwrap().stdout, "done\n");
}

#[test]
fn a_process_that_is_waited_for_says_why_it_ended() {
    let mut helper = helper(vec![]);
    let over = code("print('up', flush=True)\nx = shared(200)\nrest()");
    let process = helper.start(command(PYTHON, &["-c", &over]));
    assert_eq!(helper.line(process), "up");
    let waited = helper.call(&ProcCall::Wait { process, timeout_ms: None }).unwrap_err();
    assert_eq!((waited.code, waited.rule.as_str()), (ErrorCode::Limit, "limits.memory"));
    helper.call(&ProcCall::Close { process }).unwrap();
    let process = helper.start(command(PYTHON, &["-c", &code("print('up', flush=True)\nx = shared(60)\nrest()")]));
    assert_eq!(helper.wait(process).code, Some(0));
}
