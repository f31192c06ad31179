//! Files that decide: policies, manifests, brains, recordings, secrets, programs of commands.
//!
//! T-10: a run must not widen the next one. Each is opened once, by descriptor; it, every directory on the way to it and
//! every link that is followed belong to root or the caller and can be changed by nobody else ([`trusted`]); and neither it
//! nor the way to it touches a workspace that the task can write, compared by device and inode.

use nix::errno::Errno;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use warden_spawner::trusted::{self, FileIdentity, TrustError, Trusted};

/// Longest policy, manifest or module that is read, bytes.
pub const DECIDING_MAX_BYTES: u64 = 512 * 1024 * 1024;

/// A file that decides cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DecidingError {
    /// It is not there.
    #[error("{what} {path} does not exist")]
    Missing {
        /// What it is.
        what: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// It cannot be opened or read.
    #[error("{what} {path} could not be read: {source}")]
    Unreadable {
        /// What it is.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: Errno,
    },
    /// It holds bytes that are no text.
    #[error("{what} {path} is no UTF-8 text; save it as UTF-8")]
    NoText {
        /// What it is.
        what: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// Somebody else could change it.
    #[error(
        "{what} {path} is refused: {blame} {why}; whoever can change it decides what the task may do. Mend it with `chmod go-w` or `chown`"
    )]
    Untrusted {
        /// What it is.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The file or directory that is not safe.
        blame: PathBuf,
        /// Why.
        why: &'static str,
    },
    /// The task could write it.
    #[error(
        "{what} {path} is refused: it lies in, or is reached through, workspace `{label}`, which the task can write, so a run could widen the next one. Move it out of the workspace"
    )]
    InWorkspace {
        /// What it is.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The workspace.
        label: String,
    },
    /// The same of one that another file names, and where it does.
    #[error("{place}: {source}")]
    Named {
        /// File, line, column and rule.
        place: String,
        /// What is wrong with it.
        source: Box<DecidingError>,
    },
}

/// A file that decides, opened and checked.
#[derive(Debug)]
pub struct Deciding {
    /// What it is, for messages.
    pub what: &'static str,
    /// As it was named.
    pub path: PathBuf,
    /// Where it really is.
    pub real: PathBuf,
    /// Where another file names it, for messages.
    named: Option<String>,
    file: OwnedFd,
    /// The file and every directory that was passed on the way to it.
    passed: Vec<FileIdentity>,
}

impl Deciding {
    /// Opens a regular file and checks it and all that leads to it. `caller` is who may own them besides root.
    pub fn open(what: &'static str, path: &Path, caller: u32) -> Result<Self, DecidingError> {
        Self::open_owned(what, path, &[0, caller])
    }

    /// The same where only root may own it: the ceiling.
    pub fn open_roots(what: &'static str, path: &Path) -> Result<Self, DecidingError> {
        Self::open_owned(what, path, &[0])
    }

    fn open_owned(what: &'static str, path: &Path, owners: &[u32]) -> Result<Self, DecidingError> {
        let path = path.to_owned();
        match trusted::open_file(&path, owners) {
            Ok(Trusted { file, real, passed }) => Ok(Self { what, path, real, named: None, file, passed }),
            Err(TrustError::Untrusted { blame, why }) => Err(DecidingError::Untrusted { what, path, blame, why }),
            Err(TrustError::System(Errno::ENOENT | Errno::ENOTDIR)) => Err(DecidingError::Missing { what, path }),
            Err(TrustError::System(source)) => Err(DecidingError::Unreadable { what, path, source }),
        }
    }

    /// The same, and `place` is where another file names it (file, line, column and rule).
    pub fn named(self, place: String) -> Self {
        Self { named: Some(place), ..self }
    }

    /// Refuses it if it lies in one of `workspaces` (label, device and inode), all of which the task can write.
    pub fn outside(&self, workspaces: &[(String, FileIdentity)]) -> Result<(), DecidingError> {
        outside(self.what, &self.path, &self.passed, workspaces).map_err(|source| match &self.named {
            Some(place) => DecidingError::Named { place: place.clone(), source: Box::new(source) },
            None => source,
        })
    }

    /// Its bytes.
    pub fn bytes(&self) -> Result<Vec<u8>, DecidingError> {
        let failed = |e: std::io::Error| DecidingError::Unreadable {
            what: self.what,
            path: self.path.clone(),
            source: Errno::from_raw(e.raw_os_error().unwrap_or(nix::libc::EIO)),
        };
        let mut bytes = Vec::new();
        let copy = self.file.try_clone().map_err(failed)?;
        File::from(copy).take(DECIDING_MAX_BYTES).read_to_end(&mut bytes).map_err(failed)?;
        Ok(bytes)
    }

    /// Its text.
    pub fn text(&self) -> Result<String, DecidingError> {
        String::from_utf8(self.bytes()?).map_err(|_| DecidingError::NoText { what: self.what, path: self.path.clone() })
    }

