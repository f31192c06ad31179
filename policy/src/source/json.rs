//! JSON into the spanned tree. Runs in the broker; the parser is serde_json, which keeps no places, so each level is
//! read as raw slices of the text, and a slice's address tells its offset.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

use super::{Entry, Node, Position, SourceError, Value};

pub(super) fn read(text: &str, file: &str) -> Result<Node, SourceError> {
    let source = Source { text, file };
    // The whole text first: this finds every error of syntax with its place, and bounds the depth.
    let root: &RawValue = serde_json::from_str::<serde::de::IgnoredAny>(text)
        .and_then(|_| serde_json::from_str(text))
        .map_err(|error| {
            let at = Position { line: error.line().max(1), column: error.column().max(1) };
            let message = error.to_string();
            let cut = message.rfind(" at line ").and_then(|end| message.get(..end)).unwrap_or(&message);
            SourceError::new(file, at, cut)
        })?;
    source.node(root, 0)
}

/// As deep as serde_json itself goes.
const DEPTH_MAX: usize = 127;

struct Source<'a> {
    text: &'a str,
    file: &'a str,
}

impl<'a> Source<'a> {
    fn offset(&self, slice: &str) -> usize {
        slice.as_ptr().addr().saturating_sub(self.text.as_ptr().addr())
    }

    fn wrong(&self, offset: usize, message: impl Into<String>) -> SourceError {
        SourceError::new(self.file, Position::of_offset(self.text, offset), message)
    }

    fn node(&self, raw: &'a RawValue, depth: usize) -> Result<Node, SourceError> {
        let slice = raw.get();
        let start = self.offset(slice);
        if depth > DEPTH_MAX {
            return Err(self.wrong(start, "nested too deeply"));
        }
        let value = match slice.as_bytes().first() {
            Some(b'{') => self.table(slice, depth)?,
            Some(b'[') => {
                let items: Vec<&'a RawValue> = self.decode(slice)?;
                let nodes = items.into_iter().map(|item| self.node(item, depth.saturating_add(1)));
                Value::List(nodes.collect::<Result<_, _>>()?)
            }
            Some(b'"') => Value::Text(self.decode(slice)?),
            Some(b't' | b'f') => Value::Bool(self.decode(slice)?),
            Some(b'n') => Value::Null,
            _ => match slice.parse::<i64>() {
                Ok(number) => Value::Int(number),
                Err(_) if slice.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E')) => {
                    Value::Float(self.decode(slice)?)
                }
                Err(_) => {
                    return Err(self.wrong(start, "this number is too large; at most 9223372036854775807"));
                }
            },
        };
        Ok(Node { at: Position::of_offset(self.text, start), value })
    }

    fn table(&self, slice: &'a str, depth: usize) -> Result<Value, SourceError> {
        let Pairs(pairs) = self.decode(slice)?;
        let mut entries: Vec<Entry> = Vec::with_capacity(pairs.len());
        // A key stands after the brace or after the value before it, past blanks and a comma.
        let mut from = self.offset(slice).saturating_add(1);
        for (key, raw) in pairs {
            let rest = self.text.get(from..).unwrap_or_default();
            let blank = rest.len().saturating_sub(rest.trim_start_matches([' ', '\t', '\n', '\r', ',']).len());
            let key_offset = from.saturating_add(blank);
            if entries.iter().any(|entry| entry.key == key) {
                return Err(self.wrong(key_offset, format!("duplicate key `{key}`")));
            }
            let node = self.node(raw, depth.saturating_add(1))?;
            entries.push(Entry { key, at: Position::of_offset(self.text, key_offset), node });
            from = self.offset(raw.get()).saturating_add(raw.get().len());
        }
        Ok(Value::Table(entries))
    }

    fn decode<T: Deserialize<'a>>(&self, slice: &'a str) -> Result<T, SourceError> {
        serde_json::from_str(slice).map_err(|error| self.wrong(self.offset(slice), error.to_string()))
    }
}

/// An object's pairs in order, doubled keys kept so that they can be refused.
struct Pairs<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor;
        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(pairs)
            }
        }
        deserializer.deserialize_map(PairsVisitor).map(Pairs)
    }
}
