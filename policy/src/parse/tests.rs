use super::*;
use crate::model::{Access, CommandPath, Durability, Feature, Llm, SecretSource, SecretUse};
use proptest::prelude::*;
use std::time::Duration;

/// The example of the documentation, every key in it.
const DOCUMENTED: &str = include_str!("documented.toml");

fn parse(text: &str) -> Result<Policy, SourceError> {
    Policy::parse(text, Format::Toml, "warden.toml", Path::new("/srv/conf"))
}

fn yaml(text: &str) -> Result<Policy, SourceError> {
    Policy::parse(text, Format::Yaml, "warden.yaml", Path::new("/srv/conf"))
}

fn workspace_with(line: &str) -> String {
    format!("version = 1\n[[fs.workspace]]\nlabel = \"repo\"\npath = \"work\"\n{line}\n")
}

fn command_with(line: &str) -> String {
    format!("version = 1\n[[proc.command]]\nname = \"cargo\"\npath = \"/usr/bin/cargo\"\n{line}\n")
}

#[test]
fn the_documented_policy_is_read_whole() {
    let policy = parse(DOCUMENTED).unwrap();
    assert_eq!(policy.limits.get(LimitKey::Fuel), Some(5_000_000_000));
    assert_eq!(policy.limits.get(LimitKey::Wall), Some(600_000));
    assert_eq!(policy.limits.get(LimitKey::Memory), Some(256 << 20));
    let workspace = &policy.workspaces.as_ref().unwrap()[0];
    assert_eq!((workspace.label.as_str(), workspace.access), ("repo", Access::ReadWrite));
    assert_eq!(workspace.deny.len(), 2);
    assert_eq!(workspace.max_file_bytes, 10 << 20);
    let command = &policy.commands.as_ref().unwrap()[0];
    assert_eq!(command.path, CommandPath::File("/usr/bin/cargo".into()));
    assert_eq!(command.args[1].texts(), ["fmt", "--check"]);
    assert_eq!(command.env, [("RUST_BACKTRACE".to_owned(), "1".to_owned())]);
    assert_eq!(command.timeout, Duration::from_secs(300));
    let net = &policy.net.as_ref().unwrap()[0];
    assert_eq!((net.ports.as_slice(), net.secret.as_deref()), (&[443][..], Some("github")));
    assert!(policy.browser.as_ref().unwrap().screenshots);
    assert!(matches!(&policy.llm, Some(Llm::Endpoint { secret: Some(name), .. }) if name == "llm"));
    assert!(matches!(policy.secrets[0].source, SecretSource::File(_)));
    assert_eq!(policy.secrets[0].uses, [SecretUse::Llm]);
    assert_eq!(policy.approval.ask, ["proc.spawn", "fs.remove-*"]);
    assert_eq!(policy.audit.durability, Some(Durability::Flush));
    assert_eq!(policy.isolation.namespaces, Some(Feature::Auto));
    assert_eq!(policy.tools.as_ref().unwrap().dir, Path::new("/srv/conf/tools/wasm"));
}

#[test]
fn keys_left_out_have_their_defaults() {
    let policy = parse(&workspace_with("")).unwrap();
    let workspace = &policy.workspaces.unwrap()[0];
    assert_eq!(workspace.path, Path::new("/srv/conf/work"));
    assert_eq!(workspace.access, Access::ReadOnly);
    assert_eq!(workspace.max_file_bytes, 64 << 20);
    assert!(workspace.symlinks && workspace.lease && !workspace.allow_run_later);
    let policy = parse(&command_with("")).unwrap();
    let command = &policy.commands.unwrap()[0];
    assert!(command.args.is_empty() && !command.unchecked && !command.exec_workspace);
    assert!(policy.approval.ask.is_empty() && policy.llm.is_none() && policy.browser.is_none());
}

#[test]
fn yaml_has_the_same_keys() {
    let policy = yaml(
        "version: 1\nlimits:\n  fuel: 5_000_000\n  wall: 2s\nfs:\n  workspace:\n  - label: repo\n    path: ../w\n    \
         deny: ['**/.env']\nproc:\n  command:\n  - name: git\n    path: /usr/bin/git\n    args: [[status], [diff, '**']]\n",
    )
    .unwrap();
    assert_eq!(policy.limits.get(LimitKey::Fuel), Some(5_000_000));
    assert_eq!(policy.workspaces.unwrap()[0].path, Path::new("/srv/w"));
    assert_eq!(policy.commands.unwrap()[0].args[1].texts(), ["diff", "**"]);
}

