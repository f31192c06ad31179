//! What of a manifest can never come out well, found before anything is started: a task that cannot be done should not act.
//!
//! A path that a rule denies is not among it: rules decide on what is there when it is asked for. What no policy of this
//! task could grant is: an absolute path, a workspace or a command that there is not.

use crate::failure::Failure;
use crate::progress::one_line;
use warden_policy::{Brain, Effective, ManifestKind, Predicate, Verdict};

/// Longest word of a message, characters.
const WORD_MAX_CHARS: usize = 120;

/// `place` tells where what a rule names stands.
pub fn check(
    policy: &Effective,
    kind: &ManifestKind,
    success: &[Predicate],
    place: impl Fn(&str) -> String,
) -> Result<(), Failure> {
    // Another brain may need none.
    if matches!(kind, ManifestKind::Goal { brain: Brain::AgentCore, .. }) && policy.llm().is_none() {
        let message = "the built-in brain needs a model: give `[llm]` in the policy, or a recording with --replay FILE";
        return Err(Failure::usage(format!("{}: {message}", place(""))));
    }
    for (index, predicate) in success.iter().enumerate() {
        if let Some(why) = never(policy, predicate) {
            return Err(Failure::usage(format!(
                "{}: the predicate can never hold: {why}",
                place(&format!("success[{index}]"))
            )));
        }
    }
    Ok(())
}

/// Why a predicate can never be asked under this policy.
fn never(policy: &Effective, predicate: &Predicate) -> Option<String> {
    match predicate {
        Predicate::File { path, .. } => never_granted(policy, path),
        Predicate::Command { command, .. } => {
            let names: Vec<&str> = policy.commands().iter().map(|each| each.name.as_str()).collect();
            let known = names.contains(&command.as_str());
            (!known).then(|| match names.as_slice() {
                [] => format!("there is no command `{}`; the policy has none", one_line(command, WORD_MAX_CHARS)),
                some => {
                    let (command, all) = (one_line(command, WORD_MAX_CHARS), some.join(", "));
                    format!("there is no command `{command}`; the policy has {}", one_line(&all, 2 * WORD_MAX_CHARS))
                }
            })
        }
        Predicate::All(parts) | Predicate::Any(parts) => parts.iter().find_map(|part| never(policy, part)),
        Predicate::Not(part) => never(policy, part),
        _ => None,
    }
}

fn never_granted(policy: &Effective, path: &str) -> Option<String> {
    let shown = one_line(path, WORD_MAX_CHARS);
    match policy.explain_words("fs.metadata", &[path]) {
        Err(error) => Some(format!("{shown}: {error}")),
        // No layer was asked: no rule of any could grant it.
        Ok(explanation) if explanation.layers.iter().any(|each| each.layer.is_none() && !each.allowed) => {
            match explanation.verdict {
                Verdict::Deny(denial) => Some(format!("{shown}: {}", denial.reason)),
                Verdict::Allow(_) => None,
            }
        }
        Ok(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Class;
    use std::path::Path;
    use warden_policy::{Format, Manifest, Policy};

    const POLICY: &str = "version = 1\n[[fs.workspace]]\nlabel = \"work\"\npath = \"/srv/w\"\ndeny = [\"**/.env\"]\n\
        [[proc.command]]\nname = \"true\"\npath = \"/usr/bin/true\"\n";
    const RUNBOOK: &str = "kind = \"runbook\"\n[[step]]\ncapability = \"fs.list_dir\"\n";

    fn checked(policy: &str, manifest: &str) -> Result<(), Failure> {
        let policy = Policy::parse(policy, Format::Toml, "warden.toml", Path::new("/")).unwrap();
        let policy = Effective::combine(None, Some(policy), None).unwrap();
        let manifest = Manifest::parse(manifest, Format::Toml, "task.toml", Path::new("/")).unwrap();
        let marks = manifest.request.marks;
        check(&policy, &manifest.kind, &manifest.success, |rule| marks.place("task.toml", rule))
    }

    #[test]
    fn what_no_rule_could_grant_is_found_with_its_line_and_what_a_rule_denies_is_not() {
        for predicate in [
            "file = \"/etc/passwd\"\nexists = true",
            "file = \"../up\"\nexists = true",
            "file = \"nowhere:a\"\nexists = true",
            "command = \"curl\"",
            "not = { file = \"/etc/passwd\", exists = true }",
            "any = [{ command = \"true\" }, { command = \"curl\" }]",
        ] {
            let failure = checked(POLICY, &format!("{RUNBOOK}[[success]]\n{predicate}\n")).unwrap_err();
            assert!(
                failure.class == Class::Usage && failure.message.starts_with("task.toml:4:"),
                "{predicate}: {failure}"
            );
        }
        for predicate in [
            "file = \"work:a\"\nexists = true",
            "file = \"a\"\nexists = true",
            "file = \".env\"\nabsent = true",
            "command = \"true\"",
        ] {
            assert!(checked(POLICY, &format!("{RUNBOOK}[[success]]\n{predicate}\n")).is_ok(), "{predicate}");
        }
    }

    #[test]
    fn a_goal_without_a_model_is_found_and_one_with_a_recording_is_not() {
        let goal = "kind = \"goal\"\ngoal = \"x\"\n";
        assert!(checked(POLICY, goal).unwrap_err().message.contains("[llm]"));
        let with = format!("{POLICY}[llm]\nprovider = \"replay\"\nfile = \"/srv/r.jsonl\"\n");
        assert!(checked(&with, goal).is_ok());
        assert!(checked(POLICY, RUNBOOK).is_ok());
    }
}
