//! Lines for a person while a task runs: on standard error, when that is a terminal.
//!
//! T-14: everything a guest or a model said is escaped before it reaches a terminal, and cut to a line.

use std::io::{IsTerminal, Write, stderr};
use warden_proto::msg::error::CallError;

/// Told of every step of a task as it happens.
pub trait Progress {
    /// A step begins.
    fn step(&self, _number: u32) {}
    /// What the planner says it thinks.
    fn thought(&self, _text: &str) {}
    /// An action has ended.
    fn action(&self, _capability: &str, _target: &str, _error: Option<&CallError>) {}
    /// An import's call was denied.
    fn denied(&self, _capability: &str, _target: &str, _error: &CallError) {}
    /// The planner says that it is done.
    fn complete(&self, _reason: &str) {}
    /// A predicate was evaluated.
    fn predicate(&self, _name: &str, _met: bool, _detail: &str) {}
    /// Something else worth a line.
    fn note(&self, _text: &str) {}
}

/// Says nothing.
pub struct Silent;

impl Progress for Silent {}

/// A line per event on standard error.
pub struct Lines;

/// Lines if somebody watches, else nothing.
pub fn for_terminal(json: bool) -> std::rc::Rc<dyn Progress> {
    if !json && stderr().is_terminal() { std::rc::Rc::new(Lines) } else { std::rc::Rc::new(Silent) }
}

/// `text` on one line of a terminal: control, bidirectional and other invisible characters made visible, cut to `max`
/// characters.
pub fn one_line(text: &str, max: usize) -> String {
    let mut out = String::new();
    for (count, c) in text.chars().enumerate() {
        if count >= max {
            out.push('…');
            break;
        }
        let invisible = matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{61c}' | '\u{e0000}'..='\u{e007f}');
        if c == '\n' || c == '\t' || c == '\r' {
            out.push(' ');
        } else if c.is_control() || invisible {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

fn line(text: &str) {
    let _ = writeln!(stderr().lock(), "{text}");
}

impl Progress for Lines {
    fn step(&self, number: u32) {
        line(&format!("step {number}"));
    }

    fn thought(&self, text: &str) {
        if !text.trim().is_empty() {
            line(&format!("  · {}", one_line(text, 100)));
        }
    }

    fn action(&self, capability: &str, target: &str, error: Option<&CallError>) {
        let what = one_line(&format!("{capability} {target}"), 90);
        match error {
            None => line(&format!("  ✓ {what}")),
            Some(error) if error.rule.is_empty() => {
                line(&format!("  ✗ {what}: {}", one_line(&error.to_string(), 120)));
            }
            Some(error) => {
                line(&format!("  ✗ {what}: {} [{}]", one_line(&error.to_string(), 120), one_line(&error.rule, 80)));
            }
        }
    }

    fn complete(&self, reason: &str) {
        line(&format!("  says it is done: {}", one_line(reason, 100)));
    }

    fn predicate(&self, name: &str, met: bool, detail: &str) {
        let mark = if met { "✓" } else { "✗" };
        line(&format!("  {mark} {}: {}", one_line(name, 80), one_line(detail, 100)));
    }

    fn note(&self, text: &str) {
        line(&one_line(text, 200));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_cannot_steer_the_terminal() {
        assert_eq!(one_line("a\u{1b}[2Jb\nc\u{202e}d", 100), "a\\u{1b}[2Jb c\\u{202e}d");
        assert_eq!(one_line("abcdef", 3), "abc…");
    }
}
