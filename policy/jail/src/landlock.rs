//! Builds and enters a role's Landlock domain.
//!
//! Runs in the process being jailed; trusts the rule files of this build and the descriptors it is
//! given. Every right the kernel knows is handled, so what is not granted is refused. What an older
//! kernel lacks is never skipped in silence: each rule file says, per ABI, whether the loss is refused,
//! reported as degraded, or covered by the role's filter (T-01, T-07).

use crate::role::Role;
use crate::rules;
use crate::system::{SystemPath, SystemPaths};
use crate::witness::{Witness, WitnessError};
use ::landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use thiserror::Error;

/// What a granted descriptor is; the role's rule file says which rights follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantKind {
    WorkspaceReadOnly,
    WorkspaceReadWrite,
    /// Execution inside a workspace; given beside one of the two above.
    WorkspaceExecute,
    /// Execution inside a workspace that grants nothing else, to a command whose every open is its keeper's: the kernel reads
    /// a program as who runs it.
    WorkspaceRun,
    /// A command's own `/tmp` or `/dev/shm`.
    PrivateDirectory,
    /// Execution inside it; given beside the one above, and only where a workspace's programs may run.
    PrivateExecute,
    /// One program file.
    Program,
    /// The control group in which a keeper makes its command's; never a command's.
    ControlGroup,
    Policy,
    Cache,
    Audit,
    Run,
    Output,
}

/// What a domain without file rules does to renames and links from one directory to another. Landlock's right for them,
/// `refer`, is the one that a layer takes away without naming it, from the process and from all that is nested in it,
/// wherever another layer of the process rules files: they answer EXDEV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refer {
    /// They go on as without this layer, and as other layers say. Opens `/`, so it is not for who has lost the calls
    /// that take a path.
    Kept,
    /// They are refused where any other layer, before this one or after it, rules files.
    Denied,
}

/// The descriptors a domain is built from; `O_PATH` ones do.
#[derive(Default, Debug)]
pub struct Grants<'fd> {
    entries: Vec<(GrantKind, BorrowedFd<'fd>)>,
    system: Option<&'fd SystemPaths>,
}

impl<'fd> Grants<'fd> {
    /// No file at all.
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds a file or a directory with everything beneath it.
    pub fn with(mut self, kind: GrantKind, descriptor: BorrowedFd<'fd>) -> Self {
        self.entries.push((kind, descriptor));
        self
    }

    /// Gives the system paths of the rule file as they were opened before, so that they need not be opened again. Without, or
    /// for a role with other paths, they are opened by name.
    pub fn over(mut self, system: &'fd SystemPaths) -> Self {
        self.system = Some(system);
        self
    }
}

/// One role's compiled rules.
pub(crate) struct RoleRules {
    pub scopes: u64,
    pub descriptors: &'static [(GrantKind, u64)],
    pub paths: &'static [PathRule],
    pub below: &'static [Below],
}

pub(crate) struct PathRule {
    pub path: &'static CStr,
    pub rights: u64,
    pub required: bool,
}

/// What a kernel below an ABI means to the role.
pub(crate) struct Below {
    pub abi: u8,
    pub then: Then,
    pub why: &'static str,
}

#[derive(PartialEq, Eq)]
#[allow(dead_code)] // which are used is for the rule files to say
pub(crate) enum Then {
    Refuse,
    Degraded,
    Covered,
}

#[derive(Debug, Error)]
pub enum LandlockError {
    #[error("{role} needs Landlock ABI {needed}, this kernel has {found}: {why}")]
    TooOld { role: Role, found: u8, needed: u8, why: &'static str },
    #[error("the rule file of {role} knows no grant of kind {kind:?}")]
    UnknownGrant { role: Role, kind: GrantKind },
    #[error("cannot open {path:?} for the domain of {role}: {source}")]
    OpenPath { role: Role, path: &'static CStr, source: io::Error },
    #[error("cannot inspect a granted descriptor: {0}")]
    Inspect(io::Error),
    #[error("the kernel refused the Landlock domain of {role}: {source}")]
    Ruleset { role: Role, source: RulesetError },
    #[error("the kernel refused a rule of the Landlock domain of {role}: {source}")]
    Rule { role: Role, source: io::Error },
    #[error("Landlock did not enforce all of the domain of {role}")]
    NotEnforced { role: Role },
    #[error("the Landlock domain of {role} is not in force: {source}")]
    Unproven { role: Role, source: WitnessError },
}

/// A domain that has been entered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entered {
    /// The kernel's ABI; 0 where there is no Landlock and the role's rule file allows that.
    pub abi: u8,
    /// What this kernel does not enforce and nothing else covers.
    pub degraded: Vec<String>,
}

/// A ruleset, ready to be entered by this process or by children that inherit it.
pub struct Domain {
    role: Role,
    ruleset: Option<RulesetCreated>,
    entered: Entered,
    grants_files: bool,
    grants_root: bool,
}

/// The ABI of the running kernel, 0 where Landlock is absent or off.
pub fn kernel_abi() -> u8 {
    const LANDLOCK_CREATE_RULESET_VERSION: u32 = 1;
    // SAFETY: with a null attribute and this flag the call only returns a number.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0usize,
            LANDLOCK_CREATE_RULESET_VERSION,
        )
    };
    crate::abi::lowered(u8::try_from(version).unwrap_or(0))
}

