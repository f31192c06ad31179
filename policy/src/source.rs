//! The text of a policy or a manifest, read into one tree that remembers where every key and value stood.
//!
//! Runs in the broker, on files the broker opened and vetted; the text itself is trusted no further than that it
//! is UTF-8. TOML, YAML and JSON end in the same [`Node`] tree, so a wrong key is found by the same code and named with
//! the same line, column and nearest valid key in all three. An ignored typo would widen or narrow in silence (T-10).

mod json;
mod table;
mod toml_text;
mod yaml;

use std::fmt;

pub(crate) use table::Table;

/// Longest text that is read at all. A policy is written by people; this is a bound, not a target (T-06).
pub const SOURCE_MAX_BYTES: usize = 1024 * 1024;

/// The notation of a source text. All have the same keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Toml,
    Yaml,
    Json,
}

impl Format {
    /// The notation a file name's ending stands for; TOML where it says nothing.
    pub fn of_file_name(name: &str) -> Format {
        match name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).as_deref() {
            Some("yaml" | "yml") => Format::Yaml,
            Some("json") => Format::Json,
            _ => Format::Toml,
        }
    }
}

/// A place in a source text; both numbers count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

impl Position {
    pub(crate) const START: Position = Position { line: 1, column: 1 };

    /// The place of a byte offset; an offset beyond the end is the end.
    pub(crate) fn of_offset(text: &str, offset: usize) -> Position {
        let bytes = text.as_bytes();
        let before = bytes.get(..offset).unwrap_or(bytes);
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at.saturating_add(1));
        let line = before.iter().filter(|byte| **byte == b'\n').count();
        let on_line = before.get(line_start..).unwrap_or_default();
        // Columns count characters: continuation bytes do not start one.
        let column = on_line.iter().filter(|byte| (**byte & 0xC0) != 0x80).count();
        Position { line: line.saturating_add(1), column: column.saturating_add(1) }
    }
}

/// Why a policy or a manifest was not accepted: where, what, and what was probably meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct SourceError {
    /// The file as the caller named it.
    pub file: String,
    pub position: Position,
    pub message: String,
    /// The nearest thing that would have been valid there.
    pub suggestion: Option<String>,
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.position.line, self.position.column, self.message)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, "; did you mean `{suggestion}`?"),
            None => Ok(()),
        }
    }
}

impl SourceError {
    pub(crate) fn new(file: &str, position: Position, message: impl Into<String>) -> SourceError {
        SourceError { file: file.to_owned(), position, message: message.into(), suggestion: None }
    }

    pub(crate) fn suggesting(mut self, suggestion: Option<&str>) -> SourceError {
        self.suggestion = suggestion.map(str::to_owned);
        self
    }
}

/// One value and where it stood.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub at: Position,
    pub value: Value,
}

#[derive(Debug, Clone)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    /// A TOML date or time, as written: no key takes one, only an action's free input.
    Moment(String),
    List(Vec<Node>),
    Table(Vec<Entry>),
}

/// One key of a table, in the order of the file.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub key: String,
    pub at: Position,
    pub node: Node,
}

impl Value {
    /// The type's name as a person writing the file would say it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Null => "nothing",
            Value::Bool(_) => "true or false",
            Value::Int(_) => "a whole number",
            Value::Float(_) => "a fraction",
            Value::Text(_) => "a text",
            Value::Moment(_) => "a date",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
        }
    }

    /// The value as JSON, for free-form inputs of actions.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Int(value) => (*value).into(),
            Value::Float(value) => (*value).into(),
            Value::Text(text) | Value::Moment(text) => text.clone().into(),
            Value::List(nodes) => nodes.iter().map(|node| node.value.to_json()).collect(),
            Value::Table(entries) => serde_json::Value::Object(
                entries.iter().map(|entry| (entry.key.clone(), entry.node.value.to_json())).collect(),
            ),
        }
    }
}

/// Reads a text into its tree. The root of a policy or manifest is always a table.
pub(crate) fn read(text: &str, format: Format, file: &str) -> Result<Node, SourceError> {
    if text.len() > SOURCE_MAX_BYTES {
        let message = format!("the file has {} bytes; at most {SOURCE_MAX_BYTES} are read", text.len());
        return Err(SourceError::new(file, Position::START, message));
    }
    let root = match format {
        Format::Toml => toml_text::read(text, file),
        Format::Yaml => yaml::read(text, file),
        Format::Json => json::read(text, file),
    }?;
    match root.value {
        Value::Table(_) => Ok(root),
        // An empty YAML file is an empty table, as an empty TOML file is.
        Value::Null => Ok(Node { at: root.at, value: Value::Table(Vec::new()) }),
        other => {
            let message = format!("expected keys and values, found {}", other.type_name());
            Err(SourceError::new(file, root.at, message))
        }
    }
}

