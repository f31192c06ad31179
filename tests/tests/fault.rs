//! Whatever is killed, and whenever: a typed error within two seconds, nothing left behind, no effect without its record.

use nix::sys::signal::Signal;
use serde_json::json;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use warden_tests::manifest::{self, failed, succeeded};
use warden_tests::place::long_module;
use warden_tests::{Family, NOBODY, Place, Process, Task, gate, is_root, log, processes, sample, skipped};

/// A death is told within this.
const TOLD_WITHIN: Duration = Duration::from_secs(2);
/// A broker's death takes its processes with it within this.
const GONE_WITHIN: Duration = Duration::from_secs(1);

#[track_caller]
fn gone(members: &[Process]) {
    let until = Instant::now() + GONE_WITHIN;
    loop {
        let left: Vec<&Process> = members.iter().filter(|member| member.lives()).collect();
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < until, "T-12: left behind: {left:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// `warden run` of a guest that never ends.
fn looping() -> (Place, warden_tests::Running) {
    let place = Place::new();
    let config = place.policy("");
    let file = sample("loop.wat");
    let args = ["--json", "run", "--timeout", "50s", "--config", config.to_str().unwrap(), file.to_str().unwrap()];
    let running = place.start(&args);
    processes::wait("the guest", || (!log::processes(&place, "worker", "locked").is_empty()).then_some(()));
    (place, running)
}

/// A task at its gate, with cap-fs and cap-proc running.
fn at_gate(more: &[(&'static str, serde_json::Value)]) -> (Place, warden_tests::Running) {
    let place = Place::new();
    place.work_policy(gate::COMMAND);
    place.put("work/a.txt", "hello");
    let steps = [&[("fs.read_file", json!({"path": "work:a.txt"})), gate::step(1)], more].concat();
    let running = Task::runbook(&steps).start(&place);
    gate::reached(&place, 1);
    gate::stands(&running, 1);
    (place, running)
}

#[test]
fn a_killed_worker_is_told_within_two_seconds() {
    if !is_root() {
        return skipped("processes of the task are found and killed by root only");
    }
    let (place, running) = looping();
    let members = running.family().members;
    let worker = running.family().worker().expect("a worker");
    let began = Instant::now();
    worker.kill();
    let ran = running.end();
    assert!(began.elapsed() < TOLD_WITHIN, "{:?}", began.elapsed());
    let object = ran.fails("unavailable", 125);
    assert_eq!(object["schema"], "warden.run/1", "a result and not only an error");
    gone(&members);
    log::verify_complete(&place);
    // The same in a task, in the middle of a command.
    let (place, running) = at_gate(&[]);
    let family = running.family();
    let began = Instant::now();
    family.worker().expect("a worker").kill();
    let ran = running.end();
    let object = ran.outcome("error");
    assert!(object["error"].as_str().unwrap().contains("worker"), "{object}");
    assert!(began.elapsed() < TOLD_WITHIN + Duration::from_secs(1), "{:?}", began.elapsed());
    gone(&family.members);
    log::verify_complete(&place);
}

#[test]
fn a_killed_compiler_is_told_within_two_seconds() {
    if !is_root() {
        return skipped("processes of the task are found and killed by root only");
    }
    let place = Place::of_user();
    let config = place.policy("");
    let file = place.put("long.wat", long_module());
    let args = ["--json", "run", "--config", config.to_str().unwrap(), file.to_str().unwrap()];
    for moment in ["at once", "locked", "at work"] {
        let running = place.start(&args);
        let broker = running.pid();
        let compiler = processes::wait("a compiler", || {
            let compiler = Family::of(broker).role("compiler")?;
            let locked = compiler.status().get("Seccomp").is_some_and(|mode| mode == "2");
            (moment == "at once" || locked).then_some(compiler)
        });
        if moment == "at work" {
            std::thread::sleep(Duration::from_millis(100));
        }
        let members = running.family().members;
        let began = Instant::now();
        compiler.kill();
        let ran = running.end();
        assert!(began.elapsed() < TOLD_WITHIN, "{moment}: {:?}", began.elapsed());
        let object = ran.object();
        let code = object["error_code"].as_str().unwrap();
        assert!(["unavailable", "refused"].contains(&code) && ran.status == 125, "{moment}: {object}");
        gone(&members);
    }
    // The control: left alone it compiles; and what was half made was never kept.
    place.run(&args).exits(7);
}

#[test]
fn a_killed_template_is_replaced_and_living_workers_live_on() {
    if !is_root() {
        return skipped("processes of the task are found and killed by root only");
    }
    let (place, running) = at_gate(&[("fs.read_file", json!({"path": "work:a.txt"}))]);
    running.family().template().expect("a template").kill();
    gate::open(&place, 1);
    let object = running.end().outcome("unverified");
    succeeded(&manifest::actions(&object)[2]);
    log::verify_complete(&place);
}

#[test]
fn a_killed_spawner_takes_all_with_it_and_is_told() {
    if !is_root() {
        return skipped("processes of the task are found and killed by root only");
    }
    let (place, running) = at_gate(&[("fs.read_file", json!({"path": "work:a.txt"}))]);
    let family = running.family();
    let others: Vec<Process> = family.members.iter().filter(|member| member.pid != running.pid()).cloned().collect();
    assert!(others.len() >= 7, "{others:?}");
    let began = Instant::now();
    family.spawner().expect("a spawner").kill();
    gone(&others);
    let ran = running.end();
    assert!(began.elapsed() < TOLD_WITHIN + Duration::from_secs(1), "{:?}", began.elapsed());
    ran.outcome("error");
    log::verify_complete(&place);
}

/// Every role, at moments spread over a task's whole life: one object, a typed end, nobody left, the log whole.
#[test]
fn any_process_may_die_at_any_moment() {
    if !is_root() {
        return skipped("processes of the task are found and killed by root only");
    }
    let place = Place::of_user();
    place.work_policy(gate::COMMAND);
    place.put("work/a.txt", "hello");
    let quick = ("proc.spawn", json!({"command": "gate", "args": ["-c", "echo hi"]}));
    let read = ("fs.read_file", json!({"path": "work:a.txt"}));
    let steps = [read.clone(), quick.clone(), read.clone(), quick, read];
    let task = Task::runbook(&steps);
    let whole = task.run(&place);
    whole.outcome("unverified");
    let life = whole.took;
    for round in 0..24_u32 {
        let roles = ["worker", "template", "spawner", "cap-fs", "cap-proc", "cap-proc-runner", "compiler", "broker"];
        let role = roles[round as usize % roles.len()];
        let running = task.start(&place);
        std::thread::sleep(life * (round * 7 % 24) / 24);
        let family = running.family();
        let victim = if role == "broker" { family.members.first().cloned() } else { family.role(role) };
        let Some(victim) = victim else {
            running.end();
            continue;
        };
        let began = Instant::now();
        victim.kill();
        let ran = running.end();
        assert!(began.elapsed() < TOLD_WITHIN + life + Duration::from_secs(2), "{role} {round}: {:?}", began.elapsed());
        gone(&family.members);
        if role == "broker" {
            assert_eq!(ran.signal, Some(9));
        } else {
            let object = ran.object();
            assert!(object["outcome"].is_string() || object["error_code"].is_string(), "{role} {round}: {object}");
        }
        log::verify(&place);
    }
    task.run(&place).outcome("unverified");
}

/// T-09, T-12: the broker itself.
#[test]
fn a_killed_broker_leaves_no_process_and_its_calls_are_unknown() {
    let (place, running) = at_gate(&[]);
    let family = running.family();
    assert!(family.members.len() >= 8, "{family:?}");
    running.signal(Signal::SIGKILL);
    gone(&family.members);
    assert_eq!(running.end().signal, Some(9));
    let verdict = log::verify(&place);
    assert_eq!(verdict["unknown_count"], 1, "{verdict}");
    assert_eq!(verdict["unknown"][0]["capability"], "proc.spawn", "{verdict}");
    assert_eq!(verdict["segments"][0]["state"], "crashed", "{verdict}");
    // The next task of the same log goes on from there.
    place.put("work/gate-1", "");
    Task::runbook(&[("fs.list_dir", json!({"path": "work:"}))]).run(&place).outcome("unverified");
    assert_eq!(log::verify(&place)["unknown_count"], 1);
}

/// T-09: no effect without its record, wherever the broker is cut.
#[test]
fn a_killed_broker_leaves_no_effect_without_its_record() {
    for round in 0..6_u64 {
        let place = Place::new();
        place.work_policy("[limits]\nsteps = 2000\n");
        let steps: Vec<_> =
            (0..400).map(|n| ("fs.write_file", json!({"path": format!("work:f{n}"), "contents": "x"}))).collect();
        let running = Task::runbook(&steps).start(&place);
        processes::wait("the first file", || place.path("work/f0").exists().then_some(()));
        std::thread::sleep(Duration::from_millis(round * 7));
        let family = running.family();
        running.signal(Signal::SIGKILL);
        gone(&family.members);
        drop(running.end());
        let begun: BTreeSet<String> = log::of(&place, "fs.write_file")
            .iter()
            .filter(|record| record["phase"] == "begin")
            .map(|record| record["input"]["path"].as_str().unwrap().trim_start_matches("work:").to_owned())
            .collect();
        let found: BTreeSet<String> = std::fs::read_dir(place.path("work"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert!(!found.is_empty());
        let unrecorded: Vec<_> = found.difference(&begun).collect();
        assert!(unrecorded.is_empty(), "{unrecorded:?}");
        let verdict = log::verify(&place);
        assert!(verdict["unknown_count"].as_u64().unwrap() <= 1, "one call at a time: {verdict}");
    }
}

#[test]
fn an_interrupt_ends_with_the_result_and_its_own_status() {
    for (signal, status) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let (place, running) = at_gate(&[("fs.write_file", json!({"path": "work:late", "contents": "x"}))]);
        let family = running.family();
        let began = Instant::now();
        running.signal(signal);
        let ran = running.end();
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert_eq!(ran.status, status, "{}", ran.out);
        let object = ran.object();
        assert_eq!((object["schema"].as_str(), object["outcome"].as_str()), (Some("warden.task/1"), Some("error")));
        assert!(!place.path("work/late").exists(), "no new call");
        gone(&family.members);
        log::verify_complete(&place);
        let (place, running) = looping();
        running.signal(signal);
        let ran = running.end();
        assert_eq!((ran.status, ran.object()["schema"].as_str()), (status, Some("warden.run/1")));
        log::verify_complete(&place);
    }
}

#[test]
fn a_second_interrupt_ends_everything_at_once() {
    if !is_root() {
        return skipped("a helper is stopped by root only");
    }
    let (_place, running) = at_gate(&[]);
    let family = running.family();
    // A helper that does not react makes the gentle end last.
    family.role("cap-proc").expect("cap-proc").signal(Signal::SIGSTOP);
    running.signal(Signal::SIGINT);
    std::thread::sleep(Duration::from_millis(200));
    let mut running = running;
    assert!(!running.has_ended(), "the gentle end waits for the helper");
    let began = Instant::now();
    running.signal(Signal::SIGINT);
    let ran = running.end();
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    assert_eq!(ran.status, 130);
    gone(&family.members);
}

/// A person's signal is heard while a module is compiled: a compiler that does not end is ended, and all is left clean.
#[test]
fn an_interrupt_ends_a_compilation() {
    if !is_root() {
        return skipped("the compiler is stopped by root only");
    }
    let place = Place::of_user();
    let config = place.policy("");
    let file = place.put("long.wat", long_module());
    let args = ["--json", "run", "--config", config.to_str().unwrap(), file.to_str().unwrap()];
    for (signal, status) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let running = place.start(&args);
        processes::wait("a compiler at work", || {
            let compiler = Family::of(running.pid()).role("compiler")?;
            (log::processes(&place, "compiler", "locked").iter().any(|record| record["input"]["pid"] == compiler.pid))
                .then(|| compiler.signal(Signal::SIGSTOP))
        });
        let family = running.family();
        let began = Instant::now();
        running.signal(signal);
        let ran = running.end();
        assert!(began.elapsed() < TOLD_WITHIN + Duration::from_millis(500), "{:?}", began.elapsed());
        let object = ran.fails("unavailable", status);
        assert!(object["error"].as_str().unwrap().contains("signal"), "{object}");
        gone(&family.members);
        log::verify_complete(&place);
    }
    // The control: nobody interrupts.
    place.run(&args).exits(7);
}

/// The same while a helper gets ready: it is the spawner that does not answer here.
#[test]
fn an_interrupt_ends_the_wait_for_a_helper() {
    if !is_root() {
        return skipped("the spawner is stopped by root only");
    }
    let (place, running) = at_gate_without_files();
    let family = running.family();
    family.spawner().expect("a spawner").signal(Signal::SIGSTOP);
    place.put("work/gate-1", "");
    processes::wait("the second step", || (log::of(&place, "proc.spawn").len() >= 2).then_some(()));
    // It waits now for cap-fs, which nobody starts.
    std::thread::sleep(Duration::from_millis(300));
    assert!(log::of(&place, "fs.read_file").is_empty());
    let began = Instant::now();
    running.signal(Signal::SIGINT);
    let ran = running.end();
    assert!(began.elapsed() < TOLD_WITHIN + Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!((ran.status, ran.object()["outcome"].as_str()), (130, Some("error")), "{}", ran.out);
    gone(&family.members);
    log::verify(&place);
    // The control: with a spawner that answers, the same task goes to its end.
    let (place, running) = at_gate_without_files();
    gate::open(&place, 1);
    succeeded(&manifest::actions(&running.end().outcome("unverified"))[1]);
}

/// A task at its gate that has not used a file yet.
fn at_gate_without_files() -> (Place, warden_tests::Running) {
    let place = Place::new();
    place.work_policy(gate::COMMAND);
    place.put("work/a.txt", "hello");
    let running = Task::runbook(&[gate::step(1), ("fs.read_file", json!({"path": "work:a.txt"}))]).start(&place);
    gate::reached(&place, 1);
    gate::stands(&running, 1);
    (place, running)
}

/// A spawner that was held up takes what waits for it when it goes on.
#[test]
fn a_spawner_that_was_held_up_goes_on() {
    if !is_root() {
        return skipped("the spawner is stopped by root only");
    }
    let (place, running) = at_gate_without_files();
    let family = running.family();
    family.spawner().expect("a spawner").signal(Signal::SIGSTOP);
    place.put("work/gate-1", "");
    processes::wait("the second step", || (log::of(&place, "proc.spawn").len() >= 2).then_some(()));
    std::thread::sleep(Duration::from_millis(300));
    family.spawner().expect("a spawner").signal(Signal::SIGCONT);
    let actions = manifest::actions(&running.end().outcome("unverified"));
    // It took the command when it could: what only waits is not given up.
    succeeded(&actions[1]);
    log::verify_complete(&place);
}

/// What a compiler wrote may change for as long as it lives: one that cannot be ended gives no code.
#[test]
fn a_compiler_that_lingers_gives_no_code() {
    if !is_root() {
        return skipped("the spawner is stopped by root only");
    }
    let place = Place::of_user();
    let config = place.policy("");
    let file = place.put("long.wat", long_module());
    let args = ["--json", "run", "--config", config.to_str().unwrap(), file.to_str().unwrap()];
    let running = place.start(&args);
    let broker = running.pid();
    processes::wait("a compiler at work", || {
        (!log::processes(&place, "compiler", "locked").is_empty())
            .then(|| Family::of(broker).role("compiler"))
            .flatten()
    });
    let family = running.family();
    // Nobody is there to end it when it has finished.
    family.spawner().expect("a spawner").signal(Signal::SIGSTOP);
    let object = running.end().fails("internal", 125);
    assert!(object["error"].as_str().unwrap().contains("did not end"), "{object}");
    gone(&family.members);
    let kept = std::fs::read_dir(place.path("cache/wasi-warden")).unwrap().count();
    assert_eq!(kept, 0, "nothing is kept of it");
    // T-09: that its end was not seen is on the record.
    let ends = log::processes(&place, "compiler", "ended");
    assert_eq!((ends.len(), &ends[0]["result"]["error"]), (1, &json!("timeout")), "{ends:?}");
    place.run(&args).exits(7);
    let ended = &log::processes(&place, "compiler", "ended")[1]["result"]["ok"];
    assert!(ended["status"] == 0 || ended["signal"] == 9, "the control: one that was seen to end: {ended}");
}

/// T-06: the compiler's output is bounded by the kernel too, whatever has become of the compiler.
#[test]
fn a_compiler_cannot_write_more_than_its_limit() {
    if !is_root() {
        return skipped("the limits of another process are read and set by root only");
    }
    let place = Place::of_user();
    let config = place.policy("");
    let file = place.put("long.wat", long_module());
    let args = ["--json", "run", "--config", config.to_str().unwrap(), file.to_str().unwrap()];
    let running = place.start(&args);
    let compiler = processes::wait("a compiler at work", || {
        let compiler = Family::of(running.pid()).role("compiler")?;
        (!log::processes(&place, "compiler", "locked").is_empty()).then_some(compiler)
    });
    compiler.signal(Signal::SIGSTOP);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", compiler.pid)).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max file size")).expect("its limit of files");
    let said: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(said[3..5], ["536870912", "536870912"], "as long as an entry of the cache may be: {line}");
    // The limit itself, made small enough to be met by a module that compiles in a test.
    lower_file_size(compiler.pid, 4096);
    compiler.signal(Signal::SIGCONT);
    let family = running.family();
    let ran = running.end();
    let object = ran.object();
    let code = object["error_code"].as_str().unwrap();
    assert!(["refused", "unavailable"].contains(&code) && ran.status == 125, "{object}");
    gone(&family.members);
    log::verify_complete(&place);
    // The control: under the limit that it gets, the same module compiles.
    place.run(&args).exits(7);
}

/// By a process of the same user, which may do so without any capability.
fn lower_file_size(pid: i32, bytes: u64) {
    use std::os::unix::process::CommandExt;
    let mut command = std::process::Command::new("prlimit");
    let lowered =
        command.args(["--pid", &pid.to_string(), &format!("--fsize={bytes}")]).uid(NOBODY).gid(NOBODY).status();
    assert!(lowered.expect("prlimit is there").success());
}

/// A helper that is silent is not waited for without end.
#[test]
fn a_helper_that_hangs_is_ended_at_its_deadline() {
    if !is_root() {
        return skipped("a helper is stopped by root only");
    }
    let place = Place::new();
    place.work_policy(&format!("{}[limits]\nwall = \"4s\"\n", gate::COMMAND));
    place.put("work/a.txt", "hello");
    let read = ("fs.read_file", json!({"path": "work:a.txt"}));
    let running = Task::runbook(&[read.clone(), gate::step(1), read]).start(&place);
    gate::reached(&place, 1);
    let family = running.family();
    family.role("cap-fs").expect("cap-fs").signal(Signal::SIGSTOP);
    gate::open(&place, 1);
    let ran = running.end();
    let object = ran.outcome("budget_exhausted");
    assert!(ran.took < Duration::from_secs(9), "{:?}", ran.took);
    failed(&manifest::actions(&object)[2], "timeout");
    gone(&family.members);
    log::verify_complete(&place);
}
