//! What this host can enforce, found by doing it in a child: for `warden doctor`, whose own crate knows no jail.
//!
//! Runs in a process with one thread that serves nobody. It reads nothing from a jail. A child that fails or dies means
//! that the thing cannot be had here; no version and no sysctl is believed.

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, pause};
use std::fs::File;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use warden_jail::delegation::Delegation;
use warden_jail::fork::Forked;
use warden_jail::landlock::Domain;
use warden_jail::namespaces::{self, OwnIds};
use warden_jail::notify::{self, Mediated, Network, Waiting};
use warden_jail::{Grants, Isolation, LifeError, Role, life, process, root};

pub use warden_jail::groups::Controllers;
pub use warden_jail::probe::Findings;

/// A jail of ours, put on and tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleFinding {
    /// The role's name in rule files and records.
    pub role: &'static str,
    /// What the jail leaves unenforced here, or why it cannot be had.
    pub held: Result<Vec<String>, String>,
}

/// Why nothing could be tried.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// A fork would leave the other threads' locks held.
    #[error("features are tried in forked children, and this process has {0} threads")]
    Threads(usize),
}

/// Tries what all jails are made of.
pub fn features() -> Result<Findings, ProbeError> {
    one_thread()?;
    Ok(warden_jail::probe::all())
}

/// Puts every role's jail on a child: domain, filter and self-test, as the role itself does (T-03).
pub fn roles() -> Result<Vec<RoleFinding>, ProbeError> {
    one_thread()?;
    let tried = |role: Role| RoleFinding { role: role.name(), held: try_role(role) };
    Ok(Role::ALL.into_iter().map(tried).collect())
}

/// Whether the keeper of a command may read the arguments of the command's calls, which Yama may forbid.
pub fn memory_of_a_child() -> Result<bool, ProbeError> {
    one_thread()?;
    Ok(in_child(|_| {
        // Root's capabilities would hide what an ordinary keeper meets.
        let _ = process::drop_bounding_set();
        process::drop_capabilities().is_ok() && read_a_child()
    })
    .is_ok())
}

/// Puts a child where cap-proc's runner and its commands are put, into namespaces and a root of its own.
pub fn command_namespaces() -> Result<Result<(), String>, ProbeError> {
    one_thread()?;
    Ok(in_child(|page| {
        // As the spawner: with root's capabilities the child could do what the runner cannot.
        let _ = process::drop_bounding_set();
        process::drop_capabilities().is_ok() && enter_namespaces(page)
    })
    .map(drop)
    .map_err(|lines| lines.join("; ")))
}

/// Takes the control group that the host has given to us, as a session does, and tries in it what commands are held by.
pub fn control_group() -> Result<Result<Controllers, String>, ProbeError> {
    one_thread()?;
    Ok(Delegation::take().map(|given| given.controllers).map_err(|why| why.to_string()))
}

fn one_thread() -> Result<(), ProbeError> {
    match crate::birth::thread_count() {
        1 => Ok(()),
        count => Err(ProbeError::Threads(count)),
    }
}

fn try_role(role: Role) -> Result<Vec<String>, String> {
    let said = in_child(|page| {
        match lock_down(role) {
            // From here on a filter holds: what is said is copied, and nothing is allocated.
            Ok(isolation) => {
                page.say(isolation.degraded.iter().map(String::as_str));
                true
            }
            Err(error) => {
                page.say([error.to_string().as_str()].into_iter());
                false
            }
        }
    });
    match said {
        Ok(lines) => Ok(lines),
        Err(lines) if lines.is_empty() => Err("a child that put it on was killed".to_owned()),
        Err(lines) => Err(lines.join("; ")),
    }
}

/// As the processes of the role do it, from the bottom where a role only adds to another's jail.
fn lock_down(role: Role) -> Result<Isolation, LifeError> {
    process::drop_bounding_set()?;
    process::drop_capabilities()?;
    let none = Grants::none();
    match role {
        Role::Worker => {
            life::lock_down(Role::Template, &none)?;
            life::lock_down_worker(life::worker_scope()?)
        }
        Role::CapProcKeeper => {
            life::lock_down_usher()?;
            life::lock_down_born_keeper()?;
            let entered = Domain::build(role, &none)?.enter()?;
            let (landlock_abi, degraded) = (entered.abi, entered.degraded);
            Ok(Isolation { landlock_abi, seccomp_filters: 2, no_new_privs: true, degraded })
        }
        Role::CapProcCommand => {
            life::lock_down(Role::CapProcRunner, &none)?;
            life::lock_down_command(&none)
        }
        Role::CapProcCommandSupervised => supervised(&none, Network::Refused),
        Role::CapProcCommandNetwork => supervised(&none, Network::Connected),
        alone => life::lock_down(alone, &none),
    }
}

