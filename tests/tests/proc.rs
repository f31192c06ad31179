//! `proc.*`: every action done, denied by its rule, stopped by its limit, and its helper killed under it; streams through
//! the imports; and what a command cannot reach, each beside what it can.

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use warden_tests::manifest::{self, denied, error, failed, ok, results, succeeded};
use warden_tests::{Family, Place, Task, gate, is_root, log, probe, processes, skipped};

/// A shell and `cat` in the workspace; `fixed` takes two shapes of arguments and no other.
const COMMANDS: &str = r#"
[[proc.command]]
name = "sh"
path = "/bin/sh"
args = [["-c", "*"]]
cwd = "work"
env = { FIXED = "of the policy" }
env_from_guest = ["GIVEN"]
timeout = "20s"
unchecked = true
[[proc.command]]
name = "cat"
path = "/usr/bin/cat"
cwd = "work"
unchecked = true
[[proc.command]]
name = "fixed"
path = "/usr/bin/echo"
args = [["one"], ["two", "*"]]
cwd = "work"
unchecked = true
"#;

fn place(rest: &str) -> Place {
    let place = Place::new();
    place.folder_of_task("other", 0o755);
    let other = "[[fs.workspace]]\nlabel = \"other\"\npath = \"other\"\n";
    place.work_policy(&format!("{other}{COMMANDS}{rest}"));
    place
}

fn sh(script: &str) -> (&'static str, Value) {
    ("proc.spawn", json!({"command": "sh", "args": ["-c", script]}))
}

fn start(alias: &str, script: &str) -> (&'static str, Value) {
    ("proc.start", json!({"command": "sh", "args": ["-c", script], "alias": alias}))
}

fn wait(alias: &str) -> (&'static str, Value) {
    ("proc.wait", json!({"process": alias}))
}

fn signal(alias: &str, name: &str) -> (&'static str, Value) {
    ("proc.signal", json!({"process": alias, "signal": name}))
}

fn write(alias: &str, data: &str, eof: bool) -> (&'static str, Value) {
    ("proc.write_stdin", json!({"process": alias, "data": data, "eof": eof}))
}

fn read(alias: &str) -> (&'static str, Value) {
    ("proc.read", json!({"process": alias, "stream": "stdout"}))
}

/// What `sh -c script` printed, in a task of its own.
#[track_caller]
fn printed(place: &Place, script: &str) -> String {
    let actions = Task::runbook(&[sh(script)]).actions(place);
    succeeded(&actions[0])["stdout"].as_str().unwrap().to_owned()
}

#[test]
fn spawn_runs_a_command_to_its_end() {
    let place = place("");
    place.folder_of_task("work/sub", 0o755);
    let actions = Task::runbook(&[
        sh("echo out; echo err >&2; exit 3"),
        ("proc.spawn", json!({"command": "cat", "args": [], "stdin": "through"})),
        (
            "proc.spawn",
            json!({"command": "sh", "args": ["-c", "echo $FIXED, $GIVEN; pwd"], "cwd": "work:sub",
                "env": [{"key": "GIVEN", "value": "of the guest"}]}),
        ),
        ("proc.spawn", json!({"command": "fixed", "args": ["two", "things"]})),
        sh("kill -9 $$"),
    ])
    .actions(&place);
    let first = succeeded(&actions[0]);
    assert_eq!((&first["status"], &first["stdout"], &first["stderr"]), (&json!(3), &json!("out\n"), &json!("err\n")));
    assert_eq!((&first["timed_out"], &first["truncated"]), (&json!(false), &json!(false)));
    assert_eq!(succeeded(&actions[1])["stdout"], "through");
    let third = succeeded(&actions[2])["stdout"].as_str().unwrap();
    assert!(third.starts_with("of the policy, of the guest\n") && third.trim_end().ends_with("/sub"), "{third}");
    assert_eq!(succeeded(&actions[3])["stdout"], "two things\n");
    assert_eq!((&actions[4]["output"]["status"], &actions[4]["output"]["signal"]), (&Value::Null, &json!(9)));
    log::verify_complete(&place);
}

