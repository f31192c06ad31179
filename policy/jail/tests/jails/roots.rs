//! A root of its own for commands: what is in it, and that a name is never trusted (T-01, T-02).

use crate::child::{Ended, attempt, exit};
use crate::skip::skipped;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::Path;
use warden_jail::Role;
use warden_jail::fork::Forked;
use warden_jail::namespaces::{self, OwnIds};
use warden_jail::root::{self, RootError, Shown, View};

pub const TESTS: &[crate::Test] = &[
    ("a_root_shows_what_it_is_given_and_nothing_else", shows),
    ("a_workspace_that_was_moved_or_replaced_is_refused", replaced),
    ("a_workspace_that_is_swapped_all_the_time_is_never_another", swapped),
    ("what_is_shown_for_reading_cannot_be_written", modes),
    ("workspaces_in_workspaces_and_in_the_system_have_their_modes", nested),
    ("the_way_back_out_is_gone", no_way_back),
    ("no_user_namespace_is_made_beneath_a_commands", none_beneath),
];

const NOT_IN: i32 = 100;
const REPLACED: i32 = 101;

/// Runs `act` in a child that is in namespaces and a root; `before` happens after the paths were found.
fn entered(
    objects: &[(&OwnedFd, View)],
    before: impl FnOnce(),
    act: impl FnOnce(Vec<Option<OwnedFd>>) -> bool,
) -> Ended {
    let shown = objects.iter().map(|(object, view)| Shown::find(object.as_fd(), *view)).collect::<Result<Vec<_>, _>>();
    let shown = shown.expect("finds paths");
    before();
    attempt(
        || true,
        || {
            let ids = OwnIds::read();
            match namespaces::fork_apart() {
                Ok(Forked::Child) => {
                    let entry = namespaces::settle(ids)
                        .map_err(|e| e.to_string())
                        .map(|()| root::enter(Role::CapProcRunner, &shown));
                    exit(match entry {
                        Ok(Ok(again)) => i32::from(!act(again)),
                        Ok(Err(RootError::Replaced { .. })) => REPLACED,
                        other => {
                            eprintln!("{other:?}");
                            NOT_IN
                        }
                    })
                }
                Ok(Forked::Parent { child }) => {
                    namespaces::await_end(child).ok().and_then(|ended| ended.code).unwrap_or(NOT_IN)
                }
                Err(error) => {
                    eprintln!("{error}");
                    NOT_IN
                }
            }
        },
    )
}

fn can_be_had() -> bool {
    let had = entered(&[], || (), |_| true) == Ended::Worked;
    if !had {
        skipped("this host allows no namespaces");
    }
    had
}

fn handle(path: &Path) -> OwnedFd {
    use nix::fcntl::{OFlag, open};
    open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, nix::sys::stat::Mode::empty()).expect("opens")
}

/// A folder with `true` and `false` workspaces, told apart by a file.
fn places() -> tempfile::TempDir {
    let place = tempfile::tempdir().expect("a directory for the test");
    for name in ["work", "other"] {
        fs::create_dir(place.path().join(name)).expect("makes a directory");
        fs::write(place.path().join(name).join("which"), name).expect("writes");
    }
    place
}

fn shows() {
    if !can_be_had() {
        return;
    }
    let place = places();
    let work = place.path().join("work");
    let opened = handle(&work);
    let act = |_| {
        let listed: Vec<_> = fs::read_dir("/").expect("lists").flatten().map(|entry| entry.file_name()).collect();
        let known = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "etc", "dev", "proc", "sys", "tmp", "home"];
        let top = work.components().nth(1).expect("a first name").as_os_str().to_owned();
        let unknown: Vec<_> = listed.iter().filter(|name| **name != top && !known.iter().any(|k| name == k)).collect();
        let processes = fs::read_dir("/proc").expect("lists").flatten();
        let numbers =
            processes.filter(|entry| entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok()));
        unknown.is_empty()
            && numbers.count() == 1
            && fs::read_to_string(work.join("which")).is_ok_and(|which| which == "work")
            && !place.path().join("other").exists()
            && !Path::new("/etc/shadow").exists()
            && fs::read_to_string("/etc/passwd").is_ok()
            && fs::write("/dev/null", "x").is_ok()
            && fs::read_link("/dev/fd").is_ok()
            && fs::create_dir("/new").is_err()
    };
    assert_eq!(entered(&[(&opened, View::ReadWrite)], || (), act), Ended::Worked);
}

fn replaced() {
    if !can_be_had() {
        return;
    }
    let which = |work: &Path| fs::read_to_string(work.join("which")).ok();
    for (what, view) in
        ["renamed", "swapped", "a link to it", "removed"].iter().zip([View::ReadWrite, View::ReadOnly].iter().cycle())
    {
        let place = places();
        let (work, moved) = (place.path().join("work"), place.path().join("moved"));
        let opened = handle(&work);
        let change = || {
            fs::rename(&work, &moved).expect("renames");
            match *what {
                "swapped" => fs::rename(place.path().join("other"), &work).expect("renames"),
                "a link to it" => symlink(&moved, &work).expect("links"),
                "removed" => fs::remove_dir_all(&moved).expect("removes"),
                _ => {}
            }
        };
        let seen = |_| which(&work).as_deref() == Some("work");
        assert_eq!(entered(&[(&opened, *view)], || (), seen), Ended::Worked, "the control");
        assert_eq!(entered(&[(&opened, *view)], change, |_| true), Ended::Errno(REPLACED), "{what}");
        if *what != "removed" {
            // Found where it is now, it is itself again.
            let seen = |_| which(&moved).as_deref() == Some("work");
            assert_eq!(entered(&[(&opened, *view)], || (), seen), Ended::Worked, "{what}");
        }
    }
}

