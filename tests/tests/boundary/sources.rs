//! Where the dangerous words may stand.

use crate::tree;
use crate::words::{code_of, words};
use std::path::{Path, PathBuf};

/// A rule: words that may stand only in some places.
struct Rule {
    what: &'static str,
    words: &'static [&'static str],
    /// Only where it is called, `fork(`; the number of a system call counts anyhow.
    called: bool,
    /// Files, or folders that end with `/`.
    allowed: &'static [&'static str],
}

/// Tests may do anything: what they try is what the jails refuse.
const TESTS: &[&str] = &["tests/", "/tests/", "/tests.rs"];

const UNSAFE: Rule = Rule {
    what: "unsafe code",
    words: &["unsafe"],
    called: false,
    allowed: &["policy/jail/", "broker/spawner/", "sandbox-proc/src/template/", "wit/proto/src/sys.rs"],
};

/// A process made elsewhere would be outside of every jail, or inside of the wrong one.
const FORKS: Rule = Rule {
    what: "the making of a process",
    words: &[
        "fork",
        "vfork",
        "SYS_fork",
        "SYS_vfork",
        "SYS_clone",
        "SYS_clone3",
        "posix_spawn",
        "fork_single_threaded",
        "fork_into",
        "fork_apart",
    ],
    called: true,
    allowed: &[
        "broker/spawner/",
        "sandbox-proc/src/template/",
        // Its `fork` is for keepers and their commands, its `probe` for `warden doctor`.
        "policy/jail/",
        "cap-proc/src/runner/",
        "cap-proc/src/keeper/",
    ],
};

/// `std::process::Command` looks in PATH and hands the environment on.
const STARTS: Rule = Rule {
    what: "the standard library's way to start a program",
    words: &["process::Command"],
    called: false,
    // They build; the programs never see them.
    allowed: &["broker/build.rs", "cap-proc/build.rs"],
};

const SOCKETS: Rule = Rule {
    what: "the making of a socket",
    words: &[
        "socketpair",
        "SockType",
        "AddressFamily",
        "UnixStream",
        "UnixListener",
        "UnixDatagram",
        "SYS_socket",
        "SYS_socketpair",
    ],
    called: false,
    allowed: &[
        "wit/proto/src/",
        // The domain's witness tries a socket; rule files are compiled from names of calls.
        "policy/jail/",
        // journald's socket, when the policy names it.
        "broker/src/audit/mirror.rs",
    ],
};

const NETWORK: Rule = Rule {
    what: "the network",
    words: &["TcpStream", "TcpListener", "UdpSocket", "TcpSocket"],
    called: false,
    allowed: &[],
};

/// Descriptors that a packet brings are owned in one place, before anything is judged.
const RECEIPTS: Rule = Rule {
    what: "the receipt of descriptors",
    words: &["recvmsg", "recvmmsg", "ScmRights", "SYS_recvmsg"],
    called: true,
    allowed: &["wit/proto/src/", "broker/spawner/src/template.rs", "policy/jail/"],
};

const RULES: &[Rule] = &[UNSAFE, FORKS, STARTS, SOCKETS, NETWORK, RECEIPTS];

/// Rust files of the native crates, by their paths in the tree.
fn files() -> Vec<(String, String)> {
    let tree = tree();
    let mut files = Vec::new();
    let mut waiting: Vec<PathBuf> = Vec::new();
    for folder in ["broker", "sandbox-proc", "cap-fs", "cap-proc", "cap-llm", "wit", "policy", "tests"] {
        waiting.push(tree.join(folder));
    }
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("an entry").path();
            if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
                waiting.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&tree).expect("in the tree").display().to_string();
                files.push((name, std::fs::read_to_string(&path).expect("a source file")));
            }
        }
    }
    files.sort();
    assert!(files.len() > 100, "only {} source files were found", files.len());
    files
}

fn is_test(name: &str) -> bool {
    TESTS.iter().any(|place| if place.starts_with('/') { name.contains(place) } else { name.starts_with(place) })
}

/// Places where `rule` is broken in one file.
fn offences(rule: &Rule, name: &str, source: &str) -> Vec<String> {
    let allowed = |place: &str| if place.ends_with('/') { name.starts_with(place) } else { name == place };
    if is_test(name) || rule.allowed.iter().any(|place| allowed(place)) {
        return Vec::new();
    }
    let code = code_of(source);
    let found = words(&code).filter(|(_, word, rest)| {
        rule.words.iter().any(|wanted| match wanted.split_once("::") {
            Some((first, second)) => *word == first && rest.strip_prefix("::").is_some_and(|rest| names(rest, second)),
            None => {
                word == wanted && (!rule.called || rest.starts_with('(') || rest.starts_with("::<") || is_number(word))
            }
        })
    });
    found.map(|(line, word, _)| format!("{name}:{line}: {} ({word})", rule.what)).collect()
}

