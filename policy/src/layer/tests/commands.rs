use super::*;

#[test]
fn a_command_is_one_of_every_layer_and_the_same_file() {
    let command =
        |path: &str, more: &str| policy(&format!("[[proc.command]]\nname = \"git\"\npath = \"{path}\"\n{more}\n"));
    let user = || Some(command("/usr/bin/git", "timeout = \"1m\"\nunchecked = true"));
    let effective = Effective::combine(Some(command("/usr/bin/git", "unchecked = true")), user(), None).unwrap();
    assert_eq!(effective.commands()[0].timeout, Duration::from_secs(60));
    assert!(effective.commands()[0].unchecked);
    let effective = Effective::combine(Some(command("/usr/bin/git", "")), user(), None).unwrap();
    assert!(!effective.commands()[0].unchecked);
    let error = Effective::combine(Some(command("/opt/git", "")), user(), None).unwrap_err();
    assert_eq!(
        (error.request.as_str(), error.ceiling.as_str()),
        ("user:proc.command.git", "system:proc.command.git.path")
    );
    let error = Effective::combine(Some(policy("")), user(), None).unwrap_err();
    assert_eq!(error.ceiling, "system:default-deny");
    let system = Some(command("/usr/bin/git", "network = [\"*.example.com\"]"));
    let user = |host: &str| Some(command("/usr/bin/git", &format!("network = [\"{host}\"]")));
    assert!(Effective::combine(system.clone(), user("git.example.com"), None).is_ok());
    assert_eq!(
        Effective::combine(system, user("evil.example"), None).unwrap_err().ceiling,
        "system:proc.command.git.network"
    );
}

#[test]
fn a_command_without_a_file_is_refused() {
    let mut flags = Policy::empty("the command line", Scope::Request);
    flags.commands = Some(vec![crate::seed_config::allowed_command("ls", Path::new("/")).unwrap()]);
    assert!(Effective::combine(None, None, Some(flags.clone())).unwrap_err().reason.contains("no file was found"));
    flags.pin_commands(|name| (name == "ls").then(|| "/usr/bin/ls".into()));
    let effective = Effective::combine(None, None, Some(flags)).unwrap();
    assert_eq!(effective.commands()[0].path, Path::new("/usr/bin/ls"));
}

/// T-10
#[test]
fn a_flag_that_asks_for_unchecked_is_refused_where_the_policy_does_not_say_so() {
    let mut flags = Policy::empty("the command line", Scope::Request);
    let mut ls = crate::seed_config::allowed_command("/usr/bin/ls", Path::new("/")).unwrap();
    ls.unchecked = true;
    flags.commands = Some(vec![ls]);
    let user = |more: &str| policy(&format!("[[proc.command]]\nname = \"ls\"\npath = \"/usr/bin/ls\"\n{more}\n"));
    let error = Effective::combine(None, Some(user("")), Some(flags.clone())).unwrap_err();
    assert_eq!(
        (error.request.as_str(), error.ceiling.as_str()),
        ("task:proc.command.ls", "user:proc.command.ls.unchecked")
    );
    // Where the policy says so too, and where there is no policy but the flags.
    let both = Effective::combine(None, Some(user("unchecked = true")), Some(flags.clone())).unwrap();
    assert!(both.commands()[0].unchecked);
    assert!(Effective::combine(None, None, Some(flags)).unwrap().commands()[0].unchecked);
}

/// T-10
#[test]
fn a_flag_that_asks_to_run_programs_of_a_workspace_is_refused_where_the_policy_does_not_say_so() {
    let mut flags = Policy::empty("the command line", Scope::Request);
    let mut ls = crate::seed_config::allowed_command("/usr/bin/ls", Path::new("/")).unwrap();
    ls.exec_workspace = true;
    flags.commands = Some(vec![ls]);
    let user = |more: &str| policy(&format!("[[proc.command]]\nname = \"ls\"\npath = \"/usr/bin/ls\"\n{more}\n"));
    let error = Effective::combine(None, Some(user("")), Some(flags.clone())).unwrap_err();
    assert_eq!(
        (error.request.as_str(), error.ceiling.as_str()),
        ("task:proc.command.ls", "user:proc.command.ls.exec_workspace")
    );
    // The controls: a policy that says so too, and flags that are the policy.
    let both = Effective::combine(None, Some(user("exec_workspace = true")), Some(flags.clone())).unwrap();
    assert!(both.commands()[0].exec_workspace);
    assert!(Effective::combine(None, None, Some(flags)).unwrap().commands()[0].exec_workspace);
}

#[test]
fn the_door_is_needed_where_a_grant_would_say_too_much() {
    let with = |access: &str, more: &str| {
        let text = workspace("repo", "/srv/repo", access, more)
            + "[[proc.command]]\nname = \"git\"\npath = \"/usr/bin/git\"\n";
        Effective::combine(None, Some(policy(&text)), None).unwrap()
    };
    let rules = |effective: &Effective| -> Vec<String> {
        effective.door_needed(0).unwrap().into_iter().map(|each| each.rule).collect()
    };
    assert!(rules(&with("read-only", "")).is_empty());
    assert_eq!(rules(&with("read-only", "deny = [\"**/.env\"]")), ["user:fs.workspace.repo.deny[0]"]);
    assert_eq!(
        rules(&with("read-write", "allow_run_later = true")),
        ["user:fs.workspace.repo.max_file", "user:limits.fs_written"]
    );
    assert!(rules(&with("read-write", ""))[0].ends_with("builtin[0]"));
    assert_eq!(with("read-only", "").door_needed(1), None);
}
