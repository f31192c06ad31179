//! A policy file's text into [`Policy`]: every key, type and value checked, nothing guessed (T-10).
//!
//! Runs in the broker before anything is started. A file without `version` is one of the earlier format.

mod files;
mod helpers;
mod session;

use std::path::{Component, Path, PathBuf};

use crate::limits::{LimitKey, LimitUnit, Limits};
use crate::marks::Marks;
use crate::model::{Policy, Scope};
use crate::seed_config;
pub(crate) use files::{is_command_name, is_env_name, sha256_text};
pub(crate) use helpers::is_http_url;

use crate::source::{self, Format, Node, Position, SourceError, Table, Value, nearest};

const POLICY_KEYS: &[&str] = &[
    "version",
    "limits",
    "fs",
    "proc",
    "net",
    "browser",
    "input",
    "llm",
    "secret",
    "approval",
    "audit",
    "isolation",
    "tools",
];

impl Policy {
    /// Parses a policy. `file` is the name for messages, `base` the absolute directory its relative paths start from.
    pub fn parse(text: &str, format: Format, file: &str, base: &Path) -> Result<Policy, SourceError> {
        let root = source::read(text, format, file)?;
        let Value::Table(entries) = &root.value else {
            return Err(SourceError::new(file, root.at, "expected keys and values"));
        };
        let reader = Reader { file, base };
        if entries.iter().any(|entry| entry.key == "version") {
            reader.policy(&root)
        } else if let Some(entry) = entries.iter().find(|entry| nearest(&entry.key, &["version"]).is_some()) {
            let shown: String = entry.key.chars().take(80).flat_map(char::escape_debug).collect();
            let message = format!("unknown key `{shown}`; a policy starts with `version = 1`");
            Err(SourceError::new(file, entry.at, message).suggesting(Some("version")))
        } else if seed_config::is_seed(entries.iter().map(|entry| entry.key.as_str())) {
            seed_config::read(&reader, &root)
        } else {
            let message = "missing key `version`; a policy starts with `version = 1`";
            Err(SourceError::new(file, Position::START, message).suggesting(Some("version = 1")))
        }
    }
}

/// What every part of the parsing needs to know.
pub(crate) struct Reader<'a> {
    pub file: &'a str,
    pub base: &'a Path,
}

impl<'a> Reader<'a> {
    fn policy(&self, root: &'a Node) -> Result<Policy, SourceError> {
        let table = Table::open(self.file, "", root, POLICY_KEYS)?;
        match table.integer("version")? {
            Some(1) => {}
            Some(other) => {
                let message = format!("version {other} is not known; this warden reads version 1");
                return Err(table.wrong("version", message).suggesting(Some("version = 1")));
            }
            None => return Err(table.missing("version")),
        }
        let mut policy = Policy::empty(self.file, Scope::Whole);
        if let Some(node) = table.node("limits") {
            policy.limits = read_limits(self.file, node, &mut policy.marks)?;
        }
        let marks = &mut policy.marks;
        let workspaces = self.workspaces(&table, marks)?;
        let secrets = self.secrets(&table, marks)?;
        let commands = self.commands(&table, &workspaces, marks)?;
        policy.net = Some(self.net(&table, &secrets)?);
        policy.browser = self.browser(&table, &workspaces)?;
        policy.input = self.input(&table)?;
        policy.llm = self.llm(&table, &secrets, &mut policy.marks)?;
        policy.approval = self.approval(&table, &mut policy.marks)?;
        policy.audit = self.audit(&table)?;
        policy.isolation = self.isolation(&table)?;
        policy.tools = self.tools(&table)?;
        self.check_secret_uses(&table, &secrets, &commands)?;
        policy.workspaces = Some(workspaces);
        policy.commands = Some(commands);
        policy.secrets = secrets;
        Ok(policy)
    }

