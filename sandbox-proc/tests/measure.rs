//! Where the time of a worker's start goes. Measures and prints, judges nothing; run alone, on one CPU:
//! `taskset -c 0 cargo test -p warden-sandbox --test measure -- --ignored --nocapture`

mod rig;

use rig::{Template, compile, memfd, program, send_setup};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};
use warden_proto::{Kind, codec};

const ROUNDS: usize = 300;

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[test]
#[ignore = "a measurement, not a test"]
fn start_of_a_worker() {
    let template = Template::start();
    let code = memfd(&compile(br#"(module (func (export "run") (result i32) (i32.const 42)))"#, false).unwrap(), true);
    let document = codec::encode(&program()).unwrap();
    let [mut forked, mut locked, mut finished] = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let mut worker = template.fork();
        forked.push(began.elapsed());
        send_setup(&mut worker.link, &document, &[code.as_fd()]);
        for (kind, times) in
            [(Kind::Hello, None), (Kind::Locked, Some(&mut locked)), (Kind::Finish, Some(&mut finished))]
        {
            assert_eq!(worker.link.receive(0, None).unwrap().kind, kind);
            if let Some(times) = times {
                times.push(began.elapsed());
            }
        }
        worker.reap();
    }
    println!(
        "from request, medians of {ROUNDS}: forked {:?}, locked {:?}, run and finished {:?}",
        median(forked),
        median(locked),
        median(finished)
    );
}

#[test]
#[ignore = "a measurement, not a test"]
fn bare_fork_for_comparison() {
    let times = (0..ROUNDS).map(|_| {
        let began = Instant::now();
        // SAFETY: the child ends at once and calls nothing that a fork among threads forbids.
        match unsafe { libc::fork() } {
            // SAFETY: ends the child.
            0 => unsafe { libc::_exit(0) },
            pid => assert_eq!(nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None).is_ok(), pid > 0),
        }
        began.elapsed()
    });
    println!("bare fork, exit and wait of this test process, median: {:?}", median(times.collect()));
}
