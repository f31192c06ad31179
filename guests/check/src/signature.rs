//! The contracts, one item a line, in the form of `wit/osagent-signatures.txt`.
//!
//! Order of fields and cases is kept, as it is binding; order of items within an interface is not, as nothing hangs on it.

use std::collections::{BTreeMap, BTreeSet};
use wit_parser::{
    Enum, Function, FunctionKind, Handle, InterfaceId, Record, Resolve, Type, TypeDefKind, TypeId, TypeOwner, Variant, WorldItem,
};

/// Interface or world → its lines.
pub type Signatures = BTreeMap<String, BTreeSet<String>>;

/// Reads a list of signatures: headings are not indented, `#` begins a remark.
pub fn listed(text: &str) -> Signatures {
    let mut signatures = Signatures::new();
    let mut heading = String::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        if line.starts_with(' ') {
            let fresh = signatures.entry(heading.clone()).or_default().insert(line.trim().to_owned());
            assert!(fresh, "{heading}: twice {line}");
        } else {
            heading = line.trim().to_owned();
            signatures.entry(heading.clone()).or_default();
        }
    }
    signatures
}

/// The signatures of every interface and world of `namespace`.
pub fn resolved(resolve: &Resolve, namespace: &str) -> Signatures {
    let mut signatures = Signatures::new();
    for (_, package) in resolve.packages.iter().filter(|(_, package)| package.name.namespace == namespace) {
        for (name, id) in &package.interfaces {
            signatures.insert(format!("interface {}/{name}", package.name), interface(resolve, *id));
        }
        for (name, id) in &package.worlds {
            signatures.insert(format!("world {}/{name}", package.name), world(resolve, *id));
        }
    }
    signatures
}

fn interface(resolve: &Resolve, id: InterfaceId) -> BTreeSet<String> {
    let interface = &resolve.interfaces[id];
    let mut lines: BTreeSet<String> = interface.functions.values().map(|function| function_line(resolve, function)).collect();
    let mut used: BTreeMap<InterfaceId, BTreeSet<&str>> = BTreeMap::new();
    for (name, type_id) in &interface.types {
        match foreign(resolve, *type_id, id) {
            Some(owner) => _ = used.entry(owner).or_default().insert(name),
            None => lines.extend(type_line(resolve, name, *type_id)),
        }
    }
    for (owner, names) in used {
        let names: Vec<&str> = names.into_iter().collect();
        lines.insert(format!("use {}.{{{}}}", path(resolve, owner), names.join(", ")));
    }
    lines
}

fn world(resolve: &Resolve, id: wit_parser::WorldId) -> BTreeSet<String> {
    let world = &resolve.worlds[id];
    let line = |direction: &str, item: &WorldItem| match item {
        WorldItem::Interface { id, .. } => format!("{direction} {}", path(resolve, *id)),
        other => panic!("a world of interfaces only, found {other:?}"),
    };
    let imports = world.imports.values().map(|item| line("import", item));
    imports.chain(world.exports.values().map(|item| line("export", item))).collect()
}

/// `package/interface`.
fn path(resolve: &Resolve, id: InterfaceId) -> String {
    resolve.id_of(id).expect("a named interface")
}

/// The interface that a type is used from, when it is not this one's own.
fn foreign(resolve: &Resolve, type_id: TypeId, here: InterfaceId) -> Option<InterfaceId> {
    let TypeDefKind::Type(Type::Id(target)) = resolve.types[type_id].kind else { return None };
    match resolve.types[target].owner {
        TypeOwner::Interface(owner) if owner != here => Some(owner),
        _ => None,
    }
}

/// Resources have no line of their own: their methods name them.
fn type_line(resolve: &Resolve, name: &str, id: TypeId) -> Option<String> {
    Some(match &resolve.types[id].kind {
        TypeDefKind::Resource => return None,
        TypeDefKind::Record(record) => format!("record {name}: {}", fields(resolve, record)),
        TypeDefKind::Enum(cases) => format!("enum {name}: {}", enum_cases(cases)),
        TypeDefKind::Variant(variant) => format!("variant {name}: {}", variant_cases(resolve, variant)),
        TypeDefKind::Type(target) => format!("type {name} = {}", type_name(resolve, target)),
        TypeDefKind::List(item) => format!("type {name} = list<{}>", type_name(resolve, item)),
        other => panic!("{name}: a kind that the list has no form for: {other:?}"),
    })
}

fn fields(resolve: &Resolve, record: &Record) -> String {
    record.fields.iter().map(|field| format!("{}: {}", field.name, type_name(resolve, &field.ty))).collect::<Vec<_>>().join(", ")
}

fn enum_cases(cases: &Enum) -> String {
    cases.cases.iter().map(|case| case.name.clone()).collect::<Vec<_>>().join(", ")
}

fn variant_cases(resolve: &Resolve, variant: &Variant) -> String {
    let case = |case: &wit_parser::Case| match &case.ty {
        Some(ty) => format!("{}({})", case.name, type_name(resolve, ty)),
        None => case.name.clone(),
    };
    variant.cases.iter().map(case).collect::<Vec<_>>().join(", ")
}

fn function_line(resolve: &Resolve, function: &Function) -> String {
    let (name, skipped) = match function.kind {
        FunctionKind::Freestanding => (function.name.clone(), 0),
        FunctionKind::Method(resource) => {
            let resource = resolve.types[resource].name.as_deref().unwrap_or_default();
            (format!("{resource}.{}", function.item_name()), 1)
        }
        ref other => panic!("{}: {other:?}", function.name),
    };
    let parameter = |param: &wit_parser::Param| format!("{}: {}", param.name, type_name(resolve, &param.ty));
    let params: Vec<String> = function.params.iter().skip(skipped).map(parameter).collect();
    let result = function.result.as_ref().map(|ty| format!(" -> {}", type_name(resolve, ty))).unwrap_or_default();
    format!("{name}: func({}){result}", params.join(", "))
}

fn type_name(resolve: &Resolve, ty: &Type) -> String {
    let Type::Id(id) = ty else { return primitive(ty).to_owned() };
    let definition = &resolve.types[*id];
    if let Some(name) = &definition.name {
        return name.clone();
    }
    let inner = |ty: &Type| type_name(resolve, ty);
    let named = |id: &TypeId| resolve.types[*id].name.clone().unwrap_or_default();
    match &definition.kind {
        TypeDefKind::List(item) => format!("list<{}>", inner(item)),
        TypeDefKind::Option(item) => format!("option<{}>", inner(item)),
        TypeDefKind::Handle(Handle::Own(id)) => format!("own<{}>", named(id)),
        TypeDefKind::Handle(Handle::Borrow(id)) => format!("borrow<{}>", named(id)),
        TypeDefKind::Result(result) => {
            let side = |ty: &Option<Type>| ty.as_ref().map_or("_".to_owned(), inner);
            format!("result<{}, {}>", side(&result.ok), side(&result.err))
        }
        other => panic!("a type that the list has no form for: {other:?}"),
    }
}

fn primitive(ty: &Type) -> &'static str {
    match ty {
        Type::Bool => "bool",
        Type::U8 => "u8",
        Type::U32 => "u32",
        Type::S32 => "s32",
        Type::U64 => "u64",
        Type::F32 => "f32",
        Type::String => "string",
        other => panic!("a primitive that the list does not use: {other:?}"),
    }
}
