//! Secrets: where each is, and where it may be put (T-08).

use std::path::PathBuf;

/// `[[secret]]`
#[derive(Debug, Clone)]
pub struct Secret {
    pub name: String,
    pub source: SecretSource,
    pub uses: Vec<SecretUse>,
}

#[derive(Debug, Clone)]
pub enum SecretSource {
    File(PathBuf),
    Env(String),
    /// `[llm] api_key` of an earlier configuration.
    Inline(SecretText),
}

/// A secret that stood in a configuration's text. It has no rendering and no `Debug` of its content (T-08).
#[derive(Clone)]
pub struct SecretText(Vec<u8>);

impl SecretText {
    pub(crate) fn new(text: &str) -> SecretText {
        SecretText(text.as_bytes().to_vec())
    }

    /// The bytes, for the one move into a sealed descriptor.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for SecretText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretText(…)")
    }
}

impl Drop for SecretText {
    fn drop(&mut self) {
        self.0.fill(0);
        std::hint::black_box(&self.0);
    }
}

/// One place a secret may be put, of `for`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretUse {
    Llm,
    Net { host: String },
    Browser { host: String, field: String },
    ProcStdin { command: String },
}
