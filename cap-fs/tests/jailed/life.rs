//! What the jail of a running helper is, and how the helper ends.

use crate::rig::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};
use warden_proto::msg::error::ErrorCode;
use warden_proto::msg::fs::*;
use warden_proto::msg::life::Setup;
use warden_proto::{Kind, SocketError, build_id, codec};

const NOBODY: u32 = 65534;

fn status_of(pid: u32) -> impl Fn(&str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    move |key| {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{key}:")));
        line.unwrap_or_else(|| panic!("no {key}")).trim().to_owned()
    }
}

fn assert_jailed(helper: &Helper) {
    let status = status_of(helper.child.0.id());
    assert_eq!((status("NoNewPrivs").as_str(), status("Seccomp").as_str()), ("1", "2"));
    for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
        assert_eq!(status(set), "0000000000000000", "{set}");
    }
    assert_eq!(status("Threads"), "1");
    assert!(helper.locked.landlock_abi >= 2 && helper.locked.seccomp_filters == 1);
    // Undumpable: its files in /proc are root's, whoever it runs as.
    assert_eq!(fs::metadata(format!("/proc/{}/environ", helper.child.0.id())).unwrap().uid(), 0);
    // The standard three, the link, one workspace, the file for turns, the table of descriptors: nothing that it happened to inherit.
    let mut open: Vec<u32> = fs::read_dir(format!("/proc/{}/fd", helper.child.0.id()))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .collect();
    open.sort_unstable();
    assert_eq!(helper.locked.descriptors.to_vec(), open);
    assert_eq!(open.len(), 7);
}

