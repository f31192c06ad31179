//! A small assembler for seccomp's classic BPF, and an interpreter to check what it made.
//!
//! Owns the turning of one role's rules into one program. It runs in `build.rs` (which embeds the
//! result) and, for the fork-counting filter, in the keeper; it trusts the rule files it is built
//! from and nothing else. `seccompiler` knows one action for matching calls per filter and spends
//! five instructions on a call without conditions; a role needs kill, errno and allow at once, and
//! installing costs 2.5 µs an instruction. So programs are assembled here, one instruction a call,
//! and the build compiles every rule group with seccompiler too and fails where the two disagree.
//!
//! A call is judged in this order, whatever the order in the file: kill rules, allow rules, errno
//! rules, default. Calls of any ABI but x86-64 proper are killed before anything else (T-03).

use std::collections::BTreeMap;

#[path = "bpf/assembler.rs"]
mod assembler;
#[path = "bpf/interpreter.rs"]
mod interpreter;
pub use assembler::AssembleError;
use assembler::{Assembler, JEQ, JGE, JGT, JSET, Label};
#[allow(unused_imports)]
// the build and the tests use it; the library has its programs already
pub use interpreter::{Call, interpret};

/// One instruction, laid out as the kernel's `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

/// What a filter answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    KillProcess,
    Allow,
    Errno(u16),
    /// Only the fork-counting filter uses it; no rule file can.
    #[allow(dead_code)]
    Notify,
}

impl Action {
    /// The value a filter returns for this action (`SECCOMP_RET_*`).
    pub const fn code(self) -> u32 {
        match self {
            Action::KillProcess => 0x8000_0000,
            Action::Allow => 0x7fff_0000,
            Action::Errno(errno) => 0x0005_0000 | errno as u32,
            Action::Notify => 0x7fc0_0000,
        }
    }
}

/// How an argument is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Equal to `value`.
    Eq,
    /// Not equal to `value`.
    Ne,
    /// `argument & mask == value`.
    MaskedEq,
    /// `argument & mask != 0`.
    AnyBit,
    /// Greater than `value`, both without a sign.
    Above,
}

/// One condition on one argument; `qword` compares all 64 bits, else the low 32, which is right for
/// arguments that the kernel takes as `int` (comparing all 64 there would let high bits slip past).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    pub index: u8,
    pub qword: bool,
    pub op: Op,
    pub value: u64,
    pub mask: u64,
}

/// A call, the conditions that must all hold, and the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub number: u32,
    pub conditions: Vec<Condition>,
    pub action: Action,
}

pub const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
/// Bit of a call number that says x32.
pub const X32_BIT: u32 = 0x4000_0000;

const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const OFFSET_ARGS: u32 = 16;

/// The answers at the end of a program, each once.
#[derive(Default)]
struct Answers(BTreeMap<Action, Label>);

impl Answers {
    fn label(&mut self, assembler: &mut Assembler, action: Action) -> Label {
        *self.0.entry(action).or_insert_with(|| assembler.label())
    }

    fn place(self, assembler: &mut Assembler) {
        for (action, label) in self.0 {
            assembler.here(label);
            assembler.answer(action);
        }
    }
}

/// Assembles one program. `check_arch` is off only for a filter that is always laid over another of
/// ours which has the check (the worker's short one: the strictest answer of all filters wins).
///
/// Layout: architecture, number, the chain of comparisons, argument checks, answers. Every jump goes
/// straight to an answer, so an undecided call costs no more than its comparisons.
#[allow(dead_code)] // the build has the one below
pub fn assemble(rules: &[Rule], default: Action, check_arch: bool) -> Result<Vec<Instruction>, AssembleError> {
    assemble_known(rules, default, check_arch, None)
}

/// The calls that a denylist was written against: it knows nothing of a number above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beyond {
    /// The highest number somebody has decided about.
    pub newest: u32,
    /// What every number above is answered, up to those of x32.
    pub action: Action,
}

