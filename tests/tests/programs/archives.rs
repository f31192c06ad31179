//! What keeps and moves files: sqlite3, tar, rsync.

use crate::scene::{Scene, present};

const DATABASE: &str = "set -e
sqlite3 data.db 'create table t (n integer primary key, word text); create index i on t (word);'
sqlite3 data.db \"with recursive c(x) as (select 1 union all select x + 1 from c where x < 500) insert into t select x, 'w' || x from c\"
sqlite3 data.db 'pragma journal_mode = wal; insert into t values (1000, \"wal\"); pragma wal_checkpoint(truncate); pragma journal_mode = delete'
sqlite3 data.db 'begin; delete from t; rollback; select count(*), max(n) from t; delete from t where n > 400; vacuum; pragma integrity_check'
sqlite3 data.db .dump | cksum
sqlite3 data.db '.backup copy.db' 'attach \"copy.db\" as c' 'select count(*) from c.t'
sqlite3 data.db 'select * from absent'; echo $?";

/// Journals are made, locked, mapped and removed beside the database.
#[test]
fn a_database_is_filled_changed_and_copied() {
    if !present(&["/usr/bin/sqlite3"]) {
        return;
    }
    // The shared part of a log is mapped, and its file grows by a page of the machine's.
    let ran = Scene::new().same(|_| (), &DATABASE.replace("absent'; echo", "absent' || echo"));
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(ran.out.contains("501|1000\nok\n") && ran.err.contains("no such table"), "{ran:?}");
    assert!(ran.tree.contains_key("copy.db") && !ran.tree.contains_key("data.db-wal"), "{ran:?}");
}

/// Files of every kind that a workspace with rules may hold, with modes and times of their own.
const KINDS: &str = "set -e
mkdir -p from/a/b; printf one >from/a/one; printf two >from/a/b/two; ln from/a/one from/second; ln -s a/one from/link
ln -s nowhere from/lost; chmod 600 from/a/one; chmod 750 from/a/b; truncate -s 100000 from/hole
printf tail >>from/hole; touch -d 2020-01-02T03:04:05Z from/a/one from/a/b from; touch -h -d 2021-01-02T03:04:05Z from/link
";

const PACKED: &str = "
tar --sort=name --mtime=2020-01-01Z -czf all.tgz from; tar -tzf all.tgz
mkdir to; tar -xpzf all.tgz -C to; tar -df all.tgz -C to >diff.txt || true
mkdir to/piped; tar -cf - -C from . | tar -xf - -C to/piped
tar -Scf sparse.tar from/hole; tar -xSf sparse.tar -C to/from; cmp from/hole to/from/hole
tar -rf sparse.tar from/a; tar --delete -f sparse.tar from/hole; tar -tf sparse.tar; rm sparse.tar
stat -c '%n %a %h %s %Y' to/from/a/one to/from/second to/from/hole; tar -xf absent.tar 2>&1; echo $?";

#[test]
fn a_tree_is_packed_and_unpacked() {
    if !present(&["/usr/bin/tar"]) {
        return;
    }
    let ran = Scene::new().same(|_| (), &format!("{KINDS}{}", PACKED.replace("2>&1; echo", "2>&1 || echo")));
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(ran.out.contains("to/from/a/one 600 2 3 ") && ran.out.ends_with("2\n"), "{ran:?}");
    assert!(ran.tree.contains_key("to/piped/a/b/two") && ran.tree.contains_key("to/from/hole"), "{ran:?}");
}

const MIRRORED: &str = "
rsync -aH --no-owner --no-group from/ to/; printf three >from/a/three; rm from/lost; printf more >>from/a/b/two
rsync -aHiO --no-owner --no-group --delete from/ to/ | sed 's/^\\(.\\)[^ ]*/\\1/'
rsync -rlc --link-dest=../to from/ linked/; rsync -a --remove-source-files --include='*/' --include=three --exclude='*' from/ moved/
rsync -a --inplace from/hole to/hole; rsync -aS from/hole to/sparse; rsync -an --stats from/ to/ | grep -c 'Number of files'
stat -c '%n %a %h %s %Y' to/a/one to/second; stat -c '%n %a %h %s' linked/hole; find moved -type f; rsync -a absent/ to/ 2>/dev/null || echo $?";

/// rsync is three processes with a socket pair between them.
#[test]
fn a_folder_is_mirrored() {
    if !present(&["/usr/bin/rsync"]) {
        return;
    }
    let ran = Scene::new().same(|_| (), &format!("{KINDS}{MIRRORED}"));
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(ran.out.contains("to/a/one 600 4 3 1577934245") && ran.out.ends_with("23\n"), "{ran:?}");
    assert!(ran.tree.contains_key("to/hole") && ran.tree.contains_key("moved/a/three"), "{ran:?}");
}

const TAG: &str = "python3 -c \"import os; os.setxattr('from/one', 'user.tag', b'first'); os.setxattr('from/sub', 'user.tag', b'folder')\"";

const TAGGED: &str = "
cp -a from copied; cp --preserve=xattr from/one again; rsync -aX --no-owner --no-group from/ mirrored/
tar --xattrs -cf all.tar from; tar --xattrs -tf all.tar; mkdir unpacked; tar --xattrs -xf all.tar -C unpacked; rm all.tar
cp from/one plain
python3 -c \"
import os
for p in ['copied/one', 'copied/sub', 'again', 'mirrored/one', 'mirrored/sub', 'unpacked/from/one', 'unpacked/from/sub', 'plain']:
    print(p, [os.getxattr(p, n).decode() for n in os.listxattr(p) if n.startswith('user.')])\"";

/// Lost attributes are told by nobody: each of these goes on without them.
#[test]
fn attributes_are_kept() {
    if !present(&["/usr/bin/rsync", "/usr/bin/tar", "/usr/bin/python3"]) {
        return;
    }
    let (scene, made) = (Scene::new(), "set -e\nmkdir -p from/sub; printf one >from/one; printf two >from/sub/two\n");
    if scene.only_outside(|_| (), &format!("{made}{TAG}")).status != 0 {
        warden_tests::skipped("attributes of files: this file system has none");
        return;
    }
    let ran = scene.same(|_| (), &format!("{made}{TAG}{TAGGED}"));
    assert_eq!(ran.status, 0, "{ran:?}");
    for kept in ["copied/one", "again", "mirrored/one", "unpacked/from/one"] {
        assert!(ran.out.contains(&format!("{kept} ['first']\n")), "{ran:?}");
    }
    for kept in ["copied/sub", "mirrored/sub", "unpacked/from/sub"] {
        assert!(ran.out.contains(&format!("{kept} ['folder']\n")), "{ran:?}");
    }
    assert!(ran.out.contains("plain []\n"), "the control: {ran:?}");
}
