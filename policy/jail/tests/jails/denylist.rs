//! Every rule of the commands' denylists, read from the rule files: each call by each ABI in the command's real jail, and
//! beside it the same call outside, where the kernel says something else. A rule that is added is tested from then on.

use crate::call;
use crate::child::{self, Ended, attempt};
use crate::commands::command;
use crate::numbers;
use crate::supervised::{KEEPERS, Tree};
use serde_json::Value;
use std::ffi::CString;
use std::path::PathBuf;
use warden_jail::{Grants, Role};

#[allow(dead_code)]
#[path = "../../build/symbols.rs"]
mod symbols;
#[allow(dead_code)]
#[path = "../../build/syscalls.rs"]
mod syscalls;

pub const TESTS: &[crate::Test] = &[
    ("every_rule_of_the_denylists_holds_and_its_call_works_outside", native),
    ("every_call_of_the_denylists_kills_by_i386_and_x32", foreign),
    ("what_the_denylists_allow_of_a_call_is_the_kernels_to_answer", exceptions),
    ("calls_that_nobody_has_looked_at_are_not_there", unknown),
    ("attributes_are_read_by_descriptor_and_not_by_path", attributes),
    ("no_option_takes_memory_of_the_kernel_that_nobody_counts", futex_table),
    ("nobody_outside_is_named_to_be_signalled_by_a_descriptor", owners),
];

/// What an argument is that no rule speaks of: no open descriptor, no address, and nothing that would do harm outside.
const ANY: u64 = 8;
const PR_SET_MM: u64 = 35;
const PR_SCHED_CORE: u64 = 62;

#[derive(Clone, Debug)]
struct Rule {
    call: String,
    number: i64,
    conditions: Vec<Condition>,
    answer: Answer,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    Kill,
    Allow,
    Errno(i32),
}

#[derive(Clone, Debug)]
struct Condition {
    index: usize,
    op: String,
    value: u64,
    mask: u64,
    width: u64,
}

impl Condition {
    fn read(json: &Value) -> Condition {
        let number = |json: &Value| match json {
            Value::String(text) => symbols::value(text).expect("a known constant"),
            other => other.as_u64().unwrap_or(0),
        };
        let width = if json["len"] == "dword" { u64::from(u32::MAX) } else { u64::MAX };
        Condition {
            index: json["index"].as_u64().and_then(|index| usize::try_from(index).ok()).expect("an index"),
            op: json["op"].as_str().expect("an operation").to_owned(),
            value: number(&json["value"]) & width,
            mask: number(&json["mask"]) & width,
            width,
        }
    }

    fn holds(&self, args: &[u64; 6]) -> bool {
        let found = args[self.index] & self.width;
        match self.op.as_str() {
            "eq" => found == self.value,
            "ne" => found != self.value,
            "masked_eq" => found & self.mask == self.value,
            "any_bit" => found & self.mask != 0,
            "above" => found > self.value,
            other => panic!("`{other}` is no operation this test knows"),
        }
    }

    /// The least that meets it.
    fn example(&self) -> u64 {
        match self.op.as_str() {
            "eq" | "masked_eq" => self.value,
            "ne" => self.value ^ 1,
            "any_bit" => 1 << self.mask.trailing_zeros(),
            "above" => self.value + 1,
            other => panic!("`{other}` is no operation this test knows"),
        }
    }
}

impl Rule {
    /// Arguments that meet it; what it says nothing about does as little as may be where the call works.
    fn example(&self) -> [u64; 6] {
        let mut args = match self.call.as_str() {
            // Asks: ANY would mean something to every option or to the log of the kernel.
            "prctl" => [ANY, 2, 0, 0, 0, 0],
            "syslog" => [99, ANY, ANY, ANY, ANY, ANY],
            _ => [ANY; 6],
        };
        for condition in &self.conditions {
            args[condition.index] = condition.example();
        }
        if self.call == "prctl" && args[0] == PR_SET_MM {
            // How large its structure is, which needs no capability.
            args[1] = 15;
        }
        args
    }

    fn holds(&self, number: i64, args: &[u64; 6]) -> bool {
        self.number == number && self.conditions.iter().all(|condition| condition.holds(args))
    }
}

