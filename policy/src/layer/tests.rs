use super::*;
use crate::decide::{Call, FsOp, Intent, PathArg, Verdict};
use crate::glob::RuleKind;
use crate::model::Asked;
use crate::source::Format;
use std::path::Path;

fn policy(text: &str) -> Policy {
    Policy::parse(&format!("version = 1\n{text}"), Format::Toml, "warden.toml", Path::new("/base")).unwrap()
}

fn workspace(label: &str, path: &str, access: &str, more: &str) -> String {
    format!("[[fs.workspace]]\nlabel = \"{label}\"\npath = \"{path}\"\naccess = \"{access}\"\n{more}\n")
}

fn request(text: &str) -> Policy {
    let whole = policy(text);
    let mut request = Policy::empty("the command line", Scope::Request);
    request.limits = whole.limits;
    request.workspaces = whole.workspaces.filter(|list| !list.is_empty());
    request.commands = whole.commands.filter(|list| !list.is_empty());
    request
}

fn reads(effective: &Effective, path: &str) -> Result<Vec<String>, String> {
    decide(effective, FsOp::ReadFile, path)
}

fn writes(effective: &Effective, path: &str) -> Result<Vec<String>, String> {
    decide(effective, FsOp::WriteFile, path)
}

fn decide(effective: &Effective, op: FsOp, path: &str) -> Result<Vec<String>, String> {
    let call = Call::Fs { op, path: PathArg::Text(path), to: None, intent: Intent::default() };
    match effective.decide(&call).unwrap() {
        Verdict::Allow(grant) => Ok(grant.rules),
        Verdict::Deny(denial) => Err(denial.rule),
    }
}

#[test]
fn limits_are_the_least_and_say_whose() {
    let effective = Effective::combine(
        Some(policy("[limits]\nsteps = 10\nwall = \"1m\"\n")),
        Some(policy("[limits]\nsteps = 20\nfuel = 5\nmemory = \"64MiB\"\n")),
        Some(request("[limits]\nsteps = 15\nmemory = \"1GiB\"\n")),
    )
    .unwrap();
    let limits = effective.limits();
    assert_eq!((limits.get(LimitKey::Steps), limits.rule(LimitKey::Steps)), (Some(10), "system:limits.steps"));
    assert_eq!((limits.get(LimitKey::Fuel), limits.rule(LimitKey::Fuel)), (Some(5), "user:limits.fuel"));
    assert_eq!((limits.get(LimitKey::Memory), limits.rule(LimitKey::Memory)), (Some(64 << 20), "user:limits.memory"));
    assert_eq!(limits.wall_or(Duration::from_secs(30)), Duration::from_secs(60));
}

#[test]
fn a_limit_left_out_has_its_default_and_a_request_none() {
    let effective = Effective::combine(None, Some(policy("")), Some(request("[limits]\nsteps = 99\n"))).unwrap();
    assert_eq!(effective.limits().get(LimitKey::Steps), Some(32));
    let effective =
        Effective::combine(None, Some(policy("[limits]\nsteps = 99\n")), Some(request("[limits]\nfuel = 1\n")))
            .unwrap();
    assert_eq!(effective.limits().get(LimitKey::Steps), Some(99));
    assert_eq!(effective.limits().get(LimitKey::Wall), None);
    let alone = Effective::combine(None, None, Some(request("[limits]\nsteps = 99\n"))).unwrap();
    assert_eq!(alone.limits().get(LimitKey::Steps), Some(99));
    assert_eq!(alone.limits().get(LimitKey::FsOps), Some(10_000));
}

#[test]
fn without_any_policy_everything_is_denied() {
    let effective = Effective::combine(None, None, None).unwrap();
    assert_eq!(reads(&effective, "a"), Err(DEFAULT_DENY.to_owned()));
    assert!(matches!(effective.decide(&Call::Named { capability: "llm.complete" }), Ok(Verdict::Deny(_))));
    assert_eq!(effective.limits().get(LimitKey::Steps), Some(32));
}

