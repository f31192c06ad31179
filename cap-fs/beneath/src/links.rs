//! Files with several names, one of which may be denied.
//!
//! Runs in the process that acts. A hard link is a second name of a file, so a rule on names alone could be walked around by linking
//! (T-02). Ordinary tools make them all the time, so they are not refused: the device and inode of every file with a
//! denied name, in any workspace of the task, are collected when the helper starts, and a file with several names is
//! judged by them too.
//!
//! Nobody inside the task can give a denied file a second name: cap-fs makes no hard links, and commands are refused it.
//! Somebody outside can; so the collection is taken again when a file with several names is asked for and the last one is
//! old, measured by what it cost, so that no more than a twentieth of the time goes into it. What is linked and used within
//! that span, by two parties one of which is outside, is not seen, nor are names in directories of other users that this one
//! cannot read. A directory of this user's that is shut to it leaves the collection incomplete. Nobody of the task moves
//! anything while it is taken ([`crate::turns`]): a folder that went from where the walk has not been to where it has been
//! would be missed, with the denied names in it.

use crate::errors::OpError;
use crate::glob::Case;
use crate::paths;
use crate::pulse::{Pulse, Timer};
use crate::rules::{Rule, Standing, Want};
use crate::tree::Tree;
use crate::walk::{Step, Walk};
use crate::world::World;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FileStat, SFlag, fstatat};
use nix::unistd::geteuid;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

/// Longest time for one collection.
const COLLECT_MAX: Duration = Duration::from_millis(1500);
/// A collection is kept for this many times what it took, and at least [`KEPT_MIN`].
const KEPT_FACTOR: u32 = 20;
/// See [`KEPT_FACTOR`].
const KEPT_MIN: Duration = Duration::from_secs(1);
/// Inodes remembered.
const INODES_MAX: usize = 1_000_000;

/// A rule: number of the workspace, number in its rules.
type RuleAt = (usize, usize);

/// The files that have a denied name.
#[derive(Debug)]
pub struct DeniedInodes {
    rules: HashMap<(u64, u64), RuleAt>,
    /// Whether the walk came to its end.
    complete: bool,
    /// When; `None` before the first time.
    taken: Option<Instant>,
    cost: Duration,
}

impl DeniedInodes {
    /// Nothing is known yet: the workspaces are walked when a file with several names is first asked for.
    pub fn unasked() -> Self {
        Self { rules: HashMap::new(), complete: false, taken: None, cost: Duration::ZERO }
    }

    /// Walks every workspace that has rules.
    pub fn collect(world: &World) -> Self {
        let started = Instant::now();
        let mut found = Self { rules: HashMap::new(), complete: true, taken: Some(started), cost: Duration::ZERO };
        let turn = world.turns.to_walk();
        found.complete = turn.is_ok();
        let mut timer = Timer::lasting(COLLECT_MAX);
        for (index, tree) in world.trees.iter().enumerate().filter(|(_, tree)| !tree.rules.is_empty()) {
            if found.collect_tree(index, tree, &mut timer).is_err() {
                found.complete = false;
            }
        }
        found.cost = started.elapsed();
        found.taken = Some(Instant::now());
        found
    }

