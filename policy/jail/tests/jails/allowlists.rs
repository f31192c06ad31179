//! The helpers whose filter is an allowlist: what none of them may do, and what each must be able to do.

use crate::call;
use crate::child::{Act, Ended, reported, table, unprivileged};
use warden_jail::{Grants, Role, life};

pub const TESTS: &[crate::Test] = &[
    ("every_allowlist_kills_what_nobody_may_do", forbidden_to_all),
    ("every_allowlist_lets_a_process_live", allowed_to_all),
    ("compiler_has_no_path_and_no_executable_page", compiler),
    ("cap_proc_front_makes_pipes_and_starts_nothing", front),
    ("cap_llm_replay_reads_and_speaks_only", replay),
    ("broker_makes_pairs_and_memfds_but_no_process", broker),
    ("template_forks_and_does_nothing_else_new", template),
];

fn enter(role: Role) -> bool {
    unprivileged() && reported(life::lock_down(role, &Grants::none()))
}

type Jail = fn() -> bool;

const JAILS: &[(&str, Jail)] = &[
    ("broker", || enter(Role::Broker)),
    ("template", || enter(Role::Template)),
    ("compiler", || enter(Role::Compiler)),
    ("cap-fs", || enter(Role::CapFs)),
    ("cap-proc-front", || enter(Role::CapProcFront)),
    ("cap-llm-replay", || enter(Role::CapLlmReplay)),
];

fn forbidden_to_all() {
    let acts: &[(&str, Ended, Act)] = &[
        ("open by name, the old way", Ended::Killed, || call!(libc::SYS_open, c"/etc/passwd".as_ptr())),
        ("inet socket", Ended::Killed, || call!(libc::SYS_socket, libc::AF_INET, libc::SOCK_STREAM, 0)),
        ("inet6 socket", Ended::Killed, || call!(libc::SYS_socket, libc::AF_INET6, libc::SOCK_DGRAM, 0)),
        ("netlink socket", Ended::Killed, || call!(libc::SYS_socket, libc::AF_NETLINK, libc::SOCK_RAW, 0)),
        ("connect", Ended::Killed, || call!(libc::SYS_connect, 0, 0, 0)),
        ("bind", Ended::Killed, || call!(libc::SYS_bind, 0, 0, 0)),
        ("vfork", Ended::Killed, || call!(libc::SYS_vfork)),
        ("clone into a user namespace", Ended::Killed, || call!(libc::SYS_clone, libc::CLONE_NEWUSER | libc::SIGCHLD)),
        ("process with shared memory", Ended::Killed, || call!(libc::SYS_clone, libc::CLONE_VM | libc::SIGCHLD)),
        ("execveat", Ended::Killed, || call!(libc::SYS_execveat, -1)),
        ("kill, of itself", Ended::Killed, || call!(libc::SYS_kill, std::process::id(), 0)),
        ("tgkill", Ended::Killed, || call!(libc::SYS_tgkill, 1, 1, 0)),
        ("attach to a process", Ended::Killed, || call!(libc::SYS_ptrace, libc::PTRACE_ATTACH, 1)),
        ("read another's memory", Ended::Killed, || call!(libc::SYS_process_vm_readv, 1)),
        ("steal a descriptor", Ended::Killed, || call!(libc::SYS_pidfd_getfd, 0, 0, 0)),
        ("mount", Ended::Killed, || call!(libc::SYS_mount)),
        ("unshare", Ended::Killed, || call!(libc::SYS_unshare, 0)),
        ("setns", Ended::Killed, || call!(libc::SYS_setns, 0, 0)),
        ("bpf", Ended::Killed, || call!(libc::SYS_bpf)),
        ("io_uring", Ended::Killed, || call!(libc::SYS_io_uring_setup, 1)),
        ("keyrings", Ended::Killed, || call!(libc::SYS_keyctl, 0, -1, 0)),
        ("perf", Ended::Killed, || call!(libc::SYS_perf_event_open)),
        ("userfaultfd", Ended::Killed, || call!(libc::SYS_userfaultfd)),
        ("chmod", Ended::Killed, || call!(libc::SYS_chmod, c"/tmp".as_ptr(), 0o777)),
        ("setuid", Ended::Killed, || call!(libc::SYS_setuid, 0)),
        ("limits of another", Ended::Killed, || call!(libc::SYS_prlimit64, 1, libc::RLIMIT_FSIZE)),
        ("a terminal's input", Ended::Killed, || call!(libc::SYS_ioctl, 0, libc::TIOCSTI, 0)),
        ("becoming dumpable", Ended::Killed, || call!(libc::SYS_prctl, libc::PR_SET_DUMPABLE, 1)),
        ("open_by_handle_at", Ended::Killed, || call!(libc::SYS_open_by_handle_at, -1)),
        ("a number that does not exist", Ended::Killed, || call!(999)),
    ];
    for (role, jail) in JAILS {
        table(role, *jail, acts);
    }
}

