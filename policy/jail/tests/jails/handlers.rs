//! A command's handler for ended children restarts calls, so that its forks that wait are not interrupted (T-06).

use crate::call;
use crate::child::Ended;
use crate::supervised::Tree;

pub const TESTS: &[crate::Test] = &[
    ("a_handler_for_ended_children_is_made_one_that_restarts_calls", restarts),
    ("what_is_no_handler_for_ended_children_stays_as_it_is_set", others),
    ("a_handler_that_cannot_be_read_or_written_gets_the_kernels_own_answer", unreadable),
];

/// The kernel's `struct sigaction`: handler, flags, restorer, mask.
type Action = [u64; 4];
const RESTART: u64 = libc::SA_RESTART as u64;
const NO_STOPS: u64 = libc::SA_NOCLDSTOP as u64;
/// Never run: nothing is signalled here.
const HANDLER: u64 = 0x1000;

fn set(signal: i32, action: *const Action) -> i32 {
    call!(libc::SYS_rt_sigaction, signal, action, 0, 8)
}

/// The flags that the kernel keeps of a handler; `None` where there is none.
fn kept(signal: i32) -> Option<u64> {
    let mut action: Action = [0; 4];
    let asked = call!(libc::SYS_rt_sigaction, signal, 0, action.as_mut_ptr(), 8);
    (asked == 0 && action[0] == HANDLER).then_some(action[1])
}

/// Sets a handler with `flags` and expects `found` to be kept.
fn expects(signal: i32, flags: u64, found: u64) -> Ended {
    Tree::new().tries(|| {
        let action: Action = [HANDLER, flags, 0, 0];
        match set(signal, &raw const action) {
            0 => i32::from(kept(signal) != Some(found)),
            errno => errno,
        }
    })
}

fn restarts() {
    assert_eq!(expects(libc::SIGCHLD, 0, RESTART), Ended::Worked);
    assert_eq!(expects(libc::SIGCHLD, NO_STOPS, NO_STOPS | RESTART), Ended::Worked, "its other flags are kept");
    assert_eq!(expects(libc::SIGCHLD, RESTART, RESTART), Ended::Worked);
}

fn others() {
    for signal in [libc::SIGALRM, libc::SIGTERM, libc::SIGUSR1] {
        assert_eq!(expects(signal, 0, 0), Ended::Worked, "calls are interrupted by {signal} where the program says so");
    }
    let plain = |handler: libc::sighandler_t| {
        Tree::new().tries(move || {
            let action: Action = [handler as u64, 0, 0, 0];
            let mut found: Action = [9; 4];
            let answer = set(libc::SIGCHLD, &raw const action)
                | call!(libc::SYS_rt_sigaction, libc::SIGCHLD, 0, found.as_mut_ptr(), 8);
            answer | i32::from(found[..2] != action[..2])
        })
    };
    assert_eq!(plain(libc::SIG_IGN), Ended::Worked);
    assert_eq!(plain(libc::SIG_DFL), Ended::Worked);
}

fn unreadable() {
    let at = |address: u64| Tree::new().tries(move || set(libc::SIGCHLD, address as *const Action));
    assert_eq!(at(0), Ended::Worked, "a question");
    for address in [8, u64::MAX, u64::MAX - 7, 0x7fff_ffff_f000] {
        assert_eq!(at(address), Ended::Errno(libc::EFAULT), "{address:x}");
    }
    static CONSTANT: Action = [HANDLER, 0, 0, 0];
    let constant = || match set(libc::SIGCHLD, &raw const CONSTANT) {
        0 => i32::from(kept(libc::SIGCHLD) != Some(0)),
        errno => errno,
    };
    assert_eq!(Tree::new().tries(constant), Ended::Worked, "memory that the command may not write is not written");
    let closed = || {
        let action: Action = [HANDLER, 0, 0, 0];
        call!(libc::SYS_prctl, libc::PR_SET_DUMPABLE, 0) | set(libc::SIGCHLD, &raw const action)
    };
    assert_eq!(Tree::new().tries(closed), Ended::Worked, "a process that nobody may read sets what it sets");
}