#[test]
fn a_started_process_is_written_to_read_waited_for_and_signalled() {
    let place = place("");
    let actions = Task::runbook(&[
        start("talk", "while read line; do echo \"got $line\"; done; exit 4"),
        write("talk", "hello\n", false),
        read("talk"),
        write("talk", "bye\n", true),
        wait("talk"),
        read("talk"),
        start("long", "sleep 100"),
        ("proc.wait", json!({"process": "long", "timeout_ms": 50})),
        signal("long", "term"),
        wait("long"),
        start("stubborn", "trap '' TERM INT HUP; echo ready; sleep 100"),
        read("stubborn"),
        signal("stubborn", "interrupt"),
        signal("stubborn", "hangup"),
        ("proc.wait", json!({"process": "stubborn", "timeout_ms": 50})),
        signal("stubborn", "kill"),
        wait("stubborn"),
    ])
    .actions(&place);
    succeeded(&actions[0]);
    assert_eq!(succeeded(&actions[1])["bytes"], 6);
    assert_eq!(succeeded(&actions[2])["data"], "got hello\n");
    succeeded(&actions[3]);
    assert_eq!(succeeded(&actions[4])["status"], 4);
    assert_eq!(succeeded(&actions[5])["data"], "got bye\n");
    failed(&actions[7], "timeout");
    succeeded(&actions[8]);
    assert_eq!(succeeded(&actions[9])["signal"], 15);
    assert_eq!(succeeded(&actions[11])["data"], "ready\n");
    succeeded(&actions[12]);
    succeeded(&actions[13]);
    failed(&actions[14], "timeout");
    succeeded(&actions[15]);
    assert_eq!(succeeded(&actions[16])["signal"], 9);
    log::verify_complete(&place);
}

#[test]
fn starting_is_denied_by_its_rule() {
    let place = place("");
    let cases = [
        (json!({"command": "curl", "args": ["http://x"]}), "default-deny"),
        (json!({"command": "/bin/sh", "args": ["-c", "id"]}), "default-deny"),
        (json!({"command": "sh", "args": ["-i"]}), "user:proc.command.sh.args"),
        (json!({"command": "sh", "args": ["-c", "id", "more"]}), "user:proc.command.sh.args"),
        (json!({"command": "cat", "args": ["/etc/passwd"]}), "user:proc.command.cat.args"),
        (json!({"command": "fixed", "args": ["one", "two"]}), "user:proc.command.fixed.args"),
        (
            json!({"command": "sh", "args": ["-c", "id"], "env": [{"key": "LD_PRELOAD", "value": "/x"}]}),
            "user:proc.command.sh.env_from_guest",
        ),
        (json!({"command": "sh", "args": ["-c", "id"], "cwd": "other:"}), "user:proc.command.sh.cwd"),
        (json!({"command": "sh", "args": ["-c", "id"], "cwd": "work:../other"}), ""),
    ];
    for capability in ["proc.spawn", "proc.start"] {
        let steps: Vec<_> = cases
            .iter()
            .map(|(input, _)| {
                let mut input = input.clone();
                if capability == "proc.start" {
                    input["alias"] = json!("a");
                }
                (capability, input)
            })
            .collect();
        let object = Task::runbook(&steps).run(&place).object();
        for (action, (input, rule)) in manifest::actions(&object).iter().zip(&cases) {
            eprintln!("{capability} {input}");
            denied(action, rule);
        }
        assert_eq!(object["denials"].as_array().map(Vec::len), Some(cases.len()), "{object}");
    }
    // The control.
    assert_eq!(printed(&place, "echo fine"), "fine\n");
}

/// A right that needs a person's word is no right where nobody can be asked; each act has its own.
#[test]
fn what_is_done_to_a_process_is_denied_by_its_rule() {
    let place = place(
        "[approval]\nask = [\"proc.write_stdin\", \"proc.read\", \"proc.wait\", \"proc.signal\"]\nvia = \"deny\"\n",
    );
    let steps =
        [start("p", "sleep 1"), write("p", "x", true), read("p"), wait("p"), signal("p", "kill"), sh("echo fine")];
    let actions = Task::runbook(&steps).actions(&place);
    succeeded(&actions[0]);
    for (at, action) in actions.iter().enumerate().take(5).skip(1) {
        denied(action, &format!("approval.ask[{}]", at - 1));
    }
    assert_eq!(succeeded(&actions[5])["stdout"], "fine\n");
}

