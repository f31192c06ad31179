//! Policies written back: for `policy show`, and in one canonical form for the hash that every decision carries (T-09, T-10).
//!
//! No rendering holds a secret's value; only where it is to be found.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::glob::RuleKind;
use crate::layer::Effective;
use crate::limits::{LimitKey, LimitUnit, Limits};
use crate::model::{
    Access, ApprovalVia, AuditSink, Browser, BrowserDriver, Command, CommandPath, Durability, Feature, Isolation, Layer, Llm, NetRule,
    Policy, Scope, Secret, SecretSource, SecretUse, Tools, ToolsEscalation, ToolsPins, ToolsProfile, ToolsWorkspace,
    Workspace,
};
use crate::units::{format_duration, format_size};

impl Policy {
    /// The policy with every key it states, as a policy file has them.
    pub fn to_json(&self) -> Value {
        let mut root = Map::new();
        root.insert("version".to_owned(), json!(1));
        put(&mut root, "limits", limits(&self.limits));
        if let Some(workspaces) = &self.workspaces {
            root.insert("fs".to_owned(), json!({ "workspace": workspaces.iter().map(workspace).collect::<Vec<_>>() }));
        }
        if let Some(commands) = &self.commands {
            root.insert("proc".to_owned(), json!({ "command": commands.iter().map(command).collect::<Vec<_>>() }));
        }
        if let Some(rules) = &self.net {
            root.insert("net".to_owned(), json!({ "allow": rules.iter().map(net_rule).collect::<Vec<_>>() }));
        }
        if let Some(each) = &self.browser {
            root.insert("browser".to_owned(), browser(each));
        }
        if let Some(input) = &self.input {
            root.insert("input".to_owned(), json!({ "enabled": input.enabled, "display": input.display }));
        }
        if let Some(each) = &self.llm {
            root.insert("llm".to_owned(), llm(each));
        }
        if !self.secrets.is_empty() {
            root.insert("secret".to_owned(), self.secrets.iter().map(secret).collect());
        }
        put(&mut root, "approval", approval(self));
        put(&mut root, "audit", audit(self));
        put(&mut root, "isolation", isolation(&self.isolation));
        if let Some(each) = &self.tools {
            root.insert("tools".to_owned(), tools(each));
        }
        Value::Object(root)
    }

    /// The policy as the text of a policy file.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        toml_text(&mut text, &self.to_json());
        text
    }
}

impl Effective {
    /// What the layers together leave, as one policy. Argv shapes are the last layer's; the others still decide beside it.
    pub fn to_policy(&self) -> Policy {
        let mut policy = Policy::empty("effective policy", Scope::Whole);
        for key in LimitKey::ALL {
            if let Some(value) = self.limits.get(key) {
                policy.limits.set(key, value);
            }
        }
        policy.workspaces = Some(self.workspaces.iter().map(effective_workspace).collect());
        policy.commands = Some(self.commands.iter().map(|each| self.effective_command(each)).collect());
        policy.net = Some(self.net().to_vec());
        policy.browser = self.browser().cloned();
        policy.input = self.input().cloned();
        policy.llm = self.llm.clone();
        policy.secrets = self.secrets().into_iter().cloned().collect();
        policy.approval.ask = self.approval.ask.iter().map(|(_, pattern)| pattern.clone()).collect();
        policy.approval.via = Some(self.approval.via);
        policy.approval.timeout = Some(self.approval.timeout);
        policy.audit.dir = self.audit.dir.clone();
        policy.audit.durability = Some(self.audit.durability);
        policy.audit.sink = self.audit.sink.clone();
        policy.isolation = Isolation {
            namespaces: Some(self.isolation.namespaces),
            cgroups: Some(self.isolation.cgroups),
            allow_root: Some(self.isolation.allow_root),
        };
        policy.tools = self.tools().cloned();
        policy
    }

