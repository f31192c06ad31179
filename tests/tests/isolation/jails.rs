//! What holds each process of a live task, as /proc shows it to root (T-03).

use crate::{finish, standing};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use warden_tests::manifest::{self, succeeded};
use warden_tests::{Family, NOBODY, Place, Process, Task, gate, is_root, log, processes, skipped};

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
    if let Some(guard) = family.role("cap-proc-guard") {
        is_jailed("guard", &guard);
    }
    let runner = family.role("cap-proc-runner").unwrap();
    let command = family.members.iter().find(|member| member.line.contains("gate-1")).expect("a command");
    is_jailed("command", command);
    let keeper = family.members.iter().find(|member| member.pid == command.parent).expect("a keeper");
    assert_eq!(keeper.parent, runner.pid);
    is_jailed("keeper", keeper);
    // Where commands have a mount namespace each, somebody mounts: it may do that in its own namespaces, and nothing else.
    for usher in family.members.iter().filter(|member| member.parent == runner.pid && member.pid != keeper.pid) {
        let status = usher.status();
        let field = |name: &str| status.get(name).map(String::as_str);
        assert_eq!((field("NoNewPrivs"), field("Seccomp")), (Some("1"), Some("2")), "{status:?}");
        assert_eq!(field("CapEff"), Some("0000000000200000"), "{status:?}");
        let own = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/user")).ok();
        assert_ne!(own(usher.pid), own(std::process::id().cast_signed()), "over no namespace of the host");
    }
    // The broker has its own jail; the spawner, which builds the others', has none, and nothing else that it can do without.
    is_jailed("broker", &family.members[0]);
    gave_up(&family.spawner().unwrap());
    if is_root() {
        for member in &family.members {
            // A short-lived child of the gate's command may have gone since it was seen.
            match member.status().get("CapBnd") {
                Some(bound) => assert_eq!(*bound, "0".repeat(16), "{}: no exec gives it back", member.line),
                None => assert!(!member.lives(), "{}", member.line),
            }
        }
    } else {
        skipped("only root can take a capability out of the bounding set; whoever has none needs none");
    }
    // The control: this test's own process is held by none of it.
    let own = fs::read_to_string("/proc/self/status").unwrap();
    assert!(own.contains("Seccomp:\t0") && own.contains("NoNewPrivs:\t0"), "{own}");
    assert!(!is_root() || !own.contains(&format!("CapBnd:\t{}", "0".repeat(16))), "{own}");
    finish(&place, running);
}

/// No privilege, and no way to one.
#[track_caller]
fn gave_up(spawner: &Process) {
    let status = spawner.status();
    assert_eq!(status["NoNewPrivs"], "1", "{status:?}");
    for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
        assert_eq!(status[set], "0".repeat(16), "{set}: {status:?}");
    }
}

/// T-03: a task that runs as root, by a policy that says so, is root without a capability, its spawner too.
#[test]
fn root_without_a_capability_is_what_a_task_of_root_runs_as() {
    if !is_root() {
        return skipped("it is about root");
    }
    let place = Place::new();
    std::os::unix::fs::chown(place.path("work"), Some(0), Some(0)).unwrap();
    fs::set_permissions(place.path("work"), fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::chown(place.path("audit"), Some(0), Some(0)).unwrap();
    place.work_policy(&format!("{}[isolation]\nallow_root = true\n", gate::COMMAND));
    let steps = [("fs.write_file", json!({"path": "work:a", "contents": "x"})), gate::step(1)];
    let running = Task::runbook(&steps).start(&place);
    gate::reached(&place, 1);
    gate::stands(&running, 1);
    let family = running.family();
    for role in ["template", "worker", "cap-fs", "cap-proc", "cap-proc-runner", "spawner"] {
        let process = family.role(role).unwrap_or_else(|| panic!("no {role}: {family:?}"));
        gave_up(&process);
        let status = process.status();
        assert_eq!((&status["Uid"][..1], status["CapBnd"].as_str()), ("0", &*"0".repeat(16)), "{role}: {status:?}");
    }
    fs::write(place.path("work/gate-1"), "").unwrap();
    let object = running.end().outcome("unverified");
    succeeded(&manifest::actions(&object)[0]);
    assert!(object["isolation"]["degraded"].to_string().contains("root"), "{object}");
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
    } else {
        skipped("only root sees the descriptors of a compiler");
    }
    compiler.signal(Signal::SIGCONT);
    running.end().exits(7);
    // T-09: its start and its end, before the start of the worker that runs what it made.
    let (began, ended) = (log::processes(&place, "compiler", "locked"), log::processes(&place, "compiler", "ended"));
    assert_eq!((began.len(), ended.len()), (1, 1), "{began:?} {ended:?}");
    assert!(began[0]["input"]["pid"] == compiler.pid && ended[0]["input"]["pid"] == compiler.pid);
    assert!(began[0]["input"]["seccomp_filters"].as_u64().is_some_and(|filters| filters >= 1), "{began:?}");
    let worker = &log::processes(&place, "worker", "locked")[0];
    assert!(ended[0]["seq"].as_u64() < worker["seq"].as_u64(), "{ended:?} {worker}");
    // Code from the cache needs no compiler, and says so by having none.
    place.json(&["run", "--config", config.to_str().unwrap(), file.to_str().unwrap()]).exits(7);
    assert_eq!(log::processes(&place, "compiler", "locked").len(), 1);
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
    // T-02: guests and commands move and look through folders by turns, by one file that both have.
    let turns = |role: &str| -> BTreeSet<u64> {
        let (pid, held) = (family.role(role).unwrap().pid, held(role));
        let numbers = held.into_iter().filter(|(_, what)| what.starts_with("/memfd:turns")).map(|(number, _)| number);
        numbers.map(|number| fs::metadata(format!("/proc/{pid}/fd/{number}")).unwrap().ino()).collect()
    };
    assert_eq!((turns("cap-fs").len(), turns("cap-fs")), (1, turns("cap-proc-runner")));
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
    // The runner has no link to say it on: what it was given is told for it, by the number that the spawner knows.
    let runner = family.role("cap-proc-guard").or_else(|| family.role("cap-proc-runner")).unwrap();
    let [record] = &log::processes(&place, "cap-proc-runner", "started")[..] else { panic!("{records:?}") };
    assert_eq!(record["input"]["pid"], runner.pid);
    finish(&place, running);
    every_process_that_began_has_ended(&place);
}

/// T-09: the start and the end of every process of a task are on the record.
#[track_caller]
fn every_process_that_began_has_ended(place: &Place) {
    for role in ["worker", "cap-fs", "cap-llm", "cap-proc", "cap-proc-runner"] {
        let of = |op: &str| -> Vec<Value> {
            log::processes(place, role, op).iter().map(|record| record["input"]["pid"].clone()).collect()
        };
        let began = if role == "cap-proc-runner" { of("started") } else { of("locked") };
        assert!(began.len() == 1 && began == of("ended"), "{role}: {began:?} and {:?}", of("ended"));
        let ended = &log::processes(place, role, "ended")[0]["result"]["ok"];
        assert!(ended["status"].is_number() || ended["signal"].is_number(), "{role}: {ended}");
    }
    log::verify_complete(place);
}
