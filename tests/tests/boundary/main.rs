//! Who may import whom, and where the dangerous words may stand.
//!
//! The jails hold processes; these checks hold the source: that the broker cannot come to link an engine or a parser of
//! hostile content, that no helper reaches into another, that `unsafe`, forks and sockets stay in the few files that
//! reviewers read (T-03, T-05, T-10). Each rule is tried on a fabricated offence too, so that a rule that finds nothing is
//! known to be able to find something.
#![forbid(unsafe_code)]

mod documents;
mod graph;
mod imports;
mod sources;
mod words;

use std::path::{Path, PathBuf};

/// The root of the tree.
fn tree() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the tree").to_owned()
}
