//! `warden policy`, `warden audit` and `warden doctor` as a person or a script meets them: the real program, real files.
//!
//! Every refusal stands beside an allowed control. Files are named explicitly, since root's own places are the system's.

use serde_json::Value;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use wasi_warden::audit::{
    AuditConfig, AuditLog, BeginRecord, Decision, EndRecord, HeaderFacts, HexDigest, Outcome, Record, open_directory,
};

/// A folder of one test, with a workspace in it and no file that others can write.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.path("work")).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        path
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_warden"));
        command.args(args).current_dir(self.0.path()).env_clear().stdin(Stdio::null());
        for (name, folder) in
            [("HOME", "."), ("XDG_CONFIG_HOME", "config"), ("XDG_STATE_HOME", "state"), ("XDG_CACHE_HOME", "cache")]
        {
            command.env(name, self.path(folder));
        }
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        Ran(self.command(args).output().unwrap())
    }
}

struct Ran(Output);

impl Ran {
    fn status(&self) -> i32 {
        self.0.status.code().expect("it ended by itself")
    }

    fn out(&self) -> String {
        String::from_utf8(self.0.stdout.clone()).unwrap()
    }

    fn err(&self) -> String {
        String::from_utf8(self.0.stderr.clone()).unwrap()
    }

    /// The one object on standard output; anything beside it fails.
    fn object(&self) -> Value {
        let value: Value = serde_json::from_str(&self.out()).unwrap_or_else(|e| panic!("{e}: {}", self.out()));
        assert!(value.is_object(), "{value}");
        assert_eq!(self.out().lines().count(), 1, "one object, one line: {}", self.out());
        value
    }
}

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
fn what_is_absent_on_the_host_is_a_warning_and_what_others_can_change_an_error() {
    let place = Place::new();
    let text = POLICY.replace("\"work\"", "\"gone\"").replace("/usr/bin/true", "/usr/bin/no-such-program");
    let path = place.write("warden.toml", &text);
    let ran = place.run(&["policy", "check", "warden.toml"]);
    assert_eq!(ran.status(), 0, "{}", ran.err());
    assert!(
        ran.err().contains("gone cannot be used") && ran.err().contains("no-such-program does not exist"),
        "{}",
        ran.err()
    );
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

/// A log that was closed; its segment.
fn write_log(dir: &Path) -> PathBuf {
    let facts = HeaderFacts {
        build: "test".to_owned(),
        versions: Vec::new(),
        policy_hash: HexDigest::ZERO,
        rules_hash: HexDigest::ZERO,
        degraded: Vec::new(),
    };
    let fd = open_directory(dir).unwrap();
    let mut log = AuditLog::open(fd, AuditConfig::new("test"), facts).unwrap();
    record_calls(&mut log);
    log.finish().unwrap();
    only_segment(dir)
}

fn only_segment(dir: &Path) -> PathBuf {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).next().unwrap()
}

fn edit(segment: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(segment).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(segment, text.replacen(from, to, 1)).unwrap();
}

/// A call with an effect, and one that was denied.
fn record_calls(log: &mut AuditLog) {
    let act = |capability, path, decision, rule| BeginRecord {
        task: Some("00112233445566778899aabbccddeeff"),
        role: "worker",
        capability,
        op: "call",
        input: wasi_warden::audit::Value::Text(path),
        decision: Some(decision),
        rule: Some(rule),
        policy_hash: None,
    };
    let written = act("fs.write_file", "repo:secret.txt", Decision::Allow, "user:fs.workspace.repo");
    let ticket = log.begin(&written).unwrap();
    let result = Outcome::Done(wasi_warden::audit::Value::Null);
    log.end(ticket, &EndRecord { result, bytes: Some(1) }).unwrap();
    let denied = act("fs.read_file", "repo:.env", Decision::Deny, "user:fs.workspace.repo.deny[0]");
    log.single(&Record { act: denied, ..Record::default() }).unwrap();
}

#[test]
fn a_tampered_log_is_named_by_its_record_and_an_untouched_one_is_intact() {
    let place = Place::new();
    let segment = write_log(&place.path("log"));
    let intact = place.run(&["audit", "verify", "log"]);
    assert_eq!(intact.status(), 0, "{}{}", intact.out(), intact.err());
    assert!(intact.out().starts_with("intact: "), "{}", intact.out());
    edit(&segment, "secret.txt", "public.txt");
    let bad = place.run(&["audit", "verify", "log"]);
    assert_eq!(bad.status(), 1);
    assert!(bad.out().contains("first bad: ") && bad.out().contains("edited"), "{}", bad.out());
    let ran = place.run(&["audit", "verify", segment.to_str().unwrap(), "--json"]);
    let object = ran.object();
    assert_eq!((ran.status(), object["ok"].as_bool()), (1, Some(false)));
    assert_eq!(object["schema"], "warden.audit/1");
    let seq = object["first_bad"]["seq"].as_u64().unwrap();
    let line = fs::read_to_string(&segment).unwrap().lines().nth(usize::try_from(seq).unwrap()).unwrap().to_owned();
    assert!(line.contains("public.txt"), "it names the record that was edited: {line}");
}

