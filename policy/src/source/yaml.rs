//! YAML into the spanned tree. Runs in the broker; the parser is serde-saphyr, with its budgets set low.
//!
//! Merge keys and custom tags are refused and aliases are few: a policy is read by people before it is obeyed, and an
//! alias bomb must not cost more than its text (T-06). Booleans are YAML 1.2's only, so that `no` stays a text.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy};
use serde_saphyr::{Location, Options, Spanned};
use std::fmt;

use super::{Entry, Node, Position, SourceError, Value};

const DEPTH_MAX: usize = 64;
const NODES_MAX: usize = 50_000;
const ALIASES_MAX: usize = 64;

pub(super) fn read(text: &str, file: &str) -> Result<Node, SourceError> {
    // A file with nothing but comments is an empty table; the parser would call it an early end.
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(Node { at: Position::START, value: Value::Table(Vec::new()) });
    }
    let root: Spanned<Raw> = serde_saphyr::from_str_with_options(text, options()).map_err(|error| {
        let at = error.location().map_or(Position::START, position);
        SourceError::new(file, at, one_line(&error))
    })?;
    convert(root)
}

fn options() -> Options {
    let mut options = Options::default();
    options.duplicate_keys = DuplicateKeyPolicy::Error;
    options.merge_keys = MergeKeyPolicy::Error;
    options.strict_booleans = true;
    options.reject_unsupported_tags = true;
    options.with_snippet = false;
    options.alias_limits.max_total_replayed_events = NODES_MAX;
    if let Some(budget) = options.budget.as_mut() {
        budget.max_depth = DEPTH_MAX;
        budget.max_nodes = NODES_MAX;
        budget.max_aliases = ALIASES_MAX;
        budget.max_documents = 1;
    }
    options
}

/// The parser's message without the place, which is given in our own form, and without advice to its programmer.
fn one_line(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let text = text.lines().next().unwrap_or_default();
    if text.contains("budget breached: Documents") {
        return "a file holds one document; `---` starts a second".to_owned();
    }
    let end = [" at line ", ", set DuplicateKeyPolicy"].iter().filter_map(|cut| text.rfind(cut)).min();
    let cut = end.and_then(|end| text.get(..end)).unwrap_or(text);
    cut.trim_end_matches([',', ':', ' ']).to_owned()
}

fn position(location: Location) -> Position {
    let number = |value: u64| usize::try_from(value).unwrap_or(usize::MAX).max(1);
    Position { line: number(location.line()), column: number(location.column()) }
}

/// Any YAML value, before its places are turned into ours.
enum Raw {
    Leaf(Value),
    List(Vec<Spanned<Raw>>),
    Table(Vec<(Spanned<String>, Spanned<Raw>)>),
}

fn convert(spanned: Spanned<Raw>) -> Result<Node, SourceError> {
    let at = position(spanned.referenced);
    let value = match spanned.value {
        Raw::Leaf(value) => value,
        Raw::List(items) => Value::List(items.into_iter().map(convert).collect::<Result<_, _>>()?),
        Raw::Table(pairs) => {
            let mut entries = Vec::with_capacity(pairs.len());
            for (key, node) in pairs {
                entries.push(Entry { at: position(key.referenced), key: key.value, node: convert(node)? });
            }
            Value::Table(entries)
        }
    };
    Ok(Node { at, value })
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Leaf(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Leaf(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Leaf(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Leaf(Value::Int(value)))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Raw, E> {
        let value =
            i64::try_from(value).map_err(|_| E::custom("this number is too large; at most 9223372036854775807"))?;
        Ok(Raw::Leaf(Value::Int(value)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Leaf(Value::Float(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Leaf(Value::Text(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Raw, A::Error> {
        let mut table: Vec<(Spanned<String>, Spanned<Raw>)> = Vec::new();
        while let Some(key) = pairs.next_key::<Spanned<String>>()? {
            table.push((key, pairs.next_value()?));
        }
        Ok(Raw::Table(table))
    }
}