    fn effective_command(&self, effective: &crate::layer::EffectiveCommand) -> Command {
        let declared = crate::layer::command_layers(&self.layers)
            .filter_map(|(_, policy)| policy.commands.iter().flatten().find(|each| each.name == effective.name));
        let declared: Vec<&Command> = declared.collect();
        let last = declared.last();
        Command {
            sha256: effective.sha256.clone(),
            args: last.map(|each| each.args.clone()).unwrap_or_default(),
            cwd: effective.cwd.and_then(|index| self.workspaces.get(index)).map(|each| each.label.clone()),
            env: effective.env.clone(),
            env_from_guest: last.map(|each| each.env_from_guest.clone()).unwrap_or_default(),
            timeout: effective.timeout,
            exec_workspace: effective.exec_workspace,
            network: effective.network.clone(),
            unchecked: effective.unchecked,
            ..Command::new(effective.name.clone(), CommandPath::File(effective.path.clone()))
        }
    }

    /// The effective policy, its hash and its layers, for `policy show --json`.
    pub fn to_json(&self) -> Value {
        let layers = self.layer_files().into_iter();
        json!({
            "policy": self.to_policy().to_json(),
            "policy_hash": self.hash(),
            "layers": layers.map(|(layer, file)| json!({ "layer": layer.name(), "file": file })).collect::<Vec<_>>(),
            "limits": Value::Object(
                LimitKey::ALL.into_iter()
                    .map(|key| (key.name().to_owned(), json!({ "value": self.limits.get(key), "rule": self.limits.rule(key) })))
                    .collect(),
            ),
        })
    }

    /// The effective policy as text that reads back as a policy; hash and layers stand in comments.
    pub fn to_toml(&self) -> String {
        let mut text = format!("# policy {}\n", self.hash());
        for (layer, file) in self.layer_files() {
            let file: String = file.chars().flat_map(char::escape_debug).collect();
            text.push_str(&format!("# {}: {file}\n", layer.name()));
        }
        text.push_str(&self.to_policy().to_toml());
        text
    }
}

/// SHA-256 over all layers, as hex. Keys are sorted, so that equal policies have equal hashes whatever their notation.
pub(crate) fn hash(layers: &[(Layer, Policy)]) -> String {
    let mut digest = Sha256::new();
    for (layer, policy) in layers {
        let scope = if policy.scope == Scope::Whole { "whole" } else { "request" };
        let mut text = format!("{}\n{scope}\n", layer.name());
        canonical(&mut text, &policy.to_json());
        text.push('\n');
        digest.update(text.as_bytes());
    }
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// JSON without blanks and with sorted keys, whatever order the map type keeps.
fn canonical(text: &mut String, value: &Value) {
    match value {
        Value::Object(map) => {
            let mut pairs: Vec<(&String, &Value)> = map.iter().collect();
            pairs.sort_by_key(|(key, _)| *key);
            text.push('{');
            for (index, (key, value)) in pairs.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                text.push_str(&Value::from(key.as_str()).to_string());
                text.push(':');
                canonical(text, value);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                canonical(text, item);
            }
            text.push(']');
        }
        leaf => text.push_str(&leaf.to_string()),
    }
}

fn toml_text(text: &mut String, value: &Value) {
    // Nothing here is null or too large for TOML; were it, the reader should see that and not an empty policy.
    match toml::to_string(value) {
        Ok(rendered) => text.push_str(&rendered),
        Err(error) => text.push_str(&format!("# cannot be written as TOML: {error}\n")),
    }
}

/// Inserts a table that says something.
fn put(root: &mut Map<String, Value>, key: &str, table: Map<String, Value>) {
    if !table.is_empty() {
        root.insert(key.to_owned(), Value::Object(table));
    }
}

fn limits(limits: &Limits) -> Map<String, Value> {
    let mut table = Map::new();
    for key in LimitKey::ALL {
        if let Some(value) = limits.get(key) {
            let shown = match key.unit() {
                // TOML's numbers are signed; such a count is without end anyway.
                LimitUnit::Count => json!(value.min(i64::MAX.unsigned_abs())),
                LimitUnit::Bytes => json!(format_size(value)),
                LimitUnit::Milliseconds => json!(format_duration(std::time::Duration::from_millis(value))),
            };
            table.insert(key.name().to_owned(), shown);
        }
    }
    table
}

