//! What this host can enforce, found by using each feature in a child, never by version or sysctl.
//!
//! Runs in `warden doctor` and in the choice of `auto`, from a process with one thread; a child that fails
//! or dies means that the feature is not there.

use crate::landlock;
use std::io;

/// The findings, each proved by use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Findings {
    /// As the kernel states it; 0 where there is none.
    pub landlock_abi: u8,
    /// A domain without any file right refused the listing of `/`.
    pub landlock_files: bool,
    /// A signal to the parent was refused in a scope.
    pub landlock_scope: bool,
    /// A role's filter was installed and passed its self-test.
    pub seccomp_filter: bool,
    /// A fork waited for, and obeyed, a supervisor.
    pub seccomp_notify: bool,
    pub user_namespace: bool,
    /// With a user namespace: a child was pid 1.
    pub pid_namespace: bool,
    pub mount_namespace: bool,
    pub network_namespace: bool,
}

/// Tries everything.
pub fn all() -> Findings {
    Findings {
        landlock_abi: landlock::kernel_abi(),
        landlock_files: in_child(landlock_files),
        landlock_scope: in_child(landlock_scope),
        seccomp_filter: in_child(seccomp_filter),
        seccomp_notify: seccomp_notify(),
        user_namespace: in_child(|| unshare(libc::CLONE_NEWUSER)),
        pid_namespace: in_child(pid_namespace),
        mount_namespace: in_child(|| unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS)),
        network_namespace: in_child(|| unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET)),
    }
}

fn landlock_files() -> bool {
    let domain = landlock::Domain::build(crate::Role::Compiler, &landlock::Grants::none());
    domain.and_then(landlock::Domain::enter).is_ok_and(|entered| entered.abi > 0)
}

fn landlock_scope() -> bool {
    let Some(witness) = crate::witness::ScopeWitness::prepare() else {
        return false;
    };
    let domain = landlock::Domain::scope_only(crate::Role::CapProcRunner, landlock::Refer::Kept);
    domain.and_then(landlock::Domain::enter).is_ok() && witness.in_force()
}

fn seccomp_filter() -> bool {
    let role = crate::Role::CapLlmReplay;
    crate::seccomp::install(role).is_ok() && crate::self_test::run(role).is_ok()
}

/// A child forks under a filter whose listener its second thread holds, and must get that thread's answer.
fn seccomp_notify() -> bool {
    in_child(|| {
        if crate::process::no_new_privs().is_err() {
            return false;
        }
        let Ok(listener) = crate::notify::install() else {
            return false;
        };
        let supervisor = std::thread::Builder::new().spawn(move || {
            let notice = listener.receive().ok().flatten();
            notice.is_some_and(|notice| listener.refuse(&notice, libc::EXDEV).is_ok())
        });
        let Ok(supervisor) = supervisor else {
            return false;
        };
        // The bare call: libc's fork would wait with the allocator's locks held, which the starting thread needs.
        // SAFETY: the child, if one is made against the supervisor's word, ends at once.
        let forked = unsafe { libc::syscall(libc::SYS_fork) };
        if forked == 0 {
            exit(1);
        }
        let refused = forked < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EXDEV);
        refused && supervisor.join().unwrap_or(false)
    })
}

fn pid_namespace() -> bool {
    // SAFETY: getpid only returns a number.
    unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWPID) && in_child(|| unsafe { libc::getpid() } == 1)
}

fn unshare(flags: i32) -> bool {
    // SAFETY: takes flags; changes the calling child alone.
    unsafe { libc::unshare(flags) == 0 }
}

fn exit(code: i32) -> ! {
    // SAFETY: ends the process without running the parent's exit handlers twice.
    unsafe { libc::_exit(code) }
}

/// Runs the attempt in a forked child; true only if the child says so and ends in peace.
fn in_child(attempt: impl FnOnce() -> bool) -> bool {
    // SAFETY: the caller has one thread, so the child may run ordinary code.
    let child = unsafe { libc::fork() };
    match child {
        0 => exit(i32::from(!attempt())),
        1.. => {
            let mut status = 0;
            loop {
                // SAFETY: waits for our own child and writes one int.
                let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
                if waited == child {
                    return libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0;
                }
                if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                    return false;
                }
            }
        }
        _ => false,
    }
}
