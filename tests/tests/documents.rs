//! The references of policies and manifests, held against the parser: every key that it knows is described, no key is
//! described that it does not know, defaults are those of the code, and every example is accepted.
//!
//! The parser is asked what it knows: a key that nobody could mean is refused with the list of valid ones.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use warden_policy::{CAPABILITIES, Format, LimitKey, Manifest, Policy, RUN_LATER_GLOBS, SourceError};

/// Near no key of ours, so that none is suggested and all are listed.
const STRANGER: &str = "zzzzzzzzzzzzzzzzzzzzzzzz";

fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn policy(text: &str) -> Result<Policy, SourceError> {
    Policy::parse(&format!("version = 1\n{text}"), Format::Toml, "policy", Path::new("/srv"))
}

fn manifest(text: &str) -> Result<Manifest, SourceError> {
    Manifest::parse(text, Format::Toml, "manifest", Path::new("/srv"))
}

/// The valid keys that a refusal of the stranger lists; none where it was refused for another reason.
fn listed(error: &SourceError) -> Vec<String> {
    let keys = error.message.split_once("valid keys are ").map_or("", |(_, keys)| keys);
    keys.split(", ").filter(|key| !key.is_empty()).map(str::to_owned).collect()
}

fn keys_of_policy(section: &str) -> Vec<String> {
    listed(&policy(&format!("{section}\n{STRANGER} = 1\n")).expect_err("the stranger is refused"))
}

/// Every table of a policy, by how it is written, with its keys.
fn sections() -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for root in keys_of_policy("") {
        for header in [format!("[{root}]"), format!("[[{root}]]")] {
            let keys = keys_of_policy(&header);
            match keys.as_slice() {
                [] => {}
                [one] => {
                    let header = format!("[[{root}.{one}]]");
                    found.push((header.clone(), keys_of_policy(&header)));
                }
                _ => found.push((header, keys)),
            }
        }
    }
    found
}

/// The rows of the tables under a heading or a line that is the section's name: the cells of each.
fn rows(text: &str, section: &str) -> Vec<Vec<String>> {
    let (heading, line) = (format!("## `{section}`"), format!("`{section}`"));
    let mut inside = false;
    let mut rows = Vec::new();
    for each in text.lines() {
        if each == heading || each == line {
            inside = true;
        } else if each.starts_with("## ") || (each.starts_with("`[") && each.ends_with("]`")) {
            inside = false;
        } else if inside && each.starts_with("| `") {
            rows.push(each.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect());
        }
    }
    rows
}

