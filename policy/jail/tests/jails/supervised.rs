//! Forks of a command wait for their keeper.

use crate::call;
use crate::child::{self, Ended, ended, reported, unprivileged};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg, socketpair,
};
use std::ffi::CString;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use warden_jail::notify::{self, Listener};
use warden_jail::{GrantKind, Grants, Role, life, metadata, restart};

pub const TESTS: &[crate::Test] = &[
    ("a_fork_goes_on_when_the_keeper_says_so", allowed),
    ("a_fork_is_refused_when_the_keeper_says_so", refused),
    ("threads_do_not_wait_for_the_keeper", threads),
    ("a_listener_ends_with_its_processes", hangup),
    ("mode_and_times_change_inside_the_workspace_only", changes),
    ("a_change_of_mode_is_never_let_go_on", not_let_go),
    ("git_a_linker_and_what_keeps_metadata_work_under_a_keeper", programs),
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
pub fn start_in(workspace: &Path, act: impl FnOnce() -> i32) -> (i32, Listener, OwnedFd) {
    start_with(workspace, notify::Mediated::NOTHING, act)
}

fn start_with(workspace: &Path, mediated: notify::Mediated, act: impl FnOnce() -> i32) -> (i32, Listener, OwnedFd) {
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
    let (pid, listener) = launch_in(&grants(), act, || {
        std::env::set_current_dir(workspace).ok()?;
        let domain = life::enter_command_domain(&grants()).ok()?;
        let (listener, supervised) = notify::install_supervised(notify::Waiting::Metadata, mediated).ok()?;
        let lock = move || reported(life::lock_down_command_supervised(domain, supervised));
        Some((listener, Box::new(lock)))
    });
    (pid, listener, opened)
}

/// Answers as a keeper until the last process is gone; returns how the first one ended.
fn keep(pid: i32, listener: &Listener, writable: &OwnedFd) -> Ended {
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
            let place =
                |fd: BorrowedFd<'_>| std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).expect("a place");
            let mut judge = |target: BorrowedFd<'_>| {
                let beneath = place(target).starts_with(place(writable.as_fd()));
                if beneath { Ok(()) } else { Err(nix::Error::EPERM) }
            };
            metadata::perform(listener, &notice, &mut judge).expect("answers");
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
        let (pid, listener, opened) = start_with(&self.path("work"), mediated, act);
        keep(pid, &listener, &opened)
    }

    /// Runs an act under a keeper that performs.
    pub fn tries(&self, act: impl FnOnce() -> i32) -> Ended {
        let (pid, listener, opened) = start_in(&self.path("work"), act);
        keep(pid, &listener, &opened)
    }
}

fn changes() {
    let tree = Tree::new();
    let refused = Ended::Errno(libc::EPERM);
    assert_eq!(tree.tries(|| call!(libc::SYS_chmod, c"inside".as_ptr(), 0o640)), Ended::Worked);
    assert_eq!(tree.mode("work/inside"), 0o640);
    let absolute = tree.absolute("work/inside");
    let at = libc::AT_FDCWD;
    assert_eq!(tree.tries(|| call!(libc::SYS_fchmodat, at, absolute.as_ptr(), 0o700)), Ended::Worked);
    assert_eq!(tree.mode("work/inside"), 0o700);
    let outside = tree.absolute("beside");
    assert_eq!(tree.tries(|| call!(libc::SYS_chmod, outside.as_ptr(), 0o666)), refused);
    assert_eq!(tree.tries(|| call!(libc::SYS_chmod, c"../beside".as_ptr(), 0o666)), refused);
    assert_eq!(tree.tries(|| call!(libc::SYS_chmod, c"link".as_ptr(), 0o666)), refused, "a link that leads out");
    assert_eq!(tree.tries(|| call!(452, at, outside.as_ptr(), 0o666, 0)), refused, "fchmodat2");
    assert_eq!(
        tree.tries(|| call!(libc::SYS_chmod, c"/proc/self/cwd/inside".as_ptr(), 0o666)),
        Ended::Errno(libc::ELOOP)
    );
    assert_eq!(tree.mode("beside"), 0o600, "nothing outside was changed");
    assert_eq!(tree.mode("work/inside"), 0o700);
    assert_eq!(tree.tries(|| call!(libc::SYS_chmod, 8, 0o666)), Ended::Errno(libc::EFAULT), "a path that is no memory");
    assert_eq!(tree.tries(|| call!(libc::SYS_chmod, c"gone".as_ptr(), 0o666)), Ended::Errno(libc::ENOENT));
    let by_descriptor = |name: &CString| {
        // SAFETY: opens a C string; the descriptor lives until the child ends.
        let opened = unsafe { libc::open(name.as_ptr(), libc::O_PATH) };
        let entry = CString::new(format!("/proc/self/fd/{opened}")).expect("no NUL");
        call!(libc::SYS_chmod, entry.as_ptr(), 0o644)
    };
    assert_eq!(tree.tries(|| by_descriptor(&absolute)), Ended::Worked, "the command's descriptor, not the keeper's");
    assert_eq!(tree.mode("work/inside"), 0o644);
    assert_eq!(tree.tries(|| by_descriptor(&outside)), refused);
    let times = [1_000i64, 0, 2_000, 0];
    let touch = |path: &CString, flags: i32| call!(libc::SYS_utimensat, at, path.as_ptr(), times.as_ptr(), flags);
    assert_eq!(tree.tries(|| touch(&absolute, 0)), Ended::Worked);
    let modified = std::fs::metadata(tree.path("work/inside")).and_then(|found| found.modified()).expect("has a time");
    assert_eq!(modified, std::time::UNIX_EPOCH + std::time::Duration::from_secs(2_000));
    assert_eq!(tree.tries(|| touch(&outside, 0)), refused);
    let link = tree.absolute("work/link");
    assert_eq!(tree.tries(|| touch(&link, 0)), refused);
    assert_eq!(tree.tries(|| touch(&link, libc::AT_SYMLINK_NOFOLLOW)), Ended::Worked, "the link itself lies inside");
    assert_eq!(tree.tries(|| call!(libc::SYS_chown, absolute.as_ptr(), 12_345, 0)), refused, "owners never");
}

