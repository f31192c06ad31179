//! Turns of the plan–act–observe loop: counted here, and ended here.

use super::act::{Act, limit_error, outcome_of};
use super::monitor::{Row, State};
use super::{Answer, Stop, Task, Verdict, failed};
use crate::audit::Value;
use crate::ledger::Cost;
use tokio::time::Instant;
use warden_policy::LimitKey;
use warden_proto::msg::error::{CallError, ErrorCode};
use warden_proto::msg::loops::{LoopCall, LoopReply};
use warden_proto::msg::worker::{GuestKind, WorkerReply};
use warden_proto::{List, Text};

/// Steps in a row that may end without a plan. Each is charged: a planner has made its own repairs in it (T-16).
const PLANLESS_STEPS_MAX: u32 = 3;
/// Longest word on why a step has no plan, in its report.
const PLANLESS_MAX_BYTES: usize = 1024;

impl Task {
    /// One turn.
    pub(super) async fn turn(&mut self, row: Row, call: LoopCall) -> Answer {
        match call {
            LoopCall::BeginStep => self.begin_step(row),
            LoopCall::Plan { thought } => {
                if self.spec.runbook.is_some()
                    && let Some(spent) = self.charge_step(row)?
                {
                    return Ok(failed(spent));
                }
                self.planner_errors = 0;
                self.model_spent = None;
                self.state = State::Acting;
                self.progress.thought(thought.as_str());
                if let Some(step) = self.report.step() {
                    step.thought = thought.to_string();
                }
                self.record_turn(row, Value::Text(thought.as_str()), &Ok::<(), CallError>(()))?;
                Ok(WorkerReply::Loop(LoopReply::Proceed))
            }
            LoopCall::BadAction { capability, error } => {
                // The worker parsed it; its own words on what is wrong are bounded text, told to people escaped.
                let error = CallError { rule: Text::default(), ..error };
                self.refuse(row, "action", capability.as_str(), Value::Text(capability.as_str()), &error)?;
                self.progress.action(capability.as_str(), "", Some(&error));
                self.report.action(capability.as_str(), &Err(error));
                Ok(WorkerReply::Loop(LoopReply::Proceed))
            }
            LoopCall::Complete { reason, outcome } => self.complete(row, reason.into_string(), outcome).await,
            LoopCall::PlannerError { retryable, message } => self.planner_error(row, retryable, message.as_str()),
        }
    }

    fn record_turn<T>(&mut self, row: Row, input: Value<'_>, result: &Result<T, CallError>) -> Result<(), Stop> {
        let act = Act { row, input, rule: "" };
        self.end(&act, None, outcome_of(result, Value::Null), None, Instant::now())
    }

    /// A turn of a planner is a step. The player of a runbook has a turn more than the runbook has steps, to say that it is
    /// through: its steps are counted when it plays one.
    fn begin_step(&mut self, row: Row) -> Answer {
        if self.spec.runbook.is_none()
            && let Some(spent) = self.charge_step(row)?
        {
            return Ok(failed(spent));
        }
        self.state = State::Planning;
        Ok(WorkerReply::Loop(LoopReply::Proceed))
    }

    /// Takes one step of the limit, and begins it in the report. The error is for the worker; the task is over with it.
    fn charge_step(&mut self, row: Row) -> Result<Option<CallError>, Stop> {
        let policy = self.spec.policy.clone();
        let number = self.first_step().saturating_add(self.steps_begun);
        let input = Value::Number(u64::from(number));
        match self.ledger.reserve(Cost::Steps, 1) {
            Ok(reserved) => {
                self.ledger.settle(reserved, 1);
                self.steps_begun = self.steps_begun.saturating_add(1);
                let failure = self.report.take_failure();
                if let Some(runbook) = &mut self.spec.runbook {
                    runbook.begin(failure);
                }
                self.report.begin_step(number);
                self.progress.step(number);
                self.record_turn(row, input, &Ok::<(), CallError>(()))?;
                Ok(None)
            }
            Err(spent) => {
                let error = limit_error(&spent, policy.limits().rule(LimitKey::Steps));
                self.record_turn(row, input, &Err::<(), _>(error.clone()))?;
                self.verdict = Some(Verdict::Exhausted(spent.to_string()));
                Ok(Some(error))
            }
        }
    }

    fn first_step(&self) -> u32 {
        match self.spec.player.as_ref().map(|player| &player.kind) {
            Some(GuestKind::Planner { first_step, .. }) => *first_step,
            Some(GuestKind::Program { .. }) | None => 1,
        }
    }

    /// T-15: the planner says that it is done; the broker looks.
    async fn complete(&mut self, row: Row, reason: String, outcome: warden_proto::blob::Body) -> Answer {
        let outcome = self.worker()?.peer.take(outcome)?;
        let outcome = String::from_utf8_lossy(&outcome).into_owned();
        self.record_turn(row, Value::Text(&reason), &Ok::<(), CallError>(()))?;
        self.progress.complete(&reason);
        self.reason = Some(reason);
        self.outcome = Some(outcome);
        self.planner_errors = 0;
        let failure = self.report.take_failure();
        let unmet = self.evaluate().await?;
        let fault = self.spec.runbook.as_mut().and_then(|runbook| runbook.end(failure));
        let not_met = format!("not met: {}", unmet.join("; "));
        self.verdict = match fault {
            Some(fault) if unmet.is_empty() => Some(Verdict::Failed(fault)),
            Some(fault) => Some(Verdict::Failed(format!("{fault}; {not_met}"))),
            None if self.spec.predicates.is_empty() => Some(Verdict::Unverified),
            None if unmet.is_empty() => Some(Verdict::Done),
            // The cause first: a step that went wrong is why something does not hold, more often than not.
            None if self.spec.runbook.is_some() => {
                let cause = self.report.troubles().next().map(|trouble| format!("{trouble}; ")).unwrap_or_default();
                Some(Verdict::Failed(format!("{cause}{not_met}")))
            }
            None => None,
        };
        if self.verdict.is_some() {
            return Ok(ended());
        }
        self.state = State::BetweenSteps;
        let unmet = List::first(unmet.iter().map(|text| Text::cut(text)));
        Ok(WorkerReply::Loop(LoopReply::Verdict { ended: false, unmet }))
    }

    fn planner_error(&mut self, row: Row, retryable: bool, message: &str) -> Answer {
        self.planner_errors = self.planner_errors.saturating_add(1);
        let error = CallError::new(ErrorCode::Internal, message);
        self.record_turn(row, Value::Text(message), &Err::<(), _>(error.clone()))?;
        if let (None, Some(step)) = (&self.spec.runbook, self.report.step()) {
            step.thought = Text::<PLANLESS_MAX_BYTES>::cut(&format!("no plan: {message}")).into_string();
        }
        if retryable && self.planner_errors < PLANLESS_STEPS_MAX {
            // It may try again, and that is another step.
            self.state = State::BetweenSteps;
            return Ok(WorkerReply::Loop(LoopReply::Proceed));
        }
        // T-16: a planner without a model gives up because the limit was reached, whatever it says.
        self.verdict = Some(match self.model_spent.take() {
            Some(spent) => Verdict::Exhausted(spent),
            None => Verdict::Failed(format!("the planner gave up: {message}")),
        });
        Ok(failed(error))
    }
}

fn ended() -> WorkerReply {
    WorkerReply::Loop(LoopReply::Verdict { ended: true, unmet: List::default() })
}
