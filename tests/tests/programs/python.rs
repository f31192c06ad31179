//! python3: the tests of a package, and virtual environments.

use crate::scene::{Scene, present};
use crate::tree::Leave;
use std::os::unix::process::CommandExt;
use std::process::Command;
use warden_tests::{NOBODY, is_root, skipped};

/// Compiled code holds the time of its source.
fn scene() -> Scene {
    Scene::new().leaving(|path| if path.ends_with(".pyc") { Leave::Contents } else { Leave::Nothing })
}

fn package(scene: &Scene) {
    scene.put("stats/__init__.py", "def mean(values):\n    return sum(values) / len(values)\n");
    scene.put(
        "test_stats.py",
        "import os, subprocess, sys, tempfile, unittest\nimport stats\n\
         class Tests(unittest.TestCase):\n    \
         def test_mean(self): self.assertEqual(stats.mean([1, 3]), 2)\n    \
         def test_wrong(self): self.assertEqual(stats.mean([1, 3]), 3)\n    \
         def test_child(self):\n        \
         said = subprocess.run([sys.executable, '-c', 'print(6)'], capture_output=True, text=True)\n        \
         self.assertEqual(said.stdout, '6\\n')\n    \
         def test_files(self):\n        \
         with tempfile.TemporaryDirectory() as folder:\n            \
         path = os.path.join(folder, 'a')\n            \
         with open(path, 'w') as file: file.write('x')\n            \
         os.replace(path, path + 'b')\n            \
         self.assertEqual(os.listdir(folder), ['ab'])\n",
    );
}

const TESTED: &str = "/usr/bin/python3 -m unittest -v 2>&1 | sed 's/ in [0-9.]*s//'
/usr/bin/python3 - <<'END'
import concurrent.futures, json, os
with concurrent.futures.ThreadPoolExecutor(4) as pool: print(list(pool.map(lambda n: n * n, range(5))))
with open('made.json', 'w') as file: json.dump({'a': [1]}, file)
os.chmod('made.json', 0o640)
print(oct(os.stat('made.json').st_mode), os.path.getsize('made.json'))
END";

#[test]
fn a_package_is_tested_with_threads_and_children() {
    if !present(&["/usr/bin/python3"]) {
        return;
    }
    let ran = scene().same(package, TESTED);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(ran.out.contains("FAILED (failures=1)") && ran.out.contains("[0, 1, 4, 9, 16]"), "{ran:?}");
    assert!(ran.tree.contains_key("made.json"), "{ran:?}");
}

const SHARED: &str = "cat > shared.py <<'END'
import multiprocessing as mp, os
from multiprocessing import shared_memory
def square(n): return n * n
def add(lock, value, queue):
    for _ in range(200):
        with lock: value.value += 1
    queue.put(os.getpid())
def fill(name):
    memory = shared_memory.SharedMemory(name)
    memory.buf[0] = 7; memory.close()
if __name__ == '__main__':
    with mp.Pool(2) as pool: print(pool.map(square, range(6)))
    lock, value, queue = mp.Lock(), mp.Value('i', 0, lock=False), mp.Queue()
    each = [mp.Process(target=add, args=(lock, value, queue)) for _ in range(3)]
    for p in each: p.start()
    said = {queue.get() for _ in each}
    for p in each: p.join()
    print(value.value, said == {p.pid for p in each})
    memory = shared_memory.SharedMemory(create=True, size=4096)
    child = mp.Process(target=fill, args=(memory.name,))
    child.start(); child.join(); print(memory.buf[0]); memory.close(); memory.unlink()
END
/usr/bin/python3 shared.py";

/// Whether this host lets an ordinary user have namespaces; says so where it does not.
fn namespaces_here() -> bool {
    let mut tried = Command::new("/usr/bin/unshare");
    tried.args(["--map-current-user", "--mount", "--pid", "--fork", "/bin/true"]);
    if is_root() {
        tried.uid(NOBODY).gid(NOBODY);
    }
    let here = tried.output().is_ok_and(|ran| ran.status.success());
    if !here {
        skipped("this host gives users no namespaces, so a command has no /dev/shm of its own");
    }
    here
}

/// Semaphores and shared memory are files of `/dev/shm`, which is a command's own where it is in namespaces.
#[test]
fn processes_share_memory_locks_and_queues() {
    if !present(&["/usr/bin/python3"]) || !namespaces_here() {
        return;
    }
    let ran = scene().same(|_| (), SHARED);
    assert_eq!((ran.status, ran.out.as_str()), (0, "[0, 1, 4, 9, 16, 25]\n600 True\n7\n"), "{ran:?}");
}

const BARE: &str = "set -e
/usr/bin/python3 -m venv --without-pip env
. env/bin/activate
python -c 'import sys; print(sys.prefix != sys.base_prefix)'
mkdir -p env/lib/python3/site-packages; echo 'word = 5' >\"$(python -c 'import site; print(site.getsitepackages()[0])')/own.py\"
python -c 'import own; print(own.word)'";

/// Its `python` is a link into the system, so nothing of the workspace is executed.
#[test]
fn an_environment_is_made_and_used() {
    if !present(&["/usr/bin/python3"]) {
        return;
    }
    let ran = scene().same(|_| (), BARE);
    assert_eq!((ran.status, ran.out.as_str()), (0, "True\n5\n"), "{ran:?}");
    assert!(ran.tree.contains_key("env/pyvenv.cfg"), "{ran:?}");
}

const WITH_PIP: &str = "set -e
/usr/bin/python3 -m venv env
env/bin/pip --version | cut -d' ' -f1
mkdir own; printf '[build-system]\\nrequires = []\\n' >own/pyproject.toml
env/bin/pip list --format=json --disable-pip-version-check | grep -c pip
env/bin/pip check --disable-pip-version-check";

/// The wheel of pip is in the system, so this needs no network either.
#[test]
fn an_environment_with_pip() {
    let Ok(wheels) = std::process::Command::new("/usr/bin/python3").args(["-c", "import ensurepip"]).output() else {
        return assert!(!present(&["/usr/bin/python3"]));
    };
    if !wheels.status.success() {
        return warden_tests::skipped("python3 has no ensurepip; `tools/setup test` installs python3-venv");
    }
    let ran = scene().executing().same(|_| (), WITH_PIP);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(ran.out.starts_with("pip\n") && ran.tree.contains_key("env/bin/pip"), "{ran:?}");
}
