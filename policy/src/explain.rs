//! `policy why CAP ARGS…`: every layer's verdict on one call, and the one that counts.

use crate::decide::{Call, FsOp, Intent, LayerVerdict, PathArg, SecondPath, SpawnKind, Verdict};
use crate::layer::Effective;
use crate::path::InvalidArgument;

/// What each layer says, and what follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    pub capability: String,
    pub target: Option<String>,
    /// Where a rename leads.
    pub second: Option<SecondPath>,
    /// In the order system, user, task; a rename has each layer twice, and a verdict without a layer no policy could change.
    pub layers: Vec<LayerVerdict>,
    pub verdict: Verdict,
}

impl Effective {
    pub fn explain(&self, call: &Call<'_>) -> Result<Explanation, InvalidArgument> {
        let judgement = self.judge(call)?;
        let (target, layers) = (judgement.target.clone(), judgement.layers.clone());
        let second = judgement.second.clone();
        let verdict = self.fold(call.capability(), judgement);
        Ok(Explanation { capability: call.capability(), target, second, layers, verdict })
    }

    /// Explains a call as the command line gives it: `fs.read_file a.txt`, `fs.rename a b`, `proc.spawn cargo test`.
    /// `fs.open` is taken as opening for reading, or for writing where the second word is `write`. A word that is missing or
    /// says nothing is an error: an answer to another question than was asked is worse than none (T-10).
    pub fn explain_words(&self, capability: &str, words: &[&str]) -> Result<Explanation, InvalidArgument> {
        let capability = crate::capability::canonical(capability);
        if let Some(op) = FsOp::ALL.into_iter().find(|op| op.capability() == capability) {
            return self.explain_files(op, words);
        }
        let rest = words.get(1..).unwrap_or_default();
        let first = words.first().copied();
        match (capability.as_str(), first) {
            ("proc.spawn" | "proc.start", None) => Err(InvalidArgument::Missing("which command?")),
            ("proc.spawn" | "proc.start", Some(command)) => {
                let kind = if capability == "proc.start" { SpawnKind::Start } else { SpawnKind::Spawn };
                self.explain(&Call::Spawn { kind, command, args: rest, cwd: None, env_names: &[], timeout: None })
            }
            ("proc.write_stdin" | "proc.read" | "proc.wait" | "proc.signal", None) => {
                Err(InvalidArgument::Missing("of a process of which command?"))
            }
            ("proc.write_stdin" | "proc.read" | "proc.wait" | "proc.signal", Some(command)) => {
                none_left(rest, "name the command alone")?;
                self.explain(&Call::Process { capability: &capability, command })
            }
            (named, _) => {
                if named.starts_with("llm.") || named.starts_with("policy.") {
                    none_left(words, "this capability is decided by its name alone")?;
                }
                self.explain(&Call::Named { capability: &capability })
            }
        }
    }

    fn explain_files(&self, op: FsOp, words: &[&str]) -> Result<Explanation, InvalidArgument> {
        let (path, rest) = match words.split_first() {
            Some((path, rest)) => (*path, rest),
            // As in an action: the first workspace's root.
            None if op == FsOp::ListDir => ("", words),
            None => return Err(InvalidArgument::Missing("which path?")),
        };
        let (mut to, mut intent) = (None, Intent::READ);
        let left = match (op, rest) {
            (FsOp::Rename, []) => return Err(InvalidArgument::Missing("a rename has a second path: to what?")),
            (FsOp::Rename, [second, left @ ..]) => {
                to = Some(PathArg::Text(second));
                left
            }
            (FsOp::Open, ["read", left @ ..]) => left,
            (FsOp::Open, ["write", left @ ..]) => {
                intent = Intent::WRITE;
                left
            }
            (FsOp::Open, [other, ..]) => {
                return Err(InvalidArgument::Unexpected {
                    word: cut(other),
                    why: "a file is opened to `read` or to `write`",
                });
            }
            (_, left) => left,
        };
        none_left(left, if op == FsOp::Rename { "a rename has two paths" } else { "this capability has one path" })?;
        self.explain(&Call::Fs { op, path: PathArg::Text(path), to, intent })
    }
}

fn none_left(words: &[&str], why: &'static str) -> Result<(), InvalidArgument> {
    match words.first() {
        None => Ok(()),
        Some(word) => Err(InvalidArgument::Unexpected { word: cut(word), why }),
    }
}

fn cut(word: &str) -> String {
    word.chars().take(80).collect()
}
