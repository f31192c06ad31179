//! Who a task runs as. Root becomes somebody else first, for good, and one line says whom.
//!
//! uid 0 without a capability still owns root's files and has no process limit, so running as root is refused unless the
//! policy says `isolation.allow_root = true`, and then it is degraded.

use crate::failure::{Failure, shell_word};
use nix::unistd::{Gid, Uid, User};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Whom a task runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// The caller, who is not root.
    Caller,
    /// Root becomes this user.
    Becomes {
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
        /// For the one line.
        why: String,
    },
    /// Root stays root, because the policy says so.
    Root,
}

/// Decides whom to run as.
///
/// `workspaces`: paths of the task's workspaces and whether each is writable; the first one's owner is chosen if that is not
/// root.
pub fn choose(user: Option<&str>, workspaces: &[(PathBuf, bool)], allow_root: bool) -> Result<Identity, Failure> {
    if !nix::unistd::getuid().is_root() {
        return match user {
            None => Ok(Identity::Caller),
            Some(name) => Err(Failure::usage(format!("--user {name} is for root; you are not root, so leave it out"))),
        };
    }
    if let Some(name) = user {
        return named(name);
    }
    if let Some((path, _)) = workspaces.first()
        && let Ok(facts) = std::fs::metadata(path)
        && facts.uid() != 0
    {
        // The folder's group is no group of its owner's: after a chown of the owner alone it is still root's (T-07).
        let found = User::from_uid(Uid::from_raw(facts.uid())).ok().flatten();
        let gid = group_of(found.map(|user| user.gid), nobodys_group()).ok_or_else(|| {
            Failure::usage(no_group(&format!("uid {}, the owner of {},", facts.uid(), path.display())))
        })?;
        let why = format!("the owner of {}", path.display());
        return Ok(Identity::Becomes { uid: facts.uid(), gid: gid.as_raw(), why });
    }
    let nobody = User::from_name("nobody").ok().flatten();
    let needs: Vec<Need> = match &nobody {
        Some(nobody) => workspaces.iter().flat_map(|(path, writable)| needs_of(path, *writable, nobody)).collect(),
        None => Vec::new(),
    };
    if let Some(nobody) = &nobody
        && needs.is_empty()
    {
        let gid = group_of(Some(nobody.gid), None).ok_or_else(|| Failure::usage(no_group("nobody")))?;
        return Ok(Identity::Becomes { uid: nobody.uid.as_raw(), gid: gid.as_raw(), why: "nobody".to_owned() });
    }
    if allow_root {
        return Ok(Identity::Root);
    }
    let remedy = if nobody.is_none() { "there is no user `nobody` here".to_owned() } else { remedy(&needs) };
    Err(Failure::usage(format!(
        "warden does not run tasks as root. {remedy}; or name a user who can use the folders (`--user NAME`), or set \
         `isolation.allow_root = true` in the policy"
    )))
}

/// What `nobody` lacks to use a workspace.
#[derive(Debug, PartialEq, Eq)]
enum Need {
    /// A folder on the way lets nobody pass.
    Way(PathBuf),
    /// The folder itself is another's.
    Folder(PathBuf),
}

/// By modes alone; the real test comes when it is opened as that user.
fn needs_of(path: &Path, writable: bool, user: &User) -> Vec<Need> {
    let closed = path.ancestors().skip(1).filter(|each| !gives(each, 0o1, user));
    let mut needs: Vec<Need> = closed.map(|each| Need::Way(each.to_owned())).collect();
    needs.reverse();
    if !gives(path, if writable { 0o7 } else { 0o5 }, user) {
        needs.push(Need::Folder(path.to_owned()));
    }
    needs
}

/// The exact words to type, all of which are needed and which are enough.
fn remedy(needs: &[Need]) -> String {
    let mut ways: Vec<String> = Vec::new();
    let mut folders: Vec<String> = Vec::new();
    for need in needs {
        let (list, path) = match need {
            Need::Way(path) => (&mut ways, path),
            Need::Folder(path) => (&mut folders, path),
        };
        let word = shell_word(path);
        if !list.contains(&word) {
            list.push(word);
        }
    }
    let mut typed = Vec::new();
    if !ways.is_empty() {
        typed.push(format!("chmod o+x {}", ways.join(" ")));
    }
    if !folders.is_empty() {
        typed.push(format!("chown -R nobody: {}", folders.join(" ")));
    }
    format!("Let `nobody` work there, type: {}", typed.join(" && "))
}

