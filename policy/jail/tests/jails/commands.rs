//! Runner and command: a denylist, so what matters is that programs run and the shut doors are shut.

use crate::call;
use crate::child::{Act, Ended, attempt, reported, table, unprivileged};
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use warden_jail::landlock::{Domain, Refer};
use warden_jail::system::SystemPaths;
use warden_jail::{GrantKind, Grants, Role, life};

pub const TESTS: &[crate::Test] = &[
    ("runner_refuses_the_kernels_back_doors", doors),
    ("runner_keeps_what_it_needs", needs),
    ("a_domain_over_paths_that_were_opened_before_is_the_one_by_name", held_paths),
    ("command_loses_listeners_and_metadata_by_path", command_filter),
    ("the_fence_behind_connect_stands_where_the_filter_leaves_it", fence),
    ("command_cannot_signal_out_of_its_scope", scope),
    ("commands_run_in_their_workspace_and_not_beside_it", programs),
    ("a_private_directory_executes_only_where_that_is_granted", private_programs),
];

const EPERM: Ended = Ended::Errno(libc::EPERM);
const EACCES: Ended = Ended::Errno(libc::EACCES);
const ENOSYS: Ended = Ended::Errno(libc::ENOSYS);

pub fn runner() -> bool {
    unprivileged() && reported(life::lock_down(Role::CapProcRunner, &Grants::none()))
}

/// Runner, keeper, command: as cap-proc builds them, without the forks between.
pub fn command(grants: &Grants<'_>) -> bool {
    let runner = life::lock_down(Role::CapProcRunner, grants);
    let keeper = Domain::scope_only(Role::CapProcRunner, Refer::Kept).and_then(Domain::enter);
    unprivileged() && reported(runner) && reported(keeper) && reported(life::lock_down_command(grants))
}

fn doors() {
    let acts: &[(&str, Ended, Act)] = &[
        ("unix socket", EACCES, || call!(libc::SYS_socket, libc::AF_UNIX, libc::SOCK_STREAM)),
        ("inet socket of datagrams", EACCES, || call!(libc::SYS_socket, libc::AF_INET, libc::SOCK_DGRAM)),
        ("inet socket of MPTCP", EACCES, || call!(libc::SYS_socket, libc::AF_INET, libc::SOCK_STREAM, 262)),
        ("a port", EACCES, || call!(libc::SYS_bind, -1)),
        ("packet socket", EACCES, || call!(libc::SYS_socket, libc::AF_PACKET, libc::SOCK_RAW)),
        ("vsock", EACCES, || call!(libc::SYS_socket, libc::AF_VSOCK, libc::SOCK_STREAM)),
        ("datagram pair", EACCES, || pair(libc::SOCK_DGRAM)),
        ("raw pair, which is a datagram pair", EACCES, || pair(libc::SOCK_RAW)),
        ("mount", EPERM, || call!(libc::SYS_mount)),
        ("new mount interface", EPERM, || call!(libc::SYS_fsopen)),
        ("chroot", EPERM, || call!(libc::SYS_chroot, c"/".as_ptr())),
        ("unshare", EPERM, || call!(libc::SYS_unshare, libc::CLONE_NEWUSER)),
        ("setns", EPERM, || call!(libc::SYS_setns, -1, 0)),
        ("clone into a user namespace", EPERM, || call!(libc::SYS_clone, libc::CLONE_NEWUSER | libc::SIGCHLD)),
        ("clone into a pid namespace", EPERM, || call!(libc::SYS_clone, libc::CLONE_NEWPID | libc::SIGCHLD)),
        ("ptrace", EPERM, || call!(libc::SYS_ptrace, libc::PTRACE_ATTACH, 1)),
        ("another's descriptor", EPERM, || call!(libc::SYS_pidfd_getfd, 0, 0)),
        ("keyrings", EPERM, || call!(libc::SYS_keyctl, 0, -4)),
        ("io_uring", ENOSYS, || call!(libc::SYS_io_uring_setup, 1)),
        ("bpf", EPERM, || call!(libc::SYS_bpf)),
        ("perf", EPERM, || call!(libc::SYS_perf_event_open)),
        ("userfaultfd", EPERM, || call!(libc::SYS_userfaultfd, 0)),
        ("fanotify", EPERM, || call!(libc::SYS_fanotify_init, 0)),
        ("inotify", ENOSYS, || call!(libc::SYS_inotify_init1, 0)),
        ("shared memory", EPERM, || call!(libc::SYS_shmget, 0, 4096, 0o600)),
        ("message queue", EPERM, || call!(libc::SYS_msgget, 0, 0o600)),
        ("semaphores", EPERM, || call!(libc::SYS_semget, 0, 1, 0o600)),
        ("posix queue", EPERM, || call!(libc::SYS_mq_open, c"/q".as_ptr())),
        ("typing into a terminal", EPERM, || call!(libc::SYS_ioctl, 0, libc::TIOCSTI)),
        ("the same with high bits set", EPERM, || call!(libc::SYS_ioctl, 0, libc::TIOCSTI | 1 << 32)),
        ("the console's paste", EPERM, || call!(libc::SYS_ioctl, 0, libc::TIOCLINUX)),
        ("limits of the parent", EPERM, || call!(libc::SYS_prlimit64, parent(), libc::RLIMIT_FSIZE)),
        ("affinity of the parent", EPERM, || call!(libc::SYS_sched_setaffinity, parent())),
        ("priority of the parent", EPERM, || call!(libc::SYS_setpriority, libc::PRIO_PROCESS, parent(), 5)),
        ("priority of the user", EPERM, || call!(libc::SYS_setpriority, libc::PRIO_USER, 0, 5)),
        ("handles", EPERM, || call!(libc::SYS_name_to_handle_at)),
        ("odd personality", EPERM, || call!(libc::SYS_personality, 0x0040_0000)),
        ("a file outside", EACCES, || call!(libc::SYS_openat, libc::AT_FDCWD, c"/etc/shadow".as_ptr(), libc::O_RDONLY)),
        ("a call that never was", Ended::Killed, || call!(libc::SYS_vserver)),
    ];
    table("cap-proc-runner", runner, acts);
}

