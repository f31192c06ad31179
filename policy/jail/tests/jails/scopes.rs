//! A signal scope on its own: what proves it, and that it takes nothing else away (T-07).

use crate::call;
use crate::child::{Ended, attempt, ended, exit, reported, unprivileged};
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use warden_jail::landlock::{Domain, Refer};
use warden_jail::witness::ScopeWitness;
use warden_jail::{GrantKind, Grants, Role, process};

pub const TESTS: &[crate::Test] = &[
    ("a_scope_keeps_renames_and_links_between_directories", renames),
    ("a_scope_is_proved_by_a_parent_that_nobody_may_read", proved),
    ("what_is_no_scope_is_not_taken_for_one", not_proved),
];

const UNKNOWN: u32 = 65534;

fn scope(refer: Refer) -> bool {
    reported(process::no_new_privs())
        && reported(Domain::scope_only(Role::CapProcRunner, refer).and_then(Domain::enter))
}

fn granted(workspace: &OwnedFd) -> bool {
    let grants = Grants::none().with(GrantKind::WorkspaceReadWrite, workspace.as_fd());
    reported(process::no_new_privs()) && reported(Domain::build(Role::CapProcRunner, &grants).and_then(Domain::enter))
}

fn text(path: &Path) -> CString {
    CString::new(path.as_os_str().as_encoded_bytes()).expect("no NUL")
}

fn renames() {
    let directory = tempfile::tempdir().expect("a directory for the test");
    let path = |name: &str| text(&directory.path().join(name));
    for name in ["work", "work/a", "work/b", "beside"] {
        std::fs::create_dir(directory.path().join(name)).expect("makes a directory");
    }
    std::fs::write(directory.path().join("work/a/f"), b"x").expect("writes");
    let opened: OwnedFd = std::fs::File::open(directory.path().join("work")).expect("opens").into();
    let [from, to, second, out] = ["work/a/f", "work/b/f", "work/b/second", "beside/f"].map(path);
    let there_and_back = || {
        let there = call!(libc::SYS_rename, from.as_ptr(), to.as_ptr());
        there | call!(libc::SYS_rename, to.as_ptr(), from.as_ptr())
    };
    let link = || {
        let linked = call!(libc::SYS_link, from.as_ptr(), second.as_ptr());
        linked | call!(libc::SYS_unlink, second.as_ptr())
    };
    // Before the scope, after it, and around it: as a command's domain in a keeper's in the runner's.
    let orders: [(&str, &dyn Fn(Refer) -> bool); 3] = [
        ("inside", &|refer| granted(&opened) && scope(refer)),
        ("outside", &|refer| scope(refer) && granted(&opened)),
        ("between", &|refer| granted(&opened) && scope(refer) && granted(&opened)),
    ];
    for (place, jail) in orders {
        assert_eq!(attempt(|| jail(Refer::Kept), there_and_back), Ended::Worked, "{place}");
        assert_eq!(attempt(|| jail(Refer::Kept), link), Ended::Worked, "{place}");
        assert_eq!(
            attempt(|| jail(Refer::Denied), || call!(libc::SYS_rename, from.as_ptr(), to.as_ptr())),
            Ended::Errno(libc::EXDEV),
            "{place}"
        );
        // Kept is not given: what the other layer does not grant stays refused.
        let outwards = attempt(|| jail(Refer::Kept), || call!(libc::SYS_rename, from.as_ptr(), out.as_ptr()));
        assert!(matches!(outwards, Ended::Errno(libc::EXDEV | libc::EACCES)), "{place}: {outwards:?}");
    }
    assert_eq!(attempt(|| granted(&opened), there_and_back), Ended::Worked, "control: without the scope");
}

/// Who tells whether a scope is proved: a child of the attempt, which is made `parent` first.
fn tells(parent: impl FnOnce() -> bool, enter: impl FnOnce() -> bool) -> Ended {
    attempt(parent, || {
        // SAFETY: this program has one thread.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let witness = ScopeWitness::prepare();
            let entered = enter();
            exit(if entered { i32::from(!witness.is_some_and(|witness| witness.in_force())) } else { 255 });
        }
        match ended(child) {
            Ended::Worked => 0,
            Ended::Errno(errno) => errno,
            _ => 255,
        }
    })
}

const NOT_PROVED: Ended = Ended::Errno(1);

/// The user of the attempt and what comes of it; root must be, for others.
fn as_user(uid: u32) -> bool {
    call!(libc::SYS_setgroups, 0, 0) | call!(libc::SYS_setgid, uid) | call!(libc::SYS_setuid, uid) == 0
}

fn proved() {
    assert_eq!(tells(unprivileged, || scope(Refer::Kept)), Ended::Worked);
    if nix::unistd::getuid().is_root() {
        let parent = || as_user(UNKNOWN) && unprivileged();
        assert_eq!(tells(parent, || scope(Refer::Kept)), Ended::Worked, "an ordinary user");
        // Where /proc shows nobody whom one may not trace, the parent is not to be found there.
        let parent = || hide_processes() && parent();
        assert_eq!(tells(parent, || scope(Refer::Kept)), Ended::Worked, "behind hidepid");
    } else {
        crate::skip::skipped("a scope is proved as another user, which only root becomes");
    }
}

/// A `/proc` of this process alone that hides others' processes.
fn hide_processes() -> bool {
    let none: *const libc::c_char = std::ptr::null();
    let private = libc::MS_REC | libc::MS_PRIVATE;
    let proc = c"proc".as_ptr();
    call!(libc::SYS_unshare, libc::CLONE_NEWNS) == 0
        && call!(libc::SYS_mount, none, c"/".as_ptr(), none, private) == 0
        && call!(libc::SYS_mount, proc, c"/proc".as_ptr(), proc, 0, c"hidepid=2".as_ptr()) == 0
}

fn not_proved() {
    assert_eq!(tells(unprivileged, || true), NOT_PROVED, "no scope");
    assert_eq!(tells(|| unprivileged() && scope(Refer::Kept), || true), NOT_PROVED, "the parent's scope is no own one");
    if nix::unistd::getuid().is_root() {
        // Of another user: refused before and after, with a scope and without.
        assert_eq!(tells(|| true, || as_user(UNKNOWN)), NOT_PROVED, "a child that became another user");
        assert_eq!(
            attempt(|| true, || told_by_root(|| true)),
            NOT_PROVED,
            "a right over other users that is still there"
        );
        assert_eq!(attempt(|| true, || told_by_root(unprivileged)), NOT_PROVED, "one that was lost in between");
    } else {
        crate::skip::skipped("what is no scope, of other users, whom only root becomes");
    }
}

/// A child that is root tells of a parent that is another user; `change` comes between the two looks.
fn told_by_root(change: impl FnOnce() -> bool) -> i32 {
    let mut ends = [0i32; 2];
    assert_eq!(call!(libc::SYS_pipe2, ends.as_mut_ptr(), 0), 0);
    // SAFETY: this program has one thread.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let mut byte = [0u8; 1];
        call!(libc::SYS_read, ends[0], byte.as_mut_ptr(), 1);
        let Some(witness) = ScopeWitness::prepare() else { exit(2) };
        exit(if change() { i32::from(!witness.in_force()) } else { 255 });
    }
    let changed = as_user(UNKNOWN);
    call!(libc::SYS_write, ends[1], c"u".as_ptr(), 1);
    match ended(child) {
        Ended::Worked => 0,
        Ended::Errno(errno) if changed => errno,
        _ => 255,
    }
}
