//! Which answer fits which question: a helper that answers something else than it was asked is out of its state, and is
//! ended like any peer that breaks the protocol (T-05).
//!
//! A helper's typed error fits every question. What a fitting answer says is judged by whoever asked.

use bincode::{Decode, Encode};
use warden_proto::msg::fs::{FsCall, FsOrder, FsReply};
use warden_proto::msg::llm::{LlmCall, LlmReply};
use warden_proto::msg::proc::{ProcCall, ProcReply};

/// A call to a helper.
pub(crate) trait Question: Encode {
    /// What a helper answers it with, where that is no error.
    type Answer: Decode<()>;

    /// Whether `answer` is of the kind that was asked for, and no longer than was asked for.
    fn is_answered_by(&self, answer: &Self::Answer) -> bool;
}

fn within(len: usize, most: u64) -> bool {
    u64::try_from(len).is_ok_and(|len| len <= most)
}

impl<T: Encode> Question for FsCall<T> {
    type Answer = FsReply;

    fn is_answered_by(&self, answer: &FsReply) -> bool {
        match (self, answer) {
            (Self::OpenDir { .. } | Self::OpenFile { .. }, FsReply::Opened { .. })
            | (
                Self::EnsureDir { .. }
                | Self::RemoveDir { .. }
                | Self::RemoveFile { .. }
                | Self::Rename { .. }
                | Self::Flush { .. },
                FsReply::Done,
            )
            | (Self::ListDir { .. }, FsReply::Entries { .. })
            | (Self::Metadata { .. }, FsReply::Metadata { .. })
            | (Self::ReadFile { .. }, FsReply::Content { .. })
            | (Self::WriteFile { .. } | Self::SetLen { .. }, FsReply::Written { .. })
            | (Self::Close { .. }, FsReply::Closed { .. })
            | (Self::Check { .. }, FsReply::Checked { .. }) => true,
            (Self::Read { max_bytes, .. }, FsReply::Data { bytes }) => within(bytes.len(), u64::from(*max_bytes)),
            (Self::Write { bytes: sent, .. }, FsReply::Written { bytes, .. }) => {
                u64::try_from(sent.len()).is_ok_and(|sent| *bytes <= sent)
            }
            _ => false,
        }
    }
}

impl Question for FsOrder {
    type Answer = FsReply;

    fn is_answered_by(&self, answer: &FsReply) -> bool {
        self.call.is_answered_by(answer)
    }
}

impl<C: Encode> Question for ProcCall<C> {
    type Answer = ProcReply;

    fn is_answered_by(&self, answer: &ProcReply) -> bool {
        match (self, answer) {
            (Self::Run { .. }, ProcReply::Ran { .. })
            | (Self::Start { .. } | Self::Attach { .. }, ProcReply::Started { .. })
            | (Self::Wait { .. }, ProcReply::Exited { .. })
            | (Self::Signal { .. }, ProcReply::Done)
            | (Self::Close { .. }, ProcReply::Closed { .. }) => true,
            (Self::Read { max_bytes, .. }, ProcReply::Data { bytes, .. }) => within(bytes.len(), u64::from(*max_bytes)),
            (Self::WriteStdin { bytes: sent, .. }, ProcReply::Accepted { bytes }) => {
                usize::try_from(*bytes).is_ok_and(|taken| taken <= sent.len())
            }
            _ => false,
        }
    }
}

impl Question for LlmCall {
    type Answer = LlmReply;

    /// cap-llm has one kind of answer; every other kind of a helper's does not decode as it.
    fn is_answered_by(&self, _answer: &LlmReply) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use warden_proto::blob::Body;
    use warden_proto::msg::fs::{Entry, EntryKind, FileCheck, OpenFlags};
    use warden_proto::msg::proc::{Exit, ProcessSignal, StdioMode, Stream, Toll};
    use warden_proto::{Bytes, List, Text};

    fn body() -> Body {
        Body::Inline { bytes: Bytes::default() }
    }

