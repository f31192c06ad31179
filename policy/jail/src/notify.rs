//! Seccomp user notification of new processes: a command's forks wait for its keeper.
//!
//! [`install`] runs in the command, after the runner's filter and before exec; the listener goes to the
//! keeper over a descriptor lane, and the keeper answers each fork: go on, or an errno. RLIMIT_NPROC
//! counts the whole uid and nothing for uid 0, so this is what bounds a command's processes (T-06).
//! The flags of `clone` are in registers, so letting the call continue after a look is not a race.
//! A process can have one listener, so the same one carries what else its keeper performs: always the changes of mode and
//! times and extended attributes, which Landlock does not govern and git, linkers and `cp -a` need; and every call that opens, makes,
//! moves or removes by a path, where a workspace has rules that Landlock cannot say (the door). Those are never let go on:
//! their path lies in memory that can change, and what their descriptor means can too (T-01, T-02, T-07).

use crate::bpf::{self, Action, Condition, Op, Rule};
use crate::role::Role;
use crate::signals;
use seccompiler::sock_filter;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use thiserror::Error;

#[derive(Debug, Error)]
pub enum NotifyError {
    #[error("cannot assemble the filter: {0}")]
    Assemble(bpf::AssembleError),
    #[error("the kernel refused a filter with a listener: {0}")]
    Install(io::Error),
    #[error("cannot receive a notification: {0}")]
    Receive(io::Error),
    #[error("cannot answer notification {id}: {source}")]
    Answer { id: u64, source: io::Error },
}

/// The supervisor's end. Readable when a process waits; `POLLHUP` when no process is left under the filter.
#[derive(Debug)]
pub struct Listener(OwnedFd);

/// One call that waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice {
    id: u64,
    /// The thread that waits, in the listener's pid namespace.
    pub pid: u32,
    /// The system call.
    pub number: i32,
    pub args: [u64; 6],
}

impl Notice {
    /// A new process, in contrast to everything else that waits.
    pub fn is_process(&self) -> bool {
        [libc::SYS_clone, libc::SYS_fork, libc::SYS_vfork].contains(&i64::from(self.number))
    }

    /// A connect of a command whose rule names hosts, to be answered by [`crate::connect`].
    pub fn is_connect(&self) -> bool {
        i64::from(self.number) == libc::SYS_connect
    }

    /// A signal of a command that has no scope, to be answered by [`crate::signals::perform`].
    pub fn is_signal(&self) -> bool {
        signals::CALLS.contains(&i64::from(self.number))
    }

    /// Another group or session, which a command that has no scope is refused; see [`crate::signals::regroup`].
    pub fn is_regroup(&self) -> bool {
        signals::REGROUPS.contains(&i64::from(self.number))
    }

    /// A handler for ended children, to be answered by [`crate::restart::perform`].
    pub fn is_child_handler(&self) -> bool {
        i64::from(self.number) == libc::SYS_rt_sigaction
    }
}

/// Says that changes of mode and times wait for a listener in this process, and which role's filter that lets be.
#[derive(Debug)]
pub struct Supervised {
    pub(crate) role: Role,
}

/// Which calls wait besides new processes and handlers of ended children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// Changes of mode, times and owner, extended attributes, and space that a file takes without being written.
    Metadata,
    /// Those, and every call that makes, cuts, moves or removes by a path, or opens something but to read it.
    Changes,
    /// Those, and every call that opens by a path.
    Paths,
}

/// What a command has by its keeper, or not at all, besides what every keeper performs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mediated {
    pub network: Network,
    pub signals: Signals,
}

impl Mediated {
    /// No network, and signals that Landlock confines.
    pub const NOTHING: Mediated = Mediated { network: Network::Refused, signals: Signals::Scope };
}

/// Who confines a command's signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signals {
    /// Landlock, from ABI 6 on.
    Scope,
    /// They wait, and the keeper must answer them by [`crate::signals::perform`]; the command stays one process group.
    Keeper,
}

/// Where a command's TCP sockets lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// It has none.
    Refused,
    /// Its connects wait, and the keeper must answer them by [`crate::connect`].
    Connected,
}

const WAIT_KILLABLE_RECV: libc::c_ulong = 1 << 5;
const NEW_LISTENER: libc::c_ulong = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;

// linux/seccomp.h; libc has the structs.
const NOTIF_RECV: libc::c_ulong = 0xc050_2100;
const NOTIF_SEND: libc::c_ulong = 0xc018_2101;
const NOTIF_ID_VALID: libc::c_ulong = 0x4008_2102;
const NOTIF_ADDFD: libc::c_ulong = 0x4018_2103;
const FLAG_CONTINUE: u32 = 1;
/// The number is the caller's own choice.
const ADDFD_SETFD: u32 = 1;

