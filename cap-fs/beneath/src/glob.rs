//! One deny glob, matched name by name.
//!
//! Runs in the process that acts, on names that come from the disk, so on bytes. The language is that of the policy: components divided by
//! slashes; `**` stands for any number of them (at the end: at least one); within a component `*`, `?`, `[…]` and `{a,b}`
//! match as in a shell, dots included. A glob covers what it matches and all beneath it (T-01).
//!
//! Matching is a set of places in the glob after each name ([`Places`]), so a walk carries it down instead of matching whole
//! paths again, and no glob takes more than linear time (T-06).

mod pattern;

use pattern::Pattern;

/// Most components of a glob; a bit each.
const COMPONENTS_MAX: usize = 64;

/// A glob that cannot be matched. The broker has parsed it before, so this is a broken setup.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum GlobError {
    /// Empty, or with an empty component, `.` or `..`.
    #[error("a deny glob has an empty component, `.` or `..`")]
    Component,
    /// Too many components.
    #[error("a deny glob has more than {COMPONENTS_MAX} components")]
    Long,
    /// A component is no pattern.
    #[error("a component of a deny glob is no pattern: {0}")]
    Pattern(&'static str),
}

#[derive(Debug)]
enum Component {
    /// `**`
    AnyDepth,
    Literal {
        exact: Vec<u8>,
        folded: Vec<u8>,
    },
    Pattern {
        exact: Pattern,
        folded: Pattern,
    },
}

/// Whether names compare with case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// `A` is not `a`.
    Exact,
    /// `A` is `a`.
    Folded,
}

/// A name with its lower-case form, made once for all globs.
#[derive(Debug, Clone)]
pub struct Spelling<'n> {
    exact: &'n [u8],
    folded: Vec<u8>,
}

impl<'n> Spelling<'n> {
    /// Of one name.
    pub fn of(name: &'n [u8]) -> Self {
        Self { exact: name, folded: fold(name) }
    }
}

/// Where in a glob one may stand after some names. Bit `n` is the place before component `n`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Places {
    bits: u128,
    covered: bool,
}

impl Places {
    /// Whether the names so far are covered.
    pub fn covered(self) -> bool {
        self.covered
    }

    /// Whether nothing beneath can be covered any more.
    pub fn is_dead(self) -> bool {
        !self.covered && self.bits == 0
    }
}

/// A parsed glob.
#[derive(Debug)]
pub struct Glob {
    components: Vec<Component>,
}

impl Glob {
    /// Takes a glob in the form the policy writes it.
    pub fn parse(text: &str) -> Result<Self, GlobError> {
        let text = text.strip_prefix('/').unwrap_or(text);
        let text = text.strip_suffix('/').unwrap_or(text);
        let mut components = Vec::new();
        for part in text.split('/') {
            let component = component(part)?;
            // Two in a row say what one says.
            if matches!((&component, components.last()), (Component::AnyDepth, Some(Component::AnyDepth))) {
                continue;
            }
            components.push(component);
        }
        if components.len() > COMPONENTS_MAX {
            return Err(GlobError::Long);
        }
        Ok(Self { components })
    }

    /// Before the first name.
    pub fn start(&self) -> Places {
        Places { bits: self.closed(1), covered: false }
    }

    /// One name further.
    pub fn advance(&self, places: Places, name: &Spelling<'_>, case: Case) -> Places {
        if places.covered {
            return places;
        }
        let mut next = 0_u128;
        for (at, component) in self.components.iter().enumerate() {
            if places.bits & bit(at) == 0 {
                continue;
            }
            match component {
                Component::AnyDepth => {
                    next |= bit(at);
                    // A `**` at the end is done after one name.
                    if at.saturating_add(1) == self.components.len() {
                        next |= bit(at.saturating_add(1));
                    }
                }
                other if other.matches(name, case) => next |= bit(at.saturating_add(1)),
                _ => {}
            }
        }
        let bits = self.closed(next);
        Places { bits, covered: bits & bit(self.components.len()) != 0 }
    }

    /// Whether something beneath a directory that led to `places` is covered because of the directory's own names, so that
    /// renaming it away, or another one to its name, would change what is covered (T-02). `**/.env` pins no directory, since
    /// it holds under any name; `**/.vscode/**` pins each `.vscode`; `a/b` pins `a`.
    pub fn pins(&self, places: Places) -> bool {
        let floating = match self.components.first() {
            Some(Component::AnyDepth) => self.closed(1),
            _ => 0,
        };
        places.covered || places.bits & !floating != 0
    }

    /// Adds the places reached by letting a `**` stand for nothing; one at the end never does.
    fn closed(&self, mut bits: u128) -> u128 {
        for (at, component) in self.components.iter().enumerate() {
            let after = at.saturating_add(1);
            if bits & bit(at) != 0 && matches!(component, Component::AnyDepth) && after < self.components.len() {
                bits |= bit(after);
            }
        }
        bits
    }
}

