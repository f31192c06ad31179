//! What a command is given: by flags where there is no policy, by a policy where there is one, and never more than each
//! says (T-10).

use crate::{bare, end, jail, place, printed, sh};
use std::fs;
use warden_tests::{Place, Ran};

#[test]
fn without_a_policy_the_command_has_the_system_and_a_private_directory() {
    let place = Place::of_user();
    place.put("work/a.txt", "of the workspace");
    let look = |path: &str| end(bare(&place, &["cat", path]));
    assert_eq!(look("/etc/os-release").status, 0);
    let work = place.path("work/a.txt");
    for closed in [work.to_str().unwrap(), "/etc/shadow", "/etc/ssh/sshd_config", "/proc/1/environ"] {
        let ran = look(closed);
        assert!(ran.status == 1 && ran.out.is_empty(), "{closed}: {ran:?}");
    }
    let text =
        printed(bare(&place, &["sh", "-c", "pwd; echo $HOME; touch x && ls; env | sort | cut -d= -f1 | tr '\\n' ' '"]));
    let lines: Vec<&str> = text.lines().collect();
    // In namespaces it has a name of its own.
    let named = lines[0] == "/home/command" || lines[0].contains("scratch-");
    assert!(lines[0] == lines[1] && named && lines[2] == "x", "{text}");
    assert_eq!(lines[3].trim(), "HOME LANG PATH PWD TMPDIR", "nothing of the person's environment (T-08)");
    let left = fs::read_dir(place.path("run/wasi-warden")).unwrap().flatten().count();
    assert_eq!(left, 0, "the private directory is gone");
}

#[test]
fn a_workspace_is_given_with_its_mode_and_the_command_starts_where_the_person_stands() {
    let place = Place::of_user();
    place.put("work/inner/a.txt", "of the workspace");
    place.put("other/b.txt", "beside it");
    let ran = |workspace: &str, folder: &str, more: &[&str], script: &str| {
        let words = [&["--workspace", workspace], more, &["sh", "-c", script]].concat();
        let mut command = bare(&place, &words);
        command.current_dir(place.path(folder));
        end(command)
    };
    let work = place.path("work");
    let read_only = format!("{}:ro", work.display());
    // Where the person stands; else the workspace.
    for (folder, expected) in [("work/inner", "work/inner"), ("work", "work"), ("other", "work")] {
        let ran = ran(&read_only, folder, &[], "pwd");
        assert_eq!(ran.out.trim(), place.path(expected).to_str().unwrap(), "{folder}: {ran:?}");
    }
    let text = ran("inner:ro", "work", &[], "cat a.txt; cat ../../other/b.txt; echo x > new; ls ..");
    assert!(text.out == "of the workspace" && text.status != 0, "{text:?}");
    assert!(!place.path("work/inner/new").exists());
    // Writing is for who says that it is to be, within the rules that are built in.
    let script = "echo x > new && cat new; mkdir -p .git/hooks; echo evil > .git/hooks/h || echo kept";
    let ran = ran(work.to_str().unwrap(), "work", &[], script);
    assert_eq!((ran.out.as_str(), ran.status), ("x\nkept\n", 0), "{ran:?}");
    assert!(!place.path("work/.git/hooks/h").exists());
    // Who did it is told what was refused, and by which rule.
    assert!(
        ran.err.contains("denied") && ran.err.contains(".git/hooks/h") && ran.err.contains("deny_write"),
        "{ran:?}"
    );
}

#[test]
fn a_program_in_a_folder_that_the_command_could_write_is_refused() {
    let place = Place::of_user();
    let script = place.put("work/tool", "#!/bin/sh\necho ran\n");
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let own = script.to_str().unwrap();
    let ran = end(bare(&place, &["--workspace", "work", own]));
    assert!(ran.status == 2 && ran.err.contains("workspace"), "T-10: {ran:?}");
    assert_eq!(printed(bare(&place, &["--workspace", "work:ro", own])), "ran\n");
    assert_eq!(printed(bare(&place, &[own])), "ran\n");
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let ran = end(bare(&place, &[own]));
    assert!(ran.status == 2 && ran.err.contains("refused"), "T-10: others could replace it: {ran:?}");
}

