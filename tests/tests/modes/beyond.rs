//! Attempts beyond files: sockets, processes outside, and the doors of the kernel.

use crate::scene::{Attempt, often_refused, refused};

pub const SOCKETS: [Attempt; 12] = [
    refused("connected(socket.AF_UNIX, socket.SOCK_STREAM, BESIDE + '/socket')", "EACCES"),
    refused("socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)", "EACCES"),
    refused("socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)", "EACCES"),
    refused("socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)", "EACCES"),
    refused("connected(socket.AF_UNIX, socket.SOCK_STREAM, '\\0nobody-listens')", "EACCES"),
    refused("connected(socket.AF_INET, socket.SOCK_STREAM, ('127.0.0.1', PORT))", "EACCES"),
    refused("connected(socket.AF_INET, socket.SOCK_DGRAM, ('127.0.0.1', PORT))", "EACCES"),
    refused("socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)", "EACCES"),
    often_refused("socket.socket(socket.AF_INET6, socket.SOCK_STREAM)", "EACCES"),
    often_refused("socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)", "EACCES"),
    often_refused("socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET)", "EACCES"),
    often_refused("socket.socket(socket.AF_PACKET, socket.SOCK_RAW)", "EACCES"),
];

/// ESRCH and ENOENT: in a pid namespace who is outside has no number.
pub const PROCESSES: [Attempt; 17] = [
    refused("os.kill(OUT, 0)", "EPERM|ESRCH"),
    refused("os.kill(OUT, signal.SIGCONT)", "EPERM|ESRCH"),
    refused("raw(200, OUT, 0)", "EPERM|ESRCH"),
    refused("signalled(OUT)", "EPERM|ESRCH|EINVAL"),
    often_refused("os.kill(os.getppid(), 0)", "EPERM|ESRCH"),
    often_refused("os.kill(1, 0)", "EPERM|ESRCH"),
    refused("in_child(lambda: traced(OUT))", "EPERM|ESRCH"),
    refused("stolen(OUT)", "EPERM|ESRCH"),
    refused("read(f'/proc/{OUT}/environ')", "EACCES|EPERM|ENOENT"),
    refused("read(f'/proc/{OUT}/maps')", "EACCES|EPERM|ENOENT"),
    refused("os.open(f'/proc/{OUT}/mem', os.O_RDONLY)", "EACCES|EPERM|ENOENT"),
    refused("os.readlink(f'/proc/{OUT}/fd/0')", "EACCES|EPERM|ENOENT"),
    refused("os.listdir(f'/proc/{OUT}/cwd/')", "EACCES|EPERM|ENOENT|ELOOP"),
    refused("read(f'/proc/{OUT}/root/etc/passwd')", "EACCES|EPERM|ENOENT|ELOOP"),
    refused("raw(302, OUT, 7, 0, ctypes.addressof(ROOM))", "EPERM|ESRCH"),
    refused("os.setpriority(os.PRIO_PROCESS, OUT, 5)", "EPERM|ESRCH"),
    refused("os.sched_setaffinity(OUT, {0})", "EPERM|ESRCH"),
];

/// By numbers of x86-64, with arguments that change nothing where the call is made: EFAULT and EBADF are the kernel's own word.
pub const KERNEL: [Attempt; 31] = [
    often_refused("in_child(lambda: raw(272, 0x10000000))", "EPERM"),
    often_refused("in_child(lambda: raw(56, 0x10000011, 0, 0, 0, 0) or os._exit(0))", "EPERM"),
    refused("raw(272, 0)", "EPERM"),
    refused("raw(435, 0, 0)", "ENOSYS"),
    refused("raw(308, -1, 0)", "EPERM"),
    often_refused("raw(165, 0, ctypes.addressof(ROOM), 0, 0x1000000, 0)", "EPERM"),
    refused("raw(428, -1, ctypes.addressof(ROOM), 0)", "EPERM"),
    often_refused("raw(155, ctypes.addressof(ROOM), ctypes.addressof(ROOM))", "EPERM"),
    often_refused("in_child(lambda: os.chroot('.'))", "EPERM"),
    refused("raw(16, 0, 0x5412, 0)", "EPERM"),
    refused("raw(16, 0, 0x541c, 0)", "EPERM"),
    often_refused("raw(425, 1, 0)", "ENOSYS"),
    refused("raw(426, -1, 0, 0, 0, 0, 0)", "ENOSYS"),
    refused("raw(250, 0, -3, 0)", "EPERM"),
    refused("raw(248, 0, 0, 0, 0, 0)", "EPERM"),
    often_refused("os.close(raw(323, 0o2000001))", "EPERM"),
    often_refused("raw(321, 999, 0, 0)", "EPERM"),
    often_refused("raw(298, 0, 0, -1, -1, 0)", "EPERM"),
    refused("raw(317, 1, 8, 0)", "EPERM"),
    refused("os.close(raw(294, 0))", "ENOSYS"),
    often_refused("raw(300, 0, 0)", "EPERM"),
    refused("raw(29, 0x5eed, 4096, 0)", "EPERM"),
    refused("raw(64, 0x5eed, 1, 0)", "EPERM"),
    refused("raw(68, 0x5eed, 0)", "EPERM"),
    refused("raw(240, 0, 0, 0, 0)", "EPERM"),
    refused("raw(303, -1, 0, 0, 0, 0)", "EPERM"),
    often_refused("raw(304, -1, 0, 0)", "EPERM"),
    refused("raw(438, -1, 0, 0)", "EPERM"),
    refused("raw(440, -1, 0, 0, 0, 0)", "EPERM"),
    refused("raw(312, os.getpid(), os.getpid(), 0, 0, 0)", "EPERM"),
    refused("raw(135, 0x0400000)", "EPERM"),
];