fn swapped() {
    if !can_be_had() {
        return;
    }
    let place = places();
    let [work, other] = ["work", "other"].map(|name| place.path().join(name));
    let opened = handle(&work);
    // SAFETY: this program has one thread, so the child may run ordinary code.
    let swapper = unsafe { libc::fork() };
    if swapper == 0 {
        use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
        loop {
            let _ = renameat2(AT_FDCWD, &work, AT_FDCWD, &other, RenameFlags::RENAME_EXCHANGE);
        }
    }
    let (mut itself, mut refused) = (0, 0);
    for _ in 0..300 {
        // By its descriptor, whatever it is called.
        let act = |again: Vec<Option<OwnedFd>>| {
            use std::os::fd::AsRawFd;
            let which =
                again.first().and_then(Option::as_ref).map(|fd| format!("/proc/self/fd/{}/which", fd.as_raw_fd()));
            which.is_some_and(|which| fs::read_to_string(which).is_ok_and(|which| which == "work"))
        };
        match entered(&[(&opened, View::ReadWrite)], || (), act) {
            Ended::Worked => itself += 1,
            Ended::Errno(REPLACED) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    // SAFETY: our own child, not reaped yet.
    unsafe { libc::kill(swapper, libc::SIGKILL) };
    crate::child::ended(swapper);
    println!("  in 300 rounds: itself {itself}, refused {refused}, another 0");
    assert!(itself + refused == 300 && refused > 0, "the swapper never won, so nothing was tried");
}

fn modes() {
    if !can_be_had() {
        return;
    }
    let place = places();
    let work = place.path().join("work");
    let opened = handle(&work);
    let write = |_| fs::write(work.join("new"), "x").is_ok();
    assert_eq!(entered(&[(&opened, View::ReadWrite)], || (), write), Ended::Worked);
    assert_eq!(entered(&[(&opened, View::ReadOnly)], || (), write), Ended::Errno(1));
    let system = |_| fs::write("/usr/new", "x").is_ok() || fs::write("/etc/passwd", "x").is_ok();
    assert_eq!(entered(&[(&opened, View::ReadWrite)], || (), system), Ended::Errno(1));
}

fn nested() {
    if !can_be_had() {
        return;
    }
    let place = places();
    let (above, work) = (place.path().to_owned(), place.path().join("work"));
    let (above_fd, work_fd) = (handle(&above), handle(&work));
    let write = |at: &Path| fs::write(at.join("new"), "x").is_ok();
    for order in [false, true] {
        let mut both = [(&above_fd, View::ReadOnly), (&work_fd, View::ReadWrite)];
        if order {
            both.reverse();
        }
        assert_eq!(entered(&both, || (), |_| write(&work) && !write(&above)), Ended::Worked);
    }
    // Beneath what may be written a second name takes nothing away, as without namespaces.
    let both = [(&above_fd, View::ReadWrite), (&work_fd, View::ReadOnly)];
    assert_eq!(entered(&both, || (), |_| write(&work) && write(&above)), Ended::Worked);
    // In a directory of the system, and around one.
    let (zone, etc) = (handle(Path::new("/usr/share")), handle(Path::new("/etc")));
    let seen = |_| Path::new("/usr/bin/env").exists() && Path::new("/etc/hostname").exists();
    assert_eq!(entered(&[(&zone, View::ReadOnly), (&etc, View::ReadOnly)], || (), seen), Ended::Worked);
    let all = handle(Path::new("/"));
    assert_eq!(entered(&[(&all, View::ReadOnly)], || (), |_| true), Ended::Errno(NOT_IN), "the root itself");
}

/// The control is the entry itself, which made one.
fn none_beneath() {
    if !can_be_had() {
        return;
    }
    let again = |_| nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER) == Err(nix::errno::Errno::ENOSPC);
    assert_eq!(entered(&[], || (), again), Ended::Worked);
}

fn no_way_back() {
    if !can_be_had() {
        return;
    }
    let place = places();
    let opened = handle(&place.path().join("work"));
    let other = place.path().join("other");
    let act = |again: Vec<Option<OwnedFd>>| {
        use std::os::fd::AsRawFd;
        let again = again.first().and_then(Option::as_ref).map(AsRawFd::as_raw_fd);
        let up = again.map(|fd| format!("/proc/self/fd/{fd}/../other")).unwrap_or_default();
        let outside: std::path::PathBuf =
            ["/..", "/../../..", "."].iter().map(|up| format!("{up}{}", other.display())).collect();
        !Path::new(&up).exists()
            && !outside.exists()
            && nix::mount::umount2("/", nix::mount::MntFlags::MNT_DETACH).is_err()
    };
    assert_eq!(entered(&[(&opened, View::ReadWrite)], || (), act), Ended::Worked);
}
