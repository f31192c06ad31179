//! `warden` as its neighbours see it, from its first line on. The real program.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Whoever the program runs as: a process of root's looks the same, readable or not.
const NOBODY: u32 = 65_534;

fn start(command: &mut Command) -> Child {
    if nix::unistd::getuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Whether a process of the same user may read the memory of this one: its files in /proc are that user's, else root's.
fn is_readable(child: &Child) -> bool {
    fs::metadata(format!("/proc/{}/mem", child.id())).unwrap().uid() != 0
}

#[test]
fn every_command_is_unreadable_from_its_first_line_on() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut ordinary = start(Command::new("/bin/sleep").arg("60"));
    // It waits for records to come, without a session.
    let mut warden = start(Command::new(env!("CARGO_BIN_EXE_warden")).args(["audit", "tail", "-f"]).arg(dir.path()));
    let deadline = Instant::now() + Duration::from_secs(20);
    while is_readable(&warden) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    let waits = warden.try_wait().unwrap().is_none();
    let (readable, control) = (is_readable(&warden), is_readable(&ordinary));
    for child in [&mut warden, &mut ordinary] {
        let _ = child.kill();
        child.wait().unwrap();
    }
    assert!(control, "an ordinary program is readable, so the look at it works");
    assert!(waits, "warden was still waiting for records");
    assert!(!readable, "warden's memory is nobody's but root's");
}