/// What a command has over the runner's jail where its keeper performs calls for it.
fn supervised(grants: &Grants<'_>, network: Network) -> Result<Isolation, LifeError> {
    life::lock_down(Role::CapProcRunner, grants)?;
    let domain = life::enter_command_domain(grants)?;
    match notify::install_supervised(Waiting::Paths, Mediated { network, ..Mediated::NOTHING }) {
        // The listener stays open to the child's end: no call of its own waits for an answer.
        Ok((listener, supervised)) => {
            std::mem::forget(listener);
            life::lock_down_command_supervised(domain, supervised)
        }
        Err(source) => Err(LifeError::Prepare { role: Role::CapProcCommandSupervised, source: source.into() }),
    }
}

fn enter_namespaces(page: &Page) -> bool {
    let ids = OwnIds::read();
    match namespaces::fork_apart() {
        Ok(Forked::Parent { child }) => waits(child),
        Ok(Forked::Child) => {
            let entered = namespaces::settle(ids).map_err(|e| e.to_string());
            let entered = entered.and_then(|()| root::enter(Role::CapProcRunner, &[]).map_err(|e| e.to_string()));
            page.say(entered.as_ref().err().map(String::as_str).into_iter());
            // SAFETY: ends this child at once; the parent's exit handlers are not its.
            unsafe { libc::_exit(i32::from(entered.is_err())) }
        }
        Err(error) => {
            page.say([error.to_string().as_str()].into_iter());
            false
        }
    }
}

fn read_a_child() -> bool {
    static MARK: [u8; 8] = *b"warden ?";
    // SAFETY: this child has one thread.
    let Ok(ForkResult::Parent { child }) = (unsafe { fork() }).inspect(|side| {
        if side.is_child() {
            // A command is made readable again by its exec.
            let _ = nix::sys::prctl::set_dumpable(true);
            loop {
                pause();
            }
        }
    }) else {
        return false;
    };
    let place = u64::try_from(MARK.as_ptr().addr()).unwrap_or(0);
    let mut found = [0_u8; 8];
    let mut read = false;
    for _ in 0..50 {
        let memory = File::open(format!("/proc/{child}/mem"));
        read = memory.is_ok_and(|memory| memory.read_exact_at(&mut found, place).is_ok()) && found == MARK;
        if read {
            break;
        }
        // The child may not have been scheduled yet.
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let _ = kill(child, Signal::SIGKILL);
    let _ = waitpid(child, None);
    read
}

/// Memory that a child shares with us: it can tell us why after a filter has taken every other way from it.
struct Page {
    start: std::ptr::NonNull<u8>,
}

const PAGE_BYTES: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

impl Page {
    fn new() -> Result<Self, Errno> {
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: an anonymous mapping at a place of the kernel's choosing replaces nothing.
        let start = unsafe { mmap_anonymous(None, PAGE_BYTES, access, MapFlags::MAP_SHARED) }?;
        Ok(Self { start: start.cast() })
    }

    /// Lines, as many as there is room for; the last byte stays zero.
    fn say<'a>(&self, lines: impl Iterator<Item = &'a str>) {
        let bytes = lines.flat_map(|line| line.bytes().chain([b'\n']));
        for (at, byte) in bytes.take(PAGE_BYTES.get().saturating_sub(1)).enumerate() {
            // SAFETY: `at` is less than the length of the mapping.
            let place = unsafe { self.start.add(at) };
            // SAFETY: it lies in the mapping, which is writable and only this child writes.
            unsafe { place.write_volatile(byte) };
        }
    }

    /// What was said; after the child's end only.
    fn lines(&self) -> Vec<String> {
        let mut text = Vec::new();
        for at in 0..PAGE_BYTES.get() {
            // SAFETY: `at` is less than the length of the mapping.
            let place = unsafe { self.start.add(at) };
            // SAFETY: it lies in the mapping, which is readable, and the child has ended.
            match unsafe { place.read_volatile() } {
                0 => break,
                byte => text.push(byte),
            }
        }
        String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, of this length, and nothing points into it any more.
        let _ = unsafe { munmap(self.start.cast(), PAGE_BYTES.get()) };
    }
}

/// Runs `attempt` in a child. What it said, as `Ok` only if it returned true and the child ended in peace.
fn in_child(attempt: impl FnOnce(&Page) -> bool) -> Result<Vec<String>, Vec<String>> {
    let page = Page::new().map_err(|e| vec![format!("no shared memory: {e}")])?;
    // SAFETY: the callers have checked that this process has one thread.
    match unsafe { fork() }.map_err(|e| vec![format!("fork: {e}")])? {
        ForkResult::Child => {
            let status = i32::from(!attempt(&page));
            // SAFETY: ends this child at once; the parent's exit handlers are not its.
            unsafe { libc::_exit(status) }
        }
        ForkResult::Parent { child } => {
            let fine = waits(child);
            let lines = page.lines();
            if fine { Ok(lines) } else { Err(lines) }
        }
    }
}