impl Component {
    fn matches(&self, name: &Spelling<'_>, case: Case) -> bool {
        match (self, case) {
            (Self::AnyDepth, _) => true,
            (Self::Literal { exact, .. }, Case::Exact) => exact == name.exact,
            (Self::Literal { folded, .. }, Case::Folded) => *folded == name.folded,
            (Self::Pattern { exact, .. }, Case::Exact) => exact.is_match(name.exact),
            // Ranges such as `[A-Z]` are folded by the matcher; letters beyond ASCII by lower-casing the name as well.
            (Self::Pattern { folded, .. }, Case::Folded) => {
                folded.is_match(name.exact) || (name.folded != name.exact && folded.is_match(&name.folded))
            }
        }
    }
}

fn component(text: &str) -> Result<Component, GlobError> {
    match text {
        "**" => return Ok(Component::AnyDepth),
        "" | "." | ".." => return Err(GlobError::Component),
        _ if !text.contains(['*', '?', '[', ']', '{', '}', '\\']) => {
            return Ok(Component::Literal { exact: text.as_bytes().to_vec(), folded: fold(text.as_bytes()) });
        }
        _ => {}
    }
    let parse = |case| Pattern::parse(text, case).map_err(GlobError::Pattern);
    Ok(Component::Pattern { exact: parse(Case::Exact)?, folded: parse(Case::Folded)? })
}

/// Lower case, where it is text.
fn fold(name: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(name) {
        Ok(text) => text.to_lowercase().into_bytes(),
        Err(_) => name.to_ascii_lowercase(),
    }
}

fn bit(at: usize) -> u128 {
    u32::try_from(at).ok().and_then(|at| 1_u128.checked_shl(at)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(glob: &Glob, path: &str, case: Case) -> Places {
        path.split('/')
            .filter(|n| !n.is_empty())
            .fold(glob.start(), |p, name| glob.advance(p, &Spelling::of(name.as_bytes()), case))
    }

    #[test]
    fn a_glob_covers_what_it_names_and_no_neighbour() {
        for (pattern, covered, free) in [
            ("**/.env", &[".env", "a/.env", "a/b/.env", "a/.env/inside"][..], &["", "env", "a/.envs", "x.env"][..]),
            ("Makefile", &["Makefile", "Makefile/x"], &["sub/Makefile", "makefile", "Makefile2"]),
            ("**/.git/hooks/**", &[".git/hooks/a", "x/.git/hooks/a/b"], &[".git/hooks", ".git", "hooks/a"]),
            ("a/**/b", &["a/b", "a/x/b", "a/x/y/b/c"], &["a", "b", "x/a/b"]),
            ("s?cret[0-9]", &["secret1", "sxcret0/a"], &["secret", "secret10"]),
            ("{a,b}.txt", &["a.txt", "b.txt"], &["c.txt"]),
            ("\\[x\\]", &["[x]"], &["x"]),
            ("**", &["a", "a/b"], &[""]),
            ("**/**/x", &["x", "a/x"], &["a"]),
            ("*", &["a", ".hidden", "a/b"], &[""]),
        ] {
            let glob = Glob::parse(pattern).unwrap();
            for path in covered {
                assert!(after(&glob, path, Case::Exact).covered(), "{pattern} should cover {path}");
            }
            for path in free {
                assert!(!after(&glob, path, Case::Exact).covered(), "{pattern} should leave {path}");
            }
        }
    }

    #[test]
    fn without_case_more_is_covered() {
        for (pattern, path) in [("Makefile", "MAKEFILE"), ("**/*.PEM", "a/key.pem"), ("ÄX", "äx"), ("[a-c]x", "Bx")] {
            let glob = Glob::parse(pattern).unwrap();
            assert!(after(&glob, path, Case::Folded).covered(), "{pattern} {path}");
            assert!(!after(&glob, path, Case::Exact).covered(), "{pattern} {path}");
        }
    }

    #[test]
    fn a_directory_is_pinned_where_its_own_name_decides() {
        for (pattern, pinned, free) in [
            ("a/b", &["a", "a/b", "a/b/c"][..], &["b", "c", "a/c"][..]),
            ("**/.env", &[".env"], &["a", "a/b"]),
            ("**/.vscode/**", &[".vscode", "x/.vscode", ".vscode/y"], &["x", "vscode"]),
            ("a/**/b", &["a", "a/x", "a/x/y"], &["x"]),
            ("*/x", &["a", "b"], &["a/b"]),
        ] {
            let glob = Glob::parse(pattern).unwrap();
            for path in pinned {
                assert!(glob.pins(after(&glob, path, Case::Exact)), "{pattern} should pin {path}");
            }
            for path in free {
                assert!(!glob.pins(after(&glob, path, Case::Exact)), "{pattern} should leave {path}");
            }
        }
    }

    #[test]
    fn names_that_are_no_text_are_matched_as_bytes() {
        let glob = Glob::parse("**/*.pem").unwrap();
        assert!(glob.advance(glob.start(), &Spelling::of(b"\xff\xfe.pem"), Case::Exact).covered());
        assert!(!glob.advance(glob.start(), &Spelling::of(b"\xff\xfe.pen"), Case::Exact).covered());
    }

    #[test]
    fn what_is_no_glob_is_refused() {
        assert!(Glob::parse(&vec!["a"; 65].join("/")).is_err());
        assert!(Glob::parse(&vec!["a"; 64].join("/")).is_ok());
        for text in ["", "a//b", "../a", "[a"] {
            assert!(Glob::parse(text).is_err(), "{text}");
        }
    }
}
