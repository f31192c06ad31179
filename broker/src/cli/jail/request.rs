//! The flags of `warden jail` as the request that they are: the policy where there is none, else within it (T-10).

use super::{FileArgs, JailArgs, NO_BOUND};
use crate::cli::{REQUEST_OF_FLAGS, layers};
use crate::failure::{Class, Failure};
use std::path::{Path, PathBuf};
use warden_policy::{Access, Asked, Command, CommandPath, Glob, Layer, LimitKey, Policy, Scope, Workspace};
use warden_policy::{allowed_command, units};

/// The flags as the task's layer. With no policy above it is the policy.
pub(super) fn request(
    args: &JailArgs,
    command: &str,
    above: &[&Policy],
    current: &Result<PathBuf, Failure>,
) -> Result<Policy, Failure> {
    let alone = above.is_empty();
    let mut request = Policy::empty(REQUEST_OF_FLAGS, Scope::Request);
    if alone || !args.workspace.is_empty() {
        request.workspaces = Some(workspaces(&args.workspace, current)?);
    }
    rules(&args.files, &mut request, above)?;
    let mut named: Vec<&str> = args.allow_proc.iter().map(String::as_str).collect();
    if named.is_empty() && (alone || args.unchecked || args.files.exec_workspace) {
        named.push(command);
    }
    if !named.is_empty() {
        let mut commands = commands(&named, current)?;
        for command in &mut commands {
            // T-10: to name a command is not to give up the rules of files; that is asked for by its own name.
            command.unchecked = args.unchecked;
            command.exec_workspace = args.files.exec_workspace;
            if alone {
                // A person's own command has the person's patience; --timeout bounds it.
                command.timeout = NO_BOUND;
            }
        }
        request.commands = Some(commands);
    }
    limits(args, &mut request)?;
    layers::resolve(&mut request, Layer::Task)?;
    not_found(&request)?;
    name_as_above(&mut request, above);
    Ok(request)
}

fn limits(args: &JailArgs, request: &mut Policy) -> Result<(), Failure> {
    if let Some(text) = &args.memory {
        request.limits.set(LimitKey::Memory, size("--memory", text)?);
    }
    if let Some(text) = &args.fs_written {
        request.limits.set(LimitKey::FsWritten, size("--fs-written", text)?);
    }
    if let Some(text) = &args.timeout {
        let wall = units::parse_duration(text).map_err(|e| Failure::usage(format!("--timeout {text}: {e}")))?;
        request.limits.set_wall(wall);
    }
    if let Some(processes) = args.processes {
        request.limits.set(LimitKey::Processes, processes);
    }
    Ok(())
}

fn size(flag: &str, text: &str) -> Result<u64, Failure> {
    units::parse_size(text).map_err(|e| Failure::usage(format!("{flag} {text}: {e}")))
}

/// The rules of the flags, on every workspace of the command: those of `--workspace`, else those of the policy.
fn rules(args: &FileArgs, request: &mut Policy, above: &[&Policy]) -> Result<(), Failure> {
    let globs = |flag: &str, texts: &[String]| -> Result<Vec<Glob>, Failure> {
        let parse = |text: &String| Glob::parse(text).map_err(|e| Failure::usage(format!("{flag} {text}: {e}")));
        texts.iter().map(parse).collect()
    };
    let (deny, deny_write) = (globs("--deny", &args.deny)?, globs("--deny-write", &args.deny_write)?);
    let max_file_bytes = args.max_file.as_deref().map(|text| size("--max-file", text)).transpose()?;
    if deny.is_empty() && deny_write.is_empty() && max_file_bytes.is_none() && !args.allow_run_later {
        return Ok(());
    }
    if request.workspaces.is_none() {
        request.workspaces = Some(workspaces_above(above));
    }
    for workspace in request.workspaces.iter_mut().flatten() {
        workspace.deny.clone_from(&deny);
        workspace.deny_write.clone_from(&deny_write);
        workspace.allow_run_later = args.allow_run_later;
        workspace.asked = Asked { max_file: max_file_bytes.is_some(), run_later: args.allow_run_later };
        workspace.max_file_bytes = max_file_bytes.unwrap_or(workspace.max_file_bytes);
    }
    if request.workspaces.iter().flatten().next().is_none() {
        let message = "the rules of --deny, --deny-write, --max-file and --allow-run-later hold in a workspace; name one \
                       with --workspace D";
        return Err(Failure::usage(message));
    }
    Ok(())
}

