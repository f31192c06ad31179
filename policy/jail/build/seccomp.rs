//! Reads `policy/seccomp/*.json`, assembles each role's program and checks it against seccompiler's.

use crate::bpf::{self, Action, Beyond, Condition, Instruction, Op, Rule};
use crate::{symbols, syscalls};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleFile {
    pub role: String,
    #[serde(rename = "about")]
    _about: String,
    default: DefaultAction,
    /// The role whose filter always lies under this one; it brings the architecture check.
    #[serde(default)]
    over: Option<String>,
    /// The role whose rules these are, those for the calls in `but_for` left out, and own ones added.
    same_as: Option<String>,
    #[serde(default)]
    but_for: Vec<String>,
    #[serde(default)]
    allow: Vec<Entry>,
    #[serde(default)]
    errno: Vec<Entry>,
    #[serde(default)]
    kill: Vec<Entry>,
    /// For a denylist that stands alone: the calls it leaves as they are, each named, with the reason.
    #[serde(default)]
    left: Vec<Left>,
    /// For such a one: what numbers are answered that `build/syscalls.rs` has no name for.
    unknown: Option<Unknown>,
    pub self_test: Vec<SelfTest>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum DefaultAction {
    KillProcess,
    Allow,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    syscall: Names,
    why: String,
    #[serde(default)]
    args: Vec<Argument>,
    errno: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Left {
    syscall: Names,
    why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unknown {
    errno: String,
    why: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Names {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Argument {
    index: u8,
    len: Length,
    op: Operation,
    #[serde(default)]
    value: Value,
    mask: Option<Value>,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Length {
    Dword,
    Qword,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Operation {
    Eq,
    Ne,
    MaskedEq,
    AnyBit,
    Above,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Value {
    Number(u64),
    Text(String),
}

impl Default for Value {
    fn default() -> Self {
        Value::Number(0)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelfTest {
    pub act: String,
    pub errno: String,
    why: String,
}

/// One role's finished filter.
pub struct Filter {
    pub role: String,
    pub over: Option<String>,
    pub program: Vec<Instruction>,
    pub self_test: Vec<(String, u16)>,
}

/// Compiles one file; `text_of` gives that of another role.
pub fn compile(text: &str, text_of: impl Fn(&str) -> Option<String>) -> Result<Filter, String> {
    let file: RuleFile = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let mut rules = file.own_rules()?;
    let mut base = None;
    if let Some(other) = &file.same_as {
        let text = text_of(other).ok_or_else(|| format!("same_as: there is no role {other}"))?;
        let other: RuleFile = serde_json::from_str(&text).map_err(|e| e.to_string())?;
        rules.extend(file.taken_over(&other)?);
        base = Some(other);
    } else if !file.but_for.is_empty() {
        return Err("`but_for` belongs to `same_as`".into());
    }
    let default = match file.default {
        DefaultAction::KillProcess => Action::KillProcess,
        DefaultAction::Allow => Action::Allow,
    };
    let check_arch = file.over.is_none();
    let beyond = file.beyond(base.as_ref(), &mut rules)?;
    let program = bpf::assemble_known(&rules, default, check_arch, beyond).map_err(|e| e.to_string())?;
    agree(&rules, Judge { default, check_arch, beyond }, &program)?;
    let mut self_test = Vec::new();
    for test in &file.self_test {
        if test.why.trim().is_empty() {
            return Err(format!("self_test {}: `why` is empty", test.act));
        }
        self_test.push((test.act.clone(), symbols::errno(&test.errno)?));
    }
    if self_test.is_empty() {
        return Err("a role without a self-test cannot prove that its filter is in force".into());
    }
    Ok(Filter { role: file.role, over: file.over, program, self_test })
}

impl RuleFile {
    fn own_rules(&self) -> Result<Vec<Rule>, String> {
        let mut rules = Vec::new();
        for (entries, kind) in [(&self.kill, "kill"), (&self.allow, "allow"), (&self.errno, "errno")] {
            for entry in entries {
                entry.rules(kind, &mut rules)?;
            }
        }
        Ok(rules)
    }

    /// The rules of `other` but for some calls, each of which it must have.
    fn taken_over(&self, other: &RuleFile) -> Result<Vec<Rule>, String> {
        if other.same_as.is_some() || other.over != self.over {
            return Err("same_as: that role lies over another filter, or takes over rules itself".into());
        }
        let mut rules = other.own_rules()?;
        for name in &self.but_for {
            let number = syscalls::number(name).ok_or_else(|| format!("`{name}` is no system call of x86-64"))?;
            let before = rules.len();
            rules.retain(|rule| i64::from(rule.number) != number);
            if rules.len() == before {
                return Err(format!("but_for: {} has no rule for `{name}`", other.role));
            }
        }
        Ok(rules)
    }

    /// A denylist says what it leaves as well as what it takes: a call that nobody has decided about does not build,
    /// and a number that has no name here yet is answered as by a kernel that does not know it (T-03, T-07).
    /// One that takes over another's rules takes over what that leaves and says of the rest, beside its own.
    fn beyond(&self, base: Option<&RuleFile>, rules: &mut Vec<Rule>) -> Result<Option<Beyond>, String> {
        let denylist = matches!(self.default, DefaultAction::Allow) && self.over.is_none();
        let unknown = self.unknown.as_ref().or(base.and_then(|base| base.unknown.as_ref()));
        let Some(unknown) = unknown.filter(|_| denylist) else {
            let lists = denylist || self.unknown.is_some() || !self.left.is_empty();
            return if lists { Err("`unknown` and `left` belong to a denylist, and to each".into()) } else { Ok(None) };
        };
        if unknown.why.trim().is_empty() {
            return Err("unknown: `why` is empty".into());
        }
        let action = Action::Errno(symbols::errno(&unknown.errno)?);
        let mut decided: BTreeSet<i64> = rules.iter().map(|rule| i64::from(rule.number)).collect();
        for left in self.left.iter().chain(base.iter().flat_map(|base| &base.left)) {
            if left.why.trim().is_empty() {
                return Err(format!("{:?}: `why` is empty", left.syscall.list()));
            }
            for name in left.syscall.list() {
                let number = syscalls::number(name).ok_or_else(|| format!("`{name}` is no system call of x86-64"))?;
                if !decided.insert(number) {
                    return Err(format!("`{name}` is left as it is, and decided elsewhere too"));
                }
            }
        }
        if let Some((name, _)) = syscalls::all().find(|(_, number)| !decided.contains(number)) {
            return Err(format!("nobody has decided whether `{name}` is left or refused"));
        }
        let newest = decided.last().and_then(|number| u32::try_from(*number).ok()).ok_or("no call is decided")?;
        let gaps = (0..newest).filter(|number| !decided.contains(&i64::from(*number)));
        rules.extend(gaps.map(|number| Rule { number, conditions: Vec::new(), action }));
        Ok(Some(Beyond { newest, action }))
    }
}

impl Names {
    fn list(&self) -> &[String] {
        match self {
            Names::One(name) => std::slice::from_ref(name),
            Names::Many(names) => names,
        }
    }
}

impl Entry {
    fn rules(&self, kind: &str, into: &mut Vec<Rule>) -> Result<(), String> {
        let names = self.syscall.list();
        if self.why.trim().is_empty() {
            return Err(format!("{names:?}: `why` is empty"));
        }
        let action = match (kind, &self.errno) {
            ("kill", None) => Action::KillProcess,
            ("allow", None) => Action::Allow,
            ("errno", Some(name)) => Action::Errno(symbols::errno(name)?),
            _ => {
                return Err(format!("{names:?}: `errno` belongs to the errno list, and only there"));
            }
        };
        let conditions: Vec<Condition> = self.args.iter().map(Argument::condition).collect::<Result<_, _>>()?;
        for name in names {
            let number = syscalls::number(name).ok_or_else(|| format!("`{name}` is no system call of x86-64"))?;
            into.push(Rule { number: number as u32, conditions: conditions.clone(), action });
        }
        Ok(())
    }
}

impl Value {
    fn get(&self) -> Result<u64, String> {
        match self {
            Value::Number(number) => Ok(*number),
            Value::Text(text) => symbols::value(text),
        }
    }
}

impl Argument {
    fn condition(&self) -> Result<Condition, String> {
        let qword = self.len == Length::Qword;
        let cut = |value: u64| if qword { value } else { value & 0xffff_ffff };
        let op = match self.op {
            Operation::Eq => Op::Eq,
            Operation::Ne => Op::Ne,
            Operation::MaskedEq => Op::MaskedEq,
            Operation::AnyBit => Op::AnyBit,
            Operation::Above => Op::Above,
        };
        let mask = match (&self.mask, op) {
            (Some(mask), Op::MaskedEq | Op::AnyBit) => cut(mask.get()?),
            (None, Op::Eq | Op::Ne | Op::Above) => 0,
            _ => return Err("`mask` belongs to masked_eq and any_bit, and only there".into()),
        };
        let value = cut(self.value.get()?);
        if op == Op::MaskedEq && value & !mask != 0 {
            return Err("a masked value has bits outside its mask: it never matches".into());
        }
        if self.index > 5 {
            return Err("a call has arguments 0 to 5".into());
        }
        Ok(Condition { index: self.index, qword, op, value, mask })
    }
}

/// Compiles every group of rules with seccompiler as well, and compares the two on each call number and
/// on argument values around every constant of the file. A mistake would have to be made twice.
fn agree(rules: &[Rule], judge: Judge, program: &[Instruction]) -> Result<(), String> {
    let mut groups: BTreeMap<Action, BTreeMap<i64, Vec<SeccompRule>>> = BTreeMap::new();
    for rule in rules {
        let calls = groups.entry(rule.action).or_default();
        let chain = calls.entry(i64::from(rule.number)).or_default();
        chain.extend(oracle_rules(rule)?);
    }
    let oracles: Vec<(Action, Vec<Instruction>)> =
        groups.into_iter().map(|(action, calls)| Ok((action, oracle(calls)?))).collect::<Result<_, String>>()?;
    for call in samples(rules, judge.check_arch) {
        let found = bpf::interpret(program, &call).ok_or("the program is not valid BPF")?;
        let expected = expected(&oracles, &call, judge)?;
        if found != expected.code() {
            return Err(format!("assembler and seccompiler disagree on {call:?}: {found:#x}, {expected:?}"));
        }
    }
    Ok(())
}

/// What a program answers besides its rules.
#[derive(Clone, Copy)]
struct Judge {
    default: Action,
    check_arch: bool,
    beyond: Option<Beyond>,
}

fn expected(oracles: &[(Action, Vec<Instruction>)], call: &bpf::Call, judge: Judge) -> Result<Action, String> {
    if call.arch != bpf::AUDIT_ARCH_X86_64 || call.number >= bpf::X32_BIT {
        return Ok(Action::KillProcess);
    }
    for (action, oracle) in oracles {
        if bpf::interpret(oracle, call).ok_or("seccompiler's program is not understood")? == MATCH {
            return Ok(*action);
        }
    }
    let beyond = judge.beyond.filter(|beyond| call.number > beyond.newest);
    Ok(beyond.map_or(judge.default, |beyond| beyond.action))
}

const MATCH: u32 = 0x7ffc_0000; // SECCOMP_RET_LOG, only a mark here

fn oracle(calls: BTreeMap<i64, Vec<SeccompRule>>) -> Result<Vec<Instruction>, String> {
    let filter = SeccompFilter::new(calls, SeccompAction::Allow, SeccompAction::Log, TargetArch::x86_64)
        .map_err(|e| e.to_string())?;
    let program: BpfProgram = filter.try_into().map_err(|e: seccompiler::BackendError| e.to_string())?;
    Ok(program.iter().map(|i| Instruction { code: i.code, jt: i.jt, jf: i.jf, k: i.k }).collect())
}

/// A rule in seccompiler's terms; `any_bit` becomes one alternative per bit, which it can say.
fn oracle_rules(rule: &Rule) -> Result<Vec<SeccompRule>, String> {
    let mut alternatives: Vec<Vec<SeccompCondition>> = vec![Vec::new()];
    for condition in &rule.conditions {
        let len = || {
            if condition.qword { SeccompCmpArgLen::Qword } else { SeccompCmpArgLen::Dword }
        };
        let one = |op, value| SeccompCondition::new(condition.index, len(), op, value).map_err(|e| e.to_string());
        let options = match condition.op {
            Op::Eq => vec![one(SeccompCmpOp::Eq, condition.value)?],
            Op::Ne => vec![one(SeccompCmpOp::Ne, condition.value)?],
            Op::Above => vec![one(SeccompCmpOp::Gt, condition.value)?],
            Op::MaskedEq => vec![one(SeccompCmpOp::MaskedEq(condition.mask), condition.value)?],
            Op::AnyBit => (0..64)
                .map(|bit| 1u64 << bit)
                .filter(|bit| condition.mask & bit != 0)
                .map(|bit| one(SeccompCmpOp::MaskedEq(bit), bit))
                .collect::<Result<_, _>>()?,
        };
        alternatives = alternatives
            .iter()
            .flat_map(|before| options.iter().map(|option| [before.as_slice(), std::slice::from_ref(option)].concat()))
            .collect();
    }
    alternatives
        .into_iter()
        .filter(|conditions| !conditions.is_empty())
        .map(|conditions| SeccompRule::new(conditions).map_err(|e| e.to_string()))
        .collect()
}

/// Calls worth asking about: every number with every interesting value in every argument.
fn samples(rules: &[Rule], check_arch: bool) -> Vec<bpf::Call> {
    let mut values = vec![0, 1, u64::MAX, 1 << 32, u64::from(u32::MAX)];
    for condition in rules.iter().flat_map(|rule| &rule.conditions) {
        for base in [condition.value, condition.mask] {
            values.extend([base, base ^ 1, !base, base | 1 << 32, base.wrapping_add(1)]);
        }
    }
    values.sort_unstable();
    values.dedup();
    let arch = bpf::AUDIT_ARCH_X86_64;
    let mut calls = Vec::new();
    for number in (0..600).chain([bpf::X32_BIT - 1, u32::MAX >> 2]) {
        calls.push(bpf::Call { number, arch, args: [0; 6] });
        let of_call = || rules.iter().filter(|rule| rule.number == number).flat_map(|rule| &rule.conditions);
        let used: Vec<usize> = {
            let mut used: Vec<usize> = of_call().map(|condition| usize::from(condition.index)).collect();
            used.sort_unstable();
            used.dedup();
            used
        };
        let mut frontier = vec![[0u64; 6]];
        for index in used {
            frontier = frontier
                .iter()
                .flat_map(|args| {
                    values.iter().map(move |value| {
                        let mut args = *args;
                        args[index] = *value;
                        args
                    })
                })
                .collect();
        }
        calls.extend(frontier.into_iter().map(|args| bpf::Call { number, arch, args }));
    }
    if check_arch {
        for number in 0..600 {
            calls.push(bpf::Call { number: number | bpf::X32_BIT, arch, args: [0; 6] });
            calls.push(bpf::Call { number, arch: 0x4000_0003, args: [0; 6] });
        }
    }
    calls
}
