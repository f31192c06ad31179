//! The broker's end of link A beside a spawner that takes nothing, and beside one that does.

use super::*;
use std::time::{Duration, Instant};
use warden_proto::link_a;

/// More than any buffer of the link holds.
const BURST: usize = 600;

fn link() -> OwnedFd {
    nix::unistd::pipe().unwrap().0
}

async fn with_link<F: Future>(body: impl FnOnce(Runtime, LinkA) -> F) -> F::Output {
    let (ours, theirs) = link_a::pair().unwrap();
    let local = tokio::task::LocalSet::new();
    local.run_until(async move { body(Runtime::new(ours).unwrap(), theirs).await }).await
}

/// Answers every start after it has sent as much unasked as makes the other direction full too.
fn spawner(link: LinkA, starts: usize) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut done = 0;
        while done < starts {
            let Ok(Some((command, _))) = link.receive::<Command>(true) else { return };
            let event = match command {
                Command::ForkWorker { child } => Some(Event::Started { child, pid: 7 }),
                _ => None,
            };
            done += usize::from(event.is_some());
            if link.send(&Report { taken: 1, event }, &[]).is_err() {
                return;
            }
        }
        // It goes on until the broker has gone.
        while let Ok(Some(_)) = link.receive::<Command>(true) {}
    })
}

/// T-06: the loop turns on, and every start is told in time that nobody takes it.
#[tokio::test(flavor = "current_thread")]
async fn a_burst_at_a_spawner_that_takes_nothing_ends_in_time_and_blocks_nobody() {
    with_link(async |runtime, _silent| {
        let began = Instant::now();
        let mut starts = tokio::task::JoinSet::new();
        for _ in 0..BURST {
            let runtime = runtime.clone();
            starts.spawn_local(async move { runtime.fork_worker(link()).await.map(drop) });
        }
        let turns = std::rc::Rc::new(Cell::new(0_u32));
        let count = turns.clone();
        tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(20)).await;
                count.set(count.get() + 1);
            }
        });
        let (mut busy, mut refused_after) = (0, Duration::ZERO);
        while busy < BURST - 64 {
            match starts.join_next().await.unwrap().unwrap() {
                Err(RuntimeError::Busy) => busy += 1,
                other => panic!("{other:?}"),
            }
            refused_after = began.elapsed();
        }
        assert!(refused_after >= SPAWNER_STALL && refused_after < SPAWNER_STALL * 2, "{refused_after:?}");
        assert!(turns.get() > 20, "the loop stood still: {} turns", turns.get());
    })
    .await;
}

/// The control: a spawner that takes what it is sent, and is never sent more than the link holds.
#[tokio::test(flavor = "current_thread")]
async fn a_burst_at_a_spawner_that_works_is_served_whole() {
    with_link(async |runtime, theirs| {
        let thread = spawner(theirs, BURST);
        let mut starts = tokio::task::JoinSet::new();
        for _ in 0..BURST {
            let runtime = runtime.clone();
            starts.spawn_local(async move { runtime.fork_worker(link()).await.map(|child| child.pid) });
        }
        while let Some(started) = starts.join_next().await {
            assert_eq!(started.unwrap().unwrap(), 7);
        }
        drop(runtime);
        drop(thread);
    })
    .await;
}

/// What was given up before it went out is never started, and what is queued behind it goes on.
#[tokio::test(flavor = "current_thread")]
async fn a_start_that_was_given_up_in_the_queue_is_not_sent() {
    with_link(async |runtime, theirs| {
        // The link is full: nothing more goes out.
        let mut held = 0;
        while runtime.0.outbox.borrow().patience(held).is_none() {
            held = runtime.tell(&Command::Hold { id: 1 }, vec![link()]).unwrap();
        }
        let given_up = tokio::time::timeout(Duration::from_millis(10), runtime.fork_worker(link())).await;
        assert!(given_up.is_err());
        let wanted = runtime.clone();
        let wanted = tokio::task::spawn_local(async move { wanted.fork_worker(link()).await.map(|child| child.pid) });
        tokio::task::yield_now().await;
        let seen = std::thread::spawn(move || {
            let mut starts = 0;
            while let Ok(Some((command, _))) = theirs.receive::<Command>(true) {
                let event = match command {
                    Command::ForkWorker { child } => Some(Event::Started { child, pid: 7 }),
                    _ => None,
                };
                starts += usize::from(event.is_some());
                let ended = matches!(command, Command::Kill { .. });
                if theirs.send(&Report { taken: 1, event }, &[]).is_err() || ended {
                    break;
                }
            }
            starts
        });
        assert_eq!(wanted.await.unwrap().unwrap(), 7);
        // The child is dropped by now: its kill is the last command.
        let starts = tokio::task::spawn_blocking(move || seen.join().unwrap()).await.unwrap();
        assert_eq!(starts, 1);
    })
    .await;
}
