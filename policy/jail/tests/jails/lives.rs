//! The five steps together, and what drop_privileges leaves.

use crate::call;
use crate::child::{Ended, attempt, reported, unprivileged};
use std::os::fd::AsRawFd;
use warden_jail::life::{Life, Privileges};
use warden_jail::{Grants, Limits, Role, descriptors, life, probe, process, seccomp};

pub const TESTS: &[crate::Test] = &[
    ("a_life_goes_through_its_five_steps", whole),
    ("become_user_cannot_be_undone", other_user),
    ("sweep_closes_all_but_the_kept", sweep),
    ("descriptors_are_listed_in_every_jail", listing),
    ("death_signal_notices_a_parent_that_is_gone", orphan),
    ("limits_cannot_be_raised_again", limits),
    ("probes_agree_with_use", probes),
    ("an_addition_is_refused_alone", addition),
    ("a_panic_ends_the_process_in_every_build", panics),
];

fn whole() {
    let parent = std::process::id() as i32;
    let lived = attempt(
        || true,
        || {
            let privileges = Privileges {
                limits: Limits { open_files: Some(64), data_bytes: Some(64 << 20), ..Limits::default() },
                parent: Some(parent),
                keep: Some(vec![0, 1, 2]),
                user: nix::unistd::geteuid().is_root().then_some((65534, 65534)),
            };
            let life = Life::connect(Role::CapLlmReplay, || Ok::<_, std::io::Error>(2))
                .and_then(|life| life.prepare(|link| Ok::<_, std::io::Error>(*link + 1)))
                .and_then(|life| life.drop_privileges(&privileges))
                .and_then(|life| life.lock_down(|_, _| Grants::none()));
            match life {
                Ok(life) => {
                    let isolation = life.isolation().clone();
                    let right =
                        isolation.no_new_privs && isolation.seccomp_filters == 1 && isolation.degraded.is_empty();
                    life.serve(|link, state| i32::from(!(right && link == 2 && state == 3)))
                }
                Err(error) => {
                    eprintln!("life: {error}");
                    9
                }
            }
        },
    );
    assert_eq!(lived, Ended::Worked);
}

fn other_user() {
    if !nix::unistd::geteuid().is_root() {
        crate::skip::skipped("only root becomes somebody else");
        return;
    }
    let before = attempt(|| true, || i32::from(std::fs::read("/etc/shadow").is_err()));
    assert_eq!(before, Ended::Worked, "control: root reads the file");
    let jail = || reported(process::become_user(65534, 65534)) && reported(process::drop_capabilities());
    let after = attempt(jail, || {
        let shadow = std::fs::read("/etc/shadow").is_err();
        let root = nix::unistd::setuid(nix::unistd::Uid::from_raw(0)).is_err();
        let groups = nix::unistd::getgroups().is_ok_and(|groups| groups.is_empty());
        i32::from(!(shadow && root && groups))
    });
    assert_eq!(after, Ended::Worked);
}

fn sweep() {
    let swept = attempt(
        || true,
        || {
            let kept = std::fs::File::open("/dev/null").expect("opens");
            let lost = std::fs::File::open("/dev/null").expect("opens");
            let number = kept.as_raw_fd();
            std::mem::forget(lost);
            if descriptors::sweep_descriptors(&[number, 2, 0]).is_err() {
                return 9;
            }
            let left = descriptors::list_descriptors();
            std::mem::forget(kept);
            i32::from(left != [0, 2, number])
        },
    );
    assert_eq!(swept, Ended::Worked);
}

