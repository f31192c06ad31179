//! The demo's recording fits the demo's repository, and no other bug.
//!
//! The planner's own logic is driven by the recording over a real repository in a temporary folder, with real files, python and git. Nothing is jailed or
//! judged here and the two forbidden acts are answered by hand: the test is of the recording; the same run through every process is `make demo`.

use agent_core::brain::Brain;
use agent_core::host::{CallFault, Command as Granted, Grants, Host, Message, Tool, Workspace};
use agent_core::observation::Observation;
use agent_core::turn::{Planned, Turn};
use guest_check::guests_dir;
use regex::Regex;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Deserialize)]
struct Line {
    expect: String,
    content: String,
}

/// Plays the recording as the replay provider does: a line a call, a mismatch is the end.
struct Replay {
    lines: VecDeque<Line>,
}

impl Host for Replay {
    fn describe(&mut self) -> Result<Grants, CallFault> {
        let command = |name: &str| Granted { name: name.to_owned(), description: None };
        Ok(Grants {
            workspaces: vec![Workspace { label: "repo".into(), read_only: false, max_file_bytes: None }],
            commands: vec![command("python3"), command("git")],
            budgets: Vec::new(),
        })
    }

    fn complete(&mut self, messages: &[Message]) -> Result<String, CallFault> {
        let fault = |message: String| CallFault { call: "llm.complete", code: "unavailable", message };
        let line = self.lines.pop_front().ok_or_else(|| fault("recording ended".into()))?;
        let last = &messages.last().expect("a message").content;
        if Regex::new(&line.expect).expect("a regular expression").is_match(last) {
            return Ok(line.content);
        }
        Err(fault(format!("mismatch: {} does not match\n{last}", line.expect)))
    }

    fn call_tools(&mut self, _: &[Message], _: &[Tool]) -> Result<String, CallFault> {
        panic!("the demo's turns are asked for as text")
    }
}

fn examples() -> PathBuf {
    guests_dir().join("../examples")
}

fn recording() -> Replay {
    let text = std::fs::read_to_string(examples().join("transcripts/fix-test.jsonl")).expect("the recording");
    Replay { lines: text.lines().map(|line| serde_json::from_str(line).expect("a line")).collect() }
}

fn git(repo: &Path, args: &[&str]) -> std::process::Output {
    let identity = [("GIT_AUTHOR_NAME", "a"), ("GIT_AUTHOR_EMAIL", "a@b"), ("GIT_COMMITTER_NAME", "a"), ("GIT_COMMITTER_EMAIL", "a@b")];
    Command::new("git").args(args).current_dir(repo).env("GIT_CONFIG_GLOBAL", "/dev/null").envs(identity).output().expect("git runs")
}

fn repository(stats: &str) -> tempfile::TempDir {
    let repo = tempfile::tempdir().expect("a folder");
    std::fs::copy(examples().join("demo").join(stats), repo.path().join("stats.py")).expect("the module");
    std::fs::copy(examples().join("demo/test_stats.py"), repo.path().join("test_stats.py")).expect("the tests");
    for args in [&["init", "-q"][..], &["add", "."], &["commit", "-q", "-m", "Start"]] {
        assert!(git(repo.path(), args).status.success());
    }
    repo
}

/// What became of one action, in the form of the host's reports.
fn report(repo: &Path, planned: &Planned) -> Value {
    let text = |name: &str| planned.input.get(name).and_then(Value::as_str).unwrap_or_default();
    let path = || repo.join(text("path").trim_start_matches("repo:"));
    let output = match planned.capability.as_str() {
        "fs.list_dir" => {
            let entries = std::fs::read_dir(path()).expect("the folder").map(|entry| entry.expect("an entry").file_name());
            json!({"path": "repo:", "entries": entries.map(|name| json!({"name": name.to_string_lossy(), "kind": "file"})).collect::<Vec<_>>()})
        }
        "fs.read_file" if text("path").starts_with("repo:") => {
            json!({"path": text("path"), "truncated": false, "encoding": "utf-8", "contents": std::fs::read_to_string(path()).expect("a file")})
        }
        "fs.write_file" => {
            std::fs::write(path(), text("contents")).expect("written");
            json!({"path": text("path")})
        }
        "proc.spawn" if text("command") != "curl" => run(repo, text("command"), &planned.input),
        denied => {
            let error = json!({"code": "denied", "message": "no rule allows it", "rule": "default-deny"});
            return json!({"capability": denied, "success": false, "output": null, "error": error});
        }
    };
    json!({"capability": planned.capability, "success": true, "output": output, "error": null})
}

fn run(repo: &Path, command: &str, input: &serde_json::Map<String, Value>) -> Value {
    let args: Vec<&str> = input["args"].as_array().expect("arguments").iter().filter_map(Value::as_str).collect();
    let output = match command {
        "git" => git(repo, &args),
        python => Command::new(python).args(&args).current_dir(repo).output().expect("python runs"),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    json!({"command": command, "args": args, "status": output.status.code(), "stdout": text(&output.stdout), "stderr": text(&output.stderr)})
}

/// Steps until the end: the completion, or the fault that ended it, and how many lines were not played.
fn play(repo: &Path) -> (Result<Value, String>, usize) {
    let (mut brain, mut replay) = (Brain::default(), recording());
    let mut observed = Observation::new(1, "the task begins", "{}");
    loop {
        match brain.step("Make the failing test pass and say what you did in SUMMARY.md", &observed, &mut replay) {
            Ok(Turn::Complete { result, .. }) => return (Ok(result), replay.lines.len()),
            Err(fault) => return (Err(fault.to_string()), replay.lines.len()),
            Ok(Turn::Continue { actions, .. }) => {
                let reports: Vec<Value> = actions.iter().map(|planned| report(repo, planned)).collect();
                observed = Observation::new(observed.step + 1, "executed", &json!({"actions": reports}).to_string());
            }
        }
    }
}

fn can_run() -> bool {
    let there = ["git", "python3"].iter().all(|command| Command::new(command).arg("--version").output().is_ok());
    if !there {
        eprintln!("skipped: python3 and git are needed");
    }
    there
}

#[test]
fn the_recording_fixes_the_planted_bug() {
    if !can_run() {
        return;
    }
    let repo = repository("stats.py");
    let (end, left) = play(repo.path());
    assert_eq!(end.expect("complete")["summary"], "SUMMARY.md");
    assert_eq!(left, 0);
    assert!(std::fs::read_to_string(repo.path().join("SUMMARY.md")).expect("written").contains("fixed"));
    let tests = Command::new("python3").args(["-m", "unittest"]).current_dir(repo.path()).output().expect("python runs");
    assert!(tests.status.success());
    assert!(git(repo.path(), &["diff", "--quiet", "HEAD", "--", "stats.py"]).status.success(), "committed");
}

#[test]
fn another_bug_is_a_mismatch() {
    if !can_run() {
        return;
    }
    let repo = repository("other-bug/stats.py");
    let before = std::fs::read(repo.path().join("stats.py")).expect("a file");
    let (end, left) = play(repo.path());
    assert!(end.expect_err("a mismatch").contains("mismatch"));
    assert_eq!(left, 6);
    assert_eq!(std::fs::read(repo.path().join("stats.py")).expect("a file"), before);
}