#[test]
fn names_of_processes_are_the_tasks_own_and_say_when_they_are_wrong() {
    let place = place("");
    let actions = Task::runbook(&[
        start("one", "exec sleep 100"),
        start("one", "exit 0"),
        ("proc.spawn", json!({"command": "fixed", "args": ["one"]})),
        wait("none"),
        read("none"),
        write("none", "x", false),
        signal("none", "kill"),
        signal("one", "kill"),
        wait("one"),
        signal("one", "kill"),
        signal("one", "stop"),
        start("9bad", "exit 0"),
        start("one", "exit 0"),
    ])
    .actions(&place);
    succeeded(&actions[0]);
    failed(&actions[1], "conflict");
    succeeded(&actions[2]);
    for action in &actions[3..7] {
        failed(action, "not-found");
    }
    succeeded(&actions[7]);
    assert_eq!(succeeded(&actions[8])["signal"], 9);
    failed(&actions[9], "not-found");
    failed(&actions[10], "invalid-argument");
    failed(&actions[11], "invalid-argument");
    // A name is a process's for the whole task, so that an answer can never be about another.
    failed(&actions[12], "conflict");
}

/// T-06
#[test]
fn processes_at_once_are_bounded_and_an_end_gives_a_place_back() {
    let place = place("[limits]\nprocesses = 2\n");
    let actions = Task::runbook(&[
        start("one", "exec sleep 100"),
        start("two", "exec sleep 100"),
        sh("echo third"),
        signal("one", "kill"),
        wait("one"),
        ("proc.spawn", json!({"command": "fixed", "args": ["one"]})),
    ])
    .actions(&place);
    succeeded(&actions[0]);
    let refused = actions[1..3].iter().filter(|action| action["success"] == false).collect::<Vec<_>>();
    assert!(!refused.is_empty(), "{actions:?}");
    for action in refused {
        let error = failed(action, "limit");
        assert!(error["rule"].as_str().is_some_and(|rule| rule.contains("limits.processes")), "{action}");
    }
    succeeded(&actions[4]);
    assert_eq!(succeeded(&actions[5])["stdout"], "one\n", "an ended process has given its place back");
    // A fork beyond the limit fails in the command itself, and the command lives on.
    let forks = "for i in 1 2 3 4 5 6; do sleep 0.4 & done 2>/dev/null; wait; echo over";
    let actions = Task::runbook(&[sh(forks)]).actions(&place);
    assert!(
        actions[0]["output"]["stderr"].as_str().is_some_and(|text| !text.is_empty())
            || actions[0]["output"]["status"] != 0
    );
}

/// T-06
#[test]
fn output_is_bounded_and_what_is_left_out_is_said() {
    let place = place("[limits]\noutput = \"10KiB\"\n");
    let actions =
        Task::runbook(&[sh("head -c 100000 /dev/zero | tr '\\0' x; echo end >&2"), sh("echo short")]).actions(&place);
    let cut = succeeded(&actions[0]);
    assert_eq!((&cut["truncated"], &cut["stderr"], &cut["status"]), (&json!(true), &json!("end\n"), &json!(0)));
    assert!(cut["stdout"].as_str().unwrap().len() <= 10 * 1024);
    assert_eq!(succeeded(&actions[1])["truncated"], false);
}

/// T-06
#[test]
fn time_of_a_command_is_bounded_by_guest_policy_and_task() {
    let place = place("");
    let began = Instant::now();
    let steps = [
        ("proc.spawn", json!({"command": "sh", "args": ["-c", "echo on; sleep 100"], "timeout_ms": 300})),
        sh("echo fine"),
    ];
    let actions = Task::runbook(&steps).actions(&place);
    let ended = &actions[0];
    assert!(ended["output"]["timed_out"] == true || ended["error"]["code"] == "timeout", "{ended}");
    assert_eq!(succeeded(&actions[1])["stdout"], "fine\n");
    assert!(began.elapsed() < Duration::from_secs(10));
    // The policy's bound holds whatever the guest asks for.
    let policy = place.read("warden.toml").replace("timeout = \"20s\"", "timeout = \"300ms\"");
    place.write("warden.toml", &policy);
    let began = Instant::now();
    let steps = [("proc.spawn", json!({"command": "sh", "args": ["-c", "sleep 100"], "timeout_ms": 60_000}))];
    let actions = Task::runbook(&steps).actions(&place);
    assert!(actions[0]["output"]["timed_out"] == true || actions[0]["error"]["code"] == "timeout", "{}", actions[0]);
    assert!(began.elapsed() < Duration::from_secs(10));
}

