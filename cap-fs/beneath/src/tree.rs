//! One workspace: its directory, its mode, its rules, and the one way in which anything beneath it is opened.
//!
//! Runs in the process that acts. Every open is an `openat2` beneath a directory that was itself opened so, and nothing is acted on before
//! the kernel has said what it is and where it lies ([`Tree::judge_opened`]): a name is a wish, the descriptor is the fact (T-02).

use crate::bounds::FileBound;
use crate::errors::OpError;
use crate::glob::Case;
use crate::paths::{self, OwnPaths, RelPath};
use crate::rules::{Rule, Rules, Standing, Want};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, Mode, SFlag};
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// How often an open or a creation is tried again when the tree changes under it.
pub const ATTEMPTS: usize = 16;

/// A workspace.
#[derive(Debug)]
pub struct Tree {
    /// For messages.
    pub label: String,
    /// Whether anything beneath may be changed.
    pub writable: bool,
    /// Whether links inside are followed.
    pub symlinks: bool,
    /// Longest file that may come about.
    pub max_file: FileBound,
    /// What is denied beneath it.
    pub rules: Rules,
    /// The rule that grants it.
    pub grant: String,
    /// Its directory, O_PATH, opened by the spawner.
    pub root: OwnedFd,
}

/// Something that was opened and judged.
#[derive(Debug)]
pub struct Opened {
    /// The descriptor.
    pub fd: OwnedFd,
    /// What it is.
    pub stat: FileStat,
    /// Where it lies.
    pub path: RelPath,
}

impl Tree {
    /// Opens `path` beneath `base`, which lies in this workspace. Never creates, truncates, blocks, or takes a terminal.
    pub fn open_beneath(
        &self,
        base: BorrowedFd<'_>,
        path: &RelPath,
        flags: OFlag,
        shown: &str,
    ) -> Result<OwnedFd, OpError> {
        let flags = flags.difference(OFlag::O_CREAT | OFlag::O_TRUNC);
        self.openat(base, path, flags, Mode::empty(), shown)
    }

    /// Makes a file that was not there, in a directory that was judged.
    pub fn create_in(&self, dir: BorrowedFd<'_>, name: &[u8], flags: OFlag, shown: &str) -> Result<OwnedFd, OpError> {
        let flags = flags | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
        let mode = Mode::from_bits_truncate(0o644);
        self.openat(dir, &RelPath::default().join(name), flags, mode, shown)
    }

    fn openat(
        &self,
        base: BorrowedFd<'_>,
        path: &RelPath,
        flags: OFlag,
        mode: Mode,
        shown: &str,
    ) -> Result<OwnedFd, OpError> {
        let mut flags = flags | OFlag::O_CLOEXEC;
        if !flags.contains(OFlag::O_PATH) {
            flags |= OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        }
        let how = OpenHow::new().flags(flags).mode(mode).resolve(self.resolve());
        let mut attempt = 0_usize;
        loop {
            attempt = attempt.saturating_add(1);
            match openat2(base, path.as_os(), how) {
                // The kernel saw the tree change while it walked a `..` in a link, and would not guess.
                Err(Errno::EAGAIN | Errno::EINTR) if attempt < ATTEMPTS => continue,
                Err(errno) => return Err(self.refused(errno, flags, shown)),
                Ok(fd) => return Ok(fd),
            }
        }
    }

    /// T-01: beneath, on one file system, through no magic link, and through no link at all where the policy says so.
    fn resolve(&self) -> ResolveFlag {
        let flags = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS | ResolveFlag::RESOLVE_NO_XDEV;
        if self.symlinks { flags } else { flags | ResolveFlag::RESOLVE_NO_SYMLINKS }
    }

    fn refused(&self, errno: Errno, flags: OFlag, shown: &str) -> OpError {
        let why = match errno {
            Errno::EXDEV => format!("leads out of workspace `{}` or onto another file system", self.label),
            Errno::ELOOP if self.symlinks => {
                "passes through links without end, or one that may not be followed".to_owned()
            }
            Errno::ELOOP => format!("passes through a link, which workspace `{}` does not allow", self.label),
            // What a pipe nobody reads, a socket, or a device without a driver answers to an open.
            Errno::ENXIO | Errno::ENODEV if !flags.contains(OFlag::O_PATH) => NOT_PLAIN.to_owned(),
            other => return OpError::system("open", shown)(other),
        };
        OpError::denied(&self.grant, shown, &why)
    }

    /// Asks what `fd` is and where it lies, and judges that.
    pub fn judge_opened(&self, own: &OwnPaths, fd: OwnedFd, want: Want, shown: &str) -> Result<Opened, OpError> {
        let stat = paths::facts(&fd).map_err(OpError::system("look at", shown))?;
        let path = self.own_path(own, fd.as_fd(), &stat, shown)?;
        self.allow(&path, want, shown)?;
        Ok(Opened { fd, stat, path })
    }

    /// Where `fd` lies beneath the root.
    pub fn own_path(
        &self,
        own: &OwnPaths,
        fd: BorrowedFd<'_>,
        stat: &FileStat,
        shown: &str,
    ) -> Result<RelPath, OpError> {
        let failed = OpError::system("find the place of", shown);
        for _ in 0..ATTEMPTS {
            // Not beneath it: the root may have been renamed between the two questions, so ask again.
            let Some(path) = own.beneath(self.root.as_fd(), fd).map_err(&failed)? else { continue };
            if !self.is_still_there(&path, stat) {
                return Err(OpError::NotFound(format!("`{shown}` was removed while it was opened")));
            }
            return Ok(path);
        }
        Err(OpError::denied(&self.grant, shown, &format!("lies outside of workspace `{}`", self.label)))
    }

