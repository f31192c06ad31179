//! Compiles the rule files into constants: BPF programs, Landlock rights, and one hash over all files.
//!
//! Nothing is parsed in a jailed process. A rule file that is wrong, has a rule without `why`, or that
//! our assembler and seccompiler understand differently, does not build.

#[path = "src/bpf.rs"]
mod bpf;
#[path = "build/landlock.rs"]
mod landlock_rules;
#[path = "build/seccomp.rs"]
mod seccomp_rules;
#[path = "build/symbols.rs"]
mod symbols;
#[path = "build/syscalls.rs"]
mod syscalls;

use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::path::{Path, PathBuf};

fn main() {
    if let Err(why) = run() {
        println!("cargo::error={}", why.replace('\n', " "));
        std::process::exit(1);
    }
}

fn run() -> Result<(), String> {
    let target = std::env::var("CARGO_CFG_TARGET_ARCH").map_err(|e| e.to_string())?;
    if target != "x86_64" {
        return Err(format!("warden-jail has rule files for x86_64 only, not for {target}: write and test them first"));
    }
    let policy = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").ok_or("no CARGO_MANIFEST_DIR")?).join("..");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("no OUT_DIR")?);
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed=src/bpf.rs");
    println!("cargo::rerun-if-changed=src/bpf");
    let mut hash = Sha256::new();
    let seccomp = seccomp(&files(&policy.join("seccomp"), ".x86_64.json")?, &mut hash)?;
    let landlock = landlock(&files(&policy.join("landlock"), ".toml")?, &mut hash)?;
    let digest = hash.finalize();
    let hex = digest.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    let bytes: Vec<u8> = digest.to_vec();
    let text = format!(
        "{seccomp}\n{landlock}\npub const RULES_SHA256: [u8; 32] = {bytes:?};\npub const RULES_SHA256_HEX: &str = {hex:?};\n"
    );
    std::fs::write(out.join("rules.rs"), text).map_err(|e| e.to_string())
}

/// Name and text of each rule file, in order of names.
fn files(folder: &Path, suffix: &str) -> Result<Vec<(String, String)>, String> {
    println!("cargo::rerun-if-changed={}", folder.display());
    let entries = std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| e.to_string())?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if name.ends_with(suffix) {
            println!("cargo::rerun-if-changed={}", path.display());
            let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            files.push((name, text));
        }
    }
    files.sort();
    Ok(files)
}

/// Feeds name, length and content, so that no two sets of files have one hash.
fn feed(hash: &mut Sha256, name: &str, text: &str) {
    hash.update((name.len() as u64).to_le_bytes());
    hash.update(name);
    hash.update((text.len() as u64).to_le_bytes());
    hash.update(text);
}

/// `CapFs` of `cap-fs`.
fn variant(role: &str) -> String {
    role.split('-')
        .map(|word| {
            let (first, rest) = word.split_at(1);
            first.to_uppercase() + rest
        })
        .collect()
}

fn seccomp(files: &[(String, String)], hash: &mut Sha256) -> Result<String, String> {
    let mut arms = String::new();
    for (name, text) in files {
        feed(hash, name, text);
        let text_of = |role: &str| {
            let found = files.iter().find(|(name, _)| *name == format!("{role}.x86_64.json"));
            found.map(|(_, text)| text.clone())
        };
        let filter = seccomp_rules::compile(text, text_of).map_err(|e| format!("policy/seccomp/{name}: {e}"))?;
        if *name != format!("{}.x86_64.json", filter.role) {
            return Err(format!("policy/seccomp/{name} says it is the role {}", filter.role));
        }
        let over = filter.over.map_or("None".to_owned(), |role| format!("Some(Role::{})", variant(&role)));
        let mut program = String::new();
        for i in &filter.program {
            let _ =
                write!(program, "sock_filter {{ code: {:#x}, jt: {}, jf: {}, k: {:#x} }}, ", i.code, i.jt, i.jf, i.k);
        }
        let mut tests = String::new();
        for (act, errno) in &filter.self_test {
            let _ = write!(tests, "(Act::{}, {errno}), ", variant(&act.replace('_', "-")));
        }
        let _ = writeln!(
            arms,
            "Role::{} => FilterRules {{ over: {over}, program: &[{program}], self_test: &[{tests}] }},",
            variant(&filter.role)
        );
    }
    Ok(format!("pub(crate) const fn filter_rules(role: Role) -> FilterRules {{ match role {{\n{arms}}} }}"))
}

fn landlock(files: &[(String, String)], hash: &mut Sha256) -> Result<String, String> {
    let mut arms = String::new();
    for (name, text) in files {
        feed(hash, name, text);
        let (role, rules) = landlock_rules::compile(text).map_err(|e| format!("policy/landlock/{name}: {e}"))?;
        if *name != format!("{role}.toml") {
            return Err(format!("policy/landlock/{name} says it is the role {role}"));
        }
        let rules = match rules {
            landlock_rules::Compiled::Rules(rules) => rules,
            // An unknown name does not compile, and neither does a chain that ends nowhere.
            landlock_rules::Compiled::SameAs(other) => {
                format!("role_rules(Role::{})", variant(&other))
            }
        };
        let _ = writeln!(arms, "Role::{} => {rules},", variant(&role));
    }
    Ok(format!("pub(crate) const fn role_rules(role: Role) -> RoleRules {{ match role {{\n{arms}}} }}"))
}
