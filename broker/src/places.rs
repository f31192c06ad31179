//! Where things lie: policy, audit log, cache, run files, programs and guests (contract, "Places").

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, mkdirat};
use nix::unistd::{Gid, Uid, fchown};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

/// Groups below this number belong to the system (`syslog` may write to `/var/log`), not to people.
const PEOPLES_GROUPS: u32 = 1000;

/// The system's ceiling; always a layer when it exists.
pub const CEILING: &str = "/etc/wasi-warden/policy.toml";

/// The places of one caller.
#[derive(Debug, Clone)]
pub struct Places {
    /// The user's own policy.
    pub policy: PathBuf,
    /// The audit log.
    pub audit: PathBuf,
    /// Compiled code.
    pub cache: PathBuf,
    /// Sockets and scratch directories.
    pub run: PathBuf,
}

impl Places {
    /// The places of the calling user: root's, or those of XDG with the usual defaults.
    pub fn of_caller() -> Self {
        let uid = nix::unistd::getuid();
        if uid.is_root() {
            return Self {
                policy: CEILING.into(),
                audit: "/var/log/wasi-warden".into(),
                cache: "/var/cache/wasi-warden".into(),
                run: "/run/wasi-warden".into(),
            };
        }
        let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_else(|| PathBuf::from("/nonexistent"));
        let xdg = |name: &str, default: &str| match std::env::var_os(name).map(PathBuf::from) {
            Some(path) if path.is_absolute() => path,
            _ => home.join(default),
        };
        let run = match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) {
            Some(path) if path.is_absolute() && path.is_dir() => path.join("wasi-warden"),
            _ => PathBuf::from(format!("/tmp/wasi-warden-{uid}")),
        };
        Self {
            policy: xdg("XDG_CONFIG_HOME", ".config").join("wasi-warden/policy.toml"),
            audit: xdg("XDG_STATE_HOME", ".local/state").join("wasi-warden/audit"),
            cache: xdg("XDG_CACHE_HOME", ".cache").join("wasi-warden"),
            run,
        }
    }

    /// The same places for a task that root starts and that runs as `uid`: a folder of that user's own in each, since no
    /// directory can belong to two users alone.
    pub fn for_user(&self, uid: u32) -> Self {
        let own = format!("uid-{uid}");
        Self {
            policy: self.policy.clone(),
            audit: self.audit.join(&own),
            cache: self.cache.join(&own),
            run: self.run.join(&own),
        }
    }
}

/// Makes a directory for a user, and what is missing above it for root: only one that was made here is handed over.
///
/// T-10, T-02: goes name by name and follows no link. Where a folder on the way is not root's, or people can replace what
/// is in it, root makes nothing: the user makes it, or is told that it cannot. On the way a sticky folder is passed, since
/// nobody takes a folder of root's out of it; none is made there. A system group may write above, but not to the very folder
/// in which one is handed over, where it could put another in its place.
pub fn make_for(dir: &Path, uid: u32, gid: u32) -> Result<(), Errno> {
    let mut names = Vec::new();
    for component in dir.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => names.push(name),
            // Neither is written in a place of ours.
            Component::ParentDir | Component::Prefix(_) => return Ok(()),
        }
    }
    let Some(last) = names.pop() else { return Ok(()) };
    let mut here = open("/", folder_flags(), Mode::empty())?;
    let mut facts = fstat(&here)?;
    for name in names {
        let alone = roots_alone(&facts, true);
        if !alone && !roots_sticky(&facts) {
            return Ok(());
        }
        let next = match openat(&here, name, folder_flags(), Mode::empty()) {
            Err(Errno::ENOENT) if !alone => None,
            Err(Errno::ENOENT) => match make_in(&here, name, Mode::from_bits_truncate(0o755)) {
                // Another session of root's was faster.
                Err(Errno::EEXIST) => Some(openat(&here, name, folder_flags(), Mode::empty())?),
                made => Some(made?),
            },
            // A link, or no folder.
            Err(Errno::ELOOP | Errno::ENOTDIR) => None,
            found => Some(found?),
        };
        let Some(next) = next else { return Ok(()) };
        here = next;
        facts = fstat(&here)?;
    }
    if !roots_alone(&facts, false) {
        return Ok(());
    }
    match make_in(&here, last, Mode::S_IRWXU) {
        Err(Errno::EEXIST) => Ok(()),
        made => fchown(&made?, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))),
    }
}

fn folder_flags() -> OFlag {
    OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW
}

/// Makes a folder with exactly this mode, whatever the umask.
fn make_in(parent: &OwnedFd, name: &std::ffi::OsStr, mode: Mode) -> Result<OwnedFd, Errno> {
    mkdirat(parent, name, Mode::S_IRWXU)?;
    let made = openat(parent, name, folder_flags(), Mode::empty())?;
    fchmod(&made, mode)?;
    Ok(made)
}

/// Whether a folder is root's and nobody else may write to it; with `system` a system group may.
fn roots_alone(facts: &FileStat, system: bool) -> bool {
    let group = facts.st_mode & 0o020 == 0 || (system && facts.st_gid < PEOPLES_GROUPS);
    facts.st_uid == 0 && facts.st_mode & 0o002 == 0 && group
}

/// Whether a folder is root's and everybody may put things in it, but take out only their own: `/tmp`.
fn roots_sticky(facts: &FileStat) -> bool {
    facts.st_uid == 0 && facts.st_mode & 0o1000 != 0
}