impl Domain {
    /// The role's domain over the given descriptors and the system paths of its rule file.
    pub fn build(role: Role, grants: &Grants<'_>) -> Result<Domain, LandlockError> {
        let rules = rules::role_rules(role);
        let entered = judge(role, &rules, kernel_abi())?;
        let mut domain = Domain { role, ruleset: None, entered, grants_files: true, grants_root: false };
        if domain.entered.abi == 0 {
            return Ok(domain);
        }
        let abi = ABI::from(i32::from(domain.entered.abi));
        let failed = |source| LandlockError::Ruleset { role, source };
        let mut ruleset = handle_all(rules.scopes, abi).map_err(failed)?;
        for (kind, descriptor) in &grants.entries {
            let (_, rights) = rules
                .descriptors
                .iter()
                .find(|(known, _)| known == kind)
                .ok_or(LandlockError::UnknownGrant { role, kind: *kind })?;
            domain.grants_root |= is_root(*descriptor).map_err(LandlockError::Inspect)?;
            ruleset = allow(ruleset, *descriptor, *rights, abi, role)?;
        }
        let mut by_name = Vec::new();
        let mut held = Vec::new();
        for rule in rules.paths {
            match grants.system.and_then(|system| system.at(rule.path)) {
                Some(found) => held.extend(found.map(|found| (found, rule.rights))),
                None => by_name.push(rule),
            }
        }
        allow_held(&ruleset, &held, abi, role)?;
        for rule in by_name {
            match open_path(rule.path) {
                Ok(opened) => ruleset = allow(ruleset, opened.as_fd(), rule.rights, abi, role)?,
                Err(source) if rule.required || source.kind() != io::ErrorKind::NotFound => {
                    return Err(LandlockError::OpenPath { role, path: rule.path, source });
                }
                Err(_) => {}
            }
        }
        domain.ruleset = Some(ruleset);
        Ok(domain)
    }

    /// A domain with no file or port rule of its own, only the role's scopes and what `refer` says: the worker's own,
    /// which keeps siblings apart, and the keeper's, outside of which its `kill(-1)` cannot reach.
    pub fn scope_only(role: Role, refer: Refer) -> Result<Domain, LandlockError> {
        let rules = rules::role_rules(role);
        let entered = judge(role, &rules, kernel_abi())?;
        let mut domain = Domain { role, ruleset: None, entered, grants_files: false, grants_root: false };
        if domain.entered.abi >= 6 {
            domain.ruleset = Some(scopes_alone(role, rules.scopes, refer)?);
        }
        Ok(domain)
    }

    /// Enters the domain, for good, and proves it: what it must refuse is tried. Sets no_new_privs.
    ///
    /// A scope-only domain is proved by [`crate::witness::ScopeWitness`], where signals are allowed.
    pub fn enter(self) -> Result<Entered, LandlockError> {
        let role = self.role;
        let Some(ruleset) = self.ruleset else {
            return Ok(self.entered);
        };
        let unproven = |source| LandlockError::Unproven { role, source };
        let witness = if self.grants_files {
            Some(Witness::prepare(self.grants_root, self.entered.abi).map_err(unproven)?)
        } else {
            None
        };
        let status = ruleset.restrict_self().map_err(|source| LandlockError::Ruleset { role, source })?;
        if status.ruleset != RulesetStatus::FullyEnforced {
            return Err(LandlockError::NotEnforced { role });
        }
        if let Some(witness) = witness {
            witness.testify().map_err(unproven)?;
        }
        Ok(self.entered)
    }
}

/// What this kernel's ABI means to the role.
fn judge(role: Role, rules: &RoleRules, found: u8) -> Result<Entered, LandlockError> {
    let mut degraded = Vec::new();
    let missing = rules.below.iter().filter(|below| found < below.abi);
    for Below { abi, then, why } in missing {
        match then {
            Then::Refuse => {
                return Err(LandlockError::TooOld { role, found, needed: *abi, why });
            }
            Then::Degraded => degraded.push(format!("Landlock ABI {found}, below {abi}: {why}")),
            Then::Covered => {}
        }
    }
    Ok(Entered { abi: found, degraded })
}

