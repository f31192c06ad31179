//! What to do where a limit ended a task, or a rule refused something to a person's own command: the very place that set it,
//! and only flags that the command has.

use crate::cli::REQUEST_OF_FLAGS;
use crate::progress::one_line;
use warden_policy::{Effective, Layer, LimitKey};

/// Longest name of a file, characters.
const FILE_MAX_CHARS: usize = 200;

/// The flag of a limit, where there is one.
fn flag(key: LimitKey) -> Option<&'static str> {
    match key {
        LimitKey::Fuel => Some("--fuel"),
        LimitKey::Memory => Some("--memory"),
        LimitKey::Wall => Some("--timeout"),
        _ => None,
    }
}

/// Which limit it was, who set it, and where more is given.
pub fn of_limit(policy: &Effective, key: LimitKey) -> String {
    let rule = policy.limits().rule(key);
    let files = policy.layer_files();
    let file_of = |wanted: Layer| files.iter().find(|(layer, _)| *layer == wanted).map(|(_, file)| *file);
    let flags = file_of(Layer::Task) == Some(REQUEST_OF_FLAGS);
    let setter = [Layer::System, Layer::User, Layer::Task]
        .into_iter()
        .find(|layer| rule.strip_prefix(layer.name()).is_some_and(|rest| rest.starts_with(':')));
    let at = |file: &str| format!("`{}` in [limits] of {}", key.name(), one_line(file, FILE_MAX_CHARS));
    let (by, place) = match (setter, setter.and_then(file_of), flag(key)) {
        (Some(Layer::Task), _, Some(flag)) if flags => (rule, flag.to_owned()),
        (Some(_), Some(file), _) => (rule, at(file)),
        (_, _, Some(flag)) if flags => ("a default", flag.to_owned()),
        _ => ("a default", file_of(Layer::Task).or(file_of(Layer::User)).map_or("your policy".to_owned(), at)),
    };
    match policy.limits().get(key) {
        Some(value) => format!("the limit is {}, by {by}; give more with {place}", key.written(value)),
        None => format!("the limit is {by}; give more with {place}"),
    }
}

/// What lifts a rule for a person's own command (`warden jail`): a flag where flags said it, else the key and its file.
pub fn of_rule(policy: &Effective, rule: &str) -> Option<String> {
    let (layer, place) = rule.split_once(':')?;
    let files = policy.layer_files();
    let file = files.iter().find(|(each, _)| each.name() == layer).map(|(_, file)| *file);
    let by_flags = file.is_none_or(|file| file == REQUEST_OF_FLAGS);
    let (section, key) = match place.strip_prefix("fs.workspace.") {
        Some(rest) => {
            let (label, key) = rest.split_once('.')?;
            (format!("[[fs.workspace]] `{label}`"), key)
        }
        None => ("[limits]".to_owned(), place.strip_prefix("limits.")?),
    };
    let built_in = key.starts_with("deny_write.builtin[");
    let name = if built_in { "allow_run_later" } else { key.split(['.', '[']).next().unwrap_or(key) };
    if !by_flags {
        let wanted = if built_in { " = true" } else { "" };
        return Some(format!("see `{name}{wanted}` of {section} in {}", one_line(file?, FILE_MAX_CHARS)));
    }
    Some(match name {
        "allow_run_later" => "--allow-run-later lifts it".to_owned(),
        "deny" => "it is one of --deny".to_owned(),
        "deny_write" => "it is one of --deny-write".to_owned(),
        "access" => "--workspace gives that folder :ro".to_owned(),
        "max_file" => "give more with --max-file".to_owned(),
        "fs_written" => "give more with --fs-written".to_owned(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use warden_policy::{Format, Policy, Scope};

    fn user(text: &str) -> Policy {
        Policy::parse(&format!("version = 1\n{text}"), Format::Toml, "warden.toml", Path::new("/")).unwrap()
    }

    fn request(file: &str, limits: &[(LimitKey, u64)]) -> Policy {
        let mut request = Policy::empty(file, Scope::Request);
        limits.iter().for_each(|(key, value)| request.limits.set(*key, *value));
        request
    }

    fn hint(user: Option<Policy>, task: Policy, key: LimitKey) -> String {
        of_limit(&Effective::combine(None, user, Some(task)).unwrap(), key)
    }

    #[test]
    fn the_layer_that_won_is_named_and_a_flag_only_where_there_is_one() {
        let small = || Some(user("[limits]\nmemory = \"1MiB\"\nwall = \"2s\"\n"));
        // The policy won: no flag gives more than it.
        let text = hint(small(), request(REQUEST_OF_FLAGS, &[]), LimitKey::Memory);
        assert_eq!(
            text,
            "the limit is 1MiB, by user:limits.memory; give more with `memory` in [limits] of warden.toml"
        );
        // The manifest won: `task run` has no flag.
        let text = hint(small(), request("task.toml", &[(LimitKey::Wall, 1000)]), LimitKey::Wall);
        assert_eq!(text, "the limit is 1s, by task:limits.wall; give more with `wall` in [limits] of task.toml");
        let text = hint(None, request("task.toml", &[]), LimitKey::Wall);
        assert!(text.contains("of task.toml") && !text.contains("--"), "{text}");
        // The control: flags, where they are what decides.
        let text = hint(small(), request(REQUEST_OF_FLAGS, &[(LimitKey::Wall, 1000)]), LimitKey::Wall);
        assert_eq!(text, "the limit is 1s, by task:limits.wall; give more with --timeout");
        assert!(hint(None, request(REQUEST_OF_FLAGS, &[]), LimitKey::Memory).ends_with("give more with --memory"));
    }

    #[test]
    fn a_rule_is_lifted_where_it_was_said() {
        let files = "[[fs.workspace]]\nlabel = \"repo\"\npath = \"/srv\"\naccess = \"read-write\"\ndeny = [\"a\"]\n";
        let both = Effective::combine(None, Some(user(files)), Some(request(REQUEST_OF_FLAGS, &[]))).unwrap();
        let alone = Effective::combine(None, None, Some(request(REQUEST_OF_FLAGS, &[]))).unwrap();
        let lifts = |policy: &Effective, rule: &str| of_rule(policy, rule).unwrap_or_default();
        let built_in = "fs.workspace.repo.deny_write.builtin[1]";
        assert_eq!(
            lifts(&both, &format!("user:{built_in}")),
            "see `allow_run_later = true` of [[fs.workspace]] `repo` in warden.toml"
        );
        assert_eq!(
            lifts(&both, "user:fs.workspace.repo.deny[0]"),
            "see `deny` of [[fs.workspace]] `repo` in warden.toml"
        );
        assert_eq!(lifts(&both, "user:limits.fs_written"), "see `fs_written` of [limits] in warden.toml");
        assert_eq!(lifts(&both, "task:fs.workspace.repo.deny[0]"), "it is one of --deny");
        assert_eq!(lifts(&alone, &format!("task:{built_in}")), "--allow-run-later lifts it");
        assert_eq!(lifts(&alone, "task:fs.workspace.workspace.max_file"), "give more with --max-file");
        for unknown in ["default-deny", "task:proc.command.sh", "task:fs.workspace.w"] {
            assert_eq!(of_rule(&alone, unknown), None, "{unknown}");
        }
    }
}
