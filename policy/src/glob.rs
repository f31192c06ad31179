//! Deny globs and the rules made of them. Used by the broker to decide; their texts go to the helpers, which match what they opened.
//!
//! A glob is a list of path components. `**` stands for any number of components (at the end: at least one), and within a
//! component `*`, `?`, `[…]` and `{a,b}` match as in a shell, dots included, never a slash. A glob starts at the workspace's
//! root unless it starts with `**`. A glob that matches a directory covers all beneath it (T-01).

use globset::{GlobBuilder, GlobMatcher};
use std::sync::OnceLock;

use crate::model::Layer;

/// Longest glob, in bytes, and most components of one (T-06).
pub const GLOB_MAX_BYTES: usize = 1024;
const COMPONENTS_MAX: usize = 64;

/// Why a glob was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GlobError {
    #[error("a glob cannot be empty")]
    Empty,
    #[error("a glob has at most {GLOB_MAX_BYTES} bytes and {COMPONENTS_MAX} components")]
    TooLong,
    #[error("`{0}` mixes `**` with other characters; write it as a component of its own, as in `**/*.pem`")]
    MixedAnyDepth(String),
    #[error("`{0}` is no component of a glob: write paths from the workspace's root, without `.`, `..` or `//`")]
    Component(String),
    #[error("a leading `!` has no meaning here: deny always wins, and nothing is taken back")]
    Negation,
    #[error("`{component}`: {reason}")]
    Pattern { component: String, reason: String },
}

#[derive(Debug, Clone)]
enum Component {
    /// `**`
    AnyDepth,
    Literal(String),
    Pattern {
        text: String,
        parsed: globset::Glob,
        /// Compiled when a name is first compared with it: of most rules that never happens here.
        matcher: OnceLock<GlobMatcher>,
    },
}

impl Component {
    fn parse(text: &str) -> Result<Component, GlobError> {
        match text {
            "**" => return Ok(Component::AnyDepth),
            "" | "." | ".." => return Err(GlobError::Component(text.to_owned())),
            _ if text.contains("**") => return Err(GlobError::MixedAnyDepth(text.to_owned())),
            _ if text.contains('\0') => {
                return Err(GlobError::Component(text.escape_debug().to_string()));
            }
            _ if !text.contains(['*', '?', '[', ']', '{', '}', '\\']) => {
                return Ok(Component::Literal(text.to_owned()));
            }
            _ => {}
        }
        let glob = GlobBuilder::new(text).literal_separator(true).backslash_escape(true).build();
        let glob =
            glob.map_err(|error| GlobError::Pattern { component: text.to_owned(), reason: error.kind().to_string() })?;
        // A class of letters beyond ASCII may parse and not compile: that is found out here, not at the first name.
        let matcher = if text.is_ascii() { OnceLock::new() } else { OnceLock::from(glob.compile_matcher()) };
        Ok(Component::Pattern { text: text.to_owned(), parsed: glob, matcher })
    }

    fn text(&self) -> String {
        match self {
            Component::AnyDepth => "**".to_owned(),
            Component::Literal(text) => globset::escape(text),
            Component::Pattern { text, .. } => text.clone(),
        }
    }

    /// Whether one name matches; `**` is not asked here.
    fn matches(&self, name: &str) -> bool {
        match self {
            Component::AnyDepth => true,
            Component::Literal(text) => text == name,
            Component::Pattern { parsed, matcher, .. } => {
                matcher.get_or_init(|| parsed.compile_matcher()).is_match(name)
            }
        }
    }
}

/// One parsed glob, relative to a workspace's root.
#[derive(Debug, Clone)]
pub struct Glob {
    components: Vec<Component>,
    /// The places of every `**` but one at the end.
    skippable: u128,
}