    /// The tables of `[[section.key]]`, each opened with its keys; `section` itself may hold nothing else.
    pub(crate) fn tables(
        &self,
        table: &Table<'a>,
        section: &'static str,
        section_keys: &'static [&'static str; 1],
        name: &'static str,
        keys: &'static [&'static str],
    ) -> Result<Vec<Table<'a>>, SourceError> {
        let Some(node) = table.node(section) else {
            return Ok(Vec::new());
        };
        let section = Table::open(self.file, section, node, section_keys)?;
        let [key] = section_keys;
        self.list_of_tables(&section, key, name, keys)
    }

    pub(crate) fn list_of_tables(
        &self,
        table: &Table<'a>,
        key: &'static str,
        name: &'static str,
        keys: &'static [&'static str],
    ) -> Result<Vec<Table<'a>>, SourceError> {
        match table.node(key) {
            Some(Node { value: Value::Table(_), at }) => {
                let message = format!("`{key}` is a list of tables");
                Err(SourceError::new(self.file, *at, message).suggesting(Some(name)))
            }
            _ => table.list(key)?.iter().map(|node| Table::open(self.file, name, node, keys)).collect(),
        }
    }

    /// A path of the file, made absolute against the base and freed of `.` and `..`, by text alone.
    pub(crate) fn path(&self, table: &Table<'_>, key: &str, text: &str) -> Result<PathBuf, SourceError> {
        resolve(self.base, text).map_err(|reason| table.wrong(key, format!("`{key}`: {reason}")))
    }

    /// A name that must be among the declared ones.
    pub(crate) fn reference(
        &self,
        at: Position,
        kind: &str,
        name: &str,
        declared: &[&str],
    ) -> Result<String, SourceError> {
        if declared.contains(&name) {
            return Ok(name.to_owned());
        }
        let shown: String = name.chars().take(80).flat_map(char::escape_debug).collect();
        let message = if declared.is_empty() {
            format!("there is no {kind} `{shown}`; none is declared")
        } else {
            format!("there is no {kind} `{shown}`; declared are {}", declared.join(", "))
        };
        Err(SourceError::new(self.file, at, message).suggesting(nearest(name, declared)))
    }
}

/// Reads `[limits]`, of a policy or of a manifest.
pub(crate) fn read_limits(file: &str, node: &Node, marks: &mut Marks) -> Result<Limits, SourceError> {
    const KEYS: &[&str] = &[
        "steps",
        "wall",
        "fuel",
        "memory",
        "output",
        "fs_ops",
        "fs_written",
        "processes",
        "net_requests",
        "net_bytes",
        "browser_actions",
        "llm_calls",
        "llm_tokens",
    ];
    let table = Table::open(file, "[limits]", node, KEYS)?;
    let mut limits = Limits::default();
    for key in LimitKey::ALL {
        let name = key.name();
        marks.add_stated("limits", &table, name);
        match key.unit() {
            LimitUnit::Count => table.count(name)?.inspect(|value| limits.set(key, *value)),
            LimitUnit::Bytes => table.size(name)?.inspect(|value| limits.set(key, *value)),
            LimitUnit::Milliseconds => {
                if let Some(wall) = table.duration(name)? {
                    limits.set_wall(wall);
                }
                None
            }
        };
    }
    Ok(limits)
}

/// Joins and cleans a path by text alone; `base` is absolute.
pub(crate) fn resolve(base: &Path, text: &str) -> Result<PathBuf, &'static str> {
    if text.is_empty() {
        return Err("a path cannot be empty");
    }
    if text.contains('\0') {
        return Err("a path cannot hold a NUL character");
    }
    let mut clean = PathBuf::from("/");
    for component in base.join(text).components() {
        match component {
            Component::Normal(name) => clean.push(name),
            // `/..` is `/`, as the kernel has it.
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Ok(clean)
}

/// Refuses the second of two equal names.
pub(crate) fn refuse_doubles<'n>(
    file: &str,
    kind: &str,
    names: impl Iterator<Item = (&'n str, Position)>,
) -> Result<(), SourceError> {
    let mut seen: Vec<(&str, Position)> = Vec::new();
    for (name, at) in names {
        if let Some((_, first)) = seen.iter().find(|(each, _)| *each == name) {
            let message = format!("duplicate {kind} `{name}`; the first is on line {}", first.line);
            return Err(SourceError::new(file, at, message));
        }
        seen.push((name, at));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
