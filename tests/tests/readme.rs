//! README's first policy and first task, as a reader types them: the code blocks are taken from the file itself, and run as
//! root and as a normal user, each in a folder of its own.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;
use warden_tests::{NOBODY, is_root, place, skipped};

/// A code block: its language and its lines.
type Block = (String, String);

/// The code blocks between two headings.
fn blocks(from: &str, to: &str) -> Vec<Block> {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).expect("README.md");
    let rest = readme.split_once(&format!("\n## {from}\n")).unwrap_or_else(|| panic!("no heading {from}")).1;
    let part = rest.split_once(&format!("\n## {to}\n")).unwrap_or_else(|| panic!("no heading {to}")).0;
    let fenced = part.split("```").skip(1).step_by(2);
    fenced.map(|block| block.split_once('\n').expect("a language")).map(|(a, b)| (a.into(), b.into())).collect()
}

/// A reader's folder, and who the reader is.
struct Reader {
    folder: TempDir,
    uid: u32,
}

impl Reader {
    fn new(uid: u32) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("its mode");
        if is_root() {
            chown(folder.path(), Some(uid), Some(uid)).expect("its owner");
        }
        Self { folder, uid }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What the README shows of a file is saved under the name in its first line; the rest is typed line by line.
    fn follow(&self, blocks: &[Block]) -> Vec<(String, Output)> {
        let mut typed = Vec::new();
        for (language, text) in blocks {
            match language.as_str() {
                "toml" => self.save(text),
                "sh" => typed.extend(text.lines().map(|line| (line.to_owned(), self.types(line)))),
                other => panic!("what is to be done with {other}?"),
            }
        }
        typed
    }

    fn save(&self, text: &str) {
        let name = text.lines().next().and_then(|line| line.strip_prefix("# ")).expect("a name in the first line");
        let path = self.path(name);
        fs::write(&path, text).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("its mode");
        if is_root() {
            chown(&path, Some(self.uid), Some(self.uid)).expect("its owner");
        }
    }

    /// Types one line into a shell of the reader's, in the reader's folder.
    fn types(&self, line: &str) -> Output {
        let warden = place::warden();
        let line = line.replace("target/release/warden", warden.to_str().expect("a path of text"));
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &line]).current_dir(self.folder.path()).env_clear().stdin(Stdio::null());
        shell.env("PATH", "/usr/bin:/bin").env("HOME", self.folder.path());
        if is_root() && self.uid != 0 {
            shell.uid(self.uid).gid(self.uid);
        }
        shell.output().expect("sh runs")
    }
}

