//! Every text on its way to a person's terminal, and every JSON text on its way out.
//!
//! T-14: file names, guests, models, pages and policies choose texts that warden shows. What in them would steer a terminal,
//! or show other than it says, is made visible here, in one place: nothing else in the broker writes to its own standard
//! output or error (a test looks), but the output of a guest (`output.rs`) and of a person's own command (`streams.rs`), which go through `passing` where
//! they meet a terminal.

mod passing;

pub use passing::Passing;

use serde_json::Value;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write, stderr, stdout};

/// Control characters (C0, DEL, C1), line and paragraph separators, bidirectional, zero-width and variation-tag characters
/// and the byte order mark: what is not seen, or changes how the rest is seen.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// `text` with everything hidden made visible; lines stay lines and tabs tabs.
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '\n' | '\t') || !is_hidden(c) {
            out.push(c);
        } else {
            out.extend(c.escape_unicode());
        }
    }
    out
}

/// `text` on one line, everything hidden made visible, cut to `max` characters.
pub fn one_line(text: &str, max: usize) -> String {
    let mut out = String::new();
    for (count, c) in text.chars().enumerate() {
        if count >= max {
            out.push('…');
            break;
        }
        match c {
            '\n' | '\t' | '\r' => out.push(' '),
            hidden if is_hidden(hidden) => out.extend(hidden.escape_unicode()),
            plain => out.push(plain),
        }
    }
    out
}

/// `value` as JSON text on one line. What is hidden stands as `\uXXXX`: the same string to a program, and nothing to a
/// terminal that the text is shown on.
pub fn json(value: &Value) -> String {
    let text = value.to_string();
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if !is_hidden(c) {
            out.push(c);
            continue;
        }
        // Outside of its strings JSON text has nothing hidden, and in them every character may be written so.
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(out, "\\u{unit:04x}");
        }
    }
    out
}

/// Writes text to standard output; a reader that has gone away is no error of ours. False when it has. An error is output
/// that somebody waits for and that was lost.
pub fn say(text: &str) -> std::io::Result<bool> {
    write(visible(text).as_bytes())
}

/// Writes one JSON object to standard output, as [`say`] does.
pub fn say_json(value: &Value) -> std::io::Result<bool> {
    write((json(value) + "\n").as_bytes())
}

fn write(bytes: &[u8]) -> std::io::Result<bool> {
    let mut out = stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes lines to standard error.
pub fn note(text: &str) {
    let _ = writeln!(stderr().lock(), "{}", visible(text.trim_end()));
}

/// Whether a person may be watching standard error.
pub fn is_watched() -> bool {
    stderr().is_terminal()
}

/// Standard error for the log of the program itself.
pub struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // Who is told of a failure here would say so on standard error, and end over that it cannot.
        let _ = stderr().lock().write_all(visible(&String::from_utf8_lossy(bytes)).as_bytes());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let _ = stderr().lock().flush();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const HIDDEN: &str = "\u{1b}\u{7}\u{7f}\u{9b}\u{61c}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}\u{2028}\u{feff}\u{e0041}";

    #[test]
    fn nothing_hidden_reaches_a_terminal_and_all_else_does() {
        for c in HIDDEN.chars() {
            let text = format!("a{c}b");
            assert_eq!(visible(&text), format!("a{}b", c.escape_unicode()), "{c:?}");
            assert_eq!(one_line(&text, 9), format!("a{}b", c.escape_unicode()), "{c:?}");
        }
        let plain = "grüße, 世界 ✓ 🙂\n\tnext";
        assert_eq!(visible(plain), plain);
    }

    #[test]
    fn a_guest_cannot_steer_the_terminal() {
        assert_eq!(one_line("a\u{1b}[2Jb\nc\u{202e}d", 100), "a\\u{1b}[2Jb c\\u{202e}d");
        assert_eq!(one_line("abcdef", 3), "abc…");
    }

    #[test]
    fn json_says_the_same_to_a_program_and_hides_nothing() {
        let value = json!({"a\u{202e}": format!("x{HIDDEN}y \"quoted\" \\ grüße")});
        let text = json(&value);
        assert!(!text.chars().any(is_hidden), "{text}");
        assert!(text.contains("\\u202e") && text.contains("\\u001b") && text.contains("\\udb40\\udc41"), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        assert_eq!(json(&json!({"plain": "grüße 🙂"})), "{\"plain\":\"grüße 🙂\"}");
    }
}
