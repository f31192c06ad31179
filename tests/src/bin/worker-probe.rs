//! A hostile process in the worker's real jail: does one act and says how it went.
//!
//! Run by the escape tests as `worker-probe free|jailed ACT`. `jailed` makes the calls that a template makes before its
//! first fork and a worker before its first guest; `free` makes none, and so shows that the probe itself works. Status 0:
//! it worked; 1 to 199: the errno it was answered with; 200 and up: the probe is broken. A signal is the filter's answer.

#![allow(clippy::unnecessary_mut_passed, reason = "the kernel writes through these pointers")]

use std::process::exit;
use warden_jail::{Grants, Role, life, process};

/// The jail could not be built, or there is no such act: the test is broken, not the jail proved.
const BROKEN: i32 = 200;

fn broken<E: std::fmt::Display>(error: E) -> ! {
    eprintln!("worker-probe: {error}");
    exit(BROKEN)
}

fn shut() {
    process::set_dumpable_off().unwrap_or_else(|e| broken(e));
    process::drop_capabilities().unwrap_or_else(|e| broken(e));
    life::lock_down(Role::Template, &Grants::none()).unwrap_or_else(|e| broken(e));
    let scope = life::worker_scope().unwrap_or_else(|e| broken(e));
    life::lock_down_worker(scope).unwrap_or_else(|e| broken(e));
}

/// One system call; 0, or its errno.
fn call(number: libc::c_long, args: [libc::c_long; 6]) -> i32 {
    // SAFETY: arguments are numbers, null, or pointers to values that live through the call.
    let answer = unsafe { libc::syscall(number, args[0], args[1], args[2], args[3], args[4], args[5]) };
    if answer >= 0 { 0 } else { std::io::Error::last_os_error().raw_os_error().unwrap_or(BROKEN) }
}

fn args(given: &[libc::c_long]) -> [libc::c_long; 6] {
    let mut all = [0; 6];
    all.iter_mut().zip(given).for_each(|(to, from)| *to = *from);
    all
}

fn pointer<T: ?Sized>(to: &T) -> libc::c_long {
    std::ptr::from_ref(to).cast::<u8>() as libc::c_long
}

fn map(protection: i32) -> i32 {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    call(libc::SYS_mmap, args(&[0, 4096, protection.into(), flags.into(), -1, 0]))
}

/// Forks; the child ends at once.
fn fork(number: libc::c_long) -> i32 {
    // SAFETY: a plain fork of a process with one thread; the child only ends.
    let answer = unsafe { libc::syscall(number, libc::SIGCHLD, 0, 0, 0, 0) };
    match answer {
        0 => exit(0),
        1.. => 0,
        _ => std::io::Error::last_os_error().raw_os_error().unwrap_or(BROKEN),
    }
}

fn act(name: &str) -> i32 {
    let here = libc::c_long::from(libc::AT_FDCWD);
    let parent = libc::c_long::from(std::os::unix::process::parent_id());
    let (stream, dgram) = (libc::c_long::from(libc::SOCK_STREAM), libc::c_long::from(libc::SOCK_DGRAM));
    match name {
        "open" => call(libc::SYS_openat, args(&[here, pointer(c"/etc/passwd"), 0])),
        "openat2" => call(libc::SYS_openat2, args(&[here, pointer(c"/etc/passwd"), pointer(&[0_u64; 3]), 24])),
        "stat" => call(libc::SYS_newfstatat, args(&[here, pointer(c"/etc/passwd"), pointer(&mut [0_u8; 256]), 0])),
        "write-open" => call(libc::SYS_openat, args(&[here, pointer(c"/dev/null"), libc::O_WRONLY.into()])),
        "readlink" => {
            call(libc::SYS_readlinkat, args(&[here, pointer(c"/proc/self/exe"), pointer(&mut [0_u8; 64]), 64]))
        }
        "chdir" => call(libc::SYS_chdir, args(&[pointer(c"/")])),
        "unix-socket" => call(libc::SYS_socket, args(&[libc::AF_UNIX.into(), stream, 0])),
        "inet-socket" => call(libc::SYS_socket, args(&[libc::AF_INET.into(), stream, 0])),
        "udp-socket" => call(libc::SYS_socket, args(&[libc::AF_INET.into(), dgram, 0])),
        "socketpair" => call(libc::SYS_socketpair, args(&[libc::AF_UNIX.into(), stream, 0, pointer(&mut [0_i32; 2])])),
        "exec" => {
            let line = [c"/bin/true".as_ptr(), std::ptr::null()];
            call(libc::SYS_execve, args(&[pointer(c"/bin/true"), pointer(&line), pointer(&line[1..])]))
        }
        "fork" => fork(libc::SYS_clone),
        "vfork" => fork(libc::SYS_fork),
        "ptrace" => call(libc::SYS_ptrace, args(&[libc::PTRACE_TRACEME.into()])),
        "kill-parent" => call(libc::SYS_kill, args(&[parent, 0])),
        "pidfd" => call(libc::SYS_pidfd_open, args(&[parent, 0])),
        "map-executable" => map(libc::PROT_READ | libc::PROT_EXEC),
        "map-writable-executable" => map(libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC),
        "memfd" => call(libc::SYS_memfd_create, args(&[pointer(c"x"), 0])),
        "map" => map(libc::PROT_READ | libc::PROT_WRITE),
        "random" => call(libc::SYS_getrandom, args(&[pointer(&mut [0_u8; 8]), 8, 0])),
        "uid" => call(libc::SYS_setuid, args(&[0])),
        "dumpable" => call(libc::SYS_prctl, args(&[libc::PR_SET_DUMPABLE.into(), 1])),
        "unshare" => call(libc::SYS_unshare, args(&[libc::CLONE_NEWUSER.into()])),
        "io-uring" => call(libc::SYS_io_uring_setup, args(&[1, pointer(&mut [0_u8; 120])])),
        other => broken(format!("there is no act `{other}`")),
    }
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    match words.get(1).map(String::as_str) {
        Some("free") => {}
        Some("jailed") => shut(),
        _ => broken("worker-probe free|jailed ACT"),
    }
    exit(act(words.get(2).map_or("", String::as_str)));
}