    /// The folder that its relative paths are relative to.
    pub fn folder(&self) -> &Path {
        self.real.parent().unwrap_or(Path::new("/"))
    }

    /// The same open file once more; nothing is looked up again.
    pub fn duplicate(&self) -> Result<OwnedFd, DecidingError> {
        self.file.try_clone().map_err(|e| DecidingError::Unreadable {
            what: self.what,
            path: self.path.clone(),
            source: Errno::from_raw(e.raw_os_error().unwrap_or(nix::libc::EIO)),
        })
    }

    /// The open file.
    pub fn into_fd(self) -> OwnedFd {
        self.file
    }
}

/// Refuses a file or directory of which `passed` are its own identity and those of the directories on the way.
pub fn outside(
    what: &'static str,
    path: &Path,
    passed: &[FileIdentity],
    workspaces: &[(String, FileIdentity)],
) -> Result<(), DecidingError> {
    match workspaces.iter().find(|(_, identity)| passed.contains(identity)) {
        None => Ok(()),
        Some((label, _)) => Err(DecidingError::InWorkspace { what, path: path.to_owned(), label: label.clone() }),
    }
}

/// Refuses a directory or program of ours (it need not exist yet) that lies in one of `workspaces`, or is reached through it.
pub fn place_outside(
    what: &'static str,
    path: &Path,
    workspaces: &[(String, FileIdentity)],
) -> Result<(), DecidingError> {
    outside(what, path, &trusted::passed(path), workspaces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::{Mode, stat};
    use std::os::unix::fs::PermissionsExt;

    fn us() -> u32 {
        nix::unistd::getuid().as_raw()
    }

    fn identity(path: &Path) -> (u64, u64) {
        let facts = stat(path).unwrap();
        (facts.st_dev, facts.st_ino)
    }

    #[test]
    fn a_file_that_others_can_write_is_refused_and_a_private_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.toml");
        std::fs::write(&path, "version = 1").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(Deciding::open("policy", &path, us()).unwrap().text().unwrap(), "version = 1");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(matches!(Deciding::open("policy", &path, us()), Err(DecidingError::Untrusted { .. })));
    }

    #[test]
    fn a_folder_above_it_that_others_can_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        let path = inner.join("policy.toml");
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&inner, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(Deciding::open("policy", &path, us()), Err(DecidingError::Untrusted { .. })));
        std::fs::set_permissions(&inner, std::fs::Permissions::from_mode(0o1777)).unwrap();
        assert!(Deciding::open("policy", &path, us()).is_ok(), "a sticky directory is no danger");
    }

    #[test]
    fn a_file_in_a_workspace_is_refused_and_one_beside_it_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let workspace = dir.path().join("workspace");
        std::fs::create_dir(&workspace).unwrap();
        for folder in [&workspace, &dir.path().to_owned()] {
            std::fs::write(folder.join("task.toml"), "").unwrap();
        }
        let writable = vec![("repo".to_owned(), identity(&workspace))];
        let inside = Deciding::open("manifest", &workspace.join("task.toml"), us()).unwrap();
        assert!(matches!(inside.outside(&writable), Err(DecidingError::InWorkspace { .. })));
        let beside = Deciding::open("manifest", &dir.path().join("task.toml"), us()).unwrap();
        assert!(beside.outside(&writable).is_ok());
    }

    #[test]
    fn a_link_in_a_workspace_that_leads_out_of_it_is_refused_and_a_link_beside_it_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let workspace = dir.path().join("workspace");
        std::fs::create_dir(&workspace).unwrap();
        let writable = vec![("repo".to_owned(), identity(&workspace))];
        for folder in [&workspace, &dir.path().to_owned()] {
            std::os::unix::fs::symlink("/bin/true", folder.join("tool")).unwrap();
        }
        let inside = Deciding::open("the program", &workspace.join("tool"), us()).unwrap();
        assert!(matches!(inside.outside(&writable), Err(DecidingError::InWorkspace { .. })));
        let beside = Deciding::open("the program", &dir.path().join("tool"), us()).unwrap();
        assert!(beside.outside(&writable).is_ok());
        assert_eq!(beside.real, Path::new("/bin/true").canonicalize().unwrap());
    }

    #[test]
    fn a_directory_of_ours_may_not_lie_in_a_workspace() {
        let dir = tempfile::tempdir().unwrap();
        let writable = vec![("repo".to_owned(), identity(dir.path()))];
        let inside = place_outside("audit directory", &dir.path().join("not/yet/there"), &writable);
        assert!(matches!(inside, Err(DecidingError::InWorkspace { .. })));
        let beside = tempfile::tempdir().unwrap();
        assert!(place_outside("audit directory", &beside.path().join("audit"), &writable).is_ok());
    }

    #[test]
    fn a_fifo_does_not_hold_us_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        nix::unistd::mkfifo(&path, Mode::from_bits_truncate(0o600)).unwrap();
        assert!(matches!(Deciding::open("policy", &path, us()), Err(DecidingError::Unreadable { .. })));
    }
}
