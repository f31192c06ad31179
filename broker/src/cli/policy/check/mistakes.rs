//! What a policy may say and nobody means.

use std::path::Path;
use warden_policy::units::format_size;
use warden_policy::{Effective, LimitKey};

/// A page of linear memory: no guest starts with less.
const PAGE_BYTES: u64 = 64 * 1024;

/// Limits that nothing can be done within, and paths that a shell would have read otherwise.
pub fn of(policy: &Effective, warnings: &mut Vec<String>) {
    for key in [LimitKey::Steps, LimitKey::Wall] {
        if policy.limits().get(key) == Some(0) {
            warnings.push(format!(
                "{}: 0 leaves a task nothing; each ends at once, out of budget",
                policy.limits().rule(key)
            ));
        }
    }
    sizes(policy, warnings);
    literal_paths(policy, warnings);
}

/// A number without a unit is bytes, which is hardly ever what was meant where it is so small.
fn sizes(policy: &Effective, warnings: &mut Vec<String>) {
    for key in [LimitKey::Memory, LimitKey::Output, LimitKey::FsWritten, LimitKey::NetBytes] {
        let Some(bytes) = policy.limits().get(key).filter(|bytes| *bytes < PAGE_BYTES) else { continue };
        let (rule, size) = (policy.limits().rule(key), format_size(bytes));
        if key == LimitKey::Memory {
            warnings.push(format!(
                "{rule}: {size} is less than a page of 64KiB, so no guest starts; write a unit, as in \"256MiB\""
            ));
        } else if !bytes.is_multiple_of(1024) {
            warnings.push(format!("{rule}: {bytes} without a unit is bytes; write one, as in \"256MiB\""));
        }
    }
}

/// A path is taken as it is written: `~` and `$HOME` are names of folders like any other.
pub fn literal_paths(policy: &Effective, found: &mut Vec<String>) {
    let workspaces = policy.workspaces().iter().map(|each| (each.rule.clone(), each.path.as_path()));
    let commands = policy.commands().iter().map(|each| (each.rule.clone(), each.path.as_path()));
    let audit = policy.audit().dir.iter().map(|dir| ("audit.dir".to_owned(), dir.as_path()));
    for (rule, path) in workspaces.chain(commands).chain(audit) {
        if let Some(name) = shell_name(path) {
            found.push(format!(
                "{rule}: `{name}` in {} is taken as it is written; write the folder itself",
                path.display()
            ));
        }
    }
}

fn shell_name(path: &Path) -> Option<String> {
    path.iter().map(|name| name.to_string_lossy().into_owned()).find(|name| name == "~" || name.starts_with('$'))
}