fn workspace(workspace: &Workspace) -> Value {
    let texts = |globs: &[crate::glob::Glob]| globs.iter().map(crate::glob::Glob::text).collect::<Vec<_>>();
    let mut value = json!({
        "label": workspace.label,
        "path": workspace.path.to_string_lossy(),
        "access": workspace.access.name(),
        "deny": texts(&workspace.deny),
        "deny_write": texts(&workspace.deny_write),
        "allow_run_later": workspace.allow_run_later,
        "symlinks": workspace.symlinks,
        "max_file": format_size(workspace.max_file_bytes),
        "lease": workspace.lease,
    });
    if workspace.access == Access::ReadOnly
        && let Some(table) = value.as_object_mut()
    {
        table.remove("allow_run_later");
    }
    value
}

/// The merged rules as globs; the built-in ones are shown by `allow_run_later = false` and not one by one.
fn effective_workspace(effective: &crate::layer::EffectiveWorkspace) -> Workspace {
    let of_kind = |kind: RuleKind| {
        let mut globs: Vec<crate::glob::Glob> = Vec::new();
        for rule in effective.rules.iter().filter(|rule| rule.kind == kind) {
            let built_in = rule.id.contains(".builtin[") && crate::glob::RUN_LATER_GLOBS.contains(&rule.glob.text().as_str());
            if !built_in && !globs.contains(&rule.glob) {
                globs.push(rule.glob.clone());
            }
        }
        globs
    };
    Workspace {
        deny: of_kind(RuleKind::Deny),
        deny_write: of_kind(RuleKind::DenyWrite),
        allow_run_later: !effective.rules.iter().any(|rule| rule.id.contains(".builtin[")),
        symlinks: effective.symlinks,
        max_file_bytes: effective.max_file_bytes,
        lease: effective.lease,
        guest_path: effective.guest_path.clone(),
        ..Workspace::new(effective.label.clone(), effective.path.clone(), effective.access)
    }
}

fn command(command: &Command) -> Value {
    let path = match &command.path {
        CommandPath::File(path) => path.to_string_lossy().into_owned(),
        CommandPath::Lookup(name) => name.clone(),
    };
    let env: Map<String, Value> = command.env.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    let mut value = json!({
        "name": command.name,
        "path": path,
        "args": command.args.iter().map(crate::argv::ArgvShape::texts).collect::<Vec<_>>(),
        "env": env,
        "env_from_guest": command.env_from_guest,
        "timeout": format_duration(command.timeout),
        "exec_workspace": command.exec_workspace,
        "network": command.network,
        "unchecked": command.unchecked,
    });
    if let Some(table) = value.as_object_mut() {
        if let Some(sha256) = &command.sha256 {
            table.insert("sha256".to_owned(), json!(sha256));
        }
        if let Some(cwd) = &command.cwd {
            table.insert("cwd".to_owned(), json!(cwd));
        }
    }
    value
}

fn net_rule(rule: &NetRule) -> Value {
    let mut value = json!({
        "host": rule.host, "ports": rule.ports, "methods": rule.methods, "paths": rule.paths,
        "allow_private": rule.allow_private,
    });
    if let (Some(secret), Some(table)) = (&rule.secret, value.as_object_mut()) {
        table.insert("secret".to_owned(), json!(secret));
    }
    value
}

fn browser(browser: &Browser) -> Value {
    let driver = match &browser.driver {
        BrowserDriver::Spawn => "spawn",
        BrowserDriver::Url(url) => url,
    };
    json!({
        "hosts": browser.hosts, "screenshots": browser.screenshots, "uploads": browser.uploads,
        "downloads": browser.downloads.as_deref().unwrap_or_default(), "eval": browser.eval, "driver": driver,
    })
}

fn llm(llm: &Llm) -> Value {
    match llm {
        Llm::Replay { file } => json!({ "provider": "replay", "file": file.to_string_lossy() }),
        Llm::Endpoint { provider, base_url, model, secret } => {
            let mut value = json!({ "provider": provider.name(), "base_url": base_url, "model": model });
            if let (Some(secret), Some(table)) = (secret, value.as_object_mut()) {
                table.insert("secret".to_owned(), json!(secret));
            }
            value
        }
    }
}

