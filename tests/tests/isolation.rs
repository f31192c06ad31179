//! What holds each process of a live task, as /proc shows it to root; tasks beside each other; files that decide.

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use warden_tests::manifest::{self, ok, results, succeeded};
use warden_tests::{Family, NOBODY, Place, Process, Task, gate, is_root, log, processes, sample, skipped};

const REPLAY: &str = "[llm]\nprovider = \"replay\"\nfile = \"run.jsonl\"\n";

/// A task that has every helper running and stands at its gate.
fn standing() -> (Place, warden_tests::Running) {
    let place = Place::new();
    place.folder_of_task("other", 0o755);
    let other = "[[fs.workspace]]\nlabel = \"other\"\npath = \"other\"\n";
    place.work_policy(&format!("{other}{}{REPLAY}", gate::COMMAND));
    place.write("run.jsonl", "{\"content\":\"hello\"}\n");
    place.put("work/a.txt", "hello");
    let steps = [
        ("fs.read_file", json!({"path": "work:a.txt"})),
        ("llm.complete", json!({"messages": [{"role": "user", "content": "hi"}]})),
        gate::step(1),
        ("fs.read_file", json!({"path": "work:a.txt"})),
    ];
    let running = Task::runbook(&steps).start(&place);
    gate::reached(&place, 1);
    gate::stands(&running, 1);
    (place, running)
}

fn finish(place: &Place, running: warden_tests::Running) {
    gate::open(place, 1);
    let object = running.end().outcome("unverified");
    succeeded(manifest::actions(&object).last().unwrap());
}

#[track_caller]
fn is_jailed(role: &str, process: &Process) {
    let status = process.status();
    let field = |name: &str| status.get(name).cloned().unwrap_or_default();
    assert_eq!((field("NoNewPrivs"), field("Seccomp")), ("1".into(), "2".into()), "{role}: {status:?}");
    for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
        assert_eq!(field(set), "0".repeat(16), "{role}: {set}");
    }
    if is_root() {
        let ids = format!("{NOBODY}\t{NOBODY}\t{NOBODY}\t{NOBODY}");
        assert_eq!((field("Uid"), field("Gid")), (ids.clone(), ids), "{role}: nobody's, in every form");
        assert!(["", "65534"].contains(&field("Groups").as_str()), "{role}: no group but the user's: {status:?}");
    }
}

/// T-03: every jailed process of a live task, one that is at work.
#[test]
fn every_process_of_a_live_task_is_jailed() {
    let (place, running) = standing();
    let family = running.family();
    for role in ["template", "worker", "cap-fs", "cap-llm", "cap-proc", "cap-proc-runner"] {
        let process = family.role(role).unwrap_or_else(|| panic!("no {role}: {family:?}"));
        is_jailed(role, &process);
        assert_eq!(process.status().get("Threads").map(String::as_str), Some("1"), "{role}");
    }
    let runner = family.role("cap-proc-runner").unwrap();
    let keeper = family.members.iter().find(|member| member.parent == runner.pid).expect("a keeper");
    is_jailed("keeper", keeper);
    let command = family.members.iter().find(|member| member.parent == keeper.pid).expect("a command");
    is_jailed("command", command);
    // The broker has its own jail; the spawner, which builds the others', has none, and no capability either.
    is_jailed("broker", &family.members[0]);
    let spawner = family.spawner().unwrap().status();
    for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
        assert_eq!(spawner[set], "0".repeat(16), "{spawner:?}");
    }
    // The control: this test's own process is held by none of it.
    let own = fs::read_to_string("/proc/self/status").unwrap();
    assert!(own.contains("Seccomp:\t0"), "{own}");
    finish(&place, running);
}

