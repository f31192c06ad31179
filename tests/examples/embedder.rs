//! A program that embeds the broker, for tests that need one: it does one thing and prints what it saw as one JSON object.
//!
//! Started by the tests with one thread, as `embedder two-tasks|template-bound FOLDER`; WARDEN_LIBEXEC says where the
//! programs are. Nothing of the product is replaced.

use serde_json::{Value, json};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;
use warden_policy::{Effective, Format, Policy};
use warden_proto::msg::worker::GuestKind;
use warden_proto::{List, Text, socket};
use warden_tests::Family;
use wasi_warden::compile::compile;
use wasi_warden::failure::Failure;
use wasi_warden::ledger::Allowance;
use wasi_warden::output::Sinks;
use wasi_warden::progress::Silent;
use wasi_warden::runtime::Runtime;
use wasi_warden::session::{self, Request, Session};
use wasi_warden::task::{Ended, Player, Spec, Task};

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let folder = Path::new(words.get(2).expect("a folder"));
    let seen = match words.get(1).map(String::as_str) {
        Some("two-tasks") => two_tasks(folder),
        Some("template-bound") => template_bound(),
        other => panic!("{other:?}"),
    };
    println!("{}", seen.unwrap_or_else(|failure| failure.to_json()));
}

fn policy(folder: &Path, labels: &[&str]) -> Rc<Effective> {
    let mut text = "version = 1\n[audit]\ndir = \"audit\"\n".to_owned();
    for label in labels {
        text.push_str(&format!("[[fs.workspace]]\nlabel = \"{label}\"\npath = \"{label}\"\naccess = \"read-write\"\n"));
    }
    let layer = Policy::parse(&text, Format::Toml, "embedder", folder).expect("the policy is right");
    Rc::new(Effective::combine(None, Some(layer), None).expect("one layer"))
}

/// Two tasks in one broker, both begun before either goes on: each with a workspace of its own.
fn two_tasks(folder: &Path) -> Result<Value, Failure> {
    let request = Request {
        policy: policy(folder, &["one", "two"]),
        user: None,
        deciding: Vec::new(),
        programs: Vec::new(),
        quiet: true,
        guests: true,
        first: None,
        hangup: session::Hangup::NewSegment,
    };
    let brain = std::fs::read(warden_tests::sample("control-probe.wasm")).expect("the probe");
    let (seen, _head) = session::run(request, async move |session| {
        let code = compile(&session.around, None, &brain, false).await?.code;
        let mut tasks = Vec::new();
        for (at, own, other) in [(0, "one", "two"), (1, "two", "one")] {
            let guest =
                GuestKind::Planner { task: Text::cut(&script(other)), observation: Text::cut("{}"), first_step: 1 };
            tasks.push(begin(&session, folder, (at, own), guest, &code).await?);
        }
        let (second, first) = (tasks.pop().expect("two"), tasks.pop().expect("two"));
        let (one, two) = tokio::join!(first.run(), second.run());
        let mut programs = Vec::new();
        for (at, own) in [(0, "one"), (1, "two")] {
            let code = compile(&session.around, None, says(own).as_bytes(), false).await?.code;
            let guest = GuestKind::Program { args: List::default(), env: List::default() };
            programs.push(begin(&session, folder, (at, own), guest, &code).await?);
        }
        let (second, first) = (programs.pop().expect("two"), programs.pop().expect("two"));
        let (said_one, said_two) = tokio::join!(first.run(), second.run());
        Ok(json!({"one": told(&one), "two": told(&two), "said_one": said(&said_one), "said_two": said(&said_two)}))
    })?;
    Ok(seen)
}

async fn begin(
    session: &Session,
    folder: &Path,
    (at, own): (usize, &str),
    guest: GuestKind,
    code: &OwnedFd,
) -> Result<Task, Failure> {
    let spec = Spec {
        policy: policy(folder, &[own]),
        allowance: Allowance {
            steps: 10,
            fs_ops: 1000,
            fs_written: 1 << 20,
            processes: 1,
            llm_calls: 0,
            llm_tokens: 0,
            browser_actions: 0,
            wall: Duration::from_secs(30),
        },
        fuel: None,
        memory_bytes: 64 << 20,
        output_max_bytes: 1 << 20,
        player: Some(Player { kind: guest, code: code.try_clone().expect("a copy") }),
        predicates: Vec::new(),
        runbook: None,
        workspaces: vec![session.workspaces[at].clone()],
        programs: Vec::new(),
        scratch: None,
        group: None,
        umask: wasi_warden::task::UMASK,
        recording: None,
    };
    let id = [u8::try_from(at).expect("small") + 1; 16];
    Ok(Task::start(spec, session.around.clone(), Sinks::keep(1 << 20), Rc::new(Silent), id).await?)
}

