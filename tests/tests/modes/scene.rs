//! Where it is tried: a workspace with rules, one that is read-only, a folder beside them, a process and sockets outside; and the
//! script that tries.

use crate::mode::{Mode, Whom};
use crate::{beyond, files};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use warden_tests::Place;

/// A line of Python, and what it may answer in a jail.
pub struct Attempt {
    pub line: &'static str,
    /// Names of errors, `A|B`.
    pub refusals: &'static str,
    /// What the host may refuse to everybody: then it proves nothing, and that is said.
    pub hosts_own: bool,
}

/// One that works outside, or answers there in other words.
pub const fn refused(line: &'static str, refusals: &'static str) -> Attempt {
    Attempt { line, refusals, hosts_own: false }
}

/// One that hosts may refuse to everybody or to all but root.
pub const fn often_refused(line: &'static str, refusals: &'static str) -> Attempt {
    Attempt { line, refusals, hosts_own: true }
}

pub fn attempts() -> Vec<Attempt> {
    files::READS
        .into_iter()
        .chain(files::WRITES)
        .chain(beyond::SOCKETS)
        .chain(beyond::PROCESSES)
        .chain(beyond::KERNEL)
        .collect()
}

/// What works in a jail as outside: a broken probe is not taken for a jail.
pub const CONTROLS: [&str; 23] = [
    "read('plain.txt')",
    "read(WORK + '/sub/../plain.txt')",
    "read('to-plain')",
    "read('plain.txt', folder())",
    "read(f'/proc/self/fd/{path_only(\"plain.txt\")}')",
    "read(f'/proc/self/fd/{folder()}/plain.txt')",
    "within('sub', lambda: read('plain.txt'))",
    "read(RO + '/file')",
    "os.symlink(WORK + '/plain.txt', 'own-link') or read('own-link')",
    "os.link('plain.txt', 'own-second') or read('own-second')",
    "run('/bin/cat', 'plain.txt')",
    "os.mkdir('own') or put('own/a') or os.rename('own', 'other') or read('other/a') and os.unlink('other/a')",
    "os.chmod('own-second', 0o640) or os.utime('own-second', (1, 1)) or os.truncate('own-second', 3)",
    "put(os.environ['TMPDIR'] + '/own')",
    "spoken()",
    "os.kill(os.getpid(), 0)",
    "own_child_killed()",
    "os.listdir('/proc/self/fd')",
    "read('/proc/self/status')",
    "raw(318, ctypes.addressof(ROOM), 8, 0)",
    "os.pipe()",
    "in_time()",
    "mapped('plain.txt')",
];

const PRELUDE: &str = r#"
import ctypes, errno, mmap, os, signal, socket, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
ROOM = ctypes.create_string_buffer(4096)
def raw(number, *args):
  answer = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(arg) for arg in args])
  if answer < 0: raise OSError(ctypes.get_errno(), 'refused')
  return answer
def read(path, directory=None):
  fd = os.open(path, os.O_RDONLY, dir_fd=directory)
  try: assert os.read(fd, 64)
  finally: os.close(fd)
def put(path, how=os.O_WRONLY | os.O_CREAT):
  fd = os.open(path, how, 0o600)
  try: os.write(fd, b'x')
  finally: os.close(fd)
def folder(path='.'): return os.open(path, os.O_RDONLY | os.O_DIRECTORY)
def path_only(path): return os.open(path, os.O_PATH)
def mapped(path):
  with open(path, 'rb') as file: assert mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)[0]
def within(path, act):
  os.chdir(path)
  try: return act()
  finally: os.chdir(WORK)
def run(*words): subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
def in_child(act):
  pid = os.fork()
  if pid == 0:
    try: act(); os._exit(0)
    except OSError as error: os._exit(error.errno)
    except BaseException: os._exit(255)
  status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
  if status < 0: raise OSError(0, f'signal {-status}')
  if status: raise OSError(status, 'in a child')
def own_child_killed():
  pid = os.fork()
  if pid == 0: signal.pause()
  os.kill(pid, signal.SIGKILL); assert os.waitpid(pid, 0)[1] == 9
