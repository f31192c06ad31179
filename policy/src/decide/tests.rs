use super::*;
use crate::model::Policy;
use crate::source::Format;
use std::path::Path;

const POLICY: &str = r#"
version = 1
[approval]
ask = ["fs.remove-*"]
[[fs.workspace]]
label = "repo"
path = "/srv/repo"
access = "read-write"
deny = ["**/.env", "vault"]
deny_write = ["Makefile"]
max_file = "1MiB"
lease = false
[[fs.workspace]]
label = "docs"
path = "/srv/docs"
[[proc.command]]
name = "cargo"
path = "/usr/bin/cargo"
args = [["test", "**"], ["fmt", "--check"]]
cwd = "repo"
env = { RUST_BACKTRACE = "1" }
env_from_guest = ["RUST_LOG"]
timeout = "1m"
unchecked = true
[[proc.command]]
name = "true"
path = "/usr/bin/true"
"#;

fn effective() -> Effective {
    let policy = Policy::parse(POLICY, Format::Toml, "warden.toml", Path::new("/")).unwrap();
    Effective::combine(None, Some(policy), None).unwrap()
}

fn fs(op: FsOp, path: &str) -> Result<FsGrant, Denial> {
    fs_call(Call::Fs { op, path: PathArg::Text(path), to: None, intent: Intent::default() })
}

fn fs_call(call: Call<'_>) -> Result<FsGrant, Denial> {
    match effective().decide(&call).unwrap() {
        Verdict::Allow(Grant { scope: GrantScope::Fs(grant), .. }) => Ok(grant),
        Verdict::Allow(other) => panic!("{other:?}"),
        Verdict::Deny(denial) => Err(denial),
    }
}

fn spawn(command: &str, args: &[&str], cwd: Option<&str>, env_names: &[&str]) -> Result<ProcGrant, Denial> {
    let cwd = cwd.map(PathArg::Text);
    let call = Call::Spawn { kind: SpawnKind::Spawn, command, args, cwd, env_names, timeout: None };
    match effective().decide(&call).unwrap() {
        Verdict::Allow(Grant { scope: GrantScope::Proc(grant), .. }) => Ok(grant),
        Verdict::Allow(other) => panic!("{other:?}"),
        Verdict::Deny(denial) => Err(denial),
    }
}

#[test]
fn a_granted_path_carries_what_the_broker_needs() {
    let grant = fs(FsOp::ReadFile, "src/../notes/a.txt").unwrap();
    assert_eq!((grant.workspace, grant.path.to_string().as_str()), (0, "repo:notes/a.txt"));
    assert_eq!((grant.max_file_bytes, grant.lease, grant.symlinks), (1 << 20, false, true));
    assert_eq!(fs(FsOp::ReadFile, "docs:a").unwrap().workspace, 1);
}

#[test]
fn a_path_outside_is_denied_by_default() {
    for path in ["/etc/passwd", "../x", "other:x", "repo:../docs/a"] {
        let denial = fs(FsOp::ReadFile, path).unwrap_err();
        assert_eq!((denial.rule.as_str(), denial.target.as_deref()), (DEFAULT_DENY, Some(path)));
    }
}

#[test]
fn text_that_is_no_path_is_no_denial() {
    for path in ["a\0", &"a".repeat(256), &"a/".repeat(3000)] {
        let call = Call::Fs { op: FsOp::ReadFile, path: PathArg::Text(path), to: None, intent: Intent::default() };
        assert!(effective().decide(&call).is_err());
    }
}

#[test]
fn deny_holds_for_every_operation_and_beneath() {
    for op in FsOp::ALL.into_iter().filter(|op| *op != FsOp::Rename) {
        for path in [".env", "a/b/.env", "vault", "vault/x/y", "./vault//x"] {
            assert!(fs(op, path).unwrap_err().rule.starts_with("user:fs.workspace.repo.deny["), "{op:?} {path}");
        }
        assert!(fs(op, "a/b/free").is_ok(), "{op:?}");
        assert!(fs(op, "a/vault").is_ok(), "{op:?}: the glob is anchored");
    }
}

