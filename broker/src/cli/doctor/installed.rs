//! What lies on this host: policy, programs, guests, folders; and whom tasks run as.

use super::Check;
use crate::cli::policy::reading;
use crate::deciding::{Deciding, DecidingError};
use crate::failure::Failure;
use crate::identity::{self, Identity};
use crate::places::{Places, program_folders};
use nix::unistd::{AccessFlags, Gid, Uid, access};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use warden_policy::{Access, Effective};
use warden_spawner::{Binaries, birth};

/// The guests that `warden task run` and `warden step` start by themselves.
const GUESTS: [(&str, &str); 2] =
    [("agent-core", "tasks with the built-in brain do not start"), ("runbook-player", "runbooks do not start")];

/// Who tasks run as, if anybody.
pub(super) type Runner = Option<Identity>;

/// All checks of what is installed, and whom tasks run as.
pub(super) fn checks() -> (Vec<Check>, Runner) {
    let (policy, mut checks) = policy();
    let (runner, check) = user(policy.as_ref());
    checks.push(check);
    checks.push(programs(&program_folders()));
    checks.extend(GUESTS.iter().map(|(name, loss)| guest(&program_folders(), name, loss)));
    checks.extend(folders(policy.as_ref(), runner.as_ref()));
    (checks, runner)
}

/// Stops being root, as a session would, so that the tries that follow are those of a task.
pub(super) fn become_task_user(runner: &Runner) -> Option<Check> {
    let Some(Identity::Becomes { uid, gid, .. }) = runner else { return None };
    let became = birth::become_user(Uid::from_raw(*uid), Gid::from_raw(*gid));
    became
        .err()
        .map(|errno| Check::missing("becoming a user", format!("uid {uid}: {errno}"), "no task that root starts runs"))
}

fn policy() -> (Option<Effective>, Vec<Check>) {
    match reading::read(None) {
        Ok(read) => {
            let files = read.policy.layer_files();
            let detail = if files.is_empty() {
                format!("none ({} does not exist): flags are the policy", Places::of_caller().policy.display())
            } else {
                files.iter().map(|(layer, file)| format!("{} {file}", layer.name())).collect::<Vec<_>>().join(", ")
            };
            let mut checks = vec![Check::ok("policy", detail)];
            checks.extend(read.absent.iter().map(|each| {
                Check::degraded("policy", each.clone(), "no task starts under this policy until the folder is there")
            }));
            (Some(read.policy), checks)
        }
        Err(Failure { message, .. }) => (
            None,
            vec![Check::missing("policy", message, "nothing runs until it is mended; see `warden policy check`")],
        ),
    }
}

fn user(policy: Option<&Effective>) -> (Runner, Check) {
    let workspaces: Vec<(PathBuf, bool)> = policy
        .map(Effective::workspaces)
        .unwrap_or_default()
        .iter()
        .map(|each| (each.path.clone(), each.access == Access::ReadWrite))
        .collect();
    let allow_root = policy.is_some_and(|policy| policy.isolation().allow_root);
    let check = match identity::choose(None, &workspaces, allow_root) {
        Ok(identity) => {
            let check = user_check(&identity, nix::unistd::getuid().as_raw());
            return (Some(identity), check);
        }
        Err(failure) => Check::missing("user", failure.message, "no task starts"),
    };
    (None, check)
}

fn user_check(identity: &Identity, caller: u32) -> Check {
    match identity {
        Identity::Caller => Check::ok("user", format!("tasks run as you, uid {caller}")),
        Identity::Becomes { uid, why, .. } => {
            Check::ok("user", format!("you are root; tasks run as uid {uid} ({why}), and so do the tries below"))
        }
        Identity::Root => Check::degraded(
            "user",
            "you are root, and the policy says isolation.allow_root = true",
            "tasks run as root: without a capability it still owns root's files and has no process limit",
        ),
    }
}

fn programs(folders: &[PathBuf]) -> Check {
    match Binaries::open(folders) {
        Ok(_) => Check::ok(
            "programs",
            "warden-sandbox, cap-fs, cap-proc and cap-llm are here, and only root or you can replace them",
        ),
        Err(error) => Check::missing("programs", error.to_string(), "nothing runs"),
    }
}

/// The programs, opened before the user is changed and tried after it.
pub(super) fn opened_programs() -> Option<Binaries> {
    Binaries::open(&program_folders()).ok()
}

/// Whether this system executes them, as the user that tasks run as.
pub(super) fn executed(programs: &Binaries) -> Option<Check> {
    let (name, errno) = programs.not_executable()?;
    let why = format!("{name} cannot be executed: {errno}");
    Some(Check::missing("programs run", why, "what needs it does not run; install all programs again, together"))
}

fn guest(folders: &[PathBuf], name: &str, loss: &'static str) -> Check {
    let shown = format!("guest {name}");
    let file = format!("guests/{name}.wasm");
    let found = folders.iter().map(|folder| folder.join(&file)).find(|path| path.is_file());
    let Some(path) = found else {
        return Check::degraded(
            shown,
            format!("{file} was not found"),
            format!("{loss}; `cargo build --release` makes it"),
        );
    };
    match Deciding::open("the guest", &path, nix::unistd::getuid().as_raw()) {
        Ok(file) if file.bytes().is_ok_and(|bytes| bytes.starts_with(b"\0asm")) => {
            Check::ok(shown, path.display().to_string())
        }
        Ok(_) => Check::missing(shown, format!("{} is no WebAssembly module", path.display()), loss),
        Err(error @ DecidingError::Untrusted { .. }) => Check::missing(shown, error.to_string(), loss),
        Err(error) => Check::degraded(shown, error.to_string(), loss),
    }
}

