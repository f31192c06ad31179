//! The life of every jailed process, its order held by types.
//!
//! `connect → prepare → drop_privileges → lock_down → serve`: each step consumes the one before, so a
//! process cannot serve before it is locked, nor forget a step. Runs in every jailed process; the
//! process's own `life.rs` reads as these five calls.
//!
//! ```no_run
//! # use warden_jail::{life::{Life, Privileges}, Grants, Role};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let life = Life::connect(Role::CapLlmReplay, || std::fs::File::open("/dev/null"))?
//!     .prepare(|_link| Ok::<_, std::io::Error>(vec![0u8; 65536]))?
//!     .drop_privileges(&Privileges::default())?
//!     .lock_down(|_link, _buffer| Grants::none())?;
//! let isolation = life.isolation().clone();
//! life.serve(|link, buffer| { let _ = (link, buffer, isolation); });
//! # Ok(()) }
//! ```
//!
//! Serving before lock-down is no program:
//!
//! ```compile_fail,E0599
//! # use warden_jail::{life::Life, Role};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! Life::connect(Role::CapFs, || std::fs::File::open("/dev/null"))?
//!     .prepare(|_link| Ok::<_, std::io::Error>(()))?
//!     .serve(|_link, _state| ());
//! # Ok(()) }
//! ```

use crate::descriptors::{self, DescriptorError};
use crate::landlock::{Domain, Entered, Grants, LandlockError, Refer};
use crate::limits::{self, LimitError, Limits};
use crate::notify::Supervised;
use crate::process::{self, ProcessError};
use crate::role::Role;
use crate::seccomp::{self, SeccompError};
use crate::self_test::{self, SelfTestError};
use std::os::fd::RawFd;
use thiserror::Error;

/// An error of the caller's own step.
pub type StepError = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, Error)]
pub enum LifeError {
    #[error("{role} cannot connect: {source}")]
    Connect { role: Role, source: StepError },
    #[error("{role} cannot prepare: {source}")]
    Prepare { role: Role, source: StepError },
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error(transparent)]
    Limit(#[from] LimitError),
    #[error(transparent)]
    Descriptor(#[from] DescriptorError),
    #[error(transparent)]
    Landlock(#[from] LandlockError),
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
    #[error(transparent)]
    SelfTest(#[from] SelfTestError),
    #[error(
        "{role} is only an addition to the jail of {beneath}: lock that down first, then use the function of {role}"
    )]
    NotAlone { role: Role, beneath: Role },
}

/// What a process gives up, besides all capabilities.
#[derive(Clone, Debug, Default)]
pub struct Privileges {
    /// Uid and gid to become.
    pub user: Option<(u32, u32)>,
    pub limits: Limits,
    /// The pid of the parent, whose end must end this process.
    pub parent: Option<i32>,
    /// Where given, every other descriptor is closed.
    pub keep: Option<Vec<RawFd>>,
}

/// What holds the process, for the hello frame, results and the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Isolation {
    /// 0 where this kernel has no Landlock and the role's rule file allows that.
    pub landlock_abi: u8,
    /// Filters in force that this process installed or inherited from its own roles.
    pub seccomp_filters: u8,
    pub no_new_privs: bool,
    /// What this host does not enforce, in words.
    pub degraded: Vec<String>,
}

pub struct Connected<L>(L);
pub struct Prepared<L, P>(L, P);
pub struct Dropped<L, P>(L, P);
pub struct Locked<L, P>(L, P, Isolation);

/// A process of a role in one stage of its life.
#[must_use]
pub struct Life<S> {
    role: Role,
    stage: S,
}

impl Life<()> {
    /// The first acts after exec: undumpable, no core, no unwinding; then the link is made.
    pub fn connect<L, E: Into<StepError>>(
        role: Role,
        link: impl FnOnce() -> Result<L, E>,
    ) -> Result<Life<Connected<L>>, LifeError> {
        process::set_dumpable_off()?;
        limits::no_core()?;
        process::abort_on_panic();
        let link = link().map_err(|e| LifeError::Connect { role, source: e.into() })?;
        Ok(Life { role, stage: Connected(link) })
    }
}

impl<L> Life<Connected<L>> {
    /// Opens, allocates and reads what the jail will not allow any more.
    pub fn prepare<P, E: Into<StepError>>(
        self,
        state: impl FnOnce(&mut L) -> Result<P, E>,
    ) -> Result<Life<Prepared<L, P>>, LifeError> {
        let (role, Connected(mut link)) = (self.role, self.stage);
        let state = state(&mut link).map_err(|e| LifeError::Prepare { role, source: e.into() })?;
        Ok(Life { role, stage: Prepared(link, state) })
    }
}

