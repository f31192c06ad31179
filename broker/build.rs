//! Builds the guests and lays them beside the programs, so that one `cargo build` leaves a system that runs.
//!
//! Runs on the machine that builds, before the broker is compiled. It has the guests' own workspace built for a target
//! without WASI, turns each module that carries a component type into a component (so its import list is provably what
//! its world says) and copies all to `guests/` in the profile's folder: the project's own by name, those of
//! `guests/samples` and the hand-written modules beneath `samples/`. It trusts the source tree and the toolchain.

use serde_json::Value;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

/// Without WASI: what a guest does not import from the agent's world, it cannot import at all.
const TARGET: &str = "wasm32-unknown-unknown";

/// Cargo's own settings that hold for any build. All others of the outer build would be wrong for the nested one: a target
/// folder that is locked, flags of another linker, the wrapper that makes `cargo clippy` of `cargo check`.
const KEPT_SETTINGS: [&str; 8] = [
    "CARGO_HOME",
    "CARGO_HTTP_",
    "CARGO_MAKEFLAGS",
    "CARGO_NET_",
    "CARGO_REGISTRIES_",
    "CARGO_REGISTRY_",
    "CARGO_SOURCE_",
    "CARGO_TERM_",
];

/// Beside `CARGO_*`: flags and wrappers of the outer build.
const DROPPED_SETTINGS: [&str; 5] =
    ["CLIPPY_ARGS", "RUSTC_WORKSPACE_WRAPPER", "RUSTC_WRAPPER", "RUSTDOCFLAGS", "RUSTFLAGS"];

fn main() {
    if let Err(why) = run() {
        for line in why.lines() {
            println!("cargo::error={line}");
        }
        std::process::exit(1);
    }
}

fn run() -> Result<(), String> {
    let tree = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("..");
    let guests = tree.join("guests");
    let profile = profile_folder(Path::new(&variable("OUT_DIR")?))?;
    let installed = profile.join("guests");
    let newest = watch(&[guests.clone(), tree.join("wit")])?;
    require_target()?;
    let build_folder = profile.parent().unwrap_or(&profile).join("guests-build");
    let mut names = BTreeSet::new();
    for module in build(&guests, &build_folder)? {
        let bytes = fs::read(&module.file).map_err(said(&module.file))?;
        let bytes = if carries_component_type(&bytes)? { componentize(&module.file, &bytes)? } else { bytes };
        names.insert(install(&installed, module.destination(&guests), &bytes, newest)?);
    }
    for file in files_of(&guests.join("wat"))? {
        let Some(name) = file.file_name() else { continue };
        let bytes = fs::read(&file).map_err(said(&file))?;
        names.insert(install(&installed, Path::new("samples").join(name), &bytes, newest)?);
    }
    // A guest that is gone from the source must not stay and be run.
    for stale in files_of(&installed)?.into_iter().chain(files_of(&installed.join("samples"))?) {
        if !names.contains(&stale) {
            fs::remove_file(&stale).map_err(said(&stale))?;
        }
    }
    for name in &names {
        println!("cargo::rerun-if-changed={}", name.display());
    }
    Ok(())
}

fn variable(name: &str) -> Result<OsString, String> {
    std::env::var_os(name).ok_or_else(|| format!("{name} is not set; this program is run by cargo"))
}

fn said(path: &Path) -> impl Fn(std::io::Error) -> String {
    let path = path.to_owned();
    move |error| format!("{}: {error}", path.display())
}

/// The folder of the profile (`target/release`) from `…/build/wasi-warden-HASH/out` beneath it.
fn profile_folder(out: &Path) -> Result<PathBuf, String> {
    let build = out.ancestors().find(|folder| folder.file_name().is_some_and(|name| name == "build"));
    let profile = build.and_then(Path::parent);
    profile.map(Path::to_owned).ok_or_else(|| format!("{} lies in no `build` folder of cargo's", out.display()))
}

/// Has cargo run this again when a source changes; the time of the newest source.
///
/// Cargo looks into every folder it is told of, so it is told of none that holds built things.
fn watch(folders: &[PathBuf]) -> Result<SystemTime, String> {
    println!("cargo::rerun-if-changed=build.rs");
    let mut newest = SystemTime::UNIX_EPOCH;
    let mut waiting = folders.to_vec();
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder).map_err(said(&folder))? {
            let path = entry.map_err(said(&folder))?.path();
            let facts = fs::metadata(&path).map_err(said(&path))?;
            if facts.is_dir() && path.file_name().is_some_and(|name| name == "target") {
                continue;
            }
            println!("cargo::rerun-if-changed={}", path.display());
            if facts.is_dir() {
                waiting.push(path);
            } else {
                newest = newest.max(facts.modified().map_err(said(&path))?);
            }
        }
    }
    Ok(newest)
}

