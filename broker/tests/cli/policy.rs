//! `warden policy check`, `show` and `why`.

use crate::Place;
use std::fs;
use std::os::unix::fs::PermissionsExt;

const POLICY: &str = r#"version = 1
[[fs.workspace]]
label = "repo"
path = "work"
access = "read-write"
deny = ["**/.env"]
[[proc.command]]
name = "true"
path = "/usr/bin/true"
args = [["--help"], ["**"]]
unchecked = true
"#;

#[test]
fn a_right_policy_is_summed_up_and_its_doubts_are_said() {
    let place = Place::new();
    place.write("warden.toml", POLICY);
    let ran = place.run(&["policy", "check", "warden.toml"]);
    assert_eq!(ran.status(), 0, "{}", ran.err());
    assert!(ran.out().contains("repo: ") && ran.out().contains("true: /usr/bin/true"), "{}", ran.out());
    assert!(ran.err().contains("warning: ") && ran.err().contains("unchecked"), "{}", ran.err());
    let object = place.run(&["policy", "check", "--config", "warden.toml", "--json"]).object();
    assert_eq!((object["schema"].as_str(), object["ok"].as_bool()), (Some("warden.policy-check/1"), Some(true)));
    assert_eq!(object["warnings"].as_array().unwrap().len(), 1, "{object}");
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_what_was_meant() {
    let place = Place::new();
    place.write("bad.toml", &POLICY.replace("access =", "acess ="));
    let ran = place.run(&["policy", "check", "bad.toml"]);
    assert_eq!(ran.status(), 2);
    assert!(ran.err().contains("bad.toml:5:1: ") && ran.err().contains("did you mean `access`?"), "{}", ran.err());
    assert_eq!(ran.out(), "");
    let object = place.run(&["policy", "check", "bad.toml", "--json"]).object();
    assert_eq!(object["error_code"], "invalid-argument");
    assert!(object["error"].as_str().unwrap().contains("bad.toml:5:1"), "{object}");
}

#[test]
fn a_wrong_type_and_a_missing_file_are_usage_errors() {
    let place = Place::new();
    place.write("bad.toml", "version = 1\n[limits]\nsteps = \"many\"\n");
    place.write("good.toml", "version = 1\n[limits]\nsteps = 3\n");
    let bad = place.run(&["policy", "check", "bad.toml"]);
    assert_eq!(bad.status(), 2);
    assert!(bad.err().contains("bad.toml:3:9"), "{}", bad.err());
    assert_eq!(place.run(&["policy", "check", "good.toml"]).status(), 0);
    let gone = place.run(&["policy", "check", "gone.toml", "--json"]);
    assert_eq!(gone.status(), 2);
    assert!(gone.object()["error"].as_str().unwrap().contains("does not exist"));
}

#[test]
fn what_is_absent_on_the_host_is_an_error_with_its_line_and_so_is_what_others_can_change() {
    let place = Place::new();
    let text = POLICY.replace("\"work\"", "\"gone\"").replace("/usr/bin/true", "/usr/bin/no-such-program");
    let path = place.write("warden.toml", &text);
    let ran = place.run(&["policy", "check", "warden.toml"]);
    assert_eq!(ran.status(), 2, "{}", ran.err());
    for (line, words) in [(4, "user:fs.workspace.repo"), (9, "user:proc.command.true")] {
        let found = ran.err().lines().any(|each| {
            each.contains(&format!("warden.toml:{line}:")) && each.contains(words) && each.contains("does not exist")
        });
        assert!(found, "{line} {words}: {}", ran.err());
    }
    place.write("warden.toml", POLICY);
    assert_eq!(place.run(&["policy", "check", "warden.toml"]).status(), 0, "the control");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let open = place.run(&["policy", "check", "warden.toml"]);
    assert_eq!(open.status(), 2);
    assert!(open.err().contains("is refused"), "{}", open.err());
}

#[test]
fn a_policy_that_its_own_task_could_rewrite_is_refused() {
    let place = Place::new();
    let inside = POLICY.replace("\"work\"", "\".\"");
    place.write("work/warden.toml", &inside);
    let ran = place.run(&["policy", "check", "work/warden.toml"]);
    assert_eq!(ran.status(), 2, "{}", ran.out());
    assert!(ran.err().contains("which the task can write"), "{}", ran.err());
    place.write("work/warden.toml", &inside.replace("read-write", "read-only"));
    assert_eq!(place.run(&["policy", "check", "work/warden.toml"]).status(), 0);
}

#[test]
fn a_key_cannot_steer_the_terminal() {
    let place = Place::new();
    place.write("bad.toml", "version = 1\n\"a\\u001b[2J\" = 1\n");
    let ran = place.run(&["policy", "check", "bad.toml"]);
    assert_eq!(ran.status(), 2);
    assert!(!ran.err().contains('\u{1b}'), "{:?}", ran.err());
}

#[test]
fn what_is_shown_is_a_policy_again_and_its_json_names_hash_and_files() {
    let place = Place::new();
    place.write("warden.toml", POLICY);
    let shown = place.run(&["policy", "show", "--config", "warden.toml"]);
    assert_eq!(shown.status(), 0, "{}", shown.err());
    place.write("again.toml", &shown.out());
    assert_eq!(place.run(&["policy", "check", "again.toml"]).status(), 0);
    let object = place.run(&["policy", "show", "--config", "warden.toml", "--json"]).object();
    assert_eq!(object["schema"], "warden.policy/1");
    assert_eq!(object["policy_hash"].as_str().unwrap().len(), 64);
    assert_eq!(object["layers"][0]["file"], "warden.toml");
}

#[test]
fn a_manifest_brings_its_policy_and_narrows_it_but_never_widens() {
    let place = Place::new();
    place.write("warden.toml", &POLICY.replace("read-write", "read-only"));
    let manifest = |rest: &str| {
        format!(
            "kind = \"runbook\"\npolicy = \"warden.toml\"\n{rest}[[step]]\ncapability = \"fs.read_file\"\ninput = {{ path = \"a\" }}\n"
        )
    };
    place.write("narrow.toml", &manifest("[limits]\nsteps = 3\n"));
    let object = place.run(&["policy", "show", "--manifest", "narrow.toml", "--json"]).object();
    assert_eq!(object["limits"]["steps"]["value"], 3, "{object}");
    assert_eq!(object["layers"].as_array().unwrap().len(), 2);
    place.write("wide.toml", &manifest("workspace = \"work\"\n"));
    let wide = place.run(&["policy", "show", "--manifest", "wide.toml"]);
    assert_eq!(wide.status(), 126, "{}", wide.err());
    assert!(wide.err().contains("wider"), "{}", wide.err());
}

#[test]
fn why_says_which_rule_denies_and_which_allows() {
    let place = Place::new();
    place.write("warden.toml", POLICY);
    let why = |words: &[&str]| {
        let mut args = vec!["policy", "why", "--config", "warden.toml"];
        args.extend(words);
        place.run(&args)
    };
    let denied = why(&["fs.read_file", "repo:.env", "--json"]);
    assert_eq!(denied.status(), 126);
    let object = denied.object();
    assert_eq!((object["schema"].as_str(), object["allowed"].as_bool()), (Some("warden.why/1"), Some(false)));
    assert_eq!(object["rule"], "user:fs.workspace.repo.deny[0]");
    let allowed = why(&["fs.read_file", "repo:a.txt", "--json"]);
    assert_eq!((allowed.status(), allowed.object()["allowed"].as_bool()), (0, Some(true)));
    let text = why(&["fs.read_file", "repo:.env"]);
    assert!(text.out().starts_with("denied  fs.read_file"), "{}", text.out());
    assert!(text.out().contains("user     denies"), "{}", text.out());
    assert_eq!(why(&["proc.spawn", "true", "--", "--help"]).status(), 0);
    assert_eq!(why(&["proc.spawn", "false"]).status(), 126);
    assert_eq!(why(&["fs.raed_file", "a"]).status(), 2);
}

#[test]
fn what_nobody_means_is_warned_of_and_what_is_meant_is_not() {
    let place = Place::new();
    let check = |text: &str| {
        place.write("p.toml", &format!("version = 1\n{text}"));
        place.run(&["policy", "check", "p.toml"])
    };
    for (text, word) in [
        ("[limits]\nsteps = 0\n", "user:limits.steps: 0"),
        ("[limits]\nwall = \"0s\"\n", "user:limits.wall: 0"),
        ("[limits]\nmemory = 256\n", "less than a page"),
        ("[limits]\noutput = 100\n", "without a unit is bytes"),
        ("[audit]\ndir = \"~/log\"\n", "`~` in "),
        ("[audit]\ndir = \"$HOME/log\"\n", "`$HOME` in "),
    ] {
        let ran = check(text);
        assert!(ran.status() == 0 && ran.err().contains(word), "{text}: {}", ran.err());
    }
    for text in [
        "[limits]\nsteps = 1\nwall = \"1s\"\nmemory = \"64KiB\"\noutput = \"1KiB\"\nfs_written = 0\nprocesses = 0\n",
        "[audit]\ndir = \"log~1\"\n",
    ] {
        let ran = check(text);
        assert_eq!((ran.status(), ran.err()), (0, String::new()), "{text}");
    }
    // A folder that is not there because nobody put another in its place.
    let ran = check("[[fs.workspace]]\nlabel = \"w\"\npath = \"~/x\"\n");
    assert!(ran.status() == 2 && ran.err().contains("`~` in "), "{}", ran.err());
    // A log where the task could write it is an error, as it is for a run.
    fs::create_dir_all(place.path("work/log")).unwrap();
    let inside =
        "[[fs.workspace]]\nlabel = \"w\"\npath = \"work\"\naccess = \"read-write\"\n[audit]\ndir = \"work/log\"\n";
    assert_eq!(check(inside).status(), 2);
    assert_eq!(check(&inside.replace("work/log", "log")).status(), 0);
}

#[test]
fn a_mistyped_version_is_named_with_its_line() {
    let place = Place::new();
    for key in ["verson", "Version", "versions"] {
        place.write("p.toml", &format!("{key} = 1\n[limits]\nsteps = 3\n"));
        let ran = place.run(&["policy", "check", "p.toml"]);
        assert!(ran.status() == 2 && ran.err().contains("p.toml:1:1: "), "{}", ran.err());
        assert!(ran.err().contains("did you mean `version`?"), "{}", ran.err());
    }
}
