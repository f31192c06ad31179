//! `[[fs.workspace]]` and `[[proc.command]]`: which files a task may touch and which programs it may run.

use super::{Reader, refuse_doubles};
use crate::argv::ArgvShape;
use crate::glob::Glob;
use crate::marks::Marks;
use crate::model::{Access, COMMAND_TIMEOUT_DEFAULT, Command, CommandPath, MAX_FILE_BYTES_DEFAULT, Workspace};
use crate::path::is_label;
use crate::source::{Node, SourceError, Table, Value};

const WORKSPACE_KEYS: &[&str] =
    &["label", "path", "access", "deny", "deny_write", "allow_run_later", "symlinks", "max_file", "lease"];

const COMMAND_KEYS: &[&str] = &[
    "name",
    "path",
    "sha256",
    "args",
    "cwd",
    "env",
    "env_from_guest",
    "timeout",
    "exec_workspace",
    "network",
    "unchecked",
];

const ACCESS: &[(&str, Access)] = &[("read-only", Access::ReadOnly), ("read-write", Access::ReadWrite)];

impl<'a> Reader<'a> {
    pub(super) fn workspaces(&self, table: &Table<'a>, marks: &mut Marks) -> Result<Vec<Workspace>, SourceError> {
        let tables = self.tables(table, "fs", &["workspace"], "[[fs.workspace]]", WORKSPACE_KEYS)?;
        let workspaces: Vec<Workspace> = tables.iter().map(|each| self.workspace(each)).collect::<Result<_, _>>()?;
        let labels = workspaces.iter().zip(&tables).map(|(each, table)| (each.label.as_str(), table.key_at("label")));
        refuse_doubles(self.file, "label", labels)?;
        for (each, table) in workspaces.iter().zip(&tables) {
            let rule = format!("fs.workspace.{}", each.label);
            marks.add_stated(&rule, table, "lease");
            marks.add(rule, table.value_at("path"));
        }
        Ok(workspaces)
    }

    fn workspace(&self, table: &Table<'a>) -> Result<Workspace, SourceError> {
        let label = table.required_text("label")?;
        if !is_label(label) {
            let message = "a label is a letter, then letters, digits, `_` or `-`; at most 64 characters";
            return Err(table.wrong("label", message));
        }
        let path = self.path(table, "path", table.required_text("path")?)?;
        let access = table.choice("access", ACCESS)?.unwrap_or(Access::ReadOnly);
        Ok(Workspace {
            deny: self.globs(table, "deny")?,
            deny_write: self.globs(table, "deny_write")?,
            allow_run_later: table.flag("allow_run_later")?.unwrap_or(false),
            symlinks: table.flag("symlinks")?.unwrap_or(true),
            max_file_bytes: table.size("max_file")?.unwrap_or(MAX_FILE_BYTES_DEFAULT),
            lease: table.flag("lease")?.unwrap_or(true),
            ..Workspace::new(label, path, access)
        })
    }

    fn globs(&self, table: &Table<'a>, key: &str) -> Result<Vec<Glob>, SourceError> {
        let parse =
            |(text, at)| Glob::parse(text).map_err(|error| table.wrong_at(at, format!("bad glob in `{key}`: {error}")));
        table.texts(key)?.into_iter().map(parse).collect()
    }

    pub(super) fn commands(
        &self,
        table: &Table<'a>,
        workspaces: &[Workspace],
        marks: &mut Marks,
    ) -> Result<Vec<Command>, SourceError> {
        let tables = self.tables(table, "proc", &["command"], "[[proc.command]]", COMMAND_KEYS)?;
        let labels: Vec<&str> = workspaces.iter().map(|each| each.label.as_str()).collect();
        let commands: Vec<Command> = tables.iter().map(|each| self.command(each, &labels)).collect::<Result<_, _>>()?;
        let names = commands.iter().zip(&tables).map(|(each, table)| (each.name.as_str(), table.key_at("name")));
        refuse_doubles(self.file, "command", names)?;
        for (each, table) in commands.iter().zip(&tables) {
            marks.add(format!("proc.command.{}", each.name), table.value_at("path"));
        }
        Ok(commands)
    }

