use super::*;

#[test]
fn a_command_runs_with_its_shapes_only() {
    let grant = spawn("cargo", &["test", "--lib"], None, &["RUST_LOG"]).unwrap();
    assert_eq!(grant.env, [("RUST_BACKTRACE".to_owned(), "1".to_owned())]);
    assert_eq!((grant.timeout, grant.cwd.unwrap().1.to_string()), (Duration::from_secs(60), "repo:".to_owned()));
    for (args, rule) in [
        (&["build"][..], "user:proc.command.cargo.args"),
        (&["fmt"], "user:proc.command.cargo.args"),
        (&[], "user:proc.command.cargo.args"),
    ] {
        assert_eq!(spawn("cargo", args, None, &[]).unwrap_err().rule, rule, "{args:?}");
    }
    assert!(spawn("true", &[], None, &[]).is_ok());
    assert_eq!(spawn("true", &["x"], None, &[]).unwrap_err().rule, "user:proc.command.true.args");
    for stranger in ["curl", "/usr/bin/cargo", "./cargo", "Cargo", ""] {
        assert_eq!(spawn(stranger, &[], None, &[]).unwrap_err().rule, DEFAULT_DENY, "{stranger}");
    }
}

#[test]
fn a_guest_sets_no_other_variable() {
    for name in ["LD_PRELOAD", "PATH", "RUST_BACKTRACE"] {
        assert_eq!(
            spawn("cargo", &["test"], None, &[name]).unwrap_err().rule,
            "user:proc.command.cargo.env_from_guest"
        );
    }
    let bad = Call::Spawn {
        kind: SpawnKind::Start,
        command: "true",
        args: &[],
        cwd: None,
        env_names: &["A=B"],
        timeout: None,
    };
    assert!(effective().decide(&bad).is_err());
}

#[test]
fn flags_alone_let_a_guest_set_no_variable_and_a_policy_above_them_says_which() {
    let flags = |env_from_guest: &[&str]| {
        let mut flags = Policy::empty("the command line", crate::model::Scope::Request);
        let mut command = crate::allowed_command("cargo", Path::new("/")).unwrap();
        command.path = crate::CommandPath::File("/usr/bin/cargo".into());
        command.unchecked = true;
        command.env_from_guest = env_from_guest.iter().map(|name| (*name).to_owned()).collect();
        flags.commands = Some(vec![command]);
        flags
    };
    let decide = |above: Option<Policy>, flags: Policy, name: &str| {
        let effective = Effective::combine(None, above, Some(flags)).unwrap();
        let call = Call::Spawn {
            kind: SpawnKind::Spawn,
            command: "cargo",
            args: &["test"],
            cwd: None,
            env_names: &[name],
            timeout: None,
        };
        match effective.decide(&call).unwrap() {
            Verdict::Allow(_) => Ok(()),
            Verdict::Deny(denial) => Err(denial.rule),
        }
    };
    let refused = Err("task:proc.command.cargo.env_from_guest".to_owned());
    assert_eq!(decide(None, flags(&[]), "LD_PRELOAD"), refused);
    assert_eq!(decide(None, flags(&["RUST_LOG"]), "RUST_LOG"), Ok(()));
    let above = || Policy::parse(POLICY, Format::Toml, "warden.toml", Path::new("/")).ok();
    assert_eq!(decide(above(), flags(&[]), "RUST_LOG"), Ok(()));
    assert_eq!(decide(above(), flags(&[]), "LD_PRELOAD"), Err("user:proc.command.cargo.env_from_guest".to_owned()));
}

#[test]
fn a_command_starts_where_it_must() {
    assert_eq!(spawn("cargo", &["test"], Some("repo:sub"), &[]).unwrap().cwd.unwrap().1.to_string(), "repo:sub");
    assert_eq!(spawn("cargo", &["test"], Some("docs:"), &[]).unwrap_err().rule, "user:proc.command.cargo.cwd");
    assert_eq!(spawn("true", &[], Some("docs:"), &[]).unwrap().cwd.unwrap().0, 1);
    assert_eq!(spawn("true", &[], Some("vault/x"), &[]).unwrap_err().rule, "user:fs.workspace.repo.deny[1]");
    assert_eq!(spawn("true", &[], Some("/tmp"), &[]).unwrap_err().rule, DEFAULT_DENY);
}

#[test]
fn nul_in_arguments_is_no_denial() {
    let call = Call::Spawn {
        kind: SpawnKind::Spawn,
        command: "cargo",
        args: &["test", "a\0"],
        cwd: None,
        env_names: &[],
        timeout: None,
    };
    assert_eq!(effective().decide(&call), Err(InvalidArgument::Nul("a command and its arguments")));
}

#[test]
fn a_shorter_timeout_is_kept_a_longer_is_not() {
    for (asked, given) in [(1, 1), (3600, 60)] {
        let timeout = Some(Duration::from_secs(asked));
        let call = Call::Spawn {
            kind: SpawnKind::Spawn,
            command: "cargo",
            args: &["test"],
            cwd: None,
            env_names: &[],
            timeout,
        };
        let Verdict::Allow(Grant { scope: GrantScope::Proc(grant), .. }) = effective().decide(&call).unwrap() else {
            panic!("denied")
        };
        assert_eq!(grant.timeout, Duration::from_secs(given));
    }
}

#[test]
fn calls_on_a_process_follow_its_command() {
    let process = |capability, command| effective().decide(&Call::Process { capability, command }).unwrap();
    assert!(matches!(process("proc.write-stdin", "cargo"), Verdict::Allow(_)));
    assert!(matches!(process("proc.wait", "curl"), Verdict::Deny(_)));
    assert!(matches!(process("proc.spawn", "cargo"), Verdict::Deny(_)));
}