#[test]
fn deny_write_leaves_reading() {
    assert!(fs(FsOp::ReadFile, "Makefile").is_ok() && fs(FsOp::Metadata, "Makefile").is_ok());
    for op in [FsOp::WriteFile, FsOp::RemoveFile, FsOp::EnsureDir, FsOp::RemoveDir] {
        assert_eq!(fs(op, "Makefile").unwrap_err().rule, "user:fs.workspace.repo.deny_write[0]", "{op:?}");
    }
    for intent in [Intent::WRITE, Intent::CREATE, Intent { read: true, write: true, ..Intent::default() }] {
        let call = Call::Fs { op: FsOp::Open, path: PathArg::Text("Makefile"), to: None, intent };
        assert!(fs_call(call).is_err(), "{intent:?}");
    }
    let call = Call::Fs { op: FsOp::Open, path: PathArg::Text("Makefile"), to: None, intent: Intent::READ };
    assert!(fs_call(call).is_ok());
}

#[test]
fn a_read_only_workspace_is_not_changed() {
    assert!(fs(FsOp::ReadFile, "docs:a").is_ok() && fs(FsOp::ListDir, "docs:").is_ok());
    for op in [FsOp::WriteFile, FsOp::EnsureDir, FsOp::RemoveFile, FsOp::RemoveDir] {
        assert_eq!(fs(op, "docs:a").unwrap_err().rule, "user:fs.workspace.docs.access", "{op:?}");
    }
}

#[test]
fn a_rename_is_judged_at_both_ends() {
    let rename = |from, to| {
        let (path, to) = (PathArg::Text(from), Some(PathArg::Text(to)));
        fs_call(Call::Fs { op: FsOp::Rename, path, to, intent: Intent::default() })
    };
    assert_eq!(rename("a", "b").unwrap().to.unwrap().1.to_string(), "repo:b");
    for (from, to) in [
        (".env", "b"),
        ("a", ".env"),
        ("Makefile", "m"),
        ("m", "Makefile"),
        ("a", "docs:a"),
        ("docs:a", "a"),
        ("a", ".git/hooks/post-commit"),
        ("a", "../b"),
        ("repo:", "b"),
    ] {
        assert!(rename(from, to).is_err(), "{from} {to}");
    }
    let without = Call::Fs { op: FsOp::Rename, path: PathArg::Text("a"), to: None, intent: Intent::default() };
    assert!(effective().decide(&without).is_err());
}

#[test]
fn a_handle_keeps_its_workspace() {
    let within = |label, relative| {
        let path = PathArg::Within { label, relative };
        fs_call(Call::Fs { op: FsOp::ReadFile, path, to: None, intent: Intent::default() })
    };
    assert_eq!(within("docs", "repo:a").unwrap().path.to_string(), "docs:repo:a");
    assert_eq!(within("docs", "../repo/a").unwrap_err().rule, DEFAULT_DENY);
    assert_eq!(within("other", "a").unwrap_err().rule, DEFAULT_DENY);
}

#[test]
fn a_root_is_listed_and_not_removed() {
    assert!(fs(FsOp::ListDir, "repo:").is_ok() && fs(FsOp::Metadata, "").is_ok());
    assert!(fs(FsOp::RemoveDir, "repo:").is_err() && fs(FsOp::RemoveDir, "a/..").is_err());
}

#[test]
fn approval_is_part_of_the_grant() {
    let call = |op| Call::Fs { op, path: PathArg::Text("a"), to: None, intent: Intent::default() };
    let approval = |op| match effective().decide(&call(op)).unwrap() {
        Verdict::Allow(grant) => grant.approval,
        Verdict::Deny(denial) => panic!("{denial:?}"),
    };
    assert_eq!(approval(FsOp::RemoveFile).as_deref(), Some("user:approval.ask[0]"));
    assert_eq!(approval(FsOp::ReadFile), None);
}

#[test]
fn what_has_no_rule_is_denied_by_default() {
    for capability in
        ["net.fetch", "browser.open_session", "input.mouse_click", "tools.run", "exec.run", "llm.complete", "x"]
    {
        let Verdict::Deny(denial) = effective().decide(&Call::Named { capability }).unwrap() else {
            panic!("{capability}")
        };
        assert_eq!((denial.rule.as_str(), denial.capability.as_str()), (DEFAULT_DENY, capability));
    }
    for capability in ["policy.describe", "policy.claim-budget", "policy.request_capability", "policy.log-event"] {
        assert!(matches!(effective().decide(&Call::Named { capability }), Ok(Verdict::Allow(_))), "{capability}");
    }
}

