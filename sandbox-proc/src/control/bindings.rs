//! Generated from `wit/agent.wit`.

wasmtime::component::bindgen!({
    path: "../wit",
    world: "osagent:agent/control",
    imports: { default: trappable },
    trappable_error_type: { "osagent:common/types.capability-error" => crate::worker::call::Fault },
    with: {
        "osagent:fs/fs.dir-handle": crate::control::Dir,
        "osagent:fs/fs.file-handle": crate::control::File,
        "osagent:proc/proc.process": crate::control::Process,
        "osagent:browser/browser.session": crate::control::Never,
        "osagent:browser/browser.element-handle": crate::control::Never,
    },
});
