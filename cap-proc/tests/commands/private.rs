//! What a command may have in its private directory, and what is left of it (T-06, T-12).

use crate::support::*;
use nix::sys::signal::{Signal, kill};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use warden_proto::msg::error::{CallError, ErrorCode};
use warden_proto::msg::proc::*;

/// Most bytes of the private directory in these tests, and of one file.
const LIMIT_MIB: u64 = 8;

/// In memory, where thousands of files take no time.
fn options() -> Options {
    let bounds = ProcBounds {
        memory_bytes: 128 << 20,
        file_bytes: LIMIT_MIB << 20,
        private_bytes: LIMIT_MIB << 20,
        ..Options::default().bounds
    };
    Options { bounds, in_memory: true, ..Options::default() }
}

fn code(lines: &str) -> String {
    format!(
        "import os, mmap, time\nMIB = 1 << 20\nos.chdir(os.environ['TMPDIR'])\n\
         def write(name, n):\n  f = open(name, 'wb'); f.write(b'x' * int(n * MIB)); f.flush(); return f\n\
         def rest():\n  time.sleep(1.2)\n  print('done', flush=True)\n{lines}"
    )
}

#[track_caller]
fn ended_over(result: Result<Ran, CallError>, rule: &str) {
    let error = result.expect_err("ended over its limit");
    assert_eq!((error.code, error.rule.as_str()), (ErrorCode::Limit, rule), "{error:?}");
}

#[track_caller]
fn done(result: Result<Ran, CallError>) {
    let ran = result.unwrap();
    assert_eq!((ran.exit.code, ran.stdout.as_str()), (Some(0), "done\n"), "{ran:?}");
}

fn left(helper: &Helper) -> usize {
    std::fs::read_dir(helper.scratch()).unwrap().count()
}

/// Runs `over`, which is to be ended, and `within`, which is not; as root and as nobody, whom modes bind.
#[track_caller]
fn pair(over: &str, within: &str) {
    for as_nobody in [false, true] {
        let mut helper = Helper::with(Options { as_nobody, ..options() });
        ended_over(helper.run(command(PYTHON, &["-c", &code(over)])), "limits.fs_written");
        done(helper.run(command(PYTHON, &["-c", &code(within)])));
        wait_for("the private directories to go", || left(&helper) == 0);
    }
}

#[test]
fn many_files_have_no_more_room_than_one() {
    let files = |count: u32| format!("[write(str(n), 2).close() for n in range({count})]\nrest()");
    pair(&files(5), &files(3));
}

#[test]
fn empty_files_count_too() {
    let names = |count: u32| format!("[os.symlink('x', str(n)) for n in range({count})]\nrest()");
    pair(&names(9000), &names(4000));
}

/// Whom modes bind cannot look into it any more either, and goes on writing what it has open.
#[test]
fn files_in_a_directory_that_is_shut_count() {
    let shut = |count: u32| {
        format!(
            "kept = [open(str(n), 'wb') for n in range({count})]\nos.chmod('.', 0)\n\
             for f in kept: f.write(b'x' * (2 * MIB)); f.flush()\nrest()"
        )
    };
    pair(&shut(5), &shut(3));
}

#[test]
fn files_without_a_name_count() {
    let nameless = |count: u32| {
        format!(
            "kept = [write(str(n), 2) for n in range({count})]\n[os.unlink(str(n)) for n in range({count})]\nrest()"
        )
    };
    pair(&nameless(5), &nameless(3));
}

#[test]
fn a_directory_that_is_shut_hides_nothing_and_stays_shut() {
    let shut = |count: u32| {
        format!(
            "os.mkdir('d')\n[write('d/' + str(n), 2).close() for n in range({count})]\nos.chmod('d', 0o300)\nrest()\nassert os.stat('d').st_mode & 0o777 == 0o300"
        )
    };
    pair(&shut(5), &shut(3));
    pair(&shut(5).replace("0o300", "0"), &shut(3).replace("0o300", "0"));
}

#[test]
fn what_is_too_deep_to_count_is_ended() {
    let deep = |levels: u32| format!("for n in range({levels}):\n  os.mkdir('d'); os.chdir('d')\nrest()");
    pair(&deep(600), &deep(200));
}

#[test]
fn a_private_directory_in_memory_counts_as_memory() {
    if statfs("/dev/shm").map(|facts| facts.filesystem_type()) != Ok(TMPFS_MAGIC) {
        crate::skip::skipped("/dev/shm is no memory file system here");
        return;
    }
    let bounds = ProcBounds { file_bytes: 512 << 20, private_bytes: 512 << 20, ..options().bounds };
    let files = |mib: u32| code(&format!("[write(str(n), 10).close() for n in range({mib} // 10)]\nrest()"));
    let mapped = code(
        "f = open('f', 'w+b'); f.truncate(70 * MIB); m = mmap.mmap(f.fileno(), 70 * MIB)\nfor at in range(0, 70 * MIB, 4096): m[at] = 1\nrest()",
    );
    let mut helper = Helper::with(Options { bounds: bounds.clone(), ..options() });
    ended_over(helper.run(command(PYTHON, &["-c", &files(200)])), "limits.memory");
    done(helper.run(command(PYTHON, &["-c", &files(60)])));
    // Mapped, it is the same memory.
    done(helper.run(command(PYTHON, &["-c", &mapped])));
    // On a disk it is none; whether the default place lies on one, the host says.
    let mut helper = Helper::with(Options { bounds, in_memory: false, ..options() });
    if statfs(helper.root.path()).map(|facts| facts.filesystem_type()) != Ok(TMPFS_MAGIC) {
        done(helper.run(command(PYTHON, &["-c", &files(200)])));
    }
}

const MANY: &str = "for d in range(200):\n  os.mkdir(str(d))\n  for n in range(100): os.close(os.open(f'{d}/{n}', os.O_CREAT | os.O_WRONLY))\n\
                    print('up', flush=True)\ntime.sleep(300)";

#[test]
fn twenty_thousand_files_are_removed_whoever_is_killed() {
    let bounds = ProcBounds { file_bytes: 1 << 30, private_bytes: 1 << 30, memory_bytes: 1 << 30, ..options().bounds };
    // The command; its keeper; the front, as at the end of a task.
    for killed in ["command", "keeper", "front"] {
        // Without a door: it is the removal that is looked at.
        let workspaces = vec![workspace(0, false, &[])];
        let mut helper = Helper::with(Options { bounds: bounds.clone(), workspaces, ..options() });
        let process = helper.start(command(PYTHON, &["-c", &code(MANY)]));
        assert_eq!(helper.line(process), "up");
        assert_eq!(left(&helper), 1);
        let keeper = *helper.keepers().first().expect("a keeper");
        match killed {
            "command" => {
                helper.call(&ProcCall::Signal { process, signal: ProcessSignal::Kill }).unwrap();
                helper.call(&ProcCall::Close { process }).unwrap();
                wait_for("the keeper's own removal", || left(&helper) == 0);
                continue;
            }
            "keeper" => {
                kill(children(keeper)[0], Signal::SIGSTOP).unwrap();
                kill(keeper, Signal::SIGKILL).unwrap();
            }
            _ => kill(helper.front_pid, Signal::SIGKILL).unwrap(),
        }
        ended(&mut helper.runner);
        assert_eq!(left(&helper), 0, "{killed}");
    }
}
