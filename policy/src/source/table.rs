//! A table being read: every getter checks the type and names the place, and a key nobody knows ends the reading (T-10).

use std::time::Duration;

use super::{Entry, Node, Position, SourceError, Value, nearest};
use crate::units;

/// One table of the source, with the keys it may hold.
pub(crate) struct Table<'a> {
    pub file: &'a str,
    /// How the table is called in messages: `[limits]`, `[[fs.workspace]]`.
    pub name: &'static str,
    pub at: Position,
    entries: &'a [Entry],
    keys: &'static [&'static str],
}

impl<'a> Table<'a> {
    /// Opens a node as a table and refuses every key not among `keys`.
    pub fn open(
        file: &'a str,
        name: &'static str,
        node: &'a Node,
        keys: &'static [&'static str],
    ) -> Result<Table<'a>, SourceError> {
        let Value::Table(entries) = &node.value else {
            let message = format!("expected {name} to be a table, found {}", node.value.type_name());
            return Err(SourceError::new(file, node.at, message));
        };
        let table = Table { file, name, at: node.at, entries, keys };
        match entries.iter().find(|entry| !keys.contains(&entry.key.as_str())) {
            Some(entry) => Err(table.unknown(entry)),
            None => Ok(table),
        }
    }

    fn unknown(&self, entry: &Entry) -> SourceError {
        let suggestion = nearest(&entry.key, self.keys);
        let place = if self.name.is_empty() { String::new() } else { format!(" in {}", self.name) };
        let shown: String = entry.key.chars().take(80).flat_map(char::escape_debug).collect();
        let message = match suggestion {
            Some(_) => format!("unknown key `{shown}`{place}"),
            None => format!("unknown key `{shown}`{place}; valid keys are {}", self.keys.join(", ")),
        };
        SourceError::new(self.file, entry.at, message).suggesting(suggestion)
    }

    pub fn node(&self, key: &str) -> Option<&'a Node> {
        debug_assert!(self.keys.contains(&key), "key `{key}` is read but not declared in {}", self.name);
        self.entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node)
    }

    /// Where a key stands; the table's own place if it is not there.
    pub fn key_at(&self, key: &str) -> Position {
        self.entries.iter().find(|entry| entry.key == key).map_or(self.at, |entry| entry.at)
    }

    /// Where a key's value stands; the table's own place if it is not there.
    pub fn value_at(&self, key: &str) -> Position {
        self.node(key).map_or(self.at, |node| node.at)
    }

    pub fn has(&self, key: &str) -> bool {
        self.node(key).is_some()
    }

    /// An error at the value of `key`, or at the table where the key is missing.
    pub fn wrong(&self, key: &str, message: impl Into<String>) -> SourceError {
        SourceError::new(self.file, self.value_at(key), message)
    }

    pub fn missing(&self, key: &str) -> SourceError {
        let place = if self.name.is_empty() { String::new() } else { format!(" in {}", self.name) };
        SourceError::new(self.file, self.at, format!("missing key `{key}`{place}"))
    }

    fn mismatch(&self, key: &str, node: &Node, expected: &str) -> SourceError {
        let message = format!("`{key}` must be {expected}, found {}", node.value.type_name());
        SourceError::new(self.file, node.at, message)
    }

    pub fn text(&self, key: &str) -> Result<Option<&'a str>, SourceError> {
        self.node(key)
            .map(|node| match &node.value {
                Value::Text(text) => Ok(text.as_str()),
                _ => Err(self.mismatch(key, node, "a text")),
            })
            .transpose()
    }

    pub fn required_text(&self, key: &str) -> Result<&'a str, SourceError> {
        self.text(key)?.ok_or_else(|| self.missing(key))
    }

    pub fn flag(&self, key: &str) -> Result<Option<bool>, SourceError> {
        self.node(key)
            .map(|node| match &node.value {
                Value::Bool(value) => Ok(*value),
                _ => Err(self.mismatch(key, node, "true or false")),
            })
            .transpose()
    }

    pub fn integer(&self, key: &str) -> Result<Option<i64>, SourceError> {
        self.node(key)
            .map(|node| match &node.value {
                Value::Int(value) => Ok(*value),
                _ => Err(self.mismatch(key, node, "a whole number")),
            })
            .transpose()
    }

    pub fn count(&self, key: &str) -> Result<Option<u64>, SourceError> {
        self.integer(key)?
            .map(|value| u64::try_from(value).map_err(|_| self.wrong(key, format!("`{key}` must not be negative"))))
            .transpose()
    }

    /// A number of bytes: `"256MiB"`, or a plain number of bytes.
    pub fn size(&self, key: &str) -> Result<Option<u64>, SourceError> {
        let Some(node) = self.node(key) else {
            return Ok(None);
        };
        match &node.value {
            Value::Int(_) => self.count(key),
            Value::Text(text) => {
                units::parse_size(text).map(Some).map_err(|error| self.wrong(key, format!("`{key}`: {error}")))
            }
            _ => Err(self.mismatch(key, node, "a size such as \"256MiB\"")),
        }
    }

    pub fn duration(&self, key: &str) -> Result<Option<Duration>, SourceError> {
        let Some(node) = self.node(key) else {
            return Ok(None);
        };
        match &node.value {
            Value::Text(text) => {
                units::parse_duration(text).map(Some).map_err(|error| self.wrong(key, format!("`{key}`: {error}")))
            }
            _ => Err(self.mismatch(key, node, "a duration such as \"10m\"")),
        }
    }

    /// A text that is one of a few words.
    pub fn choice<T: Copy>(&self, key: &str, words: &[(&'static str, T)]) -> Result<Option<T>, SourceError> {
        let Some(text) = self.text(key)? else {
            return Ok(None);
        };
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, value)) => Ok(Some(*value)),
            None => {
                let names: Vec<&'static str> = words.iter().map(|(word, _)| *word).collect();
                let message = format!("`{key}` must be one of {}", names.join(", "));
                Err(self.wrong(key, message).suggesting(nearest(text, &names)))
            }
        }
    }

    pub fn list(&self, key: &str) -> Result<&'a [Node], SourceError> {
        match self.node(key) {
            None => Ok(&[]),
            Some(Node { value: Value::List(items), .. }) => Ok(items),
            Some(node) => Err(self.mismatch(key, node, "a list")),
        }
    }

    /// A list of texts with the place of each.
    pub fn texts(&self, key: &str) -> Result<Vec<(&'a str, Position)>, SourceError> {
        self.list(key)?
            .iter()
            .map(|node| match &node.value {
                Value::Text(text) => Ok((text.as_str(), node.at)),
                _ => Err(self.mismatch(key, node, "a list of texts")),
            })
            .collect()
    }

    pub fn plain_texts(&self, key: &str) -> Result<Vec<String>, SourceError> {
        Ok(self.texts(key)?.into_iter().map(|(text, _)| text.to_owned()).collect())
    }

    /// A table whose keys are free and whose values are texts, in the order of the file.
    pub fn text_map(&self, key: &str) -> Result<Vec<(String, String, Position)>, SourceError> {
        let Some(node) = self.node(key) else {
            return Ok(Vec::new());
        };
        let Value::Table(entries) = &node.value else {
            return Err(self.mismatch(key, node, "a table of texts"));
        };
        entries
            .iter()
            .map(|entry| match &entry.node.value {
                Value::Text(text) => Ok((entry.key.clone(), text.clone(), entry.at)),
                _ => Err(self.mismatch(&entry.key, &entry.node, "a text")),
            })
            .collect()
    }

    /// An error about the table as a whole.
    pub fn wrong_table(&self, message: impl Into<String>) -> SourceError {
        SourceError::new(self.file, self.at, message)
    }

    /// An error at a place of this table's file.
    pub fn wrong_at(&self, at: Position, message: impl Into<String>) -> SourceError {
        SourceError::new(self.file, at, message)
    }
}
