//! The form in which an action names a secret: `{{secret:demo.username}}`.
//!
//! Used by the worker on an action's input and by the broker on what a command is given. Until a helper resolves such a
//! name, whoever finds one refuses the call: a name that is passed on as text would end in a file or a form in place of
//! what it stands for, and nobody would be told (T-08).

/// What begins a name.
const OPEN: &[u8] = b"{{secret:";
/// What ends it.
const CLOSE: &[u8] = b"}}";
/// Longest name, bytes.
const NAME_MAX_BYTES: usize = 256;

/// The first secret that `bytes` names.
pub fn find(bytes: &[u8]) -> Option<&str> {
    bytes.windows(OPEN.len()).enumerate().filter(|(_, window)| *window == OPEN).find_map(|(at, _)| {
        let rest = bytes.get(at.checked_add(OPEN.len())?..)?;
        let near = rest.get(..NAME_MAX_BYTES).unwrap_or(rest);
        let end = near.windows(CLOSE.len()).position(|window| window == CLOSE)?;
        std::str::from_utf8(near.get(..end)?).ok().filter(|name| is_name(name))
    })
}

/// Labels joined by dots, as a policy declares them.
fn is_name(name: &str) -> bool {
    let is_label = |label: &str| {
        label.starts_with(|first: char| first.is_ascii_alphabetic())
            && label.chars().all(|each| each.is_ascii_alphanumeric() || matches!(each, '_' | '-'))
    };
    name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn a_name_is_found_wherever_it_stands() {
        for (text, name) in [
            ("{{secret:llm}}", "llm"),
            ("user={{secret:demo.user_name-1}}&x", "demo.user_name-1"),
            ("{{secret:}} {{secret:a b}} {{secret:{{secret:b}}", "b"),
        ] {
            assert_eq!(find(text.as_bytes()), Some(name), "{text}");
        }
        assert_eq!(find(b"\xff\x00{{secret:x}}\xfe"), Some("x"));
    }

    #[test]
    fn what_only_looks_like_one_is_text() {
        let long = format!("{{{{secret:{}}}}}", "a".repeat(300));
        for text in [
            "",
            "secret:llm",
            "{{secret:llm}",
            "{secret:llm}}",
            "{{secret:}}",
            "{{secret:1}}",
            "{{ secret:llm }}",
            &long,
        ] {
            assert_eq!(find(text.as_bytes()), None, "{text}");
        }
    }
}
