//! Forks of a command wait for their keeper.

use crate::child::{self, Ended, ended, reported, unprivileged};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use warden_jail::notify::{self, Listener};
use warden_jail::{Grants, Role, life};

pub const TESTS: &[crate::Test] = &[
    ("a_fork_goes_on_when_the_keeper_says_so", allowed),
    ("a_fork_is_refused_when_the_keeper_says_so", refused),
    ("threads_do_not_wait_for_the_keeper", threads),
    ("a_listener_ends_with_its_processes", hangup),
];

/// Starts a supervised child in the command's jail that runs `act`, and takes its listener.
fn start(act: fn() -> i32) -> (i32, Listener) {
    let (ours, theirs) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
    .expect("a pair");
    // SAFETY: this program has one thread.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: sets a timer of this child.
        unsafe { libc::alarm(20) };
        let jailed =
            unprivileged() && reported(life::lock_down(Role::CapProcRunner, &Grants::none()));
        let Ok(listener) = notify::install() else {
            child::exit(255)
        };
        let listener = OwnedFd::from(listener);
        let rights = [listener.as_raw_fd()];
        let message = [ControlMessage::ScmRights(&rights)];
        let sent = sendmsg::<()>(
            theirs.as_raw_fd(),
            &[IoSlice::new(b"L")],
            &message,
            MsgFlags::empty(),
            None,
        );
        drop(listener);
        let locked = reported(life::lock_down_command(&Grants::none()));
        child::exit(if jailed && sent.is_ok() && locked {
            act()
        } else {
            255
        });
    }
    drop(theirs);
    (pid, Listener::from(receive(ours.as_raw_fd())))
}

fn receive(link: RawFd) -> OwnedFd {
    let mut byte = [0u8; 1];
    let mut space = nix::cmsg_space!([RawFd; 1]);
    let mut parts = [IoSliceMut::new(&mut byte)];
    let message = recvmsg::<()>(
        link,
        &mut parts,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )
    .expect("a message");
    for control in message.cmsgs().expect("control messages") {
        if let ControlMessageOwned::ScmRights(descriptors) = control {
            // SAFETY: the kernel has just made this descriptor for us.
            return unsafe { OwnedFd::from_raw_fd(descriptors[0]) };
        }
    }
    panic!("no listener came");
}

/// Forks by the bare call; 0 if the child ran, else the errno.
fn forks() -> i32 {
    // SAFETY: the grandchild ends at once.
    let pid = unsafe { libc::fork() };
    match pid {
        0 => child::exit(0),
        1.. => i32::from(ended(pid) != Ended::Worked),
        _ => std::io::Error::last_os_error()
            .raw_os_error()
            .unwrap_or(254),
    }
}

fn allowed() {
    let (pid, listener) = start(forks);
    let notice = listener.receive().expect("receives").expect("a fork waits");
    assert_eq!(i64::from(notice.number), libc::SYS_clone);
    assert_eq!(notice.pid as i32, pid);
    assert!(listener.is_waiting(notice.id));
    assert!(listener.proceed(notice.id).expect("answers"));
    assert!(!listener.is_waiting(notice.id));
    assert_eq!(ended(pid), Ended::Worked);
}

fn refused() {
    let (pid, listener) = start(forks);
    let notice = listener.receive().expect("receives").expect("a fork waits");
    assert!(listener.refuse(notice.id, libc::EAGAIN).expect("answers"));
    assert_eq!(ended(pid), Ended::Errno(libc::EAGAIN));
    assert!(!listener.proceed(notice.id).expect("nobody waits any more"));
}

fn threads() {
    let (pid, _listener) = start(|| {
        std::thread::Builder::new()
            .spawn(|| ())
            .map_or(1, |thread| i32::from(thread.join().is_err()))
    });
    assert_eq!(ended(pid), Ended::Worked);
}

fn hangup() {
    let (pid, listener) = start(|| 0);
    assert_eq!(ended(pid), Ended::Worked);
    let mut wait = libc::pollfd {
        fd: std::os::fd::AsFd::as_fd(&listener).as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: polls one descriptor; the struct lives through the call.
    let ready = unsafe { libc::poll(&raw mut wait, 1, 5000) };
    assert_eq!(ready, 1);
    assert_ne!(wait.revents & libc::POLLHUP, 0);
}
