//! A warden that was started in a control group of its own: commands get one each, and nothing of them stays (T-06, T-12).
//! Only root can make such a group.

use crate::{place, read, sh, start, wait};
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use warden_tests::manifest::{self, succeeded};
use warden_tests::{Family, NOBODY, Task, gate, is_root, processes, skipped};

/// A group that this process, and what it starts, is in for as long as this lives.
struct Given {
    path: PathBuf,
    back: PathBuf,
}

impl Given {
    /// One that belongs to `owner`, as a service manager would give it.
    fn to(owner: u32) -> Option<Self> {
        let roots = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(PathBuf::from);
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?.to_owned();
        let root = roots.into_iter().find(|root| root.join("cgroup.procs").exists());
        let path = root.as_ref().map(|root| root.join(format!("warden-given-{}", std::process::id())));
        let (Some(root), Some(path)) = (root, path) else {
            skipped("no control groups of version 2");
            return None;
        };
        if !is_root() || fs::create_dir(&path).is_err() {
            skipped("only root can make a control group and give it away");
            return None;
        }
        for file in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
            chown(path.join(file), Some(owner), Some(owner)).expect("chowns");
        }
        fs::write(path.join("cgroup.procs"), "0").expect("moves into it");
        Some(Self { path, back: root.join(own) })
    }

    fn groups(&self) -> Vec<PathBuf> {
        folders(&self.path)
    }
}

fn folders(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.is_dir()).collect()
}

impl Drop for Given {
    fn drop(&mut self) {
        let _ = fs::write(self.back.join("cgroup.procs"), "0");
        for group in self.groups() {
            folders(&group).iter().for_each(|inner| drop(fs::remove_dir(inner)));
            let _ = fs::remove_dir(group);
        }
        let _ = fs::remove_dir(&self.path);
    }
}

fn holds(object: &serde_json::Value) -> bool {
    object["isolation"]["held"].as_array().is_some_and(|held| held.iter().any(|what| what == "cgroup.kill"))
}

#[test]
fn a_command_is_held_by_a_group_of_its_own_and_none_is_left() {
    for killed in ["nobody", "cap-proc-runner", "keeper"] {
        let place = place(gate::COMMAND);
        let Some(given) = Given::to(NOBODY) else { return };
        let mark = format!("sleep 7{}", std::process::id());
        let tree = format!("setsid sh -c 'setsid {mark} & {mark}' & echo up; exec {mark}");
        let steps = [start("tree", &tree), read("tree"), wait("tree"), sh("echo again")];
        let running = Task::runbook(&steps).start(&place);
        let members = processes::wait("the tree", || {
            let found = processes::marked(&mark);
            (found.len() == 3).then_some(found)
        });
        let family = Family::of(running.pid());
        let [task] = &given.groups()[..] else { panic!("{:?}", given.groups()) };
        let [of_command] = &folders(task)[..] else { panic!("{:?}", folders(task)) };
        let inside = fs::read_to_string(of_command.join("cgroup.procs")).expect("reads");
        let inside: Vec<i32> = inside.lines().filter_map(|line| line.parse().ok()).collect();
        assert!(members.iter().all(|member| inside.contains(&member.pid)), "{inside:?} {members:?}");
        assert!(family.members.iter().all(|ours| !ours.line.starts_with("cap-proc") || !inside.contains(&ours.pid)));
        match killed {
            "nobody" => members.iter().for_each(processes::Process::kill),
            "keeper" => {
                let leader = family
                    .members
                    .iter()
                    .find(|member| member.line == mark && inside.contains(&member.parent).eq(&false));
                let keeper = leader.and_then(|leader| family.members.iter().find(|member| member.pid == leader.parent));
                keeper.expect("a keeper").kill();
            }
            role => family.role(role).expect("a runner").kill(),
        }
        processes::wait("the tree's end", || members.iter().all(|member| !member.lives()).then_some(()));
        let object = running.end().object();
        assert!(holds(&object), "{killed}: {object}");
        assert_eq!(succeeded(&manifest::actions(&object)[3])["stdout"], "again\n", "{killed}");
        assert_eq!(given.groups(), Vec::<PathBuf>::new(), "{killed}: nothing is left");
    }
}

#[test]
fn a_group_that_is_not_ours_is_not_used_and_a_required_one_is_missed() {
    let place = place("");
    let Some(given) = Given::to(0) else { return };
    let object = Task::runbook(&[sh("true")]).run(&place).object();
    assert!(!holds(&object), "{object}");
    drop(given);
    let place = crate::place("[isolation]\ncgroups = \"require\"\n");
    let ran = Task::runbook(&[sh("true")]).run(&place);
    ran.fails("unavailable", 125);
    assert!(ran.out.contains("isolation.cgroups"), "{}", ran.out);
    let place = crate::place("[isolation]\ncgroups = \"off\"\n");
    let Some(_given) = Given::to(NOBODY) else { return };
    let object = Task::runbook(&[sh("true")]).run(&place).object();
    assert!(!holds(&object), "off is off: {object}");
}
