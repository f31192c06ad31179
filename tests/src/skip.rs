//! Saying that a test, or a part of it, cannot run here. One file for the tests of every package, which take it in by its
//! path, so that one word forbids it everywhere and nothing is skipped without a word.

/// Says why. Fails where nothing may be skipped: `.ci/run` demands that of a run as root.
pub fn skipped(why: &str) {
    eprintln!("SKIPPED: {why}");
    assert!(std::env::var_os("WARDEN_TESTS_SKIP_NOTHING").is_none(), "nothing may be skipped in this run: {why}");
}
