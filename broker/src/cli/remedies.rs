//! What to do where a limit ended a task: the very place that set it, and only flags that the command has.

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
}