/// The descriptor is the call's answer, in one step.
const ADDFD_SEND: u32 = 2;

/// `struct seccomp_notif_addfd`, which libc does not have.
#[repr(C)]
struct AddDescriptor {
    id: u64,
    flags: u32,
    source: u32,
    number: u32,
    number_flags: u32,
}

/// Puts the calling, single-threaded process under the filter and returns the listener. Needs no_new_privs. The
/// call after this that forks waits until somebody answers, so hand the listener on and do not fork here.
///
/// The listener must not survive into the command: it is close-on-exec.
pub fn install() -> Result<Listener, NotifyError> {
    listen(&processes())
}

/// The same, for handlers of ended children and what `waiting` says besides: the keeper must answer them by
/// [`crate::restart::perform`] and its door.
pub fn install_supervised(waiting: Waiting, mediated: Mediated) -> Result<(Listener, Supervised), NotifyError> {
    let mut rules = processes();
    let of_children = Condition { index: 0, qword: false, op: Op::Eq, value: libc::SIGCHLD as u64, mask: 0 };
    // With a null pointer the call only asks which handler there is.
    let sets = Condition { index: 1, qword: true, op: Op::Ne, value: 0, mask: 0 };
    rules.push(waits(libc::SYS_rt_sigaction, vec![of_children, sets]));
    rules.extend(METADATA.into_iter().chain(ATTRIBUTES).map(|number| waits(number, vec![])));
    // What gives space back needs nobody.
    let takes =
        Condition { index: 1, qword: false, op: Op::MaskedEq, value: 0, mask: libc::FALLOC_FL_PUNCH_HOLE as u64 };
    rules.push(waits(libc::SYS_fallocate, vec![takes]));
    match waiting {
        Waiting::Paths | Waiting::Changes => {
            let open = |index| match waiting {
                Waiting::Changes => vec![opens(index), changes(index)],
                _ => vec![opens(index)],
            };
            rules.extend(PATHS.map(|number| waits(number, vec![])));
            rules
                .extend([(libc::SYS_open, 1), (libc::SYS_openat, 2)].map(|(number, index)| waits(number, open(index))));
        }
        // The mode of what it makes lies in memory, where a filter cannot read set-id bits; programs fall back on openat.
        Waiting::Metadata => rules.push(Rule {
            number: libc::SYS_openat2 as u32,
            conditions: vec![],
            action: Action::Errno(libc::ENOSYS as u16),
        }),
    }
    if mediated.signals == Signals::Keeper {
        rules.extend(signals::CALLS.map(|number| waits(number, vec![])));
        // T-07, T-12: by its group the keeper knows who is its command's, so it refuses these, and notes what was asked for.
        rules.extend(signals::REGROUPS.map(|number| waits(number, vec![])));
    }
    let role = match mediated.network {
        Network::Refused => Role::CapProcCommandSupervised,
        Network::Connected => {
            rules.push(waits(libc::SYS_connect, vec![]));
            Role::CapProcCommandNetwork
        }
    };
    Ok((listen(&rules)?, Supervised { role }))
}

/// Landlock governs none of these, so they wait in every command. A descriptor opened to read is enough for fchmod and fchown, in a read-only workspace
/// too.
const METADATA: [libc::c_long; 12] = [
    libc::SYS_chmod,
    libc::SYS_fchmodat,
    SYS_FCHMODAT2,
    libc::SYS_fchmod,
    libc::SYS_utimensat,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
    libc::SYS_fchown,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_fchownat,
];

/// Neither does it govern extended attributes. By a descriptor they are read by the command itself, as it reads the file; every
/// other way waits in every command (T-01, T-08).
const ATTRIBUTES: [libc::c_long; 10] = [
    libc::SYS_getxattr,
    libc::SYS_lgetxattr,
    libc::SYS_listxattr,
    libc::SYS_llistxattr,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
];

/// What the door performs: every call that takes a path and opens, makes, moves, cuts or removes. One that is missing here
/// would be Landlock's alone to judge, which knows no deny rule. Besides these open and openat, but for descriptors that are
/// paths only: they open nothing, Landlock does not govern them, and a supervisor cannot hand one over.
const PATHS: [libc::c_long; 17] = [
    libc::SYS_openat2,
    libc::SYS_creat,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_rmdir,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_link,
    libc::SYS_linkat,
    libc::SYS_symlink,
    libc::SYS_symlinkat,
    libc::SYS_mkdir,
    libc::SYS_mkdirat,
    libc::SYS_mknod,
    libc::SYS_mknodat,
    libc::SYS_truncate,
];

/// The number of `fchmodat2`, younger than libc's list.
pub const SYS_FCHMODAT2: libc::c_long = 452;

