//! Reads `policy/landlock/*.toml` and writes them as constants.

use serde::Deserialize;
use std::fmt::Write;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleFile {
    pub role: String,
    about: String,
    /// The role whose rules these are, over other descriptors; nothing else may stand beside it.
    same_as: Option<String>,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    descriptor: Vec<Descriptor>,
    #[serde(default)]
    path: Vec<PathRule>,
    #[serde(default)]
    below: Vec<Below>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Descriptor {
    kind: String,
    rights: Vec<String>,
    why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PathRule {
    path: String,
    rights: Vec<String>,
    required: bool,
    why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Below {
    abi: u8,
    then: String,
    why: String,
}

/// `LANDLOCK_ACCESS_FS_*`, a stable kernel interface.
const RIGHTS: &[(&str, u64)] = &[
    ("execute", 1 << 0),
    ("write-file", 1 << 1),
    ("read-file", 1 << 2),
    ("read-dir", 1 << 3),
    ("remove-dir", 1 << 4),
    ("remove-file", 1 << 5),
    ("make-char", 1 << 6),
    ("make-dir", 1 << 7),
    ("make-reg", 1 << 8),
    ("make-sock", 1 << 9),
    ("make-fifo", 1 << 10),
    ("make-block", 1 << 11),
    ("make-sym", 1 << 12),
    ("refer", 1 << 13),
    ("truncate", 1 << 14),
    ("ioctl-dev", 1 << 15),
];

const SCOPES: &[(&str, u64)] = &[("abstract-unix-socket", 1 << 0), ("signal", 1 << 1)];

const KINDS: &[(&str, &str)] = &[
    ("workspace-read-only", "WorkspaceReadOnly"),
    ("workspace-read-write", "WorkspaceReadWrite"),
    ("workspace-execute", "WorkspaceExecute"),
    ("private-directory", "PrivateDirectory"),
    ("private-execute", "PrivateExecute"),
    ("workspace-run", "WorkspaceRun"),
    ("program", "Program"),
    ("control-group", "ControlGroup"),
    ("policy", "Policy"),
    ("cache", "Cache"),
    ("audit", "Audit"),
    ("run", "Run"),
    ("output", "Output"),
];

fn bits(table: &[(&str, u64)], names: &[String]) -> Result<u64, String> {
    names.iter().try_fold(0, |sum, name| {
        let found = table.iter().find(|(known, _)| known == name);
        found.map(|(_, bit)| sum | bit).ok_or_else(|| format!("`{name}` is no right or scope"))
    })
}

fn reasoned(what: &str, why: &str) -> Result<(), String> {
    if why.trim().is_empty() { Err(format!("{what}: `why` is empty")) } else { Ok(()) }
}

/// A rule file's role, and its rules as a Rust expression of type `RoleRules` or the role they are shared with.
pub enum Compiled {
    Rules(String),
    SameAs(String),
}

/// Compiles one rule file.
pub fn compile(text: &str) -> Result<(String, Compiled), String> {
    let file: RuleFile = toml::from_str(text).map_err(|e| e.to_string())?;
    reasoned("about", &file.about)?;
    if let Some(other) = file.same_as {
        let alone =
            file.scopes.is_empty() && file.descriptor.is_empty() && file.path.is_empty() && file.below.is_empty();
        return if alone {
            Ok((file.role, Compiled::SameAs(other)))
        } else {
            Err("`same_as` stands alone: write the rules out instead".to_owned())
        };
    }
    if file.scopes.is_empty() || file.below.is_empty() {
        return Err("`scopes` and `below` are required: say what an older kernel means".to_owned());
    }
    let mut out = format!("RoleRules {{ scopes: {:#x}, descriptors: &[", bits(SCOPES, &file.scopes)?);
    for rule in &file.descriptor {
        reasoned(&rule.kind, &rule.why)?;
        let kind = KINDS
            .iter()
            .find(|(name, _)| *name == rule.kind)
            .ok_or_else(|| format!("`{}` is no kind of descriptor", rule.kind))?
            .1;
        let _ = write!(out, "(GrantKind::{kind}, {:#x}), ", bits(RIGHTS, &rule.rights)?);
    }
    out.push_str("], paths: &[");
    for rule in &file.path {
        reasoned(&rule.path, &rule.why)?;
        let rights = bits(RIGHTS, &rule.rights)?;
        let _ =
            write!(out, "PathRule {{ path: c{:?}, rights: {rights:#x}, required: {} }}, ", rule.path, rule.required);
    }
    out.push_str("], below: &[");
    for below in &file.below {
        reasoned("below", &below.why)?;
        let then = match below.then.as_str() {
            "refuse" => "Refuse",
            "degraded" => "Degraded",
            "covered" => "Covered",
            other => return Err(format!("`{other}` is not refuse, degraded or covered")),
        };
        let _ = write!(out, "Below {{ abi: {}, then: Then::{then}, why: {:?} }}, ", below.abi, below.why);
    }
    out.push_str("] }");
    Ok((file.role, Compiled::Rules(out)))
}