#[test]
fn a_policy_decides_on_name_path_arguments_and_environment() {
    let place = place("");
    assert_eq!(printed(jail(&place, &["fixed", "two", "x"])), "two x\n");
    assert_eq!(printed(jail(&place, &["/usr/bin/echo", "one"])), "one\n", "the very file of a command of the policy");
    assert_eq!(printed(sh(&place, "echo $FIXED; pwd")), format!("of the policy\n{}\n", place.path("work").display()));
    let refused = |words: &[&str], rule: &str| {
        let ran = end(jail(&place, words));
        assert!(ran.status == 126 && ran.err.contains(rule) && ran.out.is_empty(), "{words:?}: {ran:?}");
    };
    refused(&["fixed", "three"], "user:proc.command.fixed.args");
    refused(&["fixed"], "user:proc.command.fixed.args");
    refused(&["ls"], "default-deny");
    refused(&["/usr/bin/ls"], "default-deny");
    refused(&["echo", "one"], "default-deny");
    let object =
        end(place.command(&["--json", "jail", "--policy", "warden.toml", "fixed", "three"])).fails("denied", 126);
    assert_eq!(object["denials"][0]["capability"], "proc.spawn", "{object}");
    assert_eq!(object["denials"][0]["target"], "fixed three", "{object}");
}

#[test]
fn flags_narrow_a_policy_and_never_widen_it() {
    let place = place("");
    place.folder_of_task("work/sub", 0o755);
    let with = |flags: &[&str], words: &[&str]| -> Ran {
        end(place.command(&[&["jail", "--policy", "warden.toml"], flags, &["--"], words].concat()))
    };
    let ok = |ran: Ran| assert_eq!(ran.status, 0, "{ran:?}");
    let wide = |ran: Ran, words: &[&str]| {
        assert!(ran.status == 126 && words.iter().all(|word| ran.err.contains(word)), "{words:?}: {ran:?}");
    };
    ok(with(&["--allow-proc", "sh"], &["sh", "-c", "exit 0"]));
    wide(with(&["--allow-proc", "cat"], &["sh", "-c", "exit 0"]), &["denied"]);
    wide(with(&["--allow-proc", "ls"], &["ls"]), &["task:proc.command.ls", "default-deny"]);
    ok(with(&["--workspace", "work/sub:ro"], &["sh", "-c", "pwd"]));
    wide(with(&["--workspace", "/usr:ro"], &["sh", "-c", "pwd"]), &["task:fs.workspace.workspace", "default-deny"]);
    // A folder beneath, without writing, where the policy lets it write.
    let ran = with(&["--workspace", "work/sub:ro"], &["sh", "-c", "touch x || exit 7"]);
    assert_eq!(ran.status, 7, "{ran:?}");
    place.policy("[[fs.workspace]]\nlabel = \"work\"\npath = \"work\"\n[[proc.command]]\nname = \"sh\"\npath = \"/bin/sh\"\nargs = [[\"-c\", \"**\"]]\n");
    wide(with(&["--workspace", "work:rw"], &["sh", "-c", "pwd"]), &["fs.workspace", "read-only"]);
    ok(with(&["--workspace", "work:ro"], &["sh", "-c", "pwd"]));
    wide(with(&["--unchecked"], &["sh", "-c", "pwd"]), &["unchecked"]);
    ok(with(&[], &["sh", "-c", "pwd"]));
}

#[test]
fn a_users_own_policy_holds_without_being_named() {
    let place = Place::of_user();
    let own = place.folder_of_task("config/wasi-warden", 0o755);
    place.put(
        "config/wasi-warden/policy.toml",
        "version = 1\n[[proc.command]]\nname = \"echo\"\npath = \"/usr/bin/echo\"\nargs = [[\"one\"]]\n",
    );
    assert_eq!(printed(bare(&place, &["echo", "one"])), "one\n");
    for words in [&["echo", "two"][..], &["ls"]] {
        let ran = end(bare(&place, words));
        assert!(ran.status == 126 && ran.err.contains("denied"), "{words:?}: {ran:?}");
    }
    fs::remove_dir_all(own).unwrap();
    assert_eq!(printed(bare(&place, &["echo", "two"])), "two\n");
}

/// A request for a person's approval is not passed over.
#[test]
fn what_a_person_is_to_be_asked_about_is_not_run() {
    let place = place("[approval]\nask = [\"proc.spawn\"]\n");
    let ran = end(sh(&place, "echo ran"));
    assert!(ran.status == 126 && ran.out.is_empty(), "{ran:?}");
    let place = crate::place("[approval]\nask = [\"proc.start\"]\n");
    assert_eq!(printed(sh(&place, "echo ran")), "ran\n");
}
