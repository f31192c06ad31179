//! What lies in a folder, as far as it does not depend on when it was made.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// What of a file two runs need not have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// Everything is compared.
    Nothing,
    /// It holds times or numbers of inodes: its contents and its length are left out.
    Contents,
    /// Its very name is a matter of chance.
    All,
}

/// One name of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    kind: &'static str,
    mode: u32,
    /// Of a file: a folder's count depends on the file system.
    links: u64,
    /// Of a file its contents, of a link where it leads.
    contents: Option<Vec<u8>>,
}

/// A folder, by paths from its root.
pub type Tree = BTreeMap<String, Entry>;

/// Reads a folder. `tell`: text that differs between two runs, and what stands in its place.
pub fn read(root: &Path, leave: fn(&str) -> Leave, tell: &[(String, &str)]) -> Tree {
    let mut tree = Tree::new();
    let mut waiting = vec![String::new()];
    while let Some(folder) = waiting.pop() {
        let entries = fs::read_dir(root.join(&folder)).unwrap_or_else(|e| panic!("{folder}: {e}"));
        for entry in entries {
            let entry = entry.expect("an entry");
            let name = entry.file_name().into_string().expect("a name of text");
            let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            if leave(&path) == Leave::All {
                continue;
            }
            let mut found = look(&entry.path());
            found.contents = match leave(&path) {
                Leave::Nothing => found.contents.map(|bytes| replaced(bytes, tell)),
                _ => None,
            };
            if found.kind == "folder" {
                waiting.push(path.clone());
            }
            tree.insert(path, found);
        }
    }
    tree
}

fn look(path: &Path) -> Entry {
    let facts = fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let kind = facts.file_type();
    let (kind, contents) = if kind.is_dir() {
        ("folder", None)
    } else if kind.is_symlink() {
        ("link", fs::read_link(path).ok().map(|target| target.as_os_str().as_bytes().to_vec()))
    } else if kind.is_fifo() {
        ("pipe", None)
    } else if kind.is_file() {
        ("file", Some(fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))))
    } else {
        ("other", None)
    };
    let links = if kind == "file" { facts.nlink() } else { 1 };
    Entry { kind, mode: facts.mode() & 0o7777, links, contents }
}

/// Bytes with each text of `tell` replaced.
pub fn replaced(bytes: Vec<u8>, tell: &[(String, &str)]) -> Vec<u8> {
    let mut bytes = bytes;
    for (from, to) in tell.iter().filter(|(from, _)| !from.is_empty()) {
        let from = from.as_bytes();
        let mut out = Vec::with_capacity(bytes.len());
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            if rest.starts_with(from) {
                out.extend_from_slice(to.as_bytes());
                at += from.len();
            } else {
                out.push(rest[0]);
                at += 1;
            }
        }
        bytes = out;
    }
    bytes
}

/// Files in whose bytes `text` stands.
pub fn holding(root: &Path, text: &[u8]) -> Vec<String> {
    let tree = read(root, |_| Leave::Nothing, &[]);
    let holds = |bytes: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    let found = tree.into_iter().filter(|(_, entry)| entry.contents.as_deref().is_some_and(holds));
    found.map(|(name, _)| name).collect()
}

/// How two trees differ, one line a name.
pub fn differences(outside: &Tree, inside: &Tree) -> Vec<String> {
    let names = outside.keys().chain(inside.keys().filter(|name| !outside.contains_key(*name)));
    let differ = names.filter(|name| outside.get(*name) != inside.get(*name));
    differ.map(|name| format!("{name}: outside {}, inside {}", say(outside.get(name)), say(inside.get(name)))).collect()
}

fn say(entry: Option<&Entry>) -> String {
    let Some(entry) = entry else { return "nothing".to_owned() };
    let contents = entry.contents.as_deref().map(|bytes| {
        let text: String = String::from_utf8_lossy(bytes).chars().take(200).collect();
        format!(", {} bytes {text:?}", bytes.len())
    });
    format!("{} {:o} x{}{}", entry.kind, entry.mode, entry.links, contents.unwrap_or_default())
}

#[test]
fn a_difference_of_any_kind_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    for (root, home) in [(&one, "/home/a"), (&two, "/var/bc")] {
        fs::create_dir_all(root.join("sub")).unwrap();
        fs::write(root.join("sub/file"), format!("at {home}/x")).unwrap();
        std::os::unix::fs::symlink("sub/file", root.join("link")).unwrap();
    }
    let all = |_: &str| Leave::Nothing;
    let read = |root: &Path, home: &str, leave| read(root, leave, &[(home.to_owned(), "HOME")]);
    let same = read(&one, "/home/a", all);
    assert_eq!(differences(&same, &read(&two, "/var/bc", all)), [""; 0]);
    assert_eq!(same.len(), 3);
    fs::write(two.join("sub/file"), "other").unwrap();
    assert_eq!(differences(&same, &read(&two, "/var/bc", all)).len(), 1, "contents");
    let less = |path: &str| if path == "sub/file" { Leave::Contents } else { Leave::Nothing };
    assert_eq!(differences(&read(&one, "", less), &read(&two, "", less)), [""; 0]);
    fs::hard_link(two.join("sub/file"), two.join("second")).unwrap();
    assert_eq!(differences(&same, &read(&two, "/var/bc", less)).len(), 2, "a name and a count of links");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::set_permissions(two.join("sub"), mode).unwrap();
    assert_eq!(differences(&same, &read(&two, "/var/bc", less)).len(), 3, "a mode");
}
