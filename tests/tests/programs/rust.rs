//! cargo: a crate without dependencies, built and tested offline with a toolchain that the policy grants for reading.

use crate::scene::{PATH, Scene, present};
use crate::tree::Leave;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use warden_tests::is_root;

/// The toolchain of whoever runs the tests.
fn sysroot() -> Option<PathBuf> {
    let said = Command::new("rustc").args(["--print", "sysroot"]).output().ok()?;
    let path = PathBuf::from(String::from_utf8(said.stdout).ok()?.trim());
    path.join("bin/cargo").is_file().then_some(path)
}

/// A toolchain that the user of the task can reach. Root's own often lies where nobody else can pass; then its files get
/// second names beside the workspace.
fn toolchain(scene: &Scene) -> Option<PathBuf> {
    let root = sysroot()?;
    if !is_root() || !root.starts_with("/root") {
        return Some(root);
    }
    let reachable = scene.place().path("toolchain");
    for name in ["bin", "lib"] {
        second_names(&root.join(name), &reachable.join(name));
    }
    Some(reachable)
}

fn second_names(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder of the toolchain").flatten() {
        let (path, name) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            // Of the targets only what this machine itself needs.
            if !entry.file_name().to_str().is_some_and(|name| name.starts_with("wasm32")) {
                second_names(&path, &name);
            }
        } else if fs::hard_link(&path, &name).is_err() {
            fs::copy(&path, &name).expect("a copy of the toolchain");
        }
    }
}

fn a_crate(scene: &Scene) {
    scene.put("Cargo.toml", "[package]\nname = \"small\"\nversion = \"0.1.0\"\nedition = \"2024\"\n");
    scene.put(
        "build.rs",
        "fn main() {\n    let out = std::env::var(\"OUT_DIR\").unwrap();\n    \
         std::fs::write(format!(\"{out}/made.rs\"), \"pub const MADE: u32 = 7;\").unwrap();\n}\n",
    );
    scene.put(
        "src/lib.rs",
        "include!(concat!(env!(\"OUT_DIR\"), \"/made.rs\"));\n/// ```\n/// assert_eq!(small::twice(2), 4);\n/// ```\n\
         pub fn twice(n: u32) -> u32 {\n    n * 2\n}\n#[test]\nfn doubles() {\n    assert_eq!(twice(MADE), 14);\n}\n",
    );
    scene.put("src/main.rs", "fn main() {\n    println!(\"{}\", small::twice(small::MADE));\n}\n");
    scene.put("tests/whole.rs", "#[test]\nfn whole() {\n    assert_eq!(small::twice(3), 6);\n}\n");
}

/// A scene with the toolchain in it, as `docs/tools.md` describes it.
pub fn crate_scene() -> Option<Scene> {
    let scene = Scene::new();
    let Some(toolchain) = toolchain(&scene) else {
        warden_tests::skipped("no Rust toolchain was found by `rustc --print sysroot`");
        return None;
    };
    let path = format!("{}/bin:{PATH}", toolchain.display());
    let scene = scene.reading("rust", &toolchain).executing().variable("PATH", &path);
    // The state of an incremental build has names of chance, and what cargo remembers of a build has times.
    let scene = scene.variable("CARGO_INCREMENTAL", "0").variable("CARGO_TERM_COLOR", "never");
    Some(scene.leaving(|path| {
        let ours = path.starts_with("target/debug/small") || !path.starts_with("target/");
        if ours { Leave::Nothing } else { Leave::Contents }
    }))
}

const BUILT: &str = "cargo build --offline --quiet && ./target/debug/small && cargo build --offline --quiet &&
cargo test --offline 2>/dev/null | sed 's/finished in .*//; s/all doctests ran.*//' && cargo run --offline --quiet &&
echo 'fn broken( {' >src/main.rs && cargo build --offline --quiet 2>&1; echo $?";

#[test]
fn a_crate_is_built_tested_and_run() {
    if !present(&["/usr/bin/cc"]) {
        return;
    }
    let Some(scene) = crate_scene() else { return };
    let ran = scene.same(a_crate, BUILT);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert_eq!(ran.out.matches("1 passed").count(), 3, "{ran:?}");
    assert!(ran.out.starts_with("14\n") && ran.out.ends_with("101\n"), "{ran:?}");
    assert!(ran.tree.contains_key("target/debug/small") && ran.tree.contains_key("Cargo.lock"), "{ran:?}");
}
