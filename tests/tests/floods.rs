//! Calls that no limit of the policy holds end their task by a bound of their own, with its own word (T-06).

use serde_json::{Value, json};
use warden_tests::{Place, Ran, Task, log};

fn repeated(times: u64, each: Value) -> Ran {
    let place = Place::new();
    place.work_policy("[limits]\nfs_ops = 10\nwall = \"50s\"\n");
    place.put("work/a", "a");
    let script = json!([
        {"op": "fs.open_workspace", "as": "root"},
        {"op": "policy.claim_budget", "kind": "filesystem-ops", "units": 1},
        {"op": "repeat", "times": times, "each": each},
    ]);
    let ran = Task::script(&script).run(&place);
    log::verify_complete(&place);
    ran
}

#[test]
fn calls_refused_for_a_spent_limit_end_the_task() {
    let look = json!({"op": "fs.metadata", "dir": "root", "path": "a"});
    let object = repeated(5_000, look.clone()).outcome("budget_exhausted");
    let error = object["error"].as_str().unwrap();
    assert!(error.contains("1000 calls") && error.contains("limits.fs_ops"), "{error}");
    // The control: refused and told so, a guest may go on.
    repeated(500, look).outcome("unverified");
    // The same for what is refused when it is claimed.
    let claim = json!({"op": "policy.claim_budget", "kind": "filesystem-ops", "units": 100});
    assert!(repeated(5_000, claim).outcome("budget_exhausted")["error"].as_str().unwrap().contains("limits.fs_ops"));
}

#[test]
fn calls_that_cost_nothing_end_the_task_of_a_planner() {
    let object = repeated(25_000, json!({"op": "policy.describe"})).outcome("budget_exhausted");
    let error = object["error"].as_str().unwrap();
    assert!(error.contains("20000 calls that cost nothing") && error.contains("policy.describe"), "{error}");
    repeated(500, json!({"op": "policy.describe"})).outcome("unverified");
}

/// A component for `warden run` that types a key so many times. There is nothing to type on, and asking costs nothing.
fn types_keys(times: u32) -> String {
    const CODES: &str =
        r#"(enum "denied" "not-found" "invalid-argument" "limit" "timeout" "conflict" "unavailable" "internal")"#;
    format!(
        r#"(component
  (import "osagent:common/types" (instance $types
    (type $c {CODES})
    (export "capability-error-code" (type $code (eq $c)))
    (type $r (record (field "code" $code) (field "message" string) (field "detail" (option string))))
    (export "capability-error" (type (eq $r)))))
  (alias export $types "capability-error" (type $error))
  (import "osagent:input/input" (instance $input
    (alias outer 1 $error (type $e))
    (export "capability-error" (type $own (eq $e)))
    (export "key-sequence" (func (param "text" string) (result (result (error $own)))))))
  (core module $memory
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
  (core instance $m (instantiate $memory))
  (core func $key (canon lower (func $input "key-sequence")
    (memory (core memory $m "memory")) (realloc (core func $m "realloc"))))
  (core module $main
    (import "host" "key" (func $key (param i32 i32 i32)))
    (func (export "run") (result i32) (local $left i32)
      (local.set $left (i32.const {times}))
      (loop $again
        (call $key (i32.const 0) (i32.const 1) (i32.const 512))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br_if $again (local.get $left)))
      (i32.const 0)))
  (core instance $i (instantiate $main (with "host" (instance (export "key" (func $key))))))
  (func $run (result (result)) (canon lift (core func $i "run")))
  (instance $cli (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $cli)))"#
    )
}

#[test]
fn calls_that_cost_nothing_end_a_program_with_its_own_error_code() {
    let place = Place::new();
    let run = |times| place.module(&place.put("keys.wat", types_keys(times)), &["--timeout", "50s"]);
    let object = run(25_000).fails("budget", 124);
    assert!(object["error"].as_str().unwrap().contains("20000 calls that cost nothing"), "{object}");
    // The control.
    run(500).exits(0);
    log::verify_complete(&place);
}