/// T-03: the compiler, caught at work on a long module.
#[test]
fn the_compiler_is_jailed() {
    let place = Place::of_user();
    let config = place.policy("");
    let file = place.put("long.wat", warden_tests::place::long_module());
    let running = place.start(&["--json", "run", "--config", config.to_str().unwrap(), file.to_str().unwrap()]);
    let broker = running.pid();
    let compiler = processes::wait("a locked compiler", || {
        let compiler = Family::of(broker).role("compiler")?;
        (compiler.status().get("Seccomp").map(String::as_str) == Some("2")).then_some(compiler)
    });
    compiler.signal(Signal::SIGSTOP);
    is_jailed("compiler", &compiler);
    if is_root() {
        let held = compiler.descriptors();
        assert!(held.values().all(|what| allowed_descriptor(what)), "{held:?}");
    }
    compiler.signal(Signal::SIGCONT);
    running.end().exits(7);
}

/// Its link, its standard streams that lead nowhere, memory files, pidfds and other things without a name on the host.
fn allowed_descriptor(what: &str) -> bool {
    what == "/dev/null" || what.starts_with("socket:") || what.starts_with("/memfd:")
}

/// T-03, T-11: nothing open but the link and what the task granted.
#[test]
fn no_process_holds_a_descriptor_but_its_link_and_its_leases() {
    if !is_root() {
        return skipped("only root can list the descriptors of processes that are not dumpable");
    }
    let (place, running) = standing();
    let family = running.family();
    let held = |role: &str| family.role(role).unwrap_or_else(|| panic!("no {role}")).descriptors();
    let sockets = |held: &BTreeMap<u32, String>| held.values().filter(|what| what.starts_with("socket:")).count();
    let work = place.path("work").display().to_string();
    let other = place.path("other").display().to_string();
    for role in ["worker", "template", "cap-llm"] {
        let held = held(role);
        assert!(held.values().all(|what| allowed_descriptor(what)), "{role}: {held:?}");
        assert_eq!(sockets(&held), 1, "{role}: {held:?}");
    }
    let files = held("cap-fs");
    assert_eq!(sockets(&files), 1, "{files:?}");
    // The table of its own descriptors tells it where what it opened lies, by the kernel's word.
    let own_table = format!("/proc/{}/fd", family.role("cap-fs").unwrap().pid);
    let named = files.values().filter(|what| !allowed_descriptor(what) && **what != own_table);
    let mut folders: Vec<_> = named.cloned().collect();
    folders.sort();
    folders.dedup();
    assert_eq!(folders, [other.clone(), work.clone()], "cap-fs: {files:?}");
    let front = held("cap-proc");
    assert!(
        front
            .values()
            .all(|what| allowed_descriptor(what) || what.starts_with("pipe:") || what.starts_with("anon_inode:")),
        "{front:?}"
    );
    // The command: three streams, and what the shell itself has open, which can only be its own.
    let command = family.members.iter().find(|member| member.line.contains("gate-1")).unwrap().descriptors();
    assert!(command.keys().all(|number| *number <= 2 || *number >= 10), "{command:?}");
    // T-09: the log says the same of each, by its own list.
    let records = log::of(&place, "task.process");
    for role in ["worker", "cap-fs", "cap-llm", "cap-proc"] {
        let process = family.role(role).unwrap();
        let record = records.iter().find(|record| record["role"] == role && record["input"]["pid"] == process.pid);
        let record = record.unwrap_or_else(|| panic!("no record of {role} {}: {records:?}", process.pid));
        let told: Vec<u32> =
            record["input"]["descriptors"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as u32).collect();
        let found: Vec<u32> = process.descriptors().into_keys().collect();
        assert!(!told.is_empty(), "{record}");
        let more: Vec<&u32> = found.iter().filter(|number| !told.contains(number)).collect();
        // What came after it locked is what it works with: a memory file or a pipe of its commands.
        let held = process.descriptors();
        // cap-proc's front talks to each keeper, and each keeper's command, through pairs and pipes of its own.
        let later: &[&str] = if role == "cap-proc" { &["pipe:", "socket:", "anon_inode:"] } else { &["/memfd:"] };
        assert!(
            more.iter().all(|number| later.iter().any(|kind| held[number].starts_with(kind))),
            "{role} says {told:?} and holds {held:?}"
        );
        assert!(record["input"]["seccomp_filters"].as_u64().is_some_and(|filters| filters >= 1), "{record}");
    }
    finish(&place, running);
}

