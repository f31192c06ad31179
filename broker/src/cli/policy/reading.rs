//! Layers read by somebody who wants to see them, not to run under them: what is absent on this host is noted.
//!
//! What is wrong with a policy's text, or dangerous (others can change it, a layer is wider than its ceiling), is an error
//! here as in a run (T-10). That a folder or a program is not there changes nothing about what the policy says: whoever
//! only looks for the audit log needs to know where it is, and `warden policy check` makes an error of each note.

use super::super::layers::{folder_of, open_optional, resolve_with};
use crate::deciding::Deciding;
use crate::failure::Failure;
use crate::places::{CEILING, Places};
use std::path::Path;
use warden_policy::{Effective, Format, Layer, Policy};

/// Layers that were read.
pub struct Reading {
    /// The whole.
    pub policy: Effective,
    /// The files it came from.
    pub files: Vec<Deciding>,
    /// Workspaces that cannot be used now: where each is named, its rule, and why.
    pub absent: Vec<String>,
}

/// The ceiling and `named`, or the caller's own policy.
pub fn read(named: Option<&Path>) -> Result<Reading, Failure> {
    let caller = nix::unistd::getuid().as_raw();
    let (mut files, mut absent) = (Vec::new(), Vec::new());
    let mut take = |file: Option<Deciding>, layer: Layer| -> Result<Option<Policy>, Failure> {
        let Some(file) = file else { return Ok(None) };
        let policy = parse(&file, layer, &mut absent)?;
        files.push(file);
        Ok(Some(policy))
    };
    let system = take(open_optional("the system's policy", Path::new(CEILING), true)?, Layer::System)?;
    let own = Places::of_caller().policy;
    let user = match named {
        // The ceiling checked by name is still the ceiling.
        Some(path) if system.is_some() && same_file(path, Path::new(CEILING)) => None,
        Some(path) => take(Some(Deciding::open("policy", path, caller)?), Layer::User)?,
        None if own == Path::new(CEILING) => None,
        None => take(open_optional("policy", &own, false)?, Layer::User)?,
    };
    let policy = Effective::combine(system, user, None)
        .map_err(|e| Failure::new(crate::failure::Class::Denied, e.to_string()))?;
    Ok(Reading { policy, files, absent })
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

fn parse(file: &Deciding, layer: Layer, absent: &mut Vec<String>) -> Result<Policy, Failure> {
    let name = file.path.display().to_string();
    let mut policy = Policy::parse(&file.text()?, Format::of_file_name(&name), &name, file.folder())
        .map_err(|e| Failure::usage(e.to_string()))?;
    let marks = policy.marks.clone();
    resolve_with(&mut policy, |workspace| {
        let found = folder_of(workspace, layer, |rule| marks.place(&name, rule));
        Ok(found.unwrap_or_else(|why| {
            absent.push(why);
            workspace.path.clone()
        }))
    })?;
    // A bare name that nothing answers: the place where it would be looked for stands for it, and is reported missing.
    policy.pin_commands(|name| Some(Path::new("/usr/bin").join(name)));
    Ok(policy)
}
