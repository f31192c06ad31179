//! A jailed process from start to end: link, setup, hello, locked.
//!
//! Nothing is asked of it before it has said that its jail is shut, and what it says then goes into the log.

use crate::peer::{Peer, PeerError};
use crate::runtime::{Child, Runtime, RuntimeError};
use crate::sealed;
use bincode::Encode;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use tokio::time::{Instant, timeout_at};
use warden_proto::codec;
use warden_proto::limits::{CANCEL_GRACE, HELLO_DEADLINE, LOCKED_DEADLINE, SETUP_MAX_BYTES};
use warden_proto::link_a::Inherit;
use warden_proto::msg::life::{Hello, Locked, Role, Setup};
use warden_proto::{Kind, socket};

/// A jailed process could not be started or did not shut its jail.
#[derive(Debug, thiserror::Error)]
pub enum JailedError {
    /// The spawner could not start it.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// Its link failed before it was locked.
    #[error("{role} did not get ready: {source}")]
    Peer {
        /// Which.
        role: &'static str,
        /// Why.
        source: PeerError,
    },
    /// It is of another build.
    #[error("{role} is of another build than warden; install all of its programs together")]
    Build {
        /// Which.
        role: &'static str,
    },
    /// What it should be told is too long.
    #[error("the setup of {role} could not be made: {why}")]
    Setup {
        /// Which.
        role: &'static str,
        /// Why.
        why: String,
    },
    /// A person asked for the end while it got ready.
    #[error("ended by signal {signal}")]
    Cancelled {
        /// The signal's number.
        signal: i32,
    },
    /// Its start could not be put on the record: it was ended, and nothing goes on (T-09).
    #[error("the audit log could not be written, so {role} was ended again: {why}")]
    Unrecorded {
        /// Which.
        role: &'static str,
        /// Why.
        why: String,
    },
}

/// A jailed process that is ready.
pub struct Jailed {
    /// Its link.
    pub peer: Peer,
    /// Its process.
    pub child: Child,
    /// What it said of its jail.
    pub locked: Locked,
}

/// What a process is started with.
pub struct Birth<'a> {
    /// What it is.
    pub role: Role,
    /// Descriptors that follow the setup document over the link.
    pub descriptors: &'a [BorrowedFd<'a>],
    /// Descriptors that it inherits over exec.
    pub inherit: Vec<Inherit>,
}

impl Jailed {
    /// Starts a process, sends its setup document and waits until its jail is shut.
    pub async fn start<D: Encode>(runtime: &Runtime, birth: Birth<'_>, document: &D) -> Result<Self, JailedError> {
        let role = birth.role;
        let name = role.name();
        let failed = |why: String| JailedError::Setup { role: name, why };
        let peer_error = |source| JailedError::Peer { role: name, source };
        let (ours, theirs) = socket::pair().map_err(|e| failed(e.to_string()))?;
        let mut peer = Peer::new(ours).map_err(peer_error)?;
        let bytes = codec::encode(document).map_err(|e| failed(e.to_string()))?;
        if bytes.len() > SETUP_MAX_BYTES {
            return Err(failed(format!("it is {} bytes long and may be {SETUP_MAX_BYTES}", bytes.len())));
        }
        // Sent before the process exists: the socket keeps it, and a warm worker finds it there.
        send_setup(&mut peer, &bytes, birth.descriptors).await.map_err(peer_error)?;
        let child = start_process(runtime, role, theirs, birth.inherit).await?;
        let mut jailed = Self { peer, child, locked: never_locked() };
        jailed.await_locked(role).await?;
        Ok(jailed)
    }

    async fn await_locked(&mut self, role: Role) -> Result<(), JailedError> {
        let name = role.name();
        let peer_error = |source| JailedError::Peer { role: name, source };
        let hello: Hello = self.expect(Kind::Hello, Instant::now() + HELLO_DEADLINE).await.map_err(peer_error)?;
        if hello.build_id != warden_proto::build_id() {
            return Err(JailedError::Build { role: name });
        }
        if hello.role != role {
            return Err(peer_error(PeerError::Refused(format!("it says to be {}", hello.role.name()))));
        }
        self.locked = self.expect(Kind::Locked, Instant::now() + LOCKED_DEADLINE).await.map_err(peer_error)?;
        Ok(())
    }

    async fn expect<T: bincode::Decode<()>>(&mut self, kind: Kind, deadline: Instant) -> Result<T, PeerError> {
        let frame = timeout_at(deadline, self.peer.next()).await.map_err(|_| PeerError::Silent)??;
        if frame.kind != kind {
            return Err(PeerError::Refused(format!("it sent {:?} where {kind:?} is due", frame.kind)));
        }
        Ok(frame.decode()?)
    }

    /// Asks it to end, and kills it if it does not.
    pub async fn end(mut self) {
        let deadline = Instant::now() + CANCEL_GRACE;
        if self.peer.send(Kind::Goodbye, 0, &(), &[], deadline).await.is_ok()
            && timeout_at(deadline, self.child.exited()).await.is_ok()
        {
            return;
        }
        self.child.kill();
        let _ = timeout_at(Instant::now() + CANCEL_GRACE, self.child.exited()).await;
    }
}

fn never_locked() -> Locked {
    Locked {
        landlock_abi: 0,
        seccomp_filters: 0,
        degraded: warden_proto::List::default(),
        descriptors: warden_proto::List::default(),
        pid: 0,
        held: warden_proto::List::default(),
    }
}

async fn send_setup(peer: &mut Peer, document: &[u8], more: &[BorrowedFd<'_>]) -> Result<(), PeerError> {
    let file = sealed::holding("setup", document).map_err(|e| PeerError::Failed(e.to_string()))?;
    let mut descriptors = vec![file.as_fd()];
    descriptors.extend_from_slice(more);
    let count = |n: usize| u32::try_from(n).map_err(|e| PeerError::Failed(e.to_string()));
    let setup = Setup {
        build_id: warden_proto::build_id(),
        document_len: count(document.len())?,
        descriptors: count(more.len())?,
    };
    peer.send(Kind::Setup, 0, &setup, &descriptors, Instant::now() + HELLO_DEADLINE).await
}

async fn start_process(
    runtime: &Runtime,
    role: Role,
    link: OwnedFd,
    inherit: Vec<Inherit>,
) -> Result<Child, RuntimeError> {
    match role {
        Role::Worker => runtime.fork_worker(link).await,
        other => runtime.exec(other, link, inherit).await,
    }
}