impl PartialEq for Glob {
    fn eq(&self, other: &Glob) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Glob {}

impl Glob {
    fn new(components: Vec<Component>) -> Glob {
        let last = components.len().saturating_sub(1);
        let skips = |(at, component): (usize, &Component)| matches!(component, Component::AnyDepth) && at < last;
        let places = components.iter().enumerate().filter(|each| skips(*each)).map(|(at, _)| place(at));
        Glob { skippable: places.fold(0, |all, each| all | each), components }
    }

    /// `Makefile` and `/Makefile` are the one at the root, `**/.env` is any; a slash at the end changes nothing.
    pub fn parse(text: &str) -> Result<Glob, GlobError> {
        if text.starts_with('!') {
            return Err(GlobError::Negation);
        }
        let inner = text.strip_prefix('/').unwrap_or(text);
        let inner = inner.strip_suffix('/').unwrap_or(inner);
        if inner.is_empty() {
            return Err(GlobError::Empty);
        }
        if inner.len() > GLOB_MAX_BYTES || inner.split('/').count() > COMPONENTS_MAX {
            return Err(GlobError::TooLong);
        }
        let components = inner.split('/').map(Component::parse).collect::<Result<_, _>>()?;
        Ok(Glob::new(components))
    }

    /// The glob that covers one path, taken literally, and all beneath it.
    pub(crate) fn exactly(path: &str) -> Option<Glob> {
        let components: Vec<Component> = names(path).map(|name| Component::Literal(name.to_owned())).collect();
        (components.len() <= PLACES_MAX).then(|| Glob::new(components))
    }

    /// The glob's text, from the workspace's root, without a leading slash.
    pub fn text(&self) -> String {
        self.components.iter().map(Component::text).collect::<Vec<_>>().join("/")
    }

    /// Whether the glob matches this path or a directory above it. The root is the empty path.
    pub fn covers(&self, relative_path: &str) -> bool {
        let end = place(self.components.len());
        let mut places = self.start();
        for name in names(relative_path) {
            places = self.advance(places, name);
            if places & end != 0 {
                return true;
            }
            if places == 0 {
                return false;
            }
        }
        false
    }

    /// The globs that this one becomes when read from inside `directory`: it covers `directory/x` exactly where one of
    /// them covers `x`. A directory that is itself covered gives `**`.
    pub fn from_inside(&self, directory: &str) -> Vec<Glob> {
        if self.covers(directory) {
            return vec![Glob::new(vec![Component::AnyDepth])];
        }
        let remainders = self.remainders(directory);
        (0..self.components.len())
            .filter(|at| remainders & place(*at) != 0)
            .filter_map(|at| self.components.get(at..))
            .map(|rest| Glob::new(rest.to_vec()))
            .collect()
    }

    /// The glob with a directory's literal path before it: what covered `x` covers `directory/x`. `None` where that has
    /// more components than a glob can; [`DIRECTORY_DEPTH_MAX`] names always fit.
    pub fn beneath(&self, directory: &str) -> Option<Glob> {
        let before = names(directory).map(|name| Component::Literal(name.to_owned()));
        let components: Vec<Component> = before.chain(self.components.iter().cloned()).collect();
        (components.len() <= PLACES_MAX).then(|| Glob::new(components))
    }

    /// Whether something beneath `directory` is covered *because* of the directory's own name, so that renaming it away
    /// or another to this name would change what is covered (T-02). `**/.env` pins no directory, `**/.vscode/**` pins every
    /// `.vscode`, `a/b` pins `a`.
    pub fn pins_directory(&self, directory: &str) -> bool {
        // Where a floating glob stands whatever the names were; an anchored one stands nowhere by itself.
        let floating = matches!(self.components.first(), Some(Component::AnyDepth));
        let anywhere = if floating { place(0) | place(1) } else { 0 };
        self.covers(directory) || self.remainders(directory) & !anywhere != 0
    }