/// The rules of one file, in the order in which they are judged.
fn rules(role: Role) -> Vec<Rule> {
    let file = file(role.name());
    let mut rules = of_file(&file);
    if let Some(other) = file["same_as"].as_str() {
        let but_for = |rule: &Rule| file["but_for"].as_array().into_iter().flatten().any(|call| *call == rule.call);
        rules.extend(of_file(&self::file(other)).into_iter().filter(|rule| !but_for(rule)));
        rules.sort_by_key(|rule| match rule.answer {
            Answer::Kill => 0,
            Answer::Allow => 1,
            Answer::Errno(_) => 2,
        });
    }
    rules
}

fn file(role: &str) -> Value {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../seccomp");
    let text = std::fs::read_to_string(folder.join(format!("{role}.x86_64.json"))).expect("a rule file");
    serde_json::from_str(&text).expect("JSON")
}

fn of_file(file: &Value) -> Vec<Rule> {
    let mut rules = Vec::new();
    for list in ["kill", "allow", "errno"] {
        for entry in file[list].as_array().into_iter().flatten() {
            let answer = match list {
                "kill" => Answer::Kill,
                "allow" => Answer::Allow,
                _ => Answer::Errno(symbols::errno(entry["errno"].as_str().expect("a name")).expect("known").into()),
            };
            let conditions: Vec<Condition> =
                entry["args"].as_array().into_iter().flatten().map(Condition::read).collect();
            let one = std::slice::from_ref(&entry["syscall"]);
            for call in entry["syscall"].as_array().map_or(one, Vec::as_slice) {
                let call = call.as_str().expect("a name").to_owned();
                let number = syscalls::number(&call).expect("a known call");
                rules.push(Rule { call, number, conditions: conditions.clone(), answer });
            }
        }
    }
    rules
}

/// What the filters of a command say together: a kill before anything, an errno before the kernel, the upper one's first.
fn judged(all: &[Vec<Rule>], number: i64, args: &[u64; 6]) -> Answer {
    let answers = all.iter().map(|rules| {
        let found = rules.iter().find(|rule| rule.holds(number, args));
        found.map_or(Answer::Allow, |rule| rule.answer)
    });
    let answers: Vec<Answer> = answers.collect();
    let killed = answers.iter().find(|answer| **answer == Answer::Kill);
    let refused = answers.iter().find(|answer| matches!(answer, Answer::Errno(_)));
    *killed.or(refused).unwrap_or(&Answer::Allow)
}

/// The jails of commands, with the files of rules that are in force there.
const JAILS: [Role; 3] = [Role::CapProcCommand, Role::CapProcCommandSupervised, Role::CapProcCommandNetwork];

fn in_jail(jail: Role, tree: &Tree, act: impl FnOnce() -> i32) -> Ended {
    match jail {
        Role::CapProcCommandSupervised => tree.tries(act),
        Role::CapProcCommandNetwork => tree.tries_connected(act),
        _ => attempt(|| command(&Grants::none()), act),
    }
}

fn make(number: i64, args: [u64; 6]) -> i32 {
    child::call(number, args.map(|argument| argument as libc::c_long))
}

fn outside(number: i64, args: [u64; 6]) -> Ended {
    // In a session of its own: vhangup would end the tester's terminal.
    attempt(|| nix::unistd::setsid().is_ok(), || make(number, args))
}

/// The same is heard outside, which only another user or another kernel could tell from the rule.
fn alike(rule: &Rule, answer: i32) {
    if answer == libc::EPERM && !nix::unistd::getuid().is_root() {
        crate::skip::skipped(&format!("{} is refused outside of the jail too, but to root", rule.call));
        return;
    }
    let option = rule.call == "prctl" && rule.example()[0] == PR_SCHED_CORE;
    assert!(option || answer == libc::ENOSYS, "{rule:?}: outside the kernel says the same, so this proves nothing");
    println!("note: this kernel is built without {}, so its refusal proves little here", rule.call);
}

fn native() {
    let tree = Tree::new();
    for jail in JAILS {
        let all = [rules(jail), rules(Role::CapProcRunner)];
        for rule in all.iter().flatten() {
            let args = rule.example();
            let answer = judged(&all, rule.number, &args);
            let expected = match answer {
                Answer::Kill => Ended::Killed,
                Answer::Errno(errno) => Ended::Errno(errno),
                Answer::Allow => continue,
            };
            let found = in_jail(jail, &tree, || make(rule.number, args));
            assert_eq!(found, expected, "{jail}: {rule:?} {args:?}");
            let free = outside(rule.number, args);
            if let (true, Answer::Errno(errno)) = (free == expected, answer) {
                alike(rule, errno);
            }
        }
    }
}