fn allowed_to_all() {
    let acts: &[(&str, Ended, Act)] = &[
        ("memory", Ended::Worked, || {
            let buffer = vec![7u8; 4 << 20];
            i32::from(buffer.iter().map(|byte| usize::from(*byte)).sum::<usize>() != 7 * (4 << 20))
        }),
        ("the clock", Ended::Worked, || {
            let before = std::time::Instant::now();
            i32::from(before.elapsed() > std::time::Duration::from_secs(5))
        }),
        ("ppoll of nothing", Ended::Worked, || {
            let no_wait = [0i64; 2];
            call!(libc::SYS_ppoll, 0, 0, no_wait.as_ptr())
        }),
        ("getrandom", Ended::Worked, || {
            let mut bytes = [0u8; 8];
            call!(libc::SYS_getrandom, bytes.as_mut_ptr(), bytes.len(), 0)
        }),
        ("a message", Ended::Errno(libc::EBADF), || {
            // SAFETY: an all-zero msghdr is an empty message.
            let mut empty: libc::msghdr = unsafe { std::mem::zeroed() };
            call!(libc::SYS_recvmsg, -1, &raw mut empty, 0)
        }),
        ("a flag of a descriptor", Ended::Worked, || call!(libc::SYS_fcntl, 2, libc::F_GETFD)),
    ];
    for (role, jail) in JAILS {
        table(role, *jail, acts);
    }
}

