//! Constants that rule files may name instead of numbers, so that a reviewer reads flags, not hex.

macro_rules! symbols {
    ($($name:ident),* $(,)?) => {
        /// Names from libc's headers.
        const LIBC: &[(&str, i64)] = &[$((stringify!($name), libc::$name as i64)),*];
    };
}

symbols! {
    AF_UNIX, AF_INET, AF_INET6, IPPROTO_TCP, MSG_FASTOPEN, TCP_ULP, SOL_SOCKET, SOCK_STREAM, SOCK_SEQPACKET, SOCK_CLOEXEC,
    AT_FDCWD, AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, O_RDONLY, O_PATH, O_DIRECTORY, O_CLOEXEC, O_CREAT, S_ISUID, S_ISGID,
    PROT_EXEC, MAP_PRIVATE,
    CLONE_VM, CLONE_FS, CLONE_FILES, CLONE_SIGHAND, CLONE_PTRACE, CLONE_VFORK, CLONE_PARENT, CLONE_THREAD,
    CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET,
    CLONE_CHILD_SETTID, CLONE_CHILD_CLEARTID, CLONE_PARENT_SETTID, CLONE_SETTLS, CLONE_SYSVSEM, CLONE_IO, SIGCHLD,
    F_GETFD, F_GETFL, F_SETFD, F_SETFL, F_DUPFD_CLOEXEC, F_ADD_SEALS, F_GET_SEALS, F_GETPIPE_SZ, F_SETLK, F_GETLK, F_OFD_SETLK,
    PR_SET_PDEATHSIG, PR_GET_PDEATHSIG, PR_SET_DUMPABLE, PR_GET_DUMPABLE, PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS,
    PR_SET_NAME, PR_SET_VMA, PR_GET_SECCOMP, PR_SET_TIMERSLACK,
    PTRACE_TRACEME, PRIO_PROCESS, RLIMIT_NOFILE,
    SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, SECCOMP_FILTER_FLAG_TSYNC,
    TIOCSTI, TIOCLINUX, TCGETS, TIOCGPGRP, TIOCGWINSZ, FIONBIO, FIONREAD, FIOCLEX,
    MADV_DONTNEED, MADV_DONTDUMP, MADV_DONTFORK,
}

/// What libc does not name: (name, value).
const OWN: &[(&str, i64)] = &[
    // linux/ioprio.h
    ("IOPRIO_WHO_PROCESS", 1),
    // linux/net.h: the bits of socket(2)'s type that are not flags
    ("SOCK_TYPE_MASK", 0xf),
    // asm-generic/fcntl.h: what makes O_TMPFILE of O_DIRECTORY, so that the mode counts without O_CREAT
    ("O_TMPFILE_BIT", 0o20_000_000),
    // asm-generic/fcntl.h
    ("F_SETLEASE", 1024),
    ("F_NOTIFY", 1026),
    ("F_SETOWN", 8),
    ("F_SETOWN_EX", 15),
    // linux/fcntl.h: the newest that was looked at, F_GETDELEG; F_SETDELEG, a lease by another name, is the next
    ("F_NEWEST", 1039),
    // linux/falloc.h
    ("FALLOC_FL_KEEP_SIZE", 1),
    ("FALLOC_FL_PUNCH_HOLE", 2),
    // asm-generic/sockios.h
    ("FIOSETOWN", 0x8901),
    ("SIOCSPGRP", 0x8902),
    // linux/prctl.h
    ("PR_SET_MM", 35),
    ("PR_SCHED_CORE", 62),
    ("PR_SET_PTRACER", 0x5961_6d61),
    // The newest that was looked at, PR_LOCK_SHADOW_STACK_STATUS
    ("PR_NEWEST", 76),
    // asm-generic/socket.h: the classic and the other kind of program on a socket, alone and for a group
    ("SO_ATTACH_FILTER", 26),
    ("SO_ATTACH_BPF", 50),
    ("SO_ATTACH_REUSEPORT_CBPF", 51),
    ("SO_ATTACH_REUSEPORT_EBPF", 52),
    // linux/fscrypt.h
    ("FS_IOC_ADD_ENCRYPTION_KEY", 0xc050_6617),
    ("FS_IOC_REMOVE_ENCRYPTION_KEY", 0xc040_6618),
    // linux/memfd.h, asm-generic/mman-common.h
    ("MFD_HUGETLB", 4),
    ("MAP_HUGETLB", 0x4_0000),
    // asm-generic/ioctl.h: the parts of a request's number
    ("IOC_DIRECTION", 0xc000_0000),
    ("IOC_SIZE", 0x3fff_0000),
    ("IOC_TYPE", 0xff00),
    ("IOC_WRITE", 0x4000_0000),
    // linux/fs.h, linux/fsverity.h, ext4, fscrypt; linux/xfs_fs.h and FS_IOC_FSSETXATTR; FS_IOC_SETVERSION; f2fs
    ("IOC_TYPE_FS", 0x6600),
    ("IOC_TYPE_XFS", 0x5800),
    ("IOC_TYPE_VERSION", 0x7600),
    ("IOC_TYPE_F2FS", 0xf500),
    // linux/fscrypt.h, which says `read` of what it writes
    ("FS_IOC_SET_ENCRYPTION_POLICY", 0x800c_6613),
    // linux/btrfs.h: requests that take a name (struct btrfs_ioctl_vol_args, 4096 bytes), and one that sets flags
    ("BTRFS_IOC_WITH_NAME", 0x5000_9400),
    ("BTRFS_IOC_SUBVOL_SETFLAGS", 0x4008_941a),
    // asm-generic/ioctls.h, the newer termios
    ("TCGETS2", 0x802c_542a),
    ("WNOHANG", 1),
];

/// The value of `NAME|NAME|0x10`; negative numbers as the kernel sees them in a register.
pub fn value(text: &str) -> Result<u64, String> {
    text.split('|').map(str::trim).try_fold(0, |sum, word| Ok(sum | one(word)?))
}

fn one(word: &str) -> Result<u64, String> {
    if let Some(hex) = word.strip_prefix("0x") {
        return u64::from_str_radix(hex, 16).map_err(|e| format!("{word}: {e}"));
    }
    if let Ok(number) = word.parse::<i64>() {
        return Ok(number as u64);
    }
    LIBC.iter()
        .chain(OWN)
        .find(|(name, _)| *name == word)
        .map(|(_, value)| *value as u64)
        .ok_or_else(|| format!("`{word}` is no constant known to build/symbols.rs"))
}

macro_rules! errnos {
    ($($name:ident),* $(,)?) => {
        const ERRNOS: &[(&str, i32)] = &[$((stringify!($name), libc::$name)),*];
    };
}

errnos! { EPERM, EACCES, ENOSYS, EINVAL, ENOMEM, EAFNOSUPPORT, EOPNOTSUPP, EHOSTDOWN, EHOSTUNREACH }

/// The number of an errno that a rule may answer with.
pub fn errno(name: &str) -> Result<u16, String> {
    ERRNOS
        .iter()
        .find(|(known, _)| *known == name)
        .and_then(|(_, number)| u16::try_from(*number).ok())
        .ok_or_else(|| format!("`{name}` is no errno known to build/symbols.rs"))
}
