//! What the kernel gives: each feature tried in a child, each role's jail put on one.

use super::Check;
use crate::failure::Failure;
use crate::sealed;
use std::fs;
use warden_spawner::probe::{self, Controllers, Findings, RoleFinding};

/// Landlock's ABI from which on nothing of a jail has to be covered by something else.
const LANDLOCK_ABI_FULL: u8 = 6;

fn failed(error: probe::ProbeError) -> Failure {
    Failure::internal(error.to_string())
}

/// What this host gives to commands beyond the jail that they have everywhere, or why not.
pub(super) struct OfCommands {
    pub(super) namespaces: Result<(), String>,
    pub(super) groups: Result<Controllers, String>,
}

/// Tries both.
pub(super) fn of_commands() -> Result<OfCommands, Failure> {
    let namespaces = probe::command_namespaces().map_err(failed)?;
    Ok(OfCommands { namespaces, groups: probe::control_group().map_err(failed)? })
}

/// All checks of the kernel.
pub(super) fn checks(of_commands: &OfCommands) -> Result<Vec<Check>, Failure> {
    let findings = probe::features().map_err(failed)?;
    let mut checks = vec![kernel()];
    checks.extend(features(&findings));
    checks.push(yama(probe::memory_of_a_child().map_err(failed)?, setting("kernel/yama/ptrace_scope")));
    checks.extend(namespaces(&findings, &of_commands.namespaces, setting("user/max_user_namespaces")));
    checks.push(control_group(&of_commands.groups));
    checks.push(memory_files());
    checks.extend(probe::roles().map_err(failed)?.iter().map(role));
    let rules = crate::cache::hex(&warden_spawner::rules_sha256());
    checks.push(Check::ok("jail rules", format!("sha256 {rules}, as in every log's first record")));
    Ok(checks)
}

fn kernel() -> Check {
    match nix::sys::utsname::uname() {
        Ok(name) => {
            let part = |text: &std::ffi::OsStr| text.to_string_lossy().into_owned();
            Check::ok("kernel", format!("{} {} {}", part(name.sysname()), part(name.release()), part(name.machine())))
        }
        Err(errno) => Check::degraded("kernel", format!("it does not say its name: {errno}"), "nothing else follows"),
    }
}

/// A sysctl, for the detail of a check only.
fn setting(name: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/sys/{name}")).ok().map(|text| text.trim().to_owned())
}

fn features(found: &Findings) -> Vec<Check> {
    vec![landlock(found), landlock_scope(found), seccomp(found), notify(found)]
}

fn landlock(found: &Findings) -> Check {
    let abi = found.landlock_abi;
    if !found.landlock_files {
        let detail = if abi == 0 {
            "this kernel has none, or it is off".to_owned()
        } else {
            format!("ABI {abi}, and a domain refused nothing")
        };
        return Check::missing(
            "landlock",
            detail,
            "file actions and commands are refused; start a kernel from 6.12 on with `lsm=…,landlock`",
        );
    }
    let consequence = match abi {
        LANDLOCK_ABI_FULL.. => {
            return Check::ok("landlock", format!("ABI {abi}, a domain refused what it does not grant"));
        }
        1 => "file actions and commands are refused: a rename cannot be told from an escape",
        2 => {
            "truncation by path is held by the supervisor of each command, without which none runs, and signals by its keeper"
        }
        _ => {
            "signals of commands are sent by their keepers, and no program in a command leads a session or a process group"
        }
    };
    Check::degraded("landlock", format!("ABI {abi}"), format!("{consequence}; a kernel from 6.12 on has all"))
}

fn landlock_scope(found: &Findings) -> Check {
    if found.landlock_scope {
        return Check::ok("landlock scopes", "a signal out of a scope was refused");
    }
    Check::degraded(
        "landlock scopes",
        "not here (they need ABI 6)",
        "signals of commands are sent by their keepers, and a command's processes are ended one by one",
    )
}