/// The same for a denylist that must not allow what kernels learn after it was written (T-03, T-07).
pub fn assemble_known(
    rules: &[Rule],
    default: Action,
    check_arch: bool,
    beyond: Option<Beyond>,
) -> Result<Vec<Instruction>, AssembleError> {
    let calls = group(rules)?;
    let mut assembler = Assembler::default();
    let mut answers = Answers::default();
    if check_arch {
        header(&mut assembler, &mut answers);
    }
    assembler.load(OFFSET_NUMBER);
    if check_arch && default == Action::Allow {
        // x32 numbers match no rule: where the default is kill they die of it, here they must be told.
        let kill = answers.label(&mut assembler, Action::KillProcess);
        assembler.branch(JGE, X32_BIT, kill);
    }
    let checks = chain(&calls, default, beyond, &mut assembler, &mut answers);
    for (label, rules) in checks {
        assembler.here(label);
        arguments(rules, default, &mut assembler, &mut answers);
    }
    answers.place(&mut assembler);
    assembler.finish()
}

fn header(assembler: &mut Assembler, answers: &mut Answers) {
    assembler.load(OFFSET_ARCH);
    let kill = answers.label(assembler, Action::KillProcess);
    let next = assembler.label();
    assembler.jump(JEQ, AUDIT_ARCH_X86_64, next, kill);
    assembler.here(next);
}

/// Rules by call number, in the order of judgement, without dead ones.
fn group(rules: &[Rule]) -> Result<BTreeMap<u32, Vec<&Rule>>, AssembleError> {
    let mut calls: BTreeMap<u32, Vec<&Rule>> = BTreeMap::new();
    for rule in rules {
        calls.entry(rule.number).or_default().push(rule);
    }
    for (number, rules) in &mut calls {
        rules.sort_by_key(|rule| rule.action);
        let last = rules.len() - 1;
        if rules[..last].iter().any(|rule| rule.conditions.is_empty()) {
            return Err(AssembleError::DeadRule { number: *number });
        }
    }
    Ok(calls)
}

/// Emits the comparisons of the call number; returns the argument checks still to be placed.
fn chain<'r>(
    calls: &'r BTreeMap<u32, Vec<&'r Rule>>,
    default: Action,
    beyond: Option<Beyond>,
    assembler: &mut Assembler,
    answers: &mut Answers,
) -> Vec<(Label, &'r [&'r Rule])> {
    let mut checks: Vec<(Label, &[&Rule])> = Vec::new();
    // First the calls with conditions: the kernel caches the answer of the others by number and does
    // not run the program for them at all, so only these are ever hot (mprotect in a worker).
    let mut spans: Vec<(u32, u32, Label)> = Vec::new();
    for (number, rules) in calls.iter().filter(|(_, rules)| !rules[0].conditions.is_empty()) {
        let same = checks.iter().find(|(_, placed)| same_checks(placed, rules)).map(|(label, _)| *label);
        let label = same.unwrap_or_else(|| {
            let label = assembler.label();
            checks.push((label, rules.as_slice()));
            label
        });
        spans.push((*number, *number, label));
    }
    let plain: Vec<(u32, Action)> = calls
        .iter()
        .filter(|(_, rules)| rules[0].conditions.is_empty())
        .map(|(number, rules)| (*number, rules[0].action))
        .collect();
    for (first, last, action) in runs(&plain) {
        let target = answers.label(assembler, action);
        spans.push((first, last, target));
    }
    if let Some(Beyond { newest, action }) = beyond {
        let target = answers.label(assembler, action);
        spans.push((newest + 1, X32_BIT - 1, target));
    }
    let default = answers.label(assembler, default);
    let end = spans.len();
    for (at, (first, last, target)) in spans.into_iter().enumerate() {
        let next = if at + 1 == end { default } else { assembler.label() };
        span(first, last, target, next, assembler);
        if next != default {
            assembler.here(next);
        }
    }
    if end == 0 {
        assembler.always(default);
    }
    checks
}

