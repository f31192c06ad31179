//! JSON string escaping that leaves nothing in the log a terminal, a pager or a line reader
//! could be steered by (T-09, T-14): one spelling per string, so that a record has one form.
//!
//! `"` and `\` take a backslash. Control characters (C0, DEL, C1), line and paragraph separators, bidirectional
//! and zero-width characters, variation-tag characters and the byte order mark become `\uXXXX` in lower-case hex,
//! as surrogate pairs above the basic plane. Everything else stands as it is, in UTF-8.

use crate::terminal::is_hidden;

/// Appends `text`, escaped, without quotes.
pub(super) fn push_escaped(out: &mut Vec<u8>, text: &str) {
    let mut plain_from = 0;
    for (at, c) in text.char_indices() {
        let quoted = matches!(c, '"' | '\\');
        if !quoted && (matches!(c, ' '..='~') || !is_hidden(c)) {
            continue;
        }
        out.extend_from_slice(text.get(plain_from..at).unwrap_or_default().as_bytes());
        plain_from = at.saturating_add(c.len_utf8());
        if quoted {
            out.push(b'\\');
            out.push(if c == '"' { b'"' } else { b'\\' });
        } else {
            push_unicode(out, c);
        }
    }
    out.extend_from_slice(text.get(plain_from..).unwrap_or_default().as_bytes());
}

fn push_unicode(out: &mut Vec<u8>, c: char) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut units = [0u16; 2];
    for unit in c.encode_utf16(&mut units) {
        out.extend_from_slice(b"\\u");
        for shift in [12, 8, 4, 0] {
            let digit = usize::from((*unit >> shift) & 15);
            out.push(HEX.get(digit).copied().unwrap_or(b'0'));
        }
    }
}

/// True when a line read from a log can be shown as it stands.
pub(super) fn is_presentable(line: &str) -> bool {
    !line.chars().any(is_hidden)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &str) -> String {
        let mut out = Vec::new();
        push_escaped(&mut out, text);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn hides_what_steers_a_terminal_or_a_line_reader() {
        assert_eq!(escaped("a\nb\"c\\d\u{1b}[2J"), "a\\u000ab\\\"c\\\\d\\u001b[2J");
        assert_eq!(escaped("\u{202e}\u{9b}\u{7f}\u{2028}"), "\\u202e\\u009b\\u007f\\u2028");
        assert_eq!(escaped("\u{e0041}"), "\\udb40\\udc41");
        assert_eq!(escaped("plain, ümlaut, ✓, 🦀"), "plain, ümlaut, ✓, 🦀");
    }

    #[test]
    fn every_escaped_string_reads_back_as_itself() {
        let all: String = (0..0x11_0000).filter_map(char::from_u32).collect();
        for chunk in all.chars().collect::<Vec<_>>().chunks(4096) {
            let text: String = chunk.iter().collect();
            let json = format!("\"{}\"", escaped(&text));
            assert!(is_presentable(&json));
            assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
    }
}