fn seccomp(found: &Findings) -> Check {
    if found.seccomp_filter {
        return Check::ok("seccomp", "a filter was installed and answered its self-test");
    }
    Check::missing("seccomp", "no filter could be installed", "nothing runs; the kernel needs CONFIG_SECCOMP_FILTER")
}

fn notify(found: &Findings) -> Check {
    if found.seccomp_notify {
        return Check::ok("seccomp notify", "a fork waited for its supervisor and obeyed it");
    }
    Check::degraded(
        "seccomp notify",
        "a supervisor could not answer a call",
        "commands are refused: their processes could not be counted; another supervisor around warden may be in the way",
    )
}

fn yama(readable: bool, scope: Option<String>) -> Check {
    let setting =
        scope.map_or_else(|| "the kernel has no Yama".to_owned(), |scope| format!("Yama ptrace_scope {scope}"));
    if readable {
        let detail =
            format!("a command's keeper can read the paths in its calls: a parent read its child's memory; {setting}");
        return Check::ok("call arguments", detail);
    }
    Check::degraded(
        "call arguments",
        format!(
            "a command's keeper cannot read the paths in its calls: a parent was refused its child's memory; {setting}"
        ),
        "changes of mode and times by path fail in commands; `sysctl kernel.yama.ptrace_scope=1` is enough",
    )
}

/// Never required by themselves: what follows where commands can have none is said of all together.
fn namespaces(found: &Findings, of_commands: &Result<(), String>, maximum: Option<String>) -> Vec<Check> {
    let maximum = maximum.map_or_else(|| "no setting".to_owned(), |max| format!("max_user_namespaces {max}"));
    let used = "used by commands where all of them work";
    let kinds = [
        ("user namespace", found.user_namespace, used),
        ("pid namespace", found.pid_namespace, used),
        ("mount namespace", found.mount_namespace, used),
        ("network namespace", found.network_namespace, "no jail of this version uses it"),
    ];
    let each = kinds.into_iter().map(|(name, works, use_of_it)| {
        let word = if works { "works" } else { "not here" };
        Check::ok(name, format!("{word} ({maximum}); not required; {use_of_it}"))
    });
    each.chain([namespaces_of_commands(of_commands)]).collect()
}

fn namespaces_of_commands(tried: &Result<(), String>) -> Check {
    let name = "commands: namespaces";
    match tried {
        Ok(()) => Check::ok(
            name,
            "a child entered user, pid, mount, network and ipc namespaces with a root of its own, as commands do unless the policy says off",
        ),
        Err(why) => Check::degraded(
            name,
            format!("not here: {why}"),
            "commands see names and processes outside, as said below; `isolation.namespaces = \"require\"` starts no task",
        ),
    }
}

fn control_group(tried: &Result<Controllers, String>) -> Check {
    let detail = match tried {
        Ok(Controllers { pids, memory }) => {
            let word = |works: &bool| if *works { "works" } else { "is not handed down" };
            let (pids, memory) = (word(pids), word(memory));
            format!("ours: a child was born in a group and ended by cgroup.kill; pids.max {pids}, memory.max {memory}")
        }
        Err(why) => format!("not given to us: {why}"),
    };
    Check::ok(
        "cgroups",
        format!("{detail}; not required; used by commands where it is so, beside the keeper's own counts"),
    )
}

fn memory_files() -> Check {
    let refused = sealed::holding("doctor", b"sealed").map(|fd| nix::unistd::write(&fd, b"x"));
    match refused {
        Ok(Err(nix::errno::Errno::EPERM)) => Check::ok("memfd", "a sealed memory file refused a write"),
        Ok(_) => {
            Check::missing("memfd", "a sealed memory file took a write", "no guest runs: its code could be changed")
        }
        Err(errno) => Check::missing(
            "memfd",
            format!("no sealed memory file: {errno}"),
            "no guest runs: code is handed over in one; a kernel from 6.3 on has them",
        ),
    }
}

