//! What is given up is given up by name: a command that runs without the rules of files was asked for as such.

use serde_json::{Value, json};
use warden_tests::manifest::{actions, succeeded};
use warden_tests::{Place, Ran};

/// `warden step` from flags, in workspace `work`, with a model that runs `script` in a shell and says that it is done.
fn step(place: &Place, script: &str, more: &[&str]) -> Ran {
    let act = json!({"status": "continue", "thought": "I act.", "actions": [
        {"capability": "proc.spawn", "input": {"command": "sh", "args": ["-c", script]}}]});
    let done = json!({"status": "complete", "reason": "It is done.", "result": null});
    let lines: Vec<String> = [act, done].iter().map(|turn| json!({"content": turn.to_string()}).to_string()).collect();
    let replay = place.write("run.jsonl", &lines.join("\n"));
    let work = place.path("work");
    let flags =
        ["step", "--task", "Run it.", "--workspace", work.to_str().unwrap(), "--replay", replay.to_str().unwrap()];
    place.json(&[&flags[..], more].concat())
}

fn degraded(object: &Value) -> String {
    object["isolation"]["degraded"].to_string()
}

/// T-10: to name a command with a flag does not give it what is kept from commands, such as .git/hooks; and what may be given
/// up where a host cannot keep it is kept where it can.
#[test]
fn a_command_of_a_flag_is_held_to_the_built_in_rules() {
    for more in [&["--allow-proc", "sh"][..], &["--allow-proc", "sh", "--unchecked"]] {
        let place = Place::new();
        place.folder_of_task("work/.git/hooks", 0o755);
        let plants = "echo evil > .git/hooks/pre-commit || echo kept; echo fine > file && cat file";
        let ran = step(&place, plants, more).outcome("unverified");
        assert_eq!(succeeded(&actions(&ran)[0])["stdout"], "kept\nfine\n", "{ran}");
        assert!(ran["denials"].to_string().contains(".git/hooks/pre-commit"), "{ran}");
        assert!(!place.path("work/.git/hooks/pre-commit").exists());
        assert!(!degraded(&ran).contains("unchecked"), "{ran}");
    }
}

/// T-10: a flag gives up nothing that a policy above it keeps.
#[test]
fn unchecked_on_the_command_line_does_not_widen_a_policy() {
    let command = "[[proc.command]]\nname = \"sh\"\npath = \"/bin/sh\"\nargs = [[\"**\"]]\n";
    let place = Place::new();
    let config = place.work_policy(command);
    let flags = ["--config", config.to_str().unwrap(), "--allow-proc", "/bin/sh", "--unchecked"];
    let object = step(&place, "echo ran", &flags).fails("denied", 126);
    let error = object["error"].as_str().unwrap();
    assert!(error.contains("task:proc.command.sh") && error.contains("user:proc.command.sh.unchecked"), "{error}");
    // The control: the policy says so itself.
    place.work_policy(&format!("{command}unchecked = true\n"));
    let ran = step(&place, "echo ran", &flags).outcome("unverified");
    assert_eq!(succeeded(&actions(&ran)[0])["stdout"], "ran\n");
    // Without a command to give up anything for it is a mistake.
    step(&place, "echo ran", &["--unchecked"]).fails("invalid-argument", 2);
}
