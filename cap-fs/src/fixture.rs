//! A workspace in a temporary directory, and calls on it without the jail. For unit tests.

#[path = "../../tests/src/skip.rs"]
pub mod skip;

use crate::files::{Done, Files};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;
use warden_beneath::bounds::FileBound;
use warden_beneath::paths::OwnPaths;
use warden_beneath::pulse::Timer;
use warden_beneath::rules::Rules;
use warden_beneath::tree::Tree;
use warden_beneath::turns::Turns;
use warden_beneath::world::World;
use warden_proto::Text;
use warden_proto::blob::Body;
use warden_proto::msg::error::{CallError, ErrorCode};
use warden_proto::msg::fs::*;

pub const DENY: RuleKind = RuleKind::Deny;
pub const DENY_WRITE: RuleKind = RuleKind::DenyWrite;

/// Rules from `(glob, kind)`, their ids `rule[n]`.
fn setup(rules: &[(&str, RuleKind)]) -> Vec<PathRuleSetup> {
    let one = |(index, (glob, kind)): (usize, &(&str, RuleKind))| PathRuleSetup {
        glob: Text::new(*glob).unwrap(),
        kind: *kind,
        rule: Text::new(format!("rule[{index}]")).unwrap(),
    };
    rules.iter().enumerate().map(one).collect()
}

/// Workspaces `w0`, `w1`… in one temporary directory; rule ids `rule[n]`, grants `grant[n]`.
pub struct Fixture {
    dir: tempfile::TempDir,
    pub files: Files,
    /// By which this helper and others of its task take turns.
    turns: std::fs::File,
}

impl Fixture {
    /// As another process of the same task has them.
    pub fn turns(&self) -> Turns {
        Turns::open(self.turns.as_fd()).unwrap()
    }

    /// One writable workspace. `fill` runs before the helper looks at it.
    pub fn new(rules: &[(&str, RuleKind)], fill: impl FnOnce(&std::path::Path)) -> Self {
        Self::several(&[rules], |dir| fill(&dir.join("w0")), |_| {})
    }

    pub fn several(
        rules: &[&[(&str, RuleKind)]],
        fill: impl FnOnce(&std::path::Path),
        change: impl Fn(&mut Tree),
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let trees = rules.iter().enumerate().map(|(n, rules)| {
            let path = dir.path().join(format!("w{n}"));
            std::fs::create_dir(&path).unwrap();
            let root = open(&path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
            let mut tree = Tree {
                label: format!("w{n}"),
                writable: true,
                symlinks: true,
                max_file: FileBound { max_bytes: 1 << 20, rule: format!("max_file[{n}]") },
                rules: Rules::parse(&setup(rules)).unwrap(),
                grant: format!("grant[{n}]"),
                root,
            };
            change(&mut tree);
            tree
        });
        let trees = trees.collect();
        fill(dir.path());
        let turns = tempfile::tempfile().unwrap();
        let files = Files::new(World {
            trees,
            own: OwnPaths::open().unwrap(),
            growth_rule: "fs_written".to_owned(),
            turns: Turns::open(turns.as_fd()).unwrap(),
        });
        Self { dir, files, turns }
    }

    /// A path in the first workspace, on the host.
    pub fn host(&self, path: &str) -> PathBuf {
        self.dir.path().join("w0").join(path)
    }

    pub fn call(&mut self, call: FsHelperCall, contents: &[u8]) -> Result<Done, CallError> {
        self.order(FsOrder { call, growth_max: u64::MAX }, contents)
    }

    pub fn order(&mut self, order: FsOrder, contents: &[u8]) -> Result<Done, CallError> {
        self.files.perform(order, contents, &mut Timer::lasting(Duration::from_secs(30))).map_err(CallError::from)
    }

    pub fn ask(&mut self, call: FsHelperCall) -> Result<FsReply, CallError> {
        match self.call(call, &[])? {
            Done::Reply(reply) => Ok(reply),
            Done::Content { .. } => panic!("content came where a reply was due"),
        }
    }

    pub fn read(&mut self, path: &str) -> Result<Vec<u8>, CallError> {
        match self.call(FsCall::ReadFile { target: at(path), offset: 0, max_bytes: 1 << 20 }, &[])? {
            Done::Content { bytes, .. } => Ok(bytes),
            Done::Reply(other) => panic!("{other:?}"),
        }
    }

    pub fn write(&mut self, path: &str, contents: &[u8]) -> Result<FsReply, CallError> {
        self.write_with(path, contents, false, false)
    }

    pub fn write_with(&mut self, path: &str, bytes: &[u8], append: bool, parents: bool) -> Result<FsReply, CallError> {
        let contents = Body::Inline { bytes: warden_proto::Bytes::default() };
        match self.call(FsCall::WriteFile { target: at(path), contents, append, parents }, bytes)? {
            Done::Reply(reply) => Ok(reply),
            other => panic!("{other:?}"),
        }
    }

    pub fn open(&mut self, path: &str, flags: OpenFlags) -> Result<u32, CallError> {
        match self.ask(FsCall::OpenFile { target: at(path), flags })? {
            FsReply::Opened { handle, .. } => Ok(handle),
            other => panic!("{other:?}"),
        }
    }

    pub fn names(&mut self, path: &str) -> Vec<String> {
        let mut names = Vec::new();
        let mut after = 0;
        loop {
            match self.ask(FsCall::ListDir { target: at(path), after }).unwrap() {
                FsReply::Entries { entries, next, .. } => {
                    names.extend(entries.iter().map(|entry| entry.name.to_string()));
                    after = next;
                }
                other => panic!("{other:?}"),
            }
            if after == 0 {
                return names;
            }
        }
    }

    pub fn metadata(&mut self, path: &str) -> Result<Entry, CallError> {
        match self.ask(FsCall::Metadata { target: at(path) })? {
            FsReply::Metadata { entry } => Ok(entry),
            other => panic!("{other:?}"),
        }
    }

    pub fn rename(&mut self, from: &str, to: &str) -> Result<FsReply, CallError> {
        self.ask(FsCall::Rename { target: at(from), to: at(to) })
    }
}

/// In the first workspace.
pub fn at(path: &str) -> HelperTarget {
    within(0, path)
}

pub fn within(workspace: u16, path: &str) -> HelperTarget {
    HelperTarget::Workspace { workspace, path: Text::new(path).unwrap() }
}

/// The rule of a denial; anything else fails the test.
#[track_caller]
pub fn denied_by<T: std::fmt::Debug>(result: Result<T, CallError>) -> String {
    let error = result.expect_err("allowed");
    assert_eq!(error.code, ErrorCode::Denied, "{error:?}");
    error.rule.as_str().to_owned()
}

/// The code of a failure.
#[track_caller]
pub fn code<T: std::fmt::Debug>(result: Result<T, CallError>) -> ErrorCode {
    result.expect_err("it worked").code
}