def in_time(): assert subprocess.call(['/usr/bin/timeout', '0.2', '/bin/sleep', '9']) == 124
def spoken():
  one, other = socket.socketpair(); one.send(b'x'); assert other.recv(1) == b'x'
def openat2(path, resolve=0):
  text = ctypes.create_string_buffer(os.fsencode(path)); how = (ctypes.c_uint64 * 3)(0, 0, resolve)
  os.close(raw(437, -100, ctypes.addressof(text), ctypes.addressof(how), 24))
def bound():
  raw(272, 0x10020000)
  source, target = (ctypes.create_string_buffer(os.fsencode(WORK + name)) for name in ('/secret.txt', '/plain.txt'))
  raw(165, ctypes.addressof(source), ctypes.addressof(target), 0, 4096, 0)
  assert b'secret' in open(WORK + '/plain.txt', 'rb').read()
def connected(family, kind, address):
  with socket.socket(family, kind) as s: s.connect(address)
def signalled(number): raw(424, raw(434, number, 0), 0, 0, 0)
def stolen(number):
  local, remote = (ctypes.c_uint64 * 2)(ctypes.addressof(ROOM), 1), (ctypes.c_uint64 * 2)(START, 1)
  raw(310, number, ctypes.addressof(local), 1, ctypes.addressof(remote), 1, 0)
def traced(number):
  raw(101, 0x4206, number, 0, 0)
def t(line):
  try: exec(line, globals()); print('ok')
  except OSError as error: print(errno.errorcode.get(error.errno, str(error)))
  except Exception as error: print(type(error).__name__)
"#;

pub struct Scene {
    pub place: Place,
    outsider: Child,
    port: u16,
    _tcp: TcpListener,
    _unix: UnixListener,
}

impl Scene {
    /// As the mode's task finds it; all of it belongs to the task's user, so that only the jail is in the way.
    pub fn new(mode: Mode) -> Self {
        let place = if mode.whom == Whom::User { Place::of_user() } else { Place::new() };
        let contents = [
            ("work/plain.txt", "plain"),
            ("work/sub/plain.txt", "plain"),
            ("work/secret.txt", "secret"),
            ("work/secret-cut.txt", "secret"),
            ("work/sub/.env", "secret"),
            ("work/moving.txt", "secret"),
            ("work/kept/key", "secret"),
            ("work/Makefile", "all:"),
            ("work/loose-1", "x"),
            ("work/loose-2", "x"),
            ("work/loose-3", "x"),
            ("ro/file", "fixed"),
            ("ro/second", "fixed"),
            ("beside/outside.txt", "outside"),
        ];
        for (name, text) in contents {
            place.put(name, text);
        }
        let work = place.path("work");
        fs::copy("/bin/true", work.join("tool")).unwrap();
        fs::hard_link(work.join("secret.txt"), work.join("hard")).unwrap();
        for (to, name) in [("secret.txt", "link"), ("../beside", "up"), ("plain.txt", "to-plain")] {
            symlink(to, work.join(name)).unwrap();
        }
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let unix = UnixListener::bind(place.path("beside/socket")).unwrap();
        fs::set_permissions(place.path("beside/socket"), fs::Permissions::from_mode(0o777)).unwrap();
        let mut outsider = Command::new("/bin/sleep");
        outsider.arg("300").stdin(Stdio::null());
        if let Some(user) = mode.user() {
            outsider.uid(user).gid(user);
        } else if warden_tests::is_root() {
            for folder in ["work", "ro", "beside", "audit"] {
                give(&place.path(folder));
            }
        }
        let outsider = outsider.spawn().unwrap();
        Self { port: tcp.local_addr().unwrap().port(), place, outsider, _tcp: tcp, _unix: unix }
    }

