//! Task manifests: what is to be done, under which policy, and how one will know that it is done.
//!
//! Runs in the broker, on a file the broker opened and vetted. A manifest asks; it grants nothing (T-10). Its limits and
//! folders become the task's layer, its predicates are evaluated by the helpers that hold the things (T-15).

mod predicate;

use std::path::{Path, PathBuf};

use crate::capability::{CAPABILITIES, canonical};
use crate::limits::LimitKey;
use crate::marks::Marks;
use crate::model::{Access, Policy, Scope, Workspace};
use crate::parse::{Reader, is_env_name, read_limits};
use crate::source::{self, Format, Node, SourceError, Table, Value, nearest};

pub use predicate::{BrowserCheck, FileCheck, PREDICATE_DEPTH_MAX, PREDICATES_MAX, Predicate};

const KEYS: &[&str] = &[
    "kind",
    "policy",
    "goal",
    "brain",
    "limits",
    "step",
    "success",
    "module",
    "args",
    "sample",
    "workspace",
    "allow_dirs",
    "env",
    "fuel",
    "memory",
    "timeout",
];

/// The keys that only some kinds have.
const KEYS_OF_KINDS: &[(&str, &[KindWord])] = &[
    ("goal", &[KindWord::Goal]),
    ("brain", &[KindWord::Goal]),
    ("step", &[KindWord::Runbook]),
    ("module", &[KindWord::WasmRun]),
    ("args", &[KindWord::WasmRun]),
    ("allow_dirs", &[KindWord::WasmRun]),
    ("sample", &[KindWord::Sample]),
    ("env", &[KindWord::WasmRun, KindWord::Sample]),
    ("workspace", &[KindWord::Goal, KindWord::Runbook, KindWord::Sample]),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KindWord {
    Goal,
    Runbook,
    WasmRun,
    Sample,
}

impl KindWord {
    const WORDS: &[(&str, KindWord)] = &[
        ("goal", KindWord::Goal),
        ("runbook", KindWord::Runbook),
        ("wasm-run", KindWord::WasmRun),
        ("sample", KindWord::Sample),
    ];

    fn name(self) -> &'static str {
        KindWord::WORDS.iter().find(|(_, word)| *word == self).map_or("", |(name, _)| name)
    }
}

/// A task as a manifest describes it.
#[derive(Debug, Clone)]
pub struct Manifest {
    pub kind: ManifestKind,
    /// The policy file it names, absolute.
    pub policy: Option<PathBuf>,
    /// Its limits and folders, as the task's layer.
    pub request: Policy,
    /// All must be met.
    pub success: Vec<Predicate>,
}

#[derive(Debug, Clone)]
pub enum ManifestKind {
    Goal { goal: String, brain: Brain },
    Runbook { steps: Vec<Step> },
    WasmRun { module: PathBuf, args: Vec<String>, env: Vec<(String, String)> },
    Sample { sample: String, env: Vec<(String, String)> },
}

impl ManifestKind {
    pub fn name(&self) -> &'static str {
        match self {
            ManifestKind::Goal { .. } => "goal",
            ManifestKind::Runbook { .. } => "runbook",
            ManifestKind::WasmRun { .. } => "wasm-run",
            ManifestKind::Sample { .. } => "sample",
        }
    }
}

/// What plans a goal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Brain {
    /// `builtin:agent-core`
    AgentCore,
    Component(PathBuf),
}

impl Brain {
    /// `builtin:agent-core` or a component's path, relative to `base`; also for `--component`.
    pub fn parse(text: &str, base: &Path) -> Result<Brain, &'static str> {
        match text.strip_prefix("builtin:") {
            Some("agent-core") => Ok(Brain::AgentCore),
            Some(_) => Err("there is no such built-in brain; it is `builtin:agent-core`"),
            None => crate::parse::resolve(base, text).map(Brain::Component),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    #[default]
    Stop,
    Continue,
}

/// One step of a runbook: one action.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// With underscores; one of [`CAPABILITIES`].
    pub capability: String,
    /// Judged when the step runs.
    pub input: serde_json::Value,
    pub on_failure: OnFailure,
    pub audit_tag: Option<String>,
}

