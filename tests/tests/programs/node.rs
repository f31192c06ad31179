//! node and npm: files, children and threads of node; a package that is packed and installed from its archive.

use crate::scene::{Scene, present};

const SCRIPT: &str = "const fs = require('fs'), os = require('os'), path = require('path');
const { execFileSync } = require('child_process');
const { Worker, isMainThread, parentPort } = require('worker_threads');
if (!isMainThread) { parentPort.postMessage(fs.readFileSync('a.txt', 'utf8').length); }
else (async () => {
  fs.mkdirSync('deep/er', { recursive: true });
  fs.writeFileSync('a.txt', 'hello');
  fs.appendFileSync('a.txt', ' there');
  fs.copyFileSync('a.txt', 'deep/b.txt');
  fs.cpSync('deep', 'copy', { recursive: true });
  fs.renameSync('deep/b.txt', 'deep/er/c.txt');
  fs.symlinkSync('a.txt', 'link');
  fs.linkSync('a.txt', 'second');
  fs.chmodSync('copy/b.txt', 0o600);
  fs.truncateSync('deep/er/c.txt', 3);
  fs.utimesSync('a.txt', 1000, 2000);
  console.log(fs.statSync('a.txt').mtimeMs, fs.statSync('second').nlink, fs.realpathSync('link') === path.resolve('a.txt'));
  fs.rmSync('deep/er', { recursive: true });
  console.log(execFileSync('/bin/echo', ['child']).toString().trim(), os.userInfo().username.length > 0);
  const stream = fs.createWriteStream('big.txt');
  for (let n = 0; n < 2000; n++) if (!stream.write('line ' + n + '\\n')) await new Promise(r => stream.once('drain', r));
  await new Promise(r => stream.end(r));
  await fs.promises.writeFile('p.txt', 'promised');
  const counted = await new Promise((yes, no) => new Worker(__filename).once('message', yes).once('error', no));
  console.log(counted, (await fs.promises.readdir('.')).sort().join());
  try { fs.readFileSync('absent'); } catch (e) { console.log(e.code); }
})();
";

#[test]
fn node_works_with_files_children_and_threads() {
    if !present(&["/usr/bin/node"]) {
        return;
    }
    let ran = Scene::new().same(|scene| scene.put("script.js", SCRIPT), "/usr/bin/node script.js");
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(ran.out.starts_with("2000000 2 true\nchild true\n11 ") && ran.out.ends_with("ENOENT\n"), "{ran:?}");
    assert!(ran.tree.contains_key("big.txt") && ran.tree.contains_key("copy/b.txt"), "{ran:?}");
}

fn packages(scene: &Scene) {
    scene.put(
        "part/package.json",
        "{\"name\":\"part\",\"version\":\"1.2.3\",\"main\":\"i.js\",\"bin\":{\"part\":\"bin.js\"},\
         \"scripts\":{\"postinstall\":\"node -e \\\"require('fs').writeFileSync('installed', 'yes')\\\"\"}}\n",
    );
    scene.put("part/i.js", "module.exports = 41;\n");
    scene.put("part/bin.js", "#!/usr/bin/env node\nconsole.log('bin', require('./i.js'));\n");
    scene.put(
        "whole/package.json",
        "{\"name\":\"whole\",\"version\":\"1.0.0\",\"scripts\":{\"test\":\"node -e \\\"process.exit(require('part') - 41)\\\"\",\
         \"go\":\"part\"}}\n",
    );
}

const INSTALLED: &str = "set -e
npm pack --silent --pack-destination . ./part
cd whole
npm install --silent --offline --no-audit --no-fund ../part-1.2.3.tgz
cat node_modules/part/installed; npm test --silent; npm run --silent go
npm ls --silent | tail -n +2; npm uninstall --silent --offline --no-audit --no-fund part; cat package.json";

/// `npm run` executes what lies in `node_modules/.bin`.
#[test]
fn a_package_is_packed_installed_used_and_removed() {
    if !present(&["/usr/bin/node", "/usr/bin/npm"]) {
        return;
    }
    let scene = Scene::new().executing().variable("NO_UPDATE_NOTIFIER", "1");
    let ran = scene.same(packages, INSTALLED);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(ran.out.contains("yesbin 41") && ran.out.contains("part@1.2.3"), "{ran:?}");
    assert!(ran.tree.contains_key("part-1.2.3.tgz") && ran.tree.contains_key("whole/package-lock.json"), "{ran:?}");
}