fn listen(rules: &[Rule]) -> Result<Listener, NotifyError> {
    let program = program(rules).map_err(NotifyError::Assemble)?;
    // Killable while the keeper looks: else a fork that is interrupted by a signal is asked for again and again.
    match set_filter(&program, NEW_LISTENER | WAIT_KILLABLE_RECV) {
        Err(old) if old.raw_os_error() == Some(libc::EINVAL) => set_filter(&program, NEW_LISTENER),
        answer => answer,
    }
    .map(Listener)
    .map_err(NotifyError::Install)
}

/// An open whose flags, in argument `index`, do not say O_PATH.
fn opens(index: u8) -> Condition {
    Condition { index, qword: false, op: Op::MaskedEq, value: 0, mask: libc::O_PATH as u64 }
}

/// An open whose flags do not leave everything as it is: any access mode but to read, and what makes or cuts. Of O_TMPFILE
/// only its own bit counts, the other one it is made of is O_DIRECTORY.
fn changes(index: u8) -> Condition {
    let own = libc::O_TMPFILE & !libc::O_DIRECTORY;
    let mask = (libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC | own) as u64;
    Condition { index, qword: false, op: Op::AnyBit, value: 0, mask }
}

fn waits(number: libc::c_long, conditions: Vec<Condition>) -> Rule {
    Rule { number: number as u32, conditions, action: Action::Notify }
}

fn processes() -> Vec<Rule> {
    let no_thread = Condition { index: 0, qword: false, op: Op::MaskedEq, value: 0, mask: libc::CLONE_THREAD as u64 };
    vec![
        waits(libc::SYS_fork, vec![]),
        waits(libc::SYS_vfork, vec![]),
        waits(libc::SYS_clone, vec![no_thread]),
        // Its flags lie in memory, where a look and the call are two things: programs fall back on clone.
        Rule { number: libc::SYS_clone3 as u32, conditions: vec![], action: Action::Errno(libc::ENOSYS as u16) },
    ]
}

fn program(rules: &[Rule]) -> Result<Vec<sock_filter>, bpf::AssembleError> {
    let program = bpf::assemble(rules, Action::Allow, true)?;
    Ok(program.iter().map(|i| sock_filter { code: i.code, jt: i.jt, jf: i.jf, k: i.k }).collect())
}

fn set_filter(program: &[sock_filter], flags: libc::c_ulong) -> io::Result<OwnedFd> {
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?,
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: the kernel copies `len` instructions from the slice, which lives through the call; sock_filter is
    // laid out as the kernel's.
    let answer = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const filter) };
    let number = i32::try_from(answer).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: with NEW_LISTENER the answer is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

impl Listener {
    /// Takes the next waiting call; `None` where it vanished meanwhile (its process was killed), or on a signal.
    pub fn receive(&self) -> Result<Option<Notice>, NotifyError> {
        // SAFETY: all-zero is a valid value of this plain struct, and what the kernel demands.
        let mut notice: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel writes one seccomp_notif, whose size is part of the request number.
        let answer = unsafe { libc::ioctl(self.0.as_raw_fd(), NOTIF_RECV, &raw mut notice) };
        if answer != 0 {
            let source = io::Error::last_os_error();
            return match source.raw_os_error() {
                Some(libc::ENOENT | libc::EINTR) => Ok(None),
                _ => Err(NotifyError::Receive(source)),
            };
        }
        Ok(Some(Notice { id: notice.id, pid: notice.pid, number: notice.data.nr, args: notice.data.args }))
    }

    /// Whether the call still waits: a pid read from a notice may have been used again by now.
    pub fn is_waiting(&self, notice: &Notice) -> bool {
        // SAFETY: the kernel reads one u64.
        unsafe { libc::ioctl(self.0.as_raw_fd(), NOTIF_ID_VALID, &raw const notice.id) == 0 }
    }

    /// Lets a new process go on. A change of mode or times is refused instead: it must not be judged by one look at
    /// a path and done with another (T-02). `false` where nobody waits any more.
    pub fn proceed(&self, notice: &Notice) -> Result<bool, NotifyError> {
        if !notice.is_process() {
            return self.refuse(notice, libc::EPERM);
        }
        self.answer(notice.id, 0, FLAG_CONTINUE)
    }

    /// Answers the call with an errno (EAGAIN is what fork promises where there is no room). `false` where nobody waits
    /// any more.
    pub fn refuse(&self, notice: &Notice, errno: i32) -> Result<bool, NotifyError> {
        self.answer(notice.id, -errno.abs(), 0)
    }

    /// The same, by name.
    pub fn refuse_with(&self, notice: &Notice, errno: nix::Error) -> Result<bool, NotifyError> {
        self.refuse(notice, errno as i32)
    }