fn killed_role(role: &str) {
    if !is_root() {
        return skipped("another user's process can be found and killed by root only");
    }
    let place = place(gate::COMMAND);
    let mark = format!("sleep 9{}", std::process::id());
    let steps = [
        start("long", &format!("echo up; exec {mark}")),
        read("long"),
        ("fs.write_file", json!({"path": "work:ready", "contents": ""})),
        wait("long"),
        read("long"),
        signal("long", "kill"),
        write("long", "x", false),
        sh("echo again"),
        start("next", "exit 5"),
        wait("next"),
    ];
    let running = Task::runbook(&steps).start(&place);
    processes::wait("the command", || place.path("work/ready").exists().then_some(()));
    let family = Family::of(running.pid());
    let command = processes::wait("the command's process", || Family::of(running.pid()).named(&mark).first().cloned());
    let victim = match role {
        // The keeper is the command's parent.
        "keeper" => family.members.iter().find(|member| member.pid == command.parent).cloned(),
        role => family.role(role),
    };
    std::thread::sleep(Duration::from_millis(50));
    let began = Instant::now();
    victim.unwrap_or_else(|| panic!("no {role}: {family:?}")).kill();
    processes::wait("the command's end", || (!command.lives()).then_some(()));
    assert!(began.elapsed() < Duration::from_secs(1), "T-12: the tree ends with its {role}: {:?}", began.elapsed());
    let ran = running.end();
    assert!(began.elapsed() < Duration::from_secs(8), "{role}: {:?}", began.elapsed());
    let actions = manifest::actions(&ran.object());
    assert_eq!(actions.len(), steps.len(), "{role}: the task went on: {}", ran.out);
    // What was under way is told as lost; a keeper that is gone took its command with it, which is an end by signal 9.
    let waited = &actions[3];
    let told = waited["error"]["code"] == "unavailable" || (role == "keeper" && waited["output"]["signal"] == 9);
    assert!(told, "{role}: {waited}");
    assert_eq!(succeeded(&actions[7])["stdout"], "again\n", "{role}");
    assert_eq!(succeeded(&actions[9])["status"], 5, "{role}");
    log::verify_complete(&place);
}

#[test]
fn a_front_killed_under_a_wait_is_unavailable_and_the_next_command_runs() {
    killed_role("cap-proc");
}

#[test]
fn a_runner_killed_under_a_wait_is_unavailable_and_the_next_command_runs() {
    killed_role("cap-proc-runner");
}

#[test]
fn a_keeper_killed_under_a_wait_ends_its_command_alone() {
    killed_role("keeper");
}