fn secret(secret: &Secret) -> Value {
    let uses: Vec<String> = secret
        .uses
        .iter()
        .map(|place| match place {
            SecretUse::Llm => "llm".to_owned(),
            SecretUse::Net { host } => format!("net:{host}"),
            SecretUse::Browser { host, field } => format!("browser:{host}#{field}"),
            SecretUse::ProcStdin { command } => format!("proc:{command}.stdin"),
        })
        .collect();
    let (key, place) = match &secret.source {
        SecretSource::File(path) => ("file", path.to_string_lossy().into_owned()),
        SecretSource::Env(name) => ("env", name.clone()),
        // The value stands in the configuration and nowhere else.
        SecretSource::Inline(_) => ("file", "(in the configuration itself)".to_owned()),
    };
    json!({ "name": secret.name, key: place, "for": uses })
}

fn approval(policy: &Policy) -> Map<String, Value> {
    let mut table = Map::new();
    let approval = &policy.approval;
    if !approval.ask.is_empty() {
        table.insert("ask".to_owned(), json!(approval.ask));
    }
    if let Some(via) = approval.via {
        let word = match via {
            ApprovalVia::Tty => "tty",
            ApprovalVia::Queue => "queue",
            ApprovalVia::Deny => "deny",
        };
        table.insert("via".to_owned(), json!(word));
    }
    if let Some(timeout) = approval.timeout {
        table.insert("timeout".to_owned(), json!(format_duration(timeout)));
    }
    table
}

fn audit(policy: &Policy) -> Map<String, Value> {
    let mut table = Map::new();
    if let Some(dir) = &policy.audit.dir {
        table.insert("dir".to_owned(), json!(dir.to_string_lossy()));
    }
    if let Some(durability) = policy.audit.durability {
        let word = if durability == Durability::Sync { "sync" } else { "flush" };
        table.insert("durability".to_owned(), json!(word));
    }
    match &policy.audit.sink {
        Some(AuditSink::Journald) => table.insert("sink".to_owned(), json!("journald")),
        Some(AuditSink::Descriptor(number)) => table.insert("sink".to_owned(), json!(format!("fd:{number}"))),
        None => None,
    };
    table
}

fn isolation(isolation: &Isolation) -> Map<String, Value> {
    let word = |feature: Feature| match feature {
        Feature::Off => "off",
        Feature::Auto => "auto",
        Feature::Require => "require",
    };
    let mut table = Map::new();
    if let Some(namespaces) = isolation.namespaces {
        table.insert("namespaces".to_owned(), json!(word(namespaces)));
    }
    if let Some(cgroups) = isolation.cgroups {
        table.insert("cgroups".to_owned(), json!(word(cgroups)));
    }
    if let Some(allow_root) = isolation.allow_root {
        table.insert("allow_root".to_owned(), json!(allow_root));
    }
    table
}

fn tools(tools: &Tools) -> Value {
    let pins: Map<String, Value> = tools.sha256.iter().map(|(name, hex)| (name.clone(), json!(hex))).collect();
    let mut value = json!({
        "dir": tools.dir.to_string_lossy(),
        "max_module": format_size(tools.max_module_bytes),
        "profile": match tools.profile {
            ToolsProfile::None => "none",
            ToolsProfile::Dev => "dev",
            ToolsProfile::Staging => "staging",
            ToolsProfile::Prod => "prod",
        },
        "workspace": match tools.workspace {
            ToolsWorkspace::None => "none",
            ToolsWorkspace::Read => "read",
            ToolsWorkspace::ReadWrite => "read-write",
        },
        "hosts": tools.hosts,
        "pins": match tools.pins {
            ToolsPins::Disabled => "disabled",
            ToolsPins::Warn => "warn",
            ToolsPins::Enforce => "enforce",
        },
        "escalation": match tools.escalation {
            ToolsEscalation::Deny => "deny",
            ToolsEscalation::Clamp => "clamp",
        },
        "sha256": pins,
    });
    if let Some(table) = value.as_object_mut() {
        if let Some(fuel) = tools.fuel {
            table.insert("fuel".to_owned(), json!(fuel));
        }
        if let Some(memory) = tools.memory_bytes {
            table.insert("memory".to_owned(), json!(format_size(memory)));
        }
    }
    value
}
