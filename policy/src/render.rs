//! Policies written back: for `policy show`, and in one canonical form for the hash that every decision carries (T-09, T-10).
//!
//! No rendering holds a secret's value; only where it is to be found.

mod sections;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::glob::RuleKind;
use crate::layer::Effective;
use crate::limits::LimitKey;
use crate::model::{Command, CommandPath, Isolation, Layer, Policy, Scope, Workspace};
use sections::*;

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
            "built_in": self.built_in().map(|(rule, globs)| json!({ "workspace": rule, "deny_write": globs })).collect::<Vec<_>>(),
            "layers": layers.map(|(layer, file)| json!({ "layer": layer.name(), "file": file })).collect::<Vec<_>>(),
            "limits": Value::Object(
                LimitKey::ALL.into_iter()
                    .map(|key| (key.name().to_owned(), json!({ "value": self.limits.get(key), "rule": self.limits.rule(key) })))
                    .collect(),
            ),
            "narrowed": self.narrowed_limits().iter().map(|each| json!({
                "limit": each.key.name(), "asked": each.asked, "asked_by": each.asked_by,
                "value": each.value, "rule": each.rule, "by_default": each.by_default,
            })).collect::<Vec<_>>(),
        })
    }

    /// Of each workspace that has them, its rule and the built-in `deny_write` in force there: they are no key of a policy
    /// file, and a reader who sees `deny_write = []` must not take it for all there is.
    fn built_in(&self) -> impl Iterator<Item = (&str, Vec<String>)> {
        let of = |workspace: &crate::layer::EffectiveWorkspace| -> Vec<String> {
            let built_in = workspace.rules.iter().filter(|rule| rule.id.contains(".builtin["));
            built_in.map(|rule| rule.glob.text().to_string()).collect()
        };
        self.workspaces
            .iter()
            .map(move |workspace| (workspace.rule.as_str(), of(workspace)))
            .filter(|(_, globs)| !globs.is_empty())
    }

    /// The effective policy as text that reads back as a policy; hash, layers, what they narrow and built-in rules stand in
    /// comments.
    pub fn to_toml(&self) -> String {
        let mut text = format!("# policy {}\n", self.hash());
        for (layer, file) in self.layer_files() {
            let file: String = file.chars().flat_map(char::escape_debug).collect();
            text.push_str(&format!("# {}: {file}\n", layer.name()));
        }
        for narrowed in self.narrowed_limits() {
            text.push_str(&format!("# {narrowed}\n"));
        }
        for (rule, globs) in self.built_in() {
            let globs = globs.join(" ");
            let globs: String = globs.chars().flat_map(char::escape_debug).collect();
            text.push_str(&format!("# {rule}: not to be written unless allow_run_later = true: {globs}\n"));
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

/// The merged rules as globs; the built-in ones are shown by `allow_run_later = false` and not one by one.
fn effective_workspace(effective: &crate::layer::EffectiveWorkspace) -> Workspace {
    let of_kind = |kind: RuleKind| {
        let mut globs: Vec<crate::glob::Glob> = Vec::new();
        for rule in effective.rules.iter().filter(|rule| rule.kind == kind) {
            let built_in =
                rule.id.contains(".builtin[") && crate::glob::RUN_LATER_GLOBS.contains(&rule.glob.text().as_str());
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