/// What stands in backquotes.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The key that a row is about; a rule id or a variable is none.
fn key(row: &[String]) -> Option<String> {
    let words = row.first().map(|cell| quoted(cell)).unwrap_or_default();
    words
        .first()
        .filter(|word| word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'))
        .map(|word| (*word).to_owned())
}

#[test]
fn every_key_of_a_policy_is_described_and_no_other() {
    let text = document("docs/policy.md");
    let sections = sections();
    assert_eq!(sections.len(), 12, "{sections:?}");
    for (section, known) in sections {
        let described: BTreeSet<String> = rows(&text, &section).iter().filter_map(|row| key(row)).collect();
        assert_eq!(described, known.into_iter().collect(), "{section}: in docs/policy.md, and in the parser");
    }
    for key in keys_of_policy("") {
        assert!(text.contains(&format!("`{key} = 1`")) || text.contains(&format!("[{key}")), "{key}");
    }
}

/// What an example needs beside it to be a policy.
fn context(section: &str, example: &str) -> String {
    let needed: &[&str] = match section {
        "[[fs.workspace]]" => &["label = \"a\"", "path = \"/srv/a\""],
        "[[proc.command]]" => &["name = \"git\"", "path = \"/usr/bin/git\""],
        "[[net.allow]]" => &["host = \"a.example\""],
        "[[secret]]" if example.starts_with("env") => &["name = \"s\""],
        "[[secret]]" => &["name = \"s\"", "file = \"/srv/s\""],
        "[llm]" if example.starts_with("file") => &["provider = \"replay\""],
        "[llm]" if example.starts_with("provider") => &["file = \"run.jsonl\""],
        _ => &[],
    };
    let key = |line: &str| line.split(' ').next().map(str::to_owned);
    let mut lines = vec![section.to_owned(), example.to_owned()];
    lines.extend(needed.iter().filter(|line| key(line) != key(example)).map(|line| (*line).to_owned()));
    if section != "[[fs.workspace]]" {
        lines.push("[[fs.workspace]]\nlabel = \"repo\"\npath = \"/srv/repo\"".to_owned());
    }
    if section != "[[secret]]" {
        lines.extend(["llm", "github"].map(|name| format!("[[secret]]\nname = \"{name}\"\nfile = \"/srv/{name}\"")));
    }
    lines.join("\n")
}

/// An example with what was left out of a hash put back.
fn whole(example: &str) -> String {
    match example.split_once('…') {
        Some((before, after)) => {
            let digits = before.rsplit('"').next().unwrap_or_default().len();
            format!("{before}{}{after}", "0".repeat(64_usize.saturating_sub(digits)))
        }
        None => example.to_owned(),
    }
}

#[test]
fn every_example_of_a_policy_is_accepted() {
    let text = document("docs/policy.md");
    let mut tried = 0;
    for (section, _) in sections() {
        for row in rows(&text, &section).iter().filter(|row| key(row).is_some()) {
            let example =
                whole(quoted(row.last().expect("a cell")).first().unwrap_or_else(|| panic!("{section}: {row:?}")));
            assert_eq!(example.split(' ').next(), key(row).as_deref(), "{section}: the example is another key's");
            let whole = context(&section, &example);
            assert!(policy(&whole).is_ok(), "{section}: {example}: {}\n{whole}", policy(&whole).unwrap_err());
            tried += 1;
        }
    }
    assert!(tried > 70, "only {tried} examples were found");
    assert!(policy(&context("[limits]", "steps = \"many\"")).is_err(), "what is wrong is refused");
}

#[test]
fn defaults_of_limits_and_built_in_rules_are_those_of_the_code() {
    let text = document("docs/policy.md");
    for row in rows(&text, "[limits]") {
        let key = key(&row).expect("a key");
        let limit = LimitKey::ALL.into_iter().find(|limit| limit.name() == key).unwrap_or_else(|| panic!("{key}"));
        if let Some(value) = limit.default_value() {
            assert!(
                quoted(&row[2]).contains(&limit.written(value).as_str())
                    || row[2].contains(&format!("\"{}\"", limit.written(value))),
                "{row:?}"
            );
        }
    }
    for glob in RUN_LATER_GLOBS {
        assert!(text.contains(&format!("| `{glob}` |")), "{glob}");
        assert!(document("examples/demo/warden.toml").contains(glob), "{glob}");
    }
}

#[test]
fn every_key_of_a_manifest_and_of_a_predicate_is_described() {
    let text = document("docs/tasks.md");
    let step = "[[step]]\ncapability = \"policy.describe\"";
    let runbook = "kind = \"runbook\"\n";
    let refused = |text: String| listed(&manifest(&text).expect_err("the stranger is refused"));
    let mut known = refused(format!("{runbook}{STRANGER} = 1\n{step}\n"));
    known.extend(refused(format!("{runbook}{step}\n{STRANGER} = 1\n")));
    known.extend(refused(format!("{runbook}{step}\n[[success]]\n{STRANGER} = 1\n")));
    assert!(known.len() > 30, "{known:?}");
    let words: BTreeSet<&str> =
        quoted(&text).into_iter().map(|word| word.split(' ').next().unwrap_or_default()).collect();
    for key in known {
        assert!(words.contains(key.as_str()), "`{key}` is not in docs/tasks.md");
    }
}

#[test]
fn every_example_of_a_predicate_is_accepted() {
    let text = document("docs/tasks.md");
    let part = text.split_once("\n## Predicates\n").expect("the heading").1;
    let part = part.split_once("\n## ").expect("the next heading").0;
    let mut tried = 0;
    for row in part.lines().filter(|line| line.starts_with("| `")) {
        let cell = row.trim_matches('|').rsplit(" | ").next().expect("a cell");
        let example: Vec<String> = quoted(cell).into_iter().map(whole).collect();
        let whole = format!("kind = \"goal\"\ngoal = \"x\"\n[[success]]\n{}\n", example.join("\n"));
        assert!(manifest(&whole).is_ok(), "{}\n{whole}", manifest(&whole).unwrap_err());
        tried += 1;
    }
    assert!(tried >= 10, "only {tried} examples were found");
}

#[test]
fn every_action_is_described() {
    let text = document("docs/tasks.md");
    let words: BTreeSet<&str> = quoted(&text).into_iter().collect();
    for capability in CAPABILITIES {
        let family = capability.split_once('.').map(|(family, _)| format!("{family}.*")).expect("a family");
        let group = ["browser.*", "input.*"].contains(&family.as_str()) && words.contains(family.as_str());
        assert!(group || words.contains(capability), "`{capability}` is not in docs/tasks.md");
    }
}