impl Manifest {
    /// Parses a manifest. `file` is the name for messages, `base` the absolute directory its relative paths start from.
    pub fn parse(text: &str, format: Format, file: &str, base: &Path) -> Result<Manifest, SourceError> {
        let root = source::read(text, format, file)?;
        let table = Table::open(file, "", &root, KEYS)?;
        let reader = Reader { file, base };
        let word = table.choice("kind", KindWord::WORDS)?.ok_or_else(|| table.missing("kind"))?;
        refuse_strange_keys(&table, word)?;
        let kind = match word {
            KindWord::Goal => goal(&table, base)?,
            KindWord::Runbook => ManifestKind::Runbook { steps: steps(&reader, &table)? },
            KindWord::WasmRun => ManifestKind::WasmRun {
                module: reader.path(&table, "module", table.required_text("module")?)?,
                args: arguments(&table)?,
                env: environment(&table)?,
            },
            KindWord::Sample => {
                ManifestKind::Sample { sample: sample_name(&table)?.to_owned(), env: environment(&table)? }
            }
        };
        let policy = table.text("policy")?.map(|text| reader.path(&table, "policy", text)).transpose()?;
        let request = request(&reader, &table)?;
        let success = predicate::read_list(file, &table, "success")?;
        let mut request = request;
        for (index, node) in table.list("success")?.iter().enumerate() {
            request.marks.add(format!("success[{index}]"), node.at);
        }
        Ok(Manifest { kind, policy, request, success })
    }
}

/// A key of another kind is a mistake about what will happen, not an extra.
fn refuse_strange_keys(table: &Table<'_>, word: KindWord) -> Result<(), SourceError> {
    for (key, kinds) in KEYS_OF_KINDS {
        if table.has(key) && !kinds.contains(&word) {
            let names: Vec<String> = kinds.iter().map(|kind| format!("\"{}\"", kind.name())).collect();
            let message =
                format!("`{key}` belongs to kind {}; this manifest has kind \"{}\"", names.join(" or "), word.name());
            return Err(table.wrong_at(table.key_at(key), message));
        }
    }
    Ok(())
}

fn goal(table: &Table<'_>, base: &Path) -> Result<ManifestKind, SourceError> {
    let goal = table.required_text("goal")?;
    if goal.trim().is_empty() {
        return Err(table.wrong("goal", "`goal` cannot be empty"));
    }
    let brain = match table.text("brain")? {
        None => Brain::AgentCore,
        Some(text) => Brain::parse(text, base).map_err(|reason| {
            let suggestion = text.starts_with("builtin:").then_some("builtin:agent-core");
            table.wrong("brain", format!("`brain`: {reason}")).suggesting(suggestion)
        })?,
    };
    Ok(ManifestKind::Goal { goal: goal.to_owned(), brain })
}

fn steps<'a>(reader: &Reader<'a>, table: &Table<'a>) -> Result<Vec<Step>, SourceError> {
    const STEP_KEYS: &[&str] = &["capability", "input", "on_failure", "audit_tag"];
    const ON_FAILURE: &[(&str, OnFailure)] = &[("stop", OnFailure::Stop), ("continue", OnFailure::Continue)];
    let mut steps = Vec::new();
    for table in reader.list_of_tables(table, "step", "[[step]]", STEP_KEYS)? {
        let written = table.required_text("capability")?;
        let capability = canonical(written);
        if !CAPABILITIES.contains(&capability.as_str()) {
            let shown: String = written.chars().take(80).flat_map(char::escape_debug).collect();
            let error = table.wrong("capability", format!("there is no capability `{shown}`"));
            return Err(error.suggesting(nearest(&capability, CAPABILITIES)));
        }
        let input = match table.node("input") {
            None => serde_json::json!({}),
            Some(node @ Node { value: Value::Table(_), .. }) => node.value.to_json(),
            Some(node) => {
                return Err(table.wrong_at(node.at, "`input` is a table, as in `input = { path = \"a.txt\" }`"));
            }
        };
        steps.push(Step {
            capability,
            input,
            on_failure: table.choice("on_failure", ON_FAILURE)?.unwrap_or_default(),
            audit_tag: table.text("audit_tag")?.map(str::to_owned),
        });
    }
    if steps.is_empty() {
        return Err(table.missing("step"));
    }
    Ok(steps)
}

