//! `[[net.allow]]`, `[browser]`, `[input]`, `[llm]`, `[[secret]]` and `[tools]`: what the other helpers may reach.

use super::files::is_sha256;
use super::{Reader, refuse_doubles};
use crate::marks::Marks;
use crate::model::{
    Browser, BrowserDriver, Command, Input, Llm, LlmProvider, NetRule, Secret, SecretSource, SecretUse, Tools,
    ToolsEscalation, ToolsPins, ToolsProfile, ToolsWorkspace, Workspace,
};
use crate::path::is_label;
use crate::source::{Position, SourceError, Table};

const NET_KEYS: &[&str] = &["host", "ports", "methods", "paths", "secret", "allow_private"];
const BROWSER_KEYS: &[&str] = &["hosts", "screenshots", "uploads", "downloads", "eval", "driver"];
const LLM_KEYS: &[&str] = &["provider", "base_url", "model", "secret", "file"];
const TOOLS_KEYS: &[&str] =
    &["dir", "max_module", "profile", "workspace", "hosts", "pins", "escalation", "fuel", "memory", "sha256"];

#[derive(Clone, Copy)]
enum ProviderWord {
    Endpoint(LlmProvider),
    Replay,
}

impl<'a> Reader<'a> {
    pub(super) fn net(&self, table: &Table<'a>, secrets: &[Secret]) -> Result<Vec<NetRule>, SourceError> {
        let tables = self.tables(table, "net", &["allow"], "[[net.allow]]", NET_KEYS)?;
        tables.iter().map(|each| self.net_rule(each, secrets)).collect()
    }