#[test]
fn a_workspace_lies_beneath_one_of_each_layer() {
    let system = || Some(policy(&workspace("all", "/srv", "read-write", "deny = [\"**/.env\"]")));
    let user = Some(policy(&workspace("repo", "/srv/repo", "read-write", "")));
    let effective = Effective::combine(system(), user, None).unwrap();
    assert_eq!(effective.workspaces()[0].label, "repo");
    assert_eq!(reads(&effective, "repo:a").unwrap(), ["system:fs.workspace.all", "user:fs.workspace.repo"]);
    assert_eq!(reads(&effective, "repo:x/.env"), Err("system:fs.workspace.all.deny[0]".to_owned()));
    for outside in ["/etc", "/srvx", "/"] {
        let user = Some(policy(&workspace("repo", outside, "read-only", "")));
        let error = Effective::combine(system(), user, None).unwrap_err();
        assert_eq!((error.request.as_str(), error.ceiling.as_str()), ("user:fs.workspace.repo", "system:default-deny"));
    }
}

#[test]
fn a_path_on_which_a_rule_could_be_lost_is_refused() {
    use std::os::unix::ffi::OsStrExt;
    let with = |path: &std::ffi::OsStr| {
        let mut one = policy(&workspace("all", "/srv", "read-write", ""));
        let inner = crate::model::Workspace::new("inner", path, Access::ReadOnly);
        one.workspaces.as_mut().unwrap().push(inner);
        Effective::combine(None, Some(one), None)
    };
    assert!(with(std::ffi::OsStr::from_bytes(b"/srv/\xff")).unwrap_err().reason.contains("not UTF-8"));
    assert!(with("srv".as_ref()).unwrap_err().reason.contains("not absolute"));
    assert!(with("/d".repeat(63).as_ref()).unwrap_err().reason.contains("names deep"));
    assert!(with("/d".repeat(62).as_ref()).is_ok());
}

#[test]
fn a_mode_wider_than_the_ceiling_names_both_rules() {
    let user = || Some(policy(&workspace("repo", "/srv/repo", "read-only", "")));
    let task = |access| Some(request(&workspace("w", "/srv/repo/sub", access, "")));
    let error = Effective::combine(None, user(), task("read-write")).unwrap_err();
    assert_eq!(error.request, "task:fs.workspace.w");
    assert_eq!(error.ceiling, "user:fs.workspace.repo.access");
    assert!(Effective::combine(None, user(), task("read-only")).is_ok());
}

#[test]
fn a_read_only_part_of_a_writable_workspace_stays_so() {
    let text = workspace("all", "/srv", "read-write", "") + &workspace("lib", "/srv/lib", "read-only", "");
    let effective = Effective::combine(None, Some(policy(&text)), None).unwrap();
    assert!(writes(&effective, "all:src/a").is_ok());
    assert_eq!(writes(&effective, "all:lib/a"), Err("user:fs.workspace.lib.access".to_owned()));
    assert!(reads(&effective, "all:lib/a").is_ok());
    // And a request for it cannot be for more.
    let task = Some(request(&workspace("w", "/srv/lib/x", "read-write", "")));
    let error = Effective::combine(None, Some(policy(&text)), task).unwrap_err();
    assert_eq!(error.ceiling, "user:fs.workspace.lib.access");
}

#[test]
fn rules_of_every_workspace_that_holds_a_path_apply() {
    let text = workspace("all", "/srv", "read-write", "deny = [\"repo/secret/**\", \"top\"]")
        + &workspace("repo", "/srv/repo", "read-write", "deny = [\"Makefile\"]\ndeny_write = [\"doc/**\"]");
    let effective = Effective::combine(None, Some(policy(&text)), None).unwrap();
    assert_eq!(reads(&effective, "all:repo/Makefile"), Err("user:fs.workspace.repo.deny[0]".to_owned()));
    assert_eq!(reads(&effective, "repo:secret/k"), Err("user:fs.workspace.all.deny[0]".to_owned()));
    assert_eq!(writes(&effective, "all:repo/doc/a"), Err("user:fs.workspace.repo.deny_write[0]".to_owned()));
    assert!(reads(&effective, "all:Makefile").is_ok() && reads(&effective, "repo:top").is_ok());
    let rules = effective.workspace_rules(1);
    assert!(rules.iter().any(|rule| rule.kind == RuleKind::Deny && rule.glob.text() == "secret/**"));
    assert!(effective.workspace_rules(7).is_empty());
}

#[test]
fn what_runs_later_is_not_written_unless_the_policy_says_so() {
    let with = |more: &str| {
        Effective::combine(None, Some(policy(&workspace("repo", "/srv/repo", "read-write", more))), None).unwrap()
    };
    let effective = with("");
    for path in [
        ".git/config",
        "sub/.git/config.lock",
        ".git/hooks/pre-commit",
        ".envrc",
        "a/.vscode/tasks.json",
        ".idea/x",
        ".cargo/config.toml",
    ] {
        assert!(
            writes(&effective, path).unwrap_err().starts_with("user:fs.workspace.repo.deny_write.builtin["),
            "{path}"
        );
        assert!(reads(&effective, path).is_ok(), "{path}");
    }
    assert!(writes(&effective, ".git/index").is_ok());
    assert!(writes(&with("allow_run_later = true"), ".git/hooks/pre-commit").is_ok());
}