fn pair(kind: i32) -> i32 {
    let mut ends = [0i32; 2];
    call!(libc::SYS_socketpair, libc::AF_UNIX, kind | libc::SOCK_CLOEXEC, 0, ends.as_mut_ptr())
}

fn parent() -> i32 {
    nix::unistd::getppid().as_raw()
}

fn needs() {
    let acts: &[(&str, Ended, Act)] = &[
        ("a fork", Ended::Worked, || {
            // SAFETY: the grandchild ends at once.
            let child = unsafe { libc::fork() };
            if child == 0 {
                crate::child::exit(0);
            }
            i32::from(crate::child::ended(child) != Ended::Worked)
        }),
        ("a thread", Ended::Worked, || {
            std::thread::Builder::new().spawn(|| ()).map_or(1, |thread| i32::from(thread.join().is_err()))
        }),
        ("stream pair", Ended::Worked, || pair(libc::SOCK_STREAM)),
        ("packet pair", Ended::Worked, || pair(libc::SOCK_SEQPACKET)),
        ("own limits", Ended::Worked, || {
            let mut found = [0u64; 2];
            call!(libc::SYS_prlimit64, 0, libc::RLIMIT_NOFILE, 0, found.as_mut_ptr())
        }),
        ("own priority", Ended::Worked, || call!(libc::SYS_setpriority, libc::PRIO_PROCESS, 0, 1)),
        ("own affinity", Ended::Worked, || {
            let mask = [1u64];
            call!(libc::SYS_sched_setaffinity, 0, 8, mask.as_ptr())
        }),
        ("asking for the personality", Ended::Worked, || call!(libc::SYS_personality, 0xffff_ffffu32)),
        ("a system file", Ended::Worked, || {
            call!(libc::SYS_openat, libc::AT_FDCWD, c"/usr/bin/env".as_ptr(), libc::O_RDONLY)
        }),
        ("a filter with a listener", Ended::Errno(libc::EFAULT), || call!(libc::SYS_seccomp, 1, 8, 0)),
        ("its children", Ended::Worked, || {
            let own = std::process::id();
            i32::from(std::fs::read(format!("/proc/{own}/task/{own}/children")).is_err())
        }),
        ("clone3, for the keeper", Ended::Errno(libc::EINVAL), || call!(libc::SYS_clone3, 0, 0)),
        ("a comparison of processes, for the keeper", Ended::Worked, || {
            call!(libc::SYS_kcmp, std::process::id(), std::process::id(), 1, 0, 0)
        }),
        ("a nested domain", Ended::Worked, || {
            i32::from(Domain::scope_only(Role::CapProcRunner, Refer::Kept).and_then(Domain::enter).is_err())
        }),
    ];
    table("cap-proc-runner", runner, acts);
}

/// Opened before the jail is shut, and held by runner, keeper and command, as cap-proc does.
fn over_held_paths() -> bool {
    let Ok(system) = SystemPaths::open(Role::CapProcRunner) else { return false };
    let grants = Grants::none().over(&system);
    let runner = life::lock_down(Role::CapProcRunner, &grants);
    let keeper = Domain::build(Role::CapProcRunner, &grants).and_then(Domain::enter);
    unprivileged() && reported(runner) && reported(keeper) && reported(life::lock_down_command(&grants))
}

