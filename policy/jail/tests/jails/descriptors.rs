//! What a command may ask for by a descriptor alone. Changes of mode, times and owner wait for its keeper, or are refused
//! where it has none.

use crate::call;
use crate::child::{Ended, attempt};
use crate::commands::command;
use crate::supervised::{KEEPERS, Tree, start_in};
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use warden_jail::{GrantKind, Grants};

pub const TESTS: &[crate::Test] = &[
    ("attributes_and_flags_are_not_changed_by_descriptor", filtered),
    ("a_command_has_no_secret_memory_and_watches_no_directory", doors),
    ("a_command_takes_no_lease_and_may_lock_a_file", leases),
    ("a_command_without_a_keeper_changes_nothing_by_descriptor", unsupervised),
    ("a_change_by_descriptor_is_never_let_go_on", not_let_go),
];

const EPERM: Ended = Ended::Errno(libc::EPERM);
const TIMES: [i64; 4] = [1_000, 0, 2_000, 0];
/// linux/fcntl.h
const DN_MODIFY: i32 = 2;

fn open(path: &CString, flags: i32) -> i32 {
    // SAFETY: opens a C string; the descriptor lives until the child ends.
    unsafe { libc::open(path.as_ptr(), flags) }
}

fn touch(file: i32) -> i32 {
    call!(libc::SYS_utimensat, file, 0, TIMES.as_ptr(), 0)
}

fn modified(tree: &Tree, name: &str) -> std::time::SystemTime {
    std::fs::metadata(tree.path(name)).and_then(|found| found.modified()).expect("has a time")
}

/// Tries an act in one jail or the other.
type Jailed<'a> = dyn Fn(&dyn Fn() -> i32) -> Ended + 'a;

