use super::*;
use crate::Answered;

fn policy_of(text: &str) -> Effective {
    let policy = Policy::parse(text, Format::Toml, "warden.toml", Path::new("/")).unwrap();
    Effective::combine(None, Some(policy), None).unwrap()
}

fn asked(policy: &Effective, capability: &str, scope: Option<&str>) -> Result<String, String> {
    match policy.answer_request(capability, scope).unwrap() {
        Answered::Granted { rule, .. } => Ok(rule),
        Answered::Refused { rule, .. } | Answered::Asks { rule } => Err(rule),
    }
}

/// T-10
#[test]
fn a_request_on_a_scope_is_granted_where_the_call_would_be() {
    let policy = policy_of(POLICY);
    for (capability, scope, granted) in [
        ("fs.read_file", "repo:a.txt", true),
        ("fs.read-file", "repo:.env", false),
        ("fs.write_file", "repo:a.txt", true),
        ("fs.write_file", "repo:Makefile", false),
        ("fs.read_file", "repo:Makefile", true),
        ("fs.write_file", "docs:a.txt", false),
        ("fs.read_file", "docs:a.txt", true),
        ("fs.read_file", "nowhere:a.txt", false),
        ("fs.read_file", "/etc/passwd", false),
        ("fs.rename", "repo:a.txt", true),
        ("fs.rename", "docs:a.txt", false),
        // A person would be asked.
        ("fs.remove_file", "repo:a.txt", false),
        ("fs.chmod", "repo:a.txt", false),
        ("proc.spawn", "cargo", true),
        ("proc.start", "true", true),
        ("proc.read", "cargo", true),
        ("proc.spawn", "curl", false),
        ("proc.wait", "curl", false),
        ("browser.open_session", "x", false),
    ] {
        let answer = asked(&policy, capability, Some(scope));
        assert_eq!(answer.is_ok(), granted, "{capability} {scope}: {answer:?}");
    }
    assert_eq!(asked(&policy, "fs.write_file", Some("docs:a")).unwrap_err(), "user:fs.workspace.docs.access");
    assert_eq!(asked(&policy, "fs.remove_file", Some("repo:a")).unwrap_err(), "user:approval.ask[0]");
    assert!(policy.answer_request("fs.read_file", Some("a\0")).is_err());
}

#[test]
fn a_request_without_a_scope_asks_whether_anything_of_it_is_granted() {
    let policy = policy_of(POLICY);
    for (capability, granted) in [
        ("fs.write_file", true),
        ("fs", true),
        ("fs.remove_dir", false),
        ("proc.spawn", true),
        ("proc.signal", true),
        ("policy.describe", true),
        ("llm.complete", false),
        ("net.fetch", false),
        ("nonsense", false),
    ] {
        assert_eq!(asked(&policy, capability, None).is_ok(), granted, "{capability}");
    }
    let read_only = policy_of("version = 1\n[[fs.workspace]]\nlabel = \"docs\"\npath = \"/srv/docs\"\n");
    assert!(asked(&read_only, "fs.write_file", None).is_err());
    assert!(asked(&read_only, "fs.list_dir", None).is_ok());
    assert!(asked(&read_only, "proc.spawn", None).is_err());
}
