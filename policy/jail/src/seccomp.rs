//! Installs a role's seccomp filter.
//!
//! Runs in the process being jailed, as the last step of its lock-down; trusts the rule files of this
//! build. The programs are constants: installing one is two system calls (T-03).

use crate::role::Role;
use crate::rules;
use crate::self_test::Act;
use seccompiler::sock_filter;
use thiserror::Error;

/// One role's compiled rules.
pub(crate) struct FilterRules {
    /// The role whose filter must lie beneath, because this one is only what is taken away besides.
    pub over: Option<Role>,
    pub program: &'static [sock_filter],
    pub self_test: &'static [(Act, i32)],
}

#[derive(Debug, Error)]
pub enum SeccompError {
    #[error("the kernel refused the {role} filter: {source}; seccomp filters are required, see `warden doctor`")]
    Install { role: Role, source: seccompiler::Error },
}

/// Installs the role's filter on the calling thread, which must be the process's only one; sets
/// no_new_privs first. The filter is inherited by everything it starts and cannot be taken off.
///
/// Does not test it: [`crate::self_test::run`] does. For [`Role::Worker`] and [`Role::CapProcCommand`]
/// the filter of [`beneath`] must be in force already.
pub fn install(role: Role) -> Result<(), SeccompError> {
    let rules = rules::filter_rules(role);
    seccompiler::apply_filter(rules.program).map_err(|source| SeccompError::Install { role, source })
}

/// The number of BPF instructions of the role's filter; installing costs about 2.5 µs each.
pub const fn instructions(role: Role) -> usize {
    rules::filter_rules(role).program.len()
}

/// The role whose filter must already be in force, for those that are only an addition.
pub const fn beneath(role: Role) -> Option<Role> {
    rules::filter_rules(role).over
}