fn folders(policy: Option<&Effective>, runner: Option<&Identity>) -> Vec<Check> {
    let mut places = Places::of_caller();
    let mut owner = nix::unistd::getuid().as_raw();
    let runs_as = match runner {
        Some(Identity::Becomes { uid, .. }) => Some(*uid),
        Some(Identity::Root) => Some(0),
        Some(Identity::Caller) | None => None,
    };
    if let Some(uid) = runs_as {
        places = places.for_user(uid);
        owner = uid;
    }
    if let Some(dir) = policy.and_then(|policy| policy.audit().dir.clone()) {
        places.audit = dir;
    }
    let required = |name: &str, path: &Path, loss: &str| match usable(path, owner) {
        Ok(detail) => Check::ok(name, detail),
        Err(why) => Check::missing(name, why, loss),
    };
    let cache = match usable(&places.cache, owner) {
        Ok(detail) => Check::ok("cache folder", detail),
        Err(why) => Check::degraded("cache folder", why, "every module is compiled again for every run"),
    };
    vec![
        required("audit folder", &places.audit, "no task runs: what cannot be recorded is not done"),
        cache,
        required("run folder", &places.run, "no task runs: it has nowhere to put its commands' scratch files"),
    ]
}

/// Whether a folder is, or could be made, `owner`'s alone. Makes nothing.
fn usable(path: &Path, owner: u32) -> Result<String, String> {
    let shown = path.display();
    let facts = match path.metadata() {
        Ok(facts) => facts,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return could_be_made(path),
        Err(e) => return Err(format!("{shown}: {e}")),
    };
    if !facts.is_dir() {
        return Err(format!("{shown} is no folder"));
    }
    if facts.uid() != owner {
        return Err(format!("{shown} belongs to uid {}, not to uid {owner}; `chown {owner} {shown}`", facts.uid()));
    }
    if facts.mode() & 0o077 != 0 {
        return Err(format!(
            "{shown} has mode {:04o}, so others reach into it; `chmod 700 {shown}`",
            facts.mode() & 0o7777
        ));
    }
    if facts.mode() & 0o700 != 0o700 {
        return Err(format!(
            "{shown} has mode {:04o}, so its owner cannot use it; `chmod 700 {shown}`",
            facts.mode() & 0o7777
        ));
    }
    access(path, AccessFlags::W_OK | AccessFlags::X_OK)
        .map_err(|errno| format!("{shown} cannot be written: {errno}"))?;
    Ok(format!("{shown}, of uid {owner} alone"))
}

fn could_be_made(path: &Path) -> Result<String, String> {
    let above = path.ancestors().skip(1).find(|each| each.symlink_metadata().is_ok()).unwrap_or(Path::new("/"));
    match access(above, AccessFlags::W_OK | AccessFlags::X_OK) {
        Ok(()) => Ok(format!("{} is made at the first task", path.display())),
        Err(errno) => Err(format!(
            "{} does not exist and cannot be made: {} cannot be written: {errno}",
            path.display(),
            above.display()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn us() -> u32 {
        nix::unistd::getuid().as_raw()
    }

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_folder_that_others_reach_is_unusable_and_a_private_one_is_usable() {
        let dir = tempfile::tempdir().unwrap();
        set_mode(dir.path(), 0o700);
        assert!(usable(dir.path(), us()).is_ok());
        assert!(usable(dir.path(), us() + 1).is_err_and(|why| why.contains("chown")));
        set_mode(dir.path(), 0o750);
        assert!(usable(dir.path(), us()).is_err_and(|why| why.contains("chmod 700")));
    }

    #[test]
    fn a_folder_that_could_be_made_is_not_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        assert!(usable(&path, us()).is_ok());
        assert!(!dir.path().join("a").exists());
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(usable(&file, us()).is_err_and(|why| why.contains("no folder")));
    }

    #[test]
    fn a_guest_that_others_can_replace_is_refused_and_a_safe_one_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let folders = [dir.path().to_owned()];
        assert_eq!(guest(&folders, "agent-core", "loss").state, State::Degraded);
        let folder = dir.path().join("guests");
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("agent-core.wasm");
        std::fs::write(&path, "").unwrap();
        set_mode(&path, 0o644);
        assert_eq!(guest(&folders, "agent-core", "loss").state, State::Missing, "empty");
        std::fs::write(&path, "\0asm").unwrap();
        set_mode(&folder, 0o755);
        set_mode(&path, 0o644);
        assert_eq!(guest(&folders, "agent-core", "loss").state, State::Ok);
        set_mode(&path, 0o666);
        assert_eq!(guest(&folders, "agent-core", "loss").state, State::Missing);
    }

    #[test]
    fn programs_that_are_not_there_are_missing() {
        let dir = tempfile::tempdir().unwrap();
        let check = programs(&[dir.path().to_owned()]);
        assert!(check.state == State::Missing && check.detail.contains("warden-sandbox"), "{check:?}");
    }

    #[test]
    fn root_that_stays_root_is_degraded_and_a_caller_is_not() {
        assert_eq!(user_check(&Identity::Root, 0).state, State::Degraded);
        assert_eq!(user_check(&Identity::Caller, 1000).state, State::Ok);
    }
}
