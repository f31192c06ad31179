//! Lines for a person while a task runs: on standard error, when that is a terminal.
//!
//! T-14: everything a guest or a model said is escaped before it reaches a terminal, and cut to a line.

use crate::terminal;
use warden_proto::msg::error::CallError;

pub use crate::terminal::one_line;

/// Told of every step of a task as it happens.
pub trait Progress {
    /// A step begins.
    fn step(&self, _number: u32) {}
    /// What the planner says it thinks.
    fn thought(&self, _text: &str) {}
    /// An action has ended.
    fn action(&self, _capability: &str, _target: &str, _error: Option<&CallError>) {}
    /// A command has run, and did not end with status 0: the action has succeeded, and nothing has for a person.
    fn command(&self, _capability: &str, _target: &str, _end: &str) {}
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
    if !json && terminal::is_watched() { std::rc::Rc::new(Lines) } else { std::rc::Rc::new(Silent) }
}

/// `: ` and `text` on one line; nothing where there is none.
pub fn after_colon(text: &str, max: usize) -> String {
    if text.is_empty() { String::new() } else { format!(": {}", one_line(text, max)) }
}

fn line(text: &str) {
    terminal::note(text);
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

    fn command(&self, capability: &str, target: &str, end: &str) {
        line(&format!("  ✗ {}: {}", one_line(&format!("{capability} {target}"), 90), one_line(end, 60)));
    }

    fn complete(&self, reason: &str) {
        line(&format!("  says it is done: {}", one_line(reason, 100)));
    }

    fn predicate(&self, name: &str, met: bool, detail: &str) {
        let mark = if met { "✓" } else { "✗" };
        line(&format!("  {mark} {}{}", one_line(name, 80), after_colon(detail, 100)));
    }

    fn note(&self, text: &str) {
        line(&one_line(text, 200));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_words_has_no_colon() {
        assert_eq!(after_colon("", 3), "");
        assert_eq!(after_colon("a b", 3), ": a b");
    }
}
