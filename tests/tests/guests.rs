//! Every way a guest can end, well or badly, has its own `error_code` and exit status; compiled code is kept and checked.

use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;
use warden_tests::{Place, log, sample};

fn run(name: &str, more: &[&str]) -> warden_tests::Ran {
    Place::new().module(&sample(name), more)
}

/// Runs a module whose text is given.
fn run_text(text: impl AsRef<[u8]>, name: &str) -> warden_tests::Ran {
    let place = Place::new();
    let file = place.put(name, text);
    place.module(&file, &[])
}

#[test]
fn hello_prints_and_ends_well() {
    let object = run("hello.wat", &[]).exits(0);
    assert_eq!((object["stdout"].as_str(), object["encoding"].as_str()), (Some("hello from inside\n"), Some("utf-8")));
    assert_eq!(
        (&object["error"], &object["error_code"], &object["truncated"]),
        (&Value::Null, &Value::Null, &false.into())
    );
    assert_eq!(object["schema"], "warden.run/1");
    assert!(object["isolation"]["landlock_abi"].is_u64() && object["audit"]["head"].is_string(), "{object}");
}

#[test]
fn a_guests_own_status_and_the_value_of_run_are_wardens_status() {
    run("exit3.wat", &[]).exits(3);
    run("run42.wat", &[]).exits(42);
}

#[test]
fn without_json_the_output_streams_and_the_status_is_the_same() {
    let place = Place::new();
    let config = place.policy("");
    let file = sample("hello.wat");
    let ran = place.run(&["run", "--config", config.to_str().unwrap(), file.to_str().unwrap()]);
    assert_eq!((ran.status, ran.out.as_str()), (0, "hello from inside\n"), "{}", ran.err);
}

#[test]
fn traps_are_told_as_traps() {
    for name in ["trap.wat", "start-trap.wat", "recursion.wat"] {
        let object = run(name, &[]).fails("trap", 125);
        assert_eq!(object["exit_code"], Value::Null, "only a guest's own status is one");
    }
    // The control: what a bad pointer of a guest meets is an error code of the call, and no trap.
    run("bad-pointer.wat", &[]).exits(4);
}

/// T-06
#[test]
fn a_loop_ends_by_its_time_and_by_its_fuel() {
    let ran = run("loop.wat", &["--timeout", "300ms"]);
    ran.fails("timeout", 124);
    assert!(ran.took < Duration::from_secs(10), "{:?}", ran.took);
    let object = run("loop.wat", &["--fuel", "100000", "--timeout", "20s"]).fails("budget", 124);
    assert_eq!(object["usage"]["fuel"], 100_000);
    // The control: fuel enough, and it is counted.
    let object = run("hello.wat", &["--fuel", "100000"]).exits(0);
    assert!(object["usage"]["fuel"].as_u64().is_some_and(|fuel| fuel > 0), "{object}");
}

/// T-06
#[test]
fn memory_grows_to_its_limit_and_no_further() {
    let object = run("grow.wat", &["--memory", "1MiB"]).exits(16);
    assert_eq!(object["usage"]["memory_peak_bytes"], 1024 * 1024);
    let wider = run("grow.wat", &["--memory", "4MiB"]).exits(64);
    assert_eq!(wider["usage"]["memory_peak_bytes"], 4 * 1024 * 1024);
    run("grow-start.wat", &["--memory", "1MiB"]).fails("budget", 124);
    run("memory-bomb.wat", &[]).fails("budget", 124);
}

/// T-06
#[test]
fn tables_are_bounded_too() {
    run("table-bomb.wat", &[]).fails("budget", 124);
    // 0: a growth was refused before ten million entries.
    run("table-grow.wat", &[]).exits(0);
}

/// T-06: what is captured is bounded, the guest goes on, and its deadline ends it.
#[test]
fn a_flood_of_output_is_cut_and_said_so() {
    let place = Place::new();
    place.policy("[limits]\noutput = \"100KiB\"\n");
    let flood = place.module(&sample("stdout-flood.wat"), &["--timeout", "500ms"]).fails("timeout", 124);
    assert_eq!(flood["truncated"], true);
    assert_eq!(flood["stdout"].as_str().map(str::len), Some(100 * 1024));
    // The control: a guest that writes little under the same policy is not cut.
    let hello = place.module(&sample("hello.wat"), &[]).exits(0);
    assert_eq!(hello["truncated"], false);
}