    fn command(&self, table: &Table<'a>, labels: &[&str]) -> Result<Command, SourceError> {
        let name = table.required_text("name")?;
        if !is_command_name(name) {
            let message =
                "a command's name is letters, digits, `_`, `-`, `+` or `.`, at most 64, and starts with no sign";
            return Err(table.wrong("name", message));
        }
        let path = self.path(table, "path", table.required_text("path")?)?;
        let cwd = match table.text("cwd")? {
            Some(label) => Some(self.reference(table.wrong("cwd", "").position, "workspace", label, labels)?),
            None => None,
        };
        Ok(Command {
            sha256: sha256_text(table, "sha256")?,
            args: self.shapes(table)?,
            cwd,
            env: self.environment(table)?,
            env_from_guest: self.guest_names(table)?,
            timeout: table.duration("timeout")?.unwrap_or(COMMAND_TIMEOUT_DEFAULT),
            exec_workspace: table.flag("exec_workspace")?.unwrap_or(false),
            network: self.hosts(table, "network")?,
            unchecked: table.flag("unchecked")?.unwrap_or(false),
            ..Command::new(name, CommandPath::File(path))
        })
    }

    fn shapes(&self, table: &Table<'a>) -> Result<Vec<ArgvShape>, SourceError> {
        table.list("args")?.iter().map(|node| self.shape(table, node)).collect()
    }

    fn shape(&self, table: &Table<'a>, node: &'a Node) -> Result<ArgvShape, SourceError> {
        let wrong = || {
            let message = "`args` is a list of argument lists, as in [[\"test\", \"**\"], [\"fmt\"]]";
            table.wrong_at(node.at, message)
        };
        let Value::List(items) = &node.value else {
            return Err(wrong());
        };
        let mut texts = Vec::with_capacity(items.len());
        for item in items {
            let Value::Text(text) = &item.value else {
                return Err(table.wrong_at(item.at, wrong().message));
            };
            texts.push(text.as_str());
        }
        ArgvShape::parse(texts).map_err(|error| table.wrong_at(node.at, format!("`args`: {error}")))
    }

    fn environment(&self, table: &Table<'a>) -> Result<Vec<(String, String)>, SourceError> {
        let mut pairs = Vec::new();
        for (name, value, at) in table.text_map("env")? {
            if !is_env_name(&name) || value.contains('\0') {
                return Err(table.wrong_at(at, format!("`{}` is no environment variable", name.escape_debug())));
            }
            pairs.push((name, value));
        }
        Ok(pairs)
    }

    fn guest_names(&self, table: &Table<'a>) -> Result<Vec<String>, SourceError> {
        let mut names = Vec::new();
        for (name, at) in table.texts("env_from_guest")? {
            if !is_env_name(name) {
                let message = format!("`{}` is no environment variable's name", name.escape_debug());
                return Err(table.wrong_at(at, message));
            }
            names.push(name.to_owned());
        }
        Ok(names)
    }
}

pub(crate) fn is_command_name(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_')
        && text.chars().all(|each| each.is_ascii_alphanumeric() || matches!(each, '_' | '-' | '+' | '.'))
}

/// A name that an environment can hold and a shell can say.
pub(crate) fn is_env_name(text: &str) -> bool {
    text.len() <= 256
        && text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.chars().all(|each| each.is_ascii_alphanumeric() || each == '_')
}

/// A SHA-256 in hex, lower-cased.
pub(crate) fn sha256_text(table: &Table<'_>, key: &str) -> Result<Option<String>, SourceError> {
    let Some(text) = table.text(key)? else {
        return Ok(None);
    };
    if is_sha256(text) {
        Ok(Some(text.to_ascii_lowercase()))
    } else {
        Err(table.wrong(key, format!("`{key}` must be 64 hexadecimal digits")))
    }
}

pub(crate) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
