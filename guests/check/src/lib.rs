//! What the guests promise, made checkable: componentize a core module, list what it imports, write the contracts down one item a line.
//!
//! Runs in tests only. The build of the host has its own componentizing step; this one proves that the embedded type section is enough for it.
#![forbid(unsafe_code)]

pub mod signature;

use std::path::{Path, PathBuf};
use wasmparser::{Parser, Payload};
use wit_component::ComponentEncoder;

/// The folder of this workspace.
pub fn guests_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The contracts' folder.
pub fn wit_dir() -> PathBuf {
    guests_dir().join("../wit")
}

/// A component from a core module whose type is embedded; no adapter, so an import of anything but WIT interfaces fails.
pub fn componentize(core_module: &[u8]) -> Result<Vec<u8>, String> {
    let mut encoder = ComponentEncoder::default();
    encoder.validate(true).module(core_module).and_then(|encoder| encoder.encode()).map_err(|error| format!("{error:?}"))
}

/// Names of a component's imports and exports, in their order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Surface {
    pub imports: Vec<String>,
    pub exports: Vec<String>,
}

/// Reads a component's outermost imports and exports.
pub fn surface(component: &[u8]) -> Result<Surface, String> {
    let mut surface = Surface::default();
    let mut depth = 0u32;
    for payload in Parser::new(0).parse_all(component) {
        let payload = payload.map_err(|error| error.to_string())?;
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(reader) if depth == 0 => {
                for import in reader {
                    surface.imports.push(import.map_err(|error| error.to_string())?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(reader) if depth == 0 => {
                for export in reader {
                    surface.exports.push(export.map_err(|error| error.to_string())?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok(surface)
}
