//! cap-fs: workspaces with their mode, and nothing beside them.

use crate::call;
use crate::child::{Ended, attempt, reported, unprivileged};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use warden_jail::{GrantKind, Grants, Role, life};

pub const TESTS: &[crate::Test] = &[
    ("cap_fs_opens_beneath_its_workspaces_only", beneath),
    ("cap_fs_makes_renames_and_removes_in_a_read_write_workspace", changes),
    ("cap_fs_with_all_of_the_file_system_is_still_proved", root_granted),
    ("cap_fs_kills_other_opens_and_metadata_calls", filtered),
    ("a_grant_the_role_does_not_know_is_refused", unknown),
];

struct Workspaces {
    _directory: tempfile::TempDir,
    read_only: OwnedFd,
    read_write: OwnedFd,
    outside: CString,
}

fn open(path: &Path) -> OwnedFd {
    std::fs::File::open(path).expect("opens a directory of the test").into()
}

fn workspaces() -> Workspaces {
    let directory = tempfile::tempdir().expect("a directory for the test");
    for name in ["ro", "rw", "outside"] {
        std::fs::create_dir(directory.path().join(name)).expect("makes a directory");
        std::fs::write(directory.path().join(name).join("file"), name).expect("writes a file");
    }
    Workspaces {
        read_only: open(&directory.path().join("ro")),
        read_write: open(&directory.path().join("rw")),
        outside: CString::new(directory.path().join("outside/file").as_os_str().as_bytes()).expect("no NUL"),
        _directory: directory,
    }
}

impl Workspaces {
    fn jail(&self) -> bool {
        let grants = Grants::none()
            .with(GrantKind::WorkspaceReadOnly, self.read_only.as_fd())
            .with(GrantKind::WorkspaceReadWrite, self.read_write.as_fd());
        unprivileged() && reported(life::lock_down(Role::CapFs, &grants))
    }

    fn tries(&self, act: impl FnOnce() -> i32) -> Ended {
        attempt(|| self.jail(), act)
    }
}

fn openat2(directory: i32, path: &CStr, flags: i32) -> i32 {
    let how: [u64; 3] = [flags as u64, if flags & libc::O_CREAT != 0 { 0o600 } else { 0 }, 0];
    call!(libc::SYS_openat2, directory, path.as_ptr(), how.as_ptr(), size_of_val(&how))
}

fn beneath() {
    let spaces = workspaces();
    let (ro, rw) = (spaces.read_only.as_raw_fd(), spaces.read_write.as_raw_fd());
    assert_eq!(spaces.tries(|| openat2(ro, c"file", libc::O_RDONLY)), Ended::Worked);
    assert_eq!(spaces.tries(|| openat2(rw, c"file", libc::O_RDWR)), Ended::Worked);
    assert_eq!(spaces.tries(|| openat2(ro, c".", libc::O_RDONLY | libc::O_DIRECTORY)), Ended::Worked);
    let denied = Ended::Errno(libc::EACCES);
    assert_eq!(spaces.tries(|| openat2(ro, c"file", libc::O_RDWR)), denied);
    assert_eq!(spaces.tries(|| openat2(ro, c"new", libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL)), denied);
    assert_eq!(spaces.tries(|| openat2(rw, c"../outside/file", libc::O_RDONLY)), denied);
    assert_eq!(spaces.tries(|| openat2(libc::AT_FDCWD, &spaces.outside, libc::O_RDONLY)), denied);
    assert_eq!(spaces.tries(|| openat2(libc::AT_FDCWD, c"/etc/passwd", libc::O_RDONLY)), denied);
    // Control: outside a jail the same call opens the file.
    assert_eq!(attempt(|| true, || openat2(libc::AT_FDCWD, &spaces.outside, libc::O_RDONLY)), Ended::Worked);
}

