//! `fs.*`: every action done, denied by its rule, stopped by its limit, and its helper killed under it; the same through
//! the imports, with handles that are closed, dropped or of another kind.

mod actions;
mod imports;
mod killed;

use serde_json::{Value, json};
use warden_tests::Place;

const RULES: &str = "deny = [\"secret\", \"**/.env\", \"secret/**\"]\ndeny_write = [\"locked/**\"]\n";

/// A workspace with something in it for every act, and a second one that is only for reading.
fn place(rest: &str) -> Place {
    let place = Place::new();
    place.folder_of_task("other", 0o755);
    let read_only = "[[fs.workspace]]\nlabel = \"other\"\npath = \"other\"\n";
    place.work_policy(&format!("{RULES}{read_only}{rest}"));
    for (name, text) in [
        ("work/a.txt", "hello"),
        ("work/old/file", "x"),
        ("work/gone.txt", "x"),
        ("work/secret/key", "TOPSECRET"),
        ("work/.env", "TOPSECRET"),
        ("work/locked/l.txt", "locked"),
        ("other/o.txt", "other"),
        ("other/sub/x", "x"),
    ] {
        place.put(name, text);
    }
    place
}

/// One act of every kind; each can be repeated only where that is said.
fn acts() -> Vec<(&'static str, Value)> {
    vec![
        ("fs.read_file", json!({"path": "work:a.txt"})),
        ("fs.write_file", json!({"path": "work:new.txt", "contents": "new"})),
        ("fs.list_dir", json!({"path": "work:"})),
        ("fs.metadata", json!({"path": "work:a.txt"})),
        ("fs.ensure_dir", json!({"path": "work:made"})),
        ("fs.rename", json!({"path": "work:new.txt", "to": "work:renamed.txt"})),
        ("fs.remove_file", json!({"path": "work:gone.txt"})),
        ("fs.remove_dir", json!({"path": "work:old", "recursive": true})),
    ]
}