    /// Whether every workspace was walked to its end.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    fn collect_tree(&mut self, index: usize, tree: &Tree, pulse: &mut dyn Pulse) -> Result<(), OpError> {
        let root = crate::paths::RelPath::default();
        let fd = tree.open_beneath(tree.root.as_fd(), &root, OFlag::O_RDONLY | OFlag::O_DIRECTORY, &tree.label)?;
        let mut walk = Walk::new(tree, None, fd, root)?;
        loop {
            match walk.next(pulse) {
                // T-02: a command may change modes, and so could hide a denied name from us by shutting a folder around it.
                Ok(None) if walk.met_shut() => return Err(OpError::Limit("a folder of ours is shut".to_owned())),
                Ok(None) => return Ok(()),
                Ok(Some(Step::Found { name })) => self.look(index, tree, &walk, &name)?,
                Ok(Some(_)) => {}
                Err(error) if passable(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn look(&mut self, index: usize, tree: &Tree, walk: &Walk<'_>, name: &[u8]) -> Result<(), OpError> {
        let Some(level) = walk.here() else { return Ok(()) };
        if !tree.rules.may_cover(&level.standing, name) {
            return Ok(());
        }
        let standing: Standing = tree.rules.advance(&level.standing, name);
        let rule = tree.rules.covering(&standing, Case::Exact).or_else(|| {
            let folded = tree.rules.covering(&standing, Case::Folded)?;
            tree.folds_case_on(&level.path.join(name)).then_some(folded)
        });
        let Some(rule) = rule else { return Ok(()) };
        let stat = match fstatat(level, OsStr::from_bytes(name), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::ENOENT) => return Ok(()),
            // A folder that may be listed and not gone through.
            Err(_) => return Err(OpError::Limit("a denied file cannot be looked at".to_owned())),
        };
        if paths::kind(&stat) != SFlag::S_IFREG {
            return Ok(());
        }
        if self.rules.len() >= INODES_MAX {
            return Err(OpError::Limit("too many denied files".to_owned()));
        }
        self.remember(tree, (stat.st_dev, stat.st_ino), (index, rule));
        Ok(())
    }

    /// A rule that hides is not replaced by one that only keeps unchanged; across workspaces the first stays.
    fn remember(&mut self, tree: &Tree, inode: (u64, u64), rule: RuleAt) {
        let hides = tree.rules.get(rule.1).is_some_and(|rule| rule.forbids(Want::See));
        let entry = self.rules.entry(inode).or_insert(rule);
        if hides {
            *entry = rule;
        }
    }

    /// Whether this may be done with a file, as far as its other names say.
    pub fn allow(
        &mut self,
        world: &World,
        tree: &Tree,
        stat: &FileStat,
        want: Want,
        shown: &str,
    ) -> Result<(), OpError> {
        if stat.st_nlink <= 1 || paths::kind(stat) != SFlag::S_IFREG {
            return Ok(());
        }
        self.refresh(world);
        if let Some(rule) = self.rule_on(world, stat).filter(|rule| rule.forbids(want)) {
            return Err(OpError::denied(&rule.id, shown, "is another name of a denied file"));
        }
        let hiding = world.trees.iter().any(|tree| tree.rules.hide());
        if !self.complete && (want == Want::Change || hiding) {
            let why = "has several names, and the workspaces are too large to find out whether one of them is denied";
            return Err(OpError::denied(&tree.grant, shown, why));
        }
        Ok(())
    }

    /// The same for a write into the file, which must be ours if it has several names.
    pub fn allow_write(&mut self, world: &World, tree: &Tree, stat: &FileStat, shown: &str) -> Result<(), OpError> {
        self.allow(world, tree, stat, Want::Change, shown)?;
        if stat.st_nlink > 1 && paths::kind(stat) == SFlag::S_IFREG && stat.st_uid != geteuid().as_raw() {
            return Err(OpError::denied(&tree.grant, shown, "has several names and belongs to another user"));
        }
        Ok(())
    }

    /// Whether a file is known to be hidden under another name; for listings, without collecting again.
    pub fn hidden(&self, world: &World, stat: &FileStat) -> bool {
        stat.st_nlink > 1 && self.rule_on(world, stat).is_some_and(|rule| rule.forbids(Want::See))
    }

    fn rule_on<'w>(&self, world: &'w World, stat: &FileStat) -> Option<&'w Rule> {
        let (tree, rule) = self.rules.get(&(stat.st_dev, stat.st_ino))?;
        world.trees.get(*tree)?.rules.get(*rule)
    }

    fn refresh(&mut self, world: &World) {
        let kept = self.cost.saturating_mul(KEPT_FACTOR).max(KEPT_MIN);
        let old = self.taken.is_none_or(|taken| taken.elapsed() > kept);
        if old && world.trees.iter().any(|tree| !tree.rules.is_empty()) {
            *self = Self::collect(world);
        } else if self.taken.is_none() {
            // No rule anywhere: nothing that could be denied.
            *self = Self { complete: true, taken: Some(Instant::now()), ..Self::unasked() };
        }
    }
}

/// What a collection passes over: gone meanwhile, unreadable to us, another file system (no hard link crosses it).
fn passable(error: &OpError) -> bool {
    matches!(error.errno(), Some(Errno::ENOENT | Errno::EACCES | Errno::EPERM | Errno::ENOTDIR | Errno::ELOOP))
        || matches!(error, OpError::Denied { .. })
}
