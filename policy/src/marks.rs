//! Where in its text a policy names what lies outside of it (folders, programs, recordings, secrets), and where it states
//! keys that somebody may want to be told about.
//!
//! Runs in the broker, pure. A policy can be right and name what is not there, which only the host can tell, after the
//! text has gone: these places are kept so that it can be said with file and line. They decide nothing and are no part of
//! a policy's hash.

use crate::layer::{Effective, llm_layers};
use crate::model::{Layer, Policy};
use crate::source::{Position, Table};

/// Places by rule id without the layer: `fs.workspace.repo`, `proc.command.cargo`, `llm.file`, `secret.demo`.
#[derive(Debug, Clone, Default)]
pub struct Marks(Vec<(String, Position)>);

impl Marks {
    pub(crate) fn add(&mut self, rule: String, at: Position) {
        self.0.push((rule, at));
    }

    /// A key of a table, if it is stated.
    pub(crate) fn add_stated(&mut self, rule: &str, table: &Table<'_>, key: &str) {
        if table.has(key) {
            self.add(format!("{rule}.{key}"), table.value_at(key));
        }
    }

    /// `file:line:column` of what `rule` names; `file` alone where it came from no text.
    pub fn place(&self, file: &str, rule: &str) -> String {
        match self.0.iter().find(|(each, _)| each == rule) {
            Some((_, at)) => format!("{file}:{}:{}", at.line, at.column),
            None => file.to_owned(),
        }
    }
}

impl Policy {
    /// Where what `rule` (without its layer) names stands.
    pub fn place_of(&self, rule: &str) -> String {
        self.marks.place(&self.file, rule)
    }
}

impl Effective {
    /// The same for a rule id with its layer, such as `user:proc.command.cargo`.
    pub fn place_of(&self, rule: &str) -> String {
        let of_layer = |(layer, policy): &(Layer, Policy)| {
            let rest = rule.strip_prefix(layer.name())?.strip_prefix(':')?;
            Some(policy.place_of(rest))
        };
        self.layers.iter().find_map(of_layer).unwrap_or_else(|| "the policy".to_owned())
    }

    /// Where any layer states what `rule` (without its layer) names.
    pub fn places_stated(&self, rule: &str) -> Vec<String> {
        let stated = self.layers.iter().filter(|(_, policy)| policy.marks.0.iter().any(|(each, _)| each == rule));
        stated.map(|(_, policy)| policy.place_of(rule)).collect()
    }

    /// The same for the recording that stands for a model.
    pub fn place_of_recording(&self) -> String {
        let last = llm_layers(&self.layers).next_back();
        match last {
            // No manifest has the key.
            Some((Layer::Task, _)) => "--replay".to_owned(),
            Some((_, policy)) => policy.place_of("llm.file"),
            None => "the policy".to_owned(),
        }
    }

    /// The same for a secret: the layer that declared it last.
    pub fn place_of_secret(&self, name: &str) -> String {
        let declares = |(_, policy): &&(Layer, Policy)| policy.secrets.iter().any(|each| each.name == name);
        let last = self.layers.iter().rev().find(declares);
        last.map_or_else(|| "the policy".to_owned(), |(_, policy)| policy.place_of(&format!("secret.{name}")))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::{Access, Effective, Format, Policy, Scope, Workspace};

    const TEXT: &str = "version = 1\n[[fs.workspace]]\nlabel = \"repo\"\npath = \"/srv\"\n[[proc.command]]\n\
                        name = \"true\"\n  path = \"/bin/true\"\n";

    #[test]
    fn what_a_policy_names_is_found_again_in_its_text() {
        let policy = Policy::parse(TEXT, Format::Toml, "warden.toml", Path::new("/")).unwrap();
        assert_eq!(policy.place_of("fs.workspace.repo"), "warden.toml:4:8");
        assert_eq!(policy.place_of("fs.workspace.other"), "warden.toml");
        let whole = Effective::combine(None, Some(policy), None).unwrap();
        assert_eq!(whole.place_of("user:proc.command.true"), "warden.toml:7:10");
        assert_eq!(whole.place_of("system:proc.command.true"), "the policy");
    }

    #[test]
    fn flags_stand_in_no_text_and_places_change_no_hash() {
        let mut flags = Policy::empty("the command line", Scope::Request);
        flags.workspaces = Some(vec![Workspace::new("w", "/srv", Access::ReadOnly)]);
        assert_eq!(flags.place_of("fs.workspace.w"), "the command line");
        let hash = |text: &str| {
            let policy = Policy::parse(text, Format::Toml, "warden.toml", Path::new("/")).unwrap();
            Effective::combine(None, Some(policy), None).unwrap().hash().to_owned()
        };
        assert_eq!(hash(TEXT), hash(&TEXT.replace("[[proc", "\n\n[[proc")));
    }
}
