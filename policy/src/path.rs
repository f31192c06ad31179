//! Paths as guests and models write them: `label:relative/path`, without a label the first workspace.
//!
//! Runs in the broker on text from a jailed peer. What comes out names a workspace and a plain relative path: no `.`, no
//! `..`, no slash at either end, no empty name. Links are not its business; the helper opens beneath a descriptor (T-01).

use std::fmt;

/// As the kernel's own bounds.
pub const PATH_MAX_BYTES: usize = 4096;
pub const NAME_MAX_BYTES: usize = 255;

/// A label as a policy declares it: a letter, then letters, digits, `_`, `-`; at most 64.
pub fn is_label(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(|each| each.is_ascii_alphanumeric() || matches!(each, '_' | '-'))
}

/// A path within one workspace, in normal form. The root of the workspace is the empty path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskPath {
    pub label: String,
    relative: String,
}

impl TaskPath {
    /// The path beneath the workspace's root, `a/b`, or empty for the root itself.
    pub fn relative(&self) -> &str {
        &self.relative
    }
}

impl fmt::Display for TaskPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.label, self.relative)
    }
}

/// Text that is no path at all, whatever a policy says. Not a denial.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidArgument {
    #[error("a path cannot hold a NUL character")]
    PathNul,
    #[error("a path has at most {PATH_MAX_BYTES} bytes")]
    PathTooLong,
    #[error("a name in a path has at most {NAME_MAX_BYTES} bytes")]
    NameTooLong,
    #[error("{0} cannot hold a NUL character")]
    Nul(&'static str),
    #[error("`{0}` is no name for an environment variable")]
    EnvName(String),
    #[error("{0}")]
    Missing(&'static str),
    #[error("`{word}`: {why}")]
    Unexpected { word: String, why: &'static str },
}

/// A path that no workspace can hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutsidePath {
    #[error("the path is absolute; write `label:relative/path`")]
    Absolute,
    #[error("the path leaves its workspace by `..`")]
    Leaves,
    #[error("there is no workspace `{0}`")]
    UnknownLabel(String),
    #[error("this task has no workspace")]
    NoWorkspace,
}

/// Either way a path text can fail.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    #[error(transparent)]
    Invalid(#[from] InvalidArgument),
    #[error(transparent)]
    Outside(#[from] OutsidePath),
}

impl TaskPath {
    /// Reads `label:relative/path` against the labels there are; the first is meant where none is written.
    pub fn parse<'a>(text: &str, labels: impl Iterator<Item = &'a str> + Clone) -> Result<TaskPath, PathError> {
        check_bytes(text)?;
        // What stands before a colon is a label unless a slash came first: `a/b:c` is a file name with a colon.
        let (label, relative) = match text.split_once(':') {
            Some((label, rest)) if !label.contains('/') => {
                let known = labels.clone().find(|each| *each == label);
                let shown = || OutsidePath::UnknownLabel(label.chars().take(80).flat_map(char::escape_debug).collect());
                (known.ok_or_else(shown)?, rest)
            }
            _ => (labels.clone().next().ok_or(OutsidePath::NoWorkspace)?, text),
        };
        TaskPath::within(label, relative)
    }

    /// A path given relative to a workspace that is already known, as by a directory handle.
    pub fn within(label: &str, relative: &str) -> Result<TaskPath, PathError> {
        check_bytes(relative)?;
        if relative.starts_with('/') {
            return Err(OutsidePath::Absolute.into());
        }
        let mut names: Vec<&str> = Vec::new();
        for name in relative.split('/') {
            match name {
                "" | "." => {}
                ".." => {
                    names.pop().ok_or(OutsidePath::Leaves)?;
                }
                _ if name.len() > NAME_MAX_BYTES => return Err(InvalidArgument::NameTooLong.into()),
                _ => names.push(name),
            }
        }
        Ok(TaskPath { label: label.to_owned(), relative: names.join("/") })
    }
}

fn check_bytes(text: &str) -> Result<(), InvalidArgument> {
    if text.len() > PATH_MAX_BYTES {
        return Err(InvalidArgument::PathTooLong);
    }
    if text.contains('\0') { Err(InvalidArgument::PathNul) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LABELS: [&str; 2] = ["repo", "docs"];

    fn parse(text: &str) -> Result<String, PathError> {
        TaskPath::parse(text, LABELS.into_iter()).map(|path| path.to_string())
    }

    #[test]
    fn paths_in_normal_form() {
        for (text, path) in [
            ("notes/a.txt", "repo:notes/a.txt"),
            ("docs:a", "docs:a"),
            ("", "repo:"),
            ("docs:", "docs:"),
            (".", "repo:"),
            ("./a//b/./c/", "repo:a/b/c"),
            ("a/../b", "repo:b"),
            ("repo:a/b/../..", "repo:"),
            ("dir/a:b", "repo:dir/a:b"),
            ("./a:b", "repo:a:b"),
            ("...", "repo:..."),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(path), "{text}");
        }
    }

    #[test]
    fn paths_that_no_workspace_holds() {
        for (text, error) in [
            ("/etc/passwd", OutsidePath::Absolute),
            ("repo:/etc/passwd", OutsidePath::Absolute),
            ("..", OutsidePath::Leaves),
            ("a/../../b", OutsidePath::Leaves),
            ("repo:../docs/a", OutsidePath::Leaves),
            ("../repo/a", OutsidePath::Leaves),
            ("other:a", OutsidePath::UnknownLabel("other".to_owned())),
            (":a", OutsidePath::UnknownLabel(String::new())),
        ] {
            assert_eq!(parse(text), Err(error.into()), "{text}");
        }
        assert_eq!(TaskPath::parse("a", std::iter::empty()), Err(OutsidePath::NoWorkspace.into()));
    }

    #[test]
    fn text_that_is_no_path() {
        assert_eq!(parse("a\0b"), Err(InvalidArgument::PathNul.into()));
        assert_eq!(parse(&"a/".repeat(2049)), Err(InvalidArgument::PathTooLong.into()));
        assert_eq!(parse(&"n".repeat(256)), Err(InvalidArgument::NameTooLong.into()));
        assert!(parse(&"n".repeat(255)).is_ok());
        assert!(parse(&"a/".repeat(2048)).is_ok());
    }

    #[test]
    fn labels() {
        assert!(is_label("repo") && is_label("R2-d_2"));
        for text in ["", "2a", "a.b", "a:b", "a/b", "ä", "-a", &"a".repeat(65)] {
            assert!(!is_label(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_comes_out_stays_inside(text in "(repo:|docs:|x:)?[a-c./\\\\ \u{0}:ä]{0,40}") {
            if let Ok(path) = TaskPath::parse(&text, LABELS.into_iter()) {
                prop_assert!(LABELS.contains(&path.label.as_str()));
                prop_assert!(!path.relative().starts_with('/') && !path.relative().ends_with('/'));
                if !path.relative().is_empty() {
                    prop_assert!(path.relative().split('/').all(|name| !matches!(name, "" | "." | "..")));
                }
                // Normal form is stable.
                prop_assert_eq!(TaskPath::within(&path.label, path.relative()).unwrap(), path);
            }
        }
    }
}