/// T-08, T-13: another process of the same user learns nothing from /proc.
#[test]
fn a_neighbour_of_the_same_user_cannot_look_in() {
    if !is_root() {
        return skipped("the neighbour is started as the task's user, which takes root");
    }
    let (place, running) = standing();
    let family = running.family();
    use std::os::unix::process::CommandExt;
    let neighbour = |script: &str| {
        let mut command = std::process::Command::new("/bin/sh");
        let output = command.args(["-c", script]).uid(NOBODY).gid(NOBODY).env_clear().output().expect("sh runs");
        output.status.success()
    };
    for role in ["spawner", "template", "worker", "cap-fs", "cap-llm", "cap-proc", "cap-proc-runner"] {
        let pid = family.role(role).unwrap_or_else(|| panic!("no {role}")).pid;
        for name in ["mem", "environ", "maps", "fd/3", "cwd", "exe"] {
            let script =
                format!("ls -l /proc/{pid}/{name} >/dev/null 2>&1 && head -c 1 /proc/{pid}/{name} >/dev/null 2>&1");
            assert!(!neighbour(&script), "{role}: {name}");
        }
        assert!(neighbour(&format!("test -d /proc/{pid}")), "the probe sees that it is there");
    }
    let broker = running.pid();
    assert!(
        !neighbour(&format!("head -c 1 /proc/{broker}/mem"))
            && !neighbour(&format!("head -c 1 /proc/{broker}/environ"))
    );
    // The control: a neighbour can look at its own.
    assert!(neighbour("head -c 1 /proc/self/environ >/dev/null; head -c 1 /proc/self/maps >/dev/null"));
    finish(&place, running);
}

/// T-08: no variable of the caller's reaches any of them.
#[test]
fn no_environment_is_handed_on() {
    if !is_root() {
        return skipped("only root can read the environment of processes that are not dumpable");
    }
    let place = Place::new();
    place.work_policy(gate::COMMAND);
    let manifest = json!({"kind": "runbook", "policy": "warden.toml", "step": [
        {"capability": "fs.list_dir", "input": {"path": "work:"}},
        {"capability": gate::step(1).0, "input": gate::step(1).1},
    ]});
    let file = place.write("task.json", &manifest.to_string());
    let mut command = place.command(&["--json", "task", "run", file.to_str().unwrap()]);
    command.env("SECRET_OF_CALLER", "do-not-hand-on");
    let running = warden_tests::Running::of(command);
    gate::reached(&place, 1);
    let family = running.family();
    assert!(family.members.len() >= 6, "{family:?}");
    for member in family.members.iter().filter(|member| member.pid != running.pid()) {
        // The spawner is a fork of the broker and has its memory; what it executes gets nothing.
        if family.spawner().is_some_and(|spawner| spawner.pid == member.pid) {
            continue;
        }
        let environment = fs::read(format!("/proc/{}/environ", member.pid)).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&environment).contains("do-not-hand-on"), "{}", member.line);
    }
    gate::open(&place, 1);
    running.end().outcome("unverified");
}

