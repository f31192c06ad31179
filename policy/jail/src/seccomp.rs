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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::{AUDIT_ARCH_X86_64, Action, Call, Instruction, interpret};

    /// T-07: no filter can read its flags, so that of a command refuses it by itself, whatever its listener does.
    #[test]
    fn clone3_is_the_keepers_and_no_commands() {
        let answer = |role| {
            let program = rules::filter_rules(role).program;
            let program: Vec<Instruction> =
                program.iter().map(|i| Instruction { code: i.code, jt: i.jt, jf: i.jf, k: i.k }).collect();
            let number = u32::try_from(libc::SYS_clone3).expect("a number");
            interpret(&program, &Call { number, arch: AUDIT_ARCH_X86_64, args: [0; 6] })
        };
        assert_eq!(answer(Role::CapProcRunner), Some(Action::Allow.code()), "the control");
        let refused = Action::Errno(u16::try_from(libc::ENOSYS).expect("a number")).code();
        for role in [Role::CapProcCommand, Role::CapProcCommandSupervised, Role::CapProcCommandNetwork] {
            assert_eq!(answer(role), Some(refused), "{role}");
        }
    }
}
