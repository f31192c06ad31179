//! The door: rules of workspaces hold for commands, each beside what the same program may do.

use crate::support::*;
use warden_proto::msg::fs::RuleKind::{Deny, DenyWrite};

/// One writable workspace with a hidden file, one that may be read only, and an ordinary one.
pub(crate) fn ruled() -> Helper {
    let rules = [("**/.env", Deny), ("secret/**", Deny), ("Makefile", DenyWrite), ("**/.git/hooks/**", DenyWrite)];
    let helper = Helper::with(Options { workspaces: vec![workspace(0, true, &rules)], ..Options::default() });
    let root = helper.root.path().join("w0");
    std::fs::create_dir_all(root.join("secret")).unwrap();
    std::fs::create_dir_all(root.join("a/b")).unwrap();
    for (name, text) in [(".env", "KEY=1"), ("Makefile", "all:"), ("plain", "plain"), ("secret/s", "s"), ("a/b/f", "f")]
    {
        std::fs::write(root.join(name), text).unwrap();
    }
    helper
}

/// What a piece of Python prints; errors are printed by their names.
pub(crate) fn tried(helper: &mut Helper, code: &str) -> String {
    let lead = "import os, errno, sys\n\
                def t(f, *a, **k):\n\
                \x20   try:\n\
                \x20       r = f(*a, **k)\n\
                \x20       print('ok' if r is None or isinstance(r, int) else r)\n\
                \x20   except OSError as e: print(errno.errorcode[e.errno])\n\
                def read(p):\n\
                \x20   with open(p) as f: return f.read()\n\
                def write(p, text='x', mode='w'):\n\
                \x20   with open(p, mode) as f: f.write(text)\n";
    helper.python(&format!("{lead}{code}"))
}

#[track_caller]
pub(crate) fn lines(helper: &mut Helper, code: &str, expected: &[&str]) {
    assert_eq!(tried(helper, code).lines().collect::<Vec<_>>(), expected, "{code}");
}

#[test]
fn what_is_denied_is_not_opened_and_what_is_not_is() {
    let mut helper = ruled();
    let root = helper.root.path().join("w0");
    let code = format!("t(read, 'plain')\nt(read, '.env')\nt(read, 'secret/s')\nt(read, '{}/.env')\n", root.display());
    lines(&mut helper, &code, &["plain", "EACCES", "EACCES", "EACCES"]);
    let code = "t(read, './a/../.env')\nt(read, 'a/b/../../plain')\nos.chdir('a/b')\nt(read, '../../.env')\n\
                t(read, '../../plain')\nt(read, 'f')\n";
    lines(&mut helper, code, &["EACCES", "plain", "EACCES", "plain", "f"]);
}

#[test]
fn what_may_only_be_read_is_not_changed_by_any_way() {
    let mut helper = ruled();
    let code = "t(read, 'Makefile')\nt(write, 'Makefile')\nt(write, 'Makefile', 'x', 'a')\nt(os.truncate, 'Makefile', 0)\n\
                t(os.unlink, 'Makefile')\nt(os.rename, 'Makefile', 'm')\nt(os.rename, 'plain', 'Makefile')\n\
                t(os.link, 'Makefile', 'm')\nt(os.chmod, 'Makefile', 0o600)\nt(os.utime, 'Makefile')\n\
                t(os.makedirs, 'x/.git/hooks')\nt(write, 'x/.git/hooks/pre-commit')\n";
    let denied = ["all:"].into_iter().chain(["EACCES"; 9]).chain(["ok", "EACCES"]);
    lines(&mut helper, code, &denied.collect::<Vec<_>>());
    // The controls: the same on a file without a rule.
    let code = "t(write, 'plain')\nt(write, 'plain', 'x', 'a')\nt(os.truncate, 'plain', 1)\nt(os.link, 'plain', 'p2')\n\
                t(os.rename, 'plain', 'p3')\nt(os.chmod, 'p3', 0o600)\nt(os.utime, 'p3')\nt(os.unlink, 'p3')\n\
                t(write, 'new')\nt(os.mkdir, 'd')\nt(os.rmdir, 'd')\nt(os.symlink, 'new', 's')\nt(read, 's')\n";
    let allowed = ["ok"; 12].into_iter().chain(["x"]);
    lines(&mut helper, code, &allowed.collect::<Vec<_>>());
}

