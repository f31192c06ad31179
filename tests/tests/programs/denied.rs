//! The same programs under `deny = ["**/.env"]` and `deny_write = ["Makefile"]`: what the rules forbid fails as a program
//! expects it, and all else goes on (T-01, T-07).
//!
//! The control is the same script outside of the jail, where it reads the one and changes the other.

use crate::rust::crate_scene;
use crate::scene::{Scene, present};

const SECRET: &str = "SECRET=kept";
const MAKEFILE: &str = "all: ; @echo made\nchange: ; echo changed >>Makefile\n";

fn ruled(scene: Scene) -> Scene {
    scene.rule("deny = [\"**/.env\"]").rule("deny_write = [\"Makefile\"]")
}

fn files(scene: &Scene) {
    scene.put(".env", &format!("{SECRET}\n"));
    scene.put("sub/.env", &format!("{SECRET}\n"));
    scene.put("Makefile", MAKEFILE);
    scene.put("plain.txt", "plain text\n");
    scene.put("sub/other.txt", "other text\n");
}

/// What one of the two secrets says, and what a change of the Makefile comes to: seen outside, not inside. `allowed` are
/// lines that come all the same.
#[track_caller]
fn kept(scene: Scene, build: impl Fn(&Scene), script: &str, allowed: &[&str]) {
    let scene = ruled(scene);
    let all = |scene: &Scene| {
        files(scene);
        build(scene);
    };
    let outside = scene.only_outside(all, script);
    let changed = scene.read("Makefile").is_none_or(|text| text != MAKEFILE);
    assert!(outside.out.contains(SECRET), "the control reads it: {outside:?}");
    assert!(changed, "the control changes it: {outside:?}");
    let inside = scene.only_inside(all, script);
    assert!(!inside.out.contains(SECRET) && !inside.err.contains(SECRET), "{inside:?}");
    for name in [".env", "sub/.env"] {
        assert_eq!(scene.read(name).as_deref(), Some("SECRET=kept\n"), "{name}: {inside:?}");
    }
    assert_eq!(scene.read("Makefile").as_deref(), Some(MAKEFILE), "{inside:?}");
    for line in allowed {
        assert!(inside.out.contains(line), "{line:?} is allowed: {inside:?}");
        assert!(outside.out.contains(line), "{line:?} outside: {outside:?}");
    }
    let said = format!("{}{}", inside.out, inside.err).to_lowercase();
    let errno = ["permission denied", "eacces", "read-only file system", "erofs", "can't open", "error code: 13"];
    assert!(errno.iter().any(|text| said.contains(text)), "an errno that programs know: {inside:?}");
    scene.nothing_else_holds(SECRET, &[".env", "sub/.env"]);
}

const SHELL: &str = "cat .env sub/.env; cat sub/../.env; cat \"$PWD/.env\"; cp .env copy; cat copy; ln .env hard; cat hard; ln -s .env soft; cat soft
mv .env moved; cat moved; cat /proc/self/cwd/.env; (exec 3<.env; cat <&3); dd if=.env status=none
echo x >>Makefile; echo x >Makefile; sed -i s/all/none/ Makefile; rm -f Makefile; mv plain.txt Makefile; echo z >z; ln -f z Makefile
truncate -s 0 Makefile; chmod 0 Makefile; touch -d 2001-01-01 Makefile; mv Makefile away.mk; tee Makefile </dev/null; rm -f .env; chmod 777 .env; mv sub away; cat away/.env; mv away sub
cat plain.txt; cat sub/other.txt; echo new >new.txt && cat new.txt; make -s 2>/dev/null; echo on";

#[test]
fn the_shells_tools() {
    kept(Scene::new(), |_| (), SHELL, &["other text", "new\n", "on\n"]);
}

const PYTHON: &str = "/usr/bin/python3 - <<'END'
import errno, os, pathlib, shutil
def t(name, act):
  try: print(name, act())
  except OSError as e: print(name, errno.errorcode[e.errno])
