//! Files on which the next run depends, found name by name: our programs, policies, manifests, recordings.
//!
//! Used by the broker before there is a task; it trusts root and the caller. T-10, T-02: what counts is not only where a
//! path leads but who can lead it elsewhere tomorrow. So every directory on the way, also those that a link passes
//! through, belongs to root or the caller and is writable by nobody else (sticky directories excepted), every link on the
//! way belongs to them, and the identities of all these directories are kept, to be compared with workspaces.

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

/// Links of one path, as the kernel counts them.
const LINKS_MAX: u32 = 40;
/// Names of one path with those of its links.
const NAMES_MAX: u32 = 4096;

/// Device and inode.
pub type FileIdentity = (u64, u64);

/// A regular file that nobody but root and the caller can replace or change.
#[derive(Debug)]
pub struct Trusted {
    /// Open for reading.
    pub file: OwnedFd,
    /// Where it really is.
    pub real: PathBuf,
    /// The file and every directory that was passed on the way to it.
    pub passed: Vec<FileIdentity>,
}

/// A path cannot be used, or not be trusted.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The system refused.
    #[error("{0}")]
    System(#[from] Errno),
    /// Somebody else could change it.
    #[error("{blame} {why}")]
    Untrusted {
        /// The file, link or directory.
        blame: PathBuf,
        /// Why.
        why: &'static str,
    },
}

/// Opens the regular file at `path`; `owners` are who may own it and what lies on the way.
pub fn open_file(path: &Path, owners: &[u32]) -> Result<Trusted, TrustError> {
    let mut walk = Walk::begin(Some(owners))?;
    let Some((name, seen)) = walk.follow(path)? else { return Err(Errno::EINVAL.into()) };
    let real = walk.real().join(&name);
    // Checked before it is opened: opening a device may do something, and a FIFO would hold us up.
    if kind(&seen) != SFlag::S_IFREG {
        return Err(Errno::EINVAL.into());
    }
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOCTTY | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW;
    let file = openat(walk.here()?, name.as_os_str(), flags, Mode::empty())?;
    let facts = fstat(&file)?;
    if identity(&facts) != identity(&seen) {
        return Err(Errno::EAGAIN.into());
    }
    if let Some(why) = changeable(&facts, owners) {
        return Err(TrustError::Untrusted { blame: real, why });
    }
    walk.passed.push(identity(&facts));
    Ok(Trusted { file, real, passed: walk.passed })
}

/// `path` from `/`. What it leads with of `..` is taken from where the caller stands, as the kernel would: from inside a
/// workspace `../run.jsonl` is beside it and was not reached through it. A `..` after a name stays, for the walk to judge.
pub fn absolute(path: &Path) -> Result<PathBuf, Errno> {
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    // The kernel's own name of the place: no link in it, so its parent is the name before.
    let mut whole = nix::unistd::getcwd()?;
    if !whole.is_absolute() {
        return Err(Errno::ENOENT);
    }
    let mut leading = true;
    for component in path.components() {
        match component {
            Component::ParentDir if leading => drop(whole.pop()),
            Component::CurDir => {}
            other => {
                leading = false;
                whole.push(other);
            }
        }
    }
    Ok(whole)
}

/// Every directory that `path` passes through, as far as it exists; judges no owner.
pub fn passed(path: &Path) -> Vec<FileIdentity> {
    let Ok(mut walk) = Walk::begin(None) else { return Vec::new() };
    if let Ok(Some((_, facts))) = walk.follow(path) {
        walk.passed.push(identity(&facts));
    }
    walk.passed
}

/// A walk from `/`, one name at a time, no link followed by the kernel.
struct Walk<'a> {
    /// None: nothing is judged.
    owners: Option<&'a [u32]>,
    /// The directories from `/` to here, with their names.
    way: Vec<(OwnedFd, OsString)>,
    passed: Vec<FileIdentity>,
    links: u32,
    names: u32,
}

impl<'a> Walk<'a> {
    fn begin(owners: Option<&'a [u32]>) -> Result<Self, TrustError> {
        let mut walk = Self { owners, way: Vec::new(), passed: Vec::new(), links: 0, names: 0 };
        let root = open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        let facts = fstat(&root)?;
        walk.enter(root, OsString::new(), &facts)?;
        Ok(walk)
    }