/// Anonymous memory with the given protection.
fn map(protection: i32) -> i32 {
    call!(libc::SYS_mmap, 0, 4096, protection, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
}

fn compiler() {
    table(
        "compiler",
        || enter(Role::Compiler),
        &[
            ("memory to write", Ended::Worked, || map(libc::PROT_READ | libc::PROT_WRITE)),
            ("memory to execute", Ended::Killed, || map(libc::PROT_READ | libc::PROT_EXEC)),
            ("openat2", Ended::Killed, || call!(libc::SYS_openat2, libc::AT_FDCWD, c"/etc/passwd".as_ptr())),
            ("a fork", Ended::Killed, || call!(libc::SYS_clone, libc::SIGCHLD)),
            ("a second filter", Ended::Killed, || call!(libc::SYS_seccomp, 1, 0, 0)),
        ],
    );
}

fn front() {
    table(
        "cap-proc-front",
        || enter(Role::CapProcFront),
        &[
            ("a pipe", Ended::Worked, || {
                let mut ends = [0i32; 2];
                call!(libc::SYS_pipe2, ends.as_mut_ptr(), libc::O_CLOEXEC)
            }),
            ("openat2", Ended::Killed, || call!(libc::SYS_openat2, libc::AT_FDCWD, c"/etc/passwd".as_ptr())),
            ("a status", Ended::Killed, || call!(libc::SYS_statx, libc::AT_FDCWD, c"/etc/passwd".as_ptr())),
            ("a fork", Ended::Killed, || call!(libc::SYS_clone, libc::SIGCHLD)),
            ("an exec", Ended::Killed, || call!(libc::SYS_execve)),
            ("executable memory", Ended::Killed, || map(libc::PROT_EXEC)),
        ],
    );
}

fn replay() {
    table(
        "cap-llm-replay",
        || enter(Role::CapLlmReplay),
        &[
            ("an inherited descriptor", Ended::Worked, || {
                // SAFETY: an all-zero stat is a valid value of this plain struct.
                let mut status: libc::stat = unsafe { std::mem::zeroed() };
                call!(libc::SYS_fstat, 2, &raw mut status)
            }),
            ("a pair of sockets", Ended::Killed, || call!(libc::SYS_socketpair, libc::AF_UNIX, libc::SOCK_STREAM)),
            ("openat2", Ended::Killed, || call!(libc::SYS_openat2, libc::AT_FDCWD, c"/etc/passwd".as_ptr())),
            ("a memfd", Ended::Killed, || call!(libc::SYS_memfd_create, c"x".as_ptr(), 0)),
            ("a send with an address", Ended::Killed, || call!(libc::SYS_sendto, 2)),
        ],
    );
}

fn broker() {
    table(
        "broker",
        || enter(Role::Broker),
        &[
            ("a pair of sockets", Ended::Worked, || {
                let mut ends = [0i32; 2];
                call!(
                    libc::SYS_socketpair,
                    libc::AF_UNIX,
                    libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC,
                    0,
                    ends.as_mut_ptr()
                )
            }),
            ("a memfd", Ended::Worked, || call!(libc::SYS_memfd_create, c"code".as_ptr(), libc::MFD_CLOEXEC)),
            ("epoll", Ended::Worked, || call!(libc::SYS_epoll_create1, 0)),
            ("a file that was not granted", Ended::Errno(libc::EACCES), || {
                call!(libc::SYS_openat, libc::AT_FDCWD, c"/etc/passwd".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC)
            }),
            ("a fork", Ended::Killed, || call!(libc::SYS_clone, libc::SIGCHLD)),
            ("an exec", Ended::Errno(libc::EHOSTDOWN), || call!(libc::SYS_execve, c"/bin/true".as_ptr())),
            ("executable memory", Ended::Killed, || map(libc::PROT_EXEC)),
            ("a signal by pidfd", Ended::Killed, || call!(libc::SYS_pidfd_send_signal, 0, libc::SIGKILL)),
            ("a supervisor's listener", Ended::Killed, || call!(libc::SYS_seccomp, 1, 8, 0)),
        ],
    );
}

fn template() {
    table(
        "template",
        || enter(Role::Template),
        &[
            ("a fork", Ended::Worked, || {
                // SAFETY: the grandchild ends at once.
                let child = unsafe { libc::fork() };
                if child == 0 {
                    crate::child::exit(0);
                }
                i32::from(crate::child::ended(child) != Ended::Worked)
            }),
            ("executable memory", Ended::Worked, || map(libc::PROT_READ | libc::PROT_EXEC)),
            ("a thread", Ended::Killed, || i32::from(std::thread::Builder::new().spawn(|| ()).is_err())),
            ("a fork that signals its parent's death with SIGKILL", Ended::Killed, || {
                call!(libc::SYS_clone, libc::SIGKILL)
            }),
            ("a listener", Ended::Killed, || call!(libc::SYS_seccomp, 1, 8, 0)),
            ("openat2", Ended::Killed, || call!(libc::SYS_openat2, libc::AT_FDCWD, c"/etc/passwd".as_ptr())),
            ("a status by path", Ended::Killed, || call!(libc::SYS_statx, libc::AT_FDCWD, c"/etc/passwd".as_ptr())),
            ("a lock", Ended::Killed, || call!(libc::SYS_fcntl, 0, libc::F_SETLK, 0)),
        ],
    );
}
