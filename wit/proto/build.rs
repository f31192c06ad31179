//! Digests every source file of this crate, so that binaries which disagree on a message refuse each other at hello.

use std::path::{Path, PathBuf};

fn main() {
    let mut files = Vec::new();
    collect(Path::new("src"), &mut files);
    files.sort();
    let mut all = Vec::new();
    for file in &files {
        println!("cargo:rerun-if-changed={}", file.display());
        all.extend_from_slice(file.to_string_lossy().as_bytes());
        all.extend_from_slice(&std::fs::read(file).expect("a source file of this crate is readable"));
    }
    println!("cargo:rerun-if-changed=src");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    // A digest is taken at run time too; here the plain bytes' FNV-1a over two bases is enough to tell builds apart.
    let digest: Vec<u8> = [0xcbf2_9ce4_8422_2325_u64, 0x8422_2325_cbf2_9ce4]
        .iter()
        .flat_map(|base| all.iter().fold(*base, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3)).to_le_bytes())
        .collect();
    std::fs::write(out.join("sources.digest"), digest).expect("OUT_DIR is writable");
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("src is readable").flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}
