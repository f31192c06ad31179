//! A recording: line n answers call n (contract, "Replay").
//!
//! Runs in the jail. The recording is the operator's own file, so it decides; but it may hold what a model or a page once
//! said, so every line is bounded and parsed as data. The text it is matched against comes from the guest: it appears in
//! details only escaped and cut (T-14).
//!
//! A line is one JSON object; unknown keys are ignored:
//!
//! | key | is |
//! |---|---|
//! | `content` | text of the model, a string |
//! | `tool_calls` | an array of tool calls, passed on as it is |
//! | `finish_reason` | a string |
//! | `usage` | `{prompt_tokens, completion_tokens, total_tokens}`, each optional |
//! | `expect` | a regular expression that must match somewhere in the last message's content |
//!
//! A line has `content` or `tool_calls` or both. `complete` is answered with `content`, else with the tool calls as JSON.
//! `call-tools` is answered with the tool calls; without them, with `content` where that is itself a JSON array, else `[]`.

use regex::Regex;
use serde::Deserialize;
use serde_json::Value;
use warden_proto::limits::BLOB_MAX_BYTES;
use warden_proto::msg::llm::TokenUsage;

/// Longest line, bytes, its newline not counted.
const LINE_MAX_BYTES: usize = 1024 * 1024;
/// Most of a message that a mismatch shows, characters before escaping.
const SHOWN_MAX_CHARS: usize = 160;

/// Why a call has no answer. All but a mismatch are `unavailable`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RecordingError {
    /// Every line has been used.
    #[error("recording ended")]
    Ended,
    /// The line is not of the form above.
    #[error("line {line} of the recording is malformed: {why}")]
    Malformed {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
    /// The line expects another conversation.
    #[error("{0}")]
    Mismatch(String),
}

/// What one line answers.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Text, or the JSON array of tool calls.
    pub content: String,
    /// Why the model stopped.
    pub finish_reason: Option<String>,
    /// What it cost when it was recorded.
    pub usage: Option<TokenUsage>,
}

/// The lines that are left.
#[derive(Debug)]
pub struct Recording {
    bytes: Vec<u8>,
    at: usize,
    line: usize,
}

#[derive(Debug, Deserialize)]
struct Line {
    content: Option<String>,
    tool_calls: Option<Vec<Value>>,
    finish_reason: Option<String>,
    usage: Option<Usage>,
    expect: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Usage {
    #[serde(default)]
    prompt_tokens: u32,
    #[serde(default)]
    completion_tokens: u32,
    total_tokens: Option<u32>,
}

impl Recording {
    /// Takes a whole recording. Nothing is parsed before it is asked for.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, at: 0, line: 0 }
    }

    /// The same for a process that is not the task's first: line n answers call n, whoever reads it. No line is parsed.
    pub fn behind(calls: u32, bytes: Vec<u8>) -> Self {
        let mut recording = Self::new(bytes);
        for _ in 0..calls {
            if recording.next_line().is_none() {
                break;
            }
        }
        recording
    }

    /// Answers the next call, whose last message is `last`. A line is used up whatever comes of it.
    pub fn answer(&mut self, last: &str, tools: bool) -> Result<Answer, RecordingError> {
        let (number, bytes) = self.next_line().ok_or(RecordingError::Ended)?;
        let malformed = |why: String| RecordingError::Malformed { line: number, why };
        if bytes.len() > LINE_MAX_BYTES {
            return Err(malformed(format!("it is longer than {LINE_MAX_BYTES} bytes")));
        }
        let line: Line = serde_json::from_slice(bytes).map_err(|e| malformed(e.to_string()))?;
        if let Some(expect) = &line.expect {
            let pattern =
                Regex::new(expect).map_err(|e| malformed(format!("its expect is no regular expression: {e}")))?;
            if !pattern.is_match(last) {
                return Err(RecordingError::Mismatch(mismatch(number, expect, last)));
            }
        }
        let content = content(&line, tools).map_err(malformed)?;
        Ok(Answer { content, finish_reason: line.finish_reason, usage: line.usage.map(Usage::counted) })
    }

    /// The next line's number and bytes. What follows the last newline is a line only if it is not empty.
    fn next_line(&mut self) -> Option<(usize, &[u8])> {
        let rest = self.bytes.get(self.at..).filter(|rest| !rest.is_empty())?;
        let len = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        self.at = self.at.saturating_add(len).saturating_add(1);
        self.line = self.line.saturating_add(1);
        Some((self.line, rest.get(..len).unwrap_or_default()))
    }
}

/// Lets the regex crate ask, once and for all, how many CPUs there are: it opens files for that, which the jail would
/// answer by death.
pub fn warm() {
    let _ = Regex::new(".").map(|pattern| pattern.is_match("."));
}

impl Usage {
    fn counted(self) -> TokenUsage {
        let both = self.prompt_tokens.saturating_add(self.completion_tokens);
        TokenUsage {
            prompt_tokens: self.prompt_tokens,
            completion_tokens: self.completion_tokens,
            total_tokens: self.total_tokens.unwrap_or(both),
        }
    }
}

fn content(line: &Line, tools: bool) -> Result<String, String> {
    let as_json = |calls: &Vec<Value>| serde_json::to_string(calls).map_err(|e| e.to_string());
    let text = match (&line.content, &line.tool_calls) {
        (None, None) => return Err("it has neither content nor tool_calls".to_owned()),
        (Some(text), _) if !tools => text.clone(),
        (_, Some(calls)) => as_json(calls)?,
        (Some(text), None) => match serde_json::from_str::<Vec<Value>>(text) {
            Ok(calls) => as_json(&calls)?,
            Err(_) => "[]".to_owned(),
        },
    };
    if text.len() > BLOB_MAX_BYTES {
        return Err(format!("its answer is longer than {BLOB_MAX_BYTES} bytes"));
    }
    Ok(text)
}