#[test]
fn files_made_later_renamed_or_linked_are_denied_too() {
    let mut helper = ruled();
    let code = "t(write, 'a/.env')\nt(os.rename, 'plain', 'a/.env')\nt(os.link, 'plain', '.env2')\nt(os.link, '.env', 'e')\n\
                t(os.symlink, '.env', 'l')\nt(read, 'l')\nt(os.rename, 'secret', 'open')\nt(os.rename, 'a', 'secret2')\n\
                t(os.symlink, '../w0/secret', 'k')\nt(read, 'k/s')\n";
    let expected = ["EACCES", "EACCES", "ok", "EACCES", "ok", "EACCES", "EACCES", "ok", "ok", "EACCES"];
    lines(&mut helper, code, &expected);
}

#[test]
fn descriptors_lead_past_no_rule() {
    let mut helper = ruled();
    let code = "d = os.open('.', os.O_PATH | os.O_DIRECTORY)\nt(os.open, '.env', os.O_RDONLY, dir_fd=d)\n\
                f = os.open('plain', os.O_RDONLY)\nt(os.open, f'/proc/self/fd/{f}', os.O_RDWR)\n\
                m = os.open('Makefile', os.O_RDONLY)\nt(os.open, f'/proc/self/fd/{m}', os.O_WRONLY)\n\
                t(os.open, f'/dev/fd/{m}', os.O_RDONLY)\nt(os.open, '.env', os.O_PATH)\n\
                t(os.open, f'/proc/self/fd/{d}/.env', os.O_RDONLY)\nt(os.open, f'/proc/self/fd/{d}/plain', os.O_RDONLY)\n\
                t(os.open, '/proc/self/cwd/plain', os.O_RDONLY)\nt(os.open, '/proc/self/root/etc/passwd', os.O_RDONLY)\n";
    // A descriptor that is a path only shows what stat shows, and no door is asked for it.
    let expected = ["EACCES", "ok", "EACCES", "ok", "ok", "EACCES", "ok", "ok", "ok"];
    lines(&mut helper, code, &expected);
    let code = "t(read, '/proc/self/cwd/.env')\nt(read, '/proc/self/root' + os.getcwd() + '/secret/s')\n\
                t(read, '/proc/self/root' + os.getcwd() + '/plain')\nt(lambda: len(open('/proc/self/exe', 'rb').read(4)))\n\
                t(write, '/proc/self/exe')\n";
    let answers = tried(&mut helper, code);
    let (rest, last) = answers.trim_end().rsplit_once('\n').unwrap();
    assert_eq!(rest.lines().collect::<Vec<_>>(), ["EACCES", "EACCES", "plain", "ok"]);
    assert!(["ETXTBSY", "EACCES", "EROFS"].contains(&last), "{last}");
}

#[test]
fn outside_of_the_workspaces_a_command_opens_what_landlock_lets_it() {
    let mut helper = ruled();
    let code = "t(lambda: read('/etc/passwd')[:4])\nt(read, '/etc/shadow')\nt(os.open, '/root', os.O_RDONLY)\n\
                p = os.environ['TMPDIR']\nt(write, p + '/f', 'private')\nt(read, p + '/f')\n\
                t(lambda: str('Umask' in read('/proc/self/status')))\nt(lambda: str(len(read('/proc/mounts')) > 1))\n\
                t(lambda: str('PATH=' in read('/proc/self/environ')))\n\
                t(write, '/dev/null')\nt(write, '/etc/x')\nt(os.rename, p + '/f', 'g')\nt(os.link, p + '/f', 'g')\n";
    // In a root of the task's own what was not granted has no name, and the system is mounted read-only.
    let (hidden, unwritable) = if helper.inside() { ("ENOENT", "EROFS") } else { ("EACCES", "EACCES") };
    let expected =
        ["root", hidden, hidden, "ok", "private", "True", "True", "True", "ok", unwritable, "EXDEV", "EXDEV"];
    lines(&mut helper, code, &expected);
}

/// T-13: the keeper opens for the command, and may look at itself as no command may.
#[test]
fn the_keeper_is_no_way_to_itself() {
    let mut helper = ruled();
    let code = "k = os.getppid()\nfor n in ['mem', 'environ', 'maps', 'fd', 'auxv', 'stat', f'task/{k}/mem']:\n\
                \x20   p = f'/proc/{k}/{n}'\n\
                \x20   try: a = os.open(p, os.O_RDONLY)\n\
                \x20   except OSError as e: print(errno.errorcode[e.errno]); continue\n\
                \x20   print(os.readlink(f'/proc/self/fd/{a}') == f'/proc/{os.getpid()}/{n}' or n)\n";
    let answers = tried(&mut helper, code);
    // A path that leads to the keeper leads to the caller's own instead, or to nothing.
    assert!(answers.lines().all(|line| ["True", "EACCES", "ENOENT"].contains(&line)), "{answers}");
}

