//! Documents and code name the same threats, so that one grep finds the defence, its test and its description.

use crate::tree;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// `T-07` and the like in a text.
fn threats(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("T-") {
        let digits: String = text[at + 2..].chars().take_while(char::is_ascii_digit).collect();
        let inside_a_word = text[..at].chars().next_back().is_some_and(char::is_alphanumeric);
        if digits.len() == 2 && !inside_a_word {
            found.insert(format!("T-{digits}"));
        }
    }
    found
}

/// Texts of the code and of the rule files.
fn code() -> String {
    let mut all = String::new();
    let mut waiting: Vec<PathBuf> = Vec::new();
    for folder in ["broker", "sandbox-proc", "cap-fs", "cap-proc", "cap-llm", "wit", "policy", "guests", "tests"] {
        waiting.push(tree().join(folder));
    }
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the tree") {
            let path = entry.expect("an entry").path();
            if path.is_dir() && path.file_name().is_some_and(|name| name != "target" && name != "boundary") {
                waiting.push(path);
            } else if path.extension().is_some_and(|kind| ["rs", "json", "toml"].iter().any(|each| kind == *each)) {
                all.push_str(&std::fs::read_to_string(&path).unwrap_or_default());
            }
        }
    }
    all
}

#[test]
fn every_threat_is_described_and_defended() {
    let described = threats(&std::fs::read_to_string(tree().join("docs/threat-model.md")).expect("the threat model"));
    let named = threats(&code());
    assert_eq!(
        named.difference(&described).collect::<Vec<_>>(),
        [""; 0],
        "in the code and not in docs/threat-model.md"
    );
    assert_eq!(
        described.difference(&named).collect::<Vec<_>>(),
        [""; 0],
        "in docs/threat-model.md and nowhere in the code"
    );
}

#[test]
fn threats_are_found_in_a_text() {
    assert_eq!(
        threats("see T-07, (T-12) and UTF-16, SIGT-99, T-1"),
        BTreeSet::from(["T-07".to_owned(), "T-12".to_owned()])
    );
}

/// A path in backquotes that a document gives must lead somewhere.
#[test]
fn documents_point_at_files_that_exist() {
    let mut lost = Vec::new();
    let mut seen = 0;
    for name in [
        "README.md",
        "SECURITY.md",
        "CONTRIBUTING.md",
        "docs/architecture.md",
        "docs/threat-model.md",
        "docs/promises.md",
        "docs/policy.md",
        "docs/tasks.md",
        "docs/install.md",
        "docs/tools.md",
    ] {
        let text = std::fs::read_to_string(tree().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        for path in paths(&text) {
            seen += 1;
            if !tree().join(&path).exists() {
                lost.push(format!("{name}: {path}"));
            }
        }
    }
    assert!(lost.is_empty(), "{lost:#?}");
    assert!(seen > 40, "only {seen} paths were found in the documents");
    assert_eq!(paths("`broker/src/peer.rs`, `warden run`, `/etc/passwd` and `docs/`"), ["broker/src/peer.rs", "docs/"]);
}

/// Words in backquotes that begin with a folder of the tree.
fn paths(text: &str) -> Vec<String> {
    const FOLDERS: [&str; 11] = [
        "broker/",
        "sandbox-proc/",
        "cap-fs/",
        "cap-proc/",
        "cap-llm/",
        "wit/",
        "policy/",
        "guests/",
        "tests/",
        "docs/",
        "examples/",
    ];
    let quoted = text.split('`').skip(1).step_by(2);
    let paths = quoted
        .filter(|word| FOLDERS.iter().any(|folder| word.starts_with(folder)) && !word.contains([' ', '*', '<', '{']));
    paths.map(str::to_owned).collect()
}
