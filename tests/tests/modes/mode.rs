//! One mode of a host and a person, and warden run in it.

use crate::scene::{Attempt, CONTROLS, Scene, attempts};
use crate::survivors;
use serde_json::{Value, json};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use warden_tests::manifest::succeeded;
use warden_tests::{NOBODY, Running, Task, is_root, skipped};

/// Who starts warden, and whom commands run as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// A normal user starts it and commands run as that user.
    User,
    /// Root starts it, and commands run as `nobody`.
    FromRoot,
    /// Root starts it, and the policy lets commands run as root.
    Root,
}

/// What the host refuses, by a filter around all of warden.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// Nothing.
    AsItIs,
    /// User namespaces.
    RefusesNamespaces,
    /// Mounts in them, as some distributions arrange: what is half-way in must not go on.
    RefusesMounts,
}

#[derive(Clone, Copy, Debug)]
pub struct Mode {
    pub whom: Whom,
    /// `isolation.namespaces`.
    pub namespaces: &'static str,
    pub host: Host,
    /// As on a kernel with this Landlock, which debug builds can be told.
    pub abi: Option<u8>,
}

/// Python that answers calls with EPERM by a filter of its own and becomes what it is told to. The first argument lists call
/// number and bits of the first argument, all of them where that is 0.
const REFUSING: &str = r#"
import ctypes, os, struct, sys
code = [(0x20, 0, 0, 4), (0x15, 1, 0, 0xc000003e), (0x06, 0, 0, 0x7fff0000)]
for word in sys.argv[1].split(","):
    number, bits = (int(part, 0) for part in word.split(":"))
    code += [(0x20, 0, 0, 0), (0x15, 0, 3 if bits else 1, number)]
    code += [(0x20, 0, 0, 16), (0x45, 0, 1, bits)] if bits else []
    code += [(0x06, 0, 0, 0x50001)]
code += [(0x06, 0, 0, 0x7fff0000)]
text = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in code))
filter = struct.pack("HxxxxxxQ", len(code), ctypes.addressof(text))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, filter, 0, 0) == 0
os.execv(sys.argv[2], sys.argv[2:])"#;

impl Host {
    /// `clone` and `unshare` with CLONE_NEWUSER; fsopen and the older mount.
    fn refused(self) -> Option<&'static str> {
        match self {
            Host::AsItIs => None,
            Host::RefusesNamespaces => Some("56:0x10000000,272:0x10000000"),
            Host::RefusesMounts => Some("430:0,165:0"),
        }
    }

    /// The same command on such a host.
    fn around(self, command: Command) -> Command {
        let Some(refused) = self.refused() else { return command };
        let mut around = Command::new("/usr/bin/python3");
        around.args(["-I", "-c", REFUSING, refused]).arg(command.get_program()).args(command.get_args());
        around.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        if let Some(folder) = command.get_current_dir() {
            around.current_dir(folder);
        }
        around
    }
}

impl Mode {
    /// Whether it can be had here; says so where it cannot.
    pub fn is_here(self) -> bool {
        if self.whom != Whom::User && !is_root() {
            skipped(&format!("{self:?}: these tests do not run as root"));
            return false;
        }
        if self.abi.is_some() && !cfg!(debug_assertions) {
            skipped(&format!("{self:?}: a release has not the code that reads a lower ABI"));
            return false;
        }
        true
    }

    /// The user whom a command runs as, where that is not whoever runs the tests.
    pub fn user(self) -> Option<u32> {
        (is_root() && self.whom != Whom::Root).then_some(NOBODY)
    }

    /// `warden` with `args` in this mode.
    fn warden(self, scene: &Scene, args: &[&str]) -> Running {
        let mut command = self.host.around(scene.place.command(args));
        if let Some(abi) = self.abi {
            command.env("WARDEN_TEST_LANDLOCK_ABI", abi.to_string());
        }
        if self.whom == Whom::User && is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        let null = std::process::Stdio::null;
        command.stdin(null()).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        Running::of(command)
    }

    /// One script of python's, by `warden jail`: what it printed, and the result.
    #[track_caller]
    pub fn jailed(self, scene: &Scene, script: &str) -> (Vec<String>, Value) {
        let policy: PathBuf = scene.policy(self);
        let policy = policy.to_str().expect("a path of text");
        let ran = self.warden(scene, &["--json", "jail", "--policy", policy, "--", "python3", "-c", script]).end();
        let object = ran.object();
        assert_eq!(object["exit_code"], 0, "{self:?}: {object}\n{}", ran.err);
        (lines(&object["stdout"]), object)
    }