    /// Each question with the number of the answer that fits it.
    fn fs() -> (Vec<(FsCall<u8>, usize)>, Vec<FsReply>) {
        let entry = || Entry {
            name: Text::default(),
            kind: EntryKind::File,
            size_bytes: None,
            modified_ms: None,
            readonly: false,
        };
        let answers = vec![
            FsReply::Done,
            FsReply::Opened { handle: 1, size_bytes: 0 },
            FsReply::Content { contents: body(), truncated: false },
            FsReply::Data { bytes: Bytes::new(b"abc".to_vec()).unwrap() },
            FsReply::Written { bytes: 3, grown: 3 },
            FsReply::Entries { entries: List::default(), next: 0, total: 0 },
            FsReply::Metadata { entry: entry() },
            FsReply::Closed { size_bytes: None, sha256: None },
            FsReply::Checked { met: true, detail: Text::default() },
        ];
        let target = 0;
        let questions = vec![
            (FsCall::OpenDir { target }, 1),
            (FsCall::EnsureDir { target }, 0),
            (FsCall::RemoveDir { target, recursive: true }, 0),
            (FsCall::RemoveFile { target }, 0),
            (FsCall::Rename { target, to: 1 }, 0),
            (FsCall::ListDir { target, after: 0 }, 5),
            (FsCall::Metadata { target }, 6),
            (FsCall::OpenFile { target, flags: OpenFlags::default() }, 1),
            (FsCall::ReadFile { target, offset: 0, max_bytes: 1 }, 2),
            (FsCall::WriteFile { target, contents: body(), append: false, parents: false }, 4),
            (FsCall::Read { file: 1, max_bytes: 3 }, 3),
            (FsCall::Write { file: 1, bytes: Bytes::new(b"abc".to_vec()).unwrap() }, 4),
            (FsCall::SetLen { file: 1, len: 1 }, 4),
            (FsCall::Flush { file: 1 }, 0),
            (FsCall::Close { handle: 1 }, 7),
            (FsCall::Check { target, check: FileCheck::Exists }, 8),
        ];
        (questions, answers)
    }

    fn proc() -> (Vec<(ProcCall<u8>, usize)>, Vec<ProcReply>) {
        let exit = Exit { code: Some(0), signal: None, timed_out: false };
        let answers = vec![
            ProcReply::Done,
            ProcReply::Ran {
                exit,
                stdout: body(),
                stderr: body(),
                truncated: false,
                degraded: List::default(),
                toll: Toll::default(),
            },
            ProcReply::Started { process: 1, degraded: List::default() },
            ProcReply::Accepted { bytes: 3 },
            ProcReply::Data { bytes: Bytes::new(b"abc".to_vec()).unwrap(), eof: false },
            ProcReply::Exited { exit, toll: Toll::default() },
            ProcReply::Closed { toll: Toll::default() },
        ];
        let null = StdioMode::Null;
        let questions = vec![
            (ProcCall::Run { command: 0, stdin: body(), output_max_bytes: 1 }, 1),
            (ProcCall::Start { command: 0, stdin: null, stdout: null, stderr: null }, 2),
            (ProcCall::WriteStdin { process: 1, bytes: Bytes::new(b"abc".to_vec()).unwrap(), eof: true }, 3),
            (ProcCall::Read { process: 1, stream: Stream::Stdout, max_bytes: 3 }, 4),
            (ProcCall::Wait { process: 1, timeout_ms: None }, 5),
            (ProcCall::Signal { process: 1, signal: ProcessSignal::Term }, 0),
            (ProcCall::Close { process: 1 }, 6),
            (ProcCall::Attach { command: 0, stdin: true }, 2),
        ];
        (questions, answers)
    }

    fn each_fits_one<Q: Question + std::fmt::Debug>((questions, answers): (Vec<(Q, usize)>, Vec<Q::Answer>)) {
        for (question, fits) in questions {
            for (number, answer) in answers.iter().enumerate() {
                assert_eq!(question.is_answered_by(answer), number == fits, "{question:?}: answer {number}");
            }
        }
    }

    #[test]
    fn every_question_is_answered_by_its_own_kind_and_by_no_other() {
        each_fits_one(fs());
        each_fits_one(proc());
    }

    #[test]
    fn an_answer_longer_than_was_asked_for_does_not_fit() {
        let data = FsReply::Data { bytes: Bytes::new(b"abcd".to_vec()).unwrap() };
        let read = |max_bytes| FsCall::<u8>::Read { file: 1, max_bytes };
        assert!(!read(3).is_answered_by(&data) && read(4).is_answered_by(&data));
        let write = FsCall::<u8>::Write { file: 1, bytes: Bytes::new(b"abc".to_vec()).unwrap() };
        assert!(!write.is_answered_by(&FsReply::Written { bytes: 4, grown: 0 }));
        let stdin = ProcCall::<u8>::WriteStdin { process: 1, bytes: Bytes::default(), eof: true };
        assert!(!stdin.is_answered_by(&ProcReply::Accepted { bytes: 1 }));
        assert!(stdin.is_answered_by(&ProcReply::Accepted { bytes: 0 }));
    }
}
