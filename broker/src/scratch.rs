//! The private files of a task's commands: a folder that this session made, and that nobody could make before it.
//!
//! The broker makes it and removes it when it is empty. What a command leaves in it is a stranger's tree, deep and large
//! without end if it likes: the broker never walks it (T-06).

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

/// How the folders' names begin.
const PREFIX: &str = "scratch-";
/// How they begin once somebody was told of them.
const TOLD_PREFIX: &str = "left-";
/// How often a folder is made again that another session took for an abandoned one.
const ATTEMPTS: u32 = 8;
/// Random bytes of a name.
const NAME_BYTES: usize = 16;
/// Entries of the run directory that are looked at.
const LISTED_MAX: usize = 1_000;

/// A scratch folder, new and empty when it was made.
#[derive(Debug)]
pub struct Scratch {
    run: OwnedFd,
    name: String,
    /// Locked for as long as anybody has it, so that a later session can tell it from an abandoned one.
    folder: File,
}

impl Scratch {
    /// Makes one in the run directory. T-11: its name cannot be guessed, and one that exists already is not taken.
    pub fn make(run: &OwnedFd) -> Result<Self, Errno> {
        let mut random = [0; NAME_BYTES];
        getrandom::fill(&mut random).map_err(|_| Errno::EIO)?;
        Self::make_named(run, format!("{PREFIX}{}", crate::cache::hex(&random)))
    }

    fn make_named(run: &OwnedFd, name: String) -> Result<Self, Errno> {
        let raw = |e: std::io::Error| Errno::from_raw(e.raw_os_error().unwrap_or(nix::libc::EIO));
        for _ in 0..ATTEMPTS {
            mkdirat(run, name.as_str(), Mode::S_IRWXU)?;
            // A session that sweeps may come between these three: it takes an empty folder that nobody has locked yet.
            let folder = match open_folder(run, &name) {
                Err(Errno::ENOENT) => continue,
                opened => opened?,
            };
            folder.lock_shared().map_err(raw)?;
            if fstat(&folder)?.st_nlink > 0 {
                return Ok(Self { run: run.try_clone().map_err(raw)?, name, folder });
            }
        }
        Err(Errno::EBUSY)
    }

    /// The folder.
    pub fn folder(&self) -> impl AsFd + '_ {
        &self.folder
    }

    /// Removes it. By `unlinkat`: the broker's own jail has no `rmdir`.
    pub fn remove(&self) -> Result<(), Errno> {
        match unlinkat(&self.run, self.name.as_str(), UnlinkatFlags::RemoveDir) {
            Err(Errno::ENOENT) => Ok(()),
            other => other,
        }
    }

    /// Its name in the run directory.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Scratch folders that no session has any more: of a broker that was killed, or what a command made impossible to remove.
