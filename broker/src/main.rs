//! `warden`: the broker and its command line. Everything is in the library; see `cli` and `session`.

#![forbid(unsafe_code)]

fn main() {
    std::process::exit(wasi_warden::cli::main());
}
