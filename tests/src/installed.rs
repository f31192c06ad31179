//! A copy of the installation in a place of its own, for tests that break a part of it.

use crate::place::{NOBODY, Place, profile};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Programs of an installation.
const PROGRAMS: [&str; 5] = ["warden", "warden-sandbox", "cap-fs", "cap-proc", "cap-llm"];
/// Guests that warden starts by itself.
const GUESTS: [&str; 2] = ["agent-core.wasm", "runbook-player.wasm"];

/// An installation.
pub struct Installed(PathBuf);

/// The same file under a second name, or a copy where that cannot be.
fn take(from: &Path, to: &Path) {
    if fs::hard_link(from, to).is_err() {
        fs::copy(from, to).unwrap_or_else(|e| panic!("{}: {e}", from.display()));
    }
}

impl Place {
    /// Installs warden in this place.
    pub fn install(&self) -> Installed {
        let folder = self.path("installed");
        fs::create_dir_all(folder.join("guests")).expect("folders");
        for name in PROGRAMS {
            take(&profile().join(name), &folder.join(name));
        }
        for name in GUESTS {
            take(&profile().join("guests").join(name), &folder.join("guests").join(name));
        }
        Installed(folder)
    }
}

impl Installed {
    /// Puts an executable file without any contents in the place of `name`; the other name of the file keeps its own.
    pub fn empty(&self, name: &str) {
        let path = self.0.join(name);
        fs::remove_file(&path).expect("a part of the installation");
        fs::write(&path, "").expect("an empty file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
    }

    /// This installation's `warden` in `place`.
    pub fn command(&self, place: &Place, args: &[&str]) -> Command {
        let of_place = place.command(args);
        let mut command = Command::new(self.0.join("warden"));
        command.args(args).current_dir(place.path(".")).env_clear();
        command.envs(of_place.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if place.is_of_user() && crate::is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }
}
