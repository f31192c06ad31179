//! `policy why CAP ARGS…`: every layer's verdict on one call, and the one that counts.

use crate::decide::{Call, FsOp, Intent, LayerVerdict, PathArg, SpawnKind, Verdict};
use crate::layer::Effective;
use crate::path::InvalidArgument;

/// What each layer says, and what follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    pub capability: String,
    pub target: Option<String>,
    /// In the order system, user, task; a rename has each layer twice, and a verdict without a layer no policy could change.
    pub layers: Vec<LayerVerdict>,
    pub verdict: Verdict,
}

impl Effective {
    pub fn explain(&self, call: &Call<'_>) -> Result<Explanation, InvalidArgument> {
        let judgement = self.judge(call)?;
        let (target, layers) = (judgement.target.clone(), judgement.layers.clone());
        let verdict = self.fold(call.capability(), judgement);
        Ok(Explanation { capability: call.capability(), target, layers, verdict })
    }

    /// Explains a call as the command line gives it: `fs.read_file a.txt`, `fs.rename a b`, `proc.spawn cargo test`.
    /// `fs.open` is taken as opening for reading, or for writing where the second word is `write`.
    pub fn explain_words(&self, capability: &str, words: &[&str]) -> Result<Explanation, InvalidArgument> {
        let capability = crate::capability::canonical(capability);
        if let Some(op) = FsOp::ALL.into_iter().find(|op| op.capability() == capability) {
            let path = PathArg::Text(words.first().copied().unwrap_or_default());
            let second = words.get(1).copied();
            let to = if op == FsOp::Rename { second.map(PathArg::Text) } else { None };
            let intent = if second == Some("write") { Intent::WRITE } else { Intent::READ };
            return self.explain(&Call::Fs { op, path, to, intent });
        }
        let rest = words.get(1..).unwrap_or_default();
        let first = words.first().copied();
        match (capability.as_str(), first) {
            ("proc.spawn" | "proc.start", None) => Err(InvalidArgument::Missing("which command?")),
            ("proc.spawn" | "proc.start", Some(command)) => {
                let kind = if capability == "proc.start" { SpawnKind::Start } else { SpawnKind::Spawn };
                self.explain(&Call::Spawn { kind, command, args: rest, cwd: None, env_names: &[], timeout: None })
            }
            ("proc.write_stdin" | "proc.read" | "proc.wait" | "proc.signal", Some(command)) => {
                self.explain(&Call::Process { capability: &capability, command })
            }
            _ => self.explain(&Call::Named { capability: &capability }),
        }
    }
}
