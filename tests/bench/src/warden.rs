//! The same acts in a running broker.

use crate::stats::Samples;
use std::os::fd::AsFd;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};
use warden_policy::{Effective, Format, Policy};
use warden_proto::msg::life::Role;
use warden_proto::msg::worker::{GuestKind, WorkerSetup};
use warden_proto::{Kind, List, Text};
use wasi_warden::compile::compile;
use wasi_warden::failure::Failure;
use wasi_warden::jailed::{Birth, Jailed};
use wasi_warden::ledger::Allowance;
use wasi_warden::output::Sinks;
use wasi_warden::progress::Silent;
use wasi_warden::session::{self, Request, Session};
use wasi_warden::task::{Player, Spec, Task};

/// What was measured.
pub struct Measured {
    /// Request to the guest's first instruction.
    pub start: Samples,
    /// One call through a helper.
    pub call: Samples,
    /// One call that the broker answers itself.
    pub own_call: Samples,
}

const POLICY: &str = "version = 1\n[[fs.workspace]]\nlabel = \"w\"\npath = \"work\"\naccess = \"read-write\"\n\
                      [limits]\nfs_ops = 100_000_000\nwall = \"10m\"\n[audit]\ndir = \"audit\"\n";
/// Calls between two readings of the clock.
const CALLS: u64 = 2_000;

/// Starts a broker and measures.
pub fn measure(folder: &Path, rounds: usize) -> Result<Measured, Failure> {
    let work = folder.join("work");
    std::fs::create_dir(&work).map_err(|e| Failure::internal(e.to_string()))?;
    std::fs::write(work.join("a.txt"), "content").map_err(|e| Failure::internal(e.to_string()))?;
    if nix::unistd::getuid().is_root() {
        // Root becomes the workspace's owner.
        let nobody = nix::unistd::User::from_name("nobody").ok().flatten().expect("a user nobody");
        let audit = folder.join("audit");
        std::fs::create_dir(&audit).map_err(|e| Failure::internal(e.to_string()))?;
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&audit, private).map_err(|e| Failure::internal(e.to_string()))?;
        for owned in [&work, &audit] {
            let handed = nix::unistd::chown(owned, Some(nobody.uid), Some(nobody.gid));
            handed.map_err(|e| Failure::internal(e.to_string()))?;
        }
    }
    let policy = Policy::parse(POLICY, Format::Toml, "bench", folder).map_err(|e| Failure::usage(e.to_string()))?;
    let policy = Effective::combine(None, Some(policy), None).map_err(|e| Failure::usage(e.to_string()))?;
    let brain = std::env::current_exe()
        .ok()
        .and_then(|exe| std::fs::read(exe.parent()?.join("guests/samples/control-probe.wasm")).ok())
        .ok_or_else(|| {
            Failure::internal("guests/samples/control-probe.wasm is not beside the benchmark; run `make build`")
        })?;
    let request = Request {
        policy: Rc::new(policy),
        user: None,
        deciding: Vec::new(),
        programs: Vec::new(),
        quiet: true,
        guests: true,
        first: None,
        hangup: session::Hangup::NewSegment,
    };
    let (measured, _head) = session::run(request, async move |session| {
        let start = starts(&session, rounds).await?;
        let call = calls(&session, &brain, rounds, r#"{"op":"fs.metadata","dir":"root","path":"a.txt"}"#).await?;
        let own_call = calls(&session, &brain, rounds, r#"{"op":"policy.describe"}"#).await?;
        Ok(Measured { start, call, own_call })
    })?;
    Ok(measured)
}

async fn starts(session: &Session, rounds: usize) -> Result<Samples, Failure> {
    let text = r#"(module (import "wasi_snapshot_preview1" "fd_write" (func $w (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1) (data (i32.const 16) "!")
        (func (export "_start") (i32.store (i32.const 0) (i32.const 16)) (i32.store (i32.const 4) (i32.const 1))
          (drop (call $w (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;
    let compiled = compile(&session.around, None, text.as_bytes(), false).await?;
    let setup = WorkerSetup {
        task: [0; 16],
        guest: GuestKind::Program { args: List::default(), env: List::default() },
        fuel: None,
        memory_bytes: 64 << 20,
        wall_ms: 10_000,
        home: Text::default(),
    };
    let mut all = Vec::new();
    for _ in 0..rounds {
        let begin = Instant::now();
        let descriptors = [compiled.code.as_fd()];
        let birth = Birth { role: Role::Worker, descriptors: &descriptors, inherit: Vec::new() };
        let mut worker = Jailed::start(&session.around.runtime, birth, &setup).await?;
        let frame = worker.peer.next().await.map_err(|e| Failure::internal(e.to_string()))?;
        if frame.kind != Kind::Output {
            return Err(Failure::internal(format!("the worker sent {:?}", frame.kind)));
        }
        all.push(begin.elapsed());
        worker.child.kill();
        worker.child.exited().await;
    }
    Ok(Samples::new(all))
}

/// The cost of one call: a task that makes many, less a task that makes none, divided.
async fn calls(session: &Session, brain: &[u8], rounds: usize, call: &str) -> Result<Samples, Failure> {
    let compiled = compile(&session.around, session.cache.as_ref(), brain, false).await?;
    let mut all = Vec::new();
    for _ in 0..(rounds / 30).max(5) {
        let none = one_task(session, &compiled.code, call, 1).await?;
        let many = one_task(session, &compiled.code, call, CALLS).await?;
        let per_call = many.saturating_sub(none) / u32::try_from(CALLS - 1).unwrap_or(1);
        all.push(per_call);
    }
    Ok(Samples::new(all))
}

async fn one_task(session: &Session, code: &std::os::fd::OwnedFd, call: &str, times: u64) -> Result<Duration, Failure> {
    let script = format!(
        r#"{{"script":[{{"op":"fs.open_workspace","as":"root"}},{{"op":"repeat","times":{times},"each":{call}}}]}}"#
    );
    let allowance = Allowance {
        steps: 10,
        fs_ops: u64::MAX,
        fs_written: 1 << 30,
        processes: 1,
        llm_calls: 0,
        llm_tokens: 0,
        browser_actions: 0,
        wall: Duration::from_secs(120),
    };
    let spec = Spec {
        policy: session.policy.clone(),
        allowance,
        fuel: None,
        memory_bytes: 64 << 20,
        output_max_bytes: 1 << 20,
        player: Some(Player {
            kind: GuestKind::Planner { task: Text::cut(&script), observation: Text::cut("{}"), first_step: 1 },
            code: code.try_clone().map_err(|e| Failure::internal(e.to_string()))?,
        }),
        predicates: Vec::new(),
        runbook: None,
        workspaces: session.workspaces.clone(),
        programs: Vec::new(),
        scratch: None,
        group: None,
        umask: wasi_warden::task::UMASK,
        recording: None,
    };
    let begin = Instant::now();
    let task = Task::start(spec, session.around.clone(), Sinks::keep(0), Rc::new(Silent), [1; 16]).await?;
    let ended = task.run().await;
    let took = begin.elapsed();
    match ended.outcome.as_deref() {
        Some(outcome) if outcome.contains(&format!("\"ok\":{times}")) => Ok(took),
        other => Err(Failure::internal(format!("the probe said {other:?} and ended {:?}", ended.ending))),
    }
}
