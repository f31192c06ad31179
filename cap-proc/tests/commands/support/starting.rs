//! Starts the programs of cap-proc as the spawner would, on hosts that are less than this one.

use super::watching::{children, wait_for};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::Pid;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

/// Nobody's uid and gid on Debian.
pub const NOBODY: u32 = 65534;

pub fn sealed(bytes: &[u8]) -> OwnedFd {
    let mut file = File::from(memfd_create("test", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap());
    file.write_all(bytes).unwrap();
    fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK)).unwrap();
    file.into()
}

/// Python that answers process_vm_readv, number 310, with EPERM by a filter of its own and becomes what it is told to.
const NO_TRACING: &str = "\
import ctypes, os, struct, sys
code = b\"\".join(struct.pack(\"HBBI\", *each) for each in [(32, 0, 0, 0), (21, 0, 1, 310), (6, 0, 0, 0x50001), (6, 0, 0, 0x7fff0000)])
text = ctypes.create_string_buffer(code, len(code))
filter = struct.pack(\"HxxxxxxQ\", 4, ctypes.addressof(text))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, filter, 0, 0) == 0
for fd in range(3, 64):
    try: os.set_inheritable(fd, True)
    except OSError: pass
os.execve(sys.argv[1], sys.argv[1:], {})";

/// Starts cap-proc with sockets as its first descriptors and files after them; the shell only opens and moves them. The
/// environment holds a secret that no command may see.
pub fn start(
    role: &str,
    sockets: Vec<OwnedFd>,
    files: &[String],
    last: Option<OwnedFd>,
    (as_nobody, hardened, no_tracing): (bool, bool, bool),
    abi: Option<u8>,
) -> Child {
    let count = sockets.len();
    let mut moves: Vec<String> = (0..count).map(|n| format!("{}<&{n}", n + 3)).collect();
    moves.extend(files.iter().enumerate().map(|(n, path)| format!("{}<'{path}'", n + 3 + count)));
    if last.is_some() {
        moves.push(format!("{}<&1", 3 + count + files.len()));
    }
    moves.push("0</dev/null 1>/dev/null".to_owned());
    let moves = moves.join(" ");
    let program = env!("CARGO_BIN_EXE_cap-proc");
    let script = if as_nobody {
        let drop = format!("/usr/bin/setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups");
        format!("exec {drop} /bin/bash --norc -c '\"{program}\" {role}; exit $?' {moves}")
    } else if hardened {
        // The setting is each user namespace's own: nobody else's changes.
        let close = "echo 0 > /proc/sys/user/max_user_namespaces";
        format!("exec /usr/bin/unshare --map-root-user /bin/sh -c '{close}; exec \"{program}\" {role}' {moves}")
    } else if no_tracing {
        format!("exec /usr/bin/python3 -c '{NO_TRACING}' '{program}' {role} {moves}")
    } else {
        format!("exec '{program}' {role} {moves}")
    };
    let mut command = Command::new("/bin/bash");
    // Bash takes a socket for a remote login and would read a start-up file.
    command.args(["--norc", "-c", &script]).env_clear().env("BROKER_SECRET", "hunter2");
    command.envs(abi.map(|abi| ("WARDEN_TEST_LANDLOCK_ABI", abi.to_string())));
    let mut sockets = sockets.into_iter();
    if let Some(first) = sockets.next() {
        command.stdin(Stdio::from(first));
    }
    if let Some(second) = sockets.next().or(last) {
        command.stdout(Stdio::from(second));
    }
    command.spawn().unwrap()
}

/// The process itself, where a shell of its own uid stands between.
pub fn real_pid(child: &Child, as_nobody: bool) -> Pid {
    let id = child.id();
    if !as_nobody {
        return Pid::from_raw(i32::try_from(id).unwrap());
    }
    let shell = Pid::from_raw(i32::try_from(id).unwrap());
    wait_for("the helper to be forked", || !children(shell).is_empty());
    children(shell)[0]
}
