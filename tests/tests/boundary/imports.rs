//! Who may import whom.

use crate::graph::{Graph, metadata};
use crate::tree;
use std::sync::LazyLock;

const PROTO: &str = "warden-proto";
const JAIL: &str = "warden-jail";
const POLICY: &str = "warden-policy";
const SPAWNER: &str = "warden-spawner";
/// How anything beneath a workspace is opened and judged: one code for guests and for commands.
const BENEATH: &str = "warden-beneath";

/// Every member and what of ours it may import, in whatever role. A member that is not here fails: where it stands is for
/// its author to decide and to say.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    (PROTO, &[]),
    (POLICY, &[]),
    (JAIL, &[]),
    (SPAWNER, &[PROTO, JAIL]),
    (BENEATH, &[PROTO]),
    ("wasi-warden", &[PROTO, POLICY, SPAWNER]),
    ("warden-sandbox", &[PROTO, JAIL]),
    ("cap-fs", &[PROTO, JAIL, BENEATH]),
    ("cap-proc", &[PROTO, JAIL, BENEATH]),
    ("cap-llm", &[PROTO, JAIL]),
    ("warden-tests", &[PROTO, JAIL, POLICY, SPAWNER, "wasi-warden"]),
    ("warden-bench", &[PROTO, JAIL, POLICY, SPAWNER, "wasi-warden"]),
];

/// What is never linked into a program of ours, whatever brings it along: engines, HTTP and TLS stacks, browsers, and
/// parsers of what guests, models and pages produce.
const NEVER_IN_THE_BROKER: &[&str] = &[
    "wasmtime",
    "wasmtime-environ",
    "cranelift-codegen",
    "wasmparser",
    "wat",
    "wit-component",
    "fantoccini",
    "hyper",
    "h2",
    "reqwest",
    "ureq",
    "rustls",
    "openssl",
    "native-tls",
    "html5ever",
    "scraper",
    "image",
];

/// What each program of ours never links.
const NEVER_LINKED: &[(&str, &[&str])] = &[
    ("wasi-warden", NEVER_IN_THE_BROKER),
    (SPAWNER, NEVER_IN_THE_BROKER),
    ("cap-fs", NEVER_IN_THE_BROKER),
    ("cap-proc", NEVER_IN_THE_BROKER),
    ("warden-sandbox", &["wasmtime-wasi", "tokio", "hyper", "reqwest", "rustls", "ipc-channel-router"]),
    ("cap-llm", &["wasmtime", "wasmparser", "openssl", "native-tls"]),
];

/// What only the jail imports: nobody else builds a fence, so nobody else can build a wrong one.
const ONLY_THE_JAILS: &[&str] = &["landlock", "seccompiler", "caps"];

static GRAPH: LazyLock<Graph> = LazyLock::new(|| Graph::read(&metadata(&tree())));

fn foreign_imports(graph: &Graph) -> Vec<String> {
    let mut offences = Vec::new();
    for member in &graph.ours {
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| name == member) else {
            offences.push(format!("{member} is in no row of MAY_IMPORT"));
            continue;
        };
        let imports = graph.edges.iter().filter(|edge| &edge.from == member && graph.ours.contains(&edge.to));
        for edge in imports.filter(|edge| !allowed.contains(&edge.to.as_str())) {
            offences.push(format!("{member} may not import {} ({})", edge.to, edge.kind));
        }
    }
    offences
}

fn linked_against_the_rules(graph: &Graph) -> Vec<String> {
    let mut offences = Vec::new();
    for (program, never) in NEVER_LINKED {
        let linked = graph.linked_into(program);
        assert!(linked.len() > 1, "{program} links nothing: is it still called that?");
        offences.extend(never.iter().filter_map(|name| linked.get(*name)).map(|way| way.join(" → ")));
    }
    offences
}