fn changes() {
    let spaces = workspaces();
    let (ro, rw) = (spaces.read_only.as_raw_fd(), spaces.read_write.as_raw_fd());
    let create = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL;
    assert_eq!(spaces.tries(|| openat2(rw, c"made", create)), Ended::Worked);
    let mkdir = |at: i32| call!(libc::SYS_mkdirat, at, c"dir".as_ptr(), 0o700);
    assert_eq!(spaces.tries(|| mkdir(rw)), Ended::Worked);
    assert_eq!(spaces.tries(|| mkdir(ro)), Ended::Errno(libc::EACCES));
    let rename = |from: i32, to: i32, name: &CStr| {
        call!(libc::SYS_renameat2, from, c"made".as_ptr(), to, name.as_ptr(), libc::RENAME_NOREPLACE)
    };
    assert_eq!(spaces.tries(|| rename(rw, rw, c"dir/moved")), Ended::Worked, "between directories");
    assert_eq!(spaces.tries(|| openat2(rw, c"made", create)), Ended::Worked);
    let out = spaces.tries(|| rename(rw, ro, c"out"));
    assert!(matches!(out, Ended::Errno(libc::EACCES | libc::EXDEV)), "{out:?}");
    let unlink = |at: i32| call!(libc::SYS_unlinkat, at, c"file".as_ptr(), 0);
    assert_eq!(spaces.tries(|| unlink(ro)), Ended::Errno(libc::EACCES));
    assert_eq!(spaces.tries(|| unlink(rw)), Ended::Worked);
}

fn root_granted() {
    let root = open(Path::new("/"));
    let jail = || {
        let grants = Grants::none().with(GrantKind::WorkspaceReadOnly, root.as_fd());
        unprivileged() && reported(life::lock_down(Role::CapFs, &grants))
    };
    assert_eq!(attempt(jail, || openat2(libc::AT_FDCWD, c"/etc/passwd", libc::O_RDONLY)), Ended::Worked);
    assert_eq!(attempt(jail, || openat2(libc::AT_FDCWD, c"/dev/null", libc::O_WRONLY)), Ended::Errno(libc::EACCES));
}

fn filtered() {
    let spaces = workspaces();
    let rw = spaces.read_write.as_raw_fd();
    let file = c"file".as_ptr();
    assert_eq!(spaces.tries(|| call!(libc::SYS_openat, rw, file, libc::O_RDONLY)), Ended::Killed);
    assert_eq!(spaces.tries(|| call!(libc::SYS_creat, file, 0o600)), Ended::Killed);
    assert_eq!(spaces.tries(|| call!(libc::SYS_fchmodat, rw, file, 0o777)), Ended::Killed);
    assert_eq!(spaces.tries(|| call!(libc::SYS_fchownat, rw, file, 0, 0, 0)), Ended::Killed);
    assert_eq!(spaces.tries(|| call!(libc::SYS_utimensat, rw, file, 0, 0)), Ended::Killed);
    assert_eq!(spaces.tries(|| call!(libc::SYS_mknodat, rw, c"fifo".as_ptr(), libc::S_IFIFO)), Ended::Killed);
    assert_eq!(spaces.tries(|| call!(libc::SYS_truncate, file, 0)), Ended::Killed);
    assert_eq!(spaces.tries(|| call!(libc::SYS_chdir, c"/".as_ptr())), Ended::Killed);
    let mut status = [0u8; 256];
    let stat = spaces.tries(|| call!(libc::SYS_statx, rw, file, 0, 0x7ff, status.as_mut_ptr()));
    assert_eq!(stat, Ended::Worked, "control: a status beneath the workspace");
    let mut text = [0u8; 256];
    let own = CString::new(format!("/proc/self/fd/{rw}")).expect("no NUL");
    let link =
        spaces.tries(|| call!(libc::SYS_readlinkat, libc::AT_FDCWD, own.as_ptr(), text.as_mut_ptr(), text.len()));
    assert_eq!(link, Ended::Worked, "control: the own path of a descriptor");
}

fn unknown() {
    let spaces = workspaces();
    let refused = attempt(
        || true,
        || {
            let grants = Grants::none().with(GrantKind::Audit, spaces.read_write.as_fd());
            i32::from(life::lock_down(Role::CapFs, &grants).is_err())
        },
    );
    assert_eq!(refused, Ended::Errno(1));
}
