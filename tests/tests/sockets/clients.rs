//! Ordinary clients of the services that answer a user's uid, each pointed at a server of the test.

use crate::servers::Servers;
use serde_json::json;
use std::path::Path;
use std::process::Command;
use warden_tests::manifest::succeeded;
use warden_tests::{Place, Task, skipped};

/// Program, and the line that asks the server at `$AT`; each gives up by itself or is made to.
const CLIENTS: [(&str, &str); 4] = [
    ("/usr/bin/ssh-add", "SSH_AUTH_SOCK=$AT timeout 1 ssh-add -l"),
    ("/usr/bin/dbus-send", "timeout 1 dbus-send --bus=unix:path=$AT --print-reply --dest=a.b / a.b.C"),
    ("/usr/bin/curl", "curl -s --max-time 1 --unix-socket $AT http://localhost/containers/json"),
    ("/usr/bin/perl", "perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Peer => $ENV{AT}) or exit 3'"),
];

#[test]
fn clients_of_the_bus_an_agent_and_a_daemon_reach_nobody_and_outside_they_do() {
    for (program, line) in CLIENTS {
        if !Path::new(program).exists() {
            skipped(&format!("a client of a socket: no {program}"));
            continue;
        }
        let place = Place::new();
        place.work_policy(
            "[[proc.command]]\nname = \"sh\"\npath = \"/bin/sh\"\nargs = [[\"-c\", \"*\"]]\ncwd = \"work\"\n",
        );
        let servers = Servers::bind(&place);
        let line = format!("export AT={}; {line}", servers.in_workspace());
        let steps = [("proc.spawn", json!({"command": "sh", "args": ["-c", line]}))];
        let actions = Task::runbook(&steps).actions(&place);
        let output = succeeded(&actions[0]);
        assert_ne!(output["status"], 0, "{program}: {output}");
        assert!(servers.nobody_came(), "{program}: {output}");
        let ran = Command::new("/bin/sh").args(["-c", &line]).output().expect("sh runs");
        assert!(!servers.nobody_came(), "control: {program} asks outside: {ran:?}");
    }
}