/// T-11: two tasks at once, each with its own; neither sees the other's files, handles, output or answers.
#[test]
fn two_tasks_at_once_never_meet() {
    let place = |word: &str| {
        let place = Place::new();
        place.work_policy(&format!("{}{REPLAY}", gate::COMMAND));
        place.put("work/own.txt", word);
        place.write("run.jsonl", &json!({"content": format!("model of {word}")}).to_string());
        place
    };
    let (one, two) = (place("ONE"), place("TWO"));
    let script = |beyond: &Place| {
        let out = beyond.path("work/own.txt").display().to_string();
        let wait = "cat own.txt; until [ -e gate-1 ]; do sleep 0.02; done; ls";
        json!([
            {"op": "fs.open_workspace", "as": "root"},
            {"op": "fs.open_file", "dir": "root", "path": "own.txt", "options": {"read": true}, "as": "own"},
            {"op": "proc.spawn", "command": "gate", "argv": ["-c", wait], "as": "p"},
            {"op": "proc.wait", "process": "p"},
            {"op": "proc.drain", "process": "p", "stream": "stdout"},
            {"op": "fs.read", "file": "own", "max_bytes": 100},
            {"op": "fs.open_file", "dir": "root", "path": out, "options": {"read": true}, "as": "theirs"},
            {"op": "llm.complete", "messages": [["user", "who"]]},
            {"op": "policy.describe"},
        ])
    };
    let first = Task::script(&script(&two)).start(&one);
    let second = Task::script(&script(&one)).start(&two);
    for place in [&one, &two] {
        processes::wait("both commands", || {
            log::of(place, "proc.start").iter().any(|record| record["phase"] == "end").then_some(())
        });
    }
    one.put("work/gate-1", "");
    two.put("work/gate-1", "");
    let (first, second) = (results(&first.end()), results(&second.end()));
    for (results, own, other) in [(&first, "ONE", "TWO"), (&second, "TWO", "ONE")] {
        let all = Value::Array(results.clone()).to_string();
        assert!(!all.contains(other), "{all}");
        assert!(ok(&results[4]).to_string().contains(own), "{}", results[4]);
        assert_eq!(ok(&results[5])["text"], own);
        manifest::error(&results[6], "denied");
        assert!(ok(&results[7])["content"].as_str().unwrap().contains(own));
    }
    log::verify_complete(&one);
    log::verify_complete(&two);
}

fn task(place: &Place) -> Task {
    let _ = place;
    Task::runbook(&[("fs.list_dir", json!({"path": "work:"}))])
}

/// T-10: a file that decides and that the task could write is refused, and nothing is started.
#[test]
fn files_that_decide_may_not_lie_in_a_writable_workspace() {
    let place = Place::new();
    let policy = place.work_policy("");
    task(&place).run(&place).outcome("unverified");
    let records = log::records(&place).len();
    // The policy.
    fs::copy(&policy, place.put("work/warden.toml", "")).unwrap();
    task(&place).with("policy", json!("work/warden.toml")).run(&place).object();
    let refused = |what: &str, ran: warden_tests::Ran| {
        let object = ran.fails("invalid-argument", 2);
        eprintln!("{what}: {}", object["error"]);
    };
    let inside = "version = 1\n[audit]\ndir = \"../audit\"\n[[fs.workspace]]\nlabel = \"work\"\npath = \".\"\naccess = \"read-write\"\n";
    place.put("work/warden.toml", inside);
    refused("policy", task(&place).with("policy", json!("work/warden.toml")).run(&place));
    // The manifest.
    let manifest = json!({"kind": "runbook", "policy": "../warden.toml",
        "step": [{"capability": "fs.list_dir", "input": {"path": "work:"}}]});
    let path = place.put("work/task.json", manifest.to_string());
    refused("manifest", place.json(&["task", "run", path.to_str().unwrap()]));
    // The brain.
    let brain = place.path("work/brain.wasm");
    fs::copy(sample("control-probe.wasm"), &brain).unwrap();
    let goal = Task::goal("{\"script\":[]}");
    refused("brain", goal.clone().with("brain", json!("work/brain.wasm")).run(&place));
    // The recording.
    place.put("work/run.jsonl", "{\"content\":\"x\"}");
    place.work_policy("[llm]\nprovider = \"replay\"\nfile = \"work/run.jsonl\"\n");
    refused("recording", goal.run(&place));
    // The program of a command.
    fs::copy("/usr/bin/true", place.path("work/true")).unwrap();
    place.work_policy("[[proc.command]]\nname = \"true\"\npath = \"work/true\"\nunchecked = true\n");
    refused("program", task(&place).run(&place));
    // The audit folder.
    place.folder_of_task("work/audit", 0o700);
    place.write("warden.toml", &format!("version = 1\n[audit]\ndir = \"work/audit\"\n{}", warden_tests::place::WORK));
    refused("audit", task(&place).run(&place));
    assert_eq!(log::records(&place).len(), records, "nothing was started");
    // The control: the same workspace, only for reading, may hold what decides.
    let reads = "version = 1\n[audit]\ndir = \"../audit\"\n[[fs.workspace]]\nlabel = \"work\"\npath = \".\"\n";
    place.put("work/warden.toml", reads);
    if !is_root() {
        task(&place).with("policy", json!("work/warden.toml")).run(&place).outcome("unverified");
    }
}