/// Adds the target where rustup can; else says which command does.
fn require_target() -> Result<(), String> {
    if has_target()? {
        return Ok(());
    }
    let add = ["target", "add", TARGET];
    let added = Command::new("rustup").args(add).stdin(Stdio::null()).output();
    if added.is_ok_and(|output| output.status.success()) && has_target()? {
        return Ok(());
    }
    Err(format!(
        "the Rust target {TARGET}, which the guests are built for, is not installed and could not be added.\n\
         Type:  rustup target add {TARGET}\n\
         A Rust that rustup did not install needs the standard library of this target from where it came, in its own version."
    ))
}

fn has_target() -> Result<bool, String> {
    let rustc = variable("RUSTC")?;
    let output = Command::new(&rustc)
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()
        .map_err(|error| format!("{}: {error}", Path::new(&rustc).display()))?;
    let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    Ok(output.status.success() && files_of(&folder).is_ok_and(|files| !files.is_empty()))
}

/// The regular files of a folder; none where there is no folder.
fn files_of(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(said(folder)(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(said(folder))?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    Ok(files)
}

/// A module that cargo built.
struct Module {
    file: PathBuf,
    package: String,
    manifest: PathBuf,
}

impl Module {
    /// Where it goes beneath the folder of the guests.
    fn destination(&self, guests: &Path) -> PathBuf {
        let name = format!("{}.wasm", self.package);
        let samples = guests.canonicalize().unwrap_or_else(|_| guests.to_owned()).join("samples");
        if self.manifest.starts_with(samples) { Path::new("samples").join(name) } else { name.into() }
    }
}

/// Builds every guest of the workspace's default members.
fn build(guests: &Path, build_folder: &Path) -> Result<Vec<Module>, String> {
    let mut cargo = Command::new(variable("CARGO")?);
    for (name, _) in std::env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        let ours = text.starts_with("CARGO_") && !KEPT_SETTINGS.iter().any(|kept| text.starts_with(kept));
        if ours || DROPPED_SETTINGS.contains(&text) {
            cargo.env_remove(&name);
        }
    }
    cargo
        .current_dir(guests)
        .args(["build", "--release", "--locked", "--target", TARGET, "--message-format", "json-render-diagnostics"])
        .arg("--target-dir")
        .arg(build_folder)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    let output = cargo.output().map_err(|error| format!("cargo could not be started: {error}"))?;
    if !output.status.success() {
        return Err(format!(
            "the guests do not build. Try:  cd guests && cargo build --release --locked --target {TARGET}"
        ));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let modules: Vec<Module> = messages.lines().filter_map(module).collect();
    if modules.is_empty() { Err("cargo built no guest".to_owned()) } else { Ok(modules) }
}

/// The module of one of cargo's messages, if it tells of one.
fn module(message: &str) -> Option<Module> {
    let message: Value = serde_json::from_str(message).ok()?;
    let kinds = message.pointer("/target/kind")?.as_array()?;
    if message.get("reason")? != "compiler-artifact" || !kinds.iter().any(|kind| kind == "cdylib" || kind == "bin") {
        return None;
    }
    let files = message.get("filenames")?.as_array()?;
    let file = files.iter().filter_map(Value::as_str).find(|file| file.ends_with(".wasm"))?;
    let manifest = PathBuf::from(message.get("manifest_path")?.as_str()?);
    // The package's name has its dashes; the file's has lost them.
    let package = package_name(message.get("package_id")?.as_str()?)?;
    Some(Module { file: file.into(), package, manifest })
}

/// `agent-core` of `path+file:///…/guests/agent-core#0.1.0` or of `path+file:///…/guests/runbook#runbook-player@0.1.0`.
fn package_name(id: &str) -> Option<String> {
    let (place, version) = id.rsplit_once('#')?;
    let name = version.split_once('@').map(|(name, _)| name).or_else(|| place.rsplit('/').next());
    name.map(str::to_owned)
}

/// Whether the module says which world it is for.
fn carries_component_type(bytes: &[u8]) -> Result<bool, String> {
    for payload in wasmparser::Parser::new(0).parse_all(bytes) {
        let payload = payload.map_err(|error| format!("a guest is no valid module: {error}"))?;
        if matches!(payload, wasmparser::Payload::CustomSection(section) if section.name().starts_with("component-type"))
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// No adapter: an import of anything but WIT interfaces fails here, and not in front of a user.
fn componentize(file: &Path, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut encoder = wit_component::ComponentEncoder::default();
    let component = encoder.validate(true).module(bytes).and_then(|encoder| encoder.encode());
    component.map_err(|error| format!("{} becomes no component: {error:#}", file.display()))
}

/// Writes a file whole or not at all, as old as the newest source: a younger one would make cargo run this for ever.
fn install(folder: &Path, name: PathBuf, bytes: &[u8], time: SystemTime) -> Result<PathBuf, String> {
    let path = folder.join(name);
    let parent = path.parent().unwrap_or(folder);
    fs::create_dir_all(parent).map_err(said(parent))?;
    let staged = path.with_extension(format!("new-{}", std::process::id()));
    fs::write(&staged, bytes).map_err(said(&staged))?;
    let file = fs::File::options().append(true).open(&staged).map_err(said(&staged))?;
    file.set_modified(time).map_err(said(&staged))?;
    fs::rename(&staged, &path).map_err(said(&path))?;
    Ok(path)
}
