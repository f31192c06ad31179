//! Numbers of the same calls in the two other ABIs that a 64-bit kernel may serve, from Linux's `unistd_32.h` and
//! `unistd_x32.h`. From 424 on all ABIs have one number. Where i386 has no call of its own, the one that does its work.

const I386: &str = "\
    read 3, write 4, open 5, close 6, stat 106, fstat 108, lstat 107, poll 168, lseek 19, mmap 90, mprotect 125, \
    munmap 91, brk 45, rt_sigaction 174, rt_sigprocmask 175, rt_sigreturn 173, ioctl 54, pread64 180, pwrite64 181, \
    readv 145, writev 146, access 33, pipe 42, select 82, sched_yield 158, mremap 163, msync 144, mincore 218, \
    madvise 219, shmget 395, shmat 397, shmctl 396, dup 41, dup2 63, pause 29, nanosleep 162, getitimer 105, alarm \
    27, setitimer 104, getpid 20, sendfile 187, socket 359, connect 362, accept 364, sendto 369, recvfrom 371, \
    sendmsg 370, recvmsg 372, shutdown 373, bind 361, listen 363, getsockname 367, getpeername 368, socketpair 360, \
    setsockopt 366, getsockopt 365, clone 120, fork 2, vfork 190, execve 11, exit 1, wait4 114, kill 37, uname 122, \
    semget 393, semop 117, semctl 394, shmdt 398, msgget 399, msgsnd 400, msgrcv 401, msgctl 402, fcntl 55, flock \
    143, fsync 118, fdatasync 148, truncate 92, ftruncate 93, getdents 141, getcwd 183, chdir 12, fchdir 133, rename \
    38, mkdir 39, rmdir 40, creat 8, link 9, unlink 10, symlink 83, readlink 85, chmod 15, fchmod 94, chown 182, \
    fchown 95, lchown 16, umask 60, gettimeofday 78, getrlimit 76, getrusage 77, sysinfo 116, times 43, ptrace 26, \
    getuid 24, syslog 103, getgid 47, setuid 23, setgid 46, geteuid 49, getegid 50, setpgid 57, getppid 64, getpgrp \
    65, setsid 66, setreuid 70, setregid 71, getgroups 80, setgroups 81, setresuid 164, getresuid 165, setresgid \
    170, getresgid 171, getpgid 132, setfsuid 138, setfsgid 139, getsid 147, capget 184, capset 185, rt_sigpending \
    176, rt_sigtimedwait 177, rt_sigqueueinfo 178, rt_sigsuspend 179, sigaltstack 186, utime 30, mknod 14, uselib \
    86, personality 136, ustat 62, statfs 99, fstatfs 100, sysfs 135, getpriority 96, setpriority 97, sched_setparam \
    154, sched_getparam 155, sched_setscheduler 156, sched_getscheduler 157, sched_get_priority_max 159, \
    sched_get_priority_min 160, sched_rr_get_interval 161, mlock 150, munlock 151, mlockall 152, munlockall 153, \
    vhangup 111, modify_ldt 123, pivot_root 217, _sysctl 149, prctl 172, arch_prctl 384, adjtimex 124, setrlimit 75, \
    chroot 61, sync 36, acct 51, settimeofday 79, mount 21, umount2 52, swapon 87, swapoff 115, reboot 88, \
    sethostname 74, setdomainname 121, iopl 110, ioperm 101, init_module 128, delete_module 129, quotactl 131, \
    nfsservctl 169, getpmsg 188, putpmsg 189, afs_syscall 137, gettid 224, readahead 225, setxattr 226, lsetxattr \
    227, fsetxattr 228, getxattr 229, lgetxattr 230, fgetxattr 231, listxattr 232, llistxattr 233, flistxattr 234, \
    removexattr 235, lremovexattr 236, fremovexattr 237, tkill 238, time 13, futex 240, sched_setaffinity 241, \
    sched_getaffinity 242, set_thread_area 243, io_setup 245, io_destroy 246, io_getevents 247, io_submit 248, \
    io_cancel 249, get_thread_area 244, lookup_dcookie 253, epoll_create 254, epoll_ctl_old 255, epoll_wait_old 256, \
    remap_file_pages 257, getdents64 220, set_tid_address 258, restart_syscall 0, semtimedop 117, fadvise64 250, \
    timer_create 259, timer_settime 260, timer_gettime 261, timer_getoverrun 262, timer_delete 263, clock_settime \
    264, clock_gettime 265, clock_getres 266, clock_nanosleep 267, exit_group 252, epoll_wait 256, epoll_ctl 255, \
    tgkill 270, utimes 271, vserver 273, mbind 274, set_mempolicy 276, get_mempolicy 275, mq_open 277, mq_unlink \
    278, mq_timedsend 279, mq_timedreceive 280, mq_notify 281, mq_getsetattr 282, kexec_load 283, waitid 284, \
    add_key 286, request_key 287, keyctl 288, ioprio_set 289, ioprio_get 290, inotify_init 291, inotify_add_watch \
    292, inotify_rm_watch 293, migrate_pages 294, openat 295, mkdirat 296, mknodat 297, fchownat 298, futimesat 299, \
    newfstatat 300, unlinkat 301, renameat 302, linkat 303, symlinkat 304, readlinkat 305, fchmodat 306, faccessat \
    307, pselect6 308, ppoll 309, unshare 310, set_robust_list 311, get_robust_list 312, splice 313, tee 315, \
    sync_file_range 314, vmsplice 316, move_pages 317, utimensat 320, epoll_pwait 319, signalfd 321, timerfd_create \
    322, eventfd 323, fallocate 324, timerfd_settime 325, timerfd_gettime 326, accept4 364, signalfd4 327, eventfd2 \
    328, epoll_create1 329, dup3 330, pipe2 331, inotify_init1 332, preadv 333, pwritev 334, rt_tgsigqueueinfo 335, \
    perf_event_open 336, recvmmsg 337, fanotify_init 338, fanotify_mark 339, prlimit64 340, name_to_handle_at 341, \
    open_by_handle_at 342, clock_adjtime 343, syncfs 344, sendmmsg 345, setns 346, getcpu 318, process_vm_readv 347, \
    process_vm_writev 348, kcmp 349, finit_module 350, sched_setattr 351, sched_getattr 352, renameat2 353, seccomp \
    354, getrandom 355, memfd_create 356, kexec_file_load 283, bpf 357, execveat 358, userfaultfd 374, membarrier \
    375, mlock2 376, copy_file_range 377, preadv2 378, pwritev2 379, pkey_mprotect 380, pkey_alloc 381, pkey_free \
    382, statx 383, rseq 386, io_pgetevents 385";