fn named(name: &str) -> Result<Identity, Failure> {
    let found = match name.parse::<u32>() {
        Ok(uid) => User::from_uid(Uid::from_raw(uid)),
        Err(_) => User::from_name(name),
    };
    match found {
        Ok(Some(user)) if user.uid.is_root() => Err(Failure::usage(
            "--user root is what warden avoids; name another user, or set `isolation.allow_root = true`",
        )),
        Ok(Some(user)) => {
            let gid = group_of(Some(user.gid), nobodys_group()).ok_or_else(|| Failure::usage(no_group(name)))?;
            Ok(Identity::Becomes { uid: user.uid.as_raw(), gid: gid.as_raw(), why: format!("--user {name}") })
        }
        Ok(None) => Err(Failure::usage(format!("--user {name}: there is no such user on this host"))),
        Err(errno) => Err(Failure::internal(format!("--user {name} could not be looked up: {errno}"))),
    }
}

/// The one group of a task: the user's own by the user database; `nobody`'s for a user without an entry, or whose own is
/// root's. Never root's: much on a host may be read or written by that group.
fn group_of(own: Option<Gid>, nobodys: Option<Gid>) -> Option<Gid> {
    own.into_iter().chain(nobodys).find(|gid| gid.as_raw() != 0)
}

fn nobodys_group() -> Option<Gid> {
    User::from_name("nobody").ok().flatten().map(|nobody| nobody.gid)
}

fn no_group(whom: &str) -> String {
    format!(
        "{whom} has no group but root's in the user database, and there is no `nobody` whose group could be taken. Name          another user (`--user NAME`)"
    )
}

/// Whether a folder's mode gives a user these rights; what is not there is somebody else's complaint.
fn gives(path: &Path, need: u32, user: &User) -> bool {
    let Ok(facts) = std::fs::metadata(path) else { return true };
    let shift = if facts.uid() == user.uid.as_raw() {
        6
    } else if facts.gid() == user.gid.as_raw() {
        3
    } else {
        0
    };
    (facts.mode() >> shift) & need == need
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_the_users_own_else_nobodys_and_never_roots() {
        let gid = |number| Some(Gid::from_raw(number));
        assert_eq!(group_of(gid(1001), gid(65_534)), gid(1001));
        assert_eq!(group_of(None, gid(65_534)), gid(65_534));
        assert_eq!(group_of(gid(0), gid(65_534)), gid(65_534));
        assert_eq!(group_of(gid(0), None), None);
        assert_eq!(group_of(None, gid(0)), None);
    }

    #[test]
    fn what_nobody_lacks_is_named_with_what_to_type_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path, mode: u32| {
            std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        };
        let work = dir.path().join("the work");
        std::fs::create_dir(&work).unwrap();
        let Some(nobody) = User::from_name("nobody").unwrap() else { panic!("every host has nobody") };
        mode(dir.path(), 0o700);
        mode(&work, 0o755);
        let both = needs_of(&work, true, &nobody);
        assert_eq!(both, [Need::Way(dir.path().to_owned()), Need::Folder(work.clone())]);
        let typed = format!("chmod o+x {} && chown -R nobody: '{}'", dir.path().display(), work.display());
        assert_eq!(remedy(&both), format!("Let `nobody` work there, type: {typed}"));
        mode(dir.path(), 0o711);
        assert_eq!(needs_of(&work, false, &nobody), [], "reading is for everybody there");
        assert_eq!(needs_of(&work, true, &nobody), [Need::Folder(work.clone())]);
        mode(&work, 0o777);
        assert_eq!(needs_of(&work, true, &nobody), []);
    }

    #[test]
    fn a_workspace_whose_group_stayed_roots_does_not_make_the_task_a_member() {
        if !nix::unistd::getuid().is_root() {
            crate::skip::skipped("only root becomes somebody else");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let nobody = User::from_name("nobody").unwrap().unwrap();
        // A user with an entry, and one without.
        for (owner, group) in [(nobody.uid.as_raw(), nobody.gid), (3_999_999_999, nobody.gid)] {
            std::os::unix::fs::chown(dir.path(), Some(owner), Some(0)).unwrap();
            match choose(None, &[(dir.path().to_owned(), true)], false) {
                Ok(Identity::Becomes { uid, gid, .. }) => assert_eq!((uid, gid), (owner, group.as_raw())),
                other => panic!("{other:?}"),
            }
        }
    }
}