/// Each call once, whatever the conditions: another ABI's numbers are not compared with them.
fn calls() -> Vec<Rule> {
    let mut all: Vec<Rule> = JAILS.into_iter().chain([Role::CapProcRunner]).flat_map(rules).collect();
    all.sort_by_key(|rule| rule.number);
    all.dedup_by_key(|rule| rule.number);
    all
}

/// One call of i386, by its own gate, with the arguments that lie in registers a compiler lends.
fn gate(number: i64, args: [u64; 6]) -> i32 {
    let answer: i64;
    // SAFETY: rbx, which may not be named, holds its own value again after the call; the arguments are no addresses.
    unsafe {
        std::arch::asm!(
            "xchg {first}, rbx", "int 0x80", "xchg {first}, rbx",
            first = inout(reg) args[0] => _,
            inout("rax") number => answer,
            in("rcx") args[1], in("rdx") args[2], in("rsi") args[3], in("rdi") args[4],
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    i32::from(answer <= 0)
}

const I386_GETPID: i64 = 20;

fn foreign() {
    let i386 = attempt(|| true, || gate(I386_GETPID, [0; 6])) == Ended::Worked;
    if !i386 {
        crate::skip::skipped("calls of i386: this kernel runs none");
    }
    let x32 = attempt(|| true, || child::call(libc::SYS_getpid | 0x4000_0000, [0; 6]));
    assert!(matches!(x32, Ended::Worked | Ended::Errno(libc::ENOSYS)), "control: x32 alone kills nobody: {x32:?}");
    let jail = || command(&Grants::none());
    for rule in calls() {
        let args = rule.example();
        for number in numbers::x32(&rule.call, rule.number) {
            assert_eq!(attempt(jail, || make(number, args)), Ended::Killed, "x32: {}", rule.call);
        }
        if i386 {
            let number = numbers::i386(&rule.call, rule.number);
            assert_eq!(attempt(jail, || gate(number, args)), Ended::Killed, "i386: {}", rule.call);
        }
    }
}

/// The allowed form of a call that is refused otherwise reaches the kernel, whose answer is the same as outside.
fn exceptions() {
    let tree = Tree::new();
    let mut told = 0;
    for jail in JAILS {
        let all = [rules(jail), rules(Role::CapProcRunner)];
        for rule in all.iter().flatten().filter(|rule| rule.answer == Answer::Allow) {
            let mut args = rule.example();
            if rule.call == "prctl" {
                // The name of no memory at all, which is an answer of its own.
                args[1..].fill(0);
            }
            if judged(&all, rule.number, &args) != Answer::Allow {
                continue;
            }
            let free = outside(rule.number, args);
            assert_eq!(in_jail(jail, &tree, || make(rule.number, args)), free, "{jail}: {rule:?} {args:?}");
            let mut refused = all.iter().flatten().filter(|other| other.number == rule.number);
            told +=
                usize::from(!refused.any(|other| matches!(other.answer, Answer::Errno(e) if Ended::Errno(e) == free)));
        }
    }
    assert!(told > 10, "hardly an exception whose answer is not also the rule's: {told}");
}

/// Outside these are not there either, on this kernel: that the filter answers them, and not the kernel, is for the tests
/// of the program (`a_denylist_does_not_allow_what_is_younger_than_it`). The last are x32's own, without its bit.
fn unknown() {
    let tree = Tree::new();
    let missing = Ended::Errno(libc::ENOSYS);
    for jail in JAILS {
        for number in [174, 177, 178, 337, 423, 470, 471, 999, 0x3fff_ffff].into_iter().chain(512..548) {
            assert_eq!(in_jail(jail, &tree, || make(number, [0; 6])), missing, "{jail}: {number}");
        }
        assert_eq!(in_jail(jail, &tree, || make(libc::SYS_getppid, [0; 6])), Ended::Worked, "control: {jail}");
    }
}

/// Landlock does not govern attributes: by path those of every file of the uid would be read.
fn attributes() {
    let tree = Tree::new();
    let name = c"user.secret".as_ptr();
    let set = |file: &CString| call!(libc::SYS_setxattr, file.as_ptr(), name, c"hunter2".as_ptr(), 7, 0);
    let [inside, beside] = ["work/inside", "beside"].map(|file| tree.absolute(file));
    if set(&inside) | set(&beside) != 0 {
        crate::skip::skipped("attributes are read: this file system has none");
        return;
    }
    let mut buffer = [0u8; 64];
    let (at, length) = (buffer.as_mut_ptr(), buffer.len());
    for jail in JAILS {
        // By its keeper, where it has one: cap-proc's tests say what a real one does.
        let refused = if jail == Role::CapProcCommand { Ended::Errno(libc::EOPNOTSUPP) } else { KEEPERS };
        for file in [&inside, &beside] {
            let path = file.as_ptr();
            for number in [libc::SYS_setxattr, libc::SYS_lsetxattr] {
                let set = || call!(number, path, name, c"hunter3".as_ptr(), 7, 0);
                assert_eq!(in_jail(jail, &tree, set), refused, "{jail}");
                assert_eq!(attempt(|| true, set), Ended::Worked, "control");
            }
            for number in [libc::SYS_removexattr, libc::SYS_lremovexattr] {
                let remove = || call!(number, path, name);
                assert_eq!(in_jail(jail, &tree, remove), refused, "{jail}");
                assert_eq!((attempt(|| true, remove), set(file)), (Ended::Worked, 0), "control");
            }
            for number in [libc::SYS_getxattr, libc::SYS_lgetxattr] {
                assert_eq!(in_jail(jail, &tree, || call!(number, path, name, at, length)), refused, "{jail}");
                assert_eq!(attempt(|| true, || call!(number, path, name, at, length)), Ended::Worked, "control");
            }
            for number in [libc::SYS_listxattr, libc::SYS_llistxattr] {
                assert_eq!(in_jail(jail, &tree, || call!(number, path, at, length)), refused, "{jail}");
                assert_eq!(attempt(|| true, || call!(number, path, at, length)), Ended::Worked, "control");
            }
        }
    }
    let by_descriptor = |file: &CString| {
        // SAFETY: opens a C string; the descriptor lives until the child ends.
        let opened = unsafe { libc::open(file.as_ptr(), libc::O_RDONLY) };
        if opened < 0 { libc::EACCES } else { call!(libc::SYS_fgetxattr, opened, name, at, length) }
    };
    assert_eq!(tree.tries(|| by_descriptor(&inside)), Ended::Worked, "what it may open it may read");
    assert_eq!(tree.tries(|| by_descriptor(&beside)), Ended::Errno(libc::EACCES));
}

/// A table of 2^24 buckets is 1.7 GB, in the sum of no process: this asks for one of 16.
fn futex_table() {
    let tree = Tree::new();
    let ask = || call!(libc::SYS_prctl, 78, 1, 16, 0, 0);
    for jail in JAILS {
        assert_eq!(in_jail(jail, &tree, ask), Ended::Errno(libc::EINVAL), "{jail}");
        assert_eq!(
            in_jail(jail, &tree, || call!(libc::SYS_prctl, libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)),
            Ended::Worked
        );
    }
    if attempt(|| true, ask) != Ended::Worked {
        println!("note: this kernel is older than PR_FUTEX_HASH, so its refusal proves little here");
    }
}

/// SIGIO, or any signal of one's choice, goes to whom a descriptor has for an owner.
fn owners() {
    let tree = Tree::new();
    let name = |by: libc::c_long, word: i64| {
        let (mut ends, parent) = ([0i32; 2], nix::unistd::getppid().as_raw());
        let made = call!(libc::SYS_socketpair, libc::AF_UNIX, libc::SOCK_STREAM, 0, ends.as_mut_ptr());
        let owner = if by == libc::SYS_ioctl { (&raw const parent) as i64 } else { i64::from(parent) };
        made | call!(by, ends[0], word, owner)
    };
    let ways = [(libc::SYS_fcntl, 8), (libc::SYS_ioctl, 0x8901), (libc::SYS_ioctl, 0x8902)];
    for (by, word) in ways {
        for jail in JAILS {
            assert_eq!(in_jail(jail, &tree, || name(by, word)), Ended::Errno(libc::EPERM), "{jail}: {word:#x}");
        }
        assert_eq!(attempt(|| true, || name(by, word)), Ended::Worked, "control: {word:#x}");
    }
}
