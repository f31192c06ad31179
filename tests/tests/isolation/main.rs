//! What holds each process of a live task, as /proc shows it to root; tasks beside each other; files that decide.

mod deciding;
mod jails;
mod neighbours;

use serde_json::json;
use warden_tests::manifest::{self, succeeded};
use warden_tests::{Place, Task, gate};

const REPLAY: &str = "[llm]\nprovider = \"replay\"\nfile = \"run.jsonl\"\n";

/// A task that has every helper running and stands at its gate.
fn standing() -> (Place, warden_tests::Running) {
    let place = Place::new();
    place.folder_of_task("other", 0o755);
    let other = "[[fs.workspace]]\nlabel = \"other\"\npath = \"other\"\n";
    place.work_policy(&format!("{other}{}{REPLAY}", gate::COMMAND));
    place.write("run.jsonl", "{\"content\":\"hello\"}\n");
    place.put("work/a.txt", "hello");
    let steps = [
        ("fs.read_file", json!({"path": "work:a.txt"})),
        ("llm.complete", json!({"messages": [{"role": "user", "content": "hi"}]})),
        gate::step(1),
        ("fs.read_file", json!({"path": "work:a.txt"})),
    ];
    let running = Task::runbook(&steps).start(&place);
    gate::reached(&place, 1);
    gate::stands(&running, 1);
    (place, running)
}

fn finish(place: &Place, running: warden_tests::Running) {
    gate::open(place, 1);
    let object = running.end().outcome("unverified");
    succeeded(manifest::actions(&object).last().unwrap());
}
