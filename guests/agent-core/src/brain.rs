//! One step of planning: observation in, checked plan out, with at most two repairs on the way.
//!
//! Messages of an ask: system prompt, task, the exchanges so far, the newest observation. A repair adds the model's answer and a message that
//! begins `That answer cannot be used:`; the next step does not see either.

use crate::catalogue;
use crate::clip;
use crate::history::History;
use crate::host::{CallFault, Grants, Host, Message};
use crate::observation::Observation;
use crate::prompt;
use crate::turn::{self, Planned, Turn, TurnFault};
use crate::validate::{self, Aliases, PlanFault};

/// Repairs of one step.
pub const REPAIRS_MAX: usize = 2;
/// Longest task, bytes.
pub const TASK_MAX_BYTES: usize = 64 * 1024;
/// Longest thought or reason that is handed on, bytes.
pub const WORDS_MAX_BYTES: usize = 8 * 1024;
/// How turns are asked for. Text works with every endpoint, small local models and recordings; both forms are read in either case.
pub const TURN_FORM: TurnForm = TurnForm::Text;

/// How turns are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnForm {
    /// `llm.complete`, the turn as JSON in the words.
    Text,
    /// `llm.call-tools`, and `llm.complete` with the same messages when no tool was called.
    Tools,
}

/// Why a step has no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepFault {
    #[error("the task is {0} bytes long, more than {TASK_MAX_BYTES}")]
    TaskTooLong(usize),
    #[error(transparent)]
    Call(#[from] CallFault),
    #[error("the model gave no usable turn in {} tries; the last fault: {last}", REPAIRS_MAX.saturating_add(1))]
    NoUsableTurn { last: String },
}

impl StepFault {
    /// Whether asking again may help.
    pub fn retryable(&self) -> bool {
        match self {
            Self::TaskTooLong(_) => false,
            Self::Call(fault) => fault.retryable(),
            Self::NoUsableTurn { .. } => true,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum AnswerFault {
    #[error(transparent)]
    Turn(#[from] TurnFault),
    #[error(transparent)]
    Plan(#[from] PlanFault),
}

/// The planner's state, for as long as its task.
#[derive(Debug)]
pub struct Brain {
    form: TurnForm,
    task: Option<String>,
    /// None: to be asked for.
    grants: Option<Grants>,
    history: History,
    aliases: Aliases,
    /// The plan whose outcome the next observation tells.
    pending: Vec<Planned>,
}

impl Default for Brain {
    fn default() -> Self {
        Self::new(TURN_FORM)
    }
}

impl Brain {
    pub fn new(form: TurnForm) -> Self {
        Self { form, task: None, grants: None, history: History::default(), aliases: Aliases::default(), pending: Vec::new() }
    }

    /// Plans the next step of `task`. Another task than before begins anew (T-11).
    pub fn step<H: Host>(&mut self, task: &str, observation: &Observation, host: &mut H) -> Result<Turn, StepFault> {
        if task.len() > TASK_MAX_BYTES {
            return Err(StepFault::TaskTooLong(task.len()));
        }
        if self.task.as_deref() != Some(task) {
            *self = Self { task: Some(task.to_owned()), ..Self::new(self.form) };
        }
        self.observe(observation);
        let grants = match self.grants.take() {
            Some(grants) => grants,
            None => host.describe()?,
        };
        let planned = self.ask(task, &grants, host);
        self.grants = Some(grants);
        let turn = planned?;
        self.remember(&turn);
        Ok(turn)
    }

    fn observe(&mut self, observation: &Observation) {
        let pending = std::mem::take(&mut self.pending);
        self.aliases.settle(&pending, &observation.successes());
        self.history.observe(observation);
    }

    fn remember(&mut self, turn: &Turn) {
        self.history.plan(turn);
        if let Turn::Continue { actions, .. } = turn {
            self.aliases.begin(actions);
            self.pending = actions.clone();
            if actions.iter().any(|planned| planned.capability == "policy.request_capability") {
                self.grants = None;
            }
        }
    }

    fn ask<H: Host>(&self, task: &str, grants: &Grants, host: &mut H) -> Result<Turn, StepFault> {
        let mut messages = vec![Message::system(prompt::system(grants)), Message::user(format!("Task:\n{task}"))];
        messages.extend(self.history.messages());
        let mut last = String::new();
        for _ in 0..=REPAIRS_MAX {
            let (answer, read) = self.answer(&messages, grants, host)?;
            match read.and_then(|turn| self.check(turn, grants)) {
                Ok(turn) => return Ok(turn),
                Err(fault) => last = clip::line(&fault.to_string(), 2000),
            }
            messages.push(Message::assistant(clip::text(&answer, WORDS_MAX_BYTES)));
            messages.push(Message::user(format!(
                "That answer cannot be used: {last}\nAnswer again with one JSON object of the form you were given."
            )));
        }
        Err(StepFault::NoUsableTurn { last })
    }

    /// The answer as it came, and what it reads as.
    fn answer<H: Host>(
        &self,
        messages: &[Message],
        grants: &Grants,
        host: &mut H,
    ) -> Result<(String, Result<Turn, AnswerFault>), CallFault> {
        if self.form == TurnForm::Tools {
            let calls = host.call_tools(messages, &prompt::tools(grants))?;
            if let Some(read) = turn::from_tool_calls(&calls).transpose() {
                return Ok((calls, read.map_err(AnswerFault::from)));
            }
        }
        let words = host.complete(messages)?;
        let read = turn::from_text(&words).map_err(AnswerFault::from);
        Ok((words, read))
    }

    fn check(&self, turn: Turn, grants: &Grants) -> Result<Turn, AnswerFault> {
        match turn {
            Turn::Continue { thought, mut actions } => {
                validate::tidy(&mut actions);
                let offered: Vec<&'static str> = catalogue::offered(grants).map(|action| action.name).collect();
                validate::plan(&actions, &self.aliases, &offered)?;
                Ok(Turn::Continue { thought: clip::text(&thought, WORDS_MAX_BYTES), actions })
            }
            Turn::Complete { reason, result } => Ok(Turn::Complete { reason: clip::text(&reason, WORDS_MAX_BYTES), result }),
        }
    }
}

#[cfg(test)]
mod tests;
