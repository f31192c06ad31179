//! The component's skin and the script's course: which op comes next, what ends a step, what is reported.
#![allow(unsafe_code, clippy::all)]

use crate::hands::{Hands, Outcome, code};
use crate::misbehaviour;
use crate::script::{self, CourseOp, Op, PlannedAction, Script};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;

wit_bindgen::generate!({ path: "../../../wit", world: "osagent:agent/control", generate_all });

use exports::osagent::agent::planner;

thread_local! {
    static RUN: RefCell<Run> = RefCell::new(Run::default());
}

struct Component;
export!(Component);

impl planner::Guest for Component {
    fn step(task: String, observation: planner::Observation) -> Result<planner::StepResponse, planner::AgentError> {
        RUN.with_borrow_mut(|run| run.step(&task, &observation))
    }
}

/// A script and how far it has come.
#[derive(Default)]
struct Run {
    task: Option<String>,
    ops: Vec<Value>,
    next: usize,
    results: Vec<Value>,
    hands: Hands,
    /// The op that ended the last step, whose result is the next observation.
    waiting: Option<&'static str>,
    ended: Option<(String, String)>,
}

type StepEnd = Result<planner::StepResponse, planner::AgentError>;

impl Run {
    fn step(&mut self, task: &str, observation: &planner::Observation) -> StepEnd {
        if self.task.as_deref() != Some(task) {
            let Script { script } = serde_json::from_str(task)
                .map_err(|error| planner::AgentError { retryable: false, message: format!("the task is no script: {error}") })?;
            *self = Self { task: Some(task.to_owned()), ops: script, ..Self::default() };
        }
        let observed = observed(observation);
        if let Some(op) = self.waiting.take() {
            self.results.push(json!({"op": op, "ok": observed}));
        }
        while let (None, Some(value)) = (&self.ended, self.ops.get(self.next).cloned()) {
            self.next += 1;
            if let Some(end) = self.advance(&value, &observed) {
                return end;
            }
        }
        let results = std::mem::take(&mut self.results);
        let (reason, outcome) =
            self.ended.get_or_insert_with(|| ("script ended".to_owned(), json!({"results": results}).to_string())).clone();
        Ok(planner::StepResponse::Complete(planner::CompletePlan { reason, outcome }))
    }

    /// Runs one op; `Some` ends the step.
    fn advance(&mut self, value: &Value, observed: &Value) -> Option<StepEnd> {
        let name = script::name(value).to_owned();
        let outcome = match script::op(value) {
            Ok(Op::Course(CourseOp::Plan { thought, actions })) => {
                self.waiting = Some("plan");
                let actions = actions.into_iter().map(planned).collect();
                return Some(Ok(planner::StepResponse::Continue(planner::ContinuePlan { thought, actions })));
            }
            Ok(Op::Course(CourseOp::Fail { retryable, message })) => {
                self.waiting = Some("fail");
                return Some(Err(planner::AgentError { retryable, message }));
            }
            Ok(Op::Course(CourseOp::Complete { reason, outcome_text })) => {
                let outcome = outcome_text.unwrap_or_else(|| json!({"results": self.results}).to_string());
                self.ended = Some((reason.unwrap_or_else(|| "script completed".to_owned()), outcome));
                return None;
            }
            Ok(Op::Course(CourseOp::Observation)) => Outcome::Ok(observed.clone()),
            Ok(Op::Course(CourseOp::Repeat { times, each })) => self.repeat(times, &each),
            Ok(op) => self.perform(op),
            Err(fault) => Outcome::Script(fault),
        };
        self.results.push(outcome.json(&name));
        None
    }

    fn perform(&mut self, op: Op) -> Outcome {
        match op {
            Op::Fs(op) => self.hands.fs(op),
            Op::Proc(op) => self.hands.proc(op),
            Op::Other(op) => self.hands.other(op),
            Op::Misbehaviour(op) => misbehaviour::run(op),
            Op::Course(CourseOp::Drop { handle }) => self.hands.drop_handle(&handle),
            Op::Course(other) => Outcome::Script(format!("cannot be repeated: {other:?}")),
        }
    }

    fn repeat(&mut self, times: u64, each: &Value) -> Outcome {
        let op = match script::op(each) {
            Ok(op) => op,
            Err(fault) => return Outcome::Script(fault),
        };
        let (mut ok, mut script_errors, mut last) = (0u64, 0u64, Value::Null);
        let mut errors: BTreeMap<&'static str, u64> = BTreeMap::new();
        for turn in 0..times {
            self.hands.turn = turn;
            let outcome = self.perform(op.clone());
            match &outcome {
                Outcome::Ok(_) => ok += 1,
                Outcome::Error(error) => *errors.entry(code(error.code)).or_default() += 1,
                Outcome::Script(_) => script_errors += 1,
            }
            if turn + 1 == times {
                last = outcome.json(script::name(each));
            }
        }
        Outcome::Ok(json!({"ok": ok, "errors": errors, "script_errors": script_errors, "last": last}))
    }
}

fn observed(observation: &planner::Observation) -> Value {
    let data = serde_json::from_str(&observation.data).unwrap_or_else(|_| Value::String(observation.data.clone()));
    json!({"step": observation.step, "summary": observation.summary, "data": data})
}

fn planned(action: PlannedAction) -> planner::PlannedAction {
    let input = action.input_text.unwrap_or_else(|| Value::Object(action.input).to_string());
    planner::PlannedAction { capability: action.capability, input, audit_tag: action.audit_tag }
}
