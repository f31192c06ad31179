//! `warden policy`, `warden audit` and `warden doctor` as a person or a script meets them: the real program, real files.
//!
//! Every refusal stands beside an allowed control. Files are named explicitly, since root's own places are the system's.

mod audit;
mod doctor;
mod policy;

use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// A folder of one test, with a workspace in it and no file that others can write.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.path("work")).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        path
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_warden"));
        command.args(args).current_dir(self.0.path()).env_clear().stdin(Stdio::null());
        for (name, folder) in
            [("HOME", "."), ("XDG_CONFIG_HOME", "config"), ("XDG_STATE_HOME", "state"), ("XDG_CACHE_HOME", "cache")]
        {
            command.env(name, self.path(folder));
        }
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        Ran(self.command(args).output().unwrap())
    }
}

struct Ran(Output);

impl Ran {
    fn status(&self) -> i32 {
        self.0.status.code().expect("it ended by itself")
    }

    fn out(&self) -> String {
        String::from_utf8(self.0.stdout.clone()).unwrap()
    }

    fn err(&self) -> String {
        String::from_utf8(self.0.stderr.clone()).unwrap()
    }

    /// The one object on standard output; anything beside it fails.
    fn object(&self) -> Value {
        let value: Value = serde_json::from_str(&self.out()).unwrap_or_else(|e| panic!("{e}: {}", self.out()));
        assert!(value.is_object(), "{value}");
        assert_eq!(self.out().lines().count(), 1, "one object, one line: {}", self.out());
        value
    }
}

#[test]
fn with_json_a_usage_error_is_one_object_too() {
    let place = Place::new();
    for words in [
        &["policy", "--json"][..],
        &["policy", "chek", "--json"],
        &["policy", "why", "--json"],
        &["policy", "check", "a", "--config", "b", "--json"],
        &["policy", "why", "no.such", "--config", "gone.toml", "--json"],
        &["audit", "--json"],
        &["audit", "verify", "gone", "--json"],
        &["audit", "show", "--limit", "0", "--json"],
        &["audit", "tail", "-n", "x", "--json"],
        &["doctor", "extra", "--json"],
    ] {
        let ran = place.run(words);
        assert_eq!(ran.status(), 2, "{words:?}: {}", ran.out());
        let object = ran.object();
        assert_eq!(object["schema"], "warden.error/1", "{words:?}");
    }
}

#[test]
fn every_help_teaches_with_an_example() {
    let place = Place::new();
    for words in [
        &["policy", "check", "--help"][..],
        &["policy", "show", "--help"],
        &["policy", "why", "--help"],
        &["audit", "verify", "--help"],
        &["audit", "show", "--help"],
        &["audit", "tail", "--help"],
        &["doctor", "--help"],
    ] {
        let ran = place.run(words);
        assert_eq!(ran.status(), 0, "{words:?}");
        assert!(ran.out().contains("Example") && ran.out().contains("  warden "), "{words:?}: {}", ran.out());
    }
}

#[test]
fn a_file_that_is_no_text_and_a_task_without_words_are_said_in_words() {
    let place = Place::new();
    let path = place.write("p.toml", "");
    fs::write(&path, b"version = 1 # \xff\n").unwrap();
    let ran = place.run(&["policy", "check", "p.toml"]);
    assert!(ran.status() == 2 && ran.err().contains("p.toml is no UTF-8 text"), "{}", ran.err());
    fs::write(&path, "version = 1 # ä\n").unwrap();
    assert_eq!(place.run(&["policy", "check", "p.toml"]).status(), 0);
    let ran = place.run(&["step", "--task", " "]);
    assert!(ran.status() == 2 && ran.err().contains("--task"), "{}", ran.err());
}