/// A ruleset that handles everything this ABI knows: what is granted to nobody is refused to all.
fn handle_all(scopes: u64, abi: ABI) -> Result<RulesetCreated, RulesetError> {
    let mut ruleset =
        Ruleset::default().set_compatibility(CompatLevel::HardRequirement).handle_access(AccessFs::from_all(abi))?;
    if abi >= ABI::V4 {
        ruleset = ruleset.handle_access(AccessNet::from_all(abi))?;
    }
    if abi >= ABI::V6 {
        ruleset = ruleset.scope(BitFlags::<Scope>::from_bits_truncate(scopes))?;
    }
    ruleset.create()
}

/// A ruleset that scopes, and grants everywhere what it would otherwise take away.
fn scopes_alone(role: Role, scopes: u64, refer: Refer) -> Result<RulesetCreated, LandlockError> {
    let failed = |source| LandlockError::Ruleset { role, source };
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .scope(BitFlags::<Scope>::from_bits_truncate(scopes))
        .map_err(failed)?;
    match refer {
        Refer::Denied => ruleset.create().map_err(failed),
        Refer::Kept => {
            let root = open_path(c"/").map_err(|source| LandlockError::OpenPath { role, path: c"/", source })?;
            let ruleset = ruleset.handle_access(AccessFs::Refer).and_then(Ruleset::create).map_err(failed)?;
            ruleset.add_rule(PathBeneath::new(root, AccessFs::Refer)).map_err(failed)
        }
    }
}

fn allow(
    ruleset: RulesetCreated,
    descriptor: BorrowedFd<'_>,
    rights: u64,
    abi: ABI,
    role: Role,
) -> Result<RulesetCreated, LandlockError> {
    let rights = within(rights, is_directory(descriptor).map_err(LandlockError::Inspect)?, abi);
    if rights.is_empty() {
        return Ok(ruleset);
    }
    ruleset.add_rule(PathBeneath::new(descriptor, rights)).map_err(|source| LandlockError::Ruleset { role, source })
}

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct PathBeneathAttributes {
    allowed: u64,
    parent: i32,
}

/// Rules over what was looked at when it was opened: one call each. The library would look at every one again.
fn allow_held(
    ruleset: &RulesetCreated,
    held: &[(SystemPath<'_>, u64)],
    abi: ABI,
    role: Role,
) -> Result<(), LandlockError> {
    const LANDLOCK_RULE_PATH_BENEATH: libc::c_int = 1;
    if held.is_empty() {
        return Ok(());
    }
    let failed = |source| LandlockError::Rule { role, source };
    // The same ruleset under a number of our own.
    let copy: Option<OwnedFd> = ruleset.try_clone().map_err(failed)?.into();
    let copy = copy.ok_or(LandlockError::NotEnforced { role })?;
    for (SystemPath { descriptor, is_directory }, rights) in held {
        let rights = within(*rights, *is_directory, abi);
        if rights.is_empty() {
            continue;
        }
        let attributes = PathBeneathAttributes { allowed: rights.bits(), parent: descriptor.as_raw_fd() };
        let (from, flags): (*const PathBeneathAttributes, u32) = (&raw const attributes, 0);
        let number = libc::SYS_landlock_add_rule;
        // SAFETY: the kernel reads 12 bytes of a packed struct that lives past the call, and takes numbers.
        let answer = unsafe { libc::syscall(number, copy.as_raw_fd(), LANDLOCK_RULE_PATH_BENEATH, from, flags) };
        if answer != 0 {
            return Err(failed(io::Error::last_os_error()));
        }
    }
    Ok(())
}

/// A right the ABI does not know is not handled either; `judge` has said what that means.
fn within(rights: u64, is_directory: bool, abi: ABI) -> BitFlags<AccessFs> {
    let rights = BitFlags::<AccessFs>::from_bits_truncate(rights) & AccessFs::from_all(abi);
    if is_directory { rights } else { rights & AccessFs::from_file(abi) }
}

pub(crate) fn open_path(path: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: the path is a C string; the call returns a new descriptor or -1.
    let opened = unsafe { libc::open(path.as_ptr(), libc::O_PATH | libc::O_CLOEXEC) };
    if opened < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given this descriptor to us, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(opened) })
}

pub(crate) fn is_directory(descriptor: BorrowedFd<'_>) -> io::Result<bool> {
    let stat = nix::sys::stat::fstat(descriptor)?;
    Ok(stat.st_mode & libc::S_IFMT == libc::S_IFDIR)
}

fn is_root(descriptor: BorrowedFd<'_>) -> io::Result<bool> {
    let granted = nix::sys::stat::fstat(descriptor)?;
    let root = nix::sys::stat::stat(c"/")?;
    Ok((granted.st_dev, granted.st_ino) == (root.st_dev, root.st_ino))
}