fn both(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Every line of both chapters does what the README says.
fn reads(uid: u32) {
    let reader = Reader::new(uid);
    let mut typed = reader.follow(&blocks("A first policy", "A first task"));
    typed.extend(reader.follow(&blocks("A first task", "Honest limits")));
    assert!(typed.len() >= 6, "the README has less to type than it had: {typed:?}");
    for (line, output) in &typed {
        // What the host lacks is the doctor's to say, and no mistake of the README.
        let host = line.contains("doctor") && output.status.code() == Some(1);
        assert!(output.status.success() || host, "{line}: {}\n{}", output.status, both(output));
    }
    let said = |words: &str| {
        let found = typed.iter().find(|(line, _)| line.contains(words));
        both(&found.unwrap_or_else(|| panic!("nothing like {words} in the README")).1)
    };
    assert!(said("policy check").contains("the policy is right"));
    let ran = said("task run");
    assert!(ran.contains("done") && ran.contains("met: ") && !ran.contains(": \n"), "{ran}");
    assert!(said("warden jail ls").contains("bin") && said("grep -c hello").contains("1\n"));
    assert!(said("audit show").contains("fs.write_file"));
    assert!(said("audit verify").contains("intact"), "{}", said("audit verify"));
    assert_eq!(fs::read_to_string(reader.path("notes/b.txt")).expect("what the task wrote"), "seen");
}

#[test]
fn a_normal_user_reads_the_readme() {
    reads(if is_root() { NOBODY } else { nix::unistd::getuid().as_raw() });
}

#[test]
fn root_reads_the_readme() {
    if !is_root() {
        return skipped("it is about root");
    }
    reads(0);
}

/// T-10: in a folder of root's alone the log's folder is made for whom warden becomes, and nothing else is handed over.
#[test]
fn root_who_keeps_the_folder_is_told_what_to_type_and_that_is_enough() {
    if !is_root() {
        return skipped("it is about root");
    }
    let reader = Reader::new(0);
    let no_chown = |blocks: Vec<Block>| -> Vec<Block> {
        let kept = |text: String| text.lines().filter(|l| !l.contains("chown")).map(|l| format!("{l}\n")).collect();
        blocks.into_iter().map(|(language, text)| (language, kept(text))).collect()
    };
    reader.follow(&no_chown(blocks("A first policy", "A first task")));
    let typed = reader.follow(&no_chown(blocks("A first task", "Honest limits")));
    let (line, refused) = &typed[0];
    let words = both(refused);
    assert_eq!(refused.status.code(), Some(2), "{line}: {words}");
    let remedy = words.split_once("type: ").and_then(|(_, rest)| rest.split_once(';')).expect("what to type").0;
    assert!(remedy.contains("chown"), "{words}");
    assert!(reader.types(remedy).status.success(), "{remedy}");
    let mended = reader.types(line);
    assert!(mended.status.success(), "after `{remedy}`: {}", both(&mended));
    let owner = |name: &str| {
        let facts = fs::metadata(reader.path(name)).expect("it is there");
        (facts.uid(), facts.mode() & 0o777)
    };
    assert_eq!(owner("audit"), (NOBODY, 0o700));
    assert_eq!((owner("."), owner("warden.toml").0), ((0, 0o755), 0));
}

/// Where root may not make the log's folder, the words to type are whole and enough.
#[test]
fn a_folder_for_the_log_that_root_does_not_make_is_made_by_what_is_printed() {
    if !is_root() {
        return skipped("it is about root");
    }
    let reader = Reader::new(0);
    reader.follow(&blocks("A first policy", "A first task"));
    let typed = reader.follow(&blocks("A first task", "Honest limits"));
    let run = &typed[0].0;
    let somewhere = |name: &str| {
        let policy = fs::read_to_string(reader.path("warden.toml")).expect("the policy");
        let start = policy.find("dir = ").expect("[audit] dir");
        reader.save(&format!("{}dir = \"{name}\"\n", &policy[..start]));
    };
    for (name, prepare) in [
        ("open/audit", "mkdir open && chmod 777 open && mkdir open/audit"),
        ("with blank/log", "mkdir -m 700 'with blank' && chown 12345 'with blank' && chmod 711 'with blank'"),
        ("closed/log", "mkdir -p closed/log && chown 65534 closed/log && chmod 700 closed closed/log"),
    ] {
        assert!(reader.types(prepare).status.success());
        somewhere(name);
        let refused = reader.types(run);
        let words = both(&refused);
        assert_eq!(refused.status.code(), Some(125), "{name}: {words}");
        let remedy = words.split_once("as root type: ").expect("what to type").1;
        let remedy = remedy.split_once(';').expect("its end").0;
        let remedy = remedy.rsplit_once("it: ").map_or(remedy, |(_, command)| command);
        assert!(reader.types(remedy).status.success(), "{remedy}");
        let mended = reader.types(run);
        assert!(mended.status.success(), "{name}: after `{remedy}`: {}", both(&mended));
    }
    // Nothing of another's was handed over, and the path was not made elsewhere.
    assert_eq!(fs::metadata(reader.path("with blank")).expect("it is there").uid(), 12_345);
    assert!(!Path::new("/log").exists());
}