#[test]
fn growth_is_bounded_and_told() {
    let mut helper = ruled();
    let mut asked = command(PYTHON, &["-c", "open('g', 'wb').write(b'x' * 5000); open('g', 'r+b').write(b'y' * 100)"]);
    asked.growth_max = 1 << 20;
    let ran = helper.run(asked).unwrap();
    // The file itself, and what it holds.
    assert_eq!((ran.exit.code, ran.toll.grown), (Some(0), 1024 + 5000), "{ran:?}");
    // What is written into files without a name counts, and ends the command.
    let code = "import os, time\nfor n in range(400):\n\
                \x20   f = open(f't{n}', 'wb'); os.unlink(f't{n}'); f.write(b'x' * 100000); f.flush(); globals()[f'k{n}'] = f\n\
                \x20   time.sleep(0.01)\nprint('through')";
    let mut asked = command(PYTHON, &["-c", code]);
    asked.growth_max = 1 << 20;
    let over = helper.run(asked);
    match over {
        Err(error) => assert_eq!(error.rule.as_str(), "limits.fs_written"),
        // Refused at the door before the look that would have ended it.
        Ok(ran) => assert!(ran.exit.code == Some(1) && ran.stderr.contains("No space left"), "{ran:?}"),
    }
    // The control: the same within what it may.
    let mut asked = command(PYTHON, &["-c", code]);
    asked.growth_max = 1 << 30;
    assert_eq!(helper.run(asked).unwrap().stdout, "through\n");
    let mut asked = command(SH, &["-c", "echo x > n; echo $?; cat plain; : > plain && echo cut"]);
    asked.growth_max = 0;
    let ran = helper.run(asked).unwrap();
    assert!(
        ran.stdout.contains("plain") && !ran.stdout.contains("cut") && ran.stderr.contains("No space left"),
        "{ran:?}"
    );
}

#[test]
fn refusals_are_told_by_rule() {
    let mut helper = ruled();
    let ran = helper.run(command(SH, &["-c", "cat .env .env secret/s; echo x > Makefile"])).unwrap();
    let told: Vec<_> = ran.toll.denied.iter().map(|d| (d.rule.as_str(), d.target.as_str())).collect();
    assert_eq!(told, [("w0.0", "w0:.env"), ("w0.1", "w0:secret/s"), ("w0.2", "w0:Makefile")]);
    assert_eq!(ran.toll.denials, 4);
}

#[test]
fn a_read_only_workspace_beside_is_read_and_not_changed() {
    let workspaces = vec![workspace(0, true, &[]), workspace(1, false, &[("**/.env", Deny)])];
    let mut helper = Helper::with(Options { workspaces, ..Options::default() });
    let root = helper.root.path().join("w1");
    std::fs::write(root.join("f"), "read").unwrap();
    std::fs::write(root.join(".env"), "key").unwrap();
    let code = "t(read, '../w1/f')\nt(read, '../w1/.env')\nt(write, '../w1/f')\nt(write, '../w1/n')\nt(os.mkdir, '../w1/d')\n\
                t(os.unlink, '../w1/f')\nt(os.chmod, '../w1/f', 0o600)\nt(os.rename, '../w1/f', 'f')\nt(write, 'n')\n";
    lines(&mut helper, code, &["read", "EACCES", "EROFS", "EROFS", "EROFS", "EROFS", "EROFS", "EXDEV", "ok"]);
}

#[test]
fn fifos_work_where_they_may_be_and_wait_without_keeping_anybody() {
    let mut helper = ruled();
    let code = "p = os.environ['TMPDIR'] + '/fifo'\nos.mkfifo(p)\nt(os.mkfifo, 'fifo')\nif os.fork() == 0:\n\
                \x20   with open(p, 'w') as f: f.write('through the fifo')\n\
                \x20   os._exit(0)\nprint(read(p))\n";
    lines(&mut helper, code, &["EPERM", "through the fifo"]);
    // Nobody opens the other end: the command is ended all the same, and others are served meanwhile.
    let mut asked = command(SH, &["-c", "mkfifo $TMPDIR/f; cat $TMPDIR/f & cat plain; wait"]);
    asked.timeout_ms = 1500;
    let ran = helper.run(asked).unwrap();
    assert!(ran.exit.timed_out && ran.stdout == "plain", "{ran:?}");
}

#[test]
fn modes_and_masks_are_the_programs_own() {
    let mut helper = ruled();
    let code = "os.umask(0o027)\nos.close(os.open('m1', os.O_CREAT | os.O_WRONLY, 0o666))\nos.mkdir('m2', 0o777)\n\
                os.umask(0)\nos.close(os.open('m3', os.O_CREAT | os.O_WRONLY, 0o666))\n\
                for n in ['m1', 'm2', 'm3']: print(oct(os.stat(n).st_mode & 0o7777))\n\
                t(os.open, 'm4', os.O_CREAT | os.O_WRONLY, 0o4755)\n";
    lines(&mut helper, code, &["0o640", "0o750", "0o666", "EPERM"]);
}