#[test]
fn a_request_takes_its_settings_from_the_policy_above() {
    let user = policy(&workspace(
        "repo",
        "/srv/repo",
        "read-write",
        "allow_run_later = true\nmax_file = \"1GiB\"\nlease = false",
    ));
    let task = request(&workspace("w", "/srv/repo/sub", "read-write", ""));
    let effective = Effective::combine(None, Some(user), Some(task)).unwrap();
    let workspace = &effective.workspaces()[0];
    assert_eq!((workspace.max_file_bytes, workspace.lease), (1 << 30, false));
    assert!(writes(&effective, ".envrc").is_ok());
    // Whole policies narrow each other instead.
    let system = policy(&super::tests::workspace("all", "/srv", "read-write", "max_file = \"1MiB\""));
    let user = policy(&super::tests::workspace("repo", "/srv/repo", "read-write", "allow_run_later = true"));
    let effective = Effective::combine(Some(system), Some(user), None).unwrap();
    assert_eq!(effective.workspaces()[0].max_file_bytes, 1 << 20);
    assert_eq!(effective.workspaces()[0].max_file_rule, "system:fs.workspace.all.max_file");
    assert!(writes(&effective, ".envrc").unwrap_err().starts_with("system:fs.workspace.all.deny_write.builtin["));
}

/// T-10
#[test]
fn what_a_flag_asks_for_itself_is_no_more_than_the_policy_says() {
    let user = |more: &str| policy(&workspace("repo", "/srv/repo", "read-write", more));
    let flags = |run_later: bool, max_file: Option<u64>| {
        let mut task = request(&workspace("w", "/srv/repo", "read-write", ""));
        let own = &mut task.workspaces.as_mut().unwrap()[0];
        own.asked = Asked { max_file: max_file.is_some(), run_later };
        own.allow_run_later = run_later;
        own.max_file_bytes = max_file.unwrap_or(own.max_file_bytes);
        task
    };
    let with = |user, task| Effective::combine(None, Some(user), Some(task));
    let refused = |result: Result<Effective, WidenError>, key: &str| {
        let error = result.unwrap_err();
        let rules = (format!("task:fs.workspace.w.{key}"), format!("user:fs.workspace.repo.{key}"));
        assert_eq!((error.request, error.ceiling), rules);
    };
    refused(with(user(""), flags(true, None)), "allow_run_later");
    refused(with(user("max_file = \"1KiB\""), flags(false, Some(2048))), "max_file");
    // The controls: as much as there is, and less.
    let effective = with(user("allow_run_later = true"), flags(true, None)).unwrap();
    assert!(writes(&effective, ".git/config").is_ok());
    let effective = with(user("allow_run_later = true"), flags(false, None)).unwrap();
    assert!(writes(&effective, ".git/config").is_ok(), "who says nothing has what the policy gives");
    let effective = with(user("max_file = \"2KiB\""), flags(false, Some(1024))).unwrap();
    let narrowed = &effective.workspaces()[0];
    assert_eq!((narrowed.max_file_bytes, narrowed.max_file_rule.as_str()), (1024, "task:fs.workspace.w.max_file"));
    // Flags alone are the policy.
    let alone = Effective::combine(None, None, Some(flags(true, Some(1 << 40)))).unwrap();
    assert!(writes(&alone, ".git/config").is_ok() && alone.workspaces()[0].max_file_bytes == 1 << 40);
}

#[test]
fn resolved_paths_are_what_layers_compare() {
    let system = || Some(policy(&workspace("all", "/srv", "read-write", "")));
    let mut user = policy(&workspace("repo", "/srv/link", "read-write", ""));
    assert!(Effective::combine(system(), Some(user.clone()), None).is_ok());
    user.resolve_workspaces(|_| Ok::<_, ()>("/etc".into())).unwrap();
    assert!(Effective::combine(system(), Some(user), None).is_err());
}

