//! What programs answer, one behaviour a test; every rule file is checked against seccompiler in the build.

use super::*;

fn rule(number: u32, conditions: Vec<Condition>, action: Action) -> Rule {
    Rule { number, conditions, action }
}

fn dword(index: u8, op: Op, value: u64, mask: u64) -> Condition {
    Condition { index, qword: false, op, value, mask }
}

fn answer(program: &[Instruction], number: u32, args: [u64; 6]) -> u32 {
    let call = Call { number, arch: AUDIT_ARCH_X86_64, args };
    interpret(program, &call).expect("a program the kernel accepts")
}

#[test]
fn kill_comes_before_allow_before_errno_before_default() {
    let eq = |value| vec![dword(0, Op::Eq, value, 0)];
    let rules = [
        rule(7, vec![], Action::Errno(1)),
        rule(7, eq(2), Action::Allow),
        rule(7, vec![dword(1, Op::AnyBit, 0, 4)], Action::KillProcess),
    ];
    let program = assemble(&rules, Action::Allow, true).expect("assembles");
    assert_eq!(answer(&program, 7, [1, 0, 0, 0, 0, 0]), Action::Errno(1).code());
    assert_eq!(answer(&program, 7, [2, 0, 0, 0, 0, 0]), Action::Allow.code());
    assert_eq!(answer(&program, 7, [2, 12, 0, 0, 0, 0]), Action::KillProcess.code());
    assert_eq!(answer(&program, 8, [2, 12, 0, 0, 0, 0]), Action::Allow.code());
}

#[test]
fn dwords_ignore_high_bits_and_qwords_do_not() {
    let low = [rule(3, vec![dword(0, Op::Eq, 5, 0)], Action::Allow)];
    let program = assemble(&low, Action::KillProcess, true).expect("assembles");
    assert_eq!(answer(&program, 3, [5 | 1 << 40, 0, 0, 0, 0, 0]), Action::Allow.code());
    let whole = [Condition { index: 0, qword: true, op: Op::MaskedEq, value: 1, mask: 1 | 1 << 40 }];
    let program = assemble(&[rule(3, whole.to_vec(), Action::Allow)], Action::KillProcess, true).expect("assembles");
    assert_eq!(answer(&program, 3, [1, 0, 0, 0, 0, 0]), Action::Allow.code());
    assert_eq!(answer(&program, 3, [1 | 1 << 40, 0, 0, 0, 0, 0]), Action::KillProcess.code());
    assert_eq!(answer(&program, 3, [1 | 1 << 41, 0, 0, 0, 0, 0]), Action::Allow.code());
}

#[test]
fn other_abis_die_whatever_the_default() {
    for default in [Action::Allow, Action::KillProcess] {
        let program = assemble(&[rule(39, vec![], Action::Allow)], default, true).expect("assembles");
        let foreign = Call { number: 39, arch: 0x4000_0003, args: [0; 6] };
        assert_eq!(interpret(&program, &foreign), Some(Action::KillProcess.code()));
        assert_eq!(answer(&program, 39 | X32_BIT, [0; 6]), Action::KillProcess.code());
        assert_eq!(answer(&program, 39, [0; 6]), Action::Allow.code());
    }
}

#[test]
fn runs_of_numbers_end_where_they_should() {
    let rules: Vec<Rule> = (10..20).map(|number| rule(number, vec![], Action::Allow)).collect();
    let program = assemble(&rules, Action::KillProcess, true).expect("assembles");
    for number in 0..40 {
        let expected = if (10..20).contains(&number) { Action::Allow } else { Action::KillProcess };
        assert_eq!(answer(&program, number, [0; 6]), expected.code(), "{number}");
    }
    assert!(program.len() <= 8, "a run costs two instructions, not {}", program.len());
}

#[test]
fn a_rule_that_can_never_apply_is_an_error() {
    let rules = [rule(1, vec![], Action::Allow), rule(1, vec![], Action::Errno(1))];
    assert_eq!(assemble(&rules, Action::Allow, true), Err(AssembleError::DeadRule { number: 1 }));
}

#[test]
fn a_jump_too_far_is_an_error() {
    let rules: Vec<Rule> = (0..300).map(|number| rule(number * 2, vec![], Action::Allow)).collect();
    assert!(matches!(assemble(&rules, Action::KillProcess, true), Err(AssembleError::JumpTooFar { .. })));
}

#[test]
fn no_rule_leaves_the_default() {
    let program = assemble(&[], Action::Errno(9), false).expect("assembles");
    assert_eq!(answer(&program, 1, [0; 6]), Action::Errno(9).code());
}

#[test]
fn above_compares_without_a_sign() {
    let program = assemble(&[rule(3, vec![dword(0, Op::Above, 5, 0)], Action::Errno(1))], Action::Allow, true);
    let program = program.expect("assembles");
    for (argument, expected) in [(5, Action::Allow), (6, Action::Errno(1)), (1 << 40, Action::Allow)] {
        assert_eq!(answer(&program, 3, [argument, 0, 0, 0, 0, 0]), expected.code(), "{argument:#x}");
    }
    assert_eq!(answer(&program, 3, [u64::from(u32::MAX), 0, 0, 0, 0, 0]), Action::Errno(1).code());
    let whole = Condition { index: 0, qword: true, op: Op::Above, value: 1 << 32 | 5, mask: 0 };
    let program = assemble(&[rule(3, vec![whole], Action::Errno(1))], Action::Allow, true).expect("assembles");
    for (argument, expected) in [(9, Action::Allow), (1 << 32 | 5, Action::Allow), (1 << 32 | 6, Action::Errno(1))] {
        assert_eq!(answer(&program, 3, [argument, 0, 0, 0, 0, 0]), expected.code(), "{argument:#x}");
    }
    assert_eq!(answer(&program, 3, [2 << 32, 0, 0, 0, 0, 0]), Action::Errno(1).code());
}

#[test]
fn a_denylist_does_not_allow_what_is_younger_than_it() {
    let beyond = Some(Beyond { newest: 469, action: Action::Errno(38) });
    let program = assemble_known(&[rule(7, vec![], Action::Errno(1))], Action::Allow, true, beyond).expect("assembles");
    for (number, expected) in [(7, Action::Errno(1)), (469, Action::Allow), (470, Action::Errno(38))] {
        assert_eq!(answer(&program, number, [0; 6]), expected.code(), "{number}");
    }
    assert_eq!(answer(&program, X32_BIT - 1, [0; 6]), Action::Errno(38).code());
    assert_eq!(answer(&program, X32_BIT, [0; 6]), Action::KillProcess.code(), "x32 still dies");
}