#[test]
fn a_helper_started_as_root_has_no_capability_and_does_its_work() {
    if !nix::unistd::geteuid().is_root() {
        crate::skip::skipped("needs root");
        return;
    }
    let place = Place::new();
    let mut helper = place.helper(&[]);
    assert_jailed(&helper);
    assert_eq!(status_of(helper.child.0.id())("CapBnd"), "0000000000000000");
    fs::write(place.inside("theirs"), "x").unwrap();
    chown(place.inside("theirs"), Some(NOBODY), Some(NOBODY)).unwrap();
    fs::set_permissions(place.inside("theirs"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    // Without CAP_DAC_OVERRIDE root's helper is like anybody.
    assert_eq!(denied_by(helper.read("theirs")), "");
    helper.write("ours", b"x").unwrap();
    assert_eq!(helper.read("ours").unwrap(), b"x");
}

#[test]
fn a_helper_of_an_ordinary_user_sees_where_things_lie() {
    if !nix::unistd::geteuid().is_root() {
        crate::skip::skipped("needs root");
        return;
    }
    let place = Place::new();
    chown(place.inside(""), Some(NOBODY), Some(NOBODY)).unwrap();
    fs::write(place.inside(".env"), "secret").unwrap();
    std::os::unix::fs::symlink(".env", place.inside("link")).unwrap();
    let deny = workspace(&[("**/.env", RuleKind::Deny)]);
    let mut helper = Helper::start(&[(place.inside(""), deny)], Some(NOBODY));
    assert_jailed(&helper);
    assert!(status_of(helper.child.0.id())("Uid").starts_with("65534"));
    assert_eq!(denied_by(helper.read("link")), "rule[0]");
    helper.write("f", b"mine").unwrap();
    assert_eq!(helper.read("f").unwrap(), b"mine");
    assert_eq!(fs::metadata(place.inside("f")).unwrap().uid(), NOBODY);
}

#[test]
fn it_ends_with_goodbye_and_with_its_broker() {
    let place = Place::new();
    let mut helper = place.helper(&[]);
    helper.link.send(Kind::Goodbye, 0, &(), &[], true).unwrap();
    assert_eq!(helper.status().code(), Some(0));
    let Helper { link, mut child, .. } = place.helper(&[]);
    drop(link);
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
}

#[test]
fn killed_in_the_middle_of_a_call_the_link_is_closed() {
    let place = Place::new();
    fs::File::create(place.inside("big")).unwrap().set_len(1 << 30).unwrap();
    let mut helper = place.helper(&[]);
    helper.send(&FsCall::Check { target: at("big"), check: FileCheck::Sha256 { digest: [0; 32] } });
    std::thread::sleep(Duration::from_millis(30));
    kill(Pid::from_raw(helper.child.0.id().cast_signed()), Signal::SIGKILL).unwrap();
    assert!(matches!(helper.receive(), Err(SocketError::Closed)));
    assert_eq!(helper.status().signal(), Some(9));
}

#[test]
fn a_long_call_is_cancelled_and_the_next_one_answered() {
    let place = Place::new();
    fs::File::create(place.inside("big")).unwrap().set_len(1 << 30).unwrap();
    fs::write(place.inside("f"), "x").unwrap();
    let mut helper = place.helper(&[]);
    let long = helper.send(&FsCall::Check { target: at("big"), check: FileCheck::Sha256 { digest: [0; 32] } });
    let short = helper.send(&FsCall::Metadata { target: at("f") });
    helper.link.send(Kind::Cancel, long, &(), &[], true).unwrap();
    let cancelled = helper.receive().unwrap();
    assert_eq!(cancelled.request, long);
    assert_eq!(cancelled.decode::<FsHelperReply>().unwrap().unwrap_err().code, ErrorCode::Timeout);
    let next = helper.receive().unwrap();
    assert_eq!(next.request, short);
    assert!(next.decode::<FsHelperReply>().unwrap().is_ok());
}

#[test]
fn a_setup_that_is_not_of_this_build_or_not_what_was_said_ends_it() {
    let good =
        codec::encode(&FsSetup { task: [0; 16], workspaces: Default::default(), growth_rule: Default::default() })
            .unwrap();
    let len = u32::try_from(good.len()).unwrap();
    let setup = |build_id, document_len, descriptors| Setup { build_id, document_len, descriptors };
    let mut bad_rule = workspace(&[("a//b", RuleKind::Deny)]);
    bad_rule.label = warden_proto::Text::new("x").unwrap();
    let rule = codec::encode(&FsSetup {
        task: [0; 16],
        workspaces: warden_proto::List::new(vec![bad_rule]).unwrap(),
        growth_rule: Default::default(),
    });
    let rule = rule.unwrap();
    let rule_len = u32::try_from(rule.len()).unwrap();
    let cases: [(&str, Setup, &[u8]); 6] = [
        ("build", setup([1; 32], len, 0), &good),
        ("length", setup(build_id(), len + 1, 0), &good),
        ("huge", setup(build_id(), u32::MAX, 0), &good),
        ("descriptors", setup(build_id(), len, 1), &good),
        ("document", setup(build_id(), len, 0), &vec![0xff; good.len()]),
        ("rule", setup(build_id(), rule_len, 0), &rule),
    ];
    for (what, setup, bytes) in cases {
        let place = Place::new();
        let mut born = bear(&[directory(&place.inside(""))], None);
        born.hello();
        born.setup(&setup, &document(bytes));
        assert_eq!(born.status().code(), Some(11), "{what}");
    }
    let mut born = bear(&[turns()], None);
    born.hello();
    born.setup(&setup(build_id(), len, 0), &document(&good));
    let locked = born.link.receive(0, Some(Instant::now() + PATIENCE)).unwrap();
    assert_eq!(locked.kind, Kind::Locked, "the control");
}

#[test]
fn a_workspace_that_did_not_come_or_is_no_directory_ends_it() {
    let place = Place::new();
    fs::write(place.inside("f"), "").unwrap();
    let file = nix::fcntl::open(&place.inside("f"), nix::fcntl::OFlag::O_PATH, nix::sys::stat::Mode::empty()).unwrap();
    // Nor without the file for turns, which comes last.
    for inherit in [vec![], vec![file], vec![directory(&place.inside(""))]] {
        let mut born = bear(&inherit, None);
        born.hello();
        let list = warden_proto::List::new(vec![workspace(&[])]).unwrap();
        let bytes =
            codec::encode(&FsSetup { task: [0; 16], workspaces: list, growth_rule: Default::default() }).unwrap();
        let document_len = u32::try_from(bytes.len()).unwrap();
        born.setup(&Setup { build_id: build_id(), document_len, descriptors: 0 }, &document(&bytes));
        assert_eq!(born.status().code(), Some(12));
    }
}