/// The workspaces of the policy's last layer, which are those of the task, by their names, places and modes.
fn workspaces_above(above: &[&Policy]) -> Vec<Workspace> {
    let last = above.iter().rev().find_map(|policy| policy.workspaces.as_ref());
    last.into_iter().flatten().map(|each| Workspace::new(each.label.clone(), each.path.clone(), each.access)).collect()
}

/// One file has several paths where `/bin` is a link to `/usr/bin`: a flag means the policy's, where it is the same file.
fn name_as_above(request: &mut Policy, above: &[&Policy]) {
    let file = |path: &CommandPath| match path {
        CommandPath::File(path) => path.canonicalize().ok(),
        CommandPath::Lookup(_) => None,
    };
    for command in request.commands.iter_mut().flatten() {
        let mut same = above.iter().flat_map(|policy| policy.commands.iter().flatten());
        let same = same.find(|each| each.name == command.name && file(&each.path) == file(&command.path));
        if let Some(same) = same {
            command.path = same.path.clone();
        }
    }
}

/// A path of the command line. The current folder is asked for only where it matters: it may have been removed.
pub(super) fn at(current: &Result<PathBuf, Failure>, path: &Path) -> Result<PathBuf, Failure> {
    match current {
        _ if path.is_absolute() => Ok(path.to_owned()),
        Ok(current) => Ok(current.join(path)),
        Err(failure) => Err(Failure::new(failure.class, failure.message.clone())),
    }
}

/// `D`, `D:rw` or `D:ro`, each with a label of its own.
fn workspaces(flags: &[String], current: &Result<PathBuf, Failure>) -> Result<Vec<Workspace>, Failure> {
    let one = |(index, flag): (usize, &String)| {
        let (path, access) = match flag.rsplit_once(':') {
            Some((path, "ro")) => (path, Access::ReadOnly),
            Some((path, "rw")) => (path, Access::ReadWrite),
            _ => (flag.as_str(), Access::ReadWrite),
        };
        if path.is_empty() {
            return Err(Failure::usage("--workspace: name a folder"));
        }
        let label = if index == 0 { "workspace".to_owned() } else { format!("workspace-{}", index.saturating_add(1)) };
        Ok(Workspace::new(label, at(current, Path::new(path))?, access))
    };
    flags.iter().enumerate().map(one).collect()
}

fn commands(named: &[&str], current: &Result<PathBuf, Failure>) -> Result<Vec<Command>, Failure> {
    let mut commands: Vec<Command> = Vec::new();
    for word in named {
        let relative = word.contains('/') && !word.starts_with('/');
        let base = at(current, Path::new(if relative { "" } else { "/" }))?;
        let command = allowed_command(word, &base).map_err(|why| Failure::usage(format!("{word}: {why}")))?;
        match commands.iter().find(|each| each.name == command.name) {
            Some(same) if same.path == command.path => {}
            Some(_) => return Err(Failure::usage(format!("two different files are named `{}`", command.name))),
            None => commands.push(command),
        }
    }
    Ok(commands)
}

/// A command of the command line that is not there: 127, as a shell says.
fn not_found(request: &Policy) -> Result<(), Failure> {
    for command in request.commands.iter().flatten() {
        match &command.path {
            CommandPath::Lookup(name) => {
                let message = format!("{name}: no such program in /usr/bin or /bin");
                return Err(Failure::new(Class::NotFound, message));
            }
            CommandPath::File(path) => {
                let gone = |e: &std::io::Error| {
                    matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
                };
                if std::fs::metadata(path).is_err_and(|e| gone(&e)) {
                    return Err(Failure::new(Class::NotFound, format!("{} does not exist", path.display())));
                }
            }
        }
    }
    Ok(())
}
