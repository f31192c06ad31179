//! `make bench`: what a task's start and a capability call cost, beside their floors, in one run.
//!
//! Each number is a ratio of two medians of this run on this machine, never a bound in microseconds. The floors do the same
//! work with nothing of wasi-warden around it: a bare fork that applies the same jail and makes one call into Wasm, and a
//! message that goes from one process over a second to a third and back.

mod floors;
mod stats;
mod warden;

use std::os::unix::fs::PermissionsExt;

fn main() {
    let rounds: usize = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(300);
    let pinned = std::env::var_os("BENCH_PINNED").is_some();
    if pinned {
        floors::pin_to_one_cpu();
    }
    println!("warden bench: {rounds} rounds, {}", if pinned { "all on one CPU" } else { "CPUs as the kernel chooses" });
    // The floors fork, so they come while there is one thread and no runtime.
    let start_floor = floors::start(rounds);
    let call_floor = floors::two_hops(rounds.saturating_mul(50));
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("chmod");
    let measured = match warden::measure(folder.path(), rounds) {
        Ok(measured) => measured,
        Err(error) => {
            eprintln!("warden bench: {error}");
            std::process::exit(1);
        }
    };
    println!("{:<44} {:>10} {:>10} {:>7} {:>9}", "", "floor p50", "ours p50", "ratio", "must be");
    stats::row("task start (worker locked, first instruction)", &start_floor, &measured.start, 4.0);
    stats::row("capability call (fs.metadata, audited)", &call_floor, &measured.call, 4.0);
    stats::row("capability call (policy.describe, audited)", &call_floor, &measured.own_call, 4.0);
}
