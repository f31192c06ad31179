//! The loop plan → act → observe, as far as it belongs to the worker.
//!
//! The brain is the guest and is believed in nothing. It proposes; each of its actions becomes a typed call that the broker
//! judges; the broker counts the steps, keeps the record and decides when the task is done (T-15). A worker that lies
//! about its loop gains nothing: it has no other way to act than those calls.

#![forbid(unsafe_code)]

mod action;
mod aliases;
mod fields;
mod observation;
mod perform;

use crate::control::bindings::exports::osagent::agent::planner::{
    AgentError, CompletePlan, ContinuePlan, Observation as WireObservation, PlannedAction, StepResponse,
};
use crate::control::bindings::{Control, ControlPre};
use crate::template::Runtime;
use crate::worker::call::Fault;
use crate::worker::guest::Guest;
use crate::worker::{ending, program};
use aliases::Aliases;
use observation::Observation;
use serde_json::Value;
use warden_proto::Text;
use warden_proto::msg::error::{CallError, ErrorCode};
use warden_proto::msg::loops::{LoopCall, LoopReply};
use warden_proto::msg::worker::End;
use warden_proto::render;
use wasmtime::Store;
use wasmtime::component::Component;

/// Actions of one plan that are carried out; the rest is reported as refused (T-16).
const ACTIONS_MAX: usize = 256;
/// What a completion holds beside its outcome, bytes.
const COMPLETE_SPARE_BYTES: usize = 20 * 1024;

/// What the brain is to do.
pub struct Task<'a> {
    pub task: &'a str,
    /// The first observation's data.
    pub observation: &'a str,
    pub first_step: u32,
    /// What a path that is left out names.
    pub home: &'a str,
}

/// Why the loop ends before the broker says so.
enum Stop {
    /// The guest trapped, or was stopped from outside.
    Guest(wasmtime::Error),
    /// It cannot go on, and this is why.
    Said(String),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Answer(error) => Self::Said(error.to_string()),
            Fault::Halt(halt) => Self::Guest(halt.into()),
        }
    }
}

/// Runs a brain to the end of its task.
pub fn run(runtime: &Runtime, store: &mut Store<Guest>, component: &Component, task: &Task<'_>) -> Option<End> {
    let ready = match runtime.component.instantiate_pre(component) {
        Ok(ready) => ready,
        Err(error) => return Some(ending::invalid(&error.to_string())),
    };
    let Ok(ready) = ControlPre::new(ready) else {
        return Some(program::no_brain(runtime, component));
    };
    let control = match ready.instantiate(&mut *store) {
        Ok(control) => control,
        Err(error) => return ending::of_instantiation(&error, &store.data().bounds),
    };
    let mut turns = Turns { store, control, task: task.task, home: task.home, aliases: Aliases::default() };
    match turns.all(task) {
        Ok(end) => Some(end),
        Err(Stop::Said(message)) => Some(End::Stopped { message: ending::plain(&message) }),
        Err(Stop::Guest(error)) => ending::of_run(&error, &store.data().bounds),
    }
}

struct Turns<'a> {
    store: &'a mut Store<Guest>,
    control: Control,
    task: &'a str,
    home: &'a str,
    aliases: Aliases,
}

impl Turns<'_> {
    fn all(&mut self, task: &Task<'_>) -> Result<End, Stop> {
        let mut observation = Observation { summary: "start".to_owned(), data: first_data(task.observation) };
        let mut step = task.first_step;
        loop {
            self.say(LoopCall::BeginStep)?;
            match self.ask(step, &observation)? {
                None => {}
                Some(StepResponse::Continue(plan)) => observation = self.act(plan)?,
                Some(StepResponse::Complete(claim)) => match self.complete(claim)? {
                    Some(unmet) => observation = unmet,
                    None => return Ok(End::Returned),
                },
            }
            step = step.saturating_add(1);
        }
    }

    fn say(&mut self, call: LoopCall) -> Result<LoopReply, Fault> {
        self.store.data_mut().link.turn(call)
    }

    /// One step of the brain; none when it has no plan and the broker lets it try again, in a step of its own, on the same
    /// observation.
    fn ask(&mut self, step: u32, observation: &Observation) -> Result<Option<StepResponse>, Stop> {
        let Observation { summary, data } = observation.clone();
        let observation = WireObservation { step, summary, data };
        let planner = self.control.osagent_agent_planner();
        let answer = planner.call_step(&mut *self.store, self.task, &observation).map_err(Stop::Guest)?;
        let AgentError { retryable, message } = match answer {
            Ok(response) => return Ok(Some(response)),
            Err(error) => error,
        };
        self.say(LoopCall::PlannerError { retryable, message: ending::plain(&message) })?;
        if retryable { Ok(None) } else { Err(Stop::Said(format!("the brain failed: {message}"))) }
    }

    /// Carries out a plan, action after action; one that fails does not stop the next.
    fn act(&mut self, plan: ContinuePlan) -> Result<Observation, Stop> {
        self.say(LoopCall::Plan { thought: Text::cut(&plan.thought) })?;
        let mut reports = Vec::new();
        for (index, planned) in plan.actions.into_iter().enumerate() {
            if index >= ACTIONS_MAX {
                let message =
                    format!("a plan has at most {ACTIONS_MAX} actions; this one and those after it were left out");
                reports.push(self.bad_action(&planned.capability, CallError::new(ErrorCode::Limit, &message))?);
                break;
            }
            reports.push(self.action(&planned)?);
        }
        Ok(observation::of_actions(reports))
    }

    fn action(&mut self, planned: &PlannedAction) -> Result<Value, Stop> {
        let action = match action::parse(&planned.capability, &planned.input) {
            Ok(action) => action,
            Err(error) => return self.bad_action(&planned.capability, error),
        };
        let link = &mut self.store.data_mut().link;
        let sent = link.sent();
        let result = match perform::perform(link, &mut self.aliases, self.home, action) {
            Ok(output) => Ok(output),
            Err(Fault::Answer(error)) if self.store.data().link.sent() == sent => {
                return self.bad_action(&planned.capability, error);
            }
            Err(Fault::Answer(error)) => Err(error),
            Err(Fault::Halt(halt)) => return Err(Stop::Guest(halt.into())),
        };
        Ok(render::action(&planned.capability, &result))
    }

    /// The broker keeps its own record of the task, so it is told of what never became a call.
    fn bad_action(&mut self, capability: &str, error: CallError) -> Result<Value, Stop> {
        let capability = Text::<128>::cut(capability);
        self.say(LoopCall::BadAction { capability: capability.clone(), error: error.clone() })?;
        Ok(render::action(&capability, &Err(error)))
    }

    /// The brain's claim that it is done; none when the broker ends the task.
    fn complete(&mut self, claim: CompletePlan) -> Result<Option<Observation>, Stop> {
        let outcome = self.store.data_mut().link.body(claim.outcome.into_bytes(), COMPLETE_SPARE_BYTES)?;
        match self.say(LoopCall::Complete { reason: Text::cut(&claim.reason), outcome })? {
            LoopReply::Verdict { ended: true, .. } => Ok(None),
            LoopReply::Verdict { ended: false, unmet } => {
                let unmet: Vec<String> = unmet.iter().map(|predicate| predicate.to_string()).collect();
                Ok(Some(observation::of_unmet(&unmet)))
            }
            LoopReply::Proceed => Ok(Some(observation::of_unmet(&[]))),
        }
    }
}

/// The first observation's data as given, or an object when nothing was.
fn first_data(given: &str) -> String {
    if given.trim().is_empty() { "{}".to_owned() } else { given.to_owned() }
}
