//! The graph of packages, as `cargo metadata` tells it.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::process::Command;

/// One package needs another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    pub from: String,
    pub to: String,
    /// `normal`, `build` or `dev`.
    pub kind: String,
}

/// Packages by name. Two versions of one package count as one: a rule about it is a rule about both.
#[derive(Debug, Default)]
pub struct Graph {
    /// Members of the workspace.
    pub ours: BTreeSet<String>,
    pub edges: BTreeSet<Edge>,
}

/// What cargo says of the workspace in `folder`, for the one platform that there is.
pub fn metadata(folder: &Path) -> Value {
    let output = Command::new(env!("CARGO"))
        .current_dir(folder)
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu"])
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo's metadata is JSON")
}

impl Graph {
    pub fn read(metadata: &Value) -> Self {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().expect("a name in cargo's metadata").to_owned();
        let names: BTreeMap<String, String> =
            list(&metadata["packages"]).iter().map(|package| (text(&package["id"]), text(&package["name"]))).collect();
        let name = |id: &Value| names[id.as_str().expect("an id")].clone();
        let mut graph = Self::default();
        graph.ours.extend(list(&metadata["workspace_members"]).iter().map(name));
        for node in list(&metadata["resolve"]["nodes"]) {
            for dependency in list(&node["deps"]) {
                for kind in list(&dependency["dep_kinds"]) {
                    let kind = kind["kind"].as_str().unwrap_or("normal").to_owned();
                    graph.edges.insert(Edge { from: name(&node["id"]), to: name(&dependency["pkg"]), kind });
                }
            }
        }
        assert!(!graph.ours.is_empty() && graph.edges.len() > 20, "cargo's metadata has another form than it had");
        graph
    }

    /// Every package that is linked into `root`, each with one way there.
    pub fn linked_into(&self, root: &str) -> BTreeMap<String, Vec<String>> {
        let mut ways = BTreeMap::from([(root.to_owned(), vec![root.to_owned()])]);
        let mut waiting = VecDeque::from([root.to_owned()]);
        while let Some(from) = waiting.pop_front() {
            for edge in self.edges.iter().filter(|edge| edge.from == from && edge.kind == "normal") {
                if !ways.contains_key(&edge.to) {
                    let way = ways[&from].iter().chain([&edge.to]).cloned().collect();
                    ways.insert(edge.to.clone(), way);
                    waiting.push_back(edge.to.clone());
                }
            }
        }
        ways
    }

    /// The same with one more edge: an offence, to try a rule on.
    pub fn with(&self, from: &str, to: &str, kind: &str) -> Self {
        let mut graph = Self { ours: self.ours.clone(), edges: self.edges.clone() };
        graph.edges.insert(Edge { from: from.to_owned(), to: to.to_owned(), kind: kind.to_owned() });
        graph
    }
}
