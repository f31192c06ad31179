//! A guest's own output on its way to a person's terminal, byte by byte.
//!
//! Runs in the broker, for `warden run` and `warden jail` where a stream is a terminal; it trusts nothing in the bytes. T-14: what is no plain
//! text, newline, tab, carriage return or colour is made visible, so that no guest sets a title, moves the cursor over what
//! warden said, asks the terminal to type an answer or reaches a hole in its parser. What a write leaves unfinished is held
//! back until the next shows what it is, so that a sequence in two halves is judged whole.

use super::is_hidden;
use std::fmt::Write as _;

const ESC: u8 = 0x1b;
/// Longest colour sequence that is let through, bytes; it also bounds what is held back.
const COLOUR_MAX_BYTES: usize = 64;
/// Ends every colour, and whatever sequence was cut short.
const RESET: &[u8] = b"\x1b[0m";

/// One stream, with what is held back of it.
#[derive(Debug, Clone, Default)]
pub struct Passing {
    held: Vec<u8>,
    coloured: bool,
}

/// What stands at the front of some bytes.
enum Front {
    /// So many bytes that may pass as they are.
    Plain(usize),
    /// A colour sequence of so many bytes.
    Colour(usize),
    /// A character that is shown by its number, and its length in bytes.
    Hidden(char, usize),
    /// A byte of no character.
    Foreign(u8),
    /// More has to come before it can be told.
    Unfinished,
}

impl Passing {
    /// What may be shown now of everything that has come.
    pub fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut all = std::mem::take(&mut self.held);
        all.extend_from_slice(bytes);
        let mut out = Vec::with_capacity(all.len());
        let mut rest = all.as_slice();
        while !rest.is_empty() {
            let taken = match front(rest) {
                Front::Plain(length) => {
                    out.extend_from_slice(rest.get(..length).unwrap_or_default());
                    length
                }
                Front::Colour(length) => {
                    self.coloured = true;
                    out.extend_from_slice(rest.get(..length).unwrap_or_default());
                    length
                }
                Front::Hidden(c, length) => {
                    out.extend_from_slice(c.escape_unicode().to_string().as_bytes());
                    length
                }
                Front::Foreign(byte) => {
                    out.extend_from_slice(byte_shown(byte).as_bytes());
                    1
                }
                Front::Unfinished => {
                    self.held = rest.to_vec();
                    break;
                }
            };
            rest = rest.get(taken..).unwrap_or_default();
        }
        out
    }

    /// What was still held back, made visible, and the end of the guest's colours: what follows is warden's own, and must
    /// not come out hidden or in a guest's dress.
    pub fn end(&mut self) -> Vec<u8> {
        let mut out = String::new();
        for byte in std::mem::take(&mut self.held) {
            match char::from(byte) {
                ' '..='~' => out.push(char::from(byte)),
                control if byte < 0x80 => out.extend(control.escape_unicode()),
                _ => out.push_str(&byte_shown(byte)),
            }
        }
        let mut out = out.into_bytes();
        if std::mem::take(&mut self.coloured) {
            out.extend_from_slice(RESET);
        }
        out
    }
}

fn byte_shown(byte: u8) -> String {
    let mut text = String::new();
    let _ = write!(text, "\\x{{{byte:02x}}}");
    text
}

fn front(bytes: &[u8]) -> Front {
    match bytes {
        [ESC, ..] => escape(bytes),
        [b'\n' | b'\t' | b'\r' | b' '..=b'~', ..] => Front::Plain(1),
        _ => character(bytes),
    }
}

/// `ESC [`, digits, `;` and `m`: colours and weights, which show text and do nothing.
fn escape(bytes: &[u8]) -> Front {
    let escaped = Front::Hidden(char::from(ESC), 1);
    match bytes.get(1) {
        None => return Front::Unfinished,
        Some(b'[') => {}
        Some(_) => return escaped,
    }
    for (at, byte) in bytes.iter().enumerate().skip(2).take(COLOUR_MAX_BYTES) {
        match byte {
            b'0'..=b'9' | b';' => {}
            b'm' => return Front::Colour(at.saturating_add(1)),
            _ => return escaped,
        }
    }
    if bytes.len() > COLOUR_MAX_BYTES { escaped } else { Front::Unfinished }
}

