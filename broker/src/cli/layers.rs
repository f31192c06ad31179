//! From files and flags to the layers of a policy.

use crate::deciding::{Deciding, DecidingError};
use crate::failure::{Class, Failure};
use crate::places::{CEILING, Places};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use warden_policy::{Effective, EffectiveCommand, Format, Policy};

/// Layers that were read and put together.
pub struct Layers {
    /// The whole.
    pub policy: Effective,
    /// The files it came from.
    pub files: Vec<Deciding>,
}

/// Which user's layer to take.
pub enum UserLayer {
    /// This file; it must exist.
    File(PathBuf),
    /// The user's own, if there is one.
    Own,
}

fn caller() -> u32 {
    nix::unistd::getuid().as_raw()
}

/// Reads and checks one policy file.
pub fn read_policy(file: &Deciding) -> Result<Policy, Failure> {
    let name = file.path.display().to_string();
    let format = Format::of_file_name(&name);
    let mut policy =
        Policy::parse(&file.text()?, format, &name, file.folder()).map_err(|e| Failure::usage(e.to_string()))?;
    resolve(&mut policy)?;
    Ok(policy)
}

/// Workspaces by where they lead, commands by the file they name: what is compared is what will be used.
pub fn resolve(policy: &mut Policy) -> Result<(), Failure> {
    let file = policy.file.clone();
    resolve_with(policy, |path| {
        path.canonicalize()
            .map_err(|e| Failure::usage(format!("{file}: workspace {} cannot be used: {e}", path.display())))
    })
}

/// The same with other words for a workspace that cannot be used.
pub fn resolve_with(policy: &mut Policy, folder: impl FnMut(&Path) -> Result<PathBuf, Failure>) -> Result<(), Failure> {
    policy.resolve_workspaces(folder)?;
    policy.pin_commands(|name| {
        ["/usr/bin", "/bin"].iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file())
    });
    Ok(())
}

/// A file that need not be there.
pub fn open_optional(what: &'static str, path: &Path, roots: bool) -> Result<Option<Deciding>, Failure> {
    let opened = if roots { Deciding::open_roots(what, path) } else { Deciding::open(what, path, caller()) };
    match opened {
        Ok(file) => Ok(Some(file)),
        Err(DecidingError::Missing { .. }) => Ok(None),
        Err(other) => Err(other.into()),
    }
}

/// Reads the ceiling and the user's layer, adds the task's request, and combines them.
///
/// A request that is wider than a layer above it is refused with both rules (exit 126).
pub fn read(user: UserLayer, request: Option<Policy>) -> Result<Layers, Failure> {
    let mut files = Vec::new();
    let mut take = |file: Option<Deciding>| -> Result<Option<Policy>, Failure> {
        let Some(file) = file else { return Ok(None) };
        let policy = read_policy(&file)?;
        files.push(file);
        Ok(Some(policy))
    };
    let system = take(open_optional("the system's policy", Path::new(CEILING), true)?)?;
    let user = match user {
        UserLayer::File(path) => take(Some(Deciding::open("policy", &path, caller())?))?,
        UserLayer::Own => {
            let own = Places::of_caller().policy;
            // root's own policy is the ceiling itself.
            if own == Path::new(CEILING) { None } else { take(open_optional("policy", &own, false)?)? }
        }
    };
    let policy = Effective::combine(system, user, request).map_err(|e| Failure::new(Class::Denied, e.to_string()))?;
    Ok(Layers { policy, files })
}

/// Opens and checks the program of every command.
pub fn open_programs(policy: &Effective) -> Result<Vec<Deciding>, Failure> {
    policy.commands().iter().map(open_program).collect()
}

/// Opens the program of one command and compares it with its pin.
pub fn open_program(command: &EffectiveCommand) -> Result<Deciding, Failure> {
    let file = Deciding::open("the program", &command.path, caller()).map_err(|e| match e {
        DecidingError::Missing { .. } => Failure::usage(format!("{}: command `{}`: {e}", command.rule, command.name)),
        other => other.into(),
    })?;
    if let Some(pin) = &command.sha256 {
        let found = crate::cache::hex(&Sha256::digest(file.bytes()?));
        if found != *pin {
            return Err(Failure::usage(format!(
                "{}: {} has SHA-256 {found}, and the policy pins {pin}",
                command.rule,
                command.path.display()
            )));
        }
    }
    Ok(file)
}