    /// The same, by a command of a task.
    #[track_caller]
    fn of_task(self, scene: &Scene, script: &str) -> (Vec<String>, Value) {
        scene.policy(self);
        Task::runbook(&[("proc.spawn", json!({"command": "python3", "args": ["-c", script]}))]).write(&scene.place);
        let task = scene.place.path("task.json");
        let ran = self.warden(scene, &["--json", "task", "run", task.to_str().expect("a path of text")]).end();
        let object = ran.object();
        let actions = warden_tests::manifest::actions(&object);
        let output = succeeded(actions.first().unwrap_or_else(|| panic!("{self:?}: {object}\n{}", ran.err)));
        assert_eq!(output["status"], 0, "{self:?}: {output}");
        (lines(&output["stdout"]), object)
    }

    /// All attempts and controls, by both ways; then that nothing came of any, and who is left.
    #[track_caller]
    pub fn holds(self) {
        let attempts = attempts();
        let outside = {
            let scene = Scene::new(self);
            scene.outside(self, &scene.script(&attempts))
        };
        for by_task in [false, true] {
            let scene = Scene::new(self);
            let script = scene.script(&attempts);
            let (answers, object) = if by_task { self.of_task(&scene, &script) } else { self.jailed(&scene, &script) };
            self.compare(&attempts, &answers, &outside);
            self.says_what_held(&object);
            scene.is_untouched();
        }
        survivors::none_is_left(self);
    }

    #[track_caller]
    fn compare(self, attempts: &[Attempt], answers: &[String], outside: &[String]) {
        let count = attempts.len() + CONTROLS.len();
        assert_eq!((answers.len(), outside.len()), (count, count), "{self:?}: {answers:?}\n{outside:?}");
        let mut wrong = Vec::new();
        for ((attempt, answer), free) in attempts.iter().zip(answers).zip(outside) {
            if !attempt.refusals.split('|').any(|each| each == answer) {
                wrong.push(format!("{} is {answer}, not {}", attempt.line, attempt.refusals));
            } else if free != "ok" && free == answer {
                if attempt.hosts_own {
                    println!("note: {} is {free} outside too, so it proves nothing here", attempt.line);
                } else {
                    wrong.push(format!("outside {} is {free}, so it proves nothing", attempt.line));
                }
            }
        }
        let controls = answers.iter().zip(outside).skip(attempts.len());
        for (line, (answer, free)) in CONTROLS.iter().zip(controls) {
            if (answer.as_str(), free.as_str()) != ("ok", "ok") {
                wrong.push(format!("control: {line} is {answer}, and {free} outside"));
            }
        }
        assert!(wrong.is_empty(), "{self:?}: {wrong:#?}");
    }

    /// Nothing is best effort in silence: what was wanted and could not be had is said, and what was had.
    #[track_caller]
    fn says_what_held(self, object: &Value) {
        let (held, degraded) = (words(&object["isolation"]["held"]), words(&object["isolation"]["degraded"]));
        let said = |texts: &[String], part: &str| texts.iter().any(|text| text.contains(part));
        // Root has no capability to map root with, so a task of root's has no namespaces.
        let wanted = self.namespaces == "auto";
        let could = self.host == Host::AsItIs && self.whom != Whom::Root;
        if wanted && could && !said(&held, "user namespace") {
            println!("note: {self:?}: this host gives no namespaces: {degraded:?}");
        }
        let has = said(&held, "user namespace");
        assert!(!has || (wanted && could), "{self:?}: {object}");
        assert_eq!(wanted && !has, said(&degraded, "no namespaces of their own"), "{self:?}: {degraded:?}");
        let scoped = self.abi.is_none_or(|abi| abi >= 6) && warden_jail::landlock::kernel_abi() >= 6;
        assert_eq!(!scoped, said(&degraded, "signals"), "{self:?}: {degraded:?}");
    }
}

fn lines(text: &Value) -> Vec<String> {
    text.as_str().expect("a text").lines().map(str::to_owned).collect()
}

fn words(list: &Value) -> Vec<String> {
    let list = list.as_array().into_iter().flatten();
    list.filter_map(|text| text.as_str().map(str::to_owned)).collect()
}
