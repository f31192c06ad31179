//! The command line as a person meets it: help, hints, and mistakes named with file and line before anything is started.

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use warden_tests::{Place, Ran, Running, Task, log, sample};

/// The commands that a help text lists.
fn commands(help: &str) -> Vec<String> {
    let list = help.split_once("\nCommands:\n").map(|(_, rest)| rest).unwrap_or_default();
    let lines = list.lines().take_while(|line| !line.trim().is_empty());
    lines.filter_map(|line| line.split_whitespace().next()).filter(|word| *word != "help").map(str::to_owned).collect()
}

/// Every command and every group, as far down as help leads.
#[test]
fn every_help_has_an_example() {
    let place = Place::new();
    let mut waiting: Vec<Vec<String>> = vec![Vec::new()];
    let mut seen = BTreeSet::new();
    while let Some(words) = waiting.pop() {
        let mut args: Vec<&str> = words.iter().map(String::as_str).collect();
        args.push("--help");
        let ran = place.run(&args);
        assert_eq!(ran.status, 0, "{words:?}: {}", ran.err);
        assert!(ran.out.contains("Example"), "no example: warden {}\n{}", args.join(" "), ran.out);
        let example = ran.out.split("Example").nth(1).unwrap_or_default();
        assert!(example.contains(&format!("warden {}", words.join(" "))), "of another command: {}", ran.out);
        waiting.extend(commands(&ran.out).into_iter().map(|word| [words.clone(), vec![word]].concat()));
        seen.insert(words.join(" "));
    }
    for known in ["", "run", "step", "task", "task run", "policy", "policy why", "audit", "audit tail", "doctor"] {
        assert!(seen.contains(known), "{known} is not listed: {seen:?}");
    }
    assert!(seen.len() >= 13, "{seen:?}");
    // The same as a command, and as one object.
    let plain = place.run(&["help", "run"]);
    for args in [["help", "run", "--json"], ["--json", "help", "run"]] {
        let object = place.run(&args).object();
        assert_eq!(
            (object["schema"].as_str(), object["text"].as_str()),
            (Some("warden.help/1"), Some(plain.out.as_str()))
        );
    }
}

#[test]
fn a_word_for_the_guest_is_told_its_place() {
    let place = Place::new();
    let file = sample("loop.wat");
    let ran = place.run(&["run", file.to_str().unwrap(), "first"]);
    assert_eq!(ran.status, 2);
    assert!(ran.err.contains("warden run FILE -- first"), "{}", ran.err);
    let object = place.json(&["run", file.to_str().unwrap(), "first"]).fails("invalid-argument", 2);
    assert!(object["error"].as_str().unwrap().contains("warden run FILE -- first"), "{object}");
    let other = place.run(&["task", "run", "a.toml", "b.toml"]);
    assert!(!other.err.contains(" -- "), "{}", other.err);
}

/// T-06: opening what waits for a writer must not be the end of it.
#[test]
fn what_is_no_file_is_no_module_and_holds_nobody_up() {
    let place = Place::new();
    let fifo = place.path("fifo.wasm");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    for path in [fifo.as_path(), std::path::Path::new("/dev/zero"), place.path("work").as_path()] {
        let ran = place.module(path, &[]);
        let object = ran.fails("not-found", 127);
        assert!(object["error"].as_str().unwrap().contains("no regular file"), "{object}");
        assert!(ran.took < Duration::from_secs(5), "{:?}", ran.took);
    }
}

const ABSENT: &str = "version = 1\n[[fs.workspace]]\nlabel = \"gone\"\npath = \"gone\"\n[[fs.workspace]]\nlabel = \"file\"\n\
                      path = \"file\"\n[[proc.command]]\nname = \"none\"\npath = \"/usr/bin/no-such-program\"\n[llm]\n\
                      provider = \"replay\"\nfile = \"no.jsonl\"\n[[secret]]\nname = \"key\"\nfile = \"no.key\"\n";

