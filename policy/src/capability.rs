//! The names of capabilities, one name everywhere: actions, approvals, audit, denials, `policy why`. Pure data.

/// Every capability there is, with underscores.
pub const CAPABILITIES: &[&str] = &[
    "fs.read_file",
    "fs.write_file",
    "fs.list_dir",
    "fs.metadata",
    "fs.ensure_dir",
    "fs.remove_file",
    "fs.remove_dir",
    "fs.rename",
    "fs.open_dir",
    "fs.open",
    "proc.spawn",
    "proc.start",
    "proc.write_stdin",
    "proc.read",
    "proc.wait",
    "proc.signal",
    "net.fetch",
    "llm.complete",
    "llm.call_tools",
    "policy.describe",
    "policy.claim_budget",
    "policy.request_capability",
    "policy.log_event",
    "tools.run",
    "exec.run",
    "browser.open_session",
    "browser.session.close",
    "browser.session.goto",
    "browser.session.describe_page",
    "browser.session.screenshot",
    "browser.session.eval",
    "browser.session.find",
    "browser.session.query_all",
    "browser.element.click",
    "browser.element.type_text",
    "browser.element.clear",
    "browser.element.attribute",
    "browser.element.inner_text",
    "browser.element.html",
    "input.key_sequence",
    "input.send_key_chord",
    "input.mouse_move",
    "input.mouse_click",
    "input.mouse_scroll",
];

/// A capability's name with underscores for hyphens, as everything here compares it.
pub fn canonical(capability: &str) -> String {
    capability.replace('-', "_")
}

/// Whether an approval pattern names a capability: `*` stands for any characters, hyphens equal underscores.
pub fn pattern_matches(pattern: &str, capability: &str) -> bool {
    let pattern = canonical(pattern);
    let capability = canonical(capability);
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = capability.strip_prefix(first) else {
        return false;
    };
    let Some(last) = pieces.next_back() else {
        return rest.is_empty();
    };
    for piece in pieces {
        match rest.find(piece).and_then(|at| rest.get(at.saturating_add(piece.len())..)) {
            Some(after) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, capability) in [
            ("proc.spawn", "proc.spawn"),
            ("fs.remove-*", "fs.remove_file"),
            ("fs.remove_*", "fs.remove-dir"),
            ("fs.*", "fs.rename"),
            ("*", "llm.complete"),
            ("*.r*e", "fs.rename"),
            ("browser.*.click", "browser.element.click"),
        ] {
            assert!(pattern_matches(pattern, capability), "{pattern} {capability}");
        }
        for (pattern, capability) in [
            ("proc.spawn", "proc.spawned"),
            ("proc.spawn", "xproc.spawn"),
            ("fs.remove-*", "fs.rename"),
            ("fs.*e", "fs.list_dir"),
            ("a*a", "a"),
            ("", "fs.rename"),
        ] {
            assert!(!pattern_matches(pattern, capability), "{pattern} {capability}");
        }
    }
}