/// Text, line, a part of the message, the suggestion.
type Refused = (&'static str, usize, &'static str, Option<&'static str>);

#[test]
fn what_is_wrong_is_named_with_its_line_and_the_nearest_key() {
    let cases: &[Refused] = &[
        ("version = 1\n[limits]\nstpes = 3\n", 3, "unknown key `stpes` in [limits]", Some("steps")),
        ("version = 1\n\nlimit = 3\n", 3, "unknown key `limit`", Some("limits")),
        ("version = 1\n[limits]\nsteps = \"3\"\n", 3, "`steps` must be a whole number, found a text", None),
        ("version = 1\n[limits]\nsteps = -3\n", 3, "must not be negative", None),
        ("version = 1\n[limits]\nwall = 10\n", 3, "a duration such as", None),
        ("version = 1\n[limits]\nmemory = \"256 mb\"\n", 3, "is not a size", None),
        ("version = 2\n", 1, "version 2 is not known", Some("version = 1")),
        ("version = \"1\"\n", 1, "`version` must be a whole number", None),
        ("[limits]\nsteps = 1\n", 1, "missing key `version`", Some("version = 1")),
        ("", 1, "missing key `version`", Some("version = 1")),
        ("version = 1\n[fs.workspace]\nlabel = \"a\"\n", 2, "list of tables", Some("[[fs.workspace]]")),
        ("version = 1\n[[fs.workspaces]]\nlabel = \"a\"\n", 2, "unknown key `workspaces`", Some("workspace")),
        ("version = 1\n[[fs.workspace]]\npath = \"a\"\n", 2, "missing key `label`", None),
        ("version = 1\n[approval]\nask = [\"proc.spwan\"]\n", 3, "names no capability", Some("proc.spawn")),
        ("version = 1\n[audit]\ndurability = \"synced\"\n", 3, "must be one of flush, sync", Some("sync")),
        ("version = 1\n[isolation]\nallow_root = \"yes\"\n", 3, "must be true or false", None),
        ("version = 1\n[llm]\nprovider = \"openia\"\n", 3, "must be one of", Some("openai")),
        ("version = 1\n[llm]\nprovider = \"replay\"\n", 3, "needs `file`", None),
        ("version = 1\n[llm]\nsecret = \"x\"\n", 3, "there is no secret `x`", None),
        ("version = 1\n[llm]\nbase_url = \"http://u:p@h/\"\n", 3, "http or https URL", None),
        ("version = 1\n[[net.allow]]\nhost = \"https://x\"\n", 3, "a host is a name", None),
        ("version = 1\n[[net.allow]]\nhost = \"x\"\nports = [0]\n", 4, "a port is a number", None),
        ("version = 1\n[[secret]]\nname = \"a\"\nfile = \"f\"\nfor = [\"nte:x\"]\n", 5, "a use is", None),
        ("version = 1\n[[secret]]\nname = \"a\"\n", 2, "missing key `file`", None),
        (
            "version = 1\n[[secret]]\nname = \"a\"\nfile = \"f\"\nfor = [\"proc:git.stdin\"]\n",
            2,
            "no command `git`",
            None,
        ),
        ("version = 1\n[audit]\nsink = \"fd:1\"\n", 3, "`sink` is", None),
        ("version = 1\n[tools]\nsha256 = { a = \"12\" }\n", 3, "64 hexadecimal", None),
        ("version = 1\n[browser]\nuploads = [\"repo\"]\n", 3, "there is no workspace `repo`", None),
        ("version = 1\nfs = 3\n", 2, "expected fs to be a table", None),
        ("version = 1\n[limits\n", 2, "", None),
    ];
    for (text, line, message, suggestion) in cases {
        let error = parse(text).unwrap_err();
        assert_eq!(error.file, "warden.toml");
        assert_eq!(error.position.line, *line, "{text}: {error}");
        assert!(error.message.contains(message), "{text}: {error}");
        assert_eq!(error.suggestion.as_deref(), *suggestion, "{text}: {error}");
    }
}

#[test]
fn yaml_errors_have_lines_too() {
    for (text, line, message) in [
        ("version: 1\nlimits:\n  stpes: 3\n", 3, "unknown key `stpes`"),
        ("version: 1\nlimits:\n  steps: many\n", 3, "must be a whole number"),
        ("version: 1\nlimits:\n  steps: 1\n  steps: 2\n", 4, "duplicate"),
        ("version: 1\nisolation:\n  allow_root: yes\n", 3, "must be true or false"),
        ("version: 1\nlimits: &a {steps: 1}\napproval: {<<: *a}\n", 3, ""),
        ("version: 1\nlimits:\n  steps: [1\n", 3, ""),
        ("version: 1\n---\nversion: 1\n", 2, "one document"),
    ] {
        let error = yaml(text).unwrap_err();
        assert!(error.position.line >= line, "{text}: {error}");
        assert!(error.message.contains(message), "{text}: {error}");
    }
}

#[test]
fn workspaces_that_would_not_be_what_they_seem() {
    for (line, message) in [
        ("deny = [\"[a\"]", "bad glob in `deny`"),
        ("deny_write = [\"!x\"]", "bad glob in `deny_write`"),
        ("deny = \"**/.env\"", "`deny` must be a list"),
        ("acess = \"read-only\"", "unknown key `acess`"),
        ("access = \"rw\"", "must be one of read-only, read-write"),
        ("max_file = \"10\u{a0}MiB\"", "is not a size"),
        ("[[fs.workspace]]\nlabel = \"repo\"\npath = \"/b\"", "duplicate label `repo`"),
        ("[[fs.workspace]]\nlabel = \"a.b\"\npath = \"/b\"", "a label is"),
        ("[[fs.workspace]]\nlabel = \"b\"\npath = \"\"", "cannot be empty"),
    ] {
        let error = parse(&workspace_with(line)).unwrap_err();
        assert!(error.message.contains(message), "{line}: {error}");
        assert!(error.position.line >= 5, "{line}: {error}");
    }
    assert!(parse(&workspace_with("deny = [\"**/.env\"]")).is_ok());
}

#[test]
fn commands_that_would_not_be_what_they_seem() {
    for (line, message) in [
        ("args = [\"test\"]", "list of argument lists"),
        ("args = [[\"**\", \"x\"]]", "must be the last element"),
        ("args = [[\"--out=*\"]]", "mixes `*`"),
        ("args = [[1]]", "list of argument lists"),
        ("cwd = \"repo\"", "there is no workspace `repo`"),
        ("sha256 = \"abc\"", "64 hexadecimal"),
        ("env = { \"A=B\" = \"1\" }", "no environment variable"),
        ("env = { A = 1 }", "must be a text"),
        ("env_from_guest = [\"A B\"]", "no environment variable"),
        ("network = [\"x:443\"]", "a host is a name"),
        ("[[proc.command]]\nname = \"cargo\"\npath = \"/b\"", "duplicate command `cargo`"),
        ("[[proc.command]]\nname = \"-rf\"\npath = \"/b\"", "a command's name"),
    ] {
        let error = parse(&command_with(line)).unwrap_err();
        assert!(error.message.contains(message), "{line}: {error}");
    }
    assert!(parse(&command_with("args = [[\"test\", \"**\"]]")).is_ok());
}

#[test]
fn a_seed_style_file_becomes_a_policy() {
    let text = "workspace_root = \"./sandbox\"\nallow_proc = [\"ls\", \"/opt/x/echo\"]\n[llm]\napi_base = \
                \"http://127.0.0.1:11434/v1\"\napi_key = \"very-secret-key\"\nmodel = \"phi3.5\"\n[browser]\nwebdriver_url \
                = \"http://127.0.0.1:9515\"\ndefault_profile = \"p\"\n";
    let policy = parse(text).unwrap();
    let workspace = &policy.workspaces.as_ref().unwrap()[0];
    assert_eq!((workspace.path.as_path(), workspace.access), (Path::new("/srv/conf/sandbox"), Access::ReadWrite));
    let commands = policy.commands.as_ref().unwrap();
    assert_eq!(commands[0].path, CommandPath::Lookup("ls".to_owned()));
    assert_eq!((commands[1].name.as_str(), &commands[1].path), ("echo", &CommandPath::File("/opt/x/echo".into())));
    assert!(commands[0].args[0].matches(&["-l", "x"]));
    assert!(matches!(&policy.llm, Some(Llm::Endpoint { model, .. }) if model == "phi3.5"));
    assert!(!format!("{policy:?}").contains("very-secret-key"));
    assert_eq!(policy.browser.unwrap().profile.as_deref(), Some("p"));
}

#[test]
fn a_seed_style_file_has_no_unknown_keys() {
    for (text, line, suggestion) in [
        ("workspace_rot = \".\"\n", 1, "workspace_root"),
        ("workspace_root = \".\"\n[llm]\napi_keys = \"x\"\n", 3, "api_key"),
        ("allow_proc = [\"ls\"]\n[browser]\nwebdriver = \"x\"\n", 3, "webdriver_url"),
    ] {
        let error = parse(text).unwrap_err();
        assert_eq!((error.position.line, error.suggestion.as_deref()), (line, Some(suggestion)), "{error}");
    }
    let error = parse("allow_proc = [\"a b\"]\n").unwrap_err();
    assert!(error.message.contains("a command's name"), "{error}");
}

#[test]
fn paths_are_cleaned_by_text() {
    for (text, path) in [("a", "/b/a"), ("../a/./c//d/..", "/a/c"), ("/x/../../y", "/y"), ("..", "/")] {
        assert_eq!(resolve(Path::new("/b"), text).unwrap(), Path::new(path), "{text}");
    }
    assert!(resolve(Path::new("/b"), "").is_err() && resolve(Path::new("/b"), "a\0").is_err());
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,200}|[a-z\\[\\]{}=:\"'\n\t#&*!|>,.0-9_ -]{0,300}") {
        for format in [Format::Toml, Format::Yaml, Format::Json] {
            let _ = Policy::parse(&text, format, "f", Path::new("/"));
        }
    }

    #[test]
    fn no_damaged_policy_makes_the_parser_panic(at in 0usize..4000, with in "\\PC{0,4}|\n") {
        let mut text = DOCUMENTED.to_owned();
        let at = (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.insert_str(at, &with);
        let _ = parse(&text);
        let _ = yaml(&text);
    }
}
