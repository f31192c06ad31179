//! Success predicates: how the broker finds out whether a task is done, whatever the brain says (T-15).

use std::fmt;

use crate::parse::{is_http_url, sha256_text};
use crate::path::PATH_MAX_BYTES;
use crate::source::{Node, SourceError, Table, Value};

/// Deepest nesting of `all`, `any`, `not`, and most predicates of one manifest (T-06).
pub const PREDICATE_DEPTH_MAX: usize = 16;
pub const PREDICATES_MAX: usize = 256;

/// One condition. Its `Display` is stable: results and the audit log carry it.
#[derive(Debug, Clone, PartialEq)]
pub enum Predicate {
    /// A path as `label:relative/path`; asked of cap-fs.
    File {
        path: String,
        check: FileCheck,
    },
    /// A command of the policy that ends with status 0; asked of cap-proc.
    Command {
        command: String,
        args: Vec<String>,
    },
    /// Asked of cap-net.
    Url {
        url: String,
        status: u16,
    },
    /// A regular expression on what the browser shows; asked of cap-browser.
    Browser {
        check: BrowserCheck,
        pattern: String,
    },
    /// The guest's own exit status.
    ExitCode(i64),
    All(Vec<Predicate>),
    Any(Vec<Predicate>),
    Not(Box<Predicate>),
}

#[derive(Debug, Clone, PartialEq)]
pub enum FileCheck {
    Exists,
    Absent,
    /// A regular expression, Rust syntax.
    Contains(String),
    /// Lower-case hex.
    Sha256(String),
    Json {
        pointer: String,
        equals: serde_json::Value,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrowserCheck {
    Url,
    Title,
    Text,
}

impl BrowserCheck {
    pub fn name(self) -> &'static str {
        match self {
            BrowserCheck::Url => "url",
            BrowserCheck::Title => "title",
            BrowserCheck::Text => "text",
        }
    }
}

const KEYS: &[&str] = &[
    "file",
    "exists",
    "absent",
    "contains",
    "sha256",
    "json",
    "equals",
    "command",
    "args",
    "url",
    "status",
    "browser",
    "exit_code",
    "all",
    "any",
    "not",
];

/// The keys that say what a predicate is about, each with the keys that go with it.
const SUBJECTS: &[(&str, &[&str])] = &[
    ("file", &["exists", "absent", "contains", "sha256", "json", "equals"]),
    ("command", &["args"]),
    ("url", &["status"]),
    ("browser", &[]),
    ("exit_code", &[]),
    ("all", &[]),
    ("any", &[]),
    ("not", &[]),
];

/// Reads a list of predicates under `key`; all of them are to be met.
pub(super) fn read_list(file: &str, table: &Table<'_>, key: &'static str) -> Result<Vec<Predicate>, SourceError> {
    let mut reading = Reading { file, count: 0 };
    if let Some(Node { value: Value::Table(_), .. }) = table.node(key) {
        return Err(table.wrong(key, "`success` is a list of tables").suggesting(Some("[[success]]")));
    }
    table.list(key)?.iter().map(|node| reading.predicate(node, 1)).collect()
}

struct Reading<'a> {
    file: &'a str,
    count: usize,
}

impl Reading<'_> {
    fn predicate(&mut self, node: &Node, depth: usize) -> Result<Predicate, SourceError> {
        self.count = self.count.saturating_add(1);
        if depth > PREDICATE_DEPTH_MAX {
            let message = format!("predicates nest at most {PREDICATE_DEPTH_MAX} deep");
            return Err(SourceError::new(self.file, node.at, message));
        }
        if self.count > PREDICATES_MAX {
            return Err(SourceError::new(self.file, node.at, format!("at most {PREDICATES_MAX} predicates")));
        }
        let table = Table::open(self.file, "a predicate", node, KEYS)?;
        match subject(&table)? {
            "file" => file_predicate(&table),
            "command" => Ok(Predicate::Command {
                command: table.required_text("command")?.to_owned(),
                args: table.plain_texts("args")?,
            }),
            "url" => url_predicate(&table),
            "browser" => browser_predicate(self.file, &table),
            "exit_code" => exit_code(&table),
            "all" => Ok(Predicate::All(self.several(&table, "all", depth)?)),
            "any" => Ok(Predicate::Any(self.several(&table, "any", depth)?)),
            _ => match table.node("not") {
                Some(inner) => Ok(Predicate::Not(Box::new(self.predicate(inner, depth.saturating_add(1))?))),
                None => Err(table.missing("not")),
            },
        }
    }

    fn several(&mut self, table: &Table<'_>, key: &str, depth: usize) -> Result<Vec<Predicate>, SourceError> {
        let nodes = table.list(key)?;
        // An empty `all` would be met by nothing done (T-15).
        if nodes.is_empty() {
            return Err(table.wrong(key, format!("`{key}` needs at least one predicate")));
        }
        nodes.iter().map(|node| self.predicate(node, depth.saturating_add(1))).collect()
    }
}

