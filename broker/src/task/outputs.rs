//! The outputs of a result's actions, in bounds: what is said of an action is never lost, what it printed is cut.
//!
//! T-06: all outputs of one result are at most [`RESULT_MAX_BYTES`] of JSON, beside what is short in each. The output of one
//! command is cut before, by `limits.output` for each stream and by [`warden_proto::limits::OUTPUT_MAX_BYTES`].

use serde_json::{Map, Value};

/// Outputs of all actions of one result, bytes of JSON.
pub const RESULT_MAX_BYTES: usize = 64 * 1024 * 1024;
/// What stays of an output for which there is no room at all: fields of so many bytes, numbers, yes and no.
const SHORT_MAX_BYTES: usize = 64;
/// Fields that hold what was read or printed, and may be cut.
const TEXTS: [&str; 5] = ["stdout", "stderr", "contents", "data", "content"];

/// What is left for the outputs of a result.
#[derive(Debug)]
pub struct Room {
    left_bytes: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self { left_bytes: RESULT_MAX_BYTES }
    }
}

impl Room {
    /// Takes room for an output. Where there is not enough its texts are cut, then all that is long is left out, and
    /// `truncated` is true.
    pub fn fit(&mut self, output: &mut Value) {
        let size = json_len(output);
        if let Some(left) = self.left_bytes.checked_sub(size) {
            self.left_bytes = left;
            return;
        }
        if let Value::Object(fields) = output {
            cut(fields, size, self.left_bytes);
        }
        let size = json_len(output);
        if let Some(left) = self.left_bytes.checked_sub(size) {
            self.left_bytes = left;
            return;
        }
        // No text is left to cut. What is short is bounded by the number of actions.
        self.left_bytes = 0;
        match output {
            Value::Object(fields) => {
                fields.retain(|_, value| is_short(value));
                fields.insert("truncated".to_owned(), Value::Bool(true));
            }
            other => *other = Value::Null,
        }
    }
}

fn is_short(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
        Value::String(text) => text.len() <= SHORT_MAX_BYTES,
        Value::Array(_) | Value::Object(_) => false,
    }
}

/// Cuts the texts of an output of `size` bytes, the longest first, until it has `room`.
fn cut(fields: &mut Map<String, Value>, size: usize, room: usize) {
    let base64 = fields.get("encoding").and_then(Value::as_str) == Some("base64");
    let mut over = size.saturating_sub(room);
    let mut was_cut = false;
    let mut texts: Vec<&mut String> = fields
        .iter_mut()
        .filter(|(name, _)| TEXTS.contains(&name.as_str()))
        .filter_map(|(_, value)| if let Value::String(text) = value { Some(text) } else { None })
        .collect();
    texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
    for text in texts {
        if over == 0 || text.is_empty() {
            break;
        }
        let before = text_len(text);
        shorten(text, before.saturating_sub(over), base64);
        over = over.saturating_sub(before.saturating_sub(text_len(text)));
        was_cut = true;
    }
    if was_cut {
        fields.insert("truncated".to_owned(), Value::Bool(true));
    }
}

/// Cuts a text so that it takes at most `max` bytes of JSON, between characters, or between groups of base64.
fn shorten(text: &mut String, max: usize, base64: bool) {
    let mut taken = 0_usize;
    let mut end = 0_usize;
    for (at, character) in text.char_indices() {
        taken = taken.saturating_add(escaped_len(character));
        if taken > max {
            break;
        }
        end = at.saturating_add(character.len_utf8());
    }
    if base64 {
        end = end.saturating_sub(end % 4);
    }
    text.truncate(end);
}

/// Bytes of a text as JSON, without its quotes.
fn text_len(text: &str) -> usize {
    text.chars().map(escaped_len).fold(0, usize::saturating_add)
}

fn escaped_len(character: char) -> usize {
    match character {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        other if u32::from(other) < 0x20 => 6,
        other => other.len_utf8(),
    }
}

/// Counts what is written to it.
struct Count(usize);

impl std::io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = self.0.saturating_add(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Bytes of a value as JSON.
fn json_len(value: &Value) -> usize {
    let mut count = Count(0);
    // Counting cannot fail, and a value has no keys that are no text.
    let _ = serde_json::to_writer(&mut count, value);
    count.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ran(stdout: &str, stderr: &str) -> Value {
        json!({"command": "sh", "args": ["-c", "x".repeat(1000)], "status": 3, "signal": null, "timed_out": false,
            "stdout": stdout, "stderr": stderr, "truncated": false, "degraded": []})
    }

    #[test]
    fn what_has_room_is_kept_as_it_is() {
        let mut output = ran(&"o".repeat(1 << 20), "e");
        let before = output.clone();
        Room::default().fit(&mut output);
        assert_eq!(output, before);
    }

    #[test]
    fn what_has_no_room_is_cut_and_said_so_and_how_it_ended_stays() {
        let mut room = Room { left_bytes: 100_000 };
        let mut output = ran(&"\u{1}".repeat(60_000), "the error");
        room.fit(&mut output);
        assert!(json_len(&output) <= 100_000, "{}", json_len(&output));
        assert_eq!(
            (&output["truncated"], &output["status"], &output["stderr"]),
            (&json!(true), &json!(3), &json!("the error"))
        );
        assert!(output["stdout"].as_str().is_some_and(|text| text.len() > 15_000), "as much as there is room for");
        for _ in 0..3 {
            let mut next = ran(&"ö".repeat(50_000), &"e".repeat(50_000));
            room.fit(&mut next);
            assert_eq!(
                (&next["truncated"], &next["status"], &next["command"]),
                (&json!(true), &json!(3), &json!("sh"))
            );
            assert!(json_len(&next) < 2_500, "{next}");
        }
        assert_eq!(room.left_bytes, 0);
    }

    #[test]
    fn a_cut_leaves_whole_characters_and_whole_groups() {
        let mut text = "äöü".to_owned();
        shorten(&mut text, 5, false);
        assert_eq!(text, "äö");
        let mut groups = "aGVsbG8gd29ybGQ=".to_owned();
        shorten(&mut groups, 11, true);
        assert_eq!(groups, "aGVsbG8g");
    }

    #[test]
    fn lengths_are_those_of_the_json() {
        for text in ["plain", "\"\\\n\r\t\u{8}\u{c}", "\u{0}\u{1f}\u{7f}", "ä€\u{1f600}\u{2028}"] {
            assert_eq!(text_len(text), json_len(&json!(text)) - 2, "{text:?}");
        }
    }
}