fn by_name() -> bool {
    let keeper = || Domain::build(Role::CapProcRunner, &Grants::none()).and_then(Domain::enter);
    unprivileged()
        && reported(life::lock_down(Role::CapProcRunner, &Grants::none()))
        && reported(keeper())
        && reported(life::lock_down_command(&Grants::none()))
}

fn open(path: &std::ffi::CStr, flags: i32) -> i32 {
    call!(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags)
}

/// T-07: every right that a file's or a directory's rule gives, and the ones beside it that it does not.
fn held_paths() {
    let acts: &[(&str, Ended, Act)] = &[
        ("a system file is read", Ended::Worked, || open(c"/usr/bin/env", libc::O_RDONLY)),
        ("a system directory is listed", Ended::Worked, || open(c"/usr", libc::O_RDONLY | libc::O_DIRECTORY)),
        ("a file of its own rule is read", Ended::Worked, || open(c"/etc/passwd", libc::O_RDONLY)),
        ("a device is written", Ended::Worked, || open(c"/dev/null", libc::O_WRONLY)),
        ("a program is executed", Ended::Worked, || {
            let (words, none) = ([c"true".as_ptr(), std::ptr::null()], [std::ptr::null::<libc::c_char>()]);
            call!(libc::SYS_execve, c"/usr/bin/true".as_ptr(), words.as_ptr(), none.as_ptr())
        }),
        ("a system file is not written", EACCES, || open(c"/etc/passwd", libc::O_WRONLY)),
        ("a neighbour is not read", EACCES, || open(c"/etc/shadow", libc::O_RDONLY)),
        ("its directory is not listed", EACCES, || open(c"/etc", libc::O_RDONLY | libc::O_DIRECTORY)),
        ("a device that is only read is not written", EACCES, || open(c"/dev/urandom", libc::O_WRONLY)),
    ];
    table("a command by name", by_name, acts);
    table("a command over held paths", over_held_paths, acts);
    // A role with other paths opens them by name: what is held for commands is granted to no other.
    let other = || {
        let system = SystemPaths::open(Role::CapProcRunner);
        system.is_ok_and(|system| {
            unprivileged() && reported(life::lock_down(Role::Compiler, &Grants::none().over(&system)))
        })
    };
    let compiler = attempt(other, || open(c"/usr/bin/env", libc::O_RDONLY));
    assert_ne!(compiler, Ended::Worked, "the compiler has no system path");
    assert_ne!(compiler, attempt(|| false, || 0), "it was in its jail");
}

fn command_filter() {
    let directory = tempfile::tempdir().expect("a directory for the test");
    let workspace: OwnedFd = std::fs::File::open(directory.path()).expect("opens").into();
    let path = CString::new(directory.path().join("f").into_os_string().into_encoded_bytes()).expect("no NUL");
    std::fs::write(directory.path().join("f"), b"x").expect("writes");
    let tries = |act: &dyn Fn() -> i32| {
        let grants = Grants::none().with(GrantKind::WorkspaceReadWrite, workspace.as_fd());
        attempt(|| command(&grants), act)
    };
    let at = libc::AT_FDCWD;
    assert_eq!(tries(&|| call!(libc::SYS_seccomp, 1, 8, 0)), EPERM, "a listener");
    let own = std::process::id();
    assert_eq!(tries(&|| call!(libc::SYS_kcmp, own, own, 1, 0, 0)), EPERM, "a comparison of processes");
    assert_eq!(tries(&|| call!(libc::SYS_clone3, 0, 0)), ENOSYS, "what its flags say no filter can read");
    assert_eq!(tries(&|| call!(libc::SYS_process_vm_readv, own)), EPERM, "reading memory, which is the keeper's to do");
    assert_eq!(tries(&|| call!(libc::SYS_seccomp, 1, 0, 0)), Ended::Errno(libc::EFAULT), "a plain filter");
    assert_eq!(
        tries(&|| call!(libc::SYS_socket, libc::AF_INET, libc::SOCK_STREAM)),
        EACCES,
        "TCP, which is for others"
    );
    assert_eq!(tries(&|| call!(libc::SYS_chmod, path.as_ptr(), 0o600)), EPERM);
    assert_eq!(tries(&|| call!(libc::SYS_fchmodat, at, path.as_ptr(), 0o600)), EPERM);
    assert_eq!(tries(&|| call!(452, at, path.as_ptr(), 0o600, 0)), EPERM, "fchmodat2");
    assert_eq!(tries(&|| call!(libc::SYS_utimensat, at, path.as_ptr(), 0, 0)), EPERM);
    assert_eq!(
        tries(&|| call!(libc::SYS_setxattr, path.as_ptr(), c"user.x".as_ptr(), 0, 0, 0)),
        Ended::Errno(libc::EOPNOTSUPP)
    );
}

