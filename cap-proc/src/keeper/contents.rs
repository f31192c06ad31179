//! What lies in a command's private directory while the command runs (T-06).
//!
//! No quota of the file system bounds it, so the keeper counts it, and counts no further than the limit. The command
//! works in it meanwhile: what vanishes is skipped, no link is followed, and a directory that the command has locked
//! against its own user is opened for the time of the count. Changes of mode go through the keeper, so none can come
//! between. At most one descriptor for each level is held, and of names only those of directories that are still due.

use super::footprint::FileId;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmodat, fstat, fstatat};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

const OPEN_DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
/// What a name counts for at least: it costs its file system an inode and a place in a directory.
const NAME_BYTES: u64 = 1024;
/// Names of one directory tree, however much it may hold.
const NAMES_MAX: u64 = 200_000;
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
    /// There: its files, for whom maps them too.
    pub files: BTreeSet<FileId>,
    linked: BTreeSet<FileId>,
}

/// One directory of the way down.
struct Level {
    directory: OwnedFd,
    due: Vec<CString>,
    /// How it is named without opening it, and its mode before the count, where that had to be changed.
    locked: Option<(OwnedFd, Mode)>,
}

impl Contents {
    /// Counts what is beneath `root`, until it is more than `bytes_max`.
    pub fn count(root: BorrowedFd<'_>, bytes_max: u64) -> nix::Result<Self> {
        let in_memory = fstatfs(root)?.filesystem_type() == TMPFS_MAGIC;
        let mut contents = Self { in_memory, ..Self::default() };
        let mut way: Vec<Level> = Level::enter(root, c".")?.into_iter().collect();
        if let Some(first) = way.last_mut() {
            contents.list(first, bytes_max)?;
        }
        while let Some(level) = way.last_mut() {
            if contents.too_many || contents.bytes > bytes_max {
                break;
            }
            let Some(name) = level.due.pop() else {
                way.pop();
                continue;
            };
            match Level::enter(level.directory.as_fd(), &name) {
                Ok(Some(mut inner)) => {
                    contents.list(&mut inner, bytes_max)?;
                    way.push(inner);
                }
                Ok(None) => {}
                Err(Errno::EMFILE) => contents.too_many = true,
                Err(other) => return Err(other),
            }
            contents.too_many |= way.len() > DEPTH_MAX;
        }
        Ok(contents)
    }

    /// Adds what is in one directory, and notes its directories as due.
    fn list(&mut self, level: &mut Level, bytes_max: u64) -> nix::Result<()> {
        let mut listing = Dir::openat(&level.directory, ".", OPEN_DIRECTORY, Mode::empty())?;
        for entry in listing.iter() {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let Ok(status) = fstatat(&level.directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) else { continue };
            self.add(&status);
            if status.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits() {
                level.due.push(name.to_owned());
            }
            if self.too_many || self.bytes > bytes_max {
                break;
            }
        }
        Ok(())
    }

    fn add(&mut self, status: &FileStat) {
        self.names = self.names.saturating_add(1);
        self.too_many |= self.names > NAMES_MAX;
        let file = (status.st_dev, status.st_ino);
        let regular = status.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFREG.bits();
        // A second name of a file costs a name and no more.
        let again = regular && status.st_nlink > 1 && !self.linked.insert(file);
        let blocks = u64::try_from(status.st_blocks).unwrap_or(0).saturating_mul(BLOCK_BYTES);
        let bytes = if again { 0 } else { blocks };
        self.bytes = self.bytes.saturating_add(bytes.max(NAME_BYTES));
        if self.in_memory && regular {
            self.files.insert(file);
        }
    }
}

impl Level {
    /// Opens a directory of `above`; `None` where it has vanished or is none any more.
    fn enter(above: BorrowedFd<'_>, name: &CStr) -> nix::Result<Option<Self>> {
        match openat(above, name, OPEN_DIRECTORY, Mode::empty()) {
            Ok(directory) => Ok(Some(Self { directory, due: Vec::new(), locked: None })),
            Err(Errno::EACCES) => Self::unlock(above, name),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// Opens one whose user may not, for as long as this lives. One that stays shut holds what it held when it was shut.
    fn unlock(above: BorrowedFd<'_>, name: &CStr) -> nix::Result<Option<Self>> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let Ok(named) = openat(above, name, flags, Mode::empty()) else { return Ok(None) };
        let mode = Mode::from_bits_truncate(fstat(&named)?.st_mode);
        set_mode(&named, mode | Mode::S_IRUSR | Mode::S_IXUSR)?;
        let opened = openat(&named, ".", OPEN_DIRECTORY, Mode::empty());
        let Ok(directory) = opened else {
            let _ = set_mode(&named, mode);
            return Ok(None);
        };
        Ok(Some(Self { directory, due: Vec::new(), locked: Some((named, mode)) }))
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
fn set_mode(named: &OwnedFd, mode: Mode) -> nix::Result<()> {
    let path = format!("/proc/self/fd/{}", named.as_raw_fd());
    fchmodat(AT_FDCWD, path.as_str(), mode, FchmodatFlags::FollowSymlink)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    fn count(path: &Path, bytes_max: u64) -> Contents {
        let root = std::fs::File::open(path).unwrap();
        Contents::count(root.as_fd(), bytes_max).unwrap()
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