#[test]
fn the_model_is_one_endpoint_in_every_layer() {
    let endpoint =
        |url: &str, model: &str| Some(policy(&format!("[llm]\nbase_url = \"{url}\"\nmodel = \"{model}\"\n")));
    let a = "http://127.0.0.1:1/v1";
    assert!(Effective::combine(endpoint(a, "m"), endpoint(a, "m"), None).is_ok());
    let error = Effective::combine(endpoint(a, "m"), endpoint("http://evil/v1", "m"), None).unwrap_err();
    assert_eq!((error.request.as_str(), error.ceiling.as_str()), ("user:llm", "system:llm.base_url"));
    assert!(Effective::combine(endpoint(a, "m"), endpoint(a, "n"), None).is_err());
    assert!(Effective::combine(Some(policy("")), endpoint(a, "m"), None).is_err());
    let replay = Some(policy("[llm]\nprovider = \"replay\"\nfile = \"r.jsonl\"\n"));
    let effective = Effective::combine(endpoint(a, "m"), replay, None).unwrap();
    assert!(matches!(effective.decide(&Call::Named { capability: "llm.complete" }), Ok(Verdict::Allow(_))));
}

#[test]
fn approvals_add_up_and_the_strictest_way_wins() {
    let effective = Effective::combine(
        Some(policy("[approval]\nask = [\"proc.spawn\"]\nvia = \"deny\"\n")),
        Some(policy("[approval]\nask = [\"fs.remove-*\"]\nvia = \"tty\"\ntimeout = \"1m\"\n")),
        None,
    )
    .unwrap();
    assert_eq!(effective.approval("proc.spawn"), Some("system:approval.ask[0]"));
    assert_eq!(effective.approval("fs.remove_dir"), Some("user:approval.ask[0]"));
    assert_eq!(effective.approval("fs.read_file"), None);
    assert_eq!(effective.approval_settings().via, ApprovalVia::Deny);
    assert_eq!(effective.approval_settings().timeout, Duration::from_secs(60));
}

#[test]
fn the_ceiling_keeps_its_audit_directory_and_root_needs_every_policy() {
    let system = policy("[audit]\ndir = \"/var/log/w\"\ndurability = \"sync\"\n[isolation]\nallow_root = true\n");
    let user =
        |more: &str| policy(&format!("[audit]\ndir = \"/tmp/x\"\n[isolation]\nnamespaces = \"require\"\n{more}"));
    let effective = Effective::combine(Some(system.clone()), Some(user("")), None).unwrap();
    assert_eq!(effective.audit().dir.as_deref(), Some(Path::new("/var/log/w")));
    assert_eq!(effective.audit().durability, Durability::Sync);
    assert_eq!(effective.isolation().namespaces, Feature::Require);
    assert!(!effective.isolation().allow_root);
    let effective =
        Effective::combine(Some(system), Some(user("allow_root = true\n")), Some(request("[limits]\nsteps = 1\n")))
            .unwrap();
    assert!(effective.isolation().allow_root);
}

mod commands;
mod rendering;

#[test]
fn what_is_asked_for_and_not_given_is_told_with_the_layer_that_won() {
    let effective = Effective::combine(
        Some(policy("[limits]\nsteps = 10\n")),
        Some(policy("[limits]\nsteps = 20\nfuel = 5\nwall = \"2m\"\n")),
        Some(request("[limits]\nsteps = 5\nmemory = \"1GiB\"\nwall = \"5m\"\n")),
    )
    .unwrap();
    let told: Vec<String> = effective.narrowed_limits().iter().map(ToString::to_string).collect();
    let least = "limits are the least of all layers";
    assert_eq!(
        told,
        [
            format!("user:limits.steps asks for 20 and gets 10, by system:limits.steps: {least}"),
            format!("task:limits.wall asks for 5m and gets 2m, by user:limits.wall: {least}"),
            format!(
                "task:limits.memory asks for 1GiB and gets 256MiB, by the default of system:limits.memory: {least}"
            ),
        ]
    );
    let shown = effective.to_toml();
    assert!(told.iter().all(|line| shown.contains(&format!("# {line}\n"))), "{shown}");
    assert_eq!(effective.to_json()["narrowed"][0]["asked_by"], "user:limits.steps");
    // The control: who asks for less gets it, and nothing is to be told.
    let within = Effective::combine(
        None,
        Some(policy("[limits]\nsteps = 20\n")),
        Some(request("[limits]\nsteps = 5\nfuel = 7\n")),
    )
    .unwrap();
    assert_eq!(within.narrowed_limits(), []);
    assert!(!within.to_toml().contains("asks for"));
}