/// What is not there is named with file, line and rule, where it is checked and where a task would start; nothing is started.
#[test]
fn what_is_absent_is_named_with_file_line_and_rule_before_anything_starts() {
    let place = Place::new();
    place.write("file", "");
    let audit = "[audit]\ndir = \"audit\"\n";
    let config = place.write("warden.toml", &format!("{ABSENT}{audit}"));
    let config = config.to_str().unwrap();
    let named = [
        format!("{config}:4:8: user:fs.workspace.gone: the folder {} does not exist", place.path("gone").display()),
        format!("{config}:7:8: user:fs.workspace.file: the folder {} is no folder", place.path("file").display()),
        format!("{config}:10:8: user:proc.command.none: the program /usr/bin/no-such-program does not exist"),
        format!("{config}:13:8: llm.file: the recording {} does not exist", place.path("no.jsonl").display()),
        format!("{config}:16:8: secret.key: the secret's file {} does not exist", place.path("no.key").display()),
    ];
    // `policy check` names all of them at once.
    let checked = place.json(&["policy", "check", config]).fails("invalid-argument", 2);
    for words in &named {
        assert!(checked["error"].as_str().unwrap().contains(words), "{words}\n{}", checked["error"]);
    }
    // A start names the first; mended one after the other, each is named, and then it starts.
    let module = sample("hello.wat");
    let run = |place: &Place| place.json(&["run", "--config", config, module.to_str().unwrap()]);
    let task = |place: &Place| {
        Task::runbook(&[]).with("step", json!([{"capability": "policy.describe", "input": {}}])).run(place)
    };
    let said = |ran: Ran| ran.fails("invalid-argument", 2)["error"].as_str().unwrap().to_owned();
    let mend: [&dyn Fn(); 5] = [
        &|| drop(place.folder_of_task("gone", 0o755)),
        &|| {
            std::fs::remove_file(place.path("file")).expect("it was there");
            place.folder_of_task("file", 0o755);
        },
        &|| drop(place.write("warden.toml", &format!("{}{audit}", ABSENT.replace("no-such-program", "true")))),
        &|| drop(place.write("no.key", "secret of eight bytes")),
        &|| drop(place.write("no.jsonl", "")),
    ];
    for (at, words) in [0, 1, 2, 4, 3].into_iter().map(|at| &named[at]).enumerate() {
        // Secrets come with the layers and programs after them; a recording is what only a task needs.
        let first = said(task(&place));
        assert!(named.iter().any(|each| first.contains(each)), "{first}");
        if at < 3 {
            said(run(&place));
        }
        assert!(at > 1 || first.contains(words), "{words}\n{first}");
        mend[at]();
    }
    run(&place).exits(0);
    task(&place).outcome("unverified");
    assert!(log::records(&place).iter().all(|record| record["phase"] != "begin"), "nothing was started before");
    assert_eq!(place.json(&["policy", "check", config]).status, 0);
    // A ceiling's or manifest's own folder is named by its own file.
    let object = Task::runbook(&[]).with("step", json!([{"capability": "policy.describe", "input": {}}]));
    let error = said(object.with("workspace", json!("nowhere")).run(&place));
    assert!(error.contains("task.json:1:") && error.contains("task:fs.workspace.workspace"), "{error}");
}

/// The log can be read under a policy whose folders are gone.
#[test]
fn a_policy_that_cannot_start_still_says_where_its_log_is() {
    let place = Place::of_user();
    place.work_policy("");
    Task::runbook(&[("fs.list_dir", json!({"path": "work:"}))]).run(&place).outcome("unverified");
    let text = format!("{ABSENT}[audit]\ndir = \"{}\"\n", place.path("audit").display());
    let own = place.folder_of_task("config/wasi-warden", 0o700).join("policy.toml");
    std::fs::write(&own, text).expect("the user's own policy");
    if warden_tests::is_root() {
        std::os::unix::fs::chown(&own, Some(warden_tests::NOBODY), None).expect("its owner");
    }
    let shown = place.json(&["audit", "show"]).object();
    assert!(shown["records"].as_array().is_some_and(|records| !records.is_empty()), "{shown}");
}

/// Keys that are read and change nothing yet are warned of, with their line; what has an effect is not.
#[test]
fn keys_without_effect_are_warned_of_where_they_stand() {
    let place = Place::new();
    let config =
        place.work_policy("lease = true\n[limits]\nnet_requests = 3\nsteps = 4\n[approval]\ntimeout = \"1m\"\n");
    let object = place.json(&["policy", "check", config.to_str().unwrap()]).object();
    let warnings: Vec<&str> =
        object["warnings"].as_array().unwrap().iter().map(|each| each.as_str().unwrap()).collect();
    let warned = |line: u32, key: &str| {
        let place = format!("warden.toml:{line}:");
        warnings.iter().any(|each| each.contains(&place) && each.contains(key) && each.contains("without effect yet"))
    };
    assert!(warned(8, "lease") && warned(10, "limits.net_requests") && warned(13, "approval.timeout"), "{warnings:?}");
    assert!(!warnings.iter().any(|each| each.contains("steps")), "{warnings:?}");
    place.work_policy("");
    let object = place.json(&["policy", "check", config.to_str().unwrap()]).object();
    assert_eq!(object["warnings"], json!([]), "{object}");
}