#[test]
fn set_id_files_are_not_opened_to_be_written() {
    let mut helper = ruled();
    let root = helper.root.path().join("w0");
    std::fs::set_permissions(root.join("plain"), std::os::unix::fs::PermissionsExt::from_mode(0o4755)).unwrap();
    lines(&mut helper, "t(read, 'plain')\nt(os.open, 'plain', os.O_RDWR)\n", &["plain", "EPERM"]);
}

#[test]
fn programs_of_the_workspace_run_only_where_the_rule_says_so() {
    for (exec_workspace, expected) in [(false, "126"), (true, "ran")] {
        let mut options = Options { workspaces: vec![workspace(0, true, &[("**/.env", Deny)])], ..Options::default() };
        options.commands[usize::from(SH)].0.exec_workspace = exec_workspace;
        let mut helper = Helper::with(options);
        let root = helper.root.path().join("w0");
        std::fs::write(root.join(".env"), "KEY").unwrap();
        let script = "printf '#!/bin/sh\\necho ran\\n' > s; chmod +x s; ./s 2>&1 || echo $?; cp /bin/true t; ./t && echo t; cat .env";
        let ran = helper.run(command(SH, &["-c", script])).unwrap();
        assert!(ran.stdout.contains(expected), "{ran:?}");
        assert_eq!(ran.stdout.contains("t\n"), exec_workspace, "{ran:?}");
        assert!(!ran.stdout.contains("KEY") && ran.stderr.contains("Permission denied"), "{ran:?}");
    }
}

/// T-02: what a workspace says of its links holds for every way through them.
#[test]
fn links_are_not_followed_where_the_workspace_says_so() {
    for follows in [false, true] {
        let of_links = warden_proto::msg::fs::WorkspaceSetup { symlinks: follows, ..workspace(0, true, &[]) };
        let mut helper = Helper::with(Options { workspaces: vec![of_links], ..Options::default() });
        let root = helper.root.path().join("w0");
        std::fs::create_dir_all(root.join("sub")).unwrap();
        std::fs::write(root.join("plain"), "plain").unwrap();
        std::fs::write(root.join("sub/d"), "d").unwrap();
        for (target, name) in [("plain", "l"), ("sub", "ls"), ("nothing", "dangling"), ("/etc/passwd", "out")] {
            std::os::unix::fs::symlink(target, root.join(name)).unwrap();
        }
        let code = format!(
            "r = {:?}\nt(read, 'l')\nt(read, 'ls/d')\nt(read, r + '/l')\nt(write, 'l', 'plain')\nt(write, 'dangling')\n\
             t(os.mkdir, 'ls/new')\nt(os.unlink, 'ls/d')\nt(os.rename, 'plain', 'ls/p')\nt(os.chmod, 'l', 0o600)\n\
             t(os.truncate, 'l', 5)\nt(lambda: read('out')[:4])\n",
            root.display().to_string()
        );
        let refused = ["EACCES"; 11];
        let done = ["plain", "d", "plain", "ok", "ok", "ok", "ok", "ok", "ENOENT", "ENOENT", "root"];
        lines(&mut helper, &code, if follows { &done } else { &refused });
        // The control: the same without a link, by links of the system too, and a link itself.
        let code = "os.chdir(os.getcwd())\nt(lambda: read('/etc/../etc/passwd')[:4])\nt(lambda: len(open('/bin/sh', 'rb').read(4)))\n\
                    t(os.mkdir, 'sub/other')\nt(os.rename, 'l', 'l2')\nt(os.unlink, 'l2')\nt(lambda: str(len(os.listdir('/proc/self/fd')) > 2))\n";
        lines(&mut helper, code, &["root", "ok", "ok", "ok", "ok", "True"]);
    }
}

/// T-02: where the caller stands is asked of the kernel, whose word on a removed directory is a name that another can have.
#[test]
fn a_directory_that_was_removed_is_not_taken_for_its_namesake() {
    let mut helper = ruled();
    let code = "os.mkdir('d')\nos.mkdir('d (deleted)')\nwrite('d (deleted)/f')\nh = os.open('d', os.O_RDONLY)\n\
                t(read, 'd (deleted)/f')\nos.chdir('d (deleted)')\nt(read, 'f')\nos.chdir('../d')\nos.rmdir('../d')\n\
                t(read, 'f')\nt(os.open, 'f', os.O_RDONLY, dir_fd=h)\n";
    lines(&mut helper, code, &["x", "x", "ENOENT", "ENOENT"]);
}
