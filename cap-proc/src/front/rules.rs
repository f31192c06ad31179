//! What the front checks again before a command is started, though the broker has decided it already (T-07): a fault in
//! one of the two must not be enough.

use crate::orders::{DoorState, Launch, NO_WORKSPACE};
use warden_proto::Text;
use warden_proto::msg::error::{CallError, ErrorCode};
use warden_proto::msg::fs::{HelperTarget, PathText};
use warden_proto::msg::proc::{ArgShape, CommandSetup, EnvVar, HelperCommand, ProcSetup};

/// Said of every command that runs without the door where it should have one.
pub const UNCHECKED: &str = "this host allows no supervisor of paths, so rules of files (deny, deny_write, max_file, fs_written) do not hold for the command: unchecked";

/// Variables that no guest sets, whatever a policy lists: they make the loader, the C library or a shell run or read
/// something else before the program's own first line.
const NEVER_FROM_GUEST: [&str; 18] = [
    "BASH_ENV",
    "BASH_FUNC_",
    "ENV",
    "GCONV_PATH",
    "GETCONF_DIR",
    "GLIBC_TUNABLES",
    "HOME",
    "HOSTALIASES",
    "IFS",
    "LD_",
    "LOCPATH",
    "MALLOC_",
    "NLSPATH",
    "PATH",
    "PS4",
    "SHELLOPTS",
    "TMPDIR",
    "TZDIR",
];
/// Those of the above that stand for everything that begins with them.
const PREFIXES: [&str; 3] = ["BASH_FUNC_", "LD_", "MALLOC_"];

/// Decides on one command and says what the runner shall start; `process` and `piped` are the caller's.
pub fn check(setup: &ProcSetup, door: DoorState, command: &HelperCommand) -> Result<Launch, CallError> {
    let rule = setup.commands.get(usize::from(command.command));
    let rule = rule.ok_or_else(|| CallError::new(ErrorCode::NotFound, "there is no command of this index"))?;
    if door == DoorState::Impossible && !rule.unchecked {
        let message = "this host lets no process look at another's memory (kernel.yama.ptrace_scope), so the paths of this \
                       command cannot be checked against the rules of its workspaces; `unchecked = true` in its \
                       [[proc.command]] runs it without, degraded";
        return Err(CallError::new(ErrorCode::Unavailable, message));
    }
    let arguments: Vec<&str> = command.args.iter().map(|arg| arg.as_str()).collect();
    if arguments.iter().any(|arg| arg.contains('\0')) {
        return Err(CallError::new(ErrorCode::InvalidArgument, "an argument holds a NUL character"));
    }
    if !rule.any_args && !arguments_allowed(&rule.shapes, &arguments) {
        return Err(CallError::denied(&rule.rule, "these arguments have none of the shapes that the rule allows"));
    }
    for variable in command.env.iter() {
        check_variable(rule, variable)?;
    }
    if command.processes_max == 0 {
        return Err(CallError::new(ErrorCode::Limit, "the task's processes are used up"));
    }
    let (workspace, cwd) = working_directory(setup, &command.cwd)?;
    Ok(Launch {
        process: 0,
        command: command.command,
        args: command.args.clone(),
        env: command.env.clone(),
        workspace,
        cwd,
        processes_max: command.processes_max.min(setup.bounds.processes.max(1)),
        growth_max: command.growth_max,
        piped: [false; 3],
    })
}

/// No shape allows no argument; with shapes, one of them must match from the first argument to the last.
fn arguments_allowed(shapes: &[ArgShape], arguments: &[&str]) -> bool {
    if shapes.is_empty() {
        return arguments.is_empty();
    }
    shapes.iter().any(|shape| {
        let items: Vec<&str> = shape.items.iter().map(|item| item.as_str()).collect();
        let (items, rest) = match items.split_last() {
            Some((&"**", before)) => (before, true),
            _ => (items.as_slice(), false),
        };
        let long_enough = if rest { arguments.len() >= items.len() } else { arguments.len() == items.len() };
        // A `**` that is not last matches nothing: no policy can hold it.
        long_enough && items.iter().zip(arguments).all(|(item, arg)| *item == "*" || (*item != "**" && item == arg))
    })
}

fn check_variable(rule: &CommandSetup, variable: &EnvVar) -> Result<(), CallError> {
    let key = variable.key.as_str();
    let shaped =
        key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !key.starts_with(|c: char| c.is_ascii_digit());
    if key.is_empty() || !shaped || variable.value.contains('\0') {
        return Err(CallError::new(ErrorCode::InvalidArgument, "a variable's name or value is malformed"));
    }
    let prefixed = PREFIXES.iter().any(|prefix| key.starts_with(prefix));
    let fixed = rule.env.iter().any(|own| own.key.as_str() == key);
    if prefixed || fixed || NEVER_FROM_GUEST.contains(&key) {
        return Err(CallError::denied(&rule.rule, &format!("the variable {key} may not be set by a guest")));
    }
    Ok(())
}

fn working_directory(setup: &ProcSetup, cwd: &HelperTarget) -> Result<(u16, PathText), CallError> {
    let invalid = |message| Err(CallError::new(ErrorCode::InvalidArgument, message));
    let HelperTarget::Workspace { workspace, path } = cwd else {
        return invalid("a working directory is named by workspace and path");
    };
    if *workspace == NO_WORKSPACE && setup.workspaces == 0 {
        return Ok((NO_WORKSPACE, Text::default()));
    }
    if *workspace >= setup.workspaces {
        return invalid("the working directory's workspace does not exist");
    }
    if path.contains('\0') || path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return invalid("the working directory is not a normalised relative path");
    }
    Ok((*workspace, path.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use warden_proto::List;

    fn allowed(shapes: &[&[&str]], arguments: &[&str]) -> bool {
        let shapes: Vec<ArgShape> = shapes
            .iter()
            .map(|items| ArgShape { items: List::new(items.iter().map(|i| Text::cut(i)).collect()).unwrap() })
            .collect();
        arguments_allowed(&shapes, arguments)
    }

    #[test]
    fn shapes_match_from_first_to_last() {
        let shapes: &[&[&str]] = &[&["test", "**"], &["fmt", "--check"], &["show", "*"]];
        for yes in [&["test"][..], &["test", "a", "b"], &["fmt", "--check"], &["show", "x"], &["show", "**"]] {
            assert!(allowed(shapes, yes), "{yes:?}");
        }
        for no in
            [&[][..], &["fmt"], &["fmt", "--check", "x"], &["show"], &["show", "a", "b"], &["tests"], &["x", "test"]]
        {
            assert!(!allowed(shapes, no), "{no:?}");
        }
    }

    #[test]
    fn no_shape_allows_no_argument_and_a_rest_in_the_middle_allows_nothing() {
        assert!(allowed(&[], &[]));
        assert!(!allowed(&[], &["x"]));
        assert!(allowed(&[&["**"]], &[]) && allowed(&[&["**"]], &["a", "b"]));
        assert!(!allowed(&[&["**", "x"]], &["a", "x"]) && !allowed(&[&["**", "x"]], &["**", "x"]));
    }
}