/// The candidate nearest to `word`, if one is near enough to be what was meant.
pub(crate) fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    // A hostile file can hold a key of a megabyte; the distance is quadratic (T-06).
    if word.chars().count() > 64 {
        return None;
    }
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    let wanted = plain(word);
    let (distance, found) = candidates
        .iter()
        .map(|candidate| (edit_distance(&wanted, &plain(candidate)), *candidate))
        .min_by_key(|(distance, _)| *distance)?;
    let longest = wanted.chars().count().max(found.chars().count());
    (distance <= longest.div_ceil(2).max(1)).then_some(found)
}

/// Insertions, deletions, replacements and swaps of neighbours from one word to the other.
fn edit_distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    let mut previous_char = None;
    for (row_index, row_char) in from.chars().enumerate() {
        let mut row = vec![row_index.saturating_add(1)];
        for (column, column_char) in to.iter().enumerate() {
            let after = |values: &[usize], at: usize| values.get(at).copied().unwrap_or(usize::MAX);
            let replaced = after(&last, column).saturating_add(usize::from(row_char != *column_char));
            let inserted = after(&row, column).saturating_add(1);
            let deleted = after(&last, column.saturating_add(1)).saturating_add(1);
            let mut best = replaced.min(inserted).min(deleted);
            let earlier = column.checked_sub(1);
            if let Some(earlier) = earlier
                && to.get(earlier) == Some(&row_char)
                && previous_char == Some(*column_char)
            {
                best = best.min(after(&before_last, earlier).saturating_add(1));
            }
            row.push(best);
        }
        previous_char = Some(row_char);
        before_last = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_a_typo_and_leaves_a_stranger() {
        assert_eq!(nearest("stpes", &["steps", "wall"]), Some("steps"));
        assert_eq!(nearest("deny-write", &["deny", "deny_write"]), Some("deny_write"));
        assert_eq!(nearest("zebra", &["steps", "wall"]), None);
        assert_eq!(nearest(&"s".repeat(100_000), &["steps"]), None);
    }

    #[test]
    fn positions_count_lines_and_characters_from_one() {
        assert_eq!(Position::of_offset("ab\ncd", 0), Position { line: 1, column: 1 });
        assert_eq!(Position::of_offset("ab\ncd", 4), Position { line: 2, column: 2 });
        assert_eq!(Position::of_offset("ä=\n", 2), Position { line: 1, column: 2 });
        assert_eq!(Position::of_offset("ab", 999), Position { line: 1, column: 3 });
    }

    #[test]
    fn the_three_notations_give_the_same_tree_and_lines() {
        let toml = read("a = 1\n[b]\nc = [\"x\", true]\n", Format::Toml, "f").unwrap();
        let yaml = read("a: 1\nb:\n  c: [\"x\", true]\n", Format::Yaml, "f").unwrap();
        let json = read("{\"a\": 1,\n \"b\":\n  {\"c\": [\"x\", true]}}", Format::Json, "f").unwrap();
        assert_eq!(toml.value.to_json(), json.value.to_json());
        assert_eq!(yaml.value.to_json(), json.value.to_json());
        for root in [toml, yaml, json] {
            let Value::Table(entries) = root.value else { panic!("no table") };
            let Value::Table(inner) = &entries[1].node.value else { panic!("no inner table") };
            assert_eq!((inner[0].key.as_str(), inner[0].at.line), ("c", 3));
        }
    }

    #[test]
    fn a_doubled_key_is_refused_in_every_notation() {
        for (format, text) in
            [(Format::Toml, "a = 1\na = 2\n"), (Format::Yaml, "a: 1\na: 2\n"), (Format::Json, "{\"a\": 1,\n\"a\": 2}")]
        {
            let error = read(text, format, "f").unwrap_err();
            assert_eq!(error.position.line, 2, "{error}");
            assert!(error.message.contains("duplicate"), "{error}");
        }
    }

    #[test]
    fn deep_nesting_is_an_error_not_an_overflow() {
        for (format, open, close) in
            [(Format::Toml, "a = ", ""), (Format::Yaml, "a: ", ""), (Format::Json, "{\"a\": ", "}")]
        {
            let text = format!("{open}{}{}{close}", "[".repeat(50_000), "]".repeat(50_000));
            assert!(read(&text, format, "f").is_err(), "{format:?}");
            let text = format!("{open}{}{}{close}", "[".repeat(20), "]".repeat(20));
            assert!(read(&text, format, "f").is_ok(), "{format:?}");
        }
    }

    #[test]
    fn an_oversized_text_is_not_read() {
        let text = format!("# {}", "x".repeat(SOURCE_MAX_BYTES));
        assert!(read(&text, Format::Toml, "f").unwrap_err().message.contains("at most"));
        assert!(read("# x", Format::Toml, "f").is_ok());
    }
}
