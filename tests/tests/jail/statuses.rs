//! The exit status: the command's own as a shell says it, else who ended it or refused it.

use crate::{end, jail, place, sh};
use std::time::Duration;
use warden_tests::Place;

#[test]
fn a_command_that_ends_by_itself_has_its_own_status() {
    let place = place("");
    for status in [0, 1, 2, 3, 124, 125, 126, 127, 255] {
        let ran = end(sh(&place, &format!("exit {status}")));
        assert_eq!((ran.status, ran.out.as_str()), (status, ""), "{ran:?}");
        assert!(!ran.err.contains("denied") && !ran.err.contains("time"), "{ran:?}");
    }
}

#[test]
fn a_command_that_a_signal_ends_is_128_and_its_number() {
    let place = place("");
    for (name, number) in [("TERM", 15), ("KILL", 9), ("SEGV", 11), ("ABRT", 6)] {
        assert_eq!(end(sh(&place, &format!("kill -{name} $$"))).status, 128 + number, "{name}");
        let ran =
            end(place.command(&["--json", "jail", "--policy", "warden.toml", "sh", "-c", &format!("kill -{name} $$")]));
        let object = ran.object();
        assert_eq!(
            (ran.status, object["status"].as_str(), object["error_code"].as_str()),
            (128 + number, Some("error"), Some("trap"))
        );
        assert!(object["exit_code"].is_null() && object["error"].as_str().unwrap().contains(name), "{object}");
    }
}

#[test]
fn time_that_is_up_is_124_and_nothing_goes_on() {
    let place = place("[limits]\nwall = \"60s\"\n");
    let mark = format!("sleep 7{}", std::process::id());
    let script = format!("(setsid {mark} &) ; exec {mark}");
    let ran = end(place.command(&["jail", "--policy", "warden.toml", "--timeout", "700ms", "sh", "-c", &script]));
    assert!(ran.status == 124 && ran.err.contains("--timeout") && ran.took < Duration::from_secs(15), "{ran:?}");
    assert_eq!(warden_tests::processes::marked(&mark), [], "T-12");
    // The command's own time, from the policy.
    place.work_policy("[[proc.command]]\nname = \"sh\"\npath = \"/bin/sh\"\nargs = [[\"**\"]]\ntimeout = \"500ms\"\n");
    let ran = end(sh(&place, "exec sleep 50"));
    assert!(ran.status == 124 && ran.err.contains("timeout") && ran.took < Duration::from_secs(15), "{ran:?}");
    assert_eq!(end(sh(&place, "exit 3")).status, 3);
}

#[test]
fn what_is_not_there_is_127_and_what_may_not_be_is_126() {
    let place = Place::of_user();
    for gone in ["no-such-program", "/usr/bin/no-such-program", "./gone"] {
        let ran = end(place.command(&["jail", gone]));
        assert!(ran.status == 127 && ran.err.contains("no-such-program") | ran.err.contains("gone"), "{gone}: {ran:?}");
        end(place.command(&["--json", "jail", gone])).fails("not-found", 127);
    }
    assert_eq!(end(place.command(&["jail", "true"])).status, 0);
    place.policy(crate::COMMANDS.replace("cwd = \"work\"\n", "").as_str());
    let ran = end(jail(&place, &["ls"]));
    assert!(ran.status == 126 && ran.err.contains("denied"), "{ran:?}");
    assert_eq!(end(jail(&place, &["fixed", "one"])).status, 0);
}

#[test]
fn mistakes_are_2_and_one_object_where_json_is_wanted() {
    let place = Place::of_user();
    for words in [
        &["jail"][..],
        &["jail", "--no-such-flag", "true"],
        &["jail", "--timeout", "soon", "true"],
        &["jail", "--memory", "lots", "true"],
        &["jail", "--workspace", "", "true"],
        &["jail", "--workspace", "gone", "true"],
        &["jail", "--policy", "gone.toml", "true"],
        &["jail", "-x"],
        &["jail", "--", "-x"],
    ] {
        let ran = end(place.command(words));
        assert!(ran.status == 2 && ran.out.is_empty() && !ran.err.is_empty(), "{words:?}: {ran:?}");
        end(place.command(&[&["--json"], words].concat())).fails("invalid-argument", 2);
    }
    // What stands after the command is the command's.
    let ran = end(place.command(&["jail", "echo", "--json", "--help", "-x", "--", "y"]));
    assert_eq!((ran.out.as_str(), ran.status), ("--json --help -x -- y\n", 0), "{ran:?}");
}

#[test]
fn memory_over_the_limit_is_124_and_below_it_is_not() {
    if !std::path::Path::new("/usr/bin/python3").exists() {
        return warden_tests::skipped("python3 is not installed");
    }
    let place = Place::of_user();
    let eat = |mib: u32| {
        let script = format!(
            "import os,time\nfor n in range(4):\n  if os.fork()==0:\n    b=bytearray(b'x')*({mib}<<20)\n    time.sleep(3)\n    os._exit(0)\nfor n in range(4): os.wait()\n"
        );
        end(place.command(&["--json", "jail", "python3", "-c", &script]))
    };
    eat(500).fails("budget", 124);
    eat(20).exits(0);
}

/// What a host lacks is said each time, whoever of those that start commands ended first.
#[test]
fn where_no_command_can_be_jailed_the_reason_is_told() {
    if !cfg!(debug_assertions) {
        return warden_tests::skipped("a release goes by the kernel's own Landlock");
    }
    let place = Place::of_user();
    for abi in ["0", "1", "0", "1", "0", "1"] {
        let lowered = |words: &[&str]| {
            let mut command = place.command(words);
            command.env("WARDEN_TEST_LANDLOCK_ABI", abi);
            end(command)
        };
        let why = format!("needs Landlock ABI 2, this kernel has {abi}");
        let object = lowered(&["--json", "jail", "true"]).fails("unavailable", 125);
        assert!(object["error"].as_str().is_some_and(|text| text.contains(&why)), "{object}");
        let ran = lowered(&["jail", "true"]);
        assert!(ran.status == 125 && ran.err.contains(&why), "{ran:?}");
    }
    assert_eq!(end(place.command(&["jail", "true"])).status, 0, "the control");
}