/// The runner's filter leaves TCP to commands with hosts; its Landlock domain has no port, and theirs lie in it.
fn fence() {
    if warden_jail::landlock::kernel_abi() < 4 {
        crate::skip::skipped("Landlock has no ports here");
        return;
    }
    let server = std::net::TcpListener::bind("127.0.0.1:0").expect("listens");
    let port = server.local_addr().expect("an address").port();
    let connect =
        || std::net::TcpStream::connect(("127.0.0.1", port)).map_or_else(|e| e.raw_os_error().unwrap_or(254), |_| 0);
    assert_eq!(attempt(runner, connect), EACCES);
    assert_eq!(attempt(unprivileged, connect), Ended::Worked, "control");
}

fn scope() {
    let none = Grants::none();
    assert_eq!(attempt(|| command(&none), || call!(libc::SYS_kill, parent(), 0)), EPERM);
    assert_eq!(attempt(|| true, || call!(libc::SYS_kill, parent(), 0)), Ended::Worked, "control");
    assert_eq!(attempt(|| command(&none), || call!(libc::SYS_kill, std::process::id(), 0)), Ended::Worked);
}

/// Runs a shell line in the command's jail, in a workspace whose programs may run.
fn shell(workspace: &Path, line: &str) -> Ended {
    shell_with(workspace, &[GrantKind::WorkspaceReadWrite, GrantKind::WorkspaceExecute], line)
}

/// Runs a shell line in the command's jail, in a directory that is granted in these ways.
fn shell_with(directory: &Path, kinds: &[GrantKind], line: &str) -> Ended {
    let opened: OwnedFd = std::fs::File::open(directory).expect("opens").into();
    let line = CString::new(line).expect("no NUL");
    let jail = || {
        let grants = kinds.iter().fold(Grants::none(), |grants, kind| grants.with(*kind, opened.as_fd()));
        std::env::set_current_dir(directory).is_ok() && command(&grants)
    };
    attempt(jail, || {
        let arguments = [c"sh".as_ptr(), c"-c".as_ptr(), line.as_ptr(), std::ptr::null()];
        let environment = [c"PATH=/usr/bin:/bin".as_ptr(), std::ptr::null()];
        // SAFETY: both arrays are null-terminated and live through the call, which returns only on an error.
        unsafe { libc::execve(c"/bin/sh".as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
        254
    })
}

fn programs() {
    let directory = tempfile::tempdir().expect("a directory for the test");
    let work = directory.path().join("work");
    std::fs::create_dir(&work).expect("makes a directory");
    std::fs::write(directory.path().join("beside"), b"secret").expect("writes");
    assert_eq!(shell(&work, "echo made > file && grep -q made file && ls -l /usr > list"), Ended::Worked);
    assert_eq!(shell(&work, "cat ../beside 2>/dev/null"), Ended::Errno(1));
    assert_eq!(shell(&work, "echo x > ../new 2>/dev/null"), Ended::Errno(2));
    assert_eq!(shell(&work, "cat /etc/shadow 2>/dev/null"), Ended::Errno(1));
    assert_eq!(shell(&work, "ls / >/dev/null 2>&1"), Ended::Errno(2));
    assert_eq!(shell(&work, "(echo a; echo b) | sort -r | head -1 | grep -q b"), Ended::Worked);
    assert_eq!(shell(&work, "cp file copy && mv copy moved && rm moved"), Ended::Worked);
    assert_eq!(shell(&work, "touch file 2>/dev/null"), Ended::Errno(1), "times want a keeper");
    assert_eq!(shell(&work, "cp /bin/true ./own && ./own"), Ended::Worked, "exec_workspace");
}

fn private_programs() {
    let directory = tempfile::tempdir().expect("a directory for the test");
    let only = [GrantKind::PrivateDirectory];
    let tries = |kinds: &[GrantKind], line: &str| shell_with(directory.path(), kinds, line);
    assert_eq!(tries(&only, "mkdir d && echo kept > d/file && grep -q kept d/file"), Ended::Worked);
    assert_eq!(tries(&only, "cp /bin/true own && test -f own"), Ended::Worked, "control: it is there");
    assert_eq!(tries(&only, "./own 2>/dev/null"), Ended::Errno(126), "no right to execute");
    assert_eq!(tries(&only, "exec 2>/dev/null; /lib64/ld-linux-x86-64.so.2 ./own"), Ended::Worked, "a loader reads it");
    assert_eq!(tries(&[GrantKind::PrivateDirectory, GrantKind::PrivateExecute], "./own"), Ended::Worked);
    assert_eq!(
        tries(&[GrantKind::PrivateExecute], "cat own 2>/dev/null"),
        Ended::Errno(1),
        "execution alone reads nothing"
    );
}
