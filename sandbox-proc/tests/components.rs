//! Programs made by the Rust toolchain for both WASI targets, and components that ask for what is not there.

mod rig;

use rig::guests::{component, rust_program};
use rig::{Ran, Template, compile, program};
use warden_proto::msg::proc::EnvVar;
use warden_proto::msg::worker::{End, GuestKind, WorkerSetup};
use warden_proto::{List, Text};

const PROGRAM: &str = r#"
use std::collections::HashMap;
use std::io::Read;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let mut seen = HashMap::new();
    seen.insert("key", std::env::var("KEY").unwrap());
    println!("hello {args:?} {}", seen["key"]);
    eprintln!("to stderr");
    let mut input = String::new();
    std::io::stdin().read_to_string(&mut input).unwrap();
    assert_eq!(input, "");
    assert!(std::time::SystemTime::now() > std::time::UNIX_EPOCH);
    assert!(std::env::vars().count() == 1);
    for _ in 0..1000 { println!("{}", "x".repeat(100)); }
    std::process::exit(7);
}"#;

fn run(wasm: &[u8]) -> Ran {
    let variable = EnvVar { key: Text::cut("KEY"), value: Text::cut("value") };
    let guest = GuestKind::Program { args: List::first(["prog", "a b"].map(Text::cut)), env: List::first([variable]) };
    Template::start().run_code(&compile(wasm, false).unwrap(), WorkerSetup { guest, ..program() })
}

fn assert_ran(ran: &Ran, code: i32) {
    assert_eq!(ran.end(), &End::Exited { code }, "{}", String::from_utf8_lossy(&ran.stderr));
    let stdout = String::from_utf8_lossy(&ran.stdout);
    assert_eq!(stdout.lines().next(), Some(r#"hello ["prog", "a b"] value"#));
    assert_eq!(stdout.len(), stdout.lines().next().unwrap().len() + 1 + 1000 * 101);
    assert_eq!(ran.stderr, b"to stderr\n");
}

#[test]
fn a_rust_program_for_preview_1() {
    assert_ran(&run(&rust_program("wasm32-wasip1", PROGRAM)), 7);
}

#[test]
fn a_rust_program_for_preview_2() {
    // The toolchain's library reports a status by exit(ok|err), which knows no more than one.
    assert_ran(&run(&rust_program("wasm32-wasip2", PROGRAM)), 1);
}

#[test]
fn a_panic_and_a_sleep_for_both() {
    for target in ["wasm32-wasip1", "wasm32-wasip2"] {
        let panics = rust_program(target, "fn main() { panic!(\"on purpose\") }");
        let ran = run(&panics);
        assert!(matches!(ran.end(), End::Trapped { message } if message.contains("unreachable")), "{target}: {ran:?}");
        assert!(String::from_utf8_lossy(&ran.stderr).contains("on purpose"));
    }
    let sleeps =
        rust_program("wasm32-wasip2", "fn main() { std::thread::sleep(std::time::Duration::from_millis(50)) }");
    assert_eq!(run(&sleeps).end(), &End::Returned);
}

#[test]
fn a_sleeping_guest_does_not_outlive_its_time() {
    let sleeps = rust_program("wasm32-wasip2", "fn main() { std::thread::sleep(std::time::Duration::from_secs(60)) }");
    let code = compile(&sleeps, false).unwrap();
    let began = std::time::Instant::now();
    let ran = Template::start().run_code(&code, WorkerSetup { wall_ms: 300, ..program() });
    assert_eq!(ran.end(), &End::OutOfTime);
    assert!(began.elapsed().as_secs() < 5);
}

#[test]
fn files_and_sockets_are_not_there() {
    let files = r#"fn main() { println!("{:?}", std::fs::read("/etc/passwd").map_err(|e| e.kind())) }"#;
    let ran = run(&rust_program("wasm32-wasip2", files));
    assert_eq!(ran.end(), &End::Returned);
    assert!(String::from_utf8_lossy(&ran.stdout).starts_with("Err("), "{ran:?}");
    let sockets = r#"fn main() { let _ = std::net::TcpStream::connect("127.0.0.1:80"); }"#;
    let ran = run(&rust_program("wasm32-wasip2", sockets));
    assert!(matches!(ran.end(), End::Invalid { message } if message.contains("wasi:sockets")), "{ran:?}");
}

#[test]
fn metered_components_count_fuel() {
    let wasm = rust_program("wasm32-wasip2", "fn main() { println!(\"hi\") }");
    let code = compile(&wasm, true).unwrap();
    let template = Template::start();
    let ran = template.run_code(&code, WorkerSetup { fuel: Some(1_000_000_000), ..program() });
    assert_eq!((ran.end(), ran.stdout.as_slice()), (&End::Returned, &b"hi\n"[..]));
    assert!(ran.finish.fuel > 100, "{}", ran.finish.fuel);
    assert_eq!(template.run_code(&code, WorkerSetup { fuel: Some(100), ..program() }).end(), &End::OutOfFuel);
}

#[test]
fn a_brain_is_no_program_and_says_so() {
    let ran = run(&component("runbook_player"));
    assert!(matches!(ran.end(), End::Invalid { message } if message.contains("is a brain")), "{ran:?}");
}

#[test]
fn a_component_of_no_known_world_is_refused_by_name() {
    let other = wat::parse_str(
        r#"(component (core module $m (func (export "f"))) (core instance $i (instantiate $m))
           (func $f (canon lift (core func $i "f"))) (export "hello" (func $f)))"#,
    );
    let ran = run(&other.unwrap());
    assert!(matches!(ran.end(), End::Invalid { message } if message.contains("it exports hello")), "{ran:?}");
    let asks = wat::parse_str(r#"(component (import "acme:launch/rockets" (instance (export "go" (func)))))"#);
    let ran = run(&asks.unwrap());
    assert!(matches!(ran.end(), End::Invalid { message } if message.contains("acme:launch/rockets")), "{ran:?}");
}
