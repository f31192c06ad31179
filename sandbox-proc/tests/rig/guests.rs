//! Guests built from source: the project's own, and small Rust programs for the two WASI targets.

#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// For this target the linker makes a component by itself; it imports WASI besides, as one built elsewhere may.
const TARGET: &str = "wasm32-wasip2";

static BUILT: LazyLock<PathBuf> = LazyLock::new(|| {
    let target_dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests");
    let status = Command::new(env!("CARGO"))
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../guests"))
        .args(["build", "--release", "--locked", "--target", TARGET, "--target-dir"])
        .arg(&target_dir)
        .status()
        .expect("cargo runs");
    assert!(status.success(), "the guests do not build; is the target there? rustup target add {TARGET}");
    target_dir.join(TARGET).join("release")
});

/// One of the project's guests, as a component.
pub fn component(name: &str) -> Vec<u8> {
    std::fs::read(BUILT.join(format!("{name}.wasm"))).expect("the guest is built")
}

/// A Rust program for one of the WASI targets.
pub fn rust_program(target: &str, source: &str) -> Vec<u8> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("programs-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (main, wasm) = (folder.join("main.rs"), folder.join("main.wasm"));
    std::fs::write(&main, source).unwrap();
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut command = Command::new(rustc);
    command.args(["--edition", "2024", "-O", "--target", target, "-o"]).arg(&wasm).arg(&main);
    assert!(command.status().expect("rustc runs").success(), "is the target there? rustup target add {target}");
    let bytes = std::fs::read(wasm).unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    bytes
}