///
/// One without a file in it is removed, with the empty folders of its commands. Another is renamed and returned by its new name,
/// so that it is told of once; it stays as it is where `tell` says that nobody would read of it.
pub fn sweep(run: &OwnedFd, tell: bool) -> Result<Vec<String>, Errno> {
    let mut left = Vec::new();
    for (name, folder) in abandoned(run)? {
        remove_empty_folders(&folder);
        let told_before = name.starts_with(TOLD_PREFIX);
        match unlinkat(run, name.as_str(), UnlinkatFlags::RemoveDir) {
            Err(errno) if tell && !told_before && errno != Errno::ENOENT => {}
            _ => continue,
        }
        let told = name.replacen(PREFIX, TOLD_PREFIX, 1);
        match renameat(run, name.as_str(), run, told.as_str()) {
            Ok(()) => left.push(told),
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    left.sort();
    Ok(left)
}

/// Removes the empty ones of the folders that lie in `folder` itself, and looks no deeper: the kernel says which are empty (T-06).
fn remove_empty_folders(folder: &File) {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let Ok(mut listing) = nix::dir::Dir::openat(folder, ".", flags, Mode::empty()) else { return };
    let names: Vec<_> = listing.iter().take(LISTED_MAX).flatten().map(|entry| entry.file_name().to_owned()).collect();
    for name in names {
        // `.`, `..`, files and folders with something in them stay.
        let _ = unlinkat(folder, name.as_c_str(), UnlinkatFlags::RemoveDir);
    }
}

/// Their names, each locked: what is being made now is not taken for abandoned.
fn abandoned(run: &OwnedFd) -> Result<Vec<(String, File)>, Errno> {
    let mut listing = nix::dir::Dir::openat(run, ".", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut found = Vec::new();
    for entry in listing.iter().take(LISTED_MAX) {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if (name.starts_with(PREFIX) || name.starts_with(TOLD_PREFIX))
            && let Ok(folder) = open_folder(run, name)
            && folder.try_lock().is_ok()
        {
            found.push((name.to_owned(), folder));
        }
    }
    Ok(found)
}

fn open_folder(run: &OwnedFd, name: &str) -> Result<File, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    openat(run, name, flags, Mode::empty()).map(File::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::open;

    fn run(dir: &std::path::Path) -> OwnedFd {
        open(dir, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).unwrap()
    }

    #[test]
    fn a_folder_that_exists_is_not_taken_and_a_new_one_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let run = run(dir.path());
        std::fs::create_dir(dir.path().join("scratch-1")).unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("scratch-2")).unwrap();
        for taken in ["scratch-1", "scratch-2"] {
            assert_eq!(Scratch::make_named(&run, taken.to_owned()).map(drop), Err(Errno::EEXIST));
        }
        let (one, two) = (Scratch::make(&run).unwrap(), Scratch::make(&run).unwrap());
        assert_ne!(one.name(), two.name());
        assert!(dir.path().join(one.name()).is_dir());
        one.remove().unwrap();
        assert!(!dir.path().join(one.name()).exists() && dir.path().join(two.name()).is_dir());
    }

    #[test]
    fn only_folders_that_nobody_has_are_abandoned() {
        let dir = tempfile::tempdir().unwrap();
        let run = run(dir.path());
        let used = Scratch::make(&run).unwrap();
        let left = Scratch::make(&run).unwrap();
        std::fs::write(dir.path().join(left.name()).join("file"), "").unwrap();
        assert_eq!(left.remove(), Err(Errno::ENOTEMPTY));
        let name = left.name().to_owned();
        drop(left);
        std::fs::create_dir(dir.path().join("other")).unwrap();
        let told = name.replacen(PREFIX, TOLD_PREFIX, 1);
        assert_eq!(sweep(&run, false).unwrap(), Vec::<String>::new(), "nobody reads it");
        assert_eq!(sweep(&run, true).unwrap(), [told.as_str()]);
        assert!(dir.path().join(&told).join("file").exists() && dir.path().join(used.name()).exists());
        assert_eq!(sweep(&run, true).unwrap(), Vec::<String>::new(), "it is told once");
        // What is empty goes without a word, and what is another's stays.
        let empty = used.name().to_owned();
        drop(used);
        assert_eq!(sweep(&run, true).unwrap(), Vec::<String>::new());
        assert!(!dir.path().join(empty).exists() && dir.path().join("other").exists());
    }

    /// What a killed session leaves where its commands had made nothing: a folder for each of them, with nothing in it.
    #[test]
    fn empty_folders_of_commands_go_without_a_word_and_one_with_a_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        let run = run(dir.path());
        let make = |name: &str| std::fs::create_dir_all(dir.path().join(name)).unwrap();
        for name in ["scratch-1/command-7-1", "scratch-1/command-7-2", "left-2/command-8-1", "scratch-3/command-9-1"] {
            make(name);
        }
        make("left-4/command-9-1/deeper");
        std::fs::write(dir.path().join("scratch-3/command-9-1/file"), "").unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("scratch-3/link")).unwrap();
        assert_eq!(sweep(&run, true).unwrap(), ["left-3"]);
        let there = |name: &str| dir.path().join(name).exists();
        assert!(!there("scratch-1") && !there("left-2"), "nothing was in them");
        assert!(there("left-3/command-9-1/file") && there("left-3/link") && there("left-4/command-9-1/deeper"));
    }
}
