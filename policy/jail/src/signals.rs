//! Performs the signals that a command sends, in its keeper, where the kernel has no scope for them.
//!
//! Landlock confines signals from ABI 6 on. Below it a command could signal every process of the user, so its calls wait at
//! the listener, and the keeper sends what is meant for the command's own tree and refuses the rest with EPERM, which is
//! what a scope says (T-07, T-13). Never let go on: what a number means can change between a look and the call. A process
//! is looked at and signalled by one pidfd. A thread has none on these kernels, and is signalled by its number and its
//! process's in one call; for that to mean another it would have to end and the host to use up its numbers between two
//! calls of the keeper, while no fork of the command is answered.
//!
//! Whether a process is of the tree is the keeper's to say. Of the command's memory only a `siginfo` is read, and what it
//! says of its sender passes the kernel's own check.

use crate::notify::{Listener, Notice, NotifyError};
use nix::errno::Errno;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

/// The kernel's `siginfo_t`: number, error, code, and the rest.
type SignalInfo = [u8; 128];

/// What a keeper knows about its command's tree.
pub trait Tree {
    /// Whether a process belongs to it.
    fn has(&self, process: i32) -> bool;
    /// All of them.
    fn all(&self) -> Vec<i32>;
    /// The process group that they all are in, whose number stays theirs while the keeper has not reaped its leader.
    fn group(&self) -> i32;
    /// Of them, who believe to be in the group of one of them; `None` where nobody has asked for another than the one.
    fn group_around(&self, process: i32) -> Option<Vec<i32>>;
    /// Who believe to be in the group of this number, if anybody has asked for it.
    fn group_named(&self, number: i32) -> Option<Vec<i32>>;
}

/// Into which group a process was to be put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Regroup {
    pub process: i32,
    pub group: i32,
}

/// The calls that wait.
pub(crate) const CALLS: [libc::c_long; 6] = [
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_tgkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_pidfd_send_signal,
];

/// The calls that make or change a group, which wait besides and are refused.
pub(crate) const REGROUPS: [libc::c_long; 2] = [libc::SYS_setsid, libc::SYS_setpgid];

/// What the waiting call, one of [`REGROUPS`], asks for.
pub fn regroup(listener: &Listener, notice: &Notice) -> Option<Regroup> {
    let [process, group, ..] = notice.args;
    let own = process_of(int(u64::from(notice.pid))).ok()?;
    if !listener.is_waiting(notice) {
        return None;
    }
    let (process, group) = match i64::from(notice.number) {
        libc::SYS_setpgid => (int(process), int(group)),
        _ => (0, 0),
    };
    let process = if process == 0 { own } else { process };
    let group = if group == 0 { process } else { group };
    (process > 0 && group > 0).then_some(Regroup { process, group })
}

/// Sends what the waiting call asks for, if that stays in the tree, and answers it. `false` where nobody waits any more.
pub fn perform(listener: &Listener, notice: &Notice, tree: &dyn Tree) -> Result<bool, NotifyError> {
    match attempt(listener, notice, tree) {
        Ok(()) => listener.done(notice),
        Err(errno) => listener.refuse(notice, errno as i32),
    }
}

fn attempt(listener: &Listener, notice: &Notice, tree: &dyn Tree) -> nix::Result<()> {
    let [first, second, third, fourth, ..] = notice.args;
    match i64::from(notice.number) {
        libc::SYS_kill => kill(listener, notice, tree, int(first), signal(second)?),
        libc::SYS_tkill => {
            let process = process_of(int(first))?;
            to_thread(tree, process, int(first), signal(second)?, None)
        }
        libc::SYS_tgkill => to_thread(tree, int(first), int(second), signal(third)?, None),
        libc::SYS_rt_sigqueueinfo => {
            let info = read_info(listener, notice, third, signal(second)?)?;
            to_process(tree, int(first), signal(second)?, Some(&info))
        }
        libc::SYS_rt_tgsigqueueinfo => {
            let info = read_info(listener, notice, fourth, signal(third)?)?;
            to_thread(tree, int(first), int(second), signal(third)?, Some(&info))
        }
        libc::SYS_pidfd_send_signal if fourth as u32 != 0 => Err(Errno::EINVAL),
        libc::SYS_pidfd_send_signal => {
            let signal = signal(second)?;
            let info = if third == 0 { None } else { Some(read_info(listener, notice, third, signal)?) };
            by_descriptor(notice, tree, int(first), signal, info.as_ref())
        }
        _ => Err(Errno::EPERM),
    }
}

fn kill(listener: &Listener, notice: &Notice, tree: &dyn Tree, target: i32, signal: i32) -> nix::Result<()> {
    let group = tree.group();
    match target {
        1.. => to_process(tree, target, signal, None),
        // Its own group: the only one there is, or the one that it believes to be in.
        0 => {
            let own = process_of(int(u64::from(notice.pid)))?;
            if !listener.is_waiting(notice) {
                return Err(Errno::ESRCH);
            }
            tree.group_around(own).map_or_else(|| send_group(group, signal), |members| to_each(tree, members, signal))
        }
        -1 => {
            // As the kernel: everybody but who asks.
            let own = process_of(int(u64::from(notice.pid)))?;
            if !listener.is_waiting(notice) {
                return Err(Errno::ESRCH);
            }
            to_each(tree, tree.all().into_iter().filter(|process| *process != own), signal)
        }
        other => match other.checked_neg().map(|number| (number, tree.group_named(number))) {
            Some((_, Some(members))) => to_each(tree, members, signal),
            Some((number, None)) if number == group => send_group(group, signal),
            _ => Err(Errno::EPERM),
        },
    }
}

