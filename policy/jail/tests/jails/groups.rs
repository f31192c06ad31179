//! Control groups: what is ours, and that one act ends a tree (T-06, T-12). Only root can make a group to give away, so
//! these need root and a hierarchy of version 2.

use crate::child::{Ended, attempt, exit};
use crate::skip::skipped;
use nix::unistd::{Gid, Pid, Uid, chown, getuid};
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use warden_jail::delegation::{Delegation, DelegationError};
use warden_jail::fork::{Forked, fork_into};
use warden_jail::groups::{Group, remove};
use warden_jail::process;

pub const TESTS: &[crate::Test] = &[
    ("a_group_ends_a_tree_that_hides_and_nobody_else", ends),
    ("a_group_that_others_could_write_is_not_ours", ours),
    ("a_group_is_removed_with_what_is_left_in_it", removed),
    ("a_group_that_is_still_busy_is_removed_once_it_is_free", busy),
    ("a_group_that_was_left_is_made_anew", anew),
];

const NOBODY: u32 = 65534;

/// A group of the test's own.
struct Place(PathBuf);

impl Place {
    fn new() -> Option<Place> {
        let roots = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
        let root = roots.into_iter().find(|root| Path::new(root).join("cgroup.procs").exists());
        let place = root.map(|root| Path::new(root).join(format!("warden-test-{}", std::process::id())));
        match place {
            Some(place) if getuid().is_root() && fs::create_dir(&place).is_ok() => Some(Place(place)),
            _ => {
                skipped("only root can make a control group, where there are any of version 2");
                None
            }
        }
    }

    fn open(&self) -> OwnedFd {
        fs::File::open(&self.0).expect("opens").into()
    }

    fn groups(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.0).expect("lists").flatten().map(|entry| entry.path());
        entries.filter(|path| path.is_dir()).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for inner in self.groups() {
            let _ = fs::remove_dir(inner);
        }
        let _ = fs::remove_dir(&self.0);
    }
}

/// Many processes in many sessions, none of which is a child of its maker's any more.
fn hide() -> ! {
    for _ in 0..20 {
        // SAFETY: one thread, before and after.
        if unsafe { libc::fork() } == 0 {
            let _ = nix::unistd::setsid();
            // SAFETY: as above.
            if unsafe { libc::fork() } != 0 {
                exit(0);
            }
            let _ = nix::unistd::setsid();
            break;
        }
    }
    loop {
        nix::unistd::pause();
    }
}

