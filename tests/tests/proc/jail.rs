//! What a command is given and what it cannot reach (T-07).

use crate::{place, printed, read, sh, signal, start, wait};
use serde_json::json;
use std::time::{Duration, Instant};
use warden_tests::manifest::{self, failed, succeeded};
use warden_tests::{Task, processes};

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
    let python =
        "[[proc.command]]\nname = \"python3\"\npath = \"/usr/bin/python3\"\nargs = [[\"-c\", \"*\"]]\ncwd = \"work\"\n";
    let place = place(python);
    place.write("beside.txt", "OUTSIDE");
    place.put("work/in.txt", "inside");
    place.put("other/read.txt", "other");
    let beside = place.path("beside.txt").display().to_string();
    let other = place.path("other").display().to_string();
    let audit = place.path("audit").display().to_string();
    // In namespaces of its own it finds no name where it has no right, and no number of a process outside.
    let held = Task::runbook(&[sh("true")]).run(&place).object()["isolation"]["held"].clone();
    let inside = held.as_array().is_some_and(|held| held.iter().any(|what| what == "mount namespace"));
    let (none, nobody) = if inside { ("ENOENT", "ESRCH") } else { ("EACCES", "EPERM") };
    let lines = [
        ("open('in.txt').read()".to_owned(), "ok"),
        ("open('made.txt', 'w').write('x')".to_owned(), "ok"),
        (format!("open('{other}/read.txt').read()"), "ok"),
        (format!("open('{other}/read.txt', 'w')"), "EROFS"),
        (format!("open('{beside}').read()"), none),
        (format!("os.listdir('{audit}')"), none),
        ("open('/etc/shadow').read()".to_owned(), none),
        ("socket.socketpair()".to_owned(), "ok"),
        ("socket.socket(socket.AF_UNIX)".to_owned(), "EACCES"),
        ("socket.socket(socket.AF_INET)".to_owned(), "EACCES"),
        ("socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)".to_owned(), "EACCES"),
        ("os.kill(os.getpid(), 0)".to_owned(), "ok"),
        ("os.kill(os.getppid(), 9)".to_owned(), "EPERM"),
        (format!("os.kill({}, 0)", std::process::id()), nobody),
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

/// T-01: rules of files bind commands as they bind guests; what was refused is told by rule, in the result and in the log.
#[test]
fn a_command_is_held_to_the_rules_of_its_workspace() {
    let place = place("");
    let rules = "deny = [\"**/.env\"]\ndeny_write = [\"Makefile\"]\n";
    let workspace = format!("[[fs.workspace]]\nlabel = \"work\"\npath = \"work\"\naccess = \"read-write\"\n{rules}");
    place.policy(&format!("{workspace}{}", crate::COMMANDS));
    for (name, text) in [(".env", "KEY"), ("Makefile", "all:"), ("plain", "plain")] {
        place.put(&format!("work/{name}"), text);
    }
    let script = "cat plain .env; echo x > Makefile; echo x > .git/hooks/h; echo new > made; cat Makefile made";
    place.folder_of_task("work/.git/hooks", 0o755);
    let ran = Task::runbook(&[sh(script)]).run(&place);
    let object = ran.object();
    let output = succeeded(&manifest::actions(&object)[0]).clone();
    assert_eq!(output["stdout"], "plainall:new\n", "{output}");
    assert_eq!(output["denials"], 3, "{output}");
    let told = object["denials"].to_string();
    for rule in ["user:fs.workspace.work.deny[0]", "user:fs.workspace.work.deny_write[0]", "work:.git/hooks/h"] {
        assert!(told.contains(rule), "{rule}: {told}");
    }
    assert!(
        warden_tests::log::records(&place)
            .iter()
            .any(|record| record.to_string().contains("deny_write[0]: work:Makefile"))
    );
    assert!(!object["isolation"]["degraded"].to_string().contains("unchecked"), "{object}");
    assert!(object["usage"]["fs_written"].as_u64().is_some_and(|grown| grown >= 4), "{}", object["usage"]);
}

/// T-14: what a command prints stays data.
#[test]
fn output_with_control_characters_is_escaped_json() {
    let place = place("");
    let actions = Task::runbook(&[sh("printf '\\033[2J\"}\\n{\"outcome\":\"done\"}\\377'")]).actions(&place);
    let out = succeeded(&actions[0])["stdout"].as_str().unwrap();
    assert_eq!(out, "\u{1b}[2J\"}\n{\"outcome\":\"done\"}\u{fffd}");
}