#[test]
fn an_explanation_has_every_layer() {
    let system = Policy::parse(
        "version = 1\n[[fs.workspace]]\nlabel = \"all\"\npath = \"/srv\"\naccess = \"read-write\"\ndeny = [\"**/*.pem\"]\n\
         [[proc.command]]\nname = \"cargo\"\npath = \"/usr/bin/cargo\"\nargs = [[\"test\"]]\nunchecked = true\n\
         [[proc.command]]\nname = \"true\"\npath = \"/usr/bin/true\"\n",
        Format::Toml,
        "system.toml",
        Path::new("/"),
    )
    .unwrap();
    let user = Policy::parse(POLICY, Format::Toml, "warden.toml", Path::new("/")).unwrap();
    let effective = Effective::combine(Some(system), Some(user), None).unwrap();
    let explanation = effective.explain_words("fs.read-file", &["k.pem"]).unwrap();
    let rules: Vec<(&str, bool)> = explanation.layers.iter().map(|each| (each.rule.as_str(), each.allowed)).collect();
    assert_eq!(rules, [("system:fs.workspace.all.deny[0]", false), ("user:fs.workspace.repo", true)]);
    assert!(matches!(explanation.verdict, Verdict::Deny(_)));
    let explanation = effective.explain_words("proc.spawn", &["cargo", "test", "--lib"]).unwrap();
    assert_eq!(explanation.layers[0].rule, "system:proc.command.cargo.args");
    assert!(matches!(effective.explain_words("proc.spawn", &["cargo", "test"]).unwrap().verdict, Verdict::Allow(_)));
    assert!(effective.explain_words("proc.spawn", &[]).is_err());
}

#[test]
fn an_explanation_answers_what_was_asked_or_nothing() {
    let effective = effective();
    for (capability, words) in [
        ("fs.open", &["a.txt", "wrtie"][..]),
        ("fs.open", &["a.txt", "write", "x"]),
        ("fs.read_file", &["a.txt", "b.txt"]),
        ("fs.read_file", &[]),
        ("fs.rename", &["a.txt"]),
        ("fs.rename", &["a.txt", "b.txt", "c.txt"]),
        ("proc.read", &[]),
        ("proc.read", &["cargo", "x"]),
        ("llm.complete", &["x"]),
    ] {
        assert!(effective.explain_words(capability, words).is_err(), "{capability} {words:?}");
    }
    for (capability, words) in [
        ("fs.open", &["a.txt"][..]),
        ("fs.open", &["a.txt", "read"]),
        ("fs.open", &["a.txt", "write"]),
        ("fs.list_dir", &[]),
        ("fs.rename", &["a.txt", "b.txt"]),
        ("proc.read", &["cargo"]),
    ] {
        let explanation = effective.explain_words(capability, words).unwrap();
        assert!(matches!(explanation.verdict, Verdict::Allow(_)), "{capability} {words:?}: {explanation:?}");
    }
}

#[test]
fn both_paths_of_a_rename_are_judged_whichever_is_denied() {
    let effective = effective();
    for (words, first, second) in [
        (["a.txt", "b.txt"], true, true),
        (["a.txt", "repo:.env"], true, false),
        (["repo:.env", "b.txt"], false, true),
        (["/etc/passwd", "repo:.env"], false, false),
        (["a.txt", "nowhere:b"], true, false),
    ] {
        let explanation = effective.explain_words("fs.rename", &words).unwrap();
        let split = explanation.second.as_ref().unwrap().first_verdict;
        let (of_first, of_second) = explanation.layers.split_at(split);
        assert!(!of_first.is_empty() && of_first.iter().all(|each| each.allowed == first), "{explanation:?}");
        assert!(!of_second.is_empty() && of_second.iter().all(|each| each.allowed == second), "{explanation:?}");
        assert_eq!(matches!(explanation.verdict, Verdict::Allow(_)), first && second, "{explanation:?}");
    }
}

mod commands;
mod requests;