/// Each act with the front stopped before it and killed under it, then the next command.
#[test]
fn every_act_on_a_process_survives_the_end_of_its_helper() {
    if !is_root() {
        return skipped("another user's process can be found and killed by root only");
    }
    for (capability, input) in [
        sh("echo x"),
        start("q", "echo x"),
        write("p", "x", false),
        read("p"),
        signal("p", "kill"),
        ("proc.wait", json!({"process": "p", "timeout_ms": 60_000})),
    ] {
        let place = place("");
        let (_, long) = start("p", "exec sleep 100");
        let (_, again) = sh("echo again");
        // The calls on files are time in which the test stops the worker and then the front.
        let script = json!([
            {"op": "plan", "actions": [{"capability": "proc.start", "input": long}]},
            {"op": "fs.open_workspace", "as": "root"},
            {"op": "fs.ensure_dir", "dir": "root", "path": "ready", "as": "ready"},
            {"op": "repeat", "times": 4000, "each": {"op": "fs.metadata", "dir": "root", "path": "ready"}},
            {"op": "plan", "actions": [
                {"capability": capability, "input": input}, {"capability": "proc.spawn", "input": again},
            ]},
        ]);
        let running = Task::script(&script).start(&place);
        processes::wait("the command", || place.path("work/ready").exists().then_some(()));
        let worker = Family::of(running.pid()).worker().expect("a worker runs");
        worker.signal(Signal::SIGSTOP);
        let front = Family::of(running.pid()).role("cap-proc").expect("cap-proc runs");
        front.signal(Signal::SIGSTOP);
        worker.signal(Signal::SIGCONT);
        processes::wait("the last call before it", || (log::of(&place, "fs.metadata").len() >= 4000).then_some(()));
        std::thread::sleep(Duration::from_millis(50));
        front.kill();
        let results = results(&running.end());
        let actions = ok(&results[4])["data"]["actions"].as_array().unwrap().clone();
        assert!(failed(&actions[0], "unavailable")["message"].as_str().unwrap().contains("cap-proc"), "{capability}");
        assert_eq!(succeeded(&actions[1])["stdout"], "again\n", "{capability}");
        log::verify_complete(&place);
    }
}

#[test]
fn imports_stream_both_ways() {
    let place = place("");
    let script = json!([
        {"op": "proc.spawn", "command": "sh", "argv": ["-c", "while read l; do echo \"got $l\"; echo \"err $l\" >&2; done; exit 7"],
            "stdin": "pipe", "as": "p"},
        {"op": "proc.write_stdin", "process": "p", "text": "one\n"},
        {"op": "proc.read_stdout", "process": "p", "max_bytes": 100},
        {"op": "proc.read_stderr", "process": "p", "max_bytes": 100},
        {"op": "proc.write_stdin", "process": "p", "text": "two\n", "eof": true},
        {"op": "proc.drain", "process": "p", "stream": "stdout"},
        {"op": "proc.drain", "process": "p", "stream": "stderr"},
        {"op": "proc.wait", "process": "p"},
        {"op": "proc.close", "process": "p"},
        {"op": "proc.wait", "process": "p"},
        {"op": "proc.spawn", "command": "sh", "argv": ["-c", "head -c 3000000 /dev/zero"], "as": "big"},
        {"op": "proc.drain", "process": "big", "stream": "stdout", "max_bytes": 4_000_000, "discard": true},
        {"op": "proc.wait", "process": "big"},
        {"op": "proc.spawn", "command": "sh", "argv": ["-c", "sleep 100"], "as": "long"},
        {"op": "proc.wait", "process": "long", "timeout_ms": 50},
        {"op": "proc.signal", "process": "long", "signal": "term"},
        {"op": "proc.wait", "process": "long"},
        {"op": "proc.spawn", "command": "nothing", "as": "x"},
        {"op": "proc.spawn", "command": "sh", "argv": ["-i"], "as": "x"},
    ]);
    let results = probe(&place, script);
    ok(&results[0]);
    assert_eq!(ok(&results[1]), &json!(4));
    let text = |at: usize| ok(&results[at]).to_string();
    assert!(text(2).contains("got one"), "{}", text(2));
    assert!(text(3).contains("err one"), "{}", text(3));
    assert!(text(5).contains("got two") && text(6).contains("err two"), "{} {}", text(5), text(6));
    assert_eq!(ok(&results[7])["code"], 7, "{}", results[7]);
    ok(&results[8]);
    error(&results[9], "not-found");
    assert!(text(11).contains("3000000"), "{}", text(11));
    error(&results[14], "timeout");
    assert!(text(16).contains("term"), "{}", text(16));
    error(&results[17], "denied");
    error(&results[18], "denied");
    log::verify_complete(&place);
}

