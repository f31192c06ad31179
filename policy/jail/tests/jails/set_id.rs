//! No command makes a set-id program: any other user of the host would run it as the task's user, with no jail.

use crate::call;
use crate::child::{Ended, attempt, reported, unprivileged};
use crate::commands::command;
use crate::supervised::{KEEPERS, Tree};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use warden_jail::{GrantKind, Grants, Role, life};

pub const TESTS: &[crate::Test] = &[
    ("no_way_to_make_a_file_makes_a_set_id_program", births),
    ("no_change_of_mode_makes_a_set_id_program", changes),
    ("openat2_is_the_keepers_and_not_a_commands", openat2),
];

const EPERM: Ended = Ended::Errno(libc::EPERM);

/// A way to make something with a mode, in the working directory.
type Way = fn(u32) -> i32;

const AT: i32 = libc::AT_FDCWD;

const BIRTHS: &[(&str, Way)] = &[
    ("open", |mode| call!(libc::SYS_open, c"made".as_ptr(), libc::O_CREAT | libc::O_WRONLY, mode)),
    ("open, high bits set", |mode| {
        call!(libc::SYS_open, c"made".as_ptr(), i64::from(libc::O_CREAT) | 1 << 32, i64::from(mode) | 1 << 32)
    }),
    ("a file without a name", |mode| call!(libc::SYS_open, c".".as_ptr(), libc::O_TMPFILE | libc::O_WRONLY, mode)),
    ("openat", |mode| call!(libc::SYS_openat, AT, c"made".as_ptr(), libc::O_CREAT | libc::O_WRONLY, mode)),
    ("openat of a file without a name", |mode| {
        call!(libc::SYS_openat, AT, c".".as_ptr(), libc::O_TMPFILE | libc::O_WRONLY, mode)
    }),
    ("creat", |mode| call!(libc::SYS_creat, c"made".as_ptr(), mode)),
    ("mkdir", |mode| call!(libc::SYS_mkdir, c"made".as_ptr(), mode)),
    ("mkdirat", |mode| call!(libc::SYS_mkdirat, AT, c"made".as_ptr(), mode)),
    ("mknod", |mode| call!(libc::SYS_mknod, c"made".as_ptr(), libc::S_IFREG | mode, 0)),
    ("mknodat", |mode| call!(libc::SYS_mknodat, AT, c"made".as_ptr(), libc::S_IFREG | mode, 0)),
];

const CHANGES: &[(&str, Way)] = &[
    ("chmod", |mode| call!(libc::SYS_chmod, c"inside".as_ptr(), mode)),
    ("fchmodat", |mode| call!(libc::SYS_fchmodat, AT, c"inside".as_ptr(), mode)),
    ("fchmodat2", |mode| call!(452, AT, c"inside".as_ptr(), mode, 0)),
    ("fchmod", |mode| {
        // SAFETY: opens a C string; the descriptor lives until the child ends.
        let file = unsafe { libc::open(c"inside".as_ptr(), libc::O_RDWR) };
        call!(libc::SYS_fchmod, file, mode)
    }),
];

/// Runs an act in the runner's jail, or in the unsupervised command's.
fn jailed(tree: &Tree, role: Role, act: impl FnOnce() -> i32) -> Ended {
    let work = tree.path("work");
    let opened: OwnedFd = std::fs::File::open(&work).expect("opens").into();
    let jail = || {
        let grants = Grants::none().with(GrantKind::WorkspaceReadWrite, opened.as_fd());
        std::env::set_current_dir(&work).is_ok()
            && match role {
                Role::CapProcRunner => unprivileged() && reported(life::lock_down(role, &grants)),
                _ => command(&grants),
            }
    };
    attempt(jail, act)
}

fn tries(tree: &Tree, role: Role, act: impl FnOnce() -> i32) -> Ended {
    if role == Role::CapProcCommandSupervised { tree.tries(act) } else { jailed(tree, role, act) }
}

const ROLES: [Role; 3] = [Role::CapProcRunner, Role::CapProcCommand, Role::CapProcCommandSupervised];

/// Nothing in the workspace has a set-id bit.
fn none_set(tree: &Tree) -> bool {
    let entries = std::fs::read_dir(tree.path("work")).expect("lists");
    let mut modes =
        entries.map(|entry| entry.and_then(|entry| entry.metadata()).expect("is there").permissions().mode());
    modes.all(|mode| mode & (libc::S_ISUID | libc::S_ISGID) == 0)
}

fn births() {
    for (name, make) in BIRTHS {
        for role in ROLES {
            for mode in [libc::S_ISUID | 0o755, libc::S_ISGID | 0o755, 0o6777] {
                let tree = Tree::new();
                assert_eq!(tries(&tree, role, || make(mode)), EPERM, "{role}: {name} {mode:o}");
                assert!(none_set(&tree), "{role}: {name} {mode:o}");
            }
            let tree = Tree::new();
            assert_eq!(tries(&tree, role, || make(0o1755)), Ended::Worked, "control: {role}: {name}");
        }
    }
    for role in ROLES {
        let stray = || call!(libc::SYS_open, c"inside".as_ptr(), libc::O_RDWR, 0o6777);
        assert_eq!(tries(&Tree::new(), role, stray), Ended::Worked, "{role}: a register that is no mode");
        let stray = || call!(libc::SYS_openat, AT, c"inside".as_ptr(), libc::O_RDWR, 0o6777);
        assert_eq!(tries(&Tree::new(), role, stray), Ended::Worked, "{role}: a register that is no mode");
    }
}

fn changes() {
    for (name, change) in CHANGES {
        for role in ROLES {
            for mode in [libc::S_ISUID | 0o755, libc::S_ISGID | 0o755, 0o6777] {
                let tree = Tree::new();
                assert_eq!(tries(&tree, role, || change(mode)), EPERM, "{role}: {name} {mode:o}");
                assert_eq!(tree.mode("work/inside"), 0o600, "{role}: {name} {mode:o}");
            }
        }
        // Control: plain modes change in a keeper, and are its to judge for its command.
        let tree = Tree::new();
        assert_eq!(tries(&tree, Role::CapProcRunner, || change(0o1755)), Ended::Worked, "{name}");
        assert_eq!(tree.mode("work/inside"), 0o1755, "{name}");
        let tree = Tree::new();
        assert_eq!(tries(&tree, Role::CapProcCommandSupervised, || change(0o1755)), KEEPERS, "{name}");
    }
}

fn openat2() {
    let open = || {
        let how: [u64; 3] = [(libc::O_CREAT | libc::O_WRONLY) as u64, 0o4755, 0];
        call!(437, AT, c"made".as_ptr(), how.as_ptr(), size_of_val(&how))
    };
    for role in [Role::CapProcCommand, Role::CapProcCommandSupervised] {
        let tree = Tree::new();
        assert_eq!(tries(&tree, role, open), Ended::Errno(libc::ENOSYS), "{role}");
        assert!(none_set(&tree), "{role}");
    }
    let open = || {
        let how: [u64; 3] = [libc::O_RDONLY as u64, 0, 0];
        call!(437, AT, c"inside".as_ptr(), how.as_ptr(), size_of_val(&how))
    };
    assert_eq!(tries(&Tree::new(), Role::CapProcRunner, open), Ended::Worked, "control: a keeper opens with it");
}
