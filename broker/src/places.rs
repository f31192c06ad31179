//! Where things lie: policy, audit log, cache, run files, programs and guests (contract, "Places").

use std::path::PathBuf;

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