    /// Whether something that said that it lies at `path` was not removed just then.
    pub fn is_still_there(&self, path: &RelPath, stat: &FileStat) -> bool {
        stat.st_nlink > 0 && (!paths::may_be_deleted(path) || self.is_at(path, stat))
    }

    /// Whether this very file has this very name.
    fn is_at(&self, path: &RelPath, stat: &FileStat) -> bool {
        let found = self.entry(self.root.as_fd(), path.as_os());
        found.is_some_and(|(_, found)| (found.st_dev, found.st_ino) == (stat.st_dev, stat.st_ino))
    }

    /// What has this name, itself.
    fn entry(&self, base: BorrowedFd<'_>, path: &OsStr) -> Option<(OwnedFd, FileStat)> {
        let resolve = self.resolve() | ResolveFlag::RESOLVE_NO_SYMLINKS;
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat2(base, path, OpenHow::new().flags(flags).resolve(resolve)).ok()?;
        let stat = paths::facts(&fd).ok()?;
        Some((fd, stat))
    }

    /// Whether the rules and the mode allow this with a path.
    pub fn allow(&self, path: &RelPath, want: Want, shown: &str) -> Result<(), OpError> {
        self.allow_at(&self.rules.at(path), path, want, shown)
    }

    /// The same, for who has walked to the path and knows the rules' state there.
    pub fn allow_at(&self, standing: &Standing, path: &RelPath, want: Want, shown: &str) -> Result<(), OpError> {
        if let Some(rule) = self.rule_against(standing, path, want) {
            let why = if rule.forbids(Want::See) { "is denied" } else { "may be read, not changed" };
            return Err(OpError::denied(&rule.id, shown, why));
        }
        if want == Want::Change && !self.writable {
            let why = format!("lies in workspace `{}`, which is read-only", self.label);
            return Err(OpError::denied(&self.grant, shown, &why));
        }
        Ok(())
    }

    /// The rule that says no, if one does; the workspace's mode is not asked.
    pub fn rule_against(&self, standing: &Standing, path: &RelPath, want: Want) -> Option<&Rule> {
        let judgement = self.rules.judge(standing, want);
        judgement.exact.or_else(|| judgement.folded.filter(|_| self.folds_case_on(path)))
    }

    /// T-02: a directory stays where it is while a rule could match beneath its name because of that name.
    pub fn allow_move(&self, path: &RelPath, shown: &str) -> Result<(), OpError> {
        self.allow_move_at(&self.rules.at(path), path, shown)
    }

    /// The same, for who has walked to the path and knows the rules' state there.
    pub fn allow_move_at(&self, standing: &Standing, path: &RelPath, shown: &str) -> Result<(), OpError> {
        let folded = || self.rules.pinning(standing, Case::Folded).filter(|_| self.folds_case_on(path));
        match self.rules.pinning(standing, Case::Exact).or_else(folded) {
            Some(rule) => {
                Err(OpError::denied(&rule.id, shown, "is a directory whose name decides what is denied beneath it"))
            }
            None => Ok(()),
        }
    }

    /// Whether a directory on the way to `path` compares names without case.
    ///
    /// Asked only where a rule matches without case and not with it. A directory folds case if a name in it, its case
    /// swapped, is the same file; two hard links whose names differ only so are taken for that too, which denies more, not
    /// less. A name that does not exist yet cannot be asked about: it is judged again once it has been made. Folding beyond
    /// the letters' case (ligatures, accents written apart) is not known here. Each directory is opened from the one above it,
    /// so that a path of 2,000 names costs 2,000 steps, not their square (T-06).
    pub fn folds_case_on(&self, path: &RelPath) -> bool {
        let mut above: Option<OwnedFd> = None;
        for name in path.names() {
            let directory = above.as_ref().map_or(self.root.as_fd(), AsFd::as_fd);
            let Some((here, stat)) = self.entry(directory, OsStr::from_bytes(name)) else { return false };
            let swapped = swapped_case(name);
            if swapped != name
                && let Some((_, other)) = self.entry(directory, OsStr::from_bytes(&swapped))
                && (other.st_dev, other.st_ino) == (stat.st_dev, stat.st_ino)
            {
                return true;
            }
            above = Some(here);
        }
        false
    }

    /// T-03: a pipe, a socket or a device is never read or written.
    pub fn plain(&self, stat: &FileStat, shown: &str) -> Result<(), OpError> {
        match paths::kind(stat) {
            SFlag::S_IFREG | SFlag::S_IFDIR => Ok(()),
            _ => Err(OpError::denied(&self.grant, shown, NOT_PLAIN)),
        }
    }
}

const NOT_PLAIN: &str = "is neither a regular file nor a directory";

fn swapped_case(name: &[u8]) -> Vec<u8> {
    let swap =
        |c: char| -> String { if c.is_lowercase() { c.to_uppercase().collect() } else { c.to_lowercase().collect() } };
    match std::str::from_utf8(name) {
        Ok(text) => text.chars().map(swap).collect::<String>().into_bytes(),
        Err(_) => name
            .iter()
            .map(|b| if b.is_ascii_lowercase() { b.to_ascii_uppercase() } else { b.to_ascii_lowercase() })
            .collect(),
    }
}