fn role(finding: &RoleFinding) -> Check {
    let name = format!("jail {}", finding.role);
    match &finding.held {
        Ok(degraded) if degraded.is_empty() => Check::ok(name, "put on in a child, and its self-test held"),
        Ok(degraded) => Check::degraded(name, "put on in a child", degraded.join("; ")),
        Err(why) => Check::missing(name, why.clone(), format!("{}, rather than run without it", loses(finding.role))),
    }
}

/// What is refused where a role's jail cannot be had.
fn loses(role: &str) -> &'static str {
    match role {
        "broker" => "nothing runs",
        "template" | "worker" => "no guest runs",
        "compiler" => "no module is compiled",
        "cap-fs" => "file actions are refused",
        "cap-llm-replay" => "model calls are refused",
        _ => "commands are refused",
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    const ALL: Findings = Findings {
        landlock_abi: 7,
        landlock_files: true,
        landlock_scope: true,
        seccomp_filter: true,
        seccomp_notify: true,
        user_namespace: true,
        pid_namespace: true,
        mount_namespace: true,
        network_namespace: true,
    };

    #[test]
    fn a_host_that_has_everything_is_ok_and_one_that_lacks_a_layer_is_not() {
        assert!(features(&ALL).iter().all(|check| check.state == State::Ok));
        let bare = Findings { landlock_abi: 0, landlock_files: false, seccomp_filter: false, ..ALL };
        let bare = features(&bare);
        assert_eq!(bare.iter().filter(|check| check.state == State::Missing).count(), 2);
        assert!(bare.iter().filter(|check| check.state != State::Ok).all(|check| !check.consequence.is_empty()));
    }

    #[test]
    fn an_older_landlock_says_what_is_lost() {
        for (abi, word) in [(1, "rename"), (2, "truncation"), (4, "signals")] {
            let check = landlock(&Findings { landlock_abi: abi, ..ALL });
            assert!(check.state == State::Degraded && check.consequence.contains(word), "{abi}: {check:?}");
        }
        assert_eq!(landlock(&Findings { landlock_abi: 6, ..ALL }).state, State::Ok);
    }

    #[test]
    fn a_domain_that_refuses_nothing_is_no_domain_whatever_the_kernel_says() {
        assert_eq!(landlock(&Findings { landlock_files: false, ..ALL }).state, State::Missing);
    }

    #[test]
    fn namespaces_are_never_required() {
        let none = Findings {
            user_namespace: false,
            pid_namespace: false,
            mount_namespace: false,
            network_namespace: false,
            ..ALL
        };
        let without = namespaces(&none, &Err("no".to_owned()), Some("0".to_owned()));
        assert!(without.iter().all(|check| check.state != State::Missing));
        assert!(
            without.last().is_some_and(|check| check.state == State::Degraded && check.consequence.contains("below"))
        );
        assert!(namespaces(&ALL, &Ok(()), None).iter().all(|check| check.state == State::Ok));
    }

    #[test]
    fn control_groups_are_never_required_and_each_bound_is_said() {
        let given = |pids, memory| control_group(&Ok(Controllers { pids, memory }));
        assert!(given(true, true).detail.contains("pids.max works, memory.max works"));
        assert!(given(true, false).detail.contains("memory.max is not handed down"));
        let none = control_group(&Err("it belongs to another user".to_owned()));
        assert!(none.state == State::Ok && none.detail.contains("not given to us: it belongs"), "{none:?}");
    }

    #[test]
    fn a_jail_that_cannot_be_had_is_missing_and_one_that_can_is_not() {
        let held = |held| role(&RoleFinding { role: "cap-fs", held }).state;
        assert_eq!(held(Ok(vec![])), State::Ok);
        assert_eq!(held(Ok(vec!["less".to_owned()])), State::Degraded);
        assert_eq!(held(Err("too old".to_owned())), State::Missing);
    }
}
