//! Writing into another's memory: the keeper may where it keeps, a command nowhere (T-13).
//!
//! The runner's filter lets `process_vm_writev` pass, so what holds the runner and its keepers is their Landlock domain,
//! which traces nothing outside it. Everybody here has the same uid and no capability, as in life: a capability of the
//! target would refuse too and prove nothing.

use crate::call;
use crate::child::{Ended, attempt, ended, exit, reported};
use crate::commands::{command, runner};
use std::sync::atomic::AtomicU64;
use warden_jail::landlock::{Domain, Refer};
use warden_jail::{Grants, Role, life, process};

pub const TESTS: &[crate::Test] = &[
    ("a_runner_writes_into_no_process_outside_its_tree", outside),
    ("a_runner_writes_into_its_own_tree", inside),
    ("a_nested_domain_does_not_write_into_the_one_around_it", outward),
    ("a_command_writes_into_no_process", commands_write_nowhere),
];

const EPERM: Ended = Ended::Errno(libc::EPERM);

/// What is written to: at the same address in every process here, because all are forks of one.
static TARGET: AtomicU64 = AtomicU64::new(0);

/// Writes into [`TARGET`] of `pid`; 0 or the errno.
fn write_into(pid: i32) -> i32 {
    let word = 7_u64;
    let local = libc::iovec { iov_base: (&raw const word).cast_mut().cast(), iov_len: 8 };
    let remote = libc::iovec { iov_base: TARGET.as_ptr().cast(), iov_len: 8 };
    call!(libc::SYS_process_vm_writev, pid, &raw const local, 1, &raw const remote, 1, 0)
}

fn dumpable() -> bool {
    call!(libc::SYS_prctl, libc::PR_SET_DUMPABLE, 1) == 0
}

/// A forked process without capabilities whose memory is open to its uid, killed when dropped.
struct Open(i32);

impl Open {
    /// `lock` is done in it before it waits; `None` where that failed.
    fn fork(lock: impl FnOnce() -> bool) -> Option<Open> {
        let mut ends = [0i32; 2];
        assert_eq!(call!(libc::SYS_pipe2, ends.as_mut_ptr(), 0), 0);
        // SAFETY: this program has one thread, so the child may run ordinary code.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            if reported(process::drop_capabilities()) && dumpable() && lock() {
                call!(libc::SYS_write, ends[1], c"r".as_ptr(), 1);
                call!(libc::SYS_pause);
            }
            exit(1);
        }
        let mut byte = [0u8; 1];
        call!(libc::SYS_close, ends[1]);
        // SAFETY: reads one byte into a buffer of one.
        let read = unsafe { libc::read(ends[0], byte.as_mut_ptr().cast(), 1) };
        call!(libc::SYS_close, ends[0]);
        let open = Open(pid);
        (read == 1).then_some(open)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        call!(libc::SYS_kill, self.0, libc::SIGKILL);
        ended(self.0);
    }
}

fn outside() {
    let target = Open::fork(|| true).expect("a process to write into");
    let plain = || reported(process::drop_capabilities());
    assert_eq!(attempt(plain, || write_into(target.0)), Ended::Worked, "control: of the same uid, without a jail");
    assert_eq!(attempt(runner, || write_into(target.0)), EPERM);
    assert_eq!(attempt(|| command(&Grants::none()), || write_into(target.0)), EPERM);
}

fn inside() {
    let own = || Open::fork(|| true).map_or(255, |child| write_into(child.0));
    assert_eq!(attempt(runner, own), Ended::Worked, "a child in the same domain");
    let kept = || {
        let lock = || reported(life::lock_down_command(&Grants::none()));
        Open::fork(lock).map_or(255, |child| write_into(child.0))
    };
    assert_eq!(attempt(keeper, kept), Ended::Worked, "a command, in a domain nested in the keeper's");
}

/// The runner's filter and domain, and a keeper's scope.
fn keeper() -> bool {
    runner() && reported(Domain::scope_only(Role::CapProcRunner, Refer::Kept).and_then(Domain::enter))
}

/// By the domain alone: the command's filter is not there.
fn outward() {
    let up = |nested: bool| {
        move || {
            if !dumpable() {
                return 255;
            }
            // SAFETY: this program has one thread, so the child may run ordinary code.
            let child = unsafe { libc::fork() };
            if child == 0 {
                let parent = nix::unistd::getppid().as_raw();
                let scope = || Domain::scope_only(Role::CapProcRunner, Refer::Kept).and_then(Domain::enter);
                exit(if !nested || reported(scope()) { write_into(parent) } else { 255 });
            }
            match ended(child) {
                Ended::Worked => 0,
                Ended::Errno(errno) => errno,
                _ => 255,
            }
        }
    };
    assert_eq!(attempt(runner, up(true)), EPERM);
    assert_eq!(attempt(runner, up(false)), Ended::Worked, "control: in the same domain");
}

fn commands_write_nowhere() {
    let jail = || command(&Grants::none());
    let own = || Open::fork(|| true).map_or(255, |child| write_into(child.0));
    let itself = || write_into(nix::unistd::getpid().as_raw());
    assert_eq!(attempt(jail, own), EPERM, "its own child");
    assert_eq!(attempt(jail, itself), EPERM, "itself");
    assert_eq!(attempt(runner, itself), Ended::Worked, "control: without the command's filter");
}
