//! The worker's jail: the template's, its own scope, then the short filter.

use crate::call;
use crate::child::{Ended, attempt, reported, table, unprivileged};
use warden_jail::{Grants, Role, life, seccomp, self_test};

pub const TESTS: &[crate::Test] = &[
    ("worker_filter_is_at_most_12_instructions", short),
    ("worker_loses_fork_executable_memory_and_seccomp", loses),
    ("worker_reads_and_writes_leased_files", leased),
    ("worker_self_test_misses_the_second_filter", self_test_sees),
];

fn template() -> bool {
    unprivileged() && reported(life::lock_down(Role::Template, &Grants::none()))
}

fn worker() -> bool {
    if !template() {
        return false;
    }
    match life::worker_scope() {
        Ok(scope) => reported(life::lock_down_worker(scope)),
        Err(error) => reported::<(), _>(Err(error)),
    }
}

fn short() {
    let found = seccomp::instructions(Role::Worker);
    assert!(found <= 12, "the worker's filter has {found} instructions, promised are 12");
    assert_eq!(seccomp::beneath(Role::Worker), Some(Role::Template));
}

fn map(protection: i32) -> i32 {
    call!(libc::SYS_mmap, 0, 4096, protection, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
}

fn loses() {
    table(
        "worker",
        worker,
        &[
            ("a fork", Ended::Killed, || call!(libc::SYS_clone, libc::SIGCHLD)),
            ("a fork, the new way", Ended::Killed, || call!(libc::SYS_clone3, 0, 0)),
            ("executable memory", Ended::Killed, || map(libc::PROT_READ | libc::PROT_EXEC)),
            ("memory made executable", Ended::Killed, || {
                let page = 4096 * 16;
                let mapped = vec![0u8; page * 2];
                let aligned = (mapped.as_ptr() as usize).next_multiple_of(4096);
                call!(libc::SYS_mprotect, aligned, 4096, libc::PROT_READ | libc::PROT_EXEC)
            }),
            ("memory", Ended::Worked, || map(libc::PROT_READ | libc::PROT_WRITE)),
            ("memory made readable", Ended::Worked, || {
                let mapped = vec![0u8; 16 * 4096];
                let aligned = (mapped.as_ptr() as usize).next_multiple_of(4096);
                call!(libc::SYS_mprotect, aligned, 4096, libc::PROT_READ | libc::PROT_WRITE)
            }),
            ("another filter", Ended::Errno(libc::EHOSTUNREACH), || call!(libc::SYS_seccomp, 1, 0, 0)),
            ("becoming dumpable", Ended::Killed, || call!(libc::SYS_prctl, libc::PR_SET_DUMPABLE, 1)),
            ("keeping its death signal off", Ended::Errno(libc::EHOSTUNREACH), || {
                call!(libc::SYS_prctl, libc::PR_SET_PDEATHSIG, 0)
            }),
            ("openat", Ended::Killed, || call!(libc::SYS_openat, libc::AT_FDCWD, c"/etc/passwd".as_ptr(), 0)),
            ("an inet socket", Ended::Killed, || call!(libc::SYS_socket, libc::AF_INET, libc::SOCK_STREAM)),
            ("a signal", Ended::Killed, || call!(libc::SYS_kill, std::process::id(), 0)),
            ("an exec", Ended::Killed, || call!(libc::SYS_execve)),
        ],
    );
}

/// A leased file behaves as its descriptor was opened, and nothing more.
fn leased() {
    let directory = tempfile::tempdir().expect("a directory for the test");
    let path = directory.path().join("leased");
    std::fs::write(&path, b"before").expect("a file for the test");
    let writable = std::fs::OpenOptions::new().read(true).write(true).open(&path).expect("opens");
    let readable = std::fs::File::open(&path).expect("opens");
    use std::os::fd::AsRawFd;
    let (writable, readable) = (writable.as_raw_fd(), readable.as_raw_fd());
    let text = b"after!";
    let write = |to: i32| call!(libc::SYS_pwrite64, to, text.as_ptr(), text.len(), 0);
    assert_eq!(attempt(worker, || write(writable)), Ended::Worked);
    assert_eq!(attempt(worker, || write(readable)), Ended::Errno(libc::EBADF));
    assert_eq!(attempt(worker, || call!(libc::SYS_ftruncate, writable, 3)), Ended::Worked);
    assert_eq!(attempt(worker, || call!(libc::SYS_fsync, writable)), Ended::Worked);
    assert_eq!(std::fs::read(&path).expect("reads"), b"aft");
    let mut buffer = [0u8; 3];
    let read = attempt(worker, || call!(libc::SYS_pread64, readable, buffer.as_mut_ptr(), buffer.len(), 0));
    assert_eq!(read, Ended::Worked);
}

/// Without the worker's own filter its self-test must not pass, though the template's beneath is in force.
fn self_test_sees() {
    let with = attempt(worker, || i32::from(self_test::run(Role::Worker).is_err()));
    assert_eq!(with, Ended::Worked);
    let without = attempt(template, || i32::from(self_test::run(Role::Worker).is_err()));
    assert_eq!(without, Ended::Errno(1), "the self-test must see that the worker's filter is missing");
}
