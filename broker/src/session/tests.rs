use super::*;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use warden_policy::{Format, Policy};

/// A folder with the places of one caller beside a workspace `work`.
struct Host(tempfile::TempDir);

impl Host {
    fn new() -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        for name in ["work", "home", "lib", "work/lib"] {
            std::fs::create_dir(host.path(name)).unwrap();
        }
        for name in ["lib/cap-fs", "work/lib/cap-fs"] {
            std::fs::write(host.path(name), "").unwrap();
        }
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn places(&self, policy: &str) -> Places {
        let beside = self.path("home");
        Places { policy: self.path(policy), audit: beside.clone(), cache: beside.clone(), run: beside }
    }

    /// What is said with the workspace `work`, a policy at `policy` and a program at `program`.
    fn check(&self, access: &str, policy: &str, program: &str) -> Result<(), Failure> {
        let work = self.path("work");
        let text = format!("version = 1\n[[fs.workspace]]\nlabel = \"w\"\npath = \"work\"\naccess = \"{access}\"\n");
        let layer = Policy::parse(&text, Format::Toml, "test", self.0.path()).unwrap();
        let effective = Rc::new(Effective::combine(None, Some(layer), None).unwrap());
        let request = Request {
            policy: effective,
            user: None,
            deciding: vec![],
            programs: vec![],
            quiet: true,
            guests: true,
            first: None,
            hangup: Hangup::NewSegment,
        };
        let facts = std::fs::metadata(&work).unwrap();
        let opened = OpenedWorkspace {
            id: 1,
            identity: (facts.dev(), facts.ino()),
            uid: facts.uid(),
            path: work.display().to_string(),
        };
        let program = self.path(program);
        let ours = [(program.clone(), warden_spawner::trusted::passed(&program))];
        check_deciding(&request, &[opened], &self.places(policy), &ours)
    }
}

#[test]
fn our_own_programs_in_a_workspace_are_refused_unless_it_is_read_only() {
    let host = Host::new();
    let refused = host.check("read-write", "home/policy.toml", "work/lib/cap-fs").unwrap_err();
    assert!(refused.message.contains("warden's program") && refused.message.contains("`w`"), "{refused}");
    assert!(host.check("read-write", "home/policy.toml", "lib/cap-fs").is_ok());
    assert!(host.check("read-only", "home/policy.toml", "work/lib/cap-fs").is_ok());
}

#[test]
fn a_policy_that_does_not_exist_yet_cannot_be_planted() {
    let host = Host::new();
    let refused = host.check("read-write", "work/wasi-warden/policy.toml", "lib/cap-fs").unwrap_err();
    assert!(refused.message.contains("your own policy"), "{refused}");
    assert!(host.check("read-write", "home/wasi-warden/policy.toml", "lib/cap-fs").is_ok());
}

fn effective(dir: &Path, text: &str) -> Effective {
    let layer = Policy::parse(&format!("version = 1\n{text}"), Format::Toml, "test", dir).unwrap();
    Effective::combine(None, Some(layer), None).unwrap()
}

#[test]
fn a_log_that_cannot_be_closed_fails_the_command_and_one_that_can_does_not() {
    let host = Host::new();
    let places = Places { audit: host.path("log"), ..host.places("home/policy.toml") };
    let (mut log, _dir) = open_audit(&effective(&host.path("work"), ""), &places).unwrap();
    assert!(closed(&mut log).is_ok());
    let failure = closed(&mut log).unwrap_err();
    assert_eq!((failure.class, failure.class.status()), (Class::Internal, 125), "{failure}");
}

#[test]
fn a_sink_is_a_descriptor_that_was_passed_and_none_of_our_own() {
    use std::os::fd::{AsRawFd, IntoRawFd};
    let host = Host::new();
    let (_read, write) = nix::unistd::pipe().unwrap();
    let passed = write.into_raw_fd();
    warden_proto::sys::note_inherited();
    let (_other_read, ours) = nix::unistd::pipe().unwrap();
    let opened = |number: i32| {
        let places = Places { audit: host.path("log"), ..host.places("home/policy.toml") };
        let sink = format!("[audit]\nsink = \"fd:{number}\"\n");
        open_audit(&effective(&host.path("work"), &sink), &places).map(drop)
    };
    assert!(opened(ours.as_raw_fd()).is_err_and(|e| e.message.contains("no such descriptor")));
    opened(passed).unwrap();
    assert!(opened(passed).is_err(), "it is given out once");
}