/// T-10
#[test]
fn files_that_decide_and_others_can_write_are_refused() {
    let place = Place::new();
    let policy = place.work_policy("");
    let run = || task(&place).run(&place);
    run().outcome("unverified");
    let mode = |path: &std::path::Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for bad in [0o666, 0o664, 0o646] {
        mode(&policy, bad);
        let object = run().fails("invalid-argument", 2);
        assert!(object["error"].as_str().unwrap().contains("warden.toml"), "{object}");
    }
    mode(&policy, 0o644);
    run().outcome("unverified");
    // A folder above it.
    mode(&place.path("."), 0o777);
    run().fails("invalid-argument", 2);
    mode(&place.path("."), 0o755);
    run().outcome("unverified");
    // Somebody else's.
    if is_root() {
        std::os::unix::fs::chown(&policy, Some(12_345), None).unwrap();
        run().fails("invalid-argument", 2);
    }
}

/// T-10: a request for a folder or a mode beyond the policy's.
#[test]
fn a_request_wider_than_its_ceiling_is_denied_with_both_rules() {
    let place = Place::new();
    place.policy("[[fs.workspace]]\nlabel = \"work\"\npath = \"work\"\n");
    let config = place.path("warden.toml").display().to_string();
    let work = place.path("work").display().to_string();
    place
        .write("run.jsonl", &json!({"content": "{\"status\":\"complete\",\"reason\":\"x\",\"result\":1}"}).to_string());
    let replay = place.path("run.jsonl").display().to_string();
    let step = |more: &[&str]| {
        place.json(&[&["step", "--task", "x", "--config", &config, "--replay", &replay][..], more].concat())
    };
    let object = step(&["--workspace", &work]).fails("denied", 126);
    let error = object["error"].as_str().unwrap();
    assert!(error.contains("task:fs.workspace") && error.contains("user:fs.workspace.work"), "{error}");
    let object = step(&["--allow-proc", "true"]).fails("denied", 126);
    assert!(object["error"].as_str().unwrap().contains("task:proc.command.true"), "{object}");
    assert!(log::records(&place).is_empty(), "nothing was started");
    // The control: within its policy.
    let within = place.json(&["step", "--task", "x", "--config", &config, "--replay", &replay]);
    assert!(within.status != 126, "{}", within.out);
    place.policy("[[fs.workspace]]\nlabel = \"work\"\npath = \"work\"\naccess = \"read-write\"\n");
    step(&["--workspace", &work]).outcome("unverified");
}

/// T-10: root is left behind, and where nobody else can take its place nothing runs.
#[test]
fn root_becomes_somebody_else_or_nothing_runs() {
    if !is_root() {
        return skipped("it is about root");
    }
    let place = Place::new();
    place.work_policy("");
    let file = place.write(
        "task.json",
        &json!({"kind": "runbook", "policy": "warden.toml",
        "step": [{"capability": "fs.write_file", "input": {"path": "work:a", "contents": "x"}}]})
        .to_string(),
    );
    let ran = place.run(&["task", "run", file.to_str().unwrap()]);
    assert!(ran.err.contains("running as uid 65534"), "{}", ran.err);
    use std::os::unix::fs::MetadataExt;
    assert_eq!(fs::metadata(place.path("work/a")).unwrap().uid(), NOBODY);
    // A workspace of root's that nobody else can use.
    std::os::unix::fs::chown(place.path("work"), Some(0), Some(0)).unwrap();
    fs::set_permissions(place.path("work"), fs::Permissions::from_mode(0o700)).unwrap();
    let object = place.json(&["task", "run", file.to_str().unwrap()]).object();
    assert!(
        object["error"].as_str().is_some_and(|error| error.contains("--user") && error.contains("chown")),
        "{object}"
    );
}