const X32: &str = "\
    rt_sigaction 512, rt_sigreturn 513, ioctl 514, readv 515, writev 516, recvfrom 517, sendmsg 518, recvmsg 519, \
    execve 520, ptrace 521, rt_sigpending 522, rt_sigtimedwait 523, rt_sigqueueinfo 524, sigaltstack 525, \
    timer_create 526, mq_notify 527, kexec_load 528, waitid 529, set_robust_list 530, get_robust_list 531, vmsplice \
    532, move_pages 533, preadv 534, pwritev 535, rt_tgsigqueueinfo 536, recvmmsg 537, sendmmsg 538, \
    process_vm_readv 539, process_vm_writev 540, setsockopt 541, getsockopt 542, io_setup 543, io_submit 544, \
    execveat 545, preadv2 546, pwritev2 547";

const SHARED_FROM: i64 = 424;

fn find(table: &str, name: &str) -> Option<i64> {
    let mut entries = table.split(',').filter_map(|entry| entry.trim().split_once(' '));
    entries.find(|(known, _)| *known == name).and_then(|(_, number)| number.parse().ok())
}

/// The number by `int 0x80`; for what i386 never had, that of x86-64.
pub fn i386(name: &str, native: i64) -> i64 {
    if native >= SHARED_FROM { native } else { find(I386, name).unwrap_or(native) }
}

/// The numbers with x32's bit: that of x86-64, and x32's own where it has one.
pub fn x32(name: &str, native: i64) -> impl Iterator<Item = i64> {
    std::iter::once(native).chain(find(X32, name)).map(|number| number | 0x4000_0000)
}