    /// Goes to `path`. What is no directory is left unopened, by its name in the last one.
    fn follow(&mut self, path: &Path) -> Result<Option<(OsString, FileStat)>, TrustError> {
        let path = absolute(path)?;
        let mut waiting = Vec::new();
        add(&mut waiting, &path);
        while let Some(step) = waiting.pop() {
            self.names = self.names.saturating_add(1);
            if self.names > NAMES_MAX {
                return Err(Errno::ENAMETOOLONG.into());
            }
            match step {
                Step::Root => self.way.truncate(1),
                Step::Up if self.way.len() > 1 => drop(self.way.pop()),
                Step::Up => {}
                Step::Down(name) => {
                    if let Some(facts) = self.descend(&name, &mut waiting)? {
                        return if waiting.is_empty() { Ok(Some((name, facts))) } else { Err(Errno::ENOTDIR.into()) };
                    }
                }
            }
        }
        Ok(None)
    }

    /// One name: into a directory, or a link's steps put before the rest. What is neither comes back.
    fn descend(&mut self, name: &OsStr, waiting: &mut Vec<Step>) -> Result<Option<FileStat>, TrustError> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let found = openat(self.here()?, name, flags, Mode::empty())?;
        let facts = fstat(&found)?;
        match kind(&facts) {
            SFlag::S_IFDIR => self.enter(found, name.to_owned(), &facts)?,
            SFlag::S_IFLNK => {
                self.links = self.links.saturating_add(1);
                if self.links > LINKS_MAX {
                    return Err(Errno::ELOOP.into());
                }
                // Whoever owns a link can replace it even in a sticky directory.
                if self.owners.is_some_and(|owners| !owners.contains(&facts.st_uid)) {
                    return Err(TrustError::Untrusted {
                        blame: self.real().join(name),
                        why: "is a link of another user",
                    });
                }
                add(waiting, Path::new(&readlinkat(&found, "")?));
            }
            _ => return Ok(Some(facts)),
        }
        Ok(None)
    }

    fn enter(&mut self, dir: OwnedFd, name: OsString, facts: &FileStat) -> Result<(), TrustError> {
        if let Some(why) = self.owners.and_then(|owners| changeable(facts, owners)) {
            let blame = if self.way.is_empty() { PathBuf::from("/") } else { self.real().join(name) };
            return Err(TrustError::Untrusted { blame, why });
        }
        self.passed.push(identity(facts));
        self.way.push((dir, name));
        Ok(())
    }

    fn here(&self) -> Result<impl AsFd + '_, Errno> {
        self.way.last().map(|(dir, _)| dir).ok_or(Errno::EBADF)
    }

    fn real(&self) -> PathBuf {
        let mut path = PathBuf::from("/");
        path.extend(self.way.iter().skip(1).map(|(_, name)| name));
        path
    }
}

enum Step {
    Root,
    Up,
    Down(OsString),
}

/// Puts the names of `path` before what is waiting.
fn add(waiting: &mut Vec<Step>, path: &Path) {
    waiting.extend(path.components().rev().filter_map(|component| match component {
        Component::RootDir | Component::Prefix(_) => Some(Step::Root),
        Component::ParentDir => Some(Step::Up),
        Component::CurDir => None,
        Component::Normal(name) => Some(Step::Down(name.to_owned())),
    }));
}

fn kind(facts: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(facts.st_mode & SFlag::S_IFMT.bits())
}

fn identity(facts: &FileStat) -> FileIdentity {
    (facts.st_dev, facts.st_ino)
}

