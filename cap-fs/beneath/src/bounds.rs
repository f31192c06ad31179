//! How long files may become, and how much they may grow.
//!
//! Runs in the process that acts, locked. Both are the policy's, and only here is it known what a write comes to, on the file that was
//! opened (T-06).

use crate::errors::OpError;

/// The longest file of a workspace.
#[derive(Debug, Clone)]
pub struct FileBound {
    /// Bytes.
    pub max_bytes: u64,
    /// The rule.
    pub rule: String,
}

impl FileBound {
    /// No file becomes longer than its workspace allows.
    pub fn hold(&self, len: u64, shown: &str) -> Result<(), OpError> {
        if len <= self.max_bytes {
            return Ok(());
        }
        let why = format!("`{shown}` would be {len} bytes long; the workspace's max_file is {}", self.max_bytes);
        Err(OpError::Bound { rule: self.rule.clone(), why })
    }
}

/// What is left of the task's limit on growth, for the operation under way.
#[derive(Debug)]
pub struct GrowthBound {
    /// Bytes.
    pub left_bytes: u64,
    /// The rule.
    pub rule: String,
}

impl GrowthBound {
    /// What takes the place of bytes that were there is no growth.
    pub fn hold(&self, before: u64, after: u64, shown: &str) -> Result<(), OpError> {
        let grown = after.saturating_sub(before);
        if grown <= self.left_bytes {
            return Ok(());
        }
        let left = self.left_bytes;
        let why = format!("limit fs_written is reached: `{shown}` would grow by {grown} bytes, and {left} are left");
        Err(OpError::Bound { rule: self.rule.clone(), why })
    }
}