/// The one thing a predicate is about; a key that does not go with it is refused.
fn subject(table: &Table<'_>) -> Result<&'static str, SourceError> {
    let mut found = SUBJECTS.iter().filter(|(key, _)| table.has(key));
    let names = || SUBJECTS.iter().map(|(key, _)| *key).collect::<Vec<_>>().join(", ");
    let Some((subject, companions)) = found.next() else {
        return Err(table.wrong_table(format!("a predicate has one of {}", names())));
    };
    if let Some((second, _)) = found.next() {
        let message = format!("`{subject}` and `{second}` are two predicates; write each on its own, or use `all`");
        return Err(table.wrong_at(table.key_at(second), message));
    }
    match KEYS.iter().find(|key| *key != subject && table.has(key) && !companions.contains(key)) {
        Some(stray) => Err(table.wrong_at(table.key_at(stray), format!("`{stray}` does not go with `{subject}`"))),
        None => Ok(subject),
    }
}

fn file_predicate(table: &Table<'_>) -> Result<Predicate, SourceError> {
    let path = table.required_text("file")?;
    if path.is_empty() || path.contains('\0') || path.len() > PATH_MAX_BYTES {
        return Err(table.wrong("file", "`file` is a path such as \"repo:SUMMARY.md\""));
    }
    let checks: Vec<&str> =
        ["exists", "absent", "contains", "sha256", "json"].into_iter().filter(|key| table.has(key)).collect();
    if let [_, second, ..] = checks.as_slice() {
        return Err(table.wrong_at(table.key_at(second), "one check of a file per predicate; write two, or use `all`"));
    }
    if table.has("equals") && !table.has("json") {
        return Err(table.wrong_at(table.key_at("equals"), "`equals` goes with `json`, a pointer such as \"/status\""));
    }
    let check = match checks.first().copied() {
        None => FileCheck::Exists,
        Some("exists") => only_true(table, "exists", FileCheck::Exists)?,
        Some("absent") => only_true(table, "absent", FileCheck::Absent)?,
        Some("contains") => FileCheck::Contains(regular_expression(table, "contains")?),
        Some("sha256") => FileCheck::Sha256(sha256_text(table, "sha256")?.unwrap_or_default()),
        Some(_) => json_check(table)?,
    };
    Ok(Predicate::File { path: path.to_owned(), check })
}

/// `exists = false` would read as its opposite to one person and as nothing to another.
fn only_true(table: &Table<'_>, key: &'static str, check: FileCheck) -> Result<FileCheck, SourceError> {
    match table.flag(key)? {
        Some(true) => Ok(check),
        _ => {
            let opposite = if key == "absent" { "exists = true" } else { "absent = true" };
            Err(table.wrong(key, format!("`{key}` can only be true")).suggesting(Some(opposite)))
        }
    }
}

fn json_check(table: &Table<'_>) -> Result<FileCheck, SourceError> {
    let pointer = table.required_text("json")?;
    if !pointer.is_empty() && !pointer.starts_with('/') {
        return Err(table.wrong("json", "`json` is a JSON pointer: empty, or starting with `/`"));
    }
    let equals = table.node("equals").ok_or_else(|| table.missing("equals"))?;
    Ok(FileCheck::Json { pointer: pointer.to_owned(), equals: equals.value.to_json() })
}

fn url_predicate(table: &Table<'_>) -> Result<Predicate, SourceError> {
    let url = table.required_text("url")?;
    if !is_http_url(url) {
        return Err(table.wrong("url", "`url` must be an http or https URL"));
    }
    let status = match table.integer("status")? {
        None => 200,
        Some(number) => u16::try_from(number)
            .ok()
            .filter(|status| (100..=599).contains(status))
            .ok_or_else(|| table.wrong("status", "`status` is a number from 100 to 599"))?,
    };
    Ok(Predicate::Url { url: url.to_owned(), status })
}

fn browser_predicate(file: &str, table: &Table<'_>) -> Result<Predicate, SourceError> {
    let Some(node) = table.node("browser") else {
        return Err(table.missing("browser"));
    };
    let inner = Table::open(file, "browser", node, &["url", "title", "text"])?;
    let checks = [("url", BrowserCheck::Url), ("title", BrowserCheck::Title), ("text", BrowserCheck::Text)];
    let found: Vec<(&str, BrowserCheck)> = checks.into_iter().filter(|(key, _)| inner.has(key)).collect();
    match found.as_slice() {
        [(key, check)] => Ok(Predicate::Browser { check: *check, pattern: regular_expression(&inner, key)? }),
        _ => Err(inner.wrong_table("`browser` has one of url, title, text")),
    }
}

fn exit_code(table: &Table<'_>) -> Result<Predicate, SourceError> {
    let code = table.integer("exit_code")?.ok_or_else(|| table.missing("exit_code"))?;
    if (0..=255).contains(&code) {
        Ok(Predicate::ExitCode(code))
    } else {
        Err(table.wrong("exit_code", "`exit_code` is a number from 0 to 255"))
    }
}

fn regular_expression(table: &Table<'_>, key: &str) -> Result<String, SourceError> {
    const COMPILED_MAX_BYTES: usize = 1024 * 1024;
    let text = table.required_text(key)?;
    match regex::RegexBuilder::new(text).size_limit(COMPILED_MAX_BYTES).build() {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => {
            let error = error.to_string();
            let reason = error.lines().next_back().unwrap_or_default().trim_start_matches("error: ");
            Err(table.wrong(key, format!("`{key}` is no regular expression: {reason}")))
        }
    }
}

impl fmt::Display for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Predicate::File { path, check } => {
                write!(f, "file {} ", Plain(path))?;
                match check {
                    FileCheck::Exists => f.write_str("exists"),
                    FileCheck::Absent => f.write_str("absent"),
                    FileCheck::Contains(pattern) => write!(f, "contains /{}/", Plain(pattern)),
                    FileCheck::Sha256(hex) => write!(f, "sha256 {hex}"),
                    FileCheck::Json { pointer, equals } => {
                        write!(f, "json {} equals {equals}", Plain(pointer))
                    }
                }
            }
            Predicate::Command { command, args } => {
                write!(f, "command {}", Plain(command))?;
                args.iter().try_for_each(|arg| write!(f, " {}", Plain(arg)))
            }
            Predicate::Url { url, status } => write!(f, "url {} answers {status}", Plain(url)),
            Predicate::Browser { check, pattern } => {
                write!(f, "browser {} matches /{}/", check.name(), Plain(pattern))
            }
            Predicate::ExitCode(code) => write!(f, "exit_code {code}"),
            Predicate::All(inner) => several(f, "all", inner),
            Predicate::Any(inner) => several(f, "any", inner),
            Predicate::Not(inner) => write!(f, "not({inner})"),
        }
    }
}

fn several(f: &mut fmt::Formatter<'_>, name: &str, inner: &[Predicate]) -> fmt::Result {
    write!(f, "{name}(")?;
    for (index, each) in inner.iter().enumerate() {
        let comma = if index > 0 { ", " } else { "" };
        write!(f, "{comma}{each}")?;
    }
    f.write_str(")")
}

/// Text without control or direction characters, so that it cannot forge a line of a terminal (T-14).
struct Plain<'a>(&'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for each in self.0.chars() {
            let turns = matches!(each, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            if each.is_control() || turns {
                write!(f, "{}", each.escape_unicode())?;
            } else {
                write!(f, "{each}")?;
            }
        }
        Ok(())
    }
}