/// `Command…` or `{…Command…}`, what follows `process::`.
fn names(rest: &str, wanted: &str) -> bool {
    let group = rest.strip_prefix('{').map(|group| group.split('}').next().unwrap_or_default());
    words(group.unwrap_or(rest)).next().is_some_and(|(_, word, _)| word == wanted)
        || group.is_some_and(|group| words(group).any(|(_, word, _)| word == wanted))
}

fn is_number(word: &str) -> bool {
    word.starts_with("SYS_")
}

#[test]
fn dangerous_words_stand_where_they_may() {
    let files = files();
    let found: Vec<String> =
        RULES.iter().flat_map(|rule| files.iter().flat_map(|(name, source)| offences(rule, name, source))).collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn every_allowance_is_used() {
    let files = files();
    for rule in RULES {
        let bare = Rule { allowed: &[], ..*rule };
        for place in rule.allowed {
            let uses = |(name, source): &(String, String)| {
                name.starts_with(place) && !offences(&bare, name, source).is_empty()
            };
            assert!(files.iter().any(uses), "{place} is allowed {} and has none: take the allowance away", rule.what);
        }
    }
}

#[test]
fn each_rule_finds_an_offence() {
    for (rule, source) in [
        (UNSAFE, "fn f() { unsafe { g() } }"),
        (FORKS, "match nix::unistd::fork() {}"),
        (FORKS, "libc::syscall(libc::SYS_clone, 0)"),
        (STARTS, "use std::process::Command;"),
        (STARTS, "use std::process::{Stdio, Command};"),
        (SOCKETS, "let pair = socketpair(family, kind, None, flags)?;"),
        (NETWORK, "let link = std::net::TcpStream::connect(address)?;"),
        (RECEIPTS, "let got = recvmsg::<()>(fd, &mut iov, None, flags)?;"),
    ] {
        assert_eq!(offences(&rule, "cap-fs/src/ops.rs", source).len(), 1, "{}", rule.what);
        assert!(offences(&rule, "cap-fs/src/ops.rs", &format!("// {source}\n")).is_empty(), "{}", rule.what);
        assert!(offences(&rule, "cap-fs/tests/ops.rs", source).is_empty(), "{}", rule.what);
    }
}

/// T-14: what the broker printed elsewhere would not have been made visible first. A jailed process has no terminal.
#[test]
fn the_broker_prints_in_one_place() {
    let prints = |source: &str| {
        let own = source.split("#[cfg(test)]").next().unwrap_or_default();
        let code = code_of(own);
        words(&code).any(|(_, word, rest)| {
            (["print", "println", "eprint", "eprintln", "dbg"].contains(&word) && rest.starts_with('!'))
                || (["stdout", "stderr"].contains(&word) && rest.starts_with("()"))
        })
    };
    let files = files();
    let found: Vec<&str> = files
        .iter()
        .filter(|(name, source)| name.starts_with("broker/src/") && !is_test(name) && prints(source))
        .map(|(name, _)| name.as_str())
        .collect();
    // The one function, the output of a guest that a person wants as it is, and the streams of a person's own command.
    assert_eq!(found, ["broker/src/output.rs", "broker/src/streams.rs", "broker/src/terminal.rs"]);
    assert!(
        prints("fn f() { eprintln!(\"x\"); }") && prints("let out = std::io::stdout();") && !prints("// print!(1)")
    );
}

/// Crates whose root forbids `unsafe` themselves, so that the compiler says it too.
#[test]
fn crates_without_unsafe_forbid_it() {
    for root in [
        "broker/src/lib.rs",
        "broker/src/main.rs",
        "cap-fs/beneath/src/lib.rs",
        "cap-fs/src/main.rs",
        "cap-llm/src/main.rs",
        "cap-proc/src/main.rs",
        "policy/src/lib.rs",
    ] {
        let source = std::fs::read_to_string(tree().join(root)).unwrap_or_else(|error| panic!("{root}: {error}"));
        assert!(code_of(&source).contains("#![forbid(unsafe_code)]"), "{root} does not forbid unsafe code");
    }
}

/// A module of such a name is where things go that nobody has found the place for.
#[test]
fn no_module_is_a_drawer() {
    let drawer = |name: &str| {
        let stem = Path::new(name).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
        ["util", "utils", "common", "misc", "manager", "stuff"].contains(&stem.as_str())
    };
    let found: Vec<_> = files().into_iter().map(|(name, _)| name).filter(|name| drawer(name)).collect();
    assert!(found.is_empty(), "{found:?}");
    assert!(drawer("broker/src/utils.rs") && !drawer("broker/src/task/helpers.rs"));
}

/// The reader of a process starts at `main.rs`.
#[test]
fn every_main_is_short_and_every_file_readable() {
    for (name, source) in files() {
        let lines = source.lines().count();
        assert!(lines <= 800, "{name} has {lines} lines: split it");
        if name.ends_with("src/main.rs") && !name.starts_with("tests/") {
            assert!(lines < 60, "{name} has {lines} lines: it should print the life of its process, and no more");
        }
    }
}
