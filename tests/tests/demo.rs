//! The demo, as `make demo` runs it, and its counterpart with another bug planted.
//!
//! Everything in it is real but the model, which is a recording: repository, tests, git, jails, denials, log. The second run
//! shows that the first is not done merely because the recording says so (T-15).
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// `warden` of the same build as this test: in the folder above that of test programs.
fn warden() -> PathBuf {
    let own = std::env::current_exe().expect("this program has a path");
    let warden = own.ancestors().nth(2).expect("target/PROFILE/deps/NAME").join("warden");
    assert!(warden.is_file(), "{} is not there: `cargo build --workspace` comes first", warden.display());
    warden
}

fn demo(arguments: &[&str]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/demo/run");
    let demo = Command::new(script).args(arguments).env("WARDEN", warden()).stdin(Stdio::null()).output();
    demo.expect("the demo starts")
}

fn text(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn the_planted_bug_is_found_mended_and_committed() {
    let output = demo(&[]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    for expected in [
        "done: ",
        "  met: command python3 -m unittest",
        "  denied: fs.read_file /etc/passwd [default-deny]",
        "  denied: proc.spawn curl",
        "Demo Agent: Return the mean of the middle two for an even median",
        "intact: ",
    ] {
        assert!(said.contains(expected), "{expected:?} is missing in:\n{said}");
    }
}

#[test]
fn with_another_bug_the_same_recording_fails() {
    let output = demo(&["--other-bug"]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("failed: the recording does not match"), "{said}");
    assert!(!said.contains("Demo Agent:") && said.contains("no SUMMARY.md") && said.contains("intact: "), "{said}");
}

#[test]
fn a_word_that_the_demo_does_not_know_is_refused() {
    let output = demo(&["--nonsense"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("usage: examples/demo/run"), "{}", text(&output));
}
