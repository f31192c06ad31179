//! What the jail of commands does not hold, on this and every host, one line each.
//!
//! These are no findings: nothing is tried. They stand in the answer because who asks what a host enforces would otherwise
//! take silence for a yes. README.md and docs/threat-model.md say the same, and a test compares.

use super::Check;

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

const LIMITS: [Limit; 6] = [
    // T-01: Landlock does not govern stat, and no mount namespace is used.
    limit!(
        "commands: names outside",
        "a command cannot read files outside its grant, but it sees names, sizes and times there, and reads /etc/passwd as every program does",
        "keep what must not be seen at all under folders that the task's user cannot enter (chmod 700)",
        ["Names, sizes and times of files outside", "/etc/passwd"]
    ),
    // T-08, T-13: memory and environment of others are closed to it, their command lines are not.
    limit!(
        "commands: arguments of others",
        "a command can read the arguments of every process on this host through /proc",
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
        "this version cannot keep a command to rules of files: deny, deny_write, max_file and fs_written of a workspace do not bind it",
        "a command is denied where there are such rules, unless the policy says `unchecked = true`; its result then lists them under degraded",
        ["deny rules", "unchecked = true", "max_file", "fs_written", "degraded"]
    ),
    // T-06
    limit!(
        "commands: memory",
        "the memory of a command's tree is added up every 100 ms; one that means to can hide shared memory from the sum",
        "against hostile commands start warden in a control group with memory.max",
        ["added up every 100 ms", "hide shared memory"]
    ),
    // T-07, T-13: a write takes the bit away, a write by mapping does not.
    limit!(
        "commands: set-id programs",
        "a command can rewrite a set-user-id program that lies in a writable workspace, and the program keeps the bit",
        "grant no workspace for writing that holds such programs: `find DIR -type f -perm /6000`",
        ["set-user-id program", "keeps the bit"]
    ),
];

/// The open limits, as lines of the answer.
pub(super) fn limits() -> Vec<Check> {
    LIMITS.iter().map(|limit| Check::degraded(limit.name, limit.detail, limit.consequence)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn each_is_one_line_that_is_not_cut() {
        for limit in &LIMITS {
            for line in [limit.detail, limit.consequence] {
                assert!(line.len() < super::super::LINE_MAX_CHARS - 60 && !line.contains('\n'), "{line}");
            }
        }
    }
}