#[test]
fn what_a_shown_policy_holds_built_in_is_shown() {
    let place = Place::new();
    let config = place.work_policy("");
    let config = config.to_str().unwrap();
    let text = place.run(&["policy", "show", "--config", config]).out;
    assert!(text.contains("# user:fs.workspace.work: not to be written unless allow_run_later"), "{text}");
    assert!(text.contains("**/.git/hooks/**") && text.contains("deny_write = []"), "{text}");
    let object = place.json(&["policy", "show", "--config", config]).object();
    assert!(object["built_in"][0]["deny_write"].to_string().contains("**/.git/hooks/**"), "{object}");
    // It is a policy again, and the same one.
    let again = place.write("again.toml", &text);
    let shown = place.json(&["policy", "show", "--config", again.to_str().unwrap()]).object();
    assert_eq!((&shown["policy"], &shown["built_in"]), (&object["policy"], &object["built_in"]));
    place.work_policy("allow_run_later = true\n");
    assert!(!place.run(&["policy", "show", "--config", config]).out.contains("not to be written"));
}

/// T-10: a recording beside the workspace is beside it, from wherever it is named; one in it stays refused.
#[test]
fn a_recording_named_from_inside_the_workspace_lies_where_it_lies() {
    let place = Place::of_user();
    place.work_policy("");
    let line = json!({"content": json!({"status": "complete", "reason": "x", "result": 1}).to_string()}).to_string();
    place.write("run.jsonl", &line);
    place.put("work/run.jsonl", &line);
    place.folder_of_task("work/sub", 0o755);
    let manifest = place.write("task.json", &json!({"kind": "goal", "policy": "warden.toml", "goal": "x"}).to_string());
    let run = |folder: &str, replay: &str| {
        let mut command = place.command(&["--json", "task", "run", manifest.to_str().unwrap(), "--replay", replay]);
        command.current_dir(place.path(folder));
        Running::of(command).end()
    };
    run("work", "../run.jsonl").outcome("unverified");
    run("work/sub", "../../run.jsonl").outcome("unverified");
    run(".", "run.jsonl").outcome("unverified");
    for (folder, replay) in [
        ("work", "run.jsonl"),
        ("work", "sub/../../run.jsonl"),
        (".", "work/../run.jsonl"),
        ("work/sub", "../run.jsonl"),
    ] {
        let object = run(folder, replay).fails("invalid-argument", 2);
        assert!(object["error"].as_str().unwrap().contains("the task can write"), "{folder} {replay}: {object}");
    }
}

#[test]
fn what_a_tail_leaves_out_is_told_with_its_own_flag() {
    let place = Place::new();
    place.work_policy("");
    Task::runbook(&[("fs.list_dir", json!({"path": "work:"}))]).run(&place).outcome("unverified");
    let audit = place.path("audit");
    let audit = audit.to_str().unwrap();
    let tail = place.run(&["audit", "tail", "-n", "1", audit]).err;
    assert!(tail.contains("see -n") && !tail.contains("--limit"), "{tail}");
    let show = place.run(&["audit", "show", "--limit", "1", audit]).err;
    assert!(show.contains("see --limit"), "{show}");
}

/// T-06, T-12: what a killed session left in the run directory: nothing said of what is empty, and the rest said once.
#[test]
fn what_killed_sessions_left_is_swept_or_told_of_once() {
    let place = Place::of_user();
    let config = place.work_policy("");
    place.folder_of_task("run/wasi-warden", 0o700);
    place.folder_of_task("run/wasi-warden/scratch-00", 0o700);
    place.put("run/wasi-warden/scratch-01/file", "left");
    let module = sample("hello.wat");
    let run = || place.run(&["run", "--config", config.to_str().unwrap(), module.to_str().unwrap()]).err;
    let first = run();
    let typed = first.split_once("type: ").expect("what to type").1.lines().next().unwrap().to_owned();
    assert!(typed.starts_with("rm -rf ") && typed.ends_with("/left-01"), "{first}");
    assert!(!place.path("run/wasi-warden/scratch-00").exists(), "what is empty goes without a word");
    assert!(place.path("run/wasi-warden/left-01/file").exists(), "what is not is left to a person");
    assert!(!run().contains("type:"), "it is said once");
    assert!(std::process::Command::new("/bin/sh").args(["-c", &typed]).status().expect("sh runs").success());
    assert!(!place.path("run/wasi-warden/left-01").exists());
    let left: Vec<_> = std::fs::read_dir(place.path("run/wasi-warden")).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

/// The 30 s of `run` where nothing is said are in `cli::run`'s own tests; here a policy's stand in their place.
#[test]
fn a_run_ends_at_the_wall_of_its_policy() {
    let place = Place::new();
    place.policy("[limits]\nwall = \"300ms\"\n");
    let ran = place.module(&sample("loop.wat"), &[]);
    let object: Value = ran.fails("timeout", 124);
    assert!(ran.took < Duration::from_secs(10), "{object}");
}
