//! Files without end, without name, without number (T-06).

use crate::{place, python, sh};
use std::time::{Duration, Instant};
use warden_tests::Task;
use warden_tests::manifest::succeeded;

/// A file that nobody can see any more grows as far as any other, at once or by writing.
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
path = FOLDER + '/gone'
grow(path, lambda f: os.ftruncate(f, 205 << 30))
grow(path, lambda f: os.pwrite(f, b'x', 205 << 30))
grow(path, lambda f: os.posix_fallocate(f, 0, 205 << 30))
grow(path, lambda f: os.write(f, b'x' * 1000))
if FOLDER != '.': grow(path, fill)";

#[test]
fn a_deleted_file_has_its_bound() {
    for folder in ["'.'", "os.environ['HOME']"] {
        let place = place();
        let began = Instant::now();
        let script = DELETED.replace("FOLDER", folder);
        let actions = Task::runbook(&[python(&script, 15), sh("ls -A; echo again")]).actions(&place);
        let output = succeeded(&actions[0]);
        let lines: Vec<&str> = output["stdout"].as_str().expect("a text").lines().collect();
        let big = "EFBIG True 0";
        let expected = [big, big, big, "ok True 0", big];
        assert_eq!(lines, expected[..if folder == "'.'" { 4 } else { 5 }], "{folder}: {output}");
        assert_eq!(succeeded(&actions[1])["stdout"], "again\n");
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    }
}

/// Files without a name, each within the bound of one, are together over the bound of all; `HOW` makes one grow by 4 MiB.
const MANY: &str = "total = 0
while total < 205 << 30:
  f = os.open('gone', os.O_RDWR | os.O_CREAT); os.unlink('gone')
  HOW
  total += 4 << 20
  os.write(report, b'%d\\n' % total)
";

/// T-06: the workspace is the task's to fill up to `fs_written` and no more, deleted files included.
#[test]
fn deleted_files_together_have_their_bound() {
    for how in ["os.write(f, b'x' * (4 << 20))", "os.ftruncate(f, 4 << 20)", "os.posix_fallocate(f, 0, 4 << 20)"] {
        let place = place();
        let script =
            format!("import os\nreport = os.open('report', os.O_WRONLY | os.O_CREAT)\n{}", MANY.replace("HOW", how));
        let began = Instant::now();
        let actions =
            Task::runbook(&[python(&script, 15), sh("echo again; fallocate -l 5MiB report 2>/dev/null || echo full")]);
        let actions = actions.actions(&place);
        let took = began.elapsed();
        let ended = &actions[0];
        let full = ended["output"]["stderr"].as_str().is_some_and(|text| text.contains("No space left on device"));
        assert!(full || ended["error"]["rule"] == "user:limits.fs_written", "{how}: {ended}");
        let total: u64 = place.read("work/report").lines().last().and_then(|line| line.parse().ok()).unwrap_or(0);
        eprintln!("{how}: {} MiB of 8 in {took:?}", total >> 20);
        // Between two looks a command fills what files it can open; 205 GB it does not.
        assert!(total <= 16 << 30, "{how}: {total}");
        assert!(took < Duration::from_secs(12), "{took:?}");
        assert_eq!(succeeded(&actions[1])["stdout"], "again\nfull\n", "{how}: what is spent stays spent");
    }
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
