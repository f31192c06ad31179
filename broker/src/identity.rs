//! Who a task runs as. Root becomes somebody else first, for good, and one line says whom.
//!
//! uid 0 without a capability still owns root's files and has no process limit, so running as root is refused unless the
//! policy says `isolation.allow_root = true`, and then it is degraded.

use crate::failure::{Class, Failure};
use nix::unistd::{AccessFlags, Gid, Uid, User, access};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

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
        let why = format!("the owner of {}", path.display());
        return Ok(Identity::Becomes { uid: facts.uid(), gid: facts.gid(), why });
    }
    if let Ok(Some(nobody)) = User::from_name("nobody")
        && workspaces.iter().all(|(path, writable)| usable(path, *writable, nobody.uid, nobody.gid))
    {
        return Ok(Identity::Becomes { uid: nobody.uid.as_raw(), gid: nobody.gid.as_raw(), why: "nobody".to_owned() });
    }
    if allow_root {
        return Ok(Identity::Root);
    }
    let path = workspaces.first().map(|(path, _)| path.display().to_string()).unwrap_or_default();
    Err(Failure::new(
        Class::Usage,
        format!(
            "warden does not run tasks as root, and `nobody` cannot use {path}. Name a user who can (`--user NAME`), or hand \
             the folder over (`chown -R NAME {path}`), or set `isolation.allow_root = true` in the policy"
        ),
    ))
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
            Ok(Identity::Becomes { uid: user.uid.as_raw(), gid: user.gid.as_raw(), why: format!("--user {name}") })
        }
        Ok(None) => Err(Failure::usage(format!("--user {name}: there is no such user on this host"))),
        Err(errno) => Err(Failure::internal(format!("--user {name} could not be looked up: {errno}"))),
    }
}

/// Whether another user could use a directory, by its mode alone; the real test comes when it is opened as that user.
fn usable(path: &std::path::Path, writable: bool, uid: Uid, gid: Gid) -> bool {
    let Ok(facts) = std::fs::metadata(path) else { return access(path, AccessFlags::F_OK).is_err() };
    let shift = if facts.uid() == uid.as_raw() {
        6
    } else if facts.gid() == gid.as_raw() {
        3
    } else {
        0
    };
    let need = if writable { 0o7 } else { 0o5 };
    (facts.mode() >> shift) & need == need
}