t('read', lambda: open('.env').read())
t('deep', lambda: pathlib.Path('sub/.env').read_text())
t('copy', lambda: open(shutil.copy('.env', 'copied')).read())
t('fd', lambda: os.read(os.open('.env', os.O_RDONLY, dir_fd=os.open('.', os.O_PATH)), 99))
t('append', lambda: open('Makefile', 'a').write('x'))
t('replace', lambda: os.replace('plain.txt', 'Makefile'))
t('mode', lambda: os.chmod('Makefile', 0o600))
t('unlink', lambda: os.unlink('Makefile'))
t('make', lambda: open('sub/Makefile', 'w').write('yes'))
t('plain', lambda: open('sub/other.txt').read())
t('readable', lambda: not os.path.exists('Makefile') or open('Makefile').read()[:4] == 'all:' or 'x')
END";

#[test]
fn python() {
    if present(&["/usr/bin/python3"]) {
        kept(Scene::new(), |_| (), PYTHON, &["make 3", "plain other text"]);
    }
}

const GIT: &str = "git config user.name A; git config user.email a@b.c; git add plain.txt sub/other.txt && git commit -q -m one && git log --format=%s
git add .env; git show :.env; git add -f sub/.env; git show :sub/.env; git hash-object -w .env; git mv -f plain.txt Makefile
git grep --no-index -h SECRET; echo more >>plain2.txt; git add plain2.txt; git commit -q -m two; git log --format=%s | head -1";

#[test]
fn git() {
    if present(&["/usr/bin/git"]) {
        let scene = Scene::new().rule("allow_run_later = true").variable("GIT_CONFIG_NOSYSTEM", "1");
        kept(scene, |scene| scene.prepare("git init -q -b main ."), GIT, &["one\n", "two\n"]);
    }
}

const MAKE: &str = "make -s all; make -s change; printf 'include .env\\nshow: ; @echo $(SECRET) SECRET=$(SECRET)\\n' >other.mk; make -s -f other.mk show
printf '#include \".env\"\\n' >e.c; cc -E -P e.c; cc -o Makefile -x c - <<'END'
int main(void) { return 0; }
END
printf 'int main(void) { return 7; }\\n' >seven.c; cc -o seven seven.c && ./seven; echo $?";

#[test]
fn make_and_gcc() {
    if present(&["/usr/bin/make", "/usr/bin/cc"]) {
        kept(Scene::new().executing(), |_| (), MAKE, &["made\n", "7\n"]);
    }
}

const CARGO: &str = "cd crate; cargo build --offline --quiet && ./target/debug/small
printf 'fn main() { println!(\"%%s\", include_str!(\"../../.env\")); }' | sed s/%s/{}/ >src/main.rs; cargo run --offline --quiet
printf 'fn main() { println!(\"{:?}\", std::fs::write(\"../Makefile\", \"changed\")); }' >src/main.rs; cargo run --offline --quiet";

#[test]
fn cargo() {
    if !present(&["/usr/bin/cc"]) {
        return;
    }
    let Some(scene) = crate_scene() else { return };
    let build = |scene: &Scene| {
        scene.put("crate/Cargo.toml", "[package]\nname = \"small\"\nversion = \"0.1.0\"\nedition = \"2024\"\n");
        scene.put("crate/src/main.rs", "fn main() {\n    println!(\"built\");\n}\n");
    };
    kept(scene, build, CARGO, &["built\n"]);
}

const NODE: &str = "node -e \"const fs = require('fs'); for (const act of [
() => fs.readFileSync('.env', 'utf8'), () => (fs.copyFileSync('sub/.env', 'c'), fs.readFileSync('c', 'utf8')), () => fs.appendFileSync('Makefile', 'x'),
() => fs.rmSync('Makefile'), () => fs.readFileSync('sub/other.txt', 'utf8'), () => fs.writeFileSync('made', 'y') ?? fs.readFileSync('made', 'utf8')])
try { console.log(act()) } catch (e) { console.log(e.code) }\"";

