//! Each section of a policy as JSON, with the keys and words a policy file has.

use serde_json::{Map, Value, json};

use crate::limits::{LimitKey, LimitUnit, Limits};
use crate::model::{
    Access, ApprovalVia, AuditSink, Browser, BrowserDriver, Command, CommandPath, Durability, Feature, Isolation, Llm,
    NetRule, Policy, Secret, SecretSource, SecretUse, Tools, ToolsEscalation, ToolsPins, ToolsProfile, ToolsWorkspace,
    Workspace,
};
use crate::units::{format_duration, format_size};

/// Inserts a table that says something.
pub(super) fn put(root: &mut Map<String, Value>, key: &str, table: Map<String, Value>) {
    if !table.is_empty() {
        root.insert(key.to_owned(), Value::Object(table));
    }
}

pub(super) fn limits(limits: &Limits) -> Map<String, Value> {
    let mut table = Map::new();
    for key in LimitKey::ALL {
        if let Some(value) = limits.get(key) {
            let shown = match key.unit() {
                // TOML's numbers are signed; such a count is without end anyway.
                LimitUnit::Count => json!(value.min(i64::MAX.unsigned_abs())),
                LimitUnit::Bytes => json!(format_size(value)),
                LimitUnit::Milliseconds => {
                    json!(format_duration(std::time::Duration::from_millis(value)))
                }
            };
            table.insert(key.name().to_owned(), shown);
        }
    }
    table
}

pub(super) fn workspace(workspace: &Workspace) -> Value {
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

pub(super) fn command(command: &Command) -> Value {
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

pub(super) fn net_rule(rule: &NetRule) -> Value {
    let mut value = json!({
        "host": rule.host, "ports": rule.ports, "methods": rule.methods, "paths": rule.paths,
        "allow_private": rule.allow_private,
    });
    if let (Some(secret), Some(table)) = (&rule.secret, value.as_object_mut()) {
        table.insert("secret".to_owned(), json!(secret));
    }
    value
}

pub(super) fn browser(browser: &Browser) -> Value {
    let driver = match &browser.driver {
        BrowserDriver::Spawn => "spawn",
        BrowserDriver::Url(url) => url,
    };
    json!({
        "hosts": browser.hosts, "screenshots": browser.screenshots, "uploads": browser.uploads,
        "downloads": browser.downloads.as_deref().unwrap_or_default(), "eval": browser.eval, "driver": driver,
    })
}

pub(super) fn llm(llm: &Llm) -> Value {
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

pub(super) fn secret(secret: &Secret) -> Value {
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

pub(super) fn approval(policy: &Policy) -> Map<String, Value> {
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

pub(super) fn audit(policy: &Policy) -> Map<String, Value> {
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

pub(super) fn isolation(isolation: &Isolation) -> Map<String, Value> {
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

pub(super) fn tools(tools: &Tools) -> Value {
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
