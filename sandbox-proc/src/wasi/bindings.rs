//! Generated from `wit/wasi/program.wit`.

wasmtime::component::bindgen!({
    path: "../wit/wasi",
    world: "warden:wasi/program",
    imports: { default: trappable },
    with: {
        "wasi:io/error.error": super::io::Nothing,
        "wasi:io/poll.pollable": super::io::Pollable,
        "wasi:io/streams.input-stream": super::io::Input,
        "wasi:io/streams.output-stream": super::io::OutputTo,
        "wasi:cli/terminal-input.terminal-input": super::io::Nothing,
        "wasi:cli/terminal-output.terminal-output": super::io::Nothing,
    },
});