#[test]
fn node() {
    if present(&["/usr/bin/node"]) {
        kept(Scene::new(), |_| (), NODE, &["other text", "y\n"]);
    }
}

const NPM: &str =
    "mkdir p; mv sub/other.txt p/; cp .env p/kept.txt; printf '{\"name\":\"p\",\"version\":\"1.0.0\"}' >p/package.json
npm pack --silent ./p; tar -xzOf p-1.0.0.tgz package/kept.txt package/other.txt; cp p-1.0.0.tgz Makefile; cat .env";

#[test]
fn npm() {
    if present(&["/usr/bin/npm"]) {
        kept(Scene::new(), |_| (), NPM, &["p-1.0.0.tgz\n", "other text"]);
    }
}

const SQLITE: &str = "sqlite3 d.db 'create table t (x)' '.mode list' '.import .env t' 'select x from t'
sqlite3 d.db 'select readfile(\"sub/.env\")'; sqlite3 d.db '.output Makefile' 'select 1'; sqlite3 d.db 'insert into t values (\"fine\")' 'select x from t'; cat .env";

#[test]
fn sqlite() {
    if present(&["/usr/bin/sqlite3"]) {
        kept(Scene::new(), |_| (), SQLITE, &["fine\n"]);
    }
}

const TAR: &str = "tar -cf all.tar . --exclude=all.tar; tar -xOf all.tar ./.env; tar -xOf all.tar ./sub/.env; tar -xOf all.tar ./sub/other.txt
mkdir in; echo evil >in/Makefile; echo good >in/good.txt; tar -cf in.tar -C in .; tar -xf in.tar; cat good.txt; tar --overwrite -xf in.tar";

#[test]
fn tar() {
    if present(&["/usr/bin/tar"]) {
        kept(Scene::new(), |_| (), TAR, &["other text\n", "good\n"]);
    }
}

const RSYNC: &str = "rsync -a --exclude=/to ./ to/; cat to/.env; cat to/sub/.env; cat to/sub/other.txt; mkdir in; echo evil >in/Makefile; echo good >in/good.txt
rsync -a in/ ./; rsync -a --inplace in/ ./; cat good.txt";

#[test]
fn rsync() {
    if present(&["/usr/bin/rsync"]) {
        kept(Scene::new(), |_| (), RSYNC, &["other text\n", "good\n"]);
    }
}

const FIND: &str = "find . -name .env -exec cat {} +; find . -type f -exec grep -h SECRET {} +; find . -name '*.txt' -exec cat {} +; find . -maxdepth 1 -name Makefile -delete; grep -rh SECRET .";

#[test]
fn find() {
    if present(&["/usr/bin/find"]) {
        kept(Scene::new(), |_| (), FIND, &["other text\n", "plain text\n"]);
    }
}

const RIPGREP: &str = "rg --hidden --no-ignore -N -I SECRET; rg -N -I text | sort; echo x >>Makefile";

#[test]
fn ripgrep() {
    if present(&["/usr/bin/rg"]) {
        kept(Scene::new(), |_| (), RIPGREP, &["other text\n", "plain text\n"]);
    }
}

const VIM: &str = "vim=/usr/bin/vim; [ -x $vim ] || vim=/usr/bin/vim.tiny; v() { $vim -es -u NONE -i NONE \"$@\"; echo; }
v -c 'r .env' -c 'w! got.txt' -c 'q!' plain.txt; cat got.txt; v -c '%s/all/none/' -c 'wq!' Makefile; v -c 'set backupcopy=no' -c 'normal ggdd' -c 'x!' Makefile
v -c '%s/other/edited/' -c 'wq' sub/other.txt; cat sub/other.txt; cat .env";

#[test]
fn vim() {
    if std::path::Path::new("/usr/bin/vim").exists() || present(&["/usr/bin/vim.tiny"]) {
        kept(Scene::new(), |_| (), VIM, &["edited text\n"]);
    }
}
