//! What lies in a command's private directory while the command runs (T-06).
//!
//! No quota of the file system bounds it, so the keeper counts it, and counts no further than the limit. It counts in turns,
//! because how long a count takes is the command's to choose (20 s for 190,000 directories) and the keeper has more to
//! look after. The command works in it meanwhile: what vanishes is skipped, what is moved counts once, no link is followed,
//! and a directory that the command has locked against its own user is opened while the count is in it. At most one
//! descriptor for each level is held, and of names only those of directories that are still due.

use super::footprint::FileId;
use nix::dir::{Dir, OwningIter};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmodat, fstat, fstatat};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Instant;

const OPEN_DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
/// What a name counts for at least: it costs its file system an inode and a place in a directory.
const NAME_BYTES: u64 = 1024;
/// Names of one directory tree, however much it may hold.
const NAMES_MAX: u64 = 200_000;
/// Of these, directories: each costs a count more than many files do.
const DIRECTORIES_MAX: u64 = 50_000;
/// Names of one directory between two looks at the clock.
const NAMES_PER_LOOK: u64 = 256;
/// Directories within directories; each is a descriptor of the keeper.
const DEPTH_MAX: usize = 500;
/// `st_blocks` counts in these, whatever the file system.
const BLOCK_BYTES: u64 = 512;

/// A count that went no further than it had to.
#[derive(Debug, Default)]
pub struct Contents {
    /// Bytes on the device, each name at least [`NAME_BYTES`].
    pub bytes: u64,
    /// Files, directories and links.
    pub names: u64,
    /// Deeper, or with more names, than is counted.
    pub too_many: bool,
    /// Its device is memory.
    pub in_memory: bool,
    /// Its files.
    pub files: BTreeSet<FileId>,
    directories: u64,
}

/// A count under way.
#[derive(Debug)]
pub struct Count {
    contents: Contents,
    bytes_max: u64,
    way: Vec<Level>,
}

/// One directory of the way down.
#[derive(Debug)]
struct Level {
    directory: OwnedFd,
    /// What is still to be read of it.
    listing: Option<OwningIter>,
    due: Vec<CString>,
    /// How it is named without opening it, and its mode before the count, where that had to be changed.
    locked: Option<(OwnedFd, Mode)>,
}

