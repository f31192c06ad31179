//! TOML into the spanned tree. Runs in the broker; the parser is the `toml` crate's own, used with its positions.

use std::borrow::Cow;
use std::num::IntErrorKind;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Entry, Node, Position, SourceError, Value};

pub(super) fn read(text: &str, file: &str) -> Result<Node, SourceError> {
    let root = DeTable::parse(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        let message = error.message().trim().replace('\n', ", ");
        SourceError::new(file, Position::of_offset(text, offset), message)
    })?;
    let value = table(root.get_ref(), text, file)?;
    Ok(Node { at: Position::START, value })
}

fn table(table: &DeTable<'_>, text: &str, file: &str) -> Result<Value, SourceError> {
    let mut entries = Vec::with_capacity(table.len());
    for (key, value) in table {
        let at = Position::of_offset(text, key.span().start);
        entries.push(Entry { key: Cow::clone(key.get_ref()).into_owned(), at, node: node(value, text, file)? });
    }
    // The parser keeps keys sorted by name; errors should come in the order of the file.
    entries.sort_by_key(|entry| entry.at);
    Ok(Value::Table(entries))
}

fn node(spanned: &Spanned<DeValue<'_>>, text: &str, file: &str) -> Result<Node, SourceError> {
    let at = Position::of_offset(text, spanned.span().start);
    let wrong = |message: &str| SourceError::new(file, at, message);
    let value = match spanned.get_ref() {
        DeValue::String(value) => Value::Text(value.clone().into_owned()),
        DeValue::Integer(number) => {
            let parsed = i64::from_str_radix(number.as_str(), number.radix());
            Value::Int(parsed.map_err(|error| match error.kind() {
                IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => {
                    wrong("this number is too large; at most 9223372036854775807")
                }
                _ => wrong("this is not a whole number"),
            })?)
        }
        DeValue::Float(number) => {
            Value::Float(number.as_str().parse().map_err(|_| wrong("this is not a number that can be held"))?)
        }
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Datetime(moment) => Value::Moment(moment.to_string()),
        DeValue::Array(items) => {
            Value::List(items.iter().map(|item| node(item, text, file)).collect::<Result<_, _>>()?)
        }
        DeValue::Table(inner) => table(inner, text, file)?,
    };
    Ok(Node { at, value })
}
