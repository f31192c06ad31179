//! The earlier configuration format (`hostd.toml`), known by the absence of `version`: read into the same [`Policy`].
//!
//! It has seven keys in all. What it left open is closed here: unknown keys are errors, a command is pinned to one
//! file, and the workspace keeps the built-in `deny_write`.

use std::path::Path;

use crate::argv::ArgvShape;
use crate::marks::Marks;
use crate::model::{
    Access, Browser, BrowserDriver, Command, CommandPath, Llm, LlmProvider, Policy, Scope, Secret, SecretSource,
    SecretText, SecretUse, Workspace,
};
use crate::parse::{Reader, is_http_url};
use crate::source::{Node, SourceError, Table};

const KEYS: &[&str] = &["workspace_root", "allow_proc", "llm", "browser"];

/// A file that says something and has no section that only a versioned policy has. An empty one is no configuration: it
/// would grant the folder it lies in.
pub(crate) fn is_seed<'k>(keys: impl Iterator<Item = &'k str>) -> bool {
    let keys: Vec<&str> = keys.collect();
    let only_policy = ["limits", "fs", "proc", "net", "input", "secret", "approval", "audit", "isolation", "tools"];
    !keys.is_empty() && !keys.iter().any(|key| only_policy.contains(key))
}

pub(crate) fn read<'a>(reader: &Reader<'a>, root: &'a Node) -> Result<Policy, SourceError> {
    let table = Table::open(reader.file, "", root, KEYS).map_err(|mut error| {
        error.message.push_str(" (a file without `version` is read as an earlier hostd.toml)");
        error
    })?;
    let mut policy = Policy::empty(reader.file, Scope::Whole);
    let root_path = reader.path(&table, "workspace_root", table.text("workspace_root")?.unwrap_or("."))?;
    policy.workspaces = Some(vec![Workspace::new("workspace", root_path, Access::ReadWrite)]);
    policy.marks.add("fs.workspace.workspace".to_owned(), table.value_at("workspace_root"));
    policy.commands = Some(commands(reader, &table, &mut policy.marks)?);
    policy.net = Some(Vec::new());
    if let Some(node) = table.node("llm") {
        let llm = Table::open(reader.file, "[llm]", node, &["api_base", "api_key", "model"])?;
        if let Some((llm, secret)) = model(&llm)? {
            policy.llm = Some(llm);
            policy.secrets.push(secret);
        }
    }
    if let Some(node) = table.node("browser") {
        let browser = Table::open(reader.file, "[browser]", node, &["webdriver_url", "default_profile"])?;
        policy.browser = driver(&browser)?;
    }
    Ok(policy)
}

/// `allow_proc` matched full paths and base names; here each entry is one file, bare names looked up once.
fn commands<'a>(reader: &Reader<'a>, table: &Table<'a>, marks: &mut Marks) -> Result<Vec<Command>, SourceError> {
    let mut commands: Vec<Command> = Vec::new();
    for (text, at) in table.texts("allow_proc")? {
        let command = allowed_command(text, reader.base).map_err(|reason| table.wrong_at(at, reason))?;
        if commands.iter().any(|each| each.name == command.name) {
            return Err(table.wrong_at(at, format!("duplicate command `{}`", command.name)));
        }
        marks.add(format!("proc.command.{}", command.name), at);
        commands.push(command);
    }
    Ok(commands)
}

/// A command as `allow_proc` and `--allow-proc` name it: any arguments; its name is the last component.
pub fn allowed_command(text: &str, base: &Path) -> Result<Command, &'static str> {
    let path = if text.contains('/') {
        CommandPath::File(crate::parse::resolve(base, text)?)
    } else {
        CommandPath::Lookup(text.to_owned())
    };
    let name = text.rsplit('/').next().unwrap_or_default();
    if !crate::parse::is_command_name(name) {
        return Err("a command's name is letters, digits, `_`, `-`, `+` or `.`, at most 64, and starts with no sign");
    }
    Ok(Command { args: vec![ArgvShape::anything()], ..Command::new(name, path) })
}

/// The endpoint and its key; an empty key or model means none.
fn model(table: &Table<'_>) -> Result<Option<(Llm, Secret)>, SourceError> {
    let base_url = table.text("api_base")?.unwrap_or("https://api.openai.com/v1");
    let key = table.text("api_key")?.unwrap_or_default();
    let model = table.text("model")?.unwrap_or_default();
    if !is_http_url(base_url) {
        return Err(table.wrong("api_base", "`api_base` must be an http or https URL"));
    }
    if key.is_empty() || model.is_empty() {
        return Ok(None);
    }
    let secret = Secret {
        name: "llm".to_owned(),
        source: SecretSource::Inline(SecretText::new(key)),
        uses: vec![SecretUse::Llm],
    };
    let llm = Llm::Endpoint {
        provider: LlmProvider::OpenAi,
        base_url: base_url.to_owned(),
        model: model.to_owned(),
        secret: Some(secret.name.clone()),
    };
    Ok(Some((llm, secret)))
}

fn driver(table: &Table<'_>) -> Result<Option<Browser>, SourceError> {
    let profile = table.text("default_profile")?.map(str::to_owned);
    let Some(url) = table.text("webdriver_url")? else {
        return Ok(None);
    };
    if !is_http_url(url) {
        return Err(table.wrong("webdriver_url", "`webdriver_url` must be an http or https URL"));
    }
    Ok(Some(Browser {
        // That format had no list of hosts: a browser that is configured may visit any public one.
        hosts: vec!["*".to_owned()],
        screenshots: true,
        uploads: Vec::new(),
        downloads: None,
        eval: false,
        driver: BrowserDriver::Url(url.to_owned()),
        profile,
    }))
}