#[test]
fn a_head_that_is_in_the_log_is_found_and_another_is_not() {
    let place = Place::new();
    write_log(&place.path("log"));
    let head =
        place.run(&["audit", "verify", "log", "--json"]).object()["segments"][0]["head"].as_str().unwrap().to_owned();
    assert_eq!(place.run(&["audit", "verify", "log", "--head", &head]).status(), 0);
    assert_eq!(place.run(&["audit", "verify", "log", "--head", &"5".repeat(64)]).status(), 1);
    assert_eq!(place.run(&["audit", "verify", "log", "--head", "short"]).status(), 2);
}

#[test]
fn a_call_without_an_end_is_unknown_and_a_torn_line_a_crash_and_neither_is_damage() {
    let place = Place::new();
    let segment = write_log(&place.path("log"));
    // What a broker leaves that dies while it writes the end of a call.
    let text = fs::read_to_string(&segment).unwrap();
    let begun = text.lines().position(|line| line.contains("\"phase\":\"begin\"")).unwrap();
    let mut kept: String = text.lines().take(begun + 1).flat_map(|line| [line, "\n"]).collect();
    kept.push_str("{\"seq\":");
    fs::write(&segment, kept).unwrap();
    let ran = place.run(&["audit", "verify", "log", "--json"]);
    let object = ran.object();
    assert_eq!((ran.status(), object["ok"].as_bool()), (0, Some(true)), "{object}");
    assert_eq!(object["unknown"][0]["capability"], "fs.write_file");
    assert_eq!(
        (object["segments"][0]["state"].as_str(), object["segments"][0]["torn_bytes"].as_u64()),
        (Some("crashed"), Some(7))
    );
    let text = place.run(&["audit", "verify", "log"]).out();
    assert!(text.contains("unknown: ") && text.contains("crashed: "), "{text}");
}

#[test]
fn show_filters_bounds_and_says_what_it_left_out() {
    let place = Place::new();
    write_log(&place.path("log"));
    let show = |words: &[&str]| {
        let mut args = vec!["audit", "show", "log", "--json"];
        args.extend(words);
        let object = place.run(&args).object();
        assert_eq!(object["schema"], "warden.audit-records/1");
        object
    };
    let all = show(&[]);
    let count = all["records"].as_array().unwrap().len();
    assert!(count >= 5 && all["truncated"] == false, "{all}");
    let denied = show(&["--denied"]);
    assert_eq!(denied["records"].as_array().unwrap().len(), 1);
    assert_eq!(denied["records"][0]["decision"], "deny");
    assert_eq!(show(&["--capability", "fs.*"])["records"].as_array().unwrap().len(), 3);
    assert_eq!(show(&["--capability", "net.*"])["records"].as_array().unwrap().len(), 0);
    let cut = show(&["--limit", "2"]);
    assert_eq!((cut["records"].as_array().unwrap().len(), cut["truncated"].as_bool()), (2, Some(true)));
    assert_eq!(cut["records"][1], all["records"][count - 1], "the newest are kept");
    let tail = place.run(&["audit", "tail", "log", "-n", "1"]);
    assert_eq!((tail.status(), tail.out().lines().count()), (0, 1));
}

#[test]
fn a_followed_log_goes_on_and_a_followed_json_is_refused() {
    let place = Place::new();
    write_log(&place.path("log"));
    let refused = place.run(&["audit", "tail", "-f", "log", "--json"]);
    assert_eq!((refused.status(), refused.object()["error_code"].as_str()), (2, Some("invalid-argument")));
    let mut tail = place.command(&["audit", "tail", "-f", "-n", "1", "log"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = tail.stdout.take().unwrap();
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = out.read(&mut buffer) {
            let _ = send.send(String::from_utf8_lossy(&buffer[..count]).into_owned());
        }
    });
    let wait_for = |word: &str| {
        let (end, mut seen) = (Instant::now() + Duration::from_secs(30), String::new());
        while !seen.contains(word) && Instant::now() < end {
            seen.push_str(&receive.recv_timeout(Duration::from_secs(1)).unwrap_or_default());
        }
        seen
    };
    let first = wait_for("close");
    write_log(&place.path("log"));
    let seen = wait_for("close");
    tail.kill().unwrap();
    tail.wait().unwrap();
    assert!(first.lines().count() == 1 && !first.contains("secret.txt"), "{first}");
    assert!(seen.contains("secret.txt") && seen.contains("close"), "{seen}");
}

