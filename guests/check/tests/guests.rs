//! Every guest builds, becomes a component without an adapter, and imports nothing but the agent's own interfaces.
//!
//! The guests are built here from source, so that what is checked is what stands in the tree.

use guest_check::{Surface, componentize, guests_dir, surface};
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

const TARGET: &str = "wasm32-unknown-unknown";

/// Where the built core modules lie.
static BUILT: LazyLock<PathBuf> = LazyLock::new(|| {
    // The same target directory as this test's own, so that nothing is built twice; no lock on it is held while tests run.
    let target_dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("..");
    let status = Command::new(env!("CARGO"))
        .current_dir(guests_dir())
        .args(["build", "--release", "--locked", "--target", TARGET, "--target-dir"])
        .arg(&target_dir)
        .status()
        .expect("cargo runs");
    assert!(status.success(), "the guests do not build; is the target there? rustup target add {TARGET}");
    target_dir.join(TARGET).join("release")
});

fn surface_of(guest: &str) -> Surface {
    let core = std::fs::read(BUILT.join(format!("{guest}.wasm"))).expect("the core module");
    let component = componentize(&core).unwrap_or_else(|error| panic!("{guest}: {error}"));
    surface(&component).expect("a component")
}

fn assert_ours_alone(surface: &Surface) {
    assert_eq!(surface.exports, ["osagent:agent/planner"]);
    assert!(surface.imports.iter().all(|import| import.starts_with("osagent:")), "{:?}", surface.imports);
}

#[test]
fn agent_core_imports_model_and_policy_and_nothing_else() {
    let surface = surface_of("agent_core");
    assert_ours_alone(&surface);
    assert_eq!(surface.imports, ["osagent:common/types", "osagent:llm/llm", "osagent:policy/policy"]);
}

#[test]
fn runbook_player_imports_no_capability() {
    let surface = surface_of("runbook_player");
    assert_ours_alone(&surface);
    assert!(surface.imports.iter().all(|import| import == "osagent:common/types"), "{:?}", surface.imports);
}

#[test]
fn control_probe_imports_every_capability() {
    let surface = surface_of("control_probe");
    assert_ours_alone(&surface);
    for capability in ["fs/fs", "proc/proc", "browser/browser", "input/input", "llm/llm", "policy/policy"] {
        assert!(surface.imports.contains(&format!("osagent:{capability}")), "{capability}: {:?}", surface.imports);
    }
}

#[test]
fn a_module_that_imports_wasi_is_no_component_of_ours() {
    let wat = r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func (param i32))))"#;
    assert!(componentize(&wat::parse_str(wat).expect("text")).is_err());
}
