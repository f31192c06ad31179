//! The rule files as documents: each parses, each rule says why, and the hash is over all of them.

use sha2::{Digest, Sha256};
use std::path::PathBuf;
use warden_jail::{RULES_SHA256, RULES_SHA256_HEX, Role, seccomp, self_test};

use crate::child::{Ended, attempt};

pub const TESTS: &[crate::Test] = &[
    ("every_role_has_rule_files_and_every_rule_a_why", whys),
    ("rules_hash_covers_every_file", hash),
    ("self_test_fails_where_no_filter_is", no_filter),
    ("filters_stay_small", small),
];

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

fn whys() {
    for role in Role::ALL {
        let text = std::fs::read_to_string(folder("seccomp").join(format!("{role}.x86_64.json"))).expect("a rule file");
        let file: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(file["role"], role.name());
        let mut rules = 0;
        for list in ["allow", "errno", "kill", "left", "self_test"] {
            for rule in file[list].as_array().into_iter().flatten() {
                let why = rule["why"].as_str().unwrap_or_default();
                assert!(why.trim().len() > 2, "{role}: {rule} has no why");
                rules += 1;
            }
        }
        assert!(rules > 3, "{role} has hardly a rule");
        let text = std::fs::read_to_string(folder("landlock").join(format!("{role}.toml"))).expect("a rule file");
        let file: toml::Table = text.parse().expect("TOML");
        for list in ["descriptor", "path", "below"] {
            for rule in file.get(list).and_then(|list| list.as_array()).into_iter().flatten() {
                let why = rule.get("why").and_then(|why| why.as_str()).unwrap_or_default();
                assert!(why.trim().len() > 2, "{role}: {rule} has no why");
            }
        }
    }
}

fn hash() {
    let mut hash = Sha256::new();
    for (name, suffix) in [("seccomp", ".x86_64.json"), ("landlock", ".toml")] {
        let mut names: Vec<String> = std::fs::read_dir(folder(name))
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("a plain name"))
            .filter(|file| file.ends_with(suffix))
            .collect();
        names.sort();
        assert_eq!(names.len(), Role::ALL.len());
        for file in names {
            let text = std::fs::read_to_string(folder(name).join(&file)).expect("a rule file");
            for part in [file.as_bytes(), text.as_bytes()] {
                hash.update((part.len() as u64).to_le_bytes());
                hash.update(part);
            }
        }
    }
    let digest: [u8; 32] = hash.finalize().into();
    assert_eq!(digest, RULES_SHA256);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, RULES_SHA256_HEX);
}

/// A self-test that passes without a filter would prove nothing.
fn no_filter() {
    for role in Role::ALL {
        let found = attempt(|| true, || i32::from(self_test::run(role).is_err()));
        assert_eq!(found, Ended::Errno(1), "{role}");
    }
}

/// Installing costs about 2.5 µs an instruction: a filter that outgrows this is noticed. The runner's and the usher's
/// are installed once a task, and name what a denylist has to; the others are installed for each command or worker.
fn small() {
    for role in Role::ALL {
        let found = seccomp::instructions(role);
        println!("note: the filter of {role} has {found} instructions");
        let most = if matches!(role, Role::CapProcRunner | Role::CapProcUsher) { 240 } else { 160 };
        assert!(found <= most, "{role}: {found} instructions");
    }
}
