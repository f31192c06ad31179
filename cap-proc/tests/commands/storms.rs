//! Two commands of one task at once: what one moves is not missed by what the other looks through.

use crate::door::ruled;
use crate::support::*;
use std::fs;
use std::time::{Duration, Instant};

/// How long the storm lasts.
const STORM: Duration = Duration::from_secs(8);

/// T-02: a denied file with a second name, which somebody outside made, is known by its inode. While one command moved the
/// folder with the denied name back and forth, the walk for another missed it, and the other read it by its second name.
#[test]
fn a_folder_that_is_moved_back_and_forth_is_not_missed() {
    let mut helper = ruled();
    let root = helper.workspace();
    for (old, new) in [("a/.env", "second"), ("plain", "other")] {
        fs::write(root.join(old), "KEY").unwrap();
        fs::hard_link(root.join(old), root.join(new)).unwrap();
    }
    // Many folders, so that a walk takes long enough to be raced.
    for n in 0..400 {
        let folder = root.join(format!("f{n}"));
        fs::create_dir_all(folder.join("in")).unwrap();
        fs::write(folder.join("in/f"), "").unwrap();
    }
    let mover = "import os, itertools\nplaces = [f'f{n}/in/a' for n in range(0, 400, 7)]\nat = 'a'\nprint('up', flush=True)\n\
                 for n, to in enumerate(itertools.cycle(places)):\n\
                 \x20   try: os.rename(at, to); at = to\n\
                 \x20   except OSError as e: print(e, flush=True)\n\
                 \x20   if n == 2000: print('moved', flush=True)\n";
    let mover = helper.start(command(PYTHON, &["-c", mover]));
    assert_eq!(helper.line(mover), "up");
    let (began, mut tries) = (Instant::now(), 0);
    while began.elapsed() < STORM {
        // Each a command of its own, whose keeper has walked nowhere yet.
        let ran = helper.run(command(SH, &["-c", "cat second; cat other"])).unwrap();
        assert!(ran.stderr.contains("second: Permission denied"), "after {tries}: {ran:?}");
        assert_eq!(ran.stdout, "KEY", "control: a file with two names that nobody denies");
        tries += 1;
    }
    assert!(tries >= 20, "only {tries} tries");
    assert_eq!(helper.line(mover), "moved", "control: the storm went on meanwhile");
    let closed = helper.call(&warden_proto::msg::proc::ProcCall::Close { process: mover });
    assert!(closed.is_ok(), "{closed:?}");
}