/// Folders in which programs and guests are looked for, in order: beside the executable, its `libexec/wasi-warden`, and
/// `WARDEN_LIBEXEC`.
pub fn program_folders() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    if let Ok(own) = std::env::current_exe()
        && let Some(folder) = own.parent()
    {
        folders.push(folder.to_owned());
        if let Some(prefix) = folder.parent() {
            folders.push(prefix.join("libexec/wasi-warden"));
        }
    }
    if let Some(named) = std::env::var_os("WARDEN_LIBEXEC").map(PathBuf::from)
        && named.is_absolute()
    {
        folders.push(named);
    }
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_user_root_runs_tasks_as_has_folders_beside_each_other() {
        let of_root =
            Places { policy: "/p".into(), audit: "/log".into(), cache: "/cache".into(), run: "/run/w".into() };
        assert_eq!(of_root.for_user(0).audit, Path::new("/log/uid-0"));
        assert_eq!(of_root.for_user(65_534).run, Path::new("/run/w/uid-65534"));
    }

    #[test]
    fn a_folder_is_roots_alone_only_where_no_person_can_write() {
        let root = open("/", folder_flags(), Mode::empty()).unwrap();
        let of = |uid, gid, mode| {
            let mut facts = fstat(&root).unwrap();
            (facts.st_uid, facts.st_gid, facts.st_mode) = (uid, gid, mode);
            facts
        };
        for (uid, gid, mode, above, handed) in [
            (0, 0, 0o755, true, true),
            (0, 104, 0o775, true, false),
            (0, 1000, 0o775, false, false),
            (0, 0, 0o1777, false, false),
            (104, 104, 0o755, false, false),
        ] {
            let facts = of(uid, gid, mode);
            assert_eq!(
                (roots_alone(&facts, true), roots_alone(&facts, false)),
                (above, handed),
                "{uid} {gid} {mode:o}"
            );
        }
    }

    /// A folder whose whole way down belongs to root; none where the tests do not run as root.
    fn roots_folder() -> Option<tempfile::TempDir> {
        if nix::unistd::getuid().is_root() && Path::new("/run").is_dir() {
            return tempfile::tempdir_in("/run").ok();
        }
        crate::skip::skipped("only root makes folders for others");
        None
    }

    fn mode_and_owner(path: &Path) -> (u32, u32) {
        let facts = nix::sys::stat::lstat(path).unwrap();
        (facts.st_mode & 0o7777, facts.st_uid)
    }

    #[test]
    fn what_is_made_is_handed_over_and_what_was_there_is_not() {
        let Some(dir) = roots_folder() else { return };
        let base = dir.path().join("log/wasi-warden");
        make_for(&base.join("uid-0"), 0, 0).unwrap();
        make_for(&base.join("uid-65534"), 65_534, 65_534).unwrap();
        assert_eq!(mode_and_owner(&base), (0o755, 0), "everybody passes through it");
        assert_eq!(mode_and_owner(&base.join("uid-0")), (0o700, 0));
        assert_eq!(mode_and_owner(&base.join("uid-65534")), (0o700, 65_534));
        std::fs::create_dir(base.join("uid-7")).unwrap();
        make_for(&base.join("uid-7"), 7, 7).unwrap();
        assert_eq!(mode_and_owner(&base.join("uid-7")).1, 0);
    }

    #[test]
    fn no_link_is_followed_and_nothing_made_beneath_anothers_folder() {
        let Some(dir) = roots_folder() else { return };
        let target = dir.path().join("target");
        std::fs::create_dir(&target).unwrap();
        std::os::unix::fs::symlink(&target, dir.path().join("link")).unwrap();
        let others = dir.path().join("others");
        std::fs::create_dir(&others).unwrap();
        std::os::unix::fs::chown(&others, Some(65_534), None).unwrap();
        for refused in [dir.path().join("link/uid-7"), others.join("uid-7"), target.join("../up/uid-7")] {
            make_for(&refused, 7, 7).unwrap();
            assert!(!refused.exists(), "{}", refused.display());
        }
        std::os::unix::fs::symlink(&target, dir.path().join("uid-7")).unwrap();
        make_for(&dir.path().join("uid-7"), 7, 7).unwrap();
        assert_eq!(mode_and_owner(&target).1, 0, "the link's target is not handed over");
        make_for(&target.join("uid-7"), 7, 7).unwrap();
        assert_eq!(mode_and_owner(&target.join("uid-7")), (0o700, 7), "the control");
    }

    #[test]
    fn a_sticky_folder_is_passed_to_what_is_roots_and_nothing_is_made_in_it() {
        let Some(dir) = roots_folder() else { return };
        let sticky = dir.path().join("sticky");
        for name in ["sticky", "sticky/roots", "sticky/others"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        std::fs::set_permissions(&sticky, std::os::unix::fs::PermissionsExt::from_mode(0o1777)).unwrap();
        std::os::unix::fs::chown(sticky.join("others"), Some(65_534), None).unwrap();
        for refused in [sticky.join("audit"), sticky.join("new/audit"), sticky.join("others/audit")] {
            make_for(&refused, 7, 7).unwrap();
            assert!(!refused.exists(), "{}", refused.display());
        }
        make_for(&sticky.join("roots/audit"), 7, 7).unwrap();
        assert_eq!(mode_and_owner(&sticky.join("roots/audit")), (0o700, 7), "the control");
    }
}
