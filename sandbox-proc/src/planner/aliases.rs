//! The names that actions give to the commands they start. They live and end with the worker, hence with the task.

#![forbid(unsafe_code)]

use warden_proto::limits::HANDLES_MAX;
use warden_proto::msg::error::{CallError, ErrorCode};
use warden_proto::msg::proc::Stream;

/// What an alias is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Input, signals, waiting: only while the command runs.
    Running,
    /// Output: also after the command's end, until the stream's.
    Output(Stream),
}

#[derive(Debug)]
struct Started {
    alias: String,
    process: u32,
    exited: bool,
    drained: [bool; 2],
}

/// The task's started commands.
#[derive(Debug, Default)]
pub struct Aliases {
    started: Vec<Started>,
}

fn index(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

impl Aliases {
    /// Whether a command may be started under this name. Names are used once in a task.
    pub fn check_free(&self, alias: &str) -> Result<(), CallError> {
        if self.started.iter().any(|started| started.alias == alias) {
            return Err(CallError::new(ErrorCode::Conflict, &format!("the alias `{alias}` is taken: choose another")));
        }
        if self.started.len() >= HANDLES_MAX {
            return Err(CallError::new(
                ErrorCode::Limit,
                &format!("the task has started {HANDLES_MAX} commands already"),
            ));
        }
        Ok(())
    }

    /// A command has been started.
    pub fn add(&mut self, alias: String, process: u32) {
        self.started.push(Started { alias, process, exited: false, drained: [false; 2] });
    }

    /// The handle behind a name.
    pub fn find(&self, alias: &str, wanted: Use) -> Result<u32, CallError> {
        let started = self.started.iter().find(|started| started.alias == alias);
        let Some(started) = started else {
            return Err(CallError::new(ErrorCode::NotFound, &format!("no process is called `{alias}`")));
        };
        let gone = match wanted {
            Use::Running => started.exited,
            Use::Output(stream) => started.exited && started.drained.get(index(stream)) == Some(&true),
        };
        if gone {
            return Err(CallError::new(ErrorCode::NotFound, &format!("the process `{alias}` has ended")));
        }
        Ok(started.process)
    }

    /// The command has been seen to end.
    pub fn exited(&mut self, alias: &str) {
        if let Some(started) = self.started.iter_mut().find(|started| started.alias == alias) {
            started.exited = true;
        }
    }

    /// An output has been read to its end.
    pub fn drained(&mut self, alias: &str, stream: Stream) {
        let started = self.started.iter_mut().find(|started| started.alias == alias);
        if let Some(drained) = started.and_then(|started| started.drained.get_mut(index(stream))) {
            *drained = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_alias_is_taken_and_an_ended_one_is_gone() {
        let mut aliases = Aliases::default();
        assert_eq!(aliases.find("a", Use::Running).unwrap_err().code, ErrorCode::NotFound);
        aliases.add("a".into(), 7);
        assert_eq!(aliases.check_free("a").unwrap_err().code, ErrorCode::Conflict);
        assert_eq!(aliases.find("a", Use::Running), Ok(7));
        aliases.exited("a");
        assert_eq!(aliases.find("a", Use::Running).unwrap_err().code, ErrorCode::NotFound);
        assert_eq!(aliases.find("a", Use::Output(Stream::Stdout)), Ok(7));
        aliases.drained("a", Stream::Stdout);
        assert_eq!(aliases.find("a", Use::Output(Stream::Stdout)).unwrap_err().code, ErrorCode::NotFound);
        assert_eq!(aliases.find("a", Use::Output(Stream::Stderr)), Ok(7));
        assert_eq!(aliases.check_free("a").unwrap_err().code, ErrorCode::Conflict);
    }
}