impl<L, P> Life<Prepared<L, P>> {
    /// Descriptors, groups, user, capabilities, death signal, limits: in the order in which each still works.
    pub fn drop_privileges(self, privileges: &Privileges) -> Result<Life<Dropped<L, P>>, LifeError> {
        let Prepared(link, state) = self.stage;
        if let Some(keep) = &privileges.keep {
            descriptors::sweep_descriptors(keep)?;
        }
        if let Some((uid, gid)) = privileges.user {
            // With the user goes the capability that this needs; without a change of user it is dropped with the others.
            process::drop_bounding_set()?;
            process::become_user(uid, gid)?;
        }
        process::drop_capabilities()?;
        process::set_dumpable_off()?;
        if let Some(parent) = privileges.parent {
            process::death_signal(parent)?;
        }
        privileges.limits.apply()?;
        Ok(Life { role: self.role, stage: Dropped(link, state) })
    }
}

impl<L, P> Life<Dropped<L, P>> {
    /// no_new_privs, Landlock with its proof, seccomp, the self-test. On an error the process must exit: it may be
    /// half locked, and must not read a byte.
    pub fn lock_down(
        self,
        grants: impl for<'a> FnOnce(&'a L, &'a P) -> Grants<'a>,
    ) -> Result<Life<Locked<L, P>>, LifeError> {
        let Dropped(link, state) = self.stage;
        let isolation = lock_down(self.role, &grants(&link, &state))?;
        Ok(Life { role: self.role, stage: Locked(link, state, isolation) })
    }
}

impl<L, P> Life<Locked<L, P>> {
    pub fn isolation(&self) -> &Isolation {
        &self.stage.2
    }

    pub fn role(&self) -> Role {
        self.role
    }

    /// From here on hostile bytes are read.
    pub fn serve<R>(self, serve: impl FnOnce(L, P) -> R) -> R {
        serve(self.stage.0, self.stage.1)
    }
}

/// Locks the calling, single-threaded process into a role that stands alone. [`Life::lock_down`] is the way for
/// processes that begin with exec; this is for the broker, which does not.
pub fn lock_down(role: Role, grants: &Grants<'_>) -> Result<Isolation, LifeError> {
    if let Some(beneath) = seccomp::beneath(role) {
        return Err(LifeError::NotAlone { role, beneath });
    }
    process::no_new_privs()?;
    let entered = Domain::build(role, grants)?.enter()?;
    filter(role, entered, 1)
}

/// A worker's own jail over the template's: call [`worker_scope`] right after the fork, receive and map the code,
/// then this, which takes away fork, executable memory and `seccomp` (T-03, T-04).
pub fn lock_down_worker(scope: Entered) -> Result<Isolation, LifeError> {
    filter(Role::Worker, scope, 2)
}

/// The worker's own signal scope, inside the template's jail (T-11).
pub fn worker_scope() -> Result<Entered, LifeError> {
    // It has no call that takes a path: nothing to keep, and no way to open what keeping takes.
    Ok(Domain::scope_only(Role::Worker, Refer::Denied)?.enter()?)
}

/// A command's own jail over the runner's, just before exec: a domain nested in the keeper's, and the command's filter.
/// Changes of mode, owner and times are refused, which git and linkers do not survive: prefer
/// [`lock_down_command_supervised`] where a program writes.
pub fn lock_down_command(grants: &Grants<'_>) -> Result<Isolation, LifeError> {
    let entered = Domain::build(Role::CapProcCommand, grants)?.enter()?;
    filter(Role::CapProcCommand, entered, 2)
}

/// The usher's jail: a filter, and no domain, because in one that rules files every mount is refused. What it may do with
/// mounts ends in each of its keepers by [`lock_down_born_keeper`].
pub fn lock_down_usher() -> Result<(), LifeError> {
    process::no_new_privs()?;
    seccomp::install(Role::CapProcUsher)?;
    self_test::run(Role::CapProcUsher)?;
    Ok(())
}

/// The rest of the filter of a keeper that the usher had born, which then has what the runner's keepers have.
pub fn lock_down_born_keeper() -> Result<(), LifeError> {
    process::drop_capabilities()?;
    seccomp::install(Role::CapProcKeeper)?;
    self_test::run(Role::CapProcKeeper)?;
    Ok(())
}

/// The domain of a command whose keeper performs calls for it, entered.
#[derive(Debug)]
pub struct CommandDomain(Entered);

/// The first half of the same for a command whose keeper performs calls for it: its domain, for which paths are opened, and
/// so before any call that opens one waits for the keeper.
pub fn enter_command_domain(grants: &Grants<'_>) -> Result<CommandDomain, LifeError> {
    Ok(CommandDomain(Domain::build(Role::CapProcCommandSupervised, grants)?.enter()?))
}

/// The second half: the filter. The mark that [`crate::notify::install_supervised`] returned beside the listener proves that
/// the calls which this filter lets pass wait for the keeper.
pub fn lock_down_command_supervised(domain: CommandDomain, supervised: Supervised) -> Result<Isolation, LifeError> {
    filter(supervised.role, domain.0, 3)
}

fn filter(role: Role, entered: Entered, seccomp_filters: u8) -> Result<Isolation, LifeError> {
    descriptors::lock_down();
    seccomp::install(role)?;
    self_test::run(role)?;
    Ok(Isolation { landlock_abi: entered.abi, seccomp_filters, no_new_privs: true, degraded: entered.degraded })
}
