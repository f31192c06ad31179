//! Front, runner and keeper killed under what they do.

use crate::{place, read, sh, signal, start, wait, write};
use nix::sys::signal::Signal;
use serde_json::json;
use std::process::Command;
use std::time::{Duration, Instant};
use warden_tests::manifest::{self, error, failed, ok, results, succeeded};
use warden_tests::{Family, Task, gate, is_root, log, processes, skipped};

/// The policy with namespaces as they are wanted here, or without.
fn policies() -> [String; 2] {
    ["auto", "off"].map(|wish| format!("{}[isolation]\nnamespaces = \"{wish}\"\n", gate::COMMAND))
}

fn killed_role(role: &str) {
    if !is_root() {
        return skipped("another user's process can be found and killed by root only");
    }
    for policy in policies() {
        killed_role_under(role, &policy);
    }
}

fn killed_role_under(role: &str, policy: &str) {
    let place = place(policy);
    let mark = format!("sleep 9{}", std::process::id());
    let steps = [
        start("long", &format!("echo up; mkdir $HOME/kept; exec {mark}")),
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
    if role != "keeper" {
        let left = Command::new("find").arg(place.path("run")).args(["-path", "*/scratch-*/*"]).output().expect("find");
        assert_eq!(String::from_utf8_lossy(&left.stdout), "", "{role}: a keeper removes what its command has left");
    }
}

#[test]
fn a_front_killed_under_a_wait_is_unavailable_and_the_next_command_runs() {
    killed_role("cap-proc");
}

#[test]
fn a_runner_killed_under_a_wait_is_unavailable_and_the_next_command_runs() {
    killed_role("cap-proc-runner");
}

/// What the spawner knows of a runner in namespaces.
#[test]
fn a_guard_killed_under_a_wait_is_unavailable_and_the_next_command_runs() {
    if !is_root() {
        return skipped("another user's process can be found and killed by root only");
    }
    killed_role_under("cap-proc-guard", &policies()[0]);
}

#[test]
fn a_keeper_killed_under_a_wait_ends_its_command_alone() {
    killed_role("keeper");
}

/// Neither has a moment to end the tree: what is left of it comes to the spawner, one generation after the other.
#[test]
fn a_runner_and_its_keeper_killed_at_once_leave_nothing_of_the_tree() {
    if !is_root() {
        return skipped("another user's process can be found and killed by root only");
    }
    policies().iter().for_each(|policy| killed_at_once(policy));
}

fn killed_at_once(policy: &str) {
    let place = place(policy);
    let mark = format!("sleep 8{}", std::process::id());
    let tree =
        format!("setsid sh -c 'setsid sh -c \"setsid {mark} & {mark}\" & {mark}' & echo up > ready; exec {mark}");
    let steps = [start("long", &tree), wait("long"), sh("echo again")];
    let running = Task::runbook(&steps).start(&place);
    let others = Command::new("sleep").arg("60").spawn();
    let members = processes::wait("the tree", || {
        let found = Family::of(running.pid()).named(&mark);
        (found.iter().filter(|member| member.line == mark).count() == 4).then_some(found)
    });
    let family = Family::of(running.pid());
    let runner = family.role("cap-proc-runner").expect("a runner");
    let keeper = family
        .members
        .iter()
        .find(|member| member.parent == runner.pid && members.iter().any(|command| command.parent == member.pid));
    let keeper = keeper.expect("a keeper").clone();
    runner.signal(Signal::SIGSTOP);
    keeper.signal(Signal::SIGSTOP);
    std::thread::sleep(Duration::from_millis(50));
    let began = Instant::now();
    keeper.kill();
    runner.kill();
    processes::wait("the tree's end", || members.iter().all(|member| !member.lives()).then_some(()));
    assert!(began.elapsed() < Duration::from_secs(1), "T-12: {:?}", began.elapsed());
    let mut others = others.expect("a bystander");
    assert!(others.try_wait().expect("asks").is_none(), "a bystander lives");
    let _ = others.kill();
    let _ = others.wait();
    let actions = manifest::actions(&running.end().object());
    assert_eq!(actions[1]["error"]["code"], "unavailable", "{}", actions[1]);
    assert_eq!(succeeded(&actions[2])["stdout"], "again\n", "the task went on");
    log::verify_complete(&place);
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
        processes::wait("the last call before it", || (log::count(&place, "fs.metadata") >= 4000).then_some(()));
        std::thread::sleep(Duration::from_millis(50));
        front.kill();
        let results = results(&running.end());
        let actions = ok(&results[4])["data"]["actions"].as_array().unwrap().clone();
        assert!(failed(&actions[0], "unavailable")["message"].as_str().unwrap().contains("cap-proc"), "{capability}");
        assert_eq!(succeeded(&actions[1])["stdout"], "again\n", "{capability}");
        log::verify_complete(&place);
    }
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
