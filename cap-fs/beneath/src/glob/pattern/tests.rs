//! What the policy's matcher says is what this one says, of patterns and names made at random.

use super::*;
use globset::GlobBuilder;
use proptest::prelude::*;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

fn policys(text: &str, case: Case) -> Option<globset::Glob> {
    let mut builder = GlobBuilder::new(text);
    builder.literal_separator(true).backslash_escape(true).case_insensitive(case == Case::Folded);
    builder.build().ok()
}

fn agree(text: &str, names: &[Vec<u8>]) {
    for case in [Case::Exact, Case::Folded] {
        let (ours, theirs) = (Pattern::parse(text, case), policys(text, case));
        let (ours, theirs) = match (ours, theirs) {
            (Ok(ours), Some(theirs)) => (ours, theirs.compile_matcher()),
            (Err(_), None) => continue,
            // Which it parses, and cannot compile.
            (Err("a range of letters beyond ASCII"), Some(_)) => continue,
            (ours, theirs) => panic!("{text:?}: {:?}, {:?}", ours.err(), theirs.map(|glob| glob.regex().to_owned())),
        };
        for name in names {
            let expected = theirs.is_match(OsStr::from_bytes(name));
            assert_eq!(ours.is_match(name), expected, "{text:?} and {:?}, {case:?}", name.escape_ascii().to_string());
        }
    }
}

/// Names close enough to patterns for both answers to be common.
fn names() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let byte = prop_oneof![
        8 => prop::sample::select(b"aAbBc-.,]^!\\x".to_vec()),
        1 => prop::sample::select("éÉ".as_bytes().to_vec()),
        1 => any::<u8>().prop_filter("no name holds these", |byte| !matches!(byte, 0 | b'/')),
    ];
    prop::collection::vec(prop::collection::vec(byte, 0..6), 12)
}

/// Patterns of which most are none, and ones of pieces that are.
fn pattern() -> impl Strategy<Value = String> {
    let letter = prop::sample::select("abcA[]{}-!^,*?\\.é".chars().collect::<Vec<_>>());
    let any = prop::collection::vec(letter, 1..10).prop_map(|chars| chars.into_iter().collect());
    let pieces = [
        "a",
        "B",
        "?",
        "*",
        "[a-c]",
        "[!a]",
        "[^-b]",
        "[]x]",
        "[b-]",
        "{a,bc}",
        "{a,{b,},c*}",
        "{,}",
        "\\*",
        "é",
        "[é]",
        ",",
    ];
    let made = prop::collection::vec(prop::sample::select(pieces.to_vec()), 1..6).prop_map(|pieces| pieces.concat());
    prop_oneof![any, made].prop_filter("`**` is no part of a component", |text: &String| !text.contains("**"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn the_policys_matcher_says_the_same(text in pattern(), names in names()) {
        agree(&text, &names);
    }
}

#[test]
fn the_patterns_that_are_built_in_say_the_same() {
    let names: Vec<Vec<u8>> = [
        "config",
        "config.worktree",
        "CONFIG",
        "xconfig",
        ".env",
        ".env.local",
        ".envrc",
        "key.pem",
        "id_rsa",
        "id_rsa.pub",
        "",
    ]
    .map(|name| name.as_bytes().to_vec())
    .to_vec();
    for text in ["config*", ".env.*", "*.pem", "id_{rsa,ed25519}*", "[a-z]*", "*.{key,pem}", "?onfig", "*"] {
        agree(text, &names);
    }
}

#[test]
fn a_long_pattern_over_a_long_name_ends_at_once() {
    let text = "*a".repeat(500);
    let pattern = Pattern::parse(&text, Case::Exact).unwrap();
    let name = [b"a".repeat(254), b"b".to_vec()].concat();
    let begin = std::time::Instant::now();
    assert!(!pattern.is_match(&name));
    assert!(pattern.is_match(&b"a".repeat(500)));
    assert!(begin.elapsed() < std::time::Duration::from_secs(2));
}