impl Count {
    /// Begins to count what is beneath `roots`, which are of one file system, until it is more than `bytes_max`.
    pub fn begin<'fd>(roots: impl Iterator<Item = BorrowedFd<'fd>>, bytes_max: u64) -> nix::Result<Self> {
        let (mut contents, mut way) = (Contents::default(), Vec::new());
        for root in roots {
            contents.in_memory = fstatfs(root)?.filesystem_type() == TMPFS_MAGIC;
            way.extend(Level::root(root)?);
        }
        Ok(Self { contents, bytes_max, way })
    }

    /// What has been counted.
    pub fn into_contents(self) -> Contents {
        self.contents
    }

    /// Goes on, past `until` by no more than one directory's opening. Says whether it is done.
    pub fn advance(&mut self, until: Instant) -> nix::Result<bool> {
        while let Some(level) = self.way.last_mut() {
            if self.contents.too_many || self.contents.bytes > self.bytes_max {
                break;
            }
            if level.listing.is_some() {
                self.contents.list(level, self.bytes_max)?;
            } else if let Some(name) = level.due.pop() {
                match Level::enter(level.directory.as_fd(), &name) {
                    Ok(Some(inner)) => self.way.push(inner),
                    Ok(None) => {}
                    Err(Errno::EMFILE) => self.contents.too_many = true,
                    Err(other) => return Err(other),
                }
                self.contents.too_many |= self.way.len() > DEPTH_MAX;
            } else {
                self.way.pop();
            }
            if Instant::now() >= until {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Contents {
    /// Adds some of what is in one directory, and notes its directories as due.
    fn list(&mut self, level: &mut Level, bytes_max: u64) -> nix::Result<()> {
        let enough = self.names.saturating_add(NAMES_PER_LOOK);
        while self.names < enough && self.bytes <= bytes_max && !self.too_many {
            let Some(entry) = level.listing.as_mut().and_then(Iterator::next) else {
                level.listing = None;
                return Ok(());
            };
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let Ok(status) = fstatat(&level.directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) else { continue };
            self.add(&status);
            if status.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits() {
                self.directories = self.directories.saturating_add(1);
                level.due.push(name.to_owned());
            }
        }
        Ok(())
    }

    fn add(&mut self, status: &FileStat) {
        self.names = self.names.saturating_add(1);
        self.too_many |= self.names > NAMES_MAX || self.directories >= DIRECTORIES_MAX;
        let regular = status.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFREG.bits();
        // A second name of a file, or the same one elsewhere by now, costs a name and no more.
        let again = regular && !self.files.insert((status.st_dev, status.st_ino));
        let blocks = u64::try_from(status.st_blocks).unwrap_or(0).saturating_mul(BLOCK_BYTES);
        let bytes = if again { 0 } else { blocks };
        self.bytes = self.bytes.saturating_add(bytes.max(NAME_BYTES));
    }
}

impl Level {
    /// Opens a directory of `above`; `None` where it has vanished or is none any more.
    fn enter(above: BorrowedFd<'_>, name: &CStr) -> nix::Result<Option<Self>> {
        match openat(above, name, OPEN_DIRECTORY, Mode::empty()) {
            Ok(directory) => Self::of(directory, None).map(Some),
            Err(Errno::EACCES) => Self::unlock(above, name),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// Opens one that is held, whatever mode the command has given it: by its name nobody could any more, the owner included.
    fn root(held: BorrowedFd<'_>) -> nix::Result<Option<Self>> {
        match openat(held, c".", OPEN_DIRECTORY, Mode::empty()) {
            Ok(directory) => return Self::of(directory, None).map(Some),
            Err(Errno::EACCES) => {}
            Err(other) => return Err(other),
        }
        let named = held.try_clone_to_owned().map_err(|_| Errno::EMFILE)?;
        let mode = Mode::from_bits_truncate(fstat(&named)?.st_mode);
        Self::unlocked(named, mode)
    }

    /// Opens one whose user may not, for as long as this lives. One that stays shut holds what it held when it was shut.
    fn unlock(above: BorrowedFd<'_>, name: &CStr) -> nix::Result<Option<Self>> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let Ok(named) = openat(above, name, flags, Mode::empty()) else { return Ok(None) };
        let mode = Mode::from_bits_truncate(fstat(&named)?.st_mode);
        Self::unlocked(named, mode)
    }

    fn unlocked(named: OwnedFd, mode: Mode) -> nix::Result<Option<Self>> {
        set_mode(&named, mode | Mode::S_IRUSR | Mode::S_IXUSR)?;
        let opened = openat(&named, ".", OPEN_DIRECTORY, Mode::empty());
        let Ok(directory) = opened else {
            let _ = set_mode(&named, mode);
            return Ok(None);
        };
        Self::of(directory, Some((named, mode))).map(Some)
    }

    fn of(directory: OwnedFd, locked: Option<(OwnedFd, Mode)>) -> nix::Result<Self> {
        let mut level = Self { directory, listing: None, due: Vec::new(), locked };
        level.listing = Some(Dir::openat(&level.directory, ".", OPEN_DIRECTORY, Mode::empty())?.into_iter());
        Ok(level)
    }
}

impl Drop for Level {
    fn drop(&mut self) {
        if let Some((named, mode)) = &self.locked {
            let _ = set_mode(named, *mode);
        }
    }
}

/// By the descriptor's own entry, because an O_PATH descriptor has no fchmod.
pub fn set_mode(named: &OwnedFd, mode: Mode) -> nix::Result<()> {
    let path = format!("/proc/self/fd/{}", named.as_raw_fd());
    fchmodat(AT_FDCWD, path.as_str(), mode, FchmodatFlags::FollowSymlink)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::Path;

    fn count(path: &Path, bytes_max: u64) -> Contents {
        let mut count = begun(path, bytes_max);
        while !count.advance(Instant::now()).unwrap() {}
        count.into_contents()
    }

    fn begun(path: &Path, bytes_max: u64) -> Count {
        Count::begin([std::fs::File::open(path).unwrap().as_fd()].into_iter(), bytes_max).unwrap()
    }

    #[test]
    fn a_count_is_made_in_turns_and_what_moves_meanwhile_counts_once() {
        let place = tempfile::tempdir().unwrap();
        for n in 0..100 {
            std::fs::create_dir(place.path().join(format!("{n}"))).unwrap();
            std::fs::write(place.path().join(format!("{n}/file")), vec![1; 64 << 10]).unwrap();
        }
        let mut count = begun(place.path(), u64::MAX);
        let (mut turns, mut moved) = (0, false);
        while !count.advance(Instant::now()).unwrap() {
            turns += 1;
            // From where it has been counted to each place that is still due: one of them is counted again.
            if !moved && count.contents.files.len() == 1 {
                let counted = |n: &u32| {
                    let facts = std::fs::metadata(place.path().join(format!("{n}/file"))).unwrap();
                    count.contents.files.contains(&(facts.dev(), facts.ino()))
                };
                let from = (0..100).find(counted).unwrap();
                for to in (0..100).filter(|to| *to != from) {
                    std::fs::hard_link(
                        place.path().join(format!("{from}/file")),
                        place.path().join(format!("{to}/again")),
                    )
                    .unwrap();
                }
                moved = true;
            }
        }
        let found = count.into_contents();
        assert!(turns > 100 && moved, "{turns} turns");
        assert_eq!((found.files.len(), found.names), (100, 299), "{}", found.bytes);
        assert!((6_400 << 10..7_600 << 10).contains(&found.bytes), "{}", found.bytes);
    }

    #[test]
    fn directories_are_bounded_before_they_make_a_count_long() {
        let mut contents = Contents { directories: DIRECTORIES_MAX - 1, ..Contents::default() };
        let status = nix::sys::stat::stat("/").unwrap();
        contents.add(&status);
        assert!(!contents.too_many);
        contents.directories += 1;
        contents.add(&status);
        assert!(contents.too_many);
    }

    #[test]
    fn everything_counts_once_and_nothing_outside() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("root");
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::write(place.path().join("outside"), vec![1; 1 << 20]).unwrap();
        symlink("../outside", root.join("link")).unwrap();
        symlink("..", root.join("a/up")).unwrap();
        std::fs::write(root.join("a/b/large"), vec![1; 64 << 10]).unwrap();
        std::fs::hard_link(root.join("a/b/large"), root.join("again")).unwrap();
        let found = count(&root, u64::MAX);
        assert_eq!((found.names, found.too_many), (6, false), "{found:?}");
        assert!((64 << 10..100 << 10).contains(&found.bytes), "{found:?}");
    }

    #[test]
    fn a_count_ends_at_its_limit_and_empty_files_reach_it_too() {
        let place = tempfile::tempdir().unwrap();
        for n in 0..200 {
            std::fs::write(place.path().join(format!("{n}")), "").unwrap();
        }
        let found = count(place.path(), 50 * NAME_BYTES);
        assert_eq!((found.names, found.bytes), (51, 51 * NAME_BYTES));
        assert_eq!(count(place.path(), u64::MAX).names, 200);
    }

    #[test]
    fn what_is_too_deep_is_said_and_what_is_not_is_counted() {
        let place = tempfile::tempdir().unwrap();
        let mut at = OwnedFd::from(std::fs::File::open(place.path()).unwrap());
        for level in 0..DEPTH_MAX + 10 {
            nix::sys::stat::mkdirat(&at, "d", Mode::S_IRWXU).unwrap();
            at = openat(&at, "d", OPEN_DIRECTORY, Mode::empty()).unwrap();
            if level == 100 {
                let found = count(place.path(), u64::MAX);
                assert_eq!((found.names, found.too_many), (101, false));
            }
        }
        assert!(count(place.path(), u64::MAX).too_many);
        drop(at);
        crate::keeper::private::remove_left(&std::fs::File::open(place.path()).unwrap().into(), c"d").unwrap();
    }

    /// As root this shows only that nothing is lost; the test of commands runs as nobody too.
    #[test]
    fn a_directory_that_is_shut_is_counted_and_shut_again() {
        let place = tempfile::tempdir().unwrap();
        let shut = place.path().join("shut");
        std::fs::create_dir(&shut).unwrap();
        std::fs::write(shut.join("file"), "").unwrap();
        std::fs::set_permissions(&shut, PermissionsExt::from_mode(0o300)).unwrap();
        assert_eq!(count(place.path(), u64::MAX).names, 2);
        assert_eq!(std::fs::metadata(&shut).unwrap().permissions().mode() & 0o7777, 0o300);
    }
}