/// Why somebody else than `owners` could change a file, or what is in a directory, if somebody could.
fn changeable(facts: &FileStat, owners: &[u32]) -> Option<&'static str> {
    if !owners.contains(&facts.st_uid) {
        return Some("belongs to another user");
    }
    let sticky = kind(facts) == SFlag::S_IFDIR && facts.st_mode & 0o1000 != 0;
    (facts.st_mode & 0o022 != 0 && !sticky).then_some("can be written by its group or by everybody")
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::lstat;
    use nix::unistd::{getuid, symlinkat};
    use std::os::unix::fs::{PermissionsExt, lchown, symlink};

    fn us() -> [u32; 2] {
        [0, getuid().as_raw()]
    }

    fn folder(path: PathBuf, mode: u32) -> PathBuf {
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn file(path: PathBuf) -> PathBuf {
        std::fs::write(&path, "x").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        path
    }

    fn is(path: &Path) -> FileIdentity {
        identity(&lstat(path).unwrap())
    }

    #[test]
    fn what_leads_out_of_the_own_folder_was_not_reached_through_it_and_what_comes_back_was() {
        let here = nix::unistd::getcwd().unwrap();
        assert_eq!(absolute(Path::new("../run.jsonl")).unwrap(), here.parent().unwrap().join("run.jsonl"));
        assert_eq!(absolute(Path::new("./../a/../b")).unwrap(), here.parent().unwrap().join("a/../b"));
        assert_eq!(absolute(Path::new("a/../b")).unwrap(), here.join("a/../b"));
        assert_eq!(absolute(Path::new("/x/../b")).unwrap(), Path::new("/x/../b"));
        let passes = |path: &str| passed(Path::new(path)).contains(&is(&here));
        assert!(!passes("../none") && passes("none"));
    }

    #[test]
    fn the_folder_of_a_link_on_the_way_is_passed_and_a_folder_beside_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let workspace = folder(dir.path().join("workspace"), 0o755);
        let elsewhere = folder(dir.path().join("elsewhere"), 0o755);
        let target = file(elsewhere.join("tool"));
        symlink(&target, workspace.join("tool")).unwrap();
        symlink("../elsewhere", workspace.join("folder")).unwrap();
        for by_link in ["tool", "folder/tool"] {
            let found = open_file(&workspace.join(by_link), &us()).unwrap();
            assert_eq!(found.real, target);
            assert!(found.passed.contains(&is(&workspace)), "{by_link}");
            assert!(found.passed.contains(&is(&elsewhere)) && found.passed.contains(&is(&target)), "{by_link}");
        }
        let direct = open_file(&target, &us()).unwrap();
        assert!(!direct.passed.contains(&is(&workspace)), "what is not on the way is not blamed");
    }

    #[test]
    fn a_folder_that_only_a_link_passes_is_judged_too() {
        let dir = tempfile::tempdir().unwrap();
        let target = file(dir.path().join("tool"));
        let open_to_all = folder(dir.path().join("open"), 0o777);
        symlink(&target, open_to_all.join("tool")).unwrap();
        symlink(open_to_all.join("../tool"), dir.path().join("round")).unwrap();
        for path in [open_to_all.join("tool"), dir.path().join("round")] {
            assert!(
                matches!(open_file(&path, &us()), Err(TrustError::Untrusted { blame, .. }) if blame == open_to_all),
                "{path:?}"
            );
        }
        std::fs::set_permissions(&open_to_all, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(open_file(&dir.path().join("round"), &us()).unwrap().real, target);
    }

    #[test]
    fn a_link_of_another_user_in_a_sticky_folder_is_refused_and_ours_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let target = file(dir.path().join("tool"));
        let sticky = folder(dir.path().join("sticky"), 0o1777);
        let link = sticky.join("tool");
        symlink(&target, &link).unwrap();
        assert!(open_file(&link, &us()).is_ok());
        if !getuid().is_root() {
            crate::skip::skipped("only root can give a link away");
            return;
        }
        lchown(&link, Some(65_534), None).unwrap();
        assert!(matches!(open_file(&link, &us()), Err(TrustError::Untrusted { blame, .. }) if blame == link));
    }

    #[test]
    fn links_in_a_ring_and_what_is_no_file_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        symlinkat("ring", open(dir.path(), OFlag::O_PATH, Mode::empty()).unwrap(), "ring").unwrap();
        assert!(matches!(open_file(&dir.path().join("ring"), &us()), Err(TrustError::System(Errno::ELOOP))));
        assert!(matches!(open_file(dir.path(), &us()), Err(TrustError::System(Errno::EINVAL))));
        assert!(matches!(open_file(Path::new("/dev/null"), &us()), Err(TrustError::System(Errno::EINVAL))));
        let plain = file(dir.path().join("plain"));
        assert!(matches!(open_file(&plain.join("below"), &us()), Err(TrustError::System(Errno::ENOTDIR))));
        assert!(matches!(open_file(&dir.path().join("gone"), &us()), Err(TrustError::System(Errno::ENOENT))));
        assert!(open_file(&plain, &us()).is_ok());
    }

    #[test]
    fn what_does_not_exist_yet_passes_what_does() {
        let dir = tempfile::tempdir().unwrap();
        let there = folder(dir.path().join("there"), 0o777);
        assert!(passed(&there.join("not/yet")).contains(&is(&there)));
        assert!(!passed(&dir.path().join("not/yet")).contains(&is(&there)));
    }
}
