//! A running `warden` and what came of it.

use crate::processes::Family;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::io::Read;
use std::process::{Child, Command};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// No `warden` of a test runs longer: what hangs is a failed test and not a hanging run.
const PATIENCE: Duration = Duration::from_secs(60);

/// A `warden` that was started.
pub struct Running {
    child: Child,
    out: Option<JoinHandle<Vec<u8>>>,
    err: Option<JoinHandle<Vec<u8>>>,
    started: Instant,
}

fn reader(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        let _ = from.read_to_end(&mut all);
        all
    })
}

impl Running {
    /// Starts it.
    pub fn of(mut command: Command) -> Self {
        let mut child = command.spawn().expect("warden starts");
        let out = child.stdout.take().map(reader);
        let err = child.stderr.take().map(reader);
        Self { child, out, err, started: Instant::now() }
    }

    /// The broker's process.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process id")
    }

    /// The broker and everything it made.
    pub fn family(&self) -> Family {
        Family::of(self.pid())
    }

    /// Sends a signal to the broker.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("the broker is there");
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("its status").is_some()
    }

    /// Waits for its end.
    pub fn end(mut self) -> Ran {
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("its status") {
                break status;
            }
            if self.started.elapsed() > PATIENCE {
                let _ = self.child.kill();
                let _ = self.child.wait();
                panic!("warden did not end within {PATIENCE:?}\n{}", String::from_utf8_lossy(&take(&mut self.err)));
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        use std::os::unix::process::ExitStatusExt;
        Ran {
            status: status.code().unwrap_or(-1),
            signal: status.signal(),
            out: String::from_utf8_lossy(&take(&mut self.out)).into_owned(),
            err: String::from_utf8_lossy(&take(&mut self.err)).into_owned(),
            took: self.started.elapsed(),
        }
    }
}

fn take(reader: &mut Option<JoinHandle<Vec<u8>>>) -> Vec<u8> {
    reader.take().and_then(|thread| thread.join().ok()).unwrap_or_default()
}

impl Drop for Running {
    fn drop(&mut self) {
        // A test that fails leaves nothing behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a `warden` ended.
#[derive(Debug)]
pub struct Ran {
    /// Its status; -1 when a signal ended it.
    pub status: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// From start to end.
    pub took: Duration,
}

impl Ran {
    /// The one object on standard output; anything beside it fails.
    pub fn object(&self) -> Value {
        let value: Value = serde_json::from_str(&self.out)
            .unwrap_or_else(|e| panic!("not exactly one JSON object ({e}): {:?}\n{}", self.out, self.err));
        assert!(value.is_object() && self.out.lines().count() == 1, "one object on one line: {}", self.out);
        value
    }

    /// Checks status and `error_code` of a failure, and returns the object.
    #[track_caller]
    pub fn fails(&self, error_code: &str, status: i32) -> Value {
        let object = self.object();
        assert_eq!((object["error_code"].as_str(), self.status), (Some(error_code), status), "{object}\n{}", self.err);
        assert_eq!(object["status"], "error", "{object}");
        assert!(object["error"].as_str().is_some_and(|text| !text.is_empty()), "{object}");
        object
    }

    /// Checks a run that ended by itself with `code`, and returns the object.
    #[track_caller]
    pub fn exits(&self, code: i32) -> Value {
        let object = self.object();
        assert_eq!((object["status"].as_str(), self.status), (Some("success"), code), "{object}\n{}", self.err);
        assert_eq!(object["exit_code"], code, "{object}");
        object
    }

    /// Checks `outcome` of a task and the status that belongs to it, and returns the object.
    #[track_caller]
    pub fn outcome(&self, outcome: &str) -> Value {
        let object = self.object();
        let status = match outcome {
            "done" => 0,
            "failed" | "unverified" => 1,
            "budget_exhausted" => 124,
            "denied" => 126,
            _ => 125,
        };
        assert_eq!((object["outcome"].as_str(), self.status), (Some(outcome), status), "{object}\n{}", self.err);
        assert_eq!(object["schema"], "warden.task/1");
        object
    }
}