/// More than the bound, then a clean end: the guest is not held up by what nobody keeps.
#[test]
fn a_guest_that_writes_more_than_is_kept_ends_by_itself() {
    let text = r#"(module
      (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
      (memory (export "memory") 2)
      (func (export "_start") (local $turn i32)
        (memory.fill (i32.const 1024) (i32.const 0x79) (i32.const 65536))
        (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 65536))
        (loop $again
          (if (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
          (local.set $turn (i32.add (local.get $turn) (i32.const 1)))
          (br_if $again (i32.lt_u (local.get $turn) (i32.const 100))))
        (call $proc_exit (i32.const 9))))"#;
    let place = Place::new();
    place.policy("[limits]\noutput = \"64KiB\"\n");
    let object = place.module(&place.put("long.wat", text), &[]).exits(9);
    assert_eq!((object["truncated"].as_bool(), object["stdout"].as_str().map(str::len)), (Some(true), Some(65_536)));
}

/// T-14
#[test]
fn output_that_is_no_text_is_base64_and_says_so() {
    let text = r#"(module
      (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1)
      (data (i32.const 0) "\10\00\00\00\03\00\00\00")
      (data (i32.const 16) "\ff\00\"")
      (func (export "_start") (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;
    let object = run_text(text, "bytes.wat").exits(0);
    assert_eq!((object["stdout"].as_str(), object["encoding"].as_str()), (Some("/wAi"), Some("base64")));
}

#[test]
fn what_is_no_module_or_wants_what_is_not_there_is_an_invalid_argument() {
    for name in ["unknown-import.wat", "no-entry.wat", "bad-start.wat"] {
        run(name, &[]).fails("invalid-argument", 125);
    }
    run_text([0x93, 0x1f, 0xff, 0x00, 0x77], "garbage.wasm").fails("invalid-argument", 125);
    run_text("", "empty.wasm").fails("invalid-argument", 125);
    run_text(b"\0asm\x01\0\0\0\x01\x20", "cut.wasm").fails("invalid-argument", 125);
    run_text("(module (func", "cut.wat").fails("invalid-argument", 125);
    // A component of a world that nobody here knows.
    let world = r#"(component (import "nobody:here/thing" (instance (export "f" (func)))))"#;
    let object = run_text(world, "world.wat").fails("invalid-argument", 125);
    assert!(object["error"].as_str().unwrap().contains("nobody:here/thing"), "{object}");
    // The control: the smallest module that is one.
    run_text("(module (func (export \"_start\")))", "whole.wat").exits(0);
}

#[test]
fn a_module_that_is_not_there_is_not_found() {
    let place = Place::new();
    place.module(&place.path("gone.wasm"), &[]).fails("not-found", 127);
    place.module(&place.path("work"), &[]).fails("not-found", 127);
}

#[test]
fn with_json_every_mistake_is_one_object() {
    let place = Place::new();
    let hello = sample("hello.wat");
    let hello = hello.to_str().unwrap();
    let wrong: [&[&str]; 8] = [
        &["run"],
        &["run", "--no-such-flag", hello],
        &["run", "--timeout", "soon", hello],
        &["run", "--memory", "much", hello],
        &["run", "--env", "NOEQUALS", hello],
        &["fly"],
        &[],
        &["run", "--config", "gone.toml", hello],
    ];
    for args in wrong {
        let object = place.json(args).fails("invalid-argument", 2);
        assert_eq!(object["schema"], "warden.error/1", "{args:?}");
    }
    // `--json` counts anywhere on the line, and so does the environment.
    place.run(&["run", "--no-such-flag", "--json"]).fails("invalid-argument", 2);
    let mut command = place.command(&["run"]);
    command.env("WARDEN_OUTPUT", "json");
    warden_tests::Running::of(command).end().fails("invalid-argument", 2);
    // The control: without it the words go to standard error and nothing to standard output.
    let ran = place.run(&["run", "--no-such-flag"]);
    assert_eq!((ran.status, ran.out.as_str()), (2, ""));
    assert!(ran.err.contains("--no-such-flag"), "{}", ran.err);
}

/// The one cached entry of a place.
fn entry(place: &Place) -> (std::path::PathBuf, u64) {
    let folder = place.path("cache/wasi-warden");
    let names: Vec<_> = fs::read_dir(&folder).unwrap().flatten().map(|entry| entry.path()).collect();
    assert_eq!(names.len(), 1, "{names:?}");
    let inode = fs::metadata(&names[0]).unwrap().ino();
    (names[0].clone(), inode)
}

/// Whoever compiles puts a new file in place of the entry, so the same file means that nobody has.
#[test]
fn a_second_run_compiles_nothing() {
    let place = Place::of_user();
    place.module(&sample("hello.wat"), &[]).exits(0);
    let first = entry(&place);
    place.module(&sample("hello.wat"), &[]).exits(0);
    assert_eq!(entry(&place), first);
    let facts = fs::metadata(&first.0).unwrap();
    assert_eq!(facts.mode() & 0o777, 0o600);
}

/// T-04: an entry that is not what was written is left out and made again.
#[test]
fn a_damaged_cache_entry_is_compiled_again() {
    let place = Place::of_user();
    place.module(&sample("run42.wat"), &[]).exits(42);
    let (path, _) = entry(&place);
    let whole = fs::read(&path).unwrap();
    for damage in ["a bit", "its end", "everything"] {
        let mut bytes = whole.clone();
        match damage {
            "a bit" => bytes[whole.len() / 2] ^= 4,
            "its end" => bytes.truncate(whole.len() - 7),
            _ => bytes.clear(),
        }
        fs::write(&path, bytes).unwrap();
        place.module(&sample("run42.wat"), &[]).exits(42);
        let (again, _) = entry(&place);
        assert_eq!((&again, fs::read(&again).unwrap() == whole), (&path, true), "{damage}");
    }
}

/// T-04: an entry of another module's name holds nothing for this one.
#[test]
fn an_entry_is_bound_to_its_module_and_its_settings() {
    let place = Place::of_user();
    place.module(&sample("run42.wat"), &[]).exits(42);
    let (plain, _) = entry(&place);
    place.module(&sample("run42.wat"), &["--fuel", "10000"]).exits(42);
    place.module(&sample("hello.wat"), &[]).exits(0);
    let names = fs::read_dir(plain.parent().unwrap()).unwrap().count();
    assert_eq!(names, 3, "one for each module and setting");
}

#[test]
fn a_cache_that_cannot_be_used_is_skipped_with_a_warning() {
    let place = Place::of_user();
    let config = place.policy("");
    fs::set_permissions(
        place.folder_of_task("cache/wasi-warden", 0o755),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let ran = place.run(&["run", "--config", config.to_str().unwrap(), sample("exit3.wat").to_str().unwrap()]);
    assert_eq!(ran.status, 3, "{}", ran.err);
    assert!(ran.err.contains("cache"), "{}", ran.err);
}

/// T-09: an audit log that cannot be written ends the command with 125.
#[test]
fn without_an_audit_log_nothing_runs() {
    let place = Place::of_user();
    place.policy("");
    place.module(&sample("run42.wat"), &[]).exits(42);
    fs::set_permissions(place.path("audit"), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let ran = place.module(&sample("run42.wat"), &[]);
    assert_eq!(ran.status, 125, "{}", ran.out);
    assert_eq!(ran.object()["status"], "error");
}

#[test]
fn every_run_leaves_a_log_that_verifies() {
    let place = Place::new();
    let object = place.module(&sample("hello.wat"), &[]).exits(0);
    log::verify_complete(&place);
    let head = object["audit"]["head"].as_str().unwrap().to_owned();
    let audit = place.path("audit");
    let found = place.json(&["audit", "verify", audit.to_str().unwrap(), "--head", &head]);
    assert_eq!(found.status, 0, "{}", found.out);
    let other = "0".repeat(63) + "1";
    assert_eq!(place.json(&["audit", "verify", audit.to_str().unwrap(), "--head", &other]).status, 1);
}

#[test]
fn a_status_that_no_byte_holds_is_no_success_and_one_that_does_is_told_as_it_is() {
    let place = Place::new();
    place.policy("");
    for (code, status) in [(256, 1), (512, 1), (257, 1), (-1, 255), (0, 0), (7, 7)] {
        let text = format!("(module (func (export \"run\") (result i32) i32.const {code}))");
        let file = place.put("status.wat", text);
        let args = ["run", "--config", "warden.toml", file.to_str().unwrap()];
        let ran = place.run(&args);
        assert_eq!(ran.status, status, "{code}: {}", ran.err);
        assert_eq!(ran.err.contains(&format!("status {code}")), code != status, "{code}: {}", ran.err);
        let ran = place.json(&args);
        assert_eq!((ran.status, &ran.object()["exit_code"]), (status, &json!(code)));
    }
}

#[test]
fn what_ended_a_module_is_named_with_a_remedy_that_exists() {
    let place = Place::new();
    place.policy("[limits]\nmemory = \"1MiB\"\n");
    let run = |module: &str, more: &[&str]| {
        let file = place.put("hungry.wat", module);
        let mut args = vec!["run", "--config", "warden.toml"];
        args.extend(more);
        args.push(file.to_str().unwrap());
        let ran = place.run(&args);
        assert_eq!(ran.status, 124, "{}", ran.err);
        ran.err
    };
    let table = run("(module (table 200000 funcref) (func (export \"_start\")))", &[]);
    assert!(table.contains("fixed") && !table.contains("--memory"), "{table}");
    let memory = "(module (memory 100) (func (export \"_start\")))";
    let by_policy = run(memory, &[]);
    assert!(by_policy.contains("`memory` in [limits] of") && by_policy.contains("warden.toml"), "{by_policy}");
    let by_flag = run(memory, &["--memory", "128KiB"]);
    assert!(by_flag.contains("give more with --memory"), "{by_flag}");
}
