//! `make bench`: what a task's start, a capability call and a command in its jail cost, beside their floors, in one run.
//!
//! Each number is a ratio of two medians of this run on this machine, never a bound in microseconds. The floors do the same
//! work with nothing of wasi-warden around it: a bare fork that applies the same jail and makes one call into Wasm, and a
//! message that goes from one process over a second to a third and back.

mod commands;
mod floors;
mod probe;
mod stats;
mod warden;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Some(probed) = probe::run(&args) {
        return probed;
    }
    let rounds: usize = args.first().and_then(|n| n.parse().ok()).unwrap_or(300);
    let done = if args.iter().any(|word| word == "commands") { Ok(()) } else { tasks(rounds) };
    match done.and_then(|()| in_a_folder(|folder| commands::measure(folder, rounds).map_err(|e| e.to_string()))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("warden bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A folder that the user of a task can reach, for as long as `act` runs.
fn in_a_folder<T>(act: impl FnOnce(&Path) -> Result<T, String>) -> Result<T, String> {
    let folder = tempfile::tempdir().map_err(|e| format!("a temporary folder: {e}"))?;
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).map_err(|e| e.to_string())?;
    act(folder.path())
}

fn tasks(rounds: usize) -> Result<(), String> {
    let pinned = std::env::var_os("BENCH_PINNED").is_some();
    if pinned {
        floors::pin_to_one_cpu();
    }
    println!("warden bench: {rounds} rounds, {}", if pinned { "all on one CPU" } else { "CPUs as the kernel chooses" });
    // The floors fork, so they come while there is one thread and no runtime.
    let start_floor = floors::start(rounds);
    let call_floor = floors::two_hops(rounds.saturating_mul(50));
    let measured = in_a_folder(|folder| warden::measure(folder, rounds).map_err(|e| e.to_string()))?;
    println!("{:<44} {:>10} {:>10} {:>7} {:>9}", "", "floor p50", "ours p50", "ratio", "must be");
    stats::row("task start (worker locked, first instruction)", &start_floor, &measured.start, 4.0);
    stats::row("capability call (fs.metadata, audited)", &call_floor, &measured.call, 4.0);
    stats::row("capability call (policy.describe, audited)", &call_floor, &measured.own_call, 4.0);
    Ok(())
}