/// Whether two calls are judged alike, so that one block serves both (mmap and mprotect).
fn same_checks(one: &[&Rule], other: &[&Rule]) -> bool {
    let parts = |rules: &[&Rule]| -> Vec<(Vec<Condition>, Action)> {
        rules.iter().map(|rule| (rule.conditions.clone(), rule.action)).collect()
    };
    parts(one) == parts(other)
}

/// Compares the number with one run: three or more numbers cost two instructions.
fn span(first: u32, last: u32, target: Label, next: Label, assembler: &mut Assembler) {
    if last - first >= 2 {
        let inside = assembler.label();
        assembler.jump(JGE, first, inside, next);
        assembler.here(inside);
        assembler.jump(JGT, last, next, target);
        return;
    }
    if last > first {
        assembler.branch(JEQ, first, target);
    }
    assembler.jump(JEQ, last, target, next);
}

/// Neighbouring numbers with one answer, joined.
fn runs(plain: &[(u32, Action)]) -> Vec<(u32, u32, Action)> {
    let mut runs: Vec<(u32, u32, Action)> = Vec::new();
    for (number, action) in plain {
        match runs.last_mut() {
            Some((_, last, same)) if *last + 1 == *number && same == action => *last = *number,
            _ => runs.push((*number, *number, *action)),
        }
    }
    runs
}

/// Emits the argument checks of one call. The accumulator holds the number no longer after this, so a
/// block never returns to the chain.
fn arguments(rules: &[&Rule], default: Action, assembler: &mut Assembler, answers: &mut Answers) {
    let default = answers.label(assembler, default);
    for (at, rule) in rules.iter().enumerate() {
        let otherwise = match rules.get(at + 1) {
            None => default,
            // A rule without conditions ends the block: it is the answer of all that came before.
            Some(next) if next.conditions.is_empty() => answers.label(assembler, next.action),
            Some(_) => assembler.label(),
        };
        let target = answers.label(assembler, rule.action);
        let Some((last, before)) = rule.conditions.split_last() else {
            return;
        };
        for condition in before {
            let holds = assembler.label();
            compare(condition, assembler, holds, otherwise);
            assembler.here(holds);
        }
        compare(last, assembler, target, otherwise);
        if !assembler.is_placed(otherwise) && !answers.0.values().any(|label| *label == otherwise) {
            assembler.here(otherwise);
        }
    }
}

fn compare(condition: &Condition, assembler: &mut Assembler, yes: Label, no: Label) {
    let low = OFFSET_ARGS + 8 * u32::from(condition.index);
    let halves = |value: u64| (value as u32, (value >> 32) as u32);
    let (value_low, value_high) = halves(condition.value);
    let (mask_low, mask_high) = halves(condition.mask);
    let word = |assembler: &mut Assembler, offset: u32, mask: u32, value: u32, yes, no| {
        assembler.load(offset);
        match condition.op {
            Op::Eq => assembler.jump(JEQ, value, yes, no),
            Op::Ne => assembler.jump(JEQ, value, no, yes),
            // "No bit of the mask" is one instruction less with JSET.
            Op::MaskedEq if value == 0 => assembler.jump(JSET, mask, no, yes),
            Op::MaskedEq => {
                assembler.and(mask);
                assembler.jump(JEQ, value, yes, no);
            }
            Op::AnyBit => assembler.jump(JSET, mask, yes, no),
            Op::Above => assembler.jump(JGT, value, yes, no),
        }
    };
    if condition.qword {
        let next = assembler.label();
        match condition.op {
            Op::Above => {
                let equal = assembler.label();
                assembler.load(low + 4);
                assembler.jump(JGT, value_high, yes, equal);
                assembler.here(equal);
                assembler.jump(JEQ, value_high, next, no);
            }
            Op::Eq | Op::MaskedEq => word(assembler, low + 4, mask_high, value_high, next, no),
            Op::Ne | Op::AnyBit => word(assembler, low + 4, mask_high, value_high, yes, next),
        }
        assembler.here(next);
    }
    word(assembler, low, mask_low, value_low, yes, no);
}

#[cfg(test)]
#[path = "bpf/tests.rs"]
mod tests;
