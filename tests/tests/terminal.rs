//! What others chose, on a person's terminal: file names, arguments, a guest's own words (T-14). Nothing of it steers the
//! terminal or reads other than it is; and in JSON it is the same string as ever, in harmless letters.

use serde_json::json;
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