/// A keeper that answers everything with `proceed` does not open the hole.
fn not_let_go() {
    let tree = Tree::new();
    let outside = tree.absolute("beside");
    let (pid, listener, _opened) =
        start_in(&tree.path("work"), move || call!(libc::SYS_chmod, outside.as_ptr(), 0o666));
    let notice = listener.receive().expect("receives").expect("a change waits");
    assert!(!notice.is_process());
    assert!(listener.proceed(&notice).expect("answers"));
    assert_eq!(ended(pid), Ended::Errno(libc::EPERM));
    assert_eq!(tree.mode("beside"), 0o600);
}

fn programs() {
    let lines = [
        (
            "/usr/bin/git",
            "git init -q repo && cd repo && echo a > a && git add a && git -c user.name=n -c user.email=e@e commit -qm m",
        ),
        ("/usr/bin/cc", "echo 'int main(void){return 0;}' > a.c && cc a.c -o a && ./a"),
        (
            "/bin/tar",
            "mkdir d && echo a > d/a && tar cf d.tar d && rm -r d && tar --no-same-owner -xf d.tar && cp -r --preserve=mode,timestamps d e && chmod +x e/a",
        ),
        (
            "/bin/cp",
            "echo a > a && chmod 640 a && touch -d @1000 a && cp -p a b && test \"$(stat -c '%a %Y' b)\" = '640 1000'",
        ),
        (
            "/bin/tar",
            "echo a > a && chmod 751 a && tar cf a.tar a && rm a && tar --no-same-owner -xpf a.tar && test \"$(stat -c %a a)\" = 751",
        ),
        ("/bin/sed", "echo a > a && chmod 640 a && sed -i s/a/b/ a && grep -q b a && test \"$(stat -c %a a)\" = 640"),
        ("/bin/gzip", "echo a > a && chmod 640 a && gzip a && gunzip a.gz && test \"$(stat -c %a a)\" = 640"),
        ("/usr/bin/install", "echo a > a && install -m 755 a b && test \"$(stat -c %a b)\" = 755"),
        (
            "/usr/bin/python3",
            "python3 -c 'import os, shutil, tempfile\nf = open(\"a\", \"w\"); os.fchmod(f.fileno(), 0o640); os.utime(f.fileno(), (1000, 1000))\ns = os.stat(\"a\"); assert (s.st_mode & 0o7777, s.st_mtime) == (0o640, 1000)\nshutil.copy2(\"a\", \"b\"); assert os.stat(\"b\").st_mtime == 1000\nt = tempfile.TemporaryFile(); os.fchmod(t.fileno(), 0o644)'",
        ),
    ];
    for (program, line) in lines {
        if !Path::new(program).exists() {
            crate::skip::skipped(&format!("git, a linker and what keeps metadata: no {program}"));
            continue;
        }
        let tree = Tree::new();
        let home = tree.absolute("work");
        let found = tree.tries(|| {
            let line = CString::new(line).expect("no NUL");
            let arguments = [c"sh".as_ptr(), c"-ec".as_ptr(), line.as_ptr(), std::ptr::null()];
            let text = |name: &str| CString::new([name.as_bytes(), home.to_bytes()].concat()).expect("no NUL");
            let (home, temporary) = (text("HOME="), text("TMPDIR="));
            let path = c"PATH=/usr/bin:/bin".as_ptr();
            let environment = [path, home.as_ptr(), temporary.as_ptr(), std::ptr::null()];
            // SAFETY: both arrays are null-terminated and live through the call, which returns only on an error.
            unsafe { libc::execve(c"/bin/sh".as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
            254
        });
        assert_eq!(found, Ended::Worked, "{line}");
    }
}
