//! What the jail of commands does not hold, on this and every host, one line each.
//!
//! These are no findings but for what namespaces and control groups close: nothing else is tried. They stand in the answer because who asks what a host enforces would otherwise
//! take silence for a yes. README.md and docs/threat-model.md say the same, and a test compares.

use super::Check;
use super::host::OfCommands;

/// One open limit.
struct Limit {
    name: &'static str,
    /// What a command can do.
    detail: &'static str,
    /// What to do about it.
    consequence: &'static str,
    /// What both documents say of it, word for word.
    #[cfg(test)]
    words: &'static [&'static str],
}

macro_rules! limit {
    ($name:literal, $detail:literal, $consequence:literal, $words:expr) => {
        Limit {
            name: $name,
            detail: $detail,
            consequence: $consequence,
            #[cfg(test)]
            words: &$words,
        }
    };
}

const LIMITS: [Limit; 5] = [
    // T-01: Landlock does not govern stat.
    limit!(
        "commands: names outside",
        "a command cannot read files outside its grant, but without namespaces it sees names, sizes and times there",
        "keep what must not be seen at all under folders that the task's user cannot enter (chmod 700)",
        ["Names, sizes and times of files outside", "/etc/passwd"]
    ),
    // T-08, T-13: memory and environment of others are closed to it, their command lines are not.
    limit!(
        "commands: arguments of others",
        "without namespaces a command can read the arguments of every process on this host through /proc",
        "pass no secret as an argument to any program on this host",
        ["Arguments of other processes", "/proc"]
    ),
    // T-07
    limit!(
        "commands: exec_workspace",
        "exec_workspace = false is no boundary: an interpreter or the dynamic loader runs what lies in a workspace",
        "judge a command by what it can reach, not by which programs it can start",
        ["exec_workspace = false", "interpreter or the dynamic loader"]
    ),
    // T-01
    limit!(
        "commands: rules of files",
        "a command's reads are refused by rule at the door; stat, readlink and the names in a folder that may be opened are not",
        "deny the folder itself where names, sizes and times are secret as well",
        ["stat", "names, sizes and times", "deny"]
    ),
    // T-06
    limit!(
        "commands: memory",
        "the memory of a command's tree is added up every 100 ms; one that means to can hide shared memory from the sum",
        "against hostile commands start warden in a control group with memory.max",
        ["added up every 100 ms", "hide shared memory"]
    ),
];

/// Limits that are none where commands are in namespaces of their own, and what then holds.
const CLOSED_BY_NAMESPACES: [(&str, &str); 2] = [
    (
        "commands: names outside",
        "nothing has a name but its workspaces and the system's directories, /etc/passwd among them, unless `isolation.namespaces` is off",
    ),
    (
        "commands: arguments of others",
        "a command sees no process but those of its task, unless `isolation.namespaces` is off",
    ),
];
/// The same where the kernel bounds the memory of their groups.
const CLOSED_BY_GROUPS: (&str, &str) = (
    "commands: memory",
    "the kernel bounds the memory of a command's tree by memory.max, unless `isolation.cgroups` is off",
);

/// The limits, as lines of the answer, by what commands can have here.
pub(super) fn limits(found: &OfCommands) -> Vec<Check> {
    let mut closed: Vec<(&str, &str)> = Vec::new();
    if found.namespaces.is_ok() {
        closed.extend(CLOSED_BY_NAMESPACES);
    }
    if found.groups.as_ref().is_ok_and(|groups| groups.memory) {
        closed.push(CLOSED_BY_GROUPS);
    }
    let line = |limit: &Limit| match closed.iter().find(|(name, _)| *name == limit.name) {
        Some((name, holds)) => Check::ok(*name, *holds),
        None => Check::degraded(limit.name, limit.detail, limit.consequence),
    };
    LIMITS.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use warden_spawner::probe::Controllers;

    /// One space for each run of them, since documents break lines; without marks for code and bold.
    fn plain(text: &str) -> String {
        text.replace(['`', '*'], "").split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn both_documents_name_each_limit() {
        let documents = [
            ("README.md", plain(include_str!("../../../../README.md"))),
            ("docs/threat-model.md", plain(include_str!("../../../../docs/threat-model.md"))),
        ];
        for limit in &LIMITS {
            for (name, text) in &documents {
                for word in limit.words {
                    assert!(text.contains(word), "{name} does not say {word:?} of {}", limit.name);
                }
            }
        }
    }

    #[test]
    fn namespaces_close_two_of_them_and_groups_one() {
        let none = || "none".to_owned();
        let groups = |memory| Ok(Controllers { pids: true, memory });
        for (namespaces, groups, closed) in [
            (Err(none()), Err(none()), 0),
            (Ok(()), Err(none()), 2),
            (Ok(()), groups(false), 2),
            (Err(none()), groups(true), 1),
            (Ok(()), groups(true), 3),
        ] {
            let open =
                limits(&OfCommands { namespaces, groups }).iter().filter(|check| !check.consequence.is_empty()).count();
            assert_eq!(open, LIMITS.len() - closed);
        }
    }

    #[test]
    fn each_is_one_line_that_is_not_cut() {
        for limit in &LIMITS {
            for line in [limit.detail, limit.consequence] {
                assert!(line.len() < super::super::LINE_MAX_CHARS - 60 && !line.contains('\n'), "{line}");
            }
        }
    }
}