    /// Where in the glob one may stand after the names of a directory.
    fn remainders(&self, directory: &str) -> u128 {
        let places = names(directory).fold(self.start(), |places, name| self.advance(places, name));
        // Standing before a `**` says all that standing after it says.
        places & !(places & self.skippable).wrapping_shl(1)
    }

    fn start(&self) -> u128 {
        self.close(place(0))
    }

    /// One name further: the set of places in the glob after it, one bit each.
    fn advance(&self, places: u128, name: &str) -> u128 {
        let mut next = 0;
        let mut left = places;
        while left != 0 {
            let here = left & left.wrapping_neg();
            left ^= here;
            let at = usize::try_from(here.trailing_zeros()).unwrap_or(usize::MAX);
            match self.components.get(at) {
                // It may go on; one at the end is done after one name.
                Some(Component::AnyDepth) if self.skippable & here == 0 => {
                    next |= here | here.wrapping_shl(1);
                }
                Some(Component::AnyDepth) => next |= here,
                Some(component) if component.matches(name) => next |= here.wrapping_shl(1),
                _ => {}
            }
        }
        self.close(next)
    }

    /// Adds the places reached by letting a `**` stand for nothing; one at the end never does.
    fn close(&self, places: u128) -> u128 {
        let mut closed = places;
        loop {
            let more = closed | (closed & self.skippable).wrapping_shl(1);
            if more == closed {
                return closed;
            }
            closed = more;
        }
    }
}

/// Most components of a glob after it was put beneath a directory: one place each and one at the end.
const PLACES_MAX: usize = 127;

/// Most names a directory may have for every glob to fit beneath it.
pub const DIRECTORY_DEPTH_MAX: usize = PLACES_MAX.saturating_sub(COMPONENTS_MAX);

/// The bit of a place in a glob.
fn place(at: usize) -> u128 {
    u32::try_from(at).ok().and_then(|at| 1u128.checked_shl(at)).unwrap_or(0)
}

fn names(relative_path: &str) -> impl Iterator<Item = &str> {
    relative_path.split('/').filter(|name| !name.is_empty())
}

/// What a rule takes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuleKind {
    /// Nothing may be done with it.
    Deny,
    /// It may be read, not written, created, removed or renamed.
    DenyWrite,
}

/// One rule about paths of a workspace, whichever layer and workspace it was written for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathRule {
    pub layer: Layer,
    /// `user:fs.workspace.repo.deny[0]`
    pub id: String,
    pub kind: RuleKind,
    /// Relative to the root of the workspace the rule is applied to.
    pub glob: Glob,
}

impl PathRule {
    pub fn covers(&self, relative_path: &str) -> bool {
        self.glob.covers(relative_path)
    }

    /// See [`Glob::pins_directory`].
    pub fn pins_directory(&self, relative_path: &str) -> bool {
        self.glob.pins_directory(relative_path)
    }
}

/// What runs later outside the jail if it is written inside: version control hooks, shells and editors that obey files
/// of a folder merely entered or opened (T-03, T-07).
pub const RUN_LATER_GLOBS: [&str; 6] =
    ["**/.git/config*", "**/.git/hooks/**", "**/.envrc", "**/.vscode/**", "**/.idea/**", "**/.cargo/config*"];

#[cfg(test)]
mod tests {
    use super::*;

    fn glob(text: &str) -> Glob {
        Glob::parse(text).unwrap()
    }