/// T-07, T-08
#[test]
fn the_environment_is_the_policys_and_nothing_else() {
    let place = place("");
    let out = printed(&place, "tr '\\0' '\\n' < /proc/self/environ");
    let names: Vec<&str> = out.lines().filter_map(|line| line.split_once('=').map(|(name, _)| name)).collect();
    assert!(names.contains(&"FIXED"), "{out}");
    for name in &names {
        let expected = ["FIXED", "PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "PWD", "USER", "LOGNAME", "SHELL", "TERM"];
        assert!(expected.contains(name), "{name} in {out}");
    }
    assert!(!out.contains("XDG_") && !out.contains("CARGO"), "{out}");
}

/// Python that tries each line and prints `ok` or the errno's name.
fn tries(lines: &[&str]) -> String {
    let mut code = String::from(
        "import os, socket, errno, signal\ndef t(f):\n  try:\n    f(); print('ok')\n  except OSError as e: print(errno.errorcode[e.errno])\n",
    );
    for line in lines {
        code.push_str(&format!("t(lambda: {line})\n"));
    }
    code
}

/// T-07: files, sockets and signals, each refusal beside what is allowed.
#[test]
fn a_command_reaches_its_workspace_and_nothing_else() {
    let python = "[[proc.command]]\nname = \"python3\"\npath = \"/usr/bin/python3\"\nargs = [[\"-c\", \"*\"]]\ncwd = \"work\"\n\
                  unchecked = true\n";
    let place = place(python);
    place.write("beside.txt", "OUTSIDE");
    place.put("work/in.txt", "inside");
    place.put("other/read.txt", "other");
    let beside = place.path("beside.txt").display().to_string();
    let other = place.path("other").display().to_string();
    let audit = place.path("audit").display().to_string();
    let lines = [
        ("open('in.txt').read()".to_owned(), "ok"),
        ("open('made.txt', 'w').write('x')".to_owned(), "ok"),
        (format!("open('{other}/read.txt').read()"), "ok"),
        (format!("open('{other}/read.txt', 'w')"), "EACCES"),
        (format!("open('{beside}').read()"), "EACCES"),
        (format!("os.listdir('{audit}')"), "EACCES"),
        ("open('/etc/shadow').read()".to_owned(), "EACCES"),
        ("socket.socketpair()".to_owned(), "ok"),
        ("socket.socket(socket.AF_UNIX)".to_owned(), "EACCES"),
        ("socket.socket(socket.AF_INET)".to_owned(), "EACCES"),
        ("socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)".to_owned(), "EACCES"),
        ("os.kill(os.getpid(), 0)".to_owned(), "ok"),
        ("os.kill(os.getppid(), 9)".to_owned(), "EPERM"),
        (format!("os.kill({}, 0)", std::process::id()), "EPERM"),
    ];
    let code = tries(&lines.iter().map(|(line, _)| line.as_str()).collect::<Vec<_>>());
    let steps = [("proc.spawn", json!({"command": "python3", "args": ["-c", code]}))];
    let actions = Task::runbook(&steps).actions(&place);
    let output = succeeded(&actions[0]);
    let found: Vec<&str> = output["stdout"].as_str().unwrap().lines().collect();
    assert_eq!(found.len(), lines.len(), "{output}");
    for ((line, wanted), found) in lines.iter().zip(found) {
        assert_eq!(found, *wanted, "{line}");
    }
    // The control outside of the jail: the probe's sockets and files work there.
    let outside = std::process::Command::new("/usr/bin/python3")
        .args([
            "-c",
            &tries(&[
                &format!("open('{beside}').read()"),
                "socket.socket(socket.AF_UNIX)",
                "socket.socket(socket.AF_INET)",
            ]),
        ])
        .output()
        .expect("python3 runs");
    assert_eq!(String::from_utf8_lossy(&outside.stdout), "ok\nok\nok\n");
}

/// T-12: nothing that a command started outlives it or its task, however it hides.
#[test]
fn a_whole_tree_ends_with_its_process_and_with_its_task() {
    let place = place("");
    let mark = format!("sleep 8{}", std::process::id());
    let hides = format!("for i in 1 2 3; do setsid sh -c '{mark} & {mark}' & done; echo up; {mark}");
    let alive = || processes::marked(&mark).len();
    let running = Task::runbook(&[
        start("tree", &hides),
        read("tree"),
        ("proc.wait", json!({"process": "tree", "timeout_ms": 500})),
        signal("tree", "kill"),
        wait("tree"),
        start("left", &hides),
        read("left"),
    ])
    .start(&place);
    processes::wait("the tree", || (alive() > 0).then_some(()));
    let ran = running.end();
    let actions = manifest::actions(&ran.object());
    failed(&actions[2], "timeout");
    assert_eq!(succeeded(&actions[4])["signal"], 9);
    succeeded(&actions[6]);
    let until = Instant::now() + Duration::from_secs(1);
    while alive() > 0 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(alive(), 0, "{:?}", processes::marked(&mark));
}

/// T-01: without a supervisor of its paths a command ignores a workspace's rules, so it needs a word of the policy, and
/// every result says that it ran so.
#[test]
fn a_command_in_a_ruled_workspace_is_denied_or_said_to_be_degraded() {
    let policy = |rules: &str, access: &str, unchecked: bool| {
        format!(
            "[[fs.workspace]]\nlabel = \"work\"\npath = \"work\"\naccess = \"{access}\"\n{rules}[[proc.command]]\nname = \"true\"\n\
             path = \"/usr/bin/true\"\ncwd = \"work\"\nunchecked = {unchecked}\n"
        )
    };
    let place = Place::new();
    let step = [("proc.spawn", json!({"command": "true", "args": []}))];
    let run = |text: &str| {
        place.policy(text);
        Task::runbook(&step).run(&place).object()
    };
    let object = run(&policy("", "read-write", false));
    denied(&manifest::actions(&object)[0], "user:fs.workspace.work");
    let object = run(&policy("deny = [\"secret\"]\n", "read-only", false));
    denied(&manifest::actions(&object)[0], "user:fs.workspace.work.deny[0]");
    for text in [policy("", "read-write", true), policy("deny = [\"secret\"]\n", "read-only", true)] {
        let object = run(&text);
        assert_eq!(succeeded(&manifest::actions(&object)[0])["status"], 0);
        let degraded = object["isolation"]["degraded"].to_string();
        assert!(degraded.contains("not enforced on commands"), "{object}");
    }
    // The control: a workspace without any rule, only for reading, needs no such word and loses nothing.
    let object = run(&policy("", "read-only", false));
    assert_eq!(succeeded(&manifest::actions(&object)[0])["status"], 0);
    assert!(!object["isolation"]["degraded"].to_string().contains("not enforced on commands"), "{object}");
}

/// T-14: what a command prints stays data.
#[test]
fn output_with_control_characters_is_escaped_json() {
    let place = place("");
    let actions = Task::runbook(&[sh("printf '\\033[2J\"}\\n{\"outcome\":\"done\"}\\377'")]).actions(&place);
    let out = succeeded(&actions[0])["stdout"].as_str().unwrap();
    assert_eq!(out, "\u{1b}[2J\"}\n{\"outcome\":\"done\"}\u{fffd}");
}

/// The imports' results through a killed front: the process is lost, typed, and the guest goes on.
#[test]
fn an_import_on_a_lost_process_is_typed() {
    if !is_root() {
        return skipped("another user's process can be found and killed by root only");
    }
    let place = place("");
    let script = json!([
        {"op": "proc.spawn", "command": "sh", "argv": ["-c", "echo up > ready; exec sleep 100"], "as": "p"},
        {"op": "proc.wait", "process": "p"},
        {"op": "proc.signal", "process": "p", "signal": "kill"},
        {"op": "proc.spawn", "command": "fixed", "argv": ["one"], "as": "q"},
        {"op": "proc.wait", "process": "p", "timeout_ms": 10},
        {"op": "proc.drain", "process": "q", "stream": "stdout"},
    ]);
    let running = Task::script(&script).start(&place);
    processes::wait("the command", || place.path("work/ready").exists().then_some(()));
    std::thread::sleep(Duration::from_millis(50));
    Family::of(running.pid()).role("cap-proc").expect("cap-proc runs").kill();
    let results = results(&running.end());
    error(&results[1], "unavailable");
    error(&results[2], "not-found");
    // T-11: the number of the lost process names no other.
    error(&results[4], "not-found");
    assert!(ok(&results[5]).to_string().contains("one"), "{results:?}");
}
