//! Commands in control groups of their own, where the host gives us one. Only root can make one to give.

use crate::provider::{Provider, Reply};
use crate::skip::skipped;
use crate::support::*;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use warden_proto::msg::proc::*;

/// The task's group, as the spawner would make it.
struct TaskGroup(PathBuf);

impl TaskGroup {
    fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let roots = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
        let root = roots.into_iter().find(|root| Path::new(root).join("cgroup.procs").exists());
        let name = format!("cap-proc-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        match root.map(|root| Path::new(root).join(name)) {
            Some(path) if nix::unistd::getuid().is_root() && std::fs::create_dir(&path).is_ok() => Some(Self(path)),
            _ => {
                skipped("only root can make a control group, where there are any of version 2");
                None
            }
        }
    }

    fn helper(&self, namespaces: Wish) -> Helper {
        let group = Some((GroupSetup { pids: false, memory: false }, self.0.clone()));
        Helper::with(Options { group, namespaces, ..Options::default() })
    }

    /// The groups of commands, and the processes in each.
    fn commands(&self) -> Vec<(PathBuf, Vec<i32>)> {
        let groups =
            std::fs::read_dir(&self.0).unwrap().flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
        let numbers = |path: &Path| std::fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
        groups.map(|path| (path.clone(), numbers(&path).lines().map(|line| line.parse().unwrap()).collect())).collect()
    }
}

impl Drop for TaskGroup {
    fn drop(&mut self) {
        let _ = std::fs::write(self.0.join("cgroup.kill"), "1");
        for (path, _) in self.commands() {
            let _ = std::fs::remove_dir(path);
        }
        wait_for("the group to be empty", || std::fs::remove_dir(&self.0).is_ok());
    }
}

/// T-06, T-12
#[test]
fn a_command_is_born_in_its_group_and_what_hides_is_in_it_too() {
    for namespaces in [Wish::Require, Wish::Off] {
        let Some(group) = TaskGroup::new() else { return };
        let mut helper = group.helper(namespaces);
        assert!(helper.locked.held.iter().any(|text| text.as_str() == "cgroup.kill"), "{:?}", helper.locked.held);
        assert!(!helper.locked.held.iter().any(|text| text.as_str().contains("max")), "{:?}", helper.locked.held);
        let mark = marker();
        let tree = format!("setsid sh -c 'setsid sleep 300 & sleep 300; : {mark}' & echo up; sleep 300; : {mark}");
        let (one, other) =
            (helper.start(command(SH, &["-c", &tree])), helper.start(command(SH, &["-c", "echo up; sleep 300"])));
        assert_eq!((helper.line(one), helper.line(other)), ("up".to_owned(), "up".to_owned()));
        // Three sleeps and two shells that have the mark, and the other's two: what is forked and not yet executed has it too.
        let all = || group.commands().iter().map(|(_, all)| all.len()).sum::<usize>();
        wait_for("the trees", || all() == 7 && marked(&mark).len() == 2);
        let groups = group.commands();
        assert_eq!(groups.len(), 2, "each has its own: {groups:?}");
        let (_, tree) = groups.iter().find(|(_, all)| all.contains(&marked(&mark)[0])).expect("the tree's group");
        assert!(marked(&mark).iter().all(|pid| tree.contains(pid)), "{:?} {tree:?}", marked(&mark));
        assert!(!tree.contains(&helper.runner_pid.as_raw()), "the runner is in none");
        assert!(helper.call(&ProcCall::Close { process: one }).is_ok());
        assert_eq!(marked(&mark), Vec::<i32>::new());
        // The runner removes an empty one a moment later.
        let left: Vec<_> = group.commands().into_iter().filter(|(_, all)| !all.is_empty()).collect();
        assert!(left.len() == 1 && left[0].1.len() == 2, "the other command's only, shell and sleep: {left:?}");
        wait_for("the tree's group to be removed", || group.commands().len() == 1);
        assert!(helper.call(&ProcCall::Close { process: other }).is_ok());
        wait_for("the groups to be removed", || group.commands().is_empty());
        assert_eq!(helper.python("print('again')"), "again");
    }
}

/// T-07: not even its own, and the keeper can: it has ended groups in the test above.
#[test]
fn a_command_cannot_write_a_group() {
    for namespaces in [Wish::Require, Wish::Off] {
        let Some(group) = TaskGroup::new() else { return };
        let mut helper = group.helper(namespaces);
        let code = format!(
            "import glob, os\nfound = glob.glob('{0}/command-*') + ['{0}']\nprint(len(found))\n\
             for path in found:\n for name in ['cgroup.procs', 'cgroup.kill', 'cgroup.subtree_control']:\n  try: open(path + '/' + name, 'w').write('0'); print('written')\n  except OSError: pass\n\
             try: os.mkdir('{0}/mine'); print('made')\nexcept OSError: print('refused')\n\
             print(len(open(found[0] + '/cgroup.procs').read().split()) > 0)",
            group.0.display()
        );
        assert_eq!(helper.python(&code), "2\nrefused\nTrue", "{namespaces:?}");
    }
}

/// T-07: it is given connections all the same, and the call that put it into its group is not its own.
#[test]
fn a_connected_command_has_a_group_and_not_the_call_that_made_it() {
    for namespaces in [Wish::Require, Wish::Off] {
        let Some(group) = TaskGroup::new() else { return };
        let (provider, lane) = Provider::that(Reply::Connection);
        let given = Some((GroupSetup { pids: false, memory: false }, group.0.clone()));
        let options =
            Options { group: given, namespaces, network: vec![PYTHON], provider: Some(lane), ..Options::default() };
        let mut helper = Helper::with(options);
        let code = "import ctypes, os, socket\ns = socket.socket(); s.connect(('192.0.2.1', 1)); s.sendall(b'hello')\n\
            libc = ctypes.CDLL(None, use_errno=True); fork = libc.syscall(ctypes.c_long(435), ctypes.c_long(0), ctypes.c_long(0))\n\
            print(s.recv(9).decode(), fork, os.strerror(ctypes.get_errno()), 'command-' in open('/proc/self/cgroup').read())";
        assert_eq!(helper.python(code), "hello -1 Function not implemented True", "{namespaces:?}");
        assert_eq!(provider.given(), 1);
        wait_for("the group to be removed", || group.commands().is_empty());
    }
}

#[test]
fn a_killed_keeper_leaves_its_group_to_be_ended_from_above() {
    let Some(group) = TaskGroup::new() else { return };
    let mut helper = group.helper(Wish::Off);
    let mark = marker();
    let process = helper.start(command(SH, &["-c", &format!("setsid sleep 300 & echo up; sleep 300; : {mark}")]));
    assert_eq!(helper.line(process), "up");
    let (_, tree) = group.commands().remove(0);
    assert!(tree.len() >= 2, "{tree:?}");
    std::fs::write(group.0.join("cgroup.kill"), "1").unwrap();
    assert_eq!(helper.wait(process).signal, Some(9), "the spawner's act reaches every command of the task");
    wait_for("the tree to end", || tree.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists()));
}