/// These answer before the kernel looks at the descriptor, so that the test needs no file system that knows them.
fn filtered() {
    const REQUESTS: [i64; 8] = [
        0x4008_6602,           // FS_IOC_SETFLAGS
        0x401c_5820,           // FS_IOC_FSSETXATTR
        0x4080_6685,           // FS_IOC_ENABLE_VERITY
        0x4008_6602 | 1 << 32, // the same to the kernel as the first
        0x4008_7602,           // FS_IOC_SETVERSION
        0x800c_6613,           // FS_IOC_SET_ENCRYPTION_POLICY
        0x5000_9417,           // BTRFS_IOC_SNAP_CREATE_V2
        0x4008_941a,           // BTRFS_IOC_SUBVOL_SETFLAGS
    ];
    const READS: [i64; 5] = [
        0x8008_6601,           // FS_IOC_GETFLAGS
        0x801c_581f,           // FS_IOC_FSGETXATTR
        0xc020_660b,           // FS_IOC_FIEMAP
        0x4004_9409,           // FICLONE, which wants a descriptor opened to write
        libc::FIONREAD as i64, // 0x541b
    ];
    let bad = Ended::Errno(libc::EBADF);
    let tree = Tree::new();
    let none = Ended::Errno(libc::EOPNOTSUPP);
    // Attributes a keeper sets, where there is one.
    let jails: [(&Jailed<'_>, Ended); 2] = [(&|act| tree.tries(act), KEEPERS), (&|act| bare(&tree, act), none)];
    for (tries, attributes) in jails {
        for request in REQUESTS {
            assert_eq!(tries(&|| call!(libc::SYS_ioctl, -1, request, 0)), EPERM, "{request:#x}");
            assert_eq!(attempt(|| true, || call!(libc::SYS_ioctl, -1, request, 0)), bad, "control: {request:#x}");
        }
        for request in READS {
            assert_eq!(tries(&|| call!(libc::SYS_ioctl, -1, request, 0)), bad, "control: {request:#x}");
        }
        let set = || call!(libc::SYS_fsetxattr, -1, c"user.x".as_ptr(), c"v".as_ptr(), 1, 0);
        let remove = || call!(libc::SYS_fremovexattr, -1, c"user.x".as_ptr());
        let get = || call!(libc::SYS_fgetxattr, -1, c"user.x".as_ptr(), 0, 0);
        assert_eq!(tries(&set), attributes);
        assert_eq!(tries(&remove), attributes);
        assert_eq!(tries(&get), bad, "control: attributes are read");
        assert_eq!(attempt(|| true, set), bad, "control");
    }
}

fn doors() {
    let tree = Tree::new();
    let work = tree.absolute("work");
    let watch = |number: i64| call!(libc::SYS_fcntl, open(&work, libc::O_DIRECTORY), number, DN_MODIFY);
    let jails: [&Jailed<'_>; 2] = [&|act| tree.tries(act), &|act| bare(&tree, act)];
    for tries in jails {
        // A flag that no kernel knows: without the filter the answer is EINVAL, or ENOSYS where it is switched off.
        assert_eq!(tries(&|| call!(libc::SYS_memfd_secret, 1 << 20)), Ended::Errno(libc::ENOSYS));
        assert_eq!(tries(&|| call!(libc::SYS_memfd_create, c"m".as_ptr(), 0)), Ended::Worked, "control");
        for number in [libc::F_NOTIFY as i64, libc::F_NOTIFY as i64 | 1 << 32] {
            assert_eq!(tries(&|| watch(number)), Ended::Errno(libc::EINVAL));
        }
        let flags = || call!(libc::SYS_fcntl, open(&work, libc::O_DIRECTORY), libc::F_GETFL);
        assert_eq!(tries(&flags), Ended::Worked, "control: other requests on a directory");
    }
    let free = attempt(|| true, || call!(libc::SYS_memfd_secret, 1 << 20));
    if free != Ended::Errno(libc::EINVAL) {
        println!("note: this kernel has no memfd_secret ({free:?}); the probe proves only that it does not work");
    }
    let free = attempt(|| true, || watch(libc::F_NOTIFY as i64));
    if free != Ended::Worked {
        println!("note: this kernel has no F_NOTIFY ({free:?}); the probe proves only that it does not work");
    }
}

/// Who opens a file under a lease waits until that is given up, or 45 s.
fn leases() {
    let tree = Tree::new();
    let seen = tree.absolute("seen/inside");
    let lease = |number: i64, kind: i32| call!(libc::SYS_fcntl, open(&seen, libc::O_RDONLY), number, kind);
    let jails: [&Jailed<'_>; 2] = [&|act| tree.tries(act), &|act| bare(&tree, act)];
    for (at, tries) in jails.into_iter().enumerate() {
        for kind in [libc::F_RDLCK, libc::F_WRLCK] {
            for number in [libc::F_SETLEASE as i64, libc::F_SETLEASE as i64 | 1 << 32] {
                assert_eq!(tries(&|| lease(number, kind)), Ended::Errno(libc::EINVAL), "{at}");
            }
            let free = attempt(|| true, || lease(libc::F_SETLEASE as i64, kind));
            assert_eq!(free, Ended::Worked, "control: without a jail");
        }
    }
    let lock = || call!(libc::SYS_flock, open(&seen, libc::O_RDONLY), libc::LOCK_EX | libc::LOCK_NB);
    assert_eq!(tree.tries(lock), Ended::Worked, "control: locks keep nobody from opening");
}

/// In the jail of a command without a keeper.
fn bare(tree: &Tree, act: &dyn Fn() -> i32) -> Ended {
    let work: OwnedFd = std::fs::File::open(tree.path("work")).expect("opens").into();
    let grants = Grants::none().with(GrantKind::WorkspaceReadWrite, work.as_fd());
    attempt(|| command(&grants), act)
}

fn unsupervised() {
    let tree = Tree::new();
    let inside = tree.absolute("work/inside");
    let before = modified(&tree, "work/inside");
    let file = || open(&inside, libc::O_RDWR);
    assert_eq!(bare(&tree, &|| i32::from(file() < 0)), Ended::Worked, "control: it can be opened to write");
    assert_eq!(bare(&tree, &|| call!(libc::SYS_fchmod, file(), 0o777)), EPERM);
    assert_eq!(bare(&tree, &|| touch(file())), EPERM);
    assert_eq!(bare(&tree, &|| call!(libc::SYS_fchown, file(), -1, -1)), EPERM);
    assert_eq!((tree.mode("work/inside"), modified(&tree, "work/inside")), (0o600, before));
}

/// A keeper that answers everything with `proceed` does not open the hole.
fn not_let_go() {
    let tree = Tree::new();
    let seen = tree.absolute("seen/inside");
    let (pid, listener) =
        start_in(&tree.path("work"), move || call!(libc::SYS_fchmod, open(&seen, libc::O_RDONLY), 0o666));
    let notice = listener.receive().expect("receives").expect("a change waits");
    assert!(listener.proceed(&notice).expect("answers"));
    assert_eq!(crate::child::ended(pid), EPERM);
    assert_eq!(tree.mode("seen/inside"), 0o600);
}
