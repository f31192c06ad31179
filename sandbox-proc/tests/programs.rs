//! Core modules through template, compiler and worker, each in its real jail.

mod rig;

use rig::{Template, compile, compile_within, program};
use std::time::{Duration, Instant};
use warden_proto::msg::proc::EnvVar;
use warden_proto::msg::worker::{End, GuestKind, WorkerSetup};
use warden_proto::{List, Text};

const HELLO_300: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "hello\n")
  (data (i32.const 0) "\10\00\00\00\06\00\00\00")
  (func (export "_start")
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))
    (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 32)))
    (call $exit (i32.const 300))))"#;

#[test]
fn hello_reaches_both_outputs_and_keeps_its_whole_status() {
    let ran = Template::start().run_wat(HELLO_300);
    assert_eq!((ran.stdout.as_slice(), ran.stderr.as_slice()), (&b"hello\n"[..], &b"hello\n"[..]));
    assert_eq!(ran.end(), &End::Exited { code: 300 });
    assert_eq!(ran.finish.memory_peak_bytes, 65536);
}

#[test]
fn start_that_returns_and_run_that_gives_a_status() {
    let template = Template::start();
    assert_eq!(template.run_wat(r#"(module (func (export "_start")))"#).end(), &End::Returned);
    let run = r#"(module (func (export "run") (result i32) (i32.const 42)))"#;
    assert_eq!(template.run_wat(run).end(), &End::Exited { code: 42 });
}

#[test]
fn what_is_no_program_is_invalid_and_says_why() {
    let template = Template::start();
    for (wat, why) in [
        (r#"(module (func (export "_initialize")))"#, "library"),
        ("(module)", "neither `_start` nor `run"),
        (r#"(module (func (export "_start") (param i32)))"#, "takes or returns"),
        (r#"(module (func (export "run") (result i64) (i64.const 1)))"#, "return an i32"),
        (r#"(module (import "env" "system" (func (param i32))) (func (export "_start")))"#, "`system` from `env`"),
        (
            r#"(module (import "wasi_snapshot_preview1" "path_open" (func)) (func (export "_start")))"#,
            "`path_open` from `wasi_snapshot_preview1`, which is not there: files of WASI programs are not there yet",
        ),
        (r#"(module (import "wasi_snapshot_preview1" "fd_write" (func)) (func (export "_start")))"#, "another type"),
        ("(component)", "unknown world"),
    ] {
        let ran = template.run_wat(wat);
        assert!(matches!(ran.end(), End::Invalid { message } if message.contains(why)), "{wat}: {ran:?}");
    }
}

#[test]
fn a_trap_is_told_by_name_without_addresses() {
    let template = Template::start();
    for (body, name) in [
        ("unreachable", "unreachable"),
        ("(drop (i32.div_s (i32.const 1) (i32.const 0)))", "divide by zero"),
        ("(drop (i32.load (i32.const 100000)))", "out of bounds memory"),
        ("(call 0)", "stack"),
    ] {
        let ran = template.run_wat(&format!(r#"(module (memory 1) (func (export "_start") {body}))"#));
        let End::Trapped { message } = ran.end() else { panic!("{body}: {ran:?}") };
        assert!(message.contains(name) && !message.contains("0x"), "{body}: {message}");
    }
}

#[test]
fn a_loop_ends_when_its_time_is_up() {
    let template = Template::start();
    let code = compile(br#"(module (func (export "_start") (loop br 0)))"#, false).unwrap();
    let began = Instant::now();
    let ran = template.run_code(&code, WorkerSetup { wall_ms: 200, ..program() });
    assert_eq!(ran.end(), &End::OutOfTime);
    assert!(began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn fuel_runs_out_and_is_counted() {
    let template = Template::start();
    let endless = compile(br#"(module (func (export "_start") (loop br 0)))"#, true).unwrap();
    let ran = template.run_code(&endless, WorkerSetup { fuel: Some(100_000), ..program() });
    assert_eq!(ran.end(), &End::OutOfFuel);
    assert_eq!(ran.finish.fuel, 100_000);
    let short = compile(br#"(module (func (export "_start") nop))"#, true).unwrap();
    let ran = template.run_code(&short, WorkerSetup { fuel: Some(100_000), ..program() });
    assert_eq!(ran.end(), &End::Returned);
    assert!((1..100).contains(&ran.finish.fuel), "{}", ran.finish.fuel);
}

#[test]
fn code_of_the_other_metering_is_refused() {
    let unmetered = compile(br#"(module (func (export "_start")))"#, false).unwrap();
    let ran = Template::start().run_code(&unmetered, WorkerSetup { fuel: Some(1000), ..program() });
    assert!(matches!(ran.end(), End::Invalid { .. }), "{ran:?}");
}

#[test]
fn memory_grows_to_its_bound_and_not_beyond() {
    let template = Template::start();
    // Grows page by page until refused; the status is the number of pages that it got.
    let wat = r#"(module (memory (export "memory") 1) (func (export "run") (result i32) (local $n i32)
      (local.set $n (i32.const 1))
      (block (loop (br_if 1 (i32.eq (memory.grow (i32.const 1)) (i32.const -1)))
        (i32.store8 (i32.mul (local.get $n) (i32.const 65536)) (i32.const 1))
        (local.set $n (i32.add (local.get $n) (i32.const 1))) (br 0)))
      (local.get $n)))"#;
    let code = compile(wat.as_bytes(), false).unwrap();
    let ran = template.run_code(&code, WorkerSetup { memory_bytes: 10 << 20, ..program() });
    assert_eq!(ran.end(), &End::Exited { code: 160 });
    assert_eq!(ran.finish.memory_peak_bytes, 10 << 20);
}

#[test]
fn refused_memory_is_told_apart_from_a_trap() {
    let template = Template::start();
    // Two memories count together, and a guest that aborts because it got none was out of memory.
    let start = "(module (memory 100) (memory 100) (func (export \"_start\")))";
    let gives_up = r#"(module (memory 1) (func (export "_start")
      (if (i32.eq (memory.grow (i32.const 1000)) (i32.const -1)) (then unreachable))))"#;
    let table = "(module (table 200000 funcref) (func (export \"_start\")))";
    for wat in [start, gives_up, table] {
        let code = compile(wat.as_bytes(), false).unwrap();
        let ran = template.run_code(&code, WorkerSetup { memory_bytes: 10 << 20, ..program() });
        assert!(matches!(ran.end(), End::OutOfMemory { .. }), "{wat}: {ran:?}");
        if !wat.contains("table") {
            let control = template.run_code(&code, WorkerSetup { memory_bytes: 100 << 20, ..program() });
            assert_eq!(control.end(), &End::Returned, "{wat}");
        }
    }
}

#[test]
fn deep_recursion_traps_and_the_template_survives() {
    let template = Template::start();
    let deep = r#"(module (func $f (param i64 i64 i64 i64) (result i64)
        (i64.add (i64.const 1) (call $f (local.get 0) (local.get 1) (local.get 2) (local.get 3))))
      (func (export "_start") (drop (call $f (i64.const 1) (i64.const 2) (i64.const 3) (i64.const 4)))))"#;
    assert!(matches!(template.run_wat(deep).end(), End::Trapped { message } if message.contains("stack")));
    assert_eq!(template.run_wat(r#"(module (func (export "_start")))"#).end(), &End::Returned);
}

#[test]
fn a_flood_of_output_arrives_whole() {
    let wat = r#"(module
      (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 4)
      (data (i32.const 0) "\10\00\00\00\f0\ff\01\00")
      (func (export "run") (result i32) (local $n i32) (local $sum i32)
        (loop (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
          (local.set $sum (i32.add (local.get $sum) (i32.load (i32.const 8))))
          (br_if 0 (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 500))))
        (local.get $sum)))"#;
    let ran = Template::start().run_wat(wat);
    // Each call takes one frame's worth at most, and says so.
    assert_eq!(ran.end(), &End::Exited { code: 500 * 61440 });
    assert_eq!(ran.stdout.len(), 500 * 61440);
}

#[test]
fn wild_pointers_are_faults_of_the_guest_alone() {
    let wat = r#"(module
      (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
      (memory (export "memory") 1)
      (func (export "run") (result i32)
        (i32.add
          (i32.mul (i32.const 100) (call $write (i32.const 1) (i32.const -4) (i32.const 1) (i32.const 0)))
          (call $random (i32.const 65530) (i32.const 100)))))"#;
    assert_eq!(Template::start().run_wat(wat).end(), &End::Exited { code: 2121 });
}

#[test]
fn garbage_and_cut_code_is_invalid_and_kills_nobody() {
    let template = Template::start();
    let code = compile(HELLO_300.as_bytes(), false).unwrap();
    let mut wrong_version = code.clone();
    for byte in &mut wrong_version[code.len() / 2..] {
        *byte ^= 0x55;
    }
    let cuts = [1, 63, 64, 200, code.len() / 2, code.len() - 1].map(|len| code[..len].to_vec());
    for bad in cuts.iter().chain([&b"\0asm\x01\0\0\0".to_vec(), &vec![0x7f; 5000], &wrong_version, &Vec::new()]) {
        let ran = template.run_code(bad, program());
        assert!(matches!(ran.end(), End::Invalid { .. }), "{} bytes: {ran:?}", bad.len());
    }
    assert_eq!(template.run_code(&code, program()).end(), &End::Exited { code: 300 });
}

#[test]
fn the_compiler_names_what_is_wrong() {
    for (bytes, why) in [
        (&b"not wasm"[..], "WAT"),
        (b"\xff\xfe\xfd", "neither wasm"),
        (b"\0asm\x01\0\0\0\x01\x7f", "unexpected end"),
        (b"(module (func (result i32)))", "type mismatch"),
        (b"(module (memory 1 1 shared))", "threads"),
    ] {
        let finish = compile(bytes, false).unwrap_err();
        assert!(matches!(&finish.end, End::Invalid { message } if message.contains(why)), "{why}: {finish:?}");
    }
    assert!(matches!(compile_within(HELLO_300.as_bytes(), false, 100).unwrap_err().end, End::Invalid { .. }));
    assert!(compile(HELLO_300.as_bytes(), false).is_ok());
}

#[test]
fn arguments_environment_and_clocks() {
    let wat = r#"(module
      (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "environ_sizes_get" (func $esizes (param i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
      (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1)
      (func $show (param $at i32) (param $len i32)
        (i32.store (i32.const 500) (local.get $at)) (i32.store (i32.const 504) (local.get $len))
        (drop (call $write (i32.const 1) (i32.const 500) (i32.const 1) (i32.const 508))))
      (func (export "run") (result i32)
        (drop (call $sizes (i32.const 0) (i32.const 4)))
        (drop (call $args (i32.const 16) (i32.const 100)))
        (call $show (i32.const 100) (i32.load (i32.const 4)))
        (drop (call $esizes (i32.const 8) (i32.const 12)))
        (drop (call $environ (i32.const 200) (i32.const 300)))
        (call $show (i32.const 300) (i32.load (i32.const 12)))
        (drop (call $clock (i32.const 0) (i64.const 0) (i32.const 600)))
        (i32.add (i32.load (i32.const 0)) (i64.gt_u (i64.load (i32.const 600)) (i64.const 1700000000000000000)))))"#;
    let variable = EnvVar { key: Text::cut("KEY"), value: Text::cut("value") };
    let guest = GuestKind::Program { args: List::first(["prog", "a b"].map(Text::cut)), env: List::first([variable]) };
    let ran = Template::start().run_code(&compile(wat.as_bytes(), false).unwrap(), WorkerSetup { guest, ..program() });
    assert_eq!(ran.stdout, b"prog\0a b\0KEY=value\0");
    assert_eq!(ran.end(), &End::Exited { code: 3 });
}
