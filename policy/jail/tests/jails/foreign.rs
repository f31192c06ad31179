//! Calls of other ABIs kill, in every role: their numbers mean other calls than the filter compares.

use crate::child::{Ended, attempt, call, reported, unprivileged};
use warden_jail::{Grants, Role, life, seccomp};

pub const TESTS: &[crate::Test] = &[("i386_and_x32_calls_kill_in_every_role", foreign)];

/// getpid of i386, by `int 0x80`; 0 for an answer that is a pid.
fn i386() -> i32 {
    let answer: i32;
    // SAFETY: call 20 of i386 is getpid; it takes nothing and writes only eax.
    unsafe { std::arch::asm!("int 0x80", inout("eax") 20 => answer, options(nostack)) };
    i32::from(answer <= 0)
}

/// getpid of x32.
fn x32() -> i32 {
    call(libc::SYS_getpid | 0x4000_0000, [0; 6])
}

fn foreign() {
    let free = attempt(|| true, i386);
    if free != Ended::Worked {
        println!("note: this kernel runs no i386 calls ({free:?}); the probe proves only that they do not work");
    }
    let x32_free = attempt(|| true, x32);
    assert!(matches!(x32_free, Ended::Worked | Ended::Errno(libc::ENOSYS)), "{x32_free:?}");
    for role in Role::ALL.into_iter().filter(|role| seccomp::beneath(*role).is_none()) {
        let jail = || unprivileged() && reported(life::lock_down(role, &Grants::none()));
        let native = attempt(jail, || call(libc::SYS_getpid, [0; 6]));
        assert_eq!(native, Ended::Worked, "{role}: getpid of x86-64");
        assert_eq!(attempt(jail, x32), Ended::Killed, "{role}: getpid of x32");
        if free == Ended::Worked {
            assert_eq!(attempt(jail, i386), Ended::Killed, "{role}: getpid of i386");
        }
    }
}
