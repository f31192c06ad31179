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

    fn answer(role: Role, call: &Call) -> u32 {
        let program = rules::filter_rules(role).program;
        let program: Vec<Instruction> =
            program.iter().map(|i| Instruction { code: i.code, jt: i.jt, jf: i.jf, k: i.k }).collect();
        interpret(&program, call).expect("an answer")
    }

    /// T-07, T-11: the kernel takes the strictest answer of all filters. The control is the usher alone, which answers otherwise
    /// in the calls that are its trade, and in those only.
    #[test]
    fn a_keeper_that_the_usher_had_born_has_what_the_runner_has() {
        let allow = Action::Allow.code();
        let mut wider = std::collections::BTreeSet::new();
        for number in 0..600 {
            for bit in 0..=64 {
                let value = if bit == 64 { 0 } else { 1_u64 << bit };
                let call = Call { number, arch: AUDIT_ARCH_X86_64, args: [value; 6] };
                let (runner, usher) = (answer(Role::CapProcRunner, &call), answer(Role::CapProcUsher, &call));
                let keeper = answer(Role::CapProcKeeper, &call);
                assert_eq!(if usher == allow { keeper } else { usher }, runner, "{call:?}");
                if usher != runner {
                    wider.insert(i64::from(number));
                }
            }
        }
        let trade = [libc::SYS_clone, libc::SYS_open_tree, libc::SYS_move_mount, libc::SYS_mount_setattr];
        assert_eq!(wider, trade.into_iter().collect());
        let foreign = Call { number: 39, arch: 0x4000_0003, args: [0; 6] };
        assert_eq!(answer(Role::CapProcUsher, &foreign), answer(Role::CapProcRunner, &foreign));
    }

    /// T-07: no filter can read its flags, so that of a command refuses it by itself, whatever its listener does.
    #[test]
    fn clone3_is_the_keepers_and_no_commands() {
        let number = u32::try_from(libc::SYS_clone3).expect("a number");
        let answer = |role| answer(role, &Call { number, arch: AUDIT_ARCH_X86_64, args: [0; 6] });
        assert_eq!(answer(Role::CapProcRunner), Action::Allow.code(), "the control");
        let refused = Action::Errno(u16::try_from(libc::ENOSYS).expect("a number")).code();
        for role in [Role::CapProcCommand, Role::CapProcCommandSupervised, Role::CapProcCommandNetwork] {
            assert_eq!(answer(role), refused, "{role}");
        }
    }
}
