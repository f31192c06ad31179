use super::*;
use proptest::prelude::*;

fn parse(text: &str) -> Result<Manifest, SourceError> {
    Manifest::parse(text, Format::Toml, "task.toml", Path::new("/srv/tasks"))
}

fn json(text: &str) -> Result<Manifest, SourceError> {
    Manifest::parse(text, Format::Json, "task.json", Path::new("/srv/tasks"))
}

const GOAL: &str = r#"
kind = "goal"
policy = "warden.toml"
goal = "Make the failing test pass and say what you did in SUMMARY.md"
brain = "builtin:agent-core"
[limits]
steps = 12
[[success]]
file = "repo:SUMMARY.md"
contains = "fixed"
[[success]]
command = "python3"
args = ["-m", "unittest"]
"#;

#[test]
fn a_goal() {
    let manifest = parse(GOAL).unwrap();
    assert!(matches!(&manifest.kind, ManifestKind::Goal { brain: Brain::AgentCore, .. }));
    assert_eq!(manifest.policy.as_deref(), Some(Path::new("/srv/tasks/warden.toml")));
    assert_eq!(manifest.request.limits.get(LimitKey::Steps), Some(12));
    assert!(manifest.request.workspaces.is_none());
    let shown: Vec<String> = manifest.success.iter().map(Predicate::to_string).collect();
    assert_eq!(shown, ["file repo:SUMMARY.md contains /fixed/", "command python3 -m unittest"]);
}

#[test]
fn a_runbook() {
    let manifest = parse(
        "kind = \"runbook\"\n[[step]]\ncapability = \"fs.write-file\"\ninput = { path = \"repo:n.txt\", contents = \"hello\" }\n\
         on_failure = \"continue\"\naudit_tag = \"t\"\n[[step]]\ncapability = \"policy.describe\"\n",
    )
    .unwrap();
    let ManifestKind::Runbook { steps } = manifest.kind else { panic!("no runbook") };
    assert_eq!(steps[0].capability, "fs.write_file");
    assert_eq!(steps[0].input, serde_json::json!({ "path": "repo:n.txt", "contents": "hello" }));
    assert_eq!((steps[0].on_failure, steps[0].audit_tag.as_deref()), (OnFailure::Continue, Some("t")));
    assert_eq!((steps[1].input.clone(), steps[1].on_failure), (serde_json::json!({}), OnFailure::Stop));
}

#[test]
fn a_module_to_run_and_a_sample() {
    let manifest = json(
        r#"{"kind": "wasm-run", "module": "m.wasm", "args": ["a"], "env": {"TASK_ID": "abc"}, "fuel": 1000, "memory": "8MiB",
            "timeout": "2s", "allow_dirs": [{"path": "./data", "access": "read-only"}, {"path": "/out", "access": "read-write"}]}"#,
    )
    .unwrap();
    let ManifestKind::WasmRun { module, args, env } = &manifest.kind else { panic!("no module") };
    assert_eq!((module.as_path(), args.len(), env.len()), (Path::new("/srv/tasks/m.wasm"), 1, 1));
    let limits = &manifest.request.limits;
    assert_eq!(
        [LimitKey::Fuel, LimitKey::Memory, LimitKey::Wall].map(|key| limits.get(key)),
        [Some(1000), Some(8 << 20), Some(2000)]
    );
    let folders = manifest.request.workspaces.unwrap();
    assert_eq!((folders[0].path.as_path(), folders[0].access), (Path::new("/srv/tasks/data"), Access::ReadOnly));
    assert_eq!((folders[0].guest_path.as_deref(), folders[1].access), (Some("./data"), Access::ReadWrite));
    let manifest = json(r#"{"kind": "sample", "sample": "env-report", "workspace": "w", "env": {"A": "1"}}"#).unwrap();
    assert!(matches!(&manifest.kind, ManifestKind::Sample { sample, .. } if sample == "env-report"));
    assert_eq!(manifest.request.workspaces.unwrap()[0].path, Path::new("/srv/tasks/w"));
}