fn fences_elsewhere(graph: &Graph) -> Vec<String> {
    let fences = graph.edges.iter().filter(|edge| ONLY_THE_JAILS.contains(&edge.to.as_str()));
    let elsewhere = fences.filter(|edge| graph.ours.contains(&edge.from) && edge.from != JAIL);
    elsewhere.map(|edge| format!("{} imports {}", edge.from, edge.to)).collect()
}

#[test]
fn nobody_imports_what_is_not_theirs() {
    assert_eq!(foreign_imports(&GRAPH), [""; 0]);
    // Every row is about a member that exists, and every allowed import that the design counts on is really there.
    for (name, _) in MAY_IMPORT {
        assert!(GRAPH.ours.contains(*name), "{name} is no member any more");
    }
    assert!(GRAPH.edges.iter().any(|edge| edge.from == "cap-fs" && edge.to == JAIL));
}

#[test]
fn a_foreign_import_is_found() {
    for (from, to, kind) in [
        ("cap-fs", "cap-proc", "normal"),
        ("cap-llm", POLICY, "dev"),
        ("wasi-warden", JAIL, "normal"),
        ("warden-sandbox", POLICY, "build"),
        (PROTO, JAIL, "normal"),
        (POLICY, PROTO, "normal"),
    ] {
        let offences = foreign_imports(&GRAPH.with(from, to, kind));
        assert_eq!(offences, [format!("{from} may not import {to} ({kind})")]);
    }
    let mut stranger = GRAPH.with("cap-new", PROTO, "normal");
    stranger.ours.insert("cap-new".to_owned());
    assert_eq!(foreign_imports(&stranger), ["cap-new is in no row of MAY_IMPORT"]);
}

#[test]
fn no_program_links_what_it_must_not_hold() {
    assert_eq!(linked_against_the_rules(&GRAPH), [""; 0]);
    // The control: the same walk does find the engine where it belongs.
    assert!(GRAPH.linked_into("warden-sandbox").contains_key("wasmtime"));
}

#[test]
fn a_forbidden_link_is_found_through_others() {
    let direct = linked_against_the_rules(&GRAPH.with("wasi-warden", "wasmtime", "normal"));
    assert!(direct.contains(&"wasi-warden → wasmtime".to_owned()), "{direct:?}");
    let through = linked_against_the_rules(&GRAPH.with(POLICY, "hyper", "normal"));
    assert_eq!(through, [format!("wasi-warden → {POLICY} → hyper")]);
    // What only builds or tests is not linked: the broker's build script does turn guests into components.
    assert_eq!(linked_against_the_rules(&GRAPH.with("wasi-warden", "reqwest", "dev")), [""; 0]);
    assert!(
        GRAPH.edges.iter().any(|edge| edge.from == "wasi-warden" && edge.to == "wit-component" && edge.kind == "build")
    );
}

#[test]
fn only_the_jail_builds_fences() {
    assert_eq!(fences_elsewhere(&GRAPH), [""; 0]);
    for fence in ONLY_THE_JAILS {
        assert!(GRAPH.edges.iter().any(|edge| edge.from == JAIL && edge.to == *fence), "{JAIL} uses no {fence}");
        assert_eq!(fences_elsewhere(&GRAPH.with("cap-fs", fence, "dev")), [format!("cap-fs imports {fence}")]);
    }
}

#[test]
fn guests_and_natives_share_no_package() {
    let guests = Graph::read(&metadata(&tree().join("guests")));
    let shared: Vec<_> = guests.ours.intersection(&GRAPH.ours).collect();
    assert!(shared.is_empty(), "{shared:?}");
    let natives = |graph: &Graph| -> Vec<String> {
        let names = graph.edges.iter().flat_map(|edge| [&edge.from, &edge.to]);
        names.filter(|name| GRAPH.ours.contains(*name)).cloned().collect()
    };
    assert_eq!(natives(&guests), [""; 0]);
    assert_eq!(natives(&guests.with("agent-core", PROTO, "normal")), [PROTO]);
}