/// Opens its own file, tries the other's by every name, and reads its own at the end.
fn script(other: &str) -> String {
    let read = json!({"read": true});
    json!({"script": [
        {"op": "fs.open_workspace", "as": "root"},
        {"op": "fs.open_file", "dir": "root", "path": "own.txt", "options": read, "as": "own"},
        {"op": "repeat", "times": 50, "each": {"op": "fs.metadata", "dir": "root", "path": "own.txt"}},
        {"op": "fs.open_file", "dir": "root", "path": format!("../{other}/own.txt"), "options": read, "as": "a"},
        {"op": "plan", "actions": [
            {"capability": "fs.read_file", "input": {"path": format!("{other}:own.txt")}},
            {"capability": "fs.read_file", "input": {"path": format!("../{other}/own.txt")}},
            {"capability": "fs.read_file", "input": {"path": "own.txt"}},
        ]},
        {"op": "observation"},
        {"op": "policy.describe"},
        {"op": "fs.read", "file": "own", "max_bytes": 100},
    ]})
    .to_string()
}

fn told(ended: &Ended) -> Value {
    let outcome: Option<Value> = ended.outcome.as_deref().and_then(|text| serde_json::from_str(text).ok());
    json!({"outcome": outcome, "ending": format!("{:?}", ended.ending), "steps": ended.report.steps_json()})
}

/// A program that says its word many times.
fn says(word: &str) -> String {
    format!(
        r#"(module (import "wasi_snapshot_preview1" "fd_write" (func $w (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1) (data (i32.const 16) "{word}")
        (func (export "_start") (local $n i32)
          (i32.store (i32.const 0) (i32.const 16)) (i32.store (i32.const 4) (i32.const 3))
          (loop $again (drop (call $w (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br_if $again (i32.lt_u (local.get $n) (i32.const 300))))))"#
    )
}

fn said(ended: &Ended) -> Value {
    json!(String::from_utf8_lossy(&ended.sinks.stdout.bytes))
}

/// Seven workers of templates that serve three each: who the template was after each fork, and who lives at the end.
fn template_bound() -> Result<Value, Failure> {
    let internal = |e: String| Failure::internal(e);
    let folders = wasi_warden::places::program_folders();
    let binaries = warden_spawner::Binaries::open(&folders).map_err(|e| internal(e.to_string()))?;
    let bounds = warden_spawner::TemplateBounds { forks_max: 3, ..warden_spawner::TemplateBounds::default() };
    let (link, spawner) = warden_spawner::start_bounded(binaries, bounds).map_err(|e| internal(e.to_string()))?;
    let loops = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a loop");
    tokio::task::LocalSet::new().block_on(&loops, async move {
        let runtime = Runtime::new(link)?;
        let (mut workers, mut links, mut templates) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..7 {
            let (ours, theirs) = socket::pair().map_err(|e| internal(e.to_string()))?;
            workers.push(runtime.fork_worker(theirs).await?);
            links.push(ours);
            let own: Vec<i32> = workers.iter().filter_map(|worker| i32::try_from(worker.pid).ok()).collect();
            let family = Family::of(spawner.as_raw());
            let others = family.members.iter().filter(|m| m.parent == spawner.as_raw() && !own.contains(&m.pid));
            templates.push(others.map(|template| template.pid).collect::<Vec<_>>());
        }
        let family = Family::of(spawner.as_raw());
        let lives = |pid: u32| family.members.iter().any(|member| u32::try_from(member.pid) == Ok(pid));
        let alive: Vec<bool> = workers.iter().map(|worker| lives(worker.pid)).collect();
        Ok(json!({"templates": templates, "alive": alive}))
    })
}
