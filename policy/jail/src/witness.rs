//! Proves that a Landlock domain is in force, by trying what it must refuse.
//!
//! Runs in the process being jailed, between entering the domain and installing the filter, so that it
//! may use calls the filter will take away (T-01, T-03).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use thiserror::Error;

#[derive(Debug, Error)]
pub enum WitnessError {
    #[error("cannot prepare the proof: {0}")]
    Prepare(io::Error),
    #[error(
        "the whole file system is granted and Landlock ABI {0} has no scopes, so nothing is forbidden that could be tried"
    )]
    Unprovable(u8),
    #[error("listing / answered {0:?}, expected EACCES")]
    Listing(Option<i32>),
    #[error("connecting to a socket outside answered {0:?}, expected EPERM")]
    Connecting(Option<i32>),
}

/// What will be tried after the domain is entered.
pub(crate) enum Witness {
    /// Listing `/`, which is granted to nobody but who was granted all of it.
    Listing,
    /// Connecting to an abstract socket that was made outside the domain.
    Connecting { listener: OwnedFd, client: OwnedFd },
}

impl Witness {
    pub fn prepare(grants_root: bool, abi: u8) -> Result<Witness, WitnessError> {
        match (grants_root, abi) {
            (false, _) => Ok(Witness::Listing),
            (true, 6..) => Ok(Witness::Connecting {
                listener: listening().map_err(WitnessError::Prepare)?,
                client: socket().map_err(WitnessError::Prepare)?,
            }),
            (true, _) => Err(WitnessError::Unprovable(abi)),
        }
    }

    pub fn testify(self) -> Result<(), WitnessError> {
        match self {
            Witness::Listing => match list_root() {
                Some(libc::EACCES) => Ok(()),
                other => Err(WitnessError::Listing(other)),
            },
            Witness::Connecting { listener, client } => match connect(&client, &listener) {
                Some(libc::EPERM) => Ok(()),
                other => Err(WitnessError::Connecting(other)),
            },
        }
    }
}

/// Proves a signal scope by the parent: it can be signalled before, and is refused after, though it is still there and
/// this process is still who it was.
///
/// A keeper asks this before it dares `kill(-1)` (T-07): outside a scope that would end everything the user runs. EPERM
/// alone would also come from a parent of another user, and who the parent is cannot be asked later: a domain may hide it
/// in `/proc`.
#[derive(Debug)]
pub struct ScopeWitness {
    parent: i32,
    identity: Identity,
}

impl ScopeWitness {
    /// Before the scope is entered; `None` where the parent cannot be signalled anyway, so that nothing could be proved.
    pub fn prepare() -> Option<ScopeWitness> {
        let (parent, identity) = (parent(), Identity::own()?);
        (parent > 0 && signal_none(parent) == Ok(())).then_some(ScopeWitness { parent, identity })
    }

    /// After it was entered. A parent that has ended meanwhile proves nothing: its number may be another's.
    pub fn in_force(&self) -> bool {
        let refused = signal_none(self.parent) == Err(Some(libc::EPERM));
        refused && parent() == self.parent && Identity::own().as_ref() == Some(&self.identity)
    }
}

/// What a signal to another process is allowed by.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    real: u32,
    effective: u32,
    may_signal_all: bool,
}

impl Identity {
    fn own() -> Option<Identity> {
        let may_signal_all = caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_KILL).ok()?;
        // SAFETY: getuid only returns a number.
        let real = unsafe { libc::getuid() };
        // SAFETY: geteuid only returns a number.
        let effective = unsafe { libc::geteuid() };
        Some(Identity { real, effective, may_signal_all })
    }
}

fn parent() -> i32 {
    // SAFETY: getppid only returns a number.
    unsafe { libc::getppid() }
}

/// Whether a process may be signalled; sends nothing.
fn signal_none(pid: i32) -> Result<(), Option<i32>> {
    // SAFETY: signal 0 to one process only asks whether a signal would be allowed.
    let answer = unsafe { libc::kill(pid, 0) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error().raw_os_error()) }
}

fn list_root() -> Option<i32> {
    // SAFETY: opens a static C string; the answer is a new descriptor or -1.
    let opened = unsafe { libc::open(c"/".as_ptr(), libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC) };
    if opened < 0 {
        return io::Error::last_os_error().raw_os_error();
    }
    // SAFETY: the kernel has just given this descriptor to us, nobody else owns it.
    drop(unsafe { OwnedFd::from_raw_fd(opened) });
    None
}

fn socket() -> io::Result<OwnedFd> {
    // SAFETY: takes numbers, returns a new descriptor or -1.
    let made = unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0) };
    if made < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given this descriptor to us, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(made) })
}

/// A listening socket with an abstract name of the kernel's choosing.
fn listening() -> io::Result<OwnedFd> {
    let made = socket()?;
    let family = libc::AF_UNIX as libc::sa_family_t;
    // SAFETY: the address is the two bytes of its family, which asks for a free abstract name.
    let bound = unsafe { libc::bind(made.as_raw_fd(), (&raw const family).cast(), size_of_val(&family) as u32) };
    if bound != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: takes a descriptor we own and a number.
    if unsafe { libc::listen(made.as_raw_fd(), 1) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(made)
}

fn connect(client: &OwnedFd, listener: &OwnedFd) -> Option<i32> {
    // SAFETY: an all-zero socket address is a valid value of this plain struct.
    let mut name: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    let mut length = size_of_val(&name) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into `name`, which is that long.
    let named = unsafe { libc::getsockname(listener.as_raw_fd(), (&raw mut name).cast(), &raw mut length) };
    if named != 0 {
        return io::Error::last_os_error().raw_os_error();
    }
    // SAFETY: the kernel reads `length` bytes of `name`, which it has just written.
    let joined = unsafe { libc::connect(client.as_raw_fd(), (&raw const name).cast(), length) };
    if joined == 0 { None } else { io::Error::last_os_error().raw_os_error() }
}