/// In a jail that kills an open, as in one that does not.
fn listing() {
    for role in Role::ALL.into_iter().filter(|role| seccomp::beneath(*role).is_none()) {
        let listed = || {
            let open = std::fs::File::open("/dev/null").expect("opens");
            let number = open.as_raw_fd();
            if descriptors::sweep_descriptors(&[0, 1, 2, number]).is_err() {
                return 9;
            }
            let before = descriptors::list_descriptors();
            if !reported(life::lock_down(role, &Grants::none())) {
                return 8;
            }
            let after = descriptors::list_descriptors();
            std::mem::forget(open);
            i32::from(before != [0, 1, 2, number] || after != before)
        };
        assert_eq!(attempt(unprivileged, listed), Ended::Worked, "{role}");
    }
    let opens = || i32::from(std::fs::read_dir("/proc/self/fd").is_err());
    let jail = || unprivileged() && reported(life::lock_down(Role::Compiler, &Grants::none()));
    assert_eq!(attempt(jail, opens), Ended::Killed, "control: the other way to list them");
    assert_eq!(attempt(|| true, opens), Ended::Worked, "control");
}

fn orphan() {
    let own = std::process::id() as i32;
    assert_eq!(attempt(|| true, || i32::from(process::death_signal(own).is_err())), Ended::Worked);
    assert_eq!(attempt(|| true, || i32::from(process::death_signal(own + 1).is_err())), Ended::Errno(1));
}

fn limits() {
    let jail = || {
        let limits = Limits { file_size_bytes: Some(10), ..Limits::default() };
        reported(process::drop_capabilities()) && reported(limits.apply())
    };
    let raised = attempt(jail, || {
        let more = [u64::MAX, u64::MAX];
        call!(libc::SYS_setrlimit, libc::RLIMIT_FSIZE, more.as_ptr())
    });
    assert_eq!(raised, Ended::Errno(libc::EPERM));
    let core = attempt(jail, || {
        let mut found = [9u64; 2];
        let asked = call!(libc::SYS_getrlimit, libc::RLIMIT_CORE, found.as_mut_ptr());
        i32::from(asked != 0 || found != [0, 0])
    });
    assert_eq!(core, Ended::Worked);
    // As a login of group `audio` gives them; where this host lets nobody raise them there is nothing to take away.
    let priorities = [libc::RLIMIT_RTPRIO, libc::RLIMIT_NICE];
    let given = [20u64, 20];
    let raised = || priorities.iter().all(|which| call!(libc::SYS_setrlimit, *which, given.as_ptr()) == 0);
    let has = |wanted: [u64; 2]| {
        let mut found = [9u64; 2];
        priorities.iter().all(|which| call!(libc::SYS_getrlimit, *which, found.as_mut_ptr()) == 0 && found == wanted)
    };
    if attempt(raised, || i32::from(!has(given))) == Ended::Worked {
        assert_eq!(attempt(|| raised() && jail(), || i32::from(!has([0, 0]))), Ended::Worked);
    } else {
        println!("note: this host lets nobody raise a priority; that a jail takes it away was not tried");
        assert_eq!(attempt(jail, || i32::from(!has([0, 0]))), Ended::Worked);
    }
}

fn probes() {
    let findings = probe::all();
    println!("note: {findings:?}");
    // Filters and notification are in every kernel this project supports; the rest depends on the host.
    assert!(findings.seccomp_filter && findings.seccomp_notify);
    assert_eq!(findings.landlock_files, findings.landlock_abi > 0);
    assert_eq!(findings.landlock_scope, findings.landlock_abi >= 6);
}

fn addition() {
    let refused = attempt(|| true, || i32::from(warden_jail::life::lock_down(Role::Worker, &Grants::none()).is_err()));
    assert_eq!(refused, Ended::Errno(1));
}

/// The attempt's own status says how it went on after the panic; a process that ended at once gave none.
fn panics() {
    let caught = |hook: fn()| {
        attempt(
            || true,
            move || {
                hook();
                i32::from(std::panic::catch_unwind(|| panic!("of a test, on purpose")).is_ok())
            },
        )
    };
    if cfg!(panic = "unwind") {
        assert_eq!(caught(|| ()), Ended::Worked);
    }
    assert_eq!(caught(warden_jail::process::abort_on_panic), Ended::Signal(libc::SIGABRT));
}
