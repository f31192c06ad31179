//! Success predicates on files (T-15).
//!
//! Runs in cap-fs, locked; asked by the broker alone. A predicate sees what the task may read and no more: a denied file is
//! a denial, neither met nor unmet.

use crate::content;
use crate::files::Files;
use crate::spot::Spot;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::SFlag;
use regex::bytes::RegexBuilder;
use serde_json::Value;
use warden_beneath::errors::OpError;
use warden_beneath::paths;
use warden_beneath::pulse::Pulse;
use warden_beneath::rules::Want;
use warden_beneath::tree::Opened;
use warden_proto::Text;
use warden_proto::msg::fs::{FileCheck, FsReply, HelperTarget};

/// Longest file that an expression is matched against.
const TEXT_MAX_BYTES: u64 = 16 * 1024 * 1024;
/// Longest JSON file; parsed it takes many times that.
const JSON_MAX_BYTES: u64 = 4 * 1024 * 1024;
/// Longest file that is hashed.
const HASH_MAX_BYTES: u64 = 1024 * 1024 * 1024;
/// Most memory of a compiled expression, bytes.
const REGEX_MAX_BYTES: usize = 1024 * 1024;

/// Whether a predicate holds, and why not.
type Verdict = (bool, String);

/// Lets the regex crate ask, once and for all, how many CPUs there are: it opens a file for that, which the jail would end
/// the process for. Called before lock-down, on no input but this.
pub fn settle_regex() {
    // The answer of this match is of no interest; its first use of the crate is.
    let _ = RegexBuilder::new("[a-z]+x").build().map(|regex| regex.is_match(b"settled"));
}

impl Files {
    /// Evaluates one predicate.
    pub fn check(
        &mut self,
        target: &HelperTarget,
        check: &FileCheck,
        pulse: &mut dyn Pulse,
    ) -> Result<FsReply, OpError> {
        let (met, detail) = self.verdict(target, check, pulse)?;
        Ok(FsReply::Checked { met, detail: Text::cut(&detail) })
    }

    fn verdict(&mut self, target: &HelperTarget, check: &FileCheck, pulse: &mut dyn Pulse) -> Result<Verdict, OpError> {
        let spot = Spot::of(&self.world, &self.handles, target)?;
        let flags = match check {
            FileCheck::Exists | FileCheck::Absent => OFlag::O_PATH,
            _ => OFlag::O_RDONLY,
        };
        let opened = match spot.open(flags, Want::See) {
            Ok(opened) => opened,
            Err(error) if matches!(error.errno(), Some(Errno::ENOENT | Errno::ENOTDIR)) => {
                let absent = *check == FileCheck::Absent;
                return Ok((absent, if absent { String::new() } else { format!("`{}` does not exist", spot.shown) }));
            }
            Err(error) => return Err(error),
        };
        self.links.allow(&self.world, spot.tree, &opened.stat, Want::See, &spot.shown)?;
        match check {
            FileCheck::Exists => Ok((true, String::new())),
            FileCheck::Absent => Ok((false, format!("`{}` exists", spot.shown))),
            FileCheck::Contains { regex } => contains(&spot, &opened, regex, pulse),
            FileCheck::Sha256 { digest } => {
                regular(&spot, &opened)?;
                let found = content::sha256(&opened.fd, HASH_MAX_BYTES, &spot.shown, pulse)?;
                Ok(unless(found == *digest, || format!("`{}` has another SHA-256", spot.shown)))
            }
            FileCheck::JsonEquals { pointer, value } => json_equals(&spot, &opened, pointer, value, pulse),
        }
    }
}

fn contains(spot: &Spot<'_>, opened: &Opened, regex: &str, pulse: &mut dyn Pulse) -> Result<Verdict, OpError> {
    let regex = RegexBuilder::new(regex).size_limit(REGEX_MAX_BYTES).dfa_size_limit(REGEX_MAX_BYTES).build();
    let regex = regex.map_err(|e| OpError::Invalid(format!("the expression cannot be used: {e}")))?;
    let bytes = whole(spot, opened, TEXT_MAX_BYTES, pulse)?;
    Ok(unless(regex.is_match(&bytes), || format!("nothing in `{}` matches", spot.shown)))
}

/// Numbers are equal as they are written: `1` is not `1.0`.
fn json_equals(
    spot: &Spot<'_>,
    opened: &Opened,
    pointer: &str,
    value: &str,
    pulse: &mut dyn Pulse,
) -> Result<Verdict, OpError> {
    let wanted: Value =
        serde_json::from_str(value).map_err(|_| OpError::Invalid("the value to compare with is no JSON".to_owned()))?;
    let bytes = whole(spot, opened, JSON_MAX_BYTES, pulse)?;
    let Ok(document) = serde_json::from_slice::<Value>(&bytes) else {
        // T-15: neither yes nor no. A task that spoils the file must not make `not` hold by it.
        return Err(OpError::Conflict(format!("`{}` is not valid JSON", spot.shown)));
    };
    match document.pointer(pointer) {
        None => Ok((false, format!("the pointer finds nothing in `{}`", spot.shown))),
        Some(found) => Ok(unless(*found == wanted, || format!("the pointer finds another value in `{}`", spot.shown))),
    }
}

fn whole(spot: &Spot<'_>, opened: &Opened, max_bytes: u64, pulse: &mut dyn Pulse) -> Result<Vec<u8>, OpError> {
    regular(spot, opened)?;
    if paths::size(&opened.stat) > max_bytes {
        return Err(content::too_long(&spot.shown, max_bytes));
    }
    let max_bytes = usize::try_from(max_bytes).unwrap_or(usize::MAX);
    content::read_at(&opened.fd, 0, max_bytes, &spot.shown, pulse)
}

fn regular(spot: &Spot<'_>, opened: &Opened) -> Result<(), OpError> {
    spot.tree.plain(&opened.stat, &spot.shown)?;
    if paths::kind(&opened.stat) == SFlag::S_IFDIR {
        return Err(OpError::system("read", &spot.shown)(Errno::EISDIR));
    }
    Ok(())
}

fn unless(met: bool, detail: impl FnOnce() -> String) -> Verdict {
    (met, if met { String::new() } else { detail() })
}

#[cfg(test)]
mod tests;
