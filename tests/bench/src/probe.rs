//! The same program as a command: what it does is timed by itself, so that outside and inside differ in the jail alone.
//!
//! `warden-bench probe calls FOLDER SYSTEM_FILE` prints `NAME NANOSECONDS` for batches of calls;
//! `warden-bench probe timed ROUNDS PROGRAM ARGS…` runs a program and prints how long it took, `{}` being the round.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

/// Calls between two readings of the clock.
const BATCH: u32 = 200;
/// Batches: their median is what counts.
const BATCHES: u32 = 25;

/// Runs as the probe, if the arguments say so.
pub fn run(args: &[String]) -> Option<ExitCode> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["probe", "calls", folder, system] => calls(Path::new(folder), Path::new(system)),
        ["probe", "timed", rounds, program, rest @ ..] => timed(rounds.parse().ok()?, program, rest),
        _ => return None,
    };
    Some(match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("probe: {error}");
            ExitCode::FAILURE
        }
    })
}

fn calls(folder: &Path, system: &Path) -> std::io::Result<()> {
    let (present, passing) = (folder.join("present"), folder.join("passing"));
    std::fs::write(&present, "content")?;
    batches("open", || File::open(&present).map(drop))?;
    batches("append", || OpenOptions::new().append(true).open(&present).map(drop))?;
    batches("stat", || std::fs::metadata(&present).map(drop))?;
    // A file system that spares the numbers of files just removed makes the making of files dearer with each round, so
    // what changes a folder is timed by renaming.
    batches("rename", || std::fs::rename(&present, &passing).and_then(|()| std::fs::rename(&passing, &present)))?;
    batches("system", || File::open(system).map(drop))
}

fn batches(name: &str, act: impl Fn() -> std::io::Result<()>) -> std::io::Result<()> {
    for _ in 0..BATCHES {
        let begin = Instant::now();
        for _ in 0..BATCH {
            act()?;
        }
        println!("{name} {}", begin.elapsed().as_nanos() / u128::from(BATCH));
    }
    Ok(())
}

fn timed(rounds: u32, program: &str, args: &[&str]) -> std::io::Result<()> {
    // Round 0 is not counted: it reads what the disk has not shown yet.
    for round in 0..=rounds {
        let number = round.to_string();
        let args = args.iter().map(|arg| arg.replace("{}", &number));
        let begin = Instant::now();
        let status = Command::new(program).args(args).stdin(Stdio::null()).stdout(Stdio::null()).status()?;
        if !status.success() {
            return Err(std::io::Error::other(format!("{program}: {status}")));
        }
        if round > 0 {
            println!("timed {}", begin.elapsed().as_nanos());
        }
    }
    Ok(())
}
