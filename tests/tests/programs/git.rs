//! git: repositories made, cloned, changed, joined, cleaned up.

use crate::scene::{Scene, present};
use crate::tree::Leave;

/// Who commits and when, so that two runs make the same commits.
fn scene() -> Scene {
    let mut scene = Scene::new();
    for (name, value) in [
        ("GIT_AUTHOR_NAME", "Ada"),
        ("GIT_AUTHOR_EMAIL", "ada@example.org"),
        ("GIT_AUTHOR_DATE", "2026-01-02T03:04:05Z"),
        ("GIT_COMMITTER_NAME", "Ada"),
        ("GIT_COMMITTER_EMAIL", "ada@example.org"),
        ("GIT_COMMITTER_DATE", "2026-01-02T03:04:05Z"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_TERMINAL_PROMPT", "0"),
    ] {
        scene = scene.variable(name, value);
    }
    // The index holds times and numbers of inodes.
    scene.leaving(|path| if path.ends_with("/index") { Leave::Contents } else { Leave::Nothing })
}

fn files(scene: &Scene) {
    scene.put("repo/src/a.txt", "one\ntwo\nthree\n");
    scene.put("repo/run.sh", "#!/bin/sh\necho ran\n");
    scene.put("repo/.gitignore", "*.o\n");
    scene.put("repo/src/x.o", "ignored");
}

const MADE: &str = "set -e
cd repo; chmod +x run.sh; ln -s src/a.txt link
git init -q -b main .
git add -A; git commit -q -m first
git clone -q \"$PWD\" ../clone
cd ../clone
echo four >>src/a.txt; git status --short --branch; git commit -qam second
git worktree add -q -b side ../tree
cd ../tree; echo side >side.txt; git add side.txt; git commit -qm side
cd ../clone; git merge -q --no-edit side; git worktree list | wc -l; git worktree remove ../tree
echo loose >>src/a.txt; git stash -q; git stash pop -q; git diff --stat; git checkout -q -- src/a.txt
git tag -a -m release v1; git mv run.sh go.sh; git commit -qm moved
git init -q --bare ../bare.git; git push -q ../bare.git main v1
git -c pack.threads=1 gc -q --prune=now; git fsck --strict
git log --oneline --graph --all; git count-objects -v | grep -v size; git status --porcelain=v2 --branch";

/// A workspace in which what would run later may be written: `git init` and `git clone` write `.git/config` and the hooks.
#[test]
fn a_repository_is_made_cloned_changed_and_packed() {
    if !present(&["/usr/bin/git"]) {
        return;
    }
    let ran = scene().rule("allow_run_later = true").same(files, MADE);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(ran.out.contains("moved") && ran.out.contains("in-pack: "), "{ran:?}");
    assert!(ran.tree.contains_key("clone/go.sh") && ran.tree.contains_key("bare.git/refs/tags/v1"), "{ran:?}");
    assert!(!ran.tree.contains_key("tree"), "the worktree was removed");
}

const WORKED: &str = "set -e
cd repo
echo four >>src/a.txt; git status --short; git add -A; git commit -q -m second
git worktree add -q -b side ../tree
cd ../tree; echo side >side.txt; git add side.txt; git commit -qm side
cd ../repo; git merge -q --no-edit side; git worktree remove ../tree
git rm -q src/a.txt; git reset -q --hard; git -c pack.threads=1 gc -q; git log --oneline; git status --short";

/// The rules that a workspace has anyhow: in a repository that is there, work goes on.
#[test]
fn in_a_repository_that_is_there_work_goes_on() {
    if !present(&["/usr/bin/git"]) {
        return;
    }
    let first = "cd repo && git init -q -b main . && git add -A && git commit -q -m first";
    let build = |scene: &Scene| {
        files(scene);
        scene.prepare(first);
    };
    let ran = scene().same(build, WORKED);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(ran.out.contains("second") && ran.tree.contains_key("repo/side.txt"), "{ran:?}");
}
