//! How far a command gets beyond what its files may grow by.

use crate::door::ruled;
use crate::support::*;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use warden_proto::msg::error::CallError;
use warden_proto::msg::fs::RuleKind::Deny;

/// What a task may write in these tests, and so the longest file.
const MAX_BYTES: u64 = 8 << 20;

fn helper() -> Helper {
    let options = Options { workspaces: vec![workspace(0, true, &[(".env", Deny)])], ..Options::default() };
    let bounds = warden_proto::msg::proc::ProcBounds { file_bytes: MAX_BYTES, ..options.bounds.clone() };
    Helper::with(Options { bounds, ..options })
}

/// Bytes on the disk beneath a directory.
fn taken(directory: &Path) -> u64 {
    let each = |entry: std::fs::DirEntry| {
        let stat = entry.metadata().unwrap();
        if stat.is_dir() { taken(&entry.path()) } else { stat.blocks() * 512 }
    };
    std::fs::read_dir(directory).unwrap().flatten().map(each).sum()
}

fn run(helper: &mut Helper, code: &str) -> Result<Ran, CallError> {
    run_within(helper, code, MAX_BYTES)
}

fn run_within(helper: &mut Helper, code: &str, growth_max: u64) -> Result<Ran, CallError> {
    let mut asked = command(PYTHON, &["-c", code]);
    asked.growth_max = growth_max;
    helper.run(asked)
}

/// Many files, opened at leisure, so that nothing has to be looked at when they are filled.
const FILES: &str =
    "import os, errno, time\nfs = [os.open(f'f{n}', os.O_RDWR | os.O_CREAT) for n in range(1000)]\ntime.sleep(0.3)\n";

/// T-06: `posix_fallocate` takes the disk at once: 3.3 GiB were gone before the next look.
#[test]
fn space_that_is_not_written_is_counted_as_it_is_taken() {
    for length in [8_u64 << 20, 1 << 20, 64 << 10] {
        let mut helper = helper();
        let code = format!(
            "{FILES}for f in fs:\n\
             \x20   try: os.posix_fallocate(f, 0, {length})\n\
             \x20   except OSError as e: print(errno.errorcode[e.errno]); break\n"
        );
        let ran = run(&mut helper, &code).unwrap();
        assert_eq!((ran.exit.code, ran.stdout.as_str()), (Some(0), "ENOSPC\n"), "{ran:?}");
        assert!(taken(&helper.workspace()) <= MAX_BYTES, "{}", taken(&helper.workspace()));
        // The 1,000 files themselves, and no file more than fits.
        let fits = (MAX_BYTES - 1000 * 1024) / length * length;
        assert_eq!(ran.toll.grown, 1000 * 1024 + fits);
    }
    // The control: what fits is there, by either call, and counts once.
    let mut helper = helper();
    let code = "import os\nf = os.open('f', os.O_RDWR | os.O_CREAT, 0o600)\nos.posix_fallocate(f, 0, 1 << 20)\n\
                os.posix_fallocate(f, 4096, 4096)\nos.posix_fallocate(f, 1 << 20, 1 << 20)\nos.write(f, b'x' * (1 << 20))\n\
                s = os.fstat(f)\nprint(s.st_size, s.st_blocks * 512)\n\
                g = os.open(os.environ['TMPDIR'] + '/g', os.O_RDWR | os.O_CREAT)\nos.posix_fallocate(g, 0, 1 << 16)\nprint(os.fstat(g).st_size)\n\
                r = os.open('f', os.O_RDONLY)\n\
                for h, size in [(f, 9 << 20), (f, -1), (999, 1)]:\n\
                \x20   try: os.posix_fallocate(h, 0, size)\n    except OSError as e: print(e.strerror)\n";
    let ran = run(&mut helper, code).unwrap();
    let expected = "2097152 2097152\n65536\nFile too large\nInvalid argument\nBad file descriptor\n";
    assert_eq!((ran.exit.code, ran.stdout.as_str()), (Some(0), expected), "{ran:?}");
    assert_eq!(ran.toll.grown, 1024 + (2 << 20));
}

/// T-06: what is written between two looks is what the host writes in that time, and looks come sooner where less is left.
#[test]
fn many_writers_get_little_beyond_what_they_may() {
    for writers in [1, 8] {
        let mut helper = helper();
        let code = format!(
            "{FILES}b = b'x' * (1 << 20)\nme = 0\nfor n in range(1, {writers}):\n\
             \x20   if os.fork() == 0: me = n; break\n\
             for f in fs[me::{writers}]: os.write(f, b)\nprint('through')\n"
        );
        let ended = run(&mut helper, &code);
        let error = ended.expect_err("it is ended");
        assert_eq!(error.rule.as_str(), "limits.fs_written");
        let taken = taken(&helper.workspace());
        println!("{writers} writers: {} MiB of 8", taken >> 20);
        assert!(taken < 256 << 20, "{taken}");
    }
}

/// T-06: a file system has room for so many inodes, and what has no contents cost nothing: 10 million of them leave none.
#[test]
fn what_is_made_counts_though_it_is_empty() {
    let makers = [
        ("directories", "os.mkdir(n)"),
        ("links", "os.symlink('nowhere', n)"),
        ("nodes", "os.mknod(n)"),
        ("files", "os.close(os.open(n, os.O_CREAT | os.O_RDONLY))"),
        ("names", "os.link('one', n)"),
        ("names that go", "os.mkdir(n); os.rmdir(n)"),
    ];
    for (what, make) in makers {
        let mut helper = helper();
        std::fs::write(helper.workspace().join("one"), "").unwrap();
        let code = |count: u32| {
            format!(
                "import os, errno\nmade = 0\nfor n in range({count}):\n\
                 \x20   n = f'n{{n}}'\n\
                 \x20   try: {make}; made += 1\n\
                 \x20   except OSError as e: print(errno.errorcode[e.errno], end=' '); break\nprint(made)\n"
            )
        };
        let each = 1024 + if what == "links" { 7 } else { 0 };
        // The control: what fits.
        let ran = run(&mut helper, &code(100)).unwrap();
        assert_eq!((ran.stdout.as_str(), ran.toll.grown), ("100\n", 100 * each), "{what}: {ran:?}");
        let mut helper = self::helper();
        std::fs::write(helper.workspace().join("one"), "").unwrap();
        let ran = run_within(&mut helper, &code(20_000), 512 << 10).unwrap();
        let most = (512 << 10) / each;
        assert_eq!(ran.stdout, format!("ENOSPC {most}\n"), "{what}: {ran:?}");
        assert_eq!(ran.toll.grown, most * each, "{what}");
    }
}

/// The keeper takes space for who could have taken it.
#[test]
fn space_is_taken_by_descriptors_that_write_and_by_no_others() {
    let mut helper = ruled();
    let code = "import os, errno\ndef t(flags):\n\
                \x20   f = os.open('plain', flags)\n\
                \x20   try: os.posix_fallocate(f, 0, 5000)\n\
                \x20   except OSError as e: print(errno.errorcode[e.errno])\n\
                \x20   else: print('ok')\n\
                t(os.O_RDONLY)\nt(os.O_PATH)\nprint(os.path.getsize('plain'))\nt(os.O_RDWR)\nt(os.O_WRONLY)\nprint(os.path.getsize('plain'))";
    assert_eq!(helper.python(code).lines().collect::<Vec<_>>(), ["EBADF", "EBADF", "5", "ok", "ok", "5000"]);
}
