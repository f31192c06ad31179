//! What looks and edits: find, ripgrep, vim, and the small tools of every script.

use crate::scene::{Scene, present};

fn texts(scene: &Scene) {
    for number in 0..40 {
        let text = if number % 7 == 0 { "needle in hay\n" } else { "only hay\n" };
        scene.put(&format!("dir{}/sub/file{number}.txt", number % 4), text);
    }
    scene.put("dir0/.hidden/note.md", "a needle hidden\n");
    scene.put("ignored.log", "needle that is ignored\n");
    scene.put(".ignore", "*.log\n");
}

const FOUND: &str = "find . -name 'file1*' | sort; find . -type d | wc -l; find . -size -10c -name '*.txt' | wc -l
find . -name file7.txt -exec sha256sum {} +; find . -name '*.txt' -print0 | xargs -0 -n 9 cat | sort | uniq -c
find dir3 -name '*.txt' -delete; find . -empty -type d; find . -newer .ignore -name nothing; find dir1 -maxdepth 2 -printf '%P %y %m\\n' | sort
find . -type f -perm -u=w | wc -l; find absent 2>/dev/null; echo $?";

#[test]
fn find_walks_acts_and_deletes() {
    if !present(&["/usr/bin/find", "/usr/bin/xargs"]) {
        return;
    }
    let ran = Scene::new().same(texts, FOUND);
    assert!(ran.out.contains("./dir3/sub\n") && ran.out.ends_with("1\n"), "{ran:?}");
    assert!(!ran.tree.contains_key("dir3/sub/file3.txt"), "{ran:?}");
}

const SEARCHED: &str =
    "rg -n --sort path needle; rg -c needle -j 4 | sort; rg --files | sort | wc -l; rg --hidden -l --sort path needle
rg -l --no-ignore --sort path needle .; rg -U --sort path 'needle in hay\\n$' -c; rg absent; echo $?";

#[test]
fn ripgrep_searches_with_threads() {
    if !present(&["/usr/bin/rg"]) {
        return;
    }
    let ran = Scene::new().same(texts, SEARCHED);
    assert!(ran.out.starts_with("dir0/sub/file0.txt:1:needle in hay\n") && ran.out.ends_with("1\n"), "{ran:?}");
}

const EDITED: &str = "vim=/usr/bin/vim; [ -x $vim ] || vim=/usr/bin/vim.tiny
$vim -es -u NONE -i NONE -c '%s/hay/straw/' -c 'wq' dir0/sub/file0.txt; echo $?
$vim -es -u NONE -i NONE -c 'set backup writebackup' -c 'normal ggdd' -c 'normal Onew line' -c 'w! copy.txt' -c 'q!' dir1/sub/file1.txt; echo $?
printf 'append\\nlast\\n.\\nwq\\n' | $vim -es -u NONE -i NONE dir2/sub/file2.txt; echo $?
cat dir0/sub/file0.txt copy.txt dir2/sub/file2.txt; $vim -es -u NONE -i NONE -c 'cquit'; echo $?";

#[test]
fn vim_edits_by_script() {
    if !std::path::Path::new("/usr/bin/vim").exists() && !present(&["/usr/bin/vim.tiny"]) {
        return;
    }
    let ran = Scene::new().same(texts, EDITED);
    assert!(ran.out.contains("needle in straw\n") && ran.out.contains("only hay\nlast\n"), "{ran:?}");
    assert!(ran.tree.contains_key("copy.txt"), "{ran:?}");
    assert!(!ran.tree.keys().any(|name| name.ends_with(".swp")), "{ran:?}");
}

const SCRIPTED: &str = "set -e
mkdir -p a/b; cp -a dir0 a/copied; mv a/copied a/moved; cp -r dir1/sub a/b/; rm -r a/b/sub; install -m 640 ignored.log a/b/log
sed -i 's/needle/pin/' ignored.log; sort -o sorted dir*/sub/*.txt; split -n 3 sorted part.; cat part.* | cmp - sorted
ln -sf ../.ignore a/up; readlink a/up; realpath --relative-to=. a/up; tee a/t1 a/t2 <ignored.log >/dev/null; truncate -s 5 a/t2
mktemp -p a -d fix.XXXX >name; rmdir \"$(cat name)\"; rm name; chmod -R go-rwx a/moved; chmod a-w a/t1; touch -r .ignore a/t2
dd if=/dev/zero of=zeros bs=4096 count=3 2>/dev/null; dd if=sorted of=zeros bs=10 seek=2 count=1 conv=notrunc 2>/dev/null; cksum zeros
echo text | gzip -n >t.gz; gunzip t.gz; diff -r dir0 a/moved && echo same; du -s --apparent-size -b a/t2 | cut -f1; (exec 3<>a/t2; echo x >&3)
flock lock echo locked; awk 'END { print NR }' sorted; head -c 20 sorted; stat -c '%a %s %F' a/t1 a/up; ( : >a/t1 ) 2>&1 || echo refused";

#[test]
fn the_small_tools_of_every_script() {
    let ran = Scene::new().same(texts, SCRIPTED);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(ran.out.contains("locked\n") && ran.out.ends_with("refused\n"), "{ran:?}");
    assert!(ran.tree.contains_key("a/moved/sub/file0.txt") && ran.tree.contains_key("a/b/log"), "{ran:?}");
}
