//! Files without end, without name, without number (T-06).

use crate::{place, python, sh};
use std::time::{Duration, Instant};
use warden_tests::Task;
use warden_tests::manifest::succeeded;

/// A file that nobody can see any more grows as far as any other, at once or by writing, in the home; in the workspace what it grows by is counted as well.
const DELETED: &str = "import errno, os, signal, time
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def grow(path, act):
  f = os.open(path, os.O_RDWR | os.O_CREAT); os.unlink(path)
  try:
    try: act(f); said = 'ok'
    except OSError as e: said = errno.errorcode[e.errno]
    print(said, os.fstat(f).st_size <= 8 << 20, os.fstat(f).st_nlink)
  finally: os.close(f)
def fill(f):
  while True: os.write(f, b'x' * (1 << 20))
for path in [os.environ['HOME'] + '/gone']:
  grow(path, lambda f: os.ftruncate(f, 205 << 30))
  grow(path, lambda f: os.pwrite(f, b'x', 205 << 30))
  grow(path, lambda f: os.posix_fallocate(f, 0, 205 << 30))
  grow(path, fill)
  grow(path, lambda f: os.write(f, b'x' * 1000))";

#[test]
fn a_deleted_file_has_its_bound() {
    let place = place();
    let began = Instant::now();
    let actions = Task::runbook(&[python(DELETED, 15), sh("ls -A; echo again")]).actions(&place);
    let output = succeeded(&actions[0]);
    let lines: Vec<&str> = output["stdout"].as_str().expect("a text").lines().collect();
    assert_eq!(lines.len(), 5, "{output}");
    for (at, line) in lines.iter().enumerate() {
        let expected = if at % 5 == 4 { "ok True 0" } else { "EFBIG True 0" };
        assert_eq!(*line, expected, "attempt {at}: {output}");
    }
    assert_eq!(succeeded(&actions[1])["stdout"], "again\n");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

/// In a workspace what files grow by counts against the task, whether or not they have a name left.
#[test]
fn what_is_written_into_deleted_files_of_the_workspace_counts() {
    let place = place();
    let code = "import os, time
kept = []
for n in range(100):
  f = open(f'gone{n}', 'wb'); os.unlink(f'gone{n}'); kept.append(f)
  f.write(b'x' * (1 << 20)); f.flush(); time.sleep(0.02)
print('through')";
    let actions = Task::runbook(&[python(code, 15)]).actions(&place);
    let ended = &actions[0];
    let refused = ended["output"]["stderr"].as_str().is_some_and(|text| text.contains("No space left"));
    let over = ended["error"]["rule"].as_str().is_some_and(|rule| rule.ends_with("limits.fs_written"));
    assert!(refused || over, "{ended}");
}

/// Who does not look at the error is ended by the signal that comes with it.
#[test]
fn who_writes_on_regardless_is_ended() {
    let place = place();
    let actions = Task::runbook(&[
        sh("exec dd if=/dev/zero of=big bs=1M count=300000 status=none"),
        sh("stat -c %s big; rm big"),
    ])
    .actions(&place);
    let ended = succeeded(&actions[0]);
    assert!(ended["signal"] == 25 || ended["status"] == 1, "{ended}");
    assert_eq!(succeeded(&actions[1])["stdout"], "8388608\n");
}