/// One character of more than one byte, or a control character.
fn character(bytes: &[u8]) -> Front {
    let some = bytes.get(..bytes.len().min(4)).unwrap_or_default();
    let valid = match std::str::from_utf8(some) {
        Ok(text) => text,
        Err(error) if error.valid_up_to() > 0 => {
            std::str::from_utf8(some.get(..error.valid_up_to()).unwrap_or_default()).unwrap_or_default()
        }
        // `None` is a sequence that is not complete, and right so far.
        Err(error) if error.error_len().is_none() && some.len() < 4 => return Front::Unfinished,
        Err(_) => "",
    };
    match valid.chars().next() {
        Some(c) if is_hidden(c) => Front::Hidden(c, c.len_utf8()),
        Some(c) => Front::Plain(c.len_utf8()),
        None => Front::Foreign(bytes.first().copied().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(pieces: &[&[u8]]) -> String {
        let mut passing = Passing::default();
        let mut out: Vec<u8> = pieces.iter().flat_map(|piece| passing.pass(piece)).collect();
        out.extend(passing.end());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_steers_a_terminal_is_shown_and_text_and_colours_pass() {
        for (given, expected) in [
            ("\u{1b}]0;title\u{7}", "\\u{1b}]0;title\\u{7}"),
            ("\u{1b}[2J\u{1b}[6n", "\\u{1b}[2J\\u{1b}[6n"),
            ("\u{1b}[?1049h\u{1b}[>4;2m", "\\u{1b}[?1049h\\u{1b}[>4;2m"),
            ("\u{1b}P+q\u{1b}\\", "\\u{1b}P+q\\u{1b}\\"),
            ("\u{9b}31m\u{202e}x\u{8}\u{7f}", "\\u{9b}31m\\u{202e}x\\u{8}\\u{7f}"),
            ("\u{1b}\u{1b}[2J", "\\u{1b}\\u{1b}[2J"),
            ("\u{1b}[3\u{1b}[0m", "\\u{1b}[3\u{1b}[0m\u{1b}[0m"),
            // The control: what people want of a program.
            ("50 %\r\ttab\ngrüße 世界 🙂", "50 %\r\ttab\ngrüße 世界 🙂"),
            ("\u{1b}[1;38;5;208mred\u{1b}[m", "\u{1b}[1;38;5;208mred\u{1b}[m\u{1b}[0m"),
        ] {
            assert_eq!(shown(&[given.as_bytes()]), expected, "{given:?}");
            // However it is cut, it comes out the same.
            for cut in 0..given.len() {
                let (left, right) = given.as_bytes().split_at(cut);
                assert_eq!(shown(&[left, right]), expected, "{given:?} at {cut}");
            }
            let single: Vec<&[u8]> = given.as_bytes().chunks(1).collect();
            assert_eq!(shown(&single), expected, "{given:?} byte by byte");
        }
    }

    #[test]
    fn bytes_of_no_character_are_shown_and_none_is_held_for_ever() {
        assert_eq!(shown(&[b"a\xff\x9bb\xc3", b"\xbc\xe2\x82", b"x\xe2"]), "a\\x{ff}\\x{9b}bü\\x{e2}\\x{82}x\\x{e2}");
        let long = [b"\x1b[".as_slice(), &[b'1'; 1000]].concat();
        let mut passing = Passing::default();
        assert!(passing.pass(&long).starts_with(b"\\u{1b}[111"));
        assert!(passing.held.is_empty());
        passing.pass(b"\x1b[1");
        assert_eq!(passing.held, b"\x1b[1");
    }
}