#[test]
fn every_predicate_has_a_stable_rendering() {
    let hash = "ab".repeat(32);
    for (text, shown) in [
        ("{ file = \"a\" }".to_owned(), "file a exists".to_owned()),
        ("{ file = \"a\", exists = true }".to_owned(), "file a exists".to_owned()),
        ("{ file = \"a\", absent = true }".to_owned(), "file a absent".to_owned()),
        (format!("{{ file = \"a\", sha256 = \"{}\" }}", hash.to_uppercase()), format!("file a sha256 {hash}")),
        (
            "{ file = \"a\", json = \"/x/0\", equals = [1, \"b\"] }".to_owned(),
            "file a json /x/0 equals [1,\"b\"]".to_owned(),
        ),
        ("{ url = \"https://x/y\" }".to_owned(), "url https://x/y answers 200".to_owned()),
        ("{ url = \"https://x/y\", status = 404 }".to_owned(), "url https://x/y answers 404".to_owned()),
        ("{ browser = { title = \"^Hi\" } }".to_owned(), "browser title matches /^Hi/".to_owned()),
        ("{ exit_code = 3 }".to_owned(), "exit_code 3".to_owned()),
        (
            "{ any = [{ exit_code = 0 }, { not = { all = [{ file = \"a\" }, { command = \"c\" }] } }] }".to_owned(),
            "any(exit_code 0, not(all(file a exists, command c)))".to_owned(),
        ),
        (
            "{ command = \"c\", args = [\"\\u001b[2J\\n\\u202e\"] }".to_owned(),
            "command c \\u{1b}[2J\\u{a}\\u{202e}".to_owned(),
        ),
    ] {
        let manifest = parse(&format!("kind = \"goal\"\ngoal = \"g\"\nsuccess = [{text}]\n")).unwrap();
        assert_eq!(manifest.success[0].to_string(), shown);
    }
}

#[test]
fn predicates_that_would_not_say_what_they_seem_to() {
    for (text, message) in [
        ("{}", "a predicate has one of"),
        ("{ file = \"a\", command = \"b\" }", "two predicates"),
        ("{ file = \"a\", status = 200 }", "`status` does not go with `file`"),
        ("{ file = \"a\", contains = \"x\", absent = true }", "one check of a file"),
        ("{ file = \"a\", equals = 1 }", "`equals` goes with `json`"),
        ("{ file = \"a\", json = \"/x\" }", "missing key `equals`"),
        ("{ file = \"a\", json = \"x\", equals = 1 }", "JSON pointer"),
        ("{ file = \"a\", absent = false }", "can only be true"),
        ("{ file = \"a\", contains = \"(\" }", "no regular expression"),
        ("{ file = \"a\", contains = \"(a{1000}){1000}\" }", "no regular expression"),
        ("{ file = \"a\", sha256 = \"12\" }", "64 hexadecimal"),
        ("{ file = \"\" }", "`file` is a path"),
        ("{ url = \"ftp://x\" }", "http or https"),
        ("{ url = \"http://x\", status = 42 }", "from 100 to 599"),
        ("{ browser = { title = \"a\", url = \"b\" } }", "one of url, title, text"),
        ("{ browser = { titel = \"a\" } }", "unknown key `titel`"),
        ("{ exit_code = 256 }", "from 0 to 255"),
        ("{ all = [] }", "at least one"),
        ("{ not = [] }", "to be a table"),
        ("{ fiel = \"a\" }", "unknown key `fiel`"),
    ] {
        let error = parse(&format!("kind = \"goal\"\ngoal = \"g\"\nsuccess = [{text}]\n")).unwrap_err();
        assert!(error.message.contains(message), "{text}: {error}");
        assert_eq!(error.position.line, 3, "{text}: {error}");
    }
}

#[test]
fn predicates_nest_to_a_bound() {
    let nested = |depth: usize| {
        let (open, close) = ("{ not = ".repeat(depth - 1), " }".repeat(depth - 1));
        parse(&format!("kind = \"goal\"\ngoal = \"g\"\nsuccess = [{open}{{ exit_code = 0 }}{close}]\n"))
    };
    assert!(nested(PREDICATE_DEPTH_MAX).is_ok());
    assert!(nested(PREDICATE_DEPTH_MAX + 1).unwrap_err().message.contains("16 deep"));
    let many = |count: usize| {
        parse(&format!("kind = \"goal\"\ngoal = \"g\"\nsuccess = [{}]\n", "{ exit_code = 0 },".repeat(count)))
    };
    assert!(many(PREDICATES_MAX).is_ok() && many(PREDICATES_MAX + 1).is_err());
}

