//! A keeper that is killed while its command asks it for something at every moment (T-07, T-12).

use crate::{gone, mark, marked, place, python, sh};
use std::time::{Duration, Instant};
use warden_tests::manifest::{self, succeeded};
use warden_tests::{Task, is_root, processes, skipped};

/// Forks, changes modes, opens and unlinks as fast as it can, from four processes and as many threads.
fn busy(mark: &str) -> String {
    format!(
        "import os, threading\n\
         def ask(name):\n  while True:\n    try:\n      p = os.fork()\n      if p == 0: os._exit(0)\n      os.waitpid(p, 0)\n      \
         open(name, 'w').close(); os.chmod(name, 0o600); os.unlink(name)\n    except OSError: pass\n\
         os.fork(); os.fork()\n\
         threading.Thread(target=ask, args=(f'a{{os.getpid()}}',), daemon=True).start(); ask(f'b{{os.getpid()}}') # {mark}"
    )
}

#[test]
fn a_keeper_killed_while_it_is_asked_takes_its_tree_with_it() {
    if !is_root() {
        return skipped("another user's process can be found and killed by root only");
    }
    for round in 0..6_u64 {
        let place = place();
        let mark = mark(&format!("keeper-{round}"));
        let running = Task::runbook(&[python(&busy(&mark), 15), sh("echo again")]).start(&place);
        processes::wait("the tree", || (marked(&mark) >= 4).then_some(()));
        std::thread::sleep(Duration::from_millis(round * 7));
        let family = running.family();
        let runner = family.role("cap-proc-runner").expect("a runner");
        let keeper = family.members.iter().find(|member| member.parent == runner.pid).expect("a keeper");
        let began = Instant::now();
        keeper.kill();
        gone(&mark);
        let ran = running.end();
        assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
        let actions = manifest::actions(&ran.object());
        let told = actions[0]["error"]["code"] == "unavailable" || actions[0]["output"]["signal"] == 9;
        assert!(told, "{}", actions[0]);
        assert_eq!(succeeded(&actions[1])["stdout"], "again\n", "the task went on");
    }
}