    /// The policy of a mode, beside the workspaces.
    pub fn policy(&self, mode: Mode) -> PathBuf {
        let root = if mode.whom == Whom::Root { "allow_root = true\n" } else { "" };
        self.place.policy(&format!(
            "[[fs.workspace]]\nlabel = \"work\"\npath = \"work\"\naccess = \"read-write\"\n\
             deny = [\"secret*\", \"**/.env\", \"moving.txt\", \"kept/key\"]\ndeny_write = [\"Makefile\"]\n\
             [[fs.workspace]]\nlabel = \"ro\"\npath = \"ro\"\naccess = \"read-only\"\n\
             [[proc.command]]\nname = \"python3\"\npath = \"/usr/bin/python3\"\nargs = [[\"-c\", \"*\"]]\ncwd = \"work\"\n\
             [isolation]\nnamespaces = \"{}\"\n{root}",
            mode.namespaces
        ))
    }

    /// Tries everything, one answer a line.
    pub fn script(&self, attempts: &[Attempt]) -> String {
        let at = |name: &str| self.place.path(name).display().to_string();
        let facts = format!(
            "WORK, RO, BESIDE, OUT, PORT = '{}', '{}', '{}', {}, {}\nSTART = {:#x}\nos.chdir(WORK)\n",
            at("work"),
            at("ro"),
            at("beside"),
            self.outsider.id(),
            self.port,
            mapping(self.outsider.id())
        );
        let lines = attempts.iter().map(|attempt| attempt.line).chain(CONTROLS);
        let tries: String = lines.map(|line| format!("t(r'''{line}''')\n")).collect();
        format!("{PRELUDE}{facts}{tries}")
    }

    /// Runs a script without warden, as the user of the task.
    #[track_caller]
    pub fn outside(&self, mode: Mode, script: &str) -> Vec<String> {
        let home = self.place.folder_of_task("home", 0o777);
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-c", script]).current_dir(self.place.path("work")).env_clear();
        command.env("PATH", "/usr/bin:/bin").env("TMPDIR", home).stdin(Stdio::null());
        if let Some(user) = mode.user() {
            command.uid(user).gid(user);
        }
        let ran = command.output().expect("python3 runs");
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8_lossy(&ran.stdout).lines().map(str::to_owned).collect()
    }

    /// Whatever was answered: this is as it was.
    #[track_caller]
    pub fn is_untouched(&self) {
        let held = [
            ("work/secret.txt", "secret"),
            ("work/secret-cut.txt", "secret"),
            ("work/sub/.env", "secret"),
            ("work/moving.txt", "secret"),
            ("work/kept/key", "secret"),
            ("work/Makefile", "all:"),
            ("ro/file", "fixed"),
            ("beside/outside.txt", "outside"),
        ];
        for (name, text) in held {
            assert_eq!(self.place.read(name), text, "{name}");
        }
        let names = |folder: &str| {
            let mut names: Vec<_> =
                fs::read_dir(self.place.path(folder)).unwrap().flatten().map(|e| e.file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names("beside"), ["outside.txt", "socket"]);
        assert_eq!(names("ro"), ["file", "second"]);
        let mut found = holding(&self.place.path("work"), "");
        found.sort();
        let expected = ["hard", "kept/key", "moving.txt", "secret-cut.txt", "secret.txt", "sub/.env"];
        assert_eq!(found, expected, "no copy of what is denied");
        let state = fs::read_to_string(format!("/proc/{}/status", self.outsider.id())).unwrap();
        assert!(state.contains("State:\tS") && state.contains("TracerPid:\t0"), "{state}");
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = self.outsider.kill();
        let _ = self.outsider.wait();
    }
}

/// Files of a folder in which the secret stands.
fn holding(folder: &Path, above: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let name = format!("{above}{}", entry.file_name().display());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(holding(&entry.path(), &format!("{name}/")));
        } else if kind.is_file() && fs::read(entry.path()).unwrap().starts_with(b"secret") {
            found.push(name);
        }
    }
    found
}

/// Everything in it becomes root's: a task of root's has its own files.
fn give(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            give(&entry.path());
        } else if !entry.file_type().unwrap().is_symlink() {
            chown(entry.path(), Some(0), Some(0)).unwrap();
        }
    }
    chown(folder, Some(0), Some(0)).unwrap();
}

/// Where a process has memory that can be read.
fn mapping(process: u32) -> u64 {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let first = maps.lines().find(|line| line.contains(" r")).and_then(|line| line.split('-').next());
    u64::from_str_radix(first.unwrap_or("0"), 16).unwrap()
}