/// To each by itself; as the kernel, well done where it reached one.
fn to_each(tree: &dyn Tree, processes: impl IntoIterator<Item = i32>, signal: i32) -> nix::Result<()> {
    let sent = processes.into_iter().filter(|process| to_process(tree, *process, signal, None).is_ok());
    if sent.count() > 0 { Ok(()) } else { Err(Errno::ESRCH) }
}

fn to_process(tree: &dyn Tree, process: i32, signal: i32, info: Option<&SignalInfo>) -> nix::Result<()> {
    let opened = open_process(process)?;
    // After opening: who has the number now is who was opened, or is gone, and then the signal goes nowhere.
    if !tree.has(process) {
        return Err(Errno::EPERM);
    }
    send_opened(&opened, signal, info)
}

fn to_thread(tree: &dyn Tree, process: i32, thread: i32, signal: i32, info: Option<&SignalInfo>) -> nix::Result<()> {
    if process <= 0 || thread <= 0 {
        return Err(Errno::EINVAL);
    }
    let opened = open_process(process)?;
    if !tree.has(process) {
        return Err(Errno::EPERM);
    }
    // Ended or not, it is still there under its number.
    send_opened(&opened, 0, None)?;
    let answer = match info {
        // SAFETY: takes numbers.
        None => unsafe { libc::syscall(libc::SYS_tgkill, process, thread, signal) },
        // SAFETY: the kernel reads one siginfo of 128 bytes, which lives through the call.
        Some(info) => unsafe { libc::syscall(libc::SYS_rt_tgsigqueueinfo, process, thread, signal, info.as_ptr()) },
    };
    Errno::result(answer).map(drop)
}

/// By the command's own pidfd: whose it is the kernel tells.
fn by_descriptor(
    notice: &Notice,
    tree: &dyn Tree,
    number: i32,
    signal: i32,
    info: Option<&SignalInfo>,
) -> nix::Result<()> {
    let process = target_of(notice.pid, number)?;
    let opened = open_process(process)?;
    // Still its own after ours was opened: both mean one process. A pidfd whose process is gone says -1.
    if target_of(notice.pid, number)? != process || !tree.has(process) {
        return Err(Errno::EPERM);
    }
    send_opened(&opened, signal, info)
}

/// The process of a pidfd that the thread has under a number.
fn target_of(thread: u32, number: i32) -> nix::Result<i32> {
    if number < 0 {
        return Err(Errno::EBADF);
    }
    let text = std::fs::read_to_string(format!("/proc/{thread}/fdinfo/{number}")).map_err(|_| Errno::EBADF)?;
    let process = text.lines().find_map(|line| line.strip_prefix("Pid:")).ok_or(Errno::EBADF)?;
    match process.trim().parse() {
        Ok(process @ 1..) => Ok(process),
        Ok(-1) => Err(Errno::ESRCH),
        _ => Err(Errno::EPERM),
    }
}

/// The process that a thread belongs to.
fn process_of(thread: i32) -> nix::Result<i32> {
    if thread <= 0 {
        return Err(Errno::EINVAL);
    }
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).map_err(|_| Errno::ESRCH)?;
    let process = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
    process.and_then(|process| process.trim().parse().ok()).ok_or(Errno::ESRCH)
}

fn read_info(listener: &Listener, notice: &Notice, at: u64, signal: i32) -> nix::Result<SignalInfo> {
    let memory = File::open(format!("/proc/{}/mem", notice.pid)).map_err(|_| Errno::EPERM)?;
    let mut info = [0; 128];
    memory.read_exact_at(&mut info, at).map_err(|_| Errno::EFAULT)?;
    if !listener.is_waiting(notice) {
        return Err(Errno::ESRCH);
    }
    // The kernel puts the signal of the call there.
    let number = info.first_chunk_mut::<4>().ok_or(Errno::EFAULT)?;
    *number = signal.to_ne_bytes();
    Ok(info)
}

fn open_process(process: i32) -> nix::Result<OwnedFd> {
    if process <= 0 {
        return Err(Errno::EINVAL);
    }
    // SAFETY: takes numbers; the answer is a new descriptor or -1.
    let opened = unsafe { libc::syscall(libc::SYS_pidfd_open, process, 0) };
    let number = i32::try_from(Errno::result(opened)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just given this descriptor to us, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn send_opened(process: &OwnedFd, signal: i32, info: Option<&SignalInfo>) -> nix::Result<()> {
    let at = info.map_or(std::ptr::null(), |info| info.as_ptr());
    // SAFETY: the kernel reads one siginfo of 128 bytes where there is one, which lives through the call.
    let answer = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, at, 0) };
    Errno::result(answer).map(drop)
}

fn send_group(group: i32, signal: i32) -> nix::Result<()> {
    if group <= 1 {
        return Err(Errno::EPERM);
    }
    // SAFETY: takes numbers. The group is the command's: its leader has not been reaped while its calls are answered.
    Errno::result(unsafe { libc::kill(-group, signal) }).map(drop)
}

/// The kernel takes these as `int`.
fn int(argument: u64) -> i32 {
    argument as i32
}

fn signal(argument: u64) -> nix::Result<i32> {
    let number = int(argument);
    if (0..=64).contains(&number) { Ok(number) } else { Err(Errno::EINVAL) }
}
