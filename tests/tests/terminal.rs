//! What others chose, on a person's terminal: file names, arguments, a guest's own words (T-14). Nothing of it steers the
//! terminal or reads other than it is; and in JSON it is the same string as ever, in harmless letters.

use serde_json::json;
use std::fs::File;
use std::io::Read;
use std::process::Stdio;
use warden_tests::{Place, Ran, Task};

/// A title that is set, a cleared screen, an override of the reading direction, an isolate, marks.
const HOSTILE: &str = "\u{1b}]0;x\u{7}\u{1b}[2J\u{9b}31m\u{202e}\u{2066}\u{200f}\u{61c}";

#[track_caller]
fn harmless(ran: &Ran) {
    for text in [&ran.out, &ran.err] {
        let hidden = text.chars().find(|c| {
            (c.is_control() && !matches!(c, '\n' | '\t'))
                || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{61c}')
        });
        assert_eq!(hidden, None, "{text:?}");
    }
}

#[test]
fn the_name_of_a_file_cannot_steer_the_terminal() {
    let place = Place::new();
    place.policy("");
    for name in [format!("gone{HOSTILE}.wasm"), format!("grüße{HOSTILE}.wasm")] {
        let ran = place.run(&["run", "--config", "warden.toml", &name]);
        harmless(&ran);
        assert!(ran.status == 127 && ran.err.contains("\\u{202e}") && ran.err.contains("\\u{1b}"), "{}", ran.err);
        // The control: what is plain stands as it is.
        assert_eq!(ran.err.contains("grüße"), name.contains("grüße"), "{}", ran.err);
        let ran = place.json(&["run", "--config", "warden.toml", &name]);
        harmless(&ran);
        assert!(
            ran.fails("not-found", 127)["error"].as_str().unwrap().contains(&name),
            "a program reads the very name"
        );
    }
}

#[test]
fn a_mistaken_argument_cannot_steer_the_terminal() {
    let place = Place::new();
    for args in [vec![format!("fly{HOSTILE}")], vec!["run".to_owned(), format!("--no{HOSTILE}"), "x".to_owned()]] {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let ran = place.run(&args);
        harmless(&ran);
        assert!(ran.status == 2 && ran.err.contains("\\u{202e}"), "{}", ran.err);
        let ran = place.json(&args);
        harmless(&ran);
        ran.fails("invalid-argument", 2);
    }
}

#[test]
fn a_policy_cannot_steer_the_terminal() {
    let place = Place::new();
    let name = format!("bad{HOSTILE}.toml");
    place.write(&name, "version = 1\n\"limts\u{202e}\" = 3\n");
    for args in [["policy", "check", &name], ["policy", "show", "--config=warden.toml"]] {
        harmless(&place.run(&args));
        harmless(&place.json(&args));
    }
    assert_eq!(place.run(&["policy", "check", &name]).status, 2);
}

/// The words of a guest: the name of what it imports, a path that it asks for.
#[test]
fn a_guest_cannot_steer_the_terminal() {
    let place = Place::new();
    place.work_policy("");
    let module = "(module (import \"no\\1b[2J\\e2\\80\\ae\" \"f\" (func)) (func (export \"_start\")))";
    let file = place.put("import.wat", module);
    let ran = place.run(&["run", "--config", "warden.toml", file.to_str().unwrap()]);
    harmless(&ran);
    assert!(ran.status == 125 && ran.err.contains("\\u{202e}"), "{}", ran.err);
    let path = format!("work:../{HOSTILE}");
    let task = Task::runbook(&[("fs.read_file", json!({"path": path}))]);
    let ran = task.run(&place);
    harmless(&ran);
    assert_eq!(ran.outcome("unverified")["denials"][0]["target"], path, "a program reads the very path");
    let file = place.path("task.json");
    let ran = place.run(&["task", "run", file.to_str().unwrap()]);
    harmless(&ran);
    assert!(ran.out.contains("denied") && ran.out.contains("\\u{202e}"), "{}", ran.out);
    // The log of it, as people and programs read it.
    let audit = place.path("audit");
    harmless(&place.run(&["audit", "show", audit.to_str().unwrap()]));
    harmless(&place.json(&["audit", "show", audit.to_str().unwrap()]));
}

/// Writes a text in two halves: `at` bytes, then the rest.
fn halves(text: &str, at: usize) -> String {
    let data: String = text.bytes().map(|byte| format!("\\{byte:02x}")).collect();
    let rest = text.len() - at;
    format!(
        r#"(module (import "wasi_snapshot_preview1" "fd_write" (func $w (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1) (data (i32.const 64) "{data}")
        (func $say (param i32 i32)
          (i32.store (i32.const 0) (local.get 0)) (i32.store (i32.const 4) (local.get 1))
          (drop (call $w (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
        (func (export "_start")
          (call $say (i32.const 64) (i32.const {at})) (call $say (i32.const {}) (i32.const {rest}))))"#,
        64 + at
    )
}

/// What a person's terminal gets of a run.
fn on_a_terminal(place: &Place, module: &str) -> String {
    let pty = nix::pty::openpty(None, None).unwrap();
    let mut command = place.command(&["run", "--config", "warden.toml", module]);
    let mut child = command.stdout(pty.slave).stderr(Stdio::null()).spawn().unwrap();
    drop(command);
    let mut bytes = Vec::new();
    // A terminal that nobody holds any more ends with EIO.
    let _ = File::from(pty.master).read_to_end(&mut bytes);
    assert!(child.wait().unwrap().success());
    String::from_utf8(bytes).unwrap()
}

/// T-14
#[test]
fn the_output_of_a_module_cannot_steer_the_terminal_and_a_pipe_gets_its_very_bytes() {
    let place = Place::new();
    place.policy("");
    let text = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{1b}[31mred\u{1b}[0m grüße\n";
    // In the middle of the first sequence, of the second, of a colour, of a letter.
    for at in [1, 3, 12, 17, 29] {
        let file = place.put("steer.wat", halves(text, at));
        let module = file.to_str().unwrap();
        let shown = on_a_terminal(&place, module);
        let expected = "\\u{1b}]0;owned\\u{7}\\u{1b}[2J\u{1b}[31mred\u{1b}[0m grüße\r\n\u{1b}[0m";
        assert_eq!(shown, expected, "cut at {at}");
        // The control: no terminal, no change.
        assert_eq!(place.run(&["run", "--config", "warden.toml", module]).out, text);
    }
}