fn ends() {
    let Some(place) = Place::new() else { return };
    let group = Group::make(place.open().as_fd(), c"tree").expect("makes a group");
    // SAFETY: this program has one thread, so the child may run ordinary code.
    let bystander = unsafe { libc::fork() };
    if bystander == 0 {
        loop {
            nix::unistd::pause();
        }
    }
    let child = match fork_into(group.as_fd()).expect("forks into the group") {
        Forked::Child => hide(),
        Forked::Parent { child } => child,
    };
    let inside = || fs::read_to_string(place.0.join("tree/cgroup.procs")).map_or(0, |all| all.lines().count());
    for _ in 0..2000 {
        if inside() >= 21 {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(inside() >= 21, "the control: the tree is there, {} of it", inside());
    assert!(
        fs::read_to_string(place.0.join("tree/cgroup.procs")).expect("reads").contains(&child.to_string()),
        "born in it"
    );
    group.end().expect("ends it");
    assert!(group.await_empty(Duration::from_secs(5)), "{} are left", inside());
    assert_eq!(crate::child::ended(child.as_raw()), Ended::Signal(libc::SIGKILL));
    assert!(nix::sys::signal::kill(Pid::from_raw(bystander), None).is_ok(), "a bystander lives");
    // SAFETY: our own child, not reaped yet.
    unsafe { libc::kill(bystander, libc::SIGKILL) };
    crate::child::ended(bystander);
}

fn removed() {
    let Some(place) = Place::new() else { return };
    let outer = Group::make(place.open().as_fd(), c"outer").expect("makes a group");
    let inner = Group::make(outer.as_fd(), c"inner").expect("makes a group");
    let child = match fork_into(inner.as_fd()).expect("forks") {
        Forked::Child => hide(),
        Forked::Parent { child } => child,
    };
    assert!(fs::remove_dir(place.0.join("outer")).is_err(), "the control: it is in use");
    // Process 1 reaps the rest.
    let removed = remove(place.open().as_fd(), c"outer", Duration::from_secs(5));
    crate::child::ended(child.as_raw());
    let removed = removed.or_else(|_| remove(place.open().as_fd(), c"outer", Duration::from_secs(5)));
    assert!(removed.is_ok() && place.groups().is_empty(), "{removed:?} {:?}", place.groups());
    assert_eq!(remove(place.open().as_fd(), c"outer", Duration::ZERO), Ok(()), "and again");
}

/// A group two beneath keeps the kernel from removing the upper one, as one that is being left does for a moment.
fn busy() {
    let Some(place) = Place::new() else { return };
    let outer = Group::make(place.open().as_fd(), c"outer").expect("makes a group");
    let inner = Group::make(outer.as_fd(), c"inner").expect("makes a group");
    Group::make(inner.as_fd(), c"deep").expect("makes a group");
    let patient = |patience| remove(place.open().as_fd(), c"outer", patience);
    assert_eq!(patient(Duration::ZERO), Err(nix::errno::Errno::EBUSY), "the control: it is in use");
    assert_eq!(patient(Duration::from_millis(20)), Err(nix::errno::Errno::EBUSY), "and not waited for without end");
    // SAFETY: this program has one thread, so the child may run ordinary code.
    let child = unsafe { libc::fork() };
    if child == 0 {
        std::thread::sleep(Duration::from_millis(50));
        exit(i32::from(fs::remove_dir(place.0.join("outer/inner/deep")).is_err()));
    }
    let removed = patient(Duration::from_secs(10));
    assert_eq!(crate::child::ended(child), Ended::Worked);
    assert_eq!((removed, place.groups()), (Ok(()), Vec::new()));
}

/// Its name is a process's number, which comes again.
fn anew() {
    let Some(place) = Place::new() else { return };
    let left = Group::make(place.open().as_fd(), c"left").expect("makes a group");
    Group::make(left.as_fd(), c"inner").expect("makes a group");
    let errno = Group::make(place.open().as_fd(), c"left").expect_err("the control: it is there");
    assert_eq!(errno, nix::errno::Errno::EEXIST);
    Group::make_anew(place.open().as_fd(), c"left", Duration::from_secs(5)).expect("makes it anew");
    assert!(!place.0.join("left/inner").exists(), "nothing of the old one is in it");
    Group::make_anew(place.open().as_fd(), c"other", Duration::ZERO).expect("and one that was not there");
    for name in [c"left", c"other"] {
        assert_eq!(remove(place.open().as_fd(), name, Duration::from_secs(5)), Ok(()));
    }
}

/// In a child that is in the place's group and nobody: 0 is ours, 1 is not, 2 is another failure.
fn taken(place: &Place) -> Ended {
    let enter = || {
        let entered = fs::write(place.0.join("cgroup.procs"), "0").is_ok();
        entered && process::become_user(NOBODY, NOBODY).is_ok()
    };
    attempt(enter, || match Delegation::take() {
        Ok(given) => {
            let made = given.make("mine").is_ok();
            let gone = given.remove("mine").is_ok();
            if made && gone { 0 } else { 3 }
        }
        Err(DelegationError::NotOurs { .. }) => 1,
        Err(other) => {
            eprintln!("{other}");
            2
        }
    })
}

fn ours() {
    let Some(place) = Place::new() else { return };
    let files = ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"].map(|file| place.0.join(file));
    let give = |path: &Path, uid: u32| chown(path, Some(Uid::from_raw(uid)), Some(Gid::from_raw(uid))).expect("chowns");
    assert_eq!(taken(&place), Ended::Errno(1), "root's");
    files.iter().for_each(|path| give(path, NOBODY));
    assert_eq!(taken(&place), Ended::Worked, "given to us");
    for path in &files {
        give(path, 0);
        assert_eq!(taken(&place), Ended::Errno(1), "{path:?} is root's");
        give(path, NOBODY);
        let before = fs::metadata(path).expect("there").permissions();
        fs::set_permissions(path, fs::Permissions::from_mode(before.mode() & !0o200)).expect("chmods");
        assert_eq!(taken(&place), Ended::Errno(1), "{path:?} cannot be written by its owner");
        fs::set_permissions(path, fs::Permissions::from_mode(before.mode() | 0o020)).expect("chmods");
        assert_eq!(taken(&place), Ended::Errno(1), "{path:?} can be written by a group");
        fs::set_permissions(path, before).expect("chmods");
    }
    assert_eq!(taken(&place), Ended::Worked, "the control");
    assert!(place.groups().is_empty(), "what was tried is gone: {:?}", place.groups());
}
