//! The resolved contracts are those of the list, item by item.

use guest_check::{signature, wit_dir};
use wit_parser::Resolve;

fn resolved() -> Resolve {
    let mut resolve = Resolve::default();
    resolve.push_path(wit_dir()).expect("one path resolves every package");
    resolve
}

fn listed() -> signature::Signatures {
    signature::listed(&std::fs::read_to_string(wit_dir().join("osagent-signatures.txt")).expect("the list"))
}

/// The list leaves out what the world imports only because its interfaces use it, and names its own export short.
fn as_listed(mut signatures: signature::Signatures) -> signature::Signatures {
    let world = signatures.get_mut("world osagent:agent/control").expect("the world");
    world.remove("import osagent:common/types");
    assert!(world.remove("export osagent:agent/planner"));
    world.insert("export planner".to_owned());
    signatures
}

#[test]
fn every_item_stands_as_listed() {
    let (have, wanted) = (as_listed(signature::resolved(&resolved(), "osagent")), listed());
    assert_eq!(have.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
    for (interface, lines) in &wanted {
        let (missing, surplus): (Vec<_>, Vec<_>) =
            (lines.difference(&have[interface]).collect(), have[interface].difference(lines).collect());
        assert!(missing.is_empty() && surplus.is_empty(), "{interface}\n missing {missing:#?}\n surplus {surplus:#?}");
    }
    assert!(wanted.values().map(std::collections::BTreeSet::len).sum::<usize>() > 90);
}

#[test]
fn a_swapped_field_is_found() {
    let source = std::fs::read_to_string(wit_dir().join("deps/common.wit")).expect("the package");
    let swapped = source.replace("denied,", "swap-in,").replace("not-found,", "denied,").replace("swap-in,", "not-found,");
    assert_ne!(source, swapped);
    let mut resolve = Resolve::default();
    resolve.push_str("common.wit", &swapped).expect("still resolves");
    let have = signature::resolved(&resolve, "osagent");
    assert_ne!(have["interface osagent:common/types"], listed()["interface osagent:common/types"]);
}

#[test]
fn packages_carry_no_version() {
    let resolve = resolved();
    let versioned: Vec<String> =
        resolve.packages.iter().filter(|(_, p)| p.name.version.is_some()).map(|(_, p)| p.name.to_string()).collect();
    assert!(versioned.is_empty(), "{versioned:?}");
}

#[test]
fn every_item_says_what_it_is() {
    let resolve = resolved();
    for (_, interface) in resolve.interfaces.iter() {
        for function in interface.functions.values() {
            assert!(function.docs.contents.is_some(), "{:?}: {}", interface.name, function.name);
        }
        for (name, id) in interface
            .types
            .iter()
            .filter(|(_, id)| !matches!(resolve.types[**id].kind, wit_parser::TypeDefKind::Type(wit_parser::Type::Id(_))))
        {
            assert!(resolve.types[*id].docs.contents.is_some(), "{:?}: {name}", interface.name);
        }
    }
}
