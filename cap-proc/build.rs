//! Links cap-proc as one file, where this machine has the C library as an archive.
//!
//! Runs on the machine that builds. cap-proc is executed twice for every task that runs commands, and a loader that maps and
//! binds two libraries takes as long for that as the kernel takes for the program. The file stays position-independent, with
//! read-only relocations (T-03); it looks up no user, host or plug-in, for which the C library would want to load more. Where
//! an archive is missing it is linked like any other program: slower, and otherwise the same.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// What rustc asks the linker for by name, and the archives that it is given instead.
const LIBRARIES: [(&str, &[&str]); 7] = [
    ("gcc_s", &["libgcc_eh.a", "libgcc.a"]),
    ("util", &["libutil.a"]),
    ("rt", &["librt.a"]),
    ("pthread", &["libpthread.a"]),
    ("m", &["libm.a"]),
    ("dl", &["libdl.a"]),
    ("c", &["libc.a", "libgcc_eh.a", "libgcc.a"]),
];
/// The beginning of a position-independent program that nobody loads.
const START: &str = "rcrt1.o";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let set = |key: &str, value: &str| env::var(key).is_ok_and(|found| found.split(',').any(|each| each == value));
    let native = env::var("HOST").ok() == env::var("TARGET").ok();
    let ours = set("CARGO_CFG_TARGET_ENV", "gnu") && set("CARGO_CFG_TARGET_ARCH", "x86_64") && native;
    if !ours || set("CARGO_CFG_TARGET_FEATURE", "crt-static") {
        return;
    }
    let Some(out) = env::var_os("OUT_DIR").map(PathBuf::from) else { return };
    if found(START).is_none() || LIBRARIES.iter().any(|(name, archives)| stand_in(&out, name, archives).is_none()) {
        return;
    }
    for argument in [format!("-L{}", out.display()), "-static-pie".into(), "-Wl,-z,pack-relative-relocs".into()] {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
}

/// A text that stands for a library and names its archives: rustc asks for shared ones, whatever the program is to be.
fn stand_in(out: &Path, name: &str, archives: &[&str]) -> Option<()> {
    let paths: Option<Vec<String>> = archives.iter().map(|archive| found(archive)).collect();
    fs::write(out.join(format!("lib{name}.so")), format!("GROUP ( {} )\n", paths?.join(" "))).ok()
}

/// Where the C compiler finds a file of its own.
fn found(file: &str) -> Option<String> {
    let said = Command::new("cc").arg(format!("-print-file-name={file}")).output().ok()?;
    let path = String::from_utf8(said.stdout).ok()?.trim().to_owned();
    Path::new(&path).is_absolute().then_some(path)
}