#[test]
fn what_is_wrong_is_named_with_its_line_and_the_nearest_key() {
    for (text, line, message, suggestion) in [
        ("goal = \"g\"\n", 1, "missing key `kind`", None),
        ("kind = \"gaol\"\n", 1, "must be one of", Some("goal")),
        ("kind = \"goal\"\n", 1, "missing key `goal`", None),
        ("kind = \"goal\"\ngoal = \" \"\n", 2, "cannot be empty", None),
        ("kind = \"goal\"\ngoal = \"g\"\nsucess = []\n", 3, "unknown key `sucess`", Some("success")),
        ("kind = \"goal\"\ngoal = \"g\"\nmodule = \"m\"\n", 3, "`module` belongs to kind \"wasm-run\"", None),
        (
            "kind = \"goal\"\ngoal = \"g\"\nbrain = \"builtin:agent\"\n",
            3,
            "no such built-in brain",
            Some("builtin:agent-core"),
        ),
        ("kind = \"goal\"\ngoal = \"g\"\n[success]\nfile = \"a\"\n", 3, "list of tables", Some("[[success]]")),
        ("kind = \"goal\"\ngoal = \"g\"\n[limits]\nstep = 3\n", 4, "unknown key `step`", Some("steps")),
        ("kind = \"runbook\"\n", 1, "missing key `step`", None),
        ("kind = \"runbook\"\n[[step]]\ncapability = \"fs.raed_file\"\n", 3, "no capability", Some("fs.read_file")),
        ("kind = \"runbook\"\n[[step]]\ncapability = \"fs.rename\"\non_failure = \"go\"\n", 4, "stop, continue", None),
        (
            "kind = \"wasm-run\"\nmodule = \"m\"\nallow_dirs = [{ path = \"a\", acess = \"x\" }]\n",
            3,
            "unknown key `acess`",
            Some("access"),
        ),
        ("kind = \"wasm-run\"\nmodule = \"m\"\nfuel = 1\n[limits]\nfuel = 2\n", 3, "the same limit", None),
        ("kind = \"wasm-run\"\nmodule = \"m\"\nenv = { \"A B\" = \"x\" }\n", 3, "no environment variable", None),
        ("kind = \"sample\"\nsample = \"../x\"\n", 2, "a sample's name", None),
    ] {
        let error = parse(text).unwrap_err();
        assert_eq!(error.position.line, line, "{text}: {error}");
        assert!(error.message.contains(message), "{text}: {error}");
        assert_eq!(error.suggestion.as_deref(), suggestion, "{text}: {error}");
    }
}

#[test]
fn json_errors_have_lines_too() {
    for (text, line, message) in [
        ("{\n \"kind\": \"goal\",\n \"gaol\": \"g\"}", 3, "unknown key `gaol`"),
        ("{\n \"kind\": \"goal\",\n \"goal\": 3}", 3, "must be a text"),
        ("{\n \"kind\": \"goal\",\n \"kind\": \"sample\"}", 3, "duplicate key"),
        ("{\n \"kind\": \"goal\",\n", 3, "EOF"),
        ("[1]", 1, "expected keys and values"),
        ("{\"kind\": \"goal\", \"goal\": \"g\"} x", 1, "trailing"),
    ] {
        let error = json(text).unwrap_err();
        assert_eq!(error.position.line, line, "{text}: {error}");
        assert!(error.message.contains(message), "{text}: {error}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,200}|[a-z\\[\\]{}=:\"'\n\t#&*!|>,.0-9_ -]{0,300}") {
        for format in [Format::Toml, Format::Yaml, Format::Json] {
            let _ = Manifest::parse(&text, format, "f", Path::new("/"));
        }
    }

    #[test]
    fn no_damaged_manifest_makes_the_parser_panic(at in 0usize..GOAL.len(), with in "\\PC{0,4}|\n") {
        let mut text = GOAL.to_owned();
        text.insert_str(at, &with);
        let _ = parse(&text);
    }
}

#[test]
fn a_steps_input_is_a_table_and_its_place_is_named() {
    let parse = |input: &str| {
        let text = format!("kind = \"runbook\"\n[[step]]\ncapability = \"fs.list_dir\"\n{input}\n");
        Manifest::parse(&text, Format::Toml, "task.toml", Path::new("/"))
    };
    for input in ["input = \"x\"", "input = [1]", "input = 3"] {
        let error = parse(input).unwrap_err().to_string();
        assert!(error.starts_with("task.toml:4:") && error.contains("`input` is a table"), "{error}");
    }
    assert!(parse("input = { path = \"a\" }").is_ok() && parse("").is_ok());
}

#[test]
fn a_remedy_is_said_once() {
    let text = "kind = \"goal\"\ngoal = \"g\"\n[success]\nfile = \"a\"\n";
    let error = Manifest::parse(text, Format::Toml, "task.toml", Path::new("/")).unwrap_err().to_string();
    assert_eq!(error.matches("[[success]]").count(), 1, "{error}");
}
