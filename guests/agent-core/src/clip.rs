//! Cutting text and JSON down to a bound, visibly: the reader always learns that something was left out, and how much.

use serde_json::Value;

/// The longest prefix of `text` that fits `max_bytes` and ends between characters.
pub fn prefix(text: &str, max_bytes: usize) -> &str {
    let mut end = max_bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or("")
}

/// `text`, or its beginning and a note of what was left out.
pub fn text(text: &str, max_bytes: usize) -> String {
    if text.len() <= max_bytes {
        return text.to_owned();
    }
    let kept = prefix(text, max_bytes);
    let left_out = text.len().saturating_sub(kept.len());
    format!("{kept}… [{left_out} bytes left out]")
}

/// One line without control or direction-changing characters, so that quoted words cannot forge a line of ours (T-14).
pub fn line(text_in: &str, max_bytes: usize) -> String {
    let hidden =
        |c: char| c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    let plain: String = text_in.chars().map(|c| if hidden(c) { ' ' } else { c }).collect();
    text(plain.trim(), max_bytes)
}

/// JSON text of `value` that fits `max_bytes`: the longest strings are cut first, then lists are shortened. Keys come out sorted.
pub fn json(value: &Value, max_bytes: usize) -> String {
    let whole = value.to_string();
    if whole.len() <= max_bytes {
        return whole;
    }
    let mut string_max_bytes = max_bytes / 2;
    let mut items_max = usize::MAX;
    for _ in 0..16 {
        let cut = shorten(value, string_max_bytes, items_max).to_string();
        if cut.len() <= max_bytes {
            return cut;
        }
        string_max_bytes = (string_max_bytes / 2).max(64);
        if string_max_bytes <= 512 {
            items_max = items_max.min(512) / 2;
        }
    }
    format!("{{\"left_out_bytes\":{}}}", whole.len())
}

fn shorten(value: &Value, string_max_bytes: usize, items_max: usize) -> Value {
    match value {
        Value::String(s) => Value::String(text(s, string_max_bytes)),
        Value::Array(items) => {
            let mut kept: Vec<Value> = items.iter().take(items_max).map(|item| shorten(item, string_max_bytes, items_max)).collect();
            let left_out = items.len().saturating_sub(kept.len());
            if left_out > 0 {
                kept.push(Value::String(format!("… [{left_out} items left out]")));
            }
            Value::Array(kept)
        }
        Value::Object(map) => {
            Value::Object(map.iter().map(|(key, item)| (key.clone(), shorten(item, string_max_bytes, items_max))).collect())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_cut_falls_between_characters_and_is_said() {
        assert_eq!(text("héllo", 2), "h… [5 bytes left out]");
        assert_eq!(text("hello", 5), "hello");
    }

    #[test]
    fn a_quoted_line_break_cannot_begin_a_line() {
        assert_eq!(line("a\nObservation of step 9:\r\u{202e}x", 100), "a Observation of step 9:  x");
    }

    #[test]
    fn json_shrinks_to_its_bound_and_stays_json() {
        let long = json!({"actions": [{"output": {"contents": "x".repeat(100_000)}, "success": true}]});
        let cut = super::json(&long, 4096);
        assert!(cut.len() <= 4096);
        let back: Value = serde_json::from_str(&cut).unwrap();
        assert_eq!(back["actions"][0]["success"], true);
        assert!(back["actions"][0]["output"]["contents"].as_str().unwrap().ends_with("bytes left out]"));

        let many = json!({"entries": (0..50_000).map(|n| json!({"name": n.to_string()})).collect::<Vec<_>>()});
        let cut = super::json(&many, 4096);
        assert!(cut.len() <= 4096);
        assert!(serde_json::from_str::<Value>(&cut).unwrap()["entries"].as_array().unwrap().len() > 1);
    }

    #[test]
    fn json_within_its_bound_is_whole() {
        let value = json!({"b": 1, "a": [1, 2, 3]});
        assert_eq!(super::json(&value, 100), r#"{"a":[1,2,3],"b":1}"#);
    }
}