fn waits(child: Pid) -> bool {
    loop {
        match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, status)) => return status == 0,
            Ok(WaitStatus::Signaled(..)) => return false,
            Err(Errno::EINTR) | Ok(_) => {}
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    // These run in a process of many threads, where the public functions refuse: the children allocate with glibc, which
    // is safe after a fork.

    #[test]
    fn every_jail_that_is_put_on_is_in_force_here_or_says_why_not() {
        for role in Role::ALL {
            match try_role(role) {
                Ok(degraded) => assert!(degraded.iter().all(|line| !line.is_empty()), "{role}: {degraded:?}"),
                Err(why) if why.contains("lock that down first") => {
                    panic!("{role} was tried without what is beneath it: {why}")
                }
                Err(why) => assert!(!why.is_empty(), "{role}"),
            }
        }
        assert_eq!(try_role(Role::CapLlmReplay), Ok(Vec::new()), "its rules need seccomp only");
    }

    /// The kernel nests at most 16 domains, so that a process in 16 has a host without Landlock's use around it.
    #[test]
    fn a_jail_that_the_kernel_refuses_is_not_reported_as_held() {
        use warden_jail::landlock::{Domain, Refer, kernel_abi};
        if kernel_abi() < 6 {
            crate::skip::skipped("this kernel has no Landlock scopes");
            return;
        }
        assert_eq!(in_child(|_| try_role(Role::CapFs).is_ok()), Ok(Vec::new()), "the control: it can be had here");
        let nested = in_child(|page| {
            let scope = || Domain::scope_only(Role::Worker, Refer::Denied).and_then(Domain::enter);
            let full = (0..16).all(|_| scope().is_ok());
            let tried = try_role(Role::CapFs);
            page.say([format!("{tried:?}").as_str()].into_iter());
            full && tried.is_err()
        });
        assert!(nested.is_ok(), "{nested:?}");
    }

    /// A child whose own user namespace allows no other beneath it is a hardened host.
    #[test]
    fn namespaces_are_had_where_the_host_allows_them_and_the_reason_is_said_where_not() {
        let try_it = |page: &Page| enter_namespaces(page);
        if let Err(why) = in_child(try_it) {
            crate::skip::skipped(&format!("this host allows no namespaces: {why:?}"));
            return;
        }
        let hardened = in_child(|page| {
            let ids = (nix::unistd::geteuid(), nix::unistd::getegid());
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER).is_ok()
                && fs::write("/proc/self/setgroups", "deny").is_ok()
                && fs::write("/proc/self/uid_map", format!("0 {} 1", ids.0)).is_ok()
                && fs::write("/proc/self/gid_map", format!("0 {} 1", ids.1)).is_ok()
                && fs::write("/proc/sys/user/max_user_namespaces", "0").is_ok()
                && !enter_namespaces(page)
        });
        let said = hardened.expect("the control: such a place can be made here");
        assert!(said.concat().contains("no new namespaces"), "{said:?}");
    }

    #[test]
    fn what_a_child_says_arrives_and_a_failed_or_killed_child_is_no_success() {
        let say = |page: &Page| page.say(["one", "two"].into_iter());
        let both = vec!["one".to_owned(), "two".to_owned()];
        assert_eq!(
            in_child(|page| {
                say(page);
                true
            }),
            Ok(both.clone())
        );
        assert_eq!(
            in_child(|page| {
                say(page);
                false
            }),
            Err(both.clone())
        );
        let killed = in_child(|page| {
            say(page);
            let _ = kill(Pid::this(), Signal::SIGKILL);
            true
        });
        assert_eq!(killed, Err(both));
    }

    #[test]
    fn an_endless_message_does_not_leave_the_page() {
        let long = "x".repeat(3 * PAGE_BYTES.get());
        let said = in_child(|page| {
            page.say([long.as_str()].into_iter());
            true
        });
        assert_eq!(said.map(|lines| lines.concat().len()), Ok(PAGE_BYTES.get() - 1));
    }

    #[test]
    fn a_process_of_many_threads_is_not_forked() {
        let (send, receive) = std::sync::mpsc::channel::<()>();
        let second = std::thread::spawn(move || receive.recv());
        assert!(matches!(features(), Err(ProbeError::Threads(2..))));
        drop(send);
        let _ = second.join();
    }
}