#[test]
fn what_is_no_log_is_a_usage_error() {
    let place = Place::new();
    place.write("x.txt", "");
    for words in [
        ["audit", "verify", "gone"],
        ["audit", "verify", "x.txt"],
        ["audit", "show", "gone"],
        ["audit", "tail", "x.txt"],
    ] {
        let ran = place.run(&words);
        assert_eq!(ran.status(), 2, "{words:?}: {}", ran.err());
    }
    fs::create_dir(place.path("empty")).unwrap();
    let empty = place.run(&["audit", "verify", "empty"]);
    assert_eq!((empty.status(), empty.out().starts_with("empty: ")), (0, true), "{}", empty.out());
}

#[test]
fn doctor_answers_for_every_jail_with_a_consequence_for_what_is_lost() {
    let place = Place::new();
    let ran = place.run(&["doctor", "--json"]);
    let object = ran.object();
    assert_eq!(object["schema"], "warden.doctor/1");
    let checks = object["checks"].as_array().unwrap();
    let missing = checks.iter().any(|check| check["state"] == "missing");
    assert_eq!((object["ok"].as_bool(), ran.status()), (Some(!missing), i32::from(missing)), "{object}");
    for check in checks {
        let (state, consequence) = (check["state"].as_str().unwrap(), check["consequence"].as_str().unwrap());
        assert!(matches!(state, "ok" | "degraded" | "missing"), "{check}");
        assert_eq!(consequence.is_empty(), state == "ok", "{check}");
    }
    for name in
        ["kernel", "landlock", "seccomp", "user", "programs", "audit folder", "jail worker", "jail cap-fs", "memfd"]
    {
        assert!(checks.iter().any(|check| check["name"] == name), "{name}");
    }
    let text = place.run(&["doctor"]);
    assert_eq!(text.status(), ran.status());
    assert!(text.out().lines().count() >= checks.len(), "{}", text.out());
}

/// The host's kernel is not the tests' to choose; what lies beside the program is.
#[test]
fn doctor_does_not_believe_in_programs_that_are_not_there() {
    let place = Place::new();
    let copy = place.path("warden");
    // By another process: a descriptor of ours for writing could be held by another test's child, and nobody executes then.
    assert!(Command::new("cp").args([Path::new(env!("CARGO_BIN_EXE_warden")), &copy]).status().unwrap().success());
    let output =
        Command::new(&copy).args(["doctor", "--json"]).env_clear().env("HOME", place.0.path()).output().unwrap();
    let ran = Ran(output);
    let object = ran.object();
    assert_eq!((ran.status(), object["ok"].as_bool()), (1, Some(false)));
    let programs = object["checks"].as_array().unwrap().iter().find(|check| check["name"] == "programs").unwrap();
    assert_eq!(programs["state"], "missing");
}

#[test]
fn with_json_a_usage_error_is_one_object_too() {
    let place = Place::new();
    for words in [
        &["policy", "--json"][..],
        &["policy", "chek", "--json"],
        &["policy", "why", "--json"],
        &["policy", "check", "a", "--config", "b", "--json"],
        &["policy", "why", "no.such", "--config", "gone.toml", "--json"],
        &["audit", "--json"],
        &["audit", "verify", "gone", "--json"],
        &["audit", "show", "--limit", "0", "--json"],
        &["audit", "tail", "-n", "x", "--json"],
        &["doctor", "extra", "--json"],
    ] {
        let ran = place.run(words);
        assert_eq!(ran.status(), 2, "{words:?}: {}", ran.out());
        let object = ran.object();
        assert_eq!(object["schema"], "warden.error/1", "{words:?}");
    }
}

#[test]
fn every_help_teaches_with_an_example() {
    let place = Place::new();
    for words in [
        &["policy", "check", "--help"][..],
        &["policy", "show", "--help"],
        &["policy", "why", "--help"],
        &["audit", "verify", "--help"],
        &["audit", "show", "--help"],
        &["audit", "tail", "--help"],
        &["doctor", "--help"],
    ] {
        let ran = place.run(words);
        assert_eq!(ran.status(), 0, "{words:?}");
        assert!(ran.out().contains("Example") && ran.out().contains("  warden "), "{words:?}: {}", ran.out());
    }
}
