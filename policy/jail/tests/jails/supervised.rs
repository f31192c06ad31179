//! Forks of a command wait for their keeper.

use crate::call;
use crate::child::{self, Ended, attempt, ended, reported, unprivileged};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg, socketpair,
};
use std::ffi::CString;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use warden_jail::notify::{self, Listener};
use warden_jail::{GrantKind, Grants, Role, life, restart};

pub const TESTS: &[crate::Test] = &[
    ("a_fork_goes_on_when_the_keeper_says_so", allowed),
    ("a_fork_is_refused_when_the_keeper_says_so", refused),
    ("threads_do_not_wait_for_the_keeper", threads),
    ("a_listener_ends_with_its_processes", hangup),
    ("mode_times_and_owner_wait_for_the_keeper", changes),
    ("space_that_a_file_takes_waits_for_the_keeper", space),
    ("a_change_of_mode_is_never_let_go_on", not_let_go),
];

/// Starts a supervised child in the command's jail that runs `act`, and takes its listener.
fn start(act: fn() -> i32) -> (i32, Listener) {
    launch(act, || {
        let listener = notify::install().ok()?;
        Some((listener, Box::new(|| reported(life::lock_down_command(&Grants::none())))))
    })
}

/// What a child does after its listener is on its way.
type Lock<'a> = Box<dyn FnOnce() -> bool + 'a>;

fn launch<'a>(act: impl FnOnce() -> i32, listen: impl FnOnce() -> Option<(Listener, Lock<'a>)>) -> (i32, Listener) {
    launch_in(&Grants::none(), act, listen)
}

fn launch_in<'a>(
    runner: &Grants<'_>,
    act: impl FnOnce() -> i32,
    listen: impl FnOnce() -> Option<(Listener, Lock<'a>)>,
) -> (i32, Listener) {
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).expect("a pair");
    // SAFETY: this program has one thread.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: sets a timer of this child.
        unsafe { libc::alarm(60) };
        let jailed = unprivileged() && reported(life::lock_down(Role::CapProcRunner, runner));
        let Some((listener, lock)) = listen() else { child::exit(255) };
        let listener = OwnedFd::from(listener);
        let rights = [listener.as_raw_fd()];
        let message = [ControlMessage::ScmRights(&rights)];
        let sent = sendmsg::<()>(theirs.as_raw_fd(), &[IoSlice::new(b"L")], &message, MsgFlags::empty(), None);
        drop(listener);
        child::exit(if jailed && sent.is_ok() && lock() { act() } else { 255 });
    }
    drop(theirs);
    (pid, Listener::from(receive(ours.as_raw_fd())))
}

/// Starts a child whose changes of mode and times wait too, in a workspace; `seen` beside it is read-only.
pub fn start_in(workspace: &Path, act: impl FnOnce() -> i32) -> (i32, Listener) {
    start_with(workspace, notify::Mediated::NOTHING, act)
}

fn start_with(workspace: &Path, mediated: notify::Mediated, act: impl FnOnce() -> i32) -> (i32, Listener) {
    let opened: OwnedFd = std::fs::File::open(workspace).expect("opens").into();
    let seen: OwnedFd = std::fs::File::open(workspace.with_file_name("seen")).expect("opens").into();
    let grants = || {
        Grants::none()
            .with(GrantKind::WorkspaceReadOnly, seen.as_fd())
            .with(GrantKind::WorkspaceReadWrite, opened.as_fd())
            .with(GrantKind::WorkspaceExecute, opened.as_fd())
    };
    let act = || {
        // As an exec would: else an ordinary user's keeper cannot read the path.
        let dumpable = call!(libc::SYS_prctl, libc::PR_SET_DUMPABLE, 1);
        if dumpable == 0 { act() } else { dumpable }
    };
    launch_in(&grants(), act, || {
        std::env::set_current_dir(workspace).ok()?;
        let domain = life::enter_command_domain(&grants()).ok()?;
        let (listener, supervised) = notify::install_supervised(notify::Waiting::Metadata, mediated).ok()?;
        let lock = move || reported(life::lock_down_command_supervised(domain, supervised));
        Some((listener, Box::new(lock)))
    })
}

/// What these tests' keeper answers where a real one judges and acts; no filter and no file system says it.
const KEEPERS_ERRNO: i32 = libc::EBADRQC;
/// A call that waited for the keeper.
pub const KEEPERS: Ended = Ended::Errno(KEEPERS_ERRNO);

