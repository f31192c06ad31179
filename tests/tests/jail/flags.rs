//! The flags that are named as a policy's keys: without a policy they are the policy, within one they only narrow (T-10).
//! What they lift is told where it is refused.

use crate::{bare, end, place, printed};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use warden_tests::{NOBODY, Place, Ran};

/// `git init` with a home that says nothing of anybody's.
const INIT: [&str; 4] = ["git", "init", "-q", "r"];

fn has_git() -> bool {
    std::path::Path::new("/usr/bin/git").exists()
}

#[test]
fn git_init_says_which_flag_it_needs_and_works_with_it() {
    if !has_git() {
        return warden_tests::skipped("git is not installed");
    }
    let place = Place::of_user();
    let init = |more: &[&str]| {
        let mut command = bare(&place, &[&["--workspace", "."], more, &["--"], &INIT].concat());
        command.current_dir(place.path("work"));
        end(command)
    };
    let ran = init(&[]);
    assert_ne!(ran.status, 0, "{ran:?}");
    assert!(ran.err.contains("deny_write.builtin[") && ran.err.contains("--allow-run-later lifts it"), "{ran:?}");
    fs::remove_dir_all(place.path("work/r")).unwrap();
    let ran = init(&["--allow-run-later"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(!ran.err.contains("denied") && place.path("work/r/.git/config").is_file(), "{ran:?}");
}

#[test]
fn what_flags_deny_is_denied_and_what_they_bound_is_bounded() {
    let place = Place::of_user();
    place.put("work/.env", "SECRET");
    place.put("work/Makefile", "all:");
    place.put("work/a.txt", "plain");
    let ran = |flags: &[&str], script: &str| {
        let mut command = bare(&place, &[&["--workspace", "."], flags, &["--", "sh", "-c", script]].concat());
        command.current_dir(place.path("work"));
        end(command)
    };
    let rules = ["--deny", "**/.env", "--deny-write", "Makefile"];
    let told = ran(&rules, "cat a.txt .env; cat Makefile; echo x > Makefile; echo x > new && echo made");
    assert_eq!(told.out, "plainall:made\n", "{told:?}");
    for said in ["task:fs.workspace.workspace.deny[0]", "it is one of --deny)", "it is one of --deny-write)"] {
        assert!(told.err.contains(said), "{said}: {told:?}");
    }
    // The control: the same without the flags.
    assert_eq!(ran(&[], "cat .env; echo x > Makefile && echo made").out, "SECRETmade\n");
    // 64 KiB where 4 are allowed, and where they are.
    let write = "head -c 65536 /dev/zero > big";
    let told = ran(&["--max-file", "4KiB"], write);
    assert!(told.status != 0 && told.err.contains("give more with --max-file"), "{told:?}");
    assert_eq!(fs::metadata(place.path("work/big")).unwrap().len(), 4096);
    assert_eq!(ran(&["--max-file", "1MiB"], write).status, 0);
    let told = ran(&["--fs-written", "4KiB"], "head -c 65536 /dev/zero > other");
    assert!(told.status != 0 && told.err.contains("--fs-written"), "{told:?}");
    assert_eq!(ran(&["--fs-written", "1MiB"], "head -c 65536 /dev/zero > other").status, 0);
    for (flags, words) in [(["--deny", "["], "--deny"), (["--max-file", "lots"], "--max-file")] {
        let told = ran(&flags, "true");
        assert!(told.status == 2 && told.err.contains(words), "{told:?}");
    }
    let nowhere = end(bare(&place, &["--deny", "x", "--", "true"]));
    assert!(nowhere.status == 2 && nowhere.err.contains("--workspace"), "{nowhere:?}");
}

#[test]
fn programs_of_a_workspace_run_where_a_flag_says_so() {
    let place = Place::of_user();
    let tool = place.put("work/tool", "#!/bin/sh\necho ran\n");
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
    let ran = |flags: &[&str]| {
        let mut command = bare(&place, &[&["--workspace", "."], flags, &["--", "sh", "-c", "./tool"]].concat());
        command.current_dir(place.path("work"));
        end(command)
    };
    assert_eq!(ran(&[]).status, 126, "as a shell says of what may not be executed");
    let with = ran(&["--exec-workspace"]);
    assert_eq!((with.status, with.out.as_str()), (0, "ran\n"), "{with:?}");
}

#[test]
fn within_a_policy_flags_narrow_and_what_asks_for_more_names_both_rules() {
    let place = place("");
    place.put("work/.env", "SECRET");
    let with = |flags: &[&str], script: &str| -> Ran {
        let words = [&["jail", "--policy", "warden.toml"], flags, &["--", "sh", "-c", script]].concat();
        end(place.command(&words))
    };
    let wide = |flags: &[&str], task: &str, user: &str| {
        let ran = with(flags, "true");
        assert!(ran.status == 126 && ran.err.contains(task) && ran.err.contains(user), "{flags:?}: {ran:?}");
    };
    let (own, key) = ("task:fs.workspace.work", "user:fs.workspace.work");
    wide(&["--allow-run-later"], own, &format!("{key}.allow_run_later"));
    wide(&["--max-file", "1GiB"], own, &format!("{key}.max_file"));
    wide(&["--exec-workspace"], "task:proc.command.sh", "user:proc.command.sh.exec_workspace");
    let ran = with(&["--deny", "**/.env"], "cat .env || echo kept");
    assert_eq!(ran.out, "kept\n", "{ran:?}");
    assert!(ran.err.contains("task:fs.workspace.work.deny[0]"), "{ran:?}");
    // A rule of the policy is lifted where the policy says it.
    let ran = with(&[], "cat .env; mkdir -p .git/hooks; echo x > .git/hooks/h || echo kept");
    assert_eq!(ran.out, "SECRETkept\n", "the control: the flag was what denied it: {ran:?}");
    assert!(
        ran.err.contains("see `allow_run_later = true` of [[fs.workspace]] `work` in")
            && ran.err.contains("warden.toml"),
        "{ran:?}"
    );
    let ran = with(&["--max-file", "4KiB"], "head -c 65536 /dev/zero > big");
    assert!(ran.status != 0 && ran.err.contains("task:fs.workspace.work.max_file"), "{ran:?}");
    // As limits everywhere: the least, and who asked for more is told.
    let ran = with(&["--fs-written", "1TiB"], "true");
    assert!(ran.status == 0 && ran.err.contains("task:limits.fs_written asks for"), "{ran:?}");
}

#[test]
fn only_the_commands_that_are_named_run() {
    let place = Place::of_user();
    let ran = end(bare(&place, &["--allow-proc", "sh", "--", "ls", "/"]));
    assert!(ran.status == 126 && ran.out.is_empty() && ran.err.contains("default-deny"), "{ran:?}");
    for named in [&["--allow-proc", "sh", "--allow-proc", "echo"][..], &["--allow-proc", "/usr/bin/echo"], &[]] {
        assert_eq!(printed(bare(&place, &[named, &["--", "echo", "ran"]].concat())), "ran\n", "{named:?}");
    }
    assert_eq!(printed(bare(&place, &["--allow-proc", "echo", "--", "/usr/bin/echo", "ran"])), "ran\n");
}

/// A shell of the person's own, in `work`, with `$warden` in its environment.
fn shell(place: &Place, script: &str) -> Command {
    let own = bare(place, &[]);
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", script]).current_dir(place.path("work")).env_clear().env("warden", own.get_program());
    shell.envs(own.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))));
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if warden_tests::is_root() {
        shell.uid(NOBODY).gid(NOBODY);
    }
    shell
}

