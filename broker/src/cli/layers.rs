//! From files and flags to the layers of a policy.

use crate::deciding::{Deciding, DecidingError};
use crate::failure::{Class, Failure};
use crate::places::{CEILING, Places};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use warden_policy::{CommandPath, Effective, EffectiveCommand, Format, Layer, Llm, Policy, SecretSource, Workspace};
use warden_spawner::trusted;

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
fn read_policy(file: &Deciding, layer: Layer) -> Result<Policy, Failure> {
    let name = file.path.display().to_string();
    let format = Format::of_file_name(&name);
    let mut policy =
        Policy::parse(&file.text()?, format, &name, file.folder()).map_err(|e| Failure::usage(e.to_string()))?;
    resolve(&mut policy, layer)?;
    let unpinned = policy.commands.iter().flatten().find(|each| matches!(each.path, CommandPath::Lookup(_)));
    if let Some(command) = unpinned {
        let rule = format!("proc.command.{}", command.name);
        let (place, layer) = (policy.place_of(&rule), layer.name());
        let message = format!("{place}: {layer}:{rule}: there is no program `{}` in /usr/bin or /bin", command.name);
        return Err(Failure::usage(message));
    }
    Ok(policy)
}

/// Workspaces by where they lead, commands by the file they name: what is compared is what will be used.
pub fn resolve(policy: &mut Policy, layer: Layer) -> Result<(), Failure> {
    let (file, marks) = (policy.file.clone(), policy.marks.clone());
    resolve_with(policy, |workspace| {
        let place = |rule: &str| marks.place(&file, rule);
        folder_of(workspace, layer, place).map_err(Failure::usage)
    })
}

/// Where a workspace leads; or why it cannot be used, with where that is said and by which rule.
pub fn folder_of(workspace: &Workspace, layer: Layer, place: impl Fn(&str) -> String) -> Result<PathBuf, String> {
    let rule = format!("fs.workspace.{}", workspace.label);
    let wrong =
        |why: &str| format!("{}: {}:{rule}: the folder {} {why}", place(&rule), layer.name(), workspace.path.display());
    match workspace.path.canonicalize() {
        Ok(found) if found.is_dir() => Ok(found),
        Ok(_) => Err(wrong("is no folder")),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(wrong("does not exist")),
        Err(e) => Err(wrong(&format!("cannot be used: {e}"))),
    }
}

/// The same with another way to say that a workspace cannot be used.
pub fn resolve_with(
    policy: &mut Policy,
    folder: impl FnMut(&Workspace) -> Result<PathBuf, Failure>,
) -> Result<(), Failure> {
    policy.resolve_workspaces(folder)?;
    policy.pin_commands(|name| {
        ["/usr/bin", "/bin"].iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file())
    });
    Ok(())
}

/// The path of a file that a flag names.
pub fn named(path: &Path) -> Result<PathBuf, Failure> {
    trusted::absolute(path)
        .map_err(|errno| Failure::usage(format!("{}: the current directory: {errno}", path.display())))
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
    read_with(user, |_| Ok(request))
}

/// The same where the request depends on the layers above it; without any it is the policy.
pub fn read_with(
    user: UserLayer,
    request: impl FnOnce(&[&Policy]) -> Result<Option<Policy>, Failure>,
) -> Result<Layers, Failure> {
    let mut files = Vec::new();
    let mut take = |file: Option<Deciding>, layer: Layer| -> Result<Option<Policy>, Failure> {
        let Some(file) = file else { return Ok(None) };
        let policy = read_policy(&file, layer)?;
        files.push(file);
        Ok(Some(policy))
    };
    let system = take(open_optional("the system's policy", Path::new(CEILING), true)?, Layer::System)?;
    let user = match user {
        UserLayer::File(path) => take(Some(Deciding::open("policy", &path, caller())?), Layer::User)?,
        UserLayer::Own => {
            let own = Places::of_caller().policy;
            // root's own policy is the ceiling itself.
            let own = if own == Path::new(CEILING) { None } else { open_optional("policy", &own, false)? };
            take(own, Layer::User)?
        }
    };
    let above: Vec<&Policy> = system.iter().chain(&user).collect();
    let request = request(&above)?;
    let policy = Effective::combine(system, user, request).map_err(|e| Failure::new(Class::Denied, e.to_string()))?;
    files.extend(open_secrets(&policy)?);
    Ok(Layers { policy, files })
}

/// Opens the file of every secret and reads none: one that is absent, or that others can replace, is an error before
/// anything is started (T-08, T-10).
pub fn open_secrets(policy: &Effective) -> Result<Vec<Deciding>, Failure> {
    let mut opened = Vec::new();
    for secret in policy.secrets() {
        let SecretSource::File(path) = &secret.source else { continue };
        let place = format!("{}: secret.{}", policy.place_of_secret(&secret.name), secret.name);
        let file =
            Deciding::open("the secret's file", path, caller()).map_err(|e| Failure::usage(format!("{place}: {e}")))?;
        opened.push(file.named(place));
    }
    Ok(opened)
}

/// Opens the recording that stands for a model, if one does.
pub fn open_recording(policy: &Effective) -> Result<Option<Deciding>, Failure> {
    let Some(Llm::Replay { file }) = policy.llm() else { return Ok(None) };
    let place = format!("{}: llm.file", policy.place_of_recording());
    let opened = Deciding::open("the recording", file, caller());
    let opened = opened.map_err(|e| Failure::usage(format!("{place}: {e}")))?;
    Ok(Some(opened.named(place)))
}

/// Opens and checks the program of every command.
pub fn open_programs(policy: &Effective) -> Result<Vec<Deciding>, Failure> {
    policy.commands().iter().map(|command| open_program(policy, command)).collect()
}

/// Opens the program of one command and compares it with its pin.
pub fn open_program(policy: &Effective, command: &EffectiveCommand) -> Result<Deciding, Failure> {
    let place = format!("{}: {}", policy.place_of(&command.rule), command.rule);
    let wrong = |why: &dyn std::fmt::Display| Failure::usage(format!("{place}: {why}"));
    let file = Deciding::open("the program", &command.path, caller()).map_err(|e| wrong(&e))?;
    if let Some(pin) = &command.sha256 {
        let found = crate::cache::hex(&Sha256::digest(file.bytes()?));
        if found != *pin {
            let shown = command.path.display();
            return Err(wrong(&format!("{shown} has SHA-256 {found}, and the policy pins {pin}")));
        }
    }
    Ok(file.named(place))
}