    #[test]
    fn a_glob_covers_what_it_names_and_no_neighbour() {
        for (pattern, covered, free) in [
            ("**/.env", &[".env", "a/.env", "a/b/.env", "a/.env/inside"][..], &["env", "a/.envs", "x.env"][..]),
            ("Makefile", &["Makefile", "Makefile/x"], &["sub/Makefile", "makefile", "Makefile2"]),
            ("/Makefile/", &["Makefile"], &["sub/Makefile"]),
            (".cargo/config*", &[".cargo/config", ".cargo/config.toml"], &[".cargo", "a/.cargo/config", ".cargo/x"]),
            ("**/.git/hooks/**", &[".git/hooks/a", "x/.git/hooks/a/b"], &[".git/hooks", ".git", "hooks/a"]),
            ("**/*.pem", &["k.pem", "a/b/k.pem", ".pem"], &["k.pem2", "pem"]),
            ("a/**/b", &["a/b", "a/x/b", "a/x/y/b/c"], &["a", "b", "x/a/b"]),
            ("s?cret[0-9]", &["secret1", "sxcret0/a"], &["secret", "secret10"]),
            ("{a,b}.txt", &["a.txt", "b.txt"], &["c.txt"]),
            ("**", &["a", "a/b"], &[""]),
            ("*", &["a", ".hidden", "a/b"], &[""]),
        ] {
            for path in covered {
                assert!(glob(pattern).covers(path), "{pattern} should cover {path}");
            }
            for path in free {
                assert!(!glob(pattern).covers(path), "{pattern} should leave {path}");
            }
        }
    }

    #[test]
    fn globs_that_would_not_do_what_they_seem_to() {
        for text in ["", "/", "!x", "a//b", "./a", "../a", "a/..", "**.pem", "a**", "[a", "{a", "{a/b,c}", "a\0b"] {
            assert!(Glob::parse(text).is_err(), "{text:?}");
        }
        assert!(Glob::parse(&"a/".repeat(65)).is_err());
        assert!(Glob::parse(&"a/".repeat(64)).is_ok());
    }

    #[test]
    fn read_from_inside_it_covers_the_same_files() {
        for (pattern, directory) in [
            ("**/.env", "a"),
            ("a/secret/**", "a"),
            ("a/*.txt", "a"),
            ("b/*.txt", "a"),
            ("*/x", "a"),
            ("a/**/b", "a/b2"),
            ("**/a/b", "a"),
            ("a", "a/deep"),
            ("**/.git/hooks/**", "x/.git"),
        ] {
            let whole = glob(pattern);
            let inside = whole.from_inside(directory);
            for path in [".env", "x", "b", "a/b", "secret/k", "n.txt", "hooks/a", "hooks", "z/b", "deep/.env"] {
                assert_eq!(
                    whole.covers(&format!("{directory}/{path}")),
                    inside.iter().any(|each| each.covers(path)),
                    "{pattern} from inside {directory} on {path}"
                );
            }
        }
    }

    #[test]
    fn put_beneath_a_directory_it_covers_only_there() {
        let moved = glob("**/.env").beneath("odd[name]").unwrap();
        assert!(moved.beneath(&"d/".repeat(126)).is_none());
        assert!(moved.covers("odd[name]/x/.env"));
        assert!(!moved.covers(".env"));
        assert!(Glob::parse(&moved.text()).unwrap().covers("odd[name]/.env"));
    }

    #[test]
    fn directories_whose_name_carries_a_rule_are_pinned() {
        for (pattern, pinned, free) in [
            ("**/.env", &[".env"][..], &["a", "a/b"][..]),
            ("**/.vscode/**", &[".vscode", "a/.vscode"], &["vscode", "a"]),
            ("**/.git/hooks/**", &[".git", ".git/hooks", "x/.git"], &["x", "hooks"]),
            ("a/b/c", &["a", "a/b", "a/b/c"], &["b", "a/c", "x"]),
            ("a/**/c", &["a", "a/x"], &["x"]),
            ("a/*/**", &["a", "a/q"], &["q"]),
        ] {
            for directory in pinned {
                assert!(glob(pattern).pins_directory(directory), "{pattern} should pin {directory}");
            }
            for directory in free {
                assert!(!glob(pattern).pins_directory(directory), "{pattern} should leave {directory}");
            }
        }
    }

    #[test]
    fn built_in_globs_are_good_globs() {
        for text in RUN_LATER_GLOBS {
            assert_eq!(glob(text).text(), text);
        }
    }
}
