//! The program that tries: Python lines, each answered with `ok`, the name of an errno or of another exception.

use serde_json::json;
use warden_tests::manifest::succeeded;
use warden_tests::{Place, Task};

const PYTHON: &str = "/usr/bin/python3";

/// What each line may use.
const PRELUDE: &str = r"
import ctypes, errno, os, socket, struct
STREAM, DGRAM, SEQPACKET = socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET
libc = ctypes.CDLL(None, use_errno=True)
kept = []
def raw(number, *args):
  answer = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(arg) for arg in args])
  if answer < 0: raise OSError(ctypes.get_errno(), 'refused')
  return answer
def made(kind): return socket.socket(socket.AF_UNIX, kind)
def made_raw(family, kind, protocol=0): return os.close(raw(41, family, kind, protocol))
def pair_raw(family, kind):
  ends = (ctypes.c_int * 2)()
  raw(53, family, kind, 0, ctypes.addressof(ends))
def pair(kind):
  kept.append(socket.socketpair(socket.AF_UNIX, kind))
  return kept[-1][0]
def spoken(kind):
  one, other = socket.socketpair(socket.AF_UNIX, kind)
  one.send(b'there'); other.send(b'back')
  assert (other.recv(9), one.recv(9)) == (b'there', b'back')
def filter_of_one():
  kept.append(ctypes.create_string_buffer(struct.pack('HBBI', 6, 0, 0, 0xffffffff)))
  return struct.pack('HxxxxxxP', 1, ctypes.addressof(kept[-1]))
def answer(act):
  try: act(); return 'ok'
  except OSError as error: return errno.errorcode.get(error.errno, str(error))
  except Exception as error: return type(error).__name__
def answers(act, values): return {answer(lambda: act(value)) for value in values}
";

pub struct Probe {
    pub place: Place,
}

impl Probe {
    pub fn new() -> Probe {
        let place = Place::new();
        place.work_policy(&format!(
            "[[proc.command]]\nname = \"python3\"\npath = \"{PYTHON}\"\nargs = [[\"-c\", \"*\"]]\ncwd = \"work\"\n"
        ));
        Probe { place }
    }

    /// Tries each line as a command of a task, and compares; `A|B` allows two answers.
    #[track_caller]
    pub fn inside<T: AsRef<str>>(&self, lines: &[(T, &str)]) {
        compare("in the jail", lines, &self.heard_inside(&tried(lines)));
    }

    /// The same outside.
    #[track_caller]
    pub fn outside<T: AsRef<str>>(&self, lines: &[(T, &str)]) {
        compare("outside", lines, &self.run_outside(&code(&tried(lines))));
    }

    /// What each line is, as a command of a task.
    #[track_caller]
    pub fn says(&self, lines: &[(String, &str)]) {
        let expressions: Vec<String> = lines.iter().map(|(line, _)| line.clone()).collect();
        compare("in the jail", lines, &self.heard_inside(&expressions));
    }

    /// What each line is, outside.
    pub fn heard_outside(&self, lines: &[String]) -> Vec<String> {
        self.run_outside(&code(lines))
    }

    fn heard_inside(&self, expressions: &[String]) -> Vec<String> {
        let steps = [("proc.spawn", json!({"command": "python3", "args": ["-c", code(expressions)]}))];
        let actions = Task::runbook(&steps).actions(&self.place);
        let output = succeeded(&actions[0]);
        assert_eq!(output["status"], 0, "{output}");
        output["stdout"].as_str().unwrap().lines().map(str::to_owned).collect()
    }

    fn run_outside(&self, code: &str) -> Vec<String> {
        let mut command = std::process::Command::new(PYTHON);
        let ran = command.args(["-c", code]).current_dir(self.place.path("work")).output().expect("python3 runs");
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8_lossy(&ran.stdout).lines().map(str::to_owned).collect()
    }
}

fn tried<T: AsRef<str>>(lines: &[(T, &str)]) -> Vec<String> {
    lines.iter().map(|(line, _)| format!("answer(lambda: {})", line.as_ref())).collect()
}

fn code(expressions: &[String]) -> String {
    let lines: String = expressions.iter().map(|each| format!("print({each})\n")).collect();
    format!("{PRELUDE}{lines}")
}

#[track_caller]
fn compare<T: AsRef<str>>(place: &str, lines: &[(T, &str)], found: &[String]) {
    assert_eq!(found.len(), lines.len(), "{place}: {found:?}");
    for ((line, wanted), found) in lines.iter().zip(found) {
        assert!(wanted.split('|').any(|each| each == found), "{place}: {} is {found}, not {wanted}", line.as_ref());
    }
}