/// A sample's name goes into file names: no path.
fn sample_name<'a>(table: &Table<'a>) -> Result<&'a str, SourceError> {
    let name = table.required_text("sample")?;
    let good = (1..=64).contains(&name.len())
        && name.chars().all(|each| each.is_ascii_alphanumeric() || matches!(each, '-' | '_'));
    if good {
        Ok(name)
    } else {
        Err(table.wrong("sample", "a sample's name is letters, digits, `-` and `_`; see `warden sample list`"))
    }
}

fn arguments(table: &Table<'_>) -> Result<Vec<String>, SourceError> {
    let check = |(text, at): (&str, _)| {
        if text.contains('\0') {
            Err(table.wrong_at(at, "an argument cannot hold a NUL character"))
        } else {
            Ok(text.to_owned())
        }
    };
    table.texts("args")?.into_iter().map(check).collect()
}

fn environment(table: &Table<'_>) -> Result<Vec<(String, String)>, SourceError> {
    let check = |(name, value, at): (String, String, _)| {
        if is_env_name(&name) && !value.contains('\0') {
            Ok((name, value))
        } else {
            Err(table.wrong_at(at, format!("`{}` is no environment variable", name.escape_debug())))
        }
    };
    table.text_map("env")?.into_iter().map(check).collect()
}

/// The task's layer: limits, by either of their two names, and folders.
fn request<'a>(reader: &Reader<'a>, table: &Table<'a>) -> Result<Policy, SourceError> {
    let mut request = Policy::empty(reader.file, Scope::Request);
    if let Some(node) = table.node("limits") {
        request.limits = read_limits(reader.file, node, &mut request.marks)?;
    }
    let timeout = table.duration("timeout")?.map(|wall| u64::try_from(wall.as_millis()).unwrap_or(u64::MAX));
    let short = [
        ("fuel", LimitKey::Fuel, table.count("fuel")?),
        ("memory", LimitKey::Memory, table.size("memory")?),
        ("timeout", LimitKey::Wall, timeout),
    ];
    for (key, limit, value) in short {
        let Some(value) = value else { continue };
        if request.limits.get(limit).is_some() {
            let message = format!("`{key}` and `{}` in [limits] are the same limit; write one", limit.name());
            return Err(table.wrong(key, message));
        }
        request.limits.set(limit, value);
    }
    request.workspaces = folders(reader, table, &mut request.marks)?;
    request.marks.add("policy".to_owned(), table.value_at("policy"));
    request.marks.add("brain".to_owned(), table.value_at("brain"));
    Ok(request)
}

/// `workspace` is one folder, read-write; `allow_dirs` are folders with a mode, seen by the guest as they are written.
fn folders<'a>(
    reader: &Reader<'a>,
    table: &Table<'a>,
    marks: &mut Marks,
) -> Result<Option<Vec<Workspace>>, SourceError> {
    const ACCESS: &[(&str, Access)] = &[("read-only", Access::ReadOnly), ("read-write", Access::ReadWrite)];
    if let Some(text) = table.text("workspace")? {
        let path = reader.path(table, "workspace", text)?;
        marks.add("fs.workspace.workspace".to_owned(), table.value_at("workspace"));
        return Ok(Some(vec![Workspace::new("workspace", path, Access::ReadWrite)]));
    }
    if !table.has("allow_dirs") {
        return Ok(None);
    }
    let mut folders = Vec::new();
    for (index, each) in
        reader.list_of_tables(table, "allow_dirs", "[[allow_dirs]]", &["path", "access"])?.iter().enumerate()
    {
        let text = each.required_text("path")?;
        let path = reader.path(each, "path", text)?;
        let access = each.choice("access", ACCESS)?.unwrap_or(Access::ReadOnly);
        let mut folder = Workspace::new(format!("dir{}", index.saturating_add(1)), path, access);
        folder.guest_path = Some(text.to_owned());
        marks.add(format!("fs.workspace.{}", folder.label), each.value_at("path"));
        folders.push(folder);
    }
    Ok(Some(folders))
}

#[cfg(test)]
mod tests;