    fn net_rule(&self, table: &Table<'a>, secrets: &[Secret]) -> Result<NetRule, SourceError> {
        let host = table.required_text("host")?;
        if !is_host_pattern(host) {
            return Err(table.wrong("host", HOST_MESSAGE));
        }
        let mut ports = Vec::new();
        for node in table.list("ports")? {
            let port = match node.value {
                crate::source::Value::Int(number) => u16::try_from(number).ok().filter(|port| *port != 0),
                _ => None,
            };
            ports.push(port.ok_or_else(|| table.wrong_at(node.at, "a port is a number from 1 to 65535"))?);
        }
        let mut methods = Vec::new();
        for (method, at) in table.texts("methods")? {
            if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase()) {
                return Err(table.wrong_at(at, "a method is upper-case letters, as in \"GET\""));
            }
            methods.push(method.to_owned());
        }
        for (path, at) in table.texts("paths")? {
            if !path.starts_with('/') {
                return Err(table.wrong_at(at, "a path pattern starts with `/`, as in \"/repos/**\""));
            }
        }
        Ok(NetRule {
            host: host.to_ascii_lowercase(),
            ports,
            methods,
            paths: table.plain_texts("paths")?,
            secret: self.secret_name(table, secrets)?,
            allow_private: table.flag("allow_private")?.unwrap_or(false),
        })
    }

    fn secret_name(&self, table: &Table<'a>, secrets: &[Secret]) -> Result<Option<String>, SourceError> {
        let declared: Vec<&str> = secrets.iter().map(|secret| secret.name.as_str()).collect();
        let Some(name) = table.text("secret")? else {
            return Ok(None);
        };
        self.reference(table.wrong("secret", "").position, "secret", name, &declared).map(Some)
    }

    /// A list of host patterns, lower-cased.
    pub(super) fn hosts(&self, table: &Table<'a>, key: &str) -> Result<Vec<String>, SourceError> {
        let check = |(host, at): (&str, Position)| {
            if is_host_pattern(host) { Ok(host.to_ascii_lowercase()) } else { Err(table.wrong_at(at, HOST_MESSAGE)) }
        };
        table.texts(key)?.into_iter().map(check).collect()
    }

    pub(super) fn browser(&self, table: &Table<'a>, workspaces: &[Workspace]) -> Result<Option<Browser>, SourceError> {
        let Some(node) = table.node("browser") else {
            return Ok(None);
        };
        let table = Table::open(self.file, "[browser]", node, BROWSER_KEYS)?;
        let labels: Vec<&str> = workspaces.iter().map(|each| each.label.as_str()).collect();
        let mut uploads = Vec::new();
        for (label, at) in table.texts("uploads")? {
            uploads.push(self.reference(at, "workspace", label, &labels)?);
        }
        let downloads = match table.text("downloads")? {
            None | Some("") => None,
            Some(label) => Some(self.reference(table.wrong("downloads", "").position, "workspace", label, &labels)?),
        };
        let driver = match table.text("driver")? {
            None | Some("spawn") => BrowserDriver::Spawn,
            Some(url) if is_http_url(url) => BrowserDriver::Url(url.to_owned()),
            Some(_) => {
                return Err(table.wrong("driver", "`driver` is \"spawn\" or the http URL of a running WebDriver"));
            }
        };
        Ok(Some(Browser {
            hosts: self.hosts(&table, "hosts")?,
            screenshots: table.flag("screenshots")?.unwrap_or(false),
            uploads,
            downloads,
            eval: table.flag("eval")?.unwrap_or(false),
            driver,
            profile: None,
        }))
    }

    pub(super) fn input(&self, table: &Table<'a>) -> Result<Option<Input>, SourceError> {
        let Some(node) = table.node("input") else {
            return Ok(None);
        };
        let table = Table::open(self.file, "[input]", node, &["enabled", "display"])?;
        let display = table.text("display")?.unwrap_or("private");
        let number = display.strip_prefix(':').unwrap_or_default();
        let named = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        if display != "private" && !named {
            return Err(table.wrong("display", "`display` is \"private\" or a display such as \":0\""));
        }
        Ok(Some(Input { enabled: table.flag("enabled")?.unwrap_or(false), display: display.to_owned() }))
    }

    pub(super) fn llm(
        &self,
        table: &Table<'a>,
        secrets: &[Secret],
        marks: &mut Marks,
    ) -> Result<Option<Llm>, SourceError> {
        const PROVIDERS: &[(&str, ProviderWord)] = &[
            ("openai", ProviderWord::Endpoint(LlmProvider::OpenAi)),
            ("anthropic", ProviderWord::Endpoint(LlmProvider::Anthropic)),
            ("ollama", ProviderWord::Endpoint(LlmProvider::Ollama)),
            ("replay", ProviderWord::Replay),
        ];
        let Some(node) = table.node("llm") else {
            return Ok(None);
        };
        let table = Table::open(self.file, "[llm]", node, LLM_KEYS)?;
        let word = table.choice("provider", PROVIDERS)?.unwrap_or(ProviderWord::Endpoint(LlmProvider::OpenAi));
        let file = table.text("file")?;
        let base_url = table.text("base_url")?;
        let model = table.text("model")?;
        let named = self.secret_name(&table, secrets)?;
        let provider = match (word, file) {
            // Keys of an endpoint may stay beside a recording: switching the provider should be one line.
            (ProviderWord::Replay, Some(file)) => {
                marks.add("llm.file".to_owned(), table.value_at("file"));
                return Ok(Some(Llm::Replay { file: self.path(&table, "file", file)? }));
            }
            (ProviderWord::Replay, None) => {
                return Err(table.wrong("provider", "the provider \"replay\" needs `file`, the recording"));
            }
            (ProviderWord::Endpoint(_), Some(_)) => {
                return Err(table.wrong("file", "`file` belongs to the provider \"replay\""));
            }
            (ProviderWord::Endpoint(provider), None) => provider,
        };
        let base_url = base_url.unwrap_or(match provider {
            LlmProvider::OpenAi => "http://127.0.0.1:11434/v1",
            LlmProvider::Anthropic => "https://api.anthropic.com",
            LlmProvider::Ollama => "http://127.0.0.1:11434",
        });
        if !is_http_url(base_url) {
            return Err(table.wrong("base_url", "`base_url` must be an http or https URL"));
        }
        let model = model.unwrap_or("qwen3");
        if model.is_empty() {
            return Err(table.wrong("model", "`model` cannot be empty"));
        }
        // The documented default is the secret called `llm`, where there is one.
        let secret = named.or_else(|| secrets.iter().find(|each| each.name == "llm").map(|each| each.name.clone()));
        Ok(Some(Llm::Endpoint { provider, base_url: base_url.to_owned(), model: model.to_owned(), secret }))
    }

    pub(super) fn secrets(&self, table: &Table<'a>, marks: &mut Marks) -> Result<Vec<Secret>, SourceError> {
        let tables = self.list_of_tables(table, "secret", "[[secret]]", &["name", "file", "env", "for"])?;
        let mut secrets = Vec::new();
        for table in &tables {
            let name = table.required_text("name")?;
            // Dots are allowed: `{{secret:demo.username}}`.
            if !name.split('.').all(is_label) {
                return Err(table.wrong("name", "a secret's name is labels joined by dots, as in \"demo.username\""));
            }
            let source = match (table.text("file")?, table.text("env")?) {
                (Some(file), None) => SecretSource::File(self.path(table, "file", file)?),
                (None, Some(env)) if super::files::is_env_name(env) => SecretSource::Env(env.to_owned()),
                (None, Some(_)) => {
                    return Err(table.wrong("env", "`env` must be the name of an environment variable"));
                }
                (Some(_), Some(_)) => {
                    return Err(table.wrong("env", "a secret has either `file` or `env`, not both"));
                }
                (None, None) => return Err(table.missing("file")),
            };
            let parse_use = |(text, at)| parse_secret_use(text).ok_or_else(|| table.wrong_at(at, SECRET_USE_MESSAGE));
            let uses = table.texts("for")?.into_iter().map(parse_use).collect::<Result<_, _>>()?;
            secrets.push(Secret { name: name.to_owned(), source, uses });
        }
        let names = secrets.iter().zip(&tables).map(|(each, table)| (each.name.as_str(), table.key_at("name")));
        refuse_doubles(self.file, "secret", names)?;
        for (each, table) in secrets.iter().zip(&tables) {
            marks.add(format!("secret.{}", each.name), table.value_at("file"));
        }
        Ok(secrets)
    }

    /// A secret for a command that is not declared would silently go nowhere.
    pub(super) fn check_secret_uses(
        &self,
        table: &Table<'a>,
        secrets: &[Secret],
        commands: &[Command],
    ) -> Result<(), SourceError> {
        let names: Vec<&str> = commands.iter().map(|each| each.name.as_str()).collect();
        for (secret, node) in secrets.iter().zip(table.list("secret")?) {
            for place in &secret.uses {
                if let SecretUse::ProcStdin { command } = place {
                    self.reference(node.at, "command", command, &names)?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn tools(&self, table: &Table<'a>) -> Result<Option<Tools>, SourceError> {
        const PROFILES: &[(&str, ToolsProfile)] = &[
            ("none", ToolsProfile::None),
            ("dev", ToolsProfile::Dev),
            ("staging", ToolsProfile::Staging),
            ("prod", ToolsProfile::Prod),
        ];
        const WORKSPACES: &[(&str, ToolsWorkspace)] = &[
            ("none", ToolsWorkspace::None),
            ("read", ToolsWorkspace::Read),
            ("read-write", ToolsWorkspace::ReadWrite),
        ];
        const PINS: &[(&str, ToolsPins)] =
            &[("disabled", ToolsPins::Disabled), ("warn", ToolsPins::Warn), ("enforce", ToolsPins::Enforce)];
        const ESCALATION: &[(&str, ToolsEscalation)] =
            &[("deny", ToolsEscalation::Deny), ("clamp", ToolsEscalation::Clamp)];
        let Some(node) = table.node("tools") else {
            return Ok(None);
        };
        let table = Table::open(self.file, "[tools]", node, TOOLS_KEYS)?;
        let mut sha256 = Vec::new();
        for (name, hex, at) in table.text_map("sha256")? {
            if !is_sha256(&hex) {
                return Err(table.wrong_at(at, format!("the pin of `{name}` must be 64 hexadecimal digits")));
            }
            sha256.push((name, hex.to_ascii_lowercase()));
        }
        Ok(Some(Tools {
            dir: self.path(&table, "dir", table.text("dir")?.unwrap_or("tools/wasm"))?,
            max_module_bytes: table.size("max_module")?.unwrap_or(50 * 1024 * 1024),
            profile: table.choice("profile", PROFILES)?.unwrap_or(ToolsProfile::None),
            workspace: table.choice("workspace", WORKSPACES)?.unwrap_or(ToolsWorkspace::None),
            hosts: self.hosts(&table, "hosts")?,
            pins: table.choice("pins", PINS)?.unwrap_or(ToolsPins::Warn),
            escalation: table.choice("escalation", ESCALATION)?.unwrap_or(ToolsEscalation::Deny),
            fuel: table.count("fuel")?,
            memory_bytes: table.size("memory")?,
            sha256,
        }))
    }
}

const HOST_MESSAGE: &str = "a host is a name or an address, \"*.example.com\", or \"*\"; without scheme, port or path";
const SECRET_USE_MESSAGE: &str = "a use is \"llm\", \"net:HOST\", \"browser:HOST#FIELD\" or \"proc:COMMAND.stdin\"";

fn parse_secret_use(text: &str) -> Option<SecretUse> {
    match text.split_once(':') {
        None => (text == "llm").then_some(SecretUse::Llm),
        Some(("net", host)) => is_host_pattern(host).then(|| SecretUse::Net { host: host.to_ascii_lowercase() }),
        Some(("browser", rest)) => {
            let (host, field) = rest.split_once('#')?;
            let good = is_host_pattern(host) && !field.is_empty();
            good.then(|| SecretUse::Browser { host: host.to_ascii_lowercase(), field: field.to_owned() })
        }
        Some(("proc", rest)) => {
            let command = rest.strip_suffix(".stdin").filter(|name| !name.is_empty())?;
            Some(SecretUse::ProcStdin { command: command.to_owned() })
        }
        Some(_) => None,
    }
}

/// `*`, `*.example.com`, `example.com`, an IPv4 address, or an IPv6 address in brackets.
pub(crate) fn is_host_pattern(text: &str) -> bool {
    if text == "*" {
        return true;
    }
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let name = text.strip_prefix("*.").unwrap_or(text);
    name.len() <= 253
        && !name.is_empty()
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        })
}

pub(crate) fn is_http_url(text: &str) -> bool {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    rest.is_some_and(|rest| {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        // A password in a URL would end in logs (T-08).
        !authority.is_empty()
            && !authority.contains('@')
            && !text.contains(|each: char| each.is_control() || each == ' ')
    })
}