    /// Lets a change of a signal's handler go on: it reaches nothing but the process that makes it.
    pub(crate) fn proceed_with_handler(&self, notice: &Notice) -> Result<bool, NotifyError> {
        if !notice.is_child_handler() {
            return self.refuse(notice, libc::EPERM);
        }
        self.answer(notice.id, 0, FLAG_CONTINUE)
    }

    /// Gives the caller a descriptor, which is the call's answer: the lowest free number, as open promises. `false` where
    /// nobody waits any more; an error is the caller's table being full.
    ///
    /// An open file is shared by its copies. Unless `at_once`, the supervisor's own is closed before the caller goes on: a
    /// program that closes what it wrote and then executes it, or gives a lock back by closing, would find it still open
    /// (ETXTBSY, EWOULDBLOCK). That takes the caller two turns; `at_once`, for what is only read, takes one.
    pub fn inject(
        &self,
        notice: &Notice,
        opened: OwnedFd,
        close_on_exec: bool,
        at_once: bool,
    ) -> Result<bool, nix::Error> {
        let source = u32::try_from(opened.as_raw_fd()).map_err(|_| nix::Error::EBADF)?;
        let number_flags = if close_on_exec { libc::O_CLOEXEC.unsigned_abs() } else { 0 };
        let add = AddDescriptor {
            id: notice.id,
            flags: if at_once { ADDFD_SEND } else { 0 },
            source,
            number: 0,
            number_flags,
        };
        // SAFETY: the kernel reads one seccomp_notif_addfd, whose size is part of the request number.
        let number = unsafe { libc::ioctl(self.0.as_raw_fd(), NOTIF_ADDFD, &raw const add) };
        let number = match nix::Error::result(number) {
            Ok(number) => number,
            Err(nix::Error::ENOENT) => return Ok(false),
            Err(other) => return Err(other),
        };
        if at_once {
            return Ok(true);
        }
        drop(opened);
        self.reply(notice.id, i64::from(number), 0, 0).map_err(|_| nix::Error::EIO)
    }

    /// Puts a descriptor under a number of the caller's, in the place of what is there; the call goes on waiting. An error is
    /// the caller's table being too small; `false` where nobody waits any more.
    pub(crate) fn put(
        &self,
        notice: &Notice,
        given: BorrowedFd<'_>,
        number: RawFd,
        close_on_exec: bool,
    ) -> nix::Result<bool> {
        let source = u32::try_from(given.as_raw_fd()).map_err(|_| nix::Error::EBADF)?;
        let number = u32::try_from(number).map_err(|_| nix::Error::EBADF)?;
        let number_flags = if close_on_exec { libc::O_CLOEXEC.unsigned_abs() } else { 0 };
        let add = AddDescriptor { id: notice.id, flags: ADDFD_SETFD, source, number, number_flags };
        // SAFETY: the kernel reads one seccomp_notif_addfd, whose size is part of the request number.
        let answer = unsafe { libc::ioctl(self.0.as_raw_fd(), NOTIF_ADDFD, &raw const add) };
        match nix::Error::result(answer) {
            Ok(_) => Ok(true),
            Err(nix::Error::ENOENT) => Ok(false),
            Err(other) => Err(other),
        }
    }

    /// Answers that the call was done, by the supervisor.
    pub fn done(&self, notice: &Notice) -> Result<bool, NotifyError> {
        self.answer(notice.id, 0, 0)
    }

    /// The same of a call that answers a length.
    pub fn done_with(&self, notice: &Notice, length: u32) -> Result<bool, NotifyError> {
        self.reply(notice.id, i64::from(length), 0, 0)
    }

    fn answer(&self, id: u64, error: i32, flags: u32) -> Result<bool, NotifyError> {
        self.reply(id, 0, error, flags)
    }

    fn reply(&self, id: u64, val: i64, error: i32, flags: u32) -> Result<bool, NotifyError> {
        let answer = libc::seccomp_notif_resp { id, val, error, flags };
        // SAFETY: the kernel reads one seccomp_notif_resp, whose size is part of the request number.
        let sent = unsafe { libc::ioctl(self.0.as_raw_fd(), NOTIF_SEND, &raw const answer) };
        if sent == 0 {
            return Ok(true);
        }
        let source = io::Error::last_os_error();
        match source.raw_os_error() {
            Some(libc::ENOENT) => Ok(false),
            _ => Err(NotifyError::Answer { id, source }),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Listener {
    fn from(descriptor: OwnedFd) -> Self {
        Listener(descriptor)
    }
}

impl From<Listener> for OwnedFd {
    fn from(listener: Listener) -> Self {
        listener.0
    }
}
