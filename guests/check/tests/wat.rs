//! The hand-written modules parse, validate and have the shape that their tests count on.

use guest_check::guests_dir;
use wasmparser::{ExternalKind, Parser, Payload, Validator, WasmFeatures};

fn module(name: &str) -> Vec<u8> {
    let path = guests_dir().join("wat").join(format!("{name}.wat"));
    let bytes = wat::parse_file(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    Validator::new_with_features(WasmFeatures::default()).validate_all(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
    bytes
}

fn shape(bytes: &[u8]) -> (Vec<String>, Vec<String>) {
    let (mut imports, mut functions) = (Vec::new(), Vec::new());
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.expect("valid") {
            Payload::ImportSection(reader) => {
                imports.extend(reader.into_imports().map(|import| import.expect("valid")).map(|i| format!("{}.{}", i.module, i.name)));
            }
            Payload::ExportSection(reader) => {
                let exports = reader.into_iter().map(|export| export.expect("valid"));
                functions.extend(exports.filter(|export| export.kind == ExternalKind::Func).map(|export| export.name.to_owned()));
            }
            _ => {}
        }
    }
    (imports, functions)
}

#[test]
fn every_module_has_its_imports_and_its_entry() {
    let expected: &[(&str, &[&str], &str)] = &[
        ("hello", &["wasi_snapshot_preview1.fd_write"], "_start"),
        ("exit3", &["wasi_snapshot_preview1.proc_exit"], "_start"),
        ("run42", &[], "run"),
        ("loop", &[], "_start"),
        ("trap", &[], "_start"),
        ("grow", &["wasi_snapshot_preview1.proc_exit"], "_start"),
        ("grow-start", &[], "_start"),
        ("table-grow", &["wasi_snapshot_preview1.proc_exit"], "_start"),
        ("table-bomb", &[], "_start"),
        ("memory-bomb", &[], "_start"),
        ("recursion", &[], "_start"),
        ("stdout-flood", &["wasi_snapshot_preview1.fd_write"], "_start"),
        ("bad-pointer", &["wasi_snapshot_preview1.fd_write", "wasi_snapshot_preview1.proc_exit"], "_start"),
        ("unknown-import", &["env.open_door"], "_start"),
        ("bad-start", &[], "_start"),
        ("start-trap", &[], "_start"),
        ("no-entry", &[], "other"),
    ];
    let mut listed: Vec<String> = expected.iter().map(|(name, ..)| format!("{name}.wat")).collect();
    for (name, imports, entry) in expected {
        let (have_imports, functions) = shape(&module(name));
        assert_eq!(have_imports, *imports, "{name}");
        assert_eq!(functions, [*entry], "{name}");
    }
    let mut present: Vec<String> = std::fs::read_dir(guests_dir().join("wat"))
        .expect("the folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    listed.sort();
    present.sort();
    assert_eq!(present, listed);
}