fn mismatch(line: usize, expect: &str, last: &str) -> String {
    let shown: String = last.chars().take(SHOWN_MAX_CHARS).collect();
    let more = if shown.len() < last.len() { "…" } else { "" };
    format!("line {line} of the recording expects {expect:?} in the last message, which is {shown:?}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recording(text: &str) -> Recording {
        Recording::new(text.as_bytes().to_vec())
    }

    fn content_of(text: &str, tools: bool) -> Result<String, RecordingError> {
        recording(text).answer("", tools).map(|answer| answer.content)
    }

    #[test]
    fn a_later_process_goes_on_behind_the_lines_of_the_first() {
        let lines = b"{\"content\":\"a\"}\nnot JSON\n{\"content\":\"c\"}".to_vec();
        assert_eq!(Recording::behind(0, lines.clone()).answer("", false).unwrap().content, "a");
        assert_eq!(Recording::behind(2, lines.clone()).answer("", false).unwrap().content, "c");
        assert_eq!(Recording::behind(3, lines.clone()).answer("", false), Err(RecordingError::Ended));
        assert_eq!(Recording::behind(u32::MAX, lines).answer("", false), Err(RecordingError::Ended));
    }

    #[test]
    fn line_n_answers_call_n_and_then_the_recording_ends() {
        let mut recording = recording("{\"content\":\"a\"}\n{\"content\":\"b\"}\n");
        assert_eq!(recording.answer("x", false).unwrap().content, "a");
        assert_eq!(recording.answer("y", false).unwrap().content, "b");
        assert_eq!(recording.answer("z", false), Err(RecordingError::Ended));
        assert_eq!(recording.answer("z", false), Err(RecordingError::Ended));
    }

    #[test]
    fn the_last_line_needs_no_newline_and_an_empty_file_has_no_line() {
        assert_eq!(content_of("{\"content\":\"a\"}", false).unwrap(), "a");
        assert_eq!(content_of("", false), Err(RecordingError::Ended));
    }

    #[test]
    fn expect_is_searched_in_the_last_message() {
        let text = "{\"content\":\"ok\",\"expect\":\"FAILED \\\\(failures=[0-9]+\\\\)\"}\n";
        assert_eq!(recording(text).answer("… FAILED (failures=1) …", false).unwrap().content, "ok");
        let Err(RecordingError::Mismatch(detail)) = recording(text).answer("OK\u{1b}[2J\n", false) else {
            panic!("another message must not match");
        };
        assert!(detail.starts_with("line 1 of the recording expects"), "{detail}");
        assert!(!detail.chars().any(char::is_control), "{detail:?}");
    }

    #[test]
    fn a_malformed_line_is_named_and_used_up() {
        let bad = [
            "{",
            "",
            "[]",
            "{}",
            "{\"content\":1}",
            "{\"tool_calls\":{}}",
            "{\"content\":\"a\",\"expect\":\"(\"}",
            "\u{feff}{}",
        ];
        for line in bad {
            let mut recording = recording(&format!("{line}\n{{\"content\":\"next\"}}\n"));
            let first = recording.answer("", false);
            assert!(matches!(first, Err(RecordingError::Malformed { line: 1, .. })), "{line:?}: {first:?}");
            assert_eq!(recording.answer("", false).unwrap().content, "next", "{line:?}");
        }
    }

    #[test]
    fn the_bytes_need_not_be_text() {
        let mut recording = Recording::new(b"\xff\xfe\n{\"content\":\"b\"}".to_vec());
        assert!(matches!(recording.answer("", false), Err(RecordingError::Malformed { line: 1, .. })));
        assert_eq!(recording.answer("", false).unwrap().content, "b");
    }

    #[test]
    fn a_line_over_the_bound_is_malformed_and_one_at_it_is_not() {
        let line = |len: usize| format!("{{\"content\":\"{}\"}}", "x".repeat(len - "{\"content\":\"\"}".len()));
        assert!(content_of(&line(LINE_MAX_BYTES), false).is_ok());
        assert!(matches!(content_of(&line(LINE_MAX_BYTES + 1), false), Err(RecordingError::Malformed { .. })));
    }

    #[test]
    fn both_forms_answer_both_calls() {
        let calls = "{\"tool_calls\":[{\"name\":\"fs_read_file\"}]}";
        assert_eq!(content_of(calls, true).unwrap(), "[{\"name\":\"fs_read_file\"}]");
        assert_eq!(content_of(calls, false).unwrap(), "[{\"name\":\"fs_read_file\"}]");
        let both = "{\"content\":\"text\",\"tool_calls\":[]}";
        assert_eq!(content_of(both, false).unwrap(), "text");
        assert_eq!(content_of(both, true).unwrap(), "[]");
        assert_eq!(content_of("{\"content\":\"text\"}", true).unwrap(), "[]");
        assert_eq!(content_of("{\"content\":\"[1]\"}", true).unwrap(), "[1]");
    }

    #[test]
    fn unknown_keys_are_ignored_and_usage_adds_up() {
        let text = "{\"content\":\"a\",\"at\":1,\"request_sha256\":\"00\",\"finish_reason\":\"stop\",\
                    \"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4,\"x\":0}}";
        let answer = recording(text).answer("", false).unwrap();
        assert_eq!(answer.finish_reason.as_deref(), Some("stop"));
        assert_eq!(answer.usage.map(|u| u.total_tokens), Some(7));
    }

    #[test]
    fn deep_nesting_is_malformed_not_a_crash() {
        let deep = format!("{{\"tool_calls\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(matches!(content_of(&deep, true), Err(RecordingError::Malformed { .. })));
    }
}