/// The folder that the person stands in may be gone: what needs none of it runs.
#[test]
fn a_removed_folder_is_no_reason_not_to_run() {
    let place = Place::of_user();
    let out =
        printed(shell(&place, "mkdir gone && cd gone && rmdir ../gone && $warden jail -- sh -c 'pwd; echo $HOME'"));
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines.len() == 2 && lines[0] == lines[1], "{out}");
    // What is named by the folder is not found, and that is said.
    let ran = end(shell(&place, "mkdir gone && cd gone && rmdir ../gone && $warden jail --workspace . true"));
    assert!(ran.status == 2 && ran.err.contains("current directory"), "{ran:?}");
}

/// What a person's command makes has the modes that it would have outside.
#[test]
fn the_callers_umask_holds() {
    let place = Place::of_user();
    for (mask, file, folder) in [(0o077, 0o600, 0o700), (0o002, 0o664, 0o775), (0o022, 0o644, 0o755)] {
        let script = format!(
            "umask {mask:03o}; $warden jail --workspace . -- sh -c 'touch f{mask} $HOME/g; mkdir d{mask}; stat -c %a $HOME/g'"
        );
        assert_eq!(printed(shell(&place, &script)).trim(), format!("{file:o}"));
        let mode = |name: String| fs::metadata(place.path(&name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(format!("work/f{mask}")), file, "umask {mask:o}");
        assert_eq!(mode(format!("work/d{mask}")), folder, "umask {mask:o}");
    }
}

#[test]
fn few_open_files_are_enough_and_too_few_are_told() {
    let place = Place::of_user();
    for most in [4096, 512, 300, 128] {
        let script = format!("ulimit -n {most}; $warden jail --workspace . -- sh -c 'echo made > n{most}; ulimit -n'");
        let ran = end(shell(&place, &script));
        assert_eq!((ran.status, ran.out.trim()), (0, most.to_string().as_str()), "{ran:?}");
        assert_eq!(place.read(&format!("work/n{most}")), "made\n");
    }
    let ran = end(shell(&place, "ulimit -n 100; $warden jail true"));
    assert!(ran.status == 125 && ran.err.contains("100 open files") && ran.err.contains("ulimit -Hn"), "{ran:?}");
}

/// `nohup` and its like: who was started to ignore the end of the terminal goes on.
#[test]
fn a_command_that_is_to_outlive_its_terminal_does() {
    let place = Place::of_user();
    let ran = |before: &str| {
        let job = "$warden jail --workspace . -- sh -c 'touch up; sleep 1; echo over'";
        let script =
            format!("{before}; rm -f up; {job} & while ! test -e up; do sleep 0.02; done; kill -HUP $!; wait $!");
        end(shell(&place, &script))
    };
    let stays = ran("trap '' HUP");
    assert_eq!((stays.status, stays.out.as_str()), (0, "over\n"), "{stays:?}");
    let ends = ran(":");
    assert_eq!((ends.status, ends.out.as_str()), (129, ""), "{ends:?}");
}
