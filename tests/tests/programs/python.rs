//! python3: the tests of a package, and virtual environments.

use crate::scene::{Scene, present};
use crate::tree::Leave;

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