/// Answers as a keeper until the last process is gone; returns how the first one ended.
fn keep(pid: i32, listener: &Listener) -> Ended {
    loop {
        let mut wait = libc::pollfd { fd: listener.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: polls one descriptor; the struct lives through the call.
        let ready = unsafe { libc::poll(&raw mut wait, 1, 60_000) };
        assert_eq!(ready, 1, "the command hangs");
        if wait.revents & libc::POLLIN == 0 {
            return ended(pid);
        }
        let Some(notice) = listener.receive().expect("receives") else {
            continue;
        };
        if notice.is_process() {
            listener.proceed(&notice).expect("answers");
        } else if notice.is_connect() {
            listener.refuse(&notice, libc::ECONNREFUSED).expect("answers");
        } else if notice.is_child_handler() {
            restart::perform(listener, &notice).expect("answers");
        } else {
            listener.refuse(&notice, KEEPERS_ERRNO).expect("answers");
        }
    }
}

fn receive(link: RawFd) -> OwnedFd {
    let mut byte = [0u8; 1];
    let mut space = nix::cmsg_space!([RawFd; 1]);
    let mut parts = [IoSliceMut::new(&mut byte)];
    let message = recvmsg::<()>(link, &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC).expect("a message");
    for control in message.cmsgs().expect("control messages") {
        if let ControlMessageOwned::ScmRights(descriptors) = control {
            // SAFETY: the kernel has just made this descriptor for us.
            return unsafe { OwnedFd::from_raw_fd(descriptors[0]) };
        }
    }
    panic!("no listener came");
}

/// Forks by the bare call; 0 if the child ran, else the errno.
fn forks() -> i32 {
    // SAFETY: the grandchild ends at once.
    let pid = unsafe { libc::fork() };
    match pid {
        0 => child::exit(0),
        1.. => i32::from(ended(pid) != Ended::Worked),
        _ => std::io::Error::last_os_error().raw_os_error().unwrap_or(254),
    }
}

fn allowed() {
    let (pid, listener) = start(forks);
    let notice = listener.receive().expect("receives").expect("a fork waits");
    assert_eq!(i64::from(notice.number), libc::SYS_clone);
    assert_eq!(notice.pid as i32, pid);
    assert!(listener.is_waiting(&notice));
    assert!(listener.proceed(&notice).expect("answers"));
    assert!(!listener.is_waiting(&notice));
    assert_eq!(ended(pid), Ended::Worked);
}

fn refused() {
    let (pid, listener) = start(forks);
    let notice = listener.receive().expect("receives").expect("a fork waits");
    assert!(listener.refuse(&notice, libc::EAGAIN).expect("answers"));
    assert_eq!(ended(pid), Ended::Errno(libc::EAGAIN));
    assert!(!listener.proceed(&notice).expect("nobody waits any more"));
}

fn threads() {
    let (pid, _listener) =
        start(|| std::thread::Builder::new().spawn(|| ()).map_or(1, |thread| i32::from(thread.join().is_err())));
    assert_eq!(ended(pid), Ended::Worked);
}

fn hangup() {
    let (pid, listener) = start(|| 0);
    assert_eq!(ended(pid), Ended::Worked);
    let mut wait = libc::pollfd { fd: listener.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: polls one descriptor; the struct lives through the call.
    let ready = unsafe { libc::poll(&raw mut wait, 1, 5000) };
    assert_eq!(ready, 1);
    assert_ne!(wait.revents & libc::POLLHUP, 0);
}

pub struct Tree {
    directory: tempfile::TempDir,
}

impl Tree {
    /// `work/inside`, `seen/inside` (in a read-only workspace), `beside` (outside of both), and `work/link` which leads there; all of mode 0600.
    pub fn new() -> Tree {
        let directory = tempfile::tempdir().expect("a directory for the test");
        let tree = Tree { directory };
        for name in ["work", "seen"] {
            std::fs::create_dir(tree.path(name)).expect("makes a directory");
        }
        for name in ["work/inside", "seen/inside", "beside"] {
            std::fs::write(tree.path(name), b"x").expect("writes");
            std::fs::set_permissions(tree.path(name), std::fs::Permissions::from_mode(0o600)).expect("sets a mode");
        }
        std::os::unix::fs::symlink("../beside", tree.path("work/link")).expect("links");
        tree
    }

    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    pub fn mode(&self, name: &str) -> u32 {
        std::fs::metadata(self.path(name)).expect("is there").permissions().mode() & 0o7777
    }

    pub fn absolute(&self, name: &str) -> CString {
        CString::new(self.path(name).into_os_string().into_encoded_bytes()).expect("no NUL")
    }

    /// Runs an act of a command whose rule names hosts; its keeper connects nothing.
    pub fn tries_connected(&self, act: impl FnOnce() -> i32) -> Ended {
        let mediated = notify::Mediated { network: notify::Network::Connected, ..notify::Mediated::NOTHING };
        let (pid, listener) = start_with(&self.path("work"), mediated, act);
        keep(pid, &listener)
    }

    /// Runs an act under a keeper.
    pub fn tries(&self, act: impl FnOnce() -> i32) -> Ended {
        let (pid, listener) = start_in(&self.path("work"), act);
        keep(pid, &listener)
    }
}

/// The keeper's own answer to each, where the kernel would have done it: cap-proc's tests say what a real keeper does.
fn changes() {
    let tree = Tree::new();
    let at = libc::AT_FDCWD;
    let path = c"inside".as_ptr();
    // SAFETY: opens a C string; the descriptor lives until the child ends.
    let file = || unsafe { libc::open(c"inside".as_ptr(), libc::O_RDONLY) };
    let times = [1_000i64, 0, 2_000, 0];
    let times = times.as_ptr();
    let calls: [(&str, &dyn Fn() -> i32); 13] = [
        ("chmod", &|| call!(libc::SYS_chmod, path, 0o640)),
        ("fchmodat", &|| call!(libc::SYS_fchmodat, at, path, 0o640)),
        ("fchmodat2", &|| call!(notify::SYS_FCHMODAT2, at, path, 0o640, 0)),
        ("fchmod", &|| call!(libc::SYS_fchmod, file(), 0o640)),
        ("utimensat", &|| call!(libc::SYS_utimensat, at, path, times, 0)),
        ("utimensat of a descriptor", &|| call!(libc::SYS_utimensat, file(), 0, times, 0)),
        ("utime", &|| call!(libc::SYS_utime, path, times)),
        ("utimes", &|| call!(libc::SYS_utimes, path, times)),
        ("futimesat", &|| call!(libc::SYS_futimesat, at, path, times)),
        ("chown", &|| call!(libc::SYS_chown, path, -1, -1)),
        ("lchown", &|| call!(libc::SYS_lchown, path, -1, -1)),
        ("fchownat", &|| call!(libc::SYS_fchownat, at, path, -1, -1, 0)),
        ("fchown", &|| call!(libc::SYS_fchown, file(), -1, -1)),
    ];
    let status = || std::fs::metadata(tree.path("work/inside")).expect("is there");
    let before = status().modified().expect("has a time");
    for (name, act) in calls {
        assert_eq!(tree.tries(act), KEEPERS, "{name}");
        assert_eq!((tree.mode("work/inside"), status().modified().ok()), (0o600, Some(before)), "{name}");
        let work = tree.path("work");
        let free = attempt(|| std::env::set_current_dir(&work).is_ok(), act);
        assert_eq!(free, Ended::Worked, "control: {name} without a jail");
        std::fs::set_permissions(tree.path("work/inside"), std::fs::Permissions::from_mode(0o600)).expect("sets it");
        let times = std::fs::FileTimes::new().set_modified(before);
        std::fs::File::open(tree.path("work/inside")).and_then(|file| file.set_times(times)).expect("sets them");
    }
}

/// Space that is taken at once waits; what is given back does not, and beyond a file's end there is none.
fn space() {
    let tree = Tree::new();
    let allocate = |mode: i64| {
        // SAFETY: opens a C string; the descriptor lives until the child ends.
        let file = unsafe { libc::open(c"inside".as_ptr(), libc::O_RDWR) };
        call!(libc::SYS_fallocate, file, mode, 0, 1 << 20)
    };
    let (keep, punch) = (i64::from(libc::FALLOC_FL_KEEP_SIZE), i64::from(libc::FALLOC_FL_PUNCH_HOLE));
    for mode in [0, i64::from(libc::FALLOC_FL_ZERO_RANGE), i64::from(libc::FALLOC_FL_INSERT_RANGE), 1 << 32] {
        assert_eq!(tree.tries(|| allocate(mode)), KEEPERS, "{mode:#x}");
    }
    assert_eq!(tree.tries(|| allocate(keep)), Ended::Errno(libc::EOPNOTSUPP));
    assert_eq!(std::fs::metadata(tree.path("work/inside")).expect("is there").len(), 1);
    assert_eq!(tree.tries(|| allocate(keep | punch)), Ended::Worked, "control: a hole");
    let work = tree.path("work");
    let free = attempt(|| std::env::set_current_dir(&work).is_ok(), || allocate(0));
    assert_eq!(free, Ended::Worked, "control: without a jail");
}

/// A keeper that answers everything with `proceed` does not open the hole.
fn not_let_go() {
    let tree = Tree::new();
    let outside = tree.absolute("beside");
    let (pid, listener) = start_in(&tree.path("work"), move || call!(libc::SYS_chmod, outside.as_ptr(), 0o666));
    let notice = listener.receive().expect("receives").expect("a change waits");
    assert!(!notice.is_process());
    assert!(listener.proceed(&notice).expect("answers"));
    assert_eq!(ended(pid), Ended::Errno(libc::EPERM));
    assert_eq!(tree.mode("beside"), 0o600);
}
